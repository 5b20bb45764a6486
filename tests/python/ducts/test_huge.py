"""Messages of more bytes than 32 bits can count. Only `make test-huge` runs this.

It needs 12 GiB of memory. The ends are two processes; what they took is printed.
"""

import json

import ductworks
import processes
import pytest

pytestmark = [pytest.mark.huge, pytest.mark.time_limit(400)]

GIB = 1 << 30
SIZES = [9 * GIB // 8, 9 * GIB // 4, 9 * GIB // 2]
LIMIT = 5 * GIB
OTHER_MEMORY = 96 << 20  # What a process needs besides the message, in bytes.

ENDS = """
import json, struct, sys, time
import ductworks

size, limit, codec, where, way = json.loads(sys.argv[1])
BLOCK = bytes(range(256)) * 4096  # 1 MiB, each of which begins with its number

def blocks():
    return range(0, size, len(BLOCK))

def peak():
    with open("/proc/self/status") as status:
        facts = dict(line.split(":", 1) for line in status)
    return 1024 * int(facts["VmHWM"].split()[0])

def check(message):
    assert len(message) == size
    view = memoryview(message)
    for place in blocks():
        block = view[place : place + len(BLOCK)]
        assert struct.unpack_from("!Q", block) == (place,), place
        assert bytes(block[8:]) == BLOCK[8:], place
"""

SENDER = (
    ENDS
    + """
message = bytearray(size)
view = memoryview(message)
for place in blocks():
    view[place : place + len(BLOCK)] = BLOCK
    struct.pack_into("!Q", message, place, place)
with ductworks.connect(where, codec=codec, max_message_size=limit) as duct:
    send = duct.send if way == "recv" else duct.send_bytes
    duct.send_bytes(b"ready")
    send(message)
    duct.recv_bytes()
    print(peak())
"""
)

RECEIVER = (
    ENDS
    + """
listener = ductworks.listen(where, codec=codec, max_message_size=limit)
print(listener.ticket, flush=True)
duct = listener.accept()
assert duct.recv_bytes() == b"ready"
if way == "recv_into":
    message = bytearray(size)
    begun = time.monotonic()
    assert duct.recv_into(message) == size
else:
    begun = time.monotonic()
    message = duct.recv()
taken = time.monotonic() - begun
check(message)
duct.send_bytes(b"received")
print(json.dumps([taken, peak()]))
"""
)


@pytest.fixture(autouse=True)
def more_patience(monkeypatch):
    monkeypatch.setattr(processes, "PATIENCE", 120)


# How it is sent and received, and with which codec.
WAYS = {"recv": "raw", "recv_into": "json"}


@pytest.mark.parametrize("way", WAYS)
def test_a_message_of_4_5_gib_crosses_at_a_linear_cost(start_python, transport, way, capsys):
    for size in SIZES:
        where = "tcp:127.0.0.1:0" if transport.name == "tcp" else None
        facts = [size, LIMIT, WAYS[way]]
        receiver = start_python(RECEIVER, json.dumps([*facts, where, way]))
        sender = start_python(SENDER, json.dumps([*facts, receiver.hear(), way]))
        taken, peak = json.loads(receiver.finish())
        others = int(sender.finish())
        gib = size / GIB
        with capsys.disabled():
            print(
                f"\n{transport.name} {way}: {gib:.3f} GiB in {taken:.2f} s, {taken / gib:.2f} s a "
                f"GiB; peak memory {others / size:.3f} and {peak / size:.3f} of the message at the "
                "sender and the receiver",
                end="",
            )
        assert others < size + OTHER_MEMORY
        assert peak < size + OTHER_MEMORY


def test_a_message_over_the_limit_of_the_other_end_is_refused_before_a_byte_goes_out(
    start_python, transport
):
    where = "tcp:127.0.0.1:0" if transport.name == "tcp" else None
    size = SIZES[-1]
    with ductworks.listen(where, max_message_size=size - 1) as listener:
        sender = start_python(
            """
            import sys, ductworks
            duct = ductworks.connect(sys.argv[1], max_message_size=5 << 30)
            try:
                duct.send_bytes(bytes(int(sys.argv[2])))
            except ductworks.ProtocolError as error:
                print(error)
            assert duct.stats().messages_sent == 0
            duct.send("and nothing else")
            duct.close()
            """,
            listener.ticket,
            size,
        )
        with listener.accept(60) as duct:
            assert list(duct) == ["and nothing else"]
        told = sender.finish()
    for figure in (f"{size} bytes", f"limit is {size - 1}", "nothing was sent"):
        assert figure in told
