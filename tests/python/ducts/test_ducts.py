"""The modern API: pair, listen, connect, wait and Duct."""

import contextlib
import gc
import json
import multiprocessing
import os
import pickle
import selectors
import socket
import struct
import subprocess
import sys
import threading
import weakref

import ductworks
import pytest
from marks import needs_root
from processes import fork
from support import PATIENCE, SHORT, eventually, wait_until_blocked

CHILD = """
import os, sys, ductworks
with ductworks.connect(os.environ["DUCT"] if "DUCT" in os.environ else sys.argv[1]) as duct:
    for job in duct:
        duct.send({"done": job})
"""


@pytest.fixture
def ends():
    a, b = ductworks.pair()
    with a, b:
        yield a, b


@contextlib.contextmanager
def raw_peer(**options):
    """A duct, and the plain socket at its other end."""
    ours, theirs = socket.socketpair()
    with theirs, ductworks.Duct(ours.detach(), options.pop("codec", "json"), **options) as duct:
        theirs.settimeout(PATIENCE)
        yield duct, theirs


def frame(payload):
    return struct.pack("!cL", b"\x54", len(payload)) + payload


def in_thread(operation):
    thread = threading.Thread(target=operation, daemon=True)
    thread.start()
    return thread


def meet(listener, ticket=None, **options):
    """Connect to a listener of this thread; both ends."""
    ducts = []
    ticket = ticket or listener.ticket
    thread = in_thread(lambda: ducts.append(ductworks.connect(ticket, **options)))
    accepted = listener.accept(PATIENCE)
    thread.join(PATIENCE)
    return ducts[0], accepted


# Messages


def test_values_cross_both_ways(ends):
    a, b = ends
    for value in ({"job": 1}, [1, 2.5, None, True], "text", 7):
        a.send(value)
        assert b.recv() == value
        b.send(value)
        assert a.recv() == value


def test_the_wire_is_the_originals():
    with raw_peer() as (duct, peer):
        duct.send({"a": 1})
        assert peer.recv(100) == frame(json.dumps({"a": 1}).encode())
        peer.sendall(frame(b"[1, 2]"))
        assert duct.recv() == [1, 2]


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 1 << 20, 9_000_000])
def test_bytes_cross_past_the_codec(ends, size):
    a, b = ends
    data = os.urandom(size)
    sender = in_thread(lambda: a.send_bytes(data))
    assert b.recv_bytes(PATIENCE) == data
    sender.join(PATIENCE)


@pytest.mark.parametrize("size", [0, 10, 100_000, 3_000_000])
def test_bytes_are_received_into_a_buffer(ends, size):
    a, b = ends
    data = os.urandom(size)
    place = bytearray(size + 5)
    sender = in_thread(lambda: a.send_bytes(memoryview(data)))
    assert b.recv_into(place, PATIENCE) == size
    assert place == data + bytes(5)
    place.clear()  # It is the caller's again: a buffer that is held cannot be resized.
    sender.join(PATIENCE)


def test_a_buffer_that_is_too_small_leaves_the_message(ends):
    a, b = ends
    a.send_bytes(b"12345")
    place = bytearray(4)
    for _ in range(2):
        with pytest.raises(ductworks.BufferTooSmall, match=r"5 bytes.* room for 4"):
            b.recv_into(place)
    assert b.recv_bytes() == b"12345"


def test_a_buffer_must_be_writable(ends):
    a, b = ends
    a.send_bytes(b"x")
    with pytest.raises(TypeError, match="writable"):
        b.recv_into(b"constant")
    assert b.recv_bytes() == b"x"


def test_a_receive_into_a_buffer_that_is_given_up_loses_nothing():
    with raw_peer() as (duct, peer):
        payload = os.urandom(200_000)
        peer.sendall(frame(payload)[:100_000])
        place = bytearray(200_000)
        with pytest.raises(TimeoutError):
            duct.recv_into(place, SHORT)
        place.clear()
        sender = in_thread(lambda: peer.sendall(frame(payload)[100_000:]))
        again = bytearray(200_000)
        assert duct.recv_into(again, PATIENCE) == 200_000
        assert again == payload
        sender.join(PATIENCE)


def test_iteration_ends_with_the_other_end(ends):
    a, b = ends
    for number in range(5):
        a.send(number)
    a.close()
    assert list(b) == [0, 1, 2, 3, 4]
    assert list(b) == []
    with pytest.raises(ductworks.PeerClosed):
        b.recv()


def test_iteration_does_not_hide_a_message_that_was_cut_off():
    with raw_peer() as (duct, peer):
        peer.sendall(frame(b"1") + frame(b"22")[:-1])
        peer.shutdown(socket.SHUT_WR)
        assert next(duct) == 1
        with pytest.raises(ductworks.PeerTruncated):
            next(duct)


# Waiting


def test_timeouts_lose_nothing_at_any_byte():
    with raw_peer() as (duct, peer):
        for byte in frame(b'{"a": 1}')[:-1]:
            peer.send(bytes([byte]))
            with pytest.raises(TimeoutError):
                duct.recv(timeout=0)
            assert not duct.poll()
        peer.send(b"}")
        assert duct.recv(timeout=0) == {"a": 1}


def test_a_send_that_times_out_sends_nothing_or_all():
    with raw_peer(codec="raw") as (duct, peer):
        sent = []
        with pytest.raises(TimeoutError):
            while True:
                message = bytes([len(sent) % 251]) * 30_000
                duct.send(message, timeout=SHORT)
                sent.append(message)
        reader = peer.makefile("rb")
        for message in sent:
            assert reader.read(5) == struct.pack("!cL", b"\x54", len(message))
            assert reader.read(len(message)) == message
        duct.send(b"end")
        assert reader.read(8) == frame(b"end")


@pytest.mark.parametrize("call", ["recv", "recv_bytes"])
def test_a_time_that_is_up_is_a_timeout_error(ends, call):
    _, b = ends
    for timeout in (0, SHORT):
        with pytest.raises(TimeoutError) as refusal:
            getattr(b, call)(timeout=timeout)
        assert type(refusal.value) is TimeoutError


def test_try_recv_does_not_wait(ends):
    a, b = ends
    with pytest.raises(BlockingIOError):
        b.try_recv()
    a.send("here")
    assert b.try_recv() == "here"
    with raw_peer() as (duct, peer):
        peer.send(frame(b"12")[:-1])
        with pytest.raises(BlockingIOError):
            duct.try_recv()
        peer.send(b"2")
        assert duct.try_recv() == 12


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_a_timeout_that_makes_no_sense_is_refused(ends, timeout):
    a, b = ends
    for call in (lambda: a.send(1, timeout), lambda: b.recv(timeout), lambda: b.poll(timeout)):
        with pytest.raises(ValueError, match="timeout must be non-negative"):
            call()


def test_poll_says_yes_when_a_whole_message_or_the_end_is_there(ends):
    a, b = ends
    assert not b.poll()
    assert not b.poll(SHORT)
    a.send(1)
    assert b.poll()
    assert b.poll(None)
    b.recv()
    a.close()
    assert b.poll()


def test_close_wakes_whoever_waits(ends):
    a, _ = ends
    errors = []

    def receive():
        try:
            a.recv()
        except ductworks.DuctClosed as error:
            errors.append(error)

    thread = in_thread(receive)
    wait_until_blocked(thread)
    a.close()
    thread.join(PATIENCE)
    assert len(errors) == 1
    assert a.closed


@pytest.mark.parametrize("kind", ["select", "poll", "epoll"])
def test_the_descriptor_is_readable_whenever_a_message_waits(ends, kind):
    a, b = ends
    selector = {
        "select": selectors.SelectSelector,
        "poll": selectors.PollSelector,
        "epoll": selectors.EpollSelector,
    }[kind]()
    with selector:
        selector.register(b, selectors.EVENT_READ)
        assert not selector.select(0)
        a.send("x" * 100_000)
        a.send("y")
        for expected in ("x" * 100_000, "y"):
            assert selector.select(PATIENCE)
            assert b.poll(PATIENCE)
            assert selector.select(0)
            assert b.recv() == expected
        assert not selector.select(0)


# wait


def test_wait_returns_what_is_ready():
    pairs = [ductworks.pair() for _ in range(3)]
    receivers = [b for _, b in pairs]
    assert ductworks.wait(receivers, 0) == []
    assert ductworks.wait(receivers, SHORT) == []
    pairs[1][0].send(1)
    assert ductworks.wait(receivers, PATIENCE) == [receivers[1]]
    pairs[2][0].close()
    assert set(ductworks.wait(receivers)) == {receivers[1], receivers[2]}
    for a, b in pairs:
        a.close()
        b.close()


def test_wait_does_not_take_a_part_for_a_message():
    with raw_peer() as (duct, peer):
        peer.sendall(frame(b"[1, 2]")[:-2])
        assert ductworks.wait([duct], SHORT) == []
        peer.sendall(b"2]")
        assert ductworks.wait([duct], PATIENCE) == [duct]
        assert duct.try_recv() == [1, 2]


def test_wait_takes_connections_sockets_sentinels_listeners_and_descriptors(ends):
    a, b = ends
    c, d = ductworks.Pipe()
    left, right = socket.socketpair()
    process = multiprocessing.get_context("fork").Process(target=int)
    reader, writer = os.pipe()
    os.close(writer)
    with ductworks.listen() as listener, c, d, left, right:
        process.start()
        a.send(1)
        c.send(1)
        left.send(b"1")
        client = in_thread(lambda: ductworks.connect(listener.ticket))
        try:
            every = [b, d, right, process.sentinel, listener, reader]
            eventually(lambda: set(ductworks.wait(every)) == set(every), "everything being ready")
        finally:
            listener.accept(PATIENCE).close()
            client.join(PATIENCE)
    os.close(reader)
    process.join(PATIENCE)


# Addresses


@pytest.mark.parametrize("address", [None, "tcp:127.0.0.1:0", "tcp:[::1]:0", ("127.0.0.1", 0)])
@pytest.mark.parametrize("way", ["argv", "environment"])
def test_a_ticket_reaches_a_child_as_text(address, way):
    with ductworks.listen(address) as listener:
        arguments = [listener.ticket] if way == "argv" else []
        environment = {**os.environ, "DUCT": listener.ticket} if way == "environment" else None
        command = [sys.executable, "-c", CHILD, *arguments]
        with subprocess.Popen(command, env=environment) as child:
            with listener.accept(PATIENCE) as duct:
                duct.send([1])
                assert duct.recv(PATIENCE) == {"done": [1]}
                assert duct.address == listener.address
            assert child.wait(PATIENCE) == 0


def test_every_form_of_an_address_is_accepted(tmp_path):
    path = tmp_path / "duct"
    for form in (path, str(path), f"unix:{path}"):
        with ductworks.listen(form, v1=True) as listener:
            assert listener.address == f"unix:{path}"
            for other in (path, str(path), listener.address, listener.ticket):
                client, server = meet(listener, other)
                with client, server:
                    assert client.address == server.address == listener.address
    with ductworks.listen(("localhost", 0), v1=True) as listener:
        port = int(listener.address.rpartition(":")[2])
        client, server = meet(listener, ("127.0.0.1", port), v1=True)
        client.close()
        server.close()
    with ductworks.listen(("::1", 0)) as listener:
        assert listener.address.startswith("tcp:[::1]:")


@pytest.mark.parametrize("address", ["nonsense", "udp:localhost:1", "tcp:localhost", "tcp:x:99999"])
def test_an_address_that_is_none_is_refused(address):
    for use in (ductworks.listen, ductworks.connect):
        with pytest.raises(ValueError, match="expected unix:PATH, tcp:HOST:PORT"):
            use(address)


def test_a_handshake_that_may_take_no_time_is_refused_beforehand():
    with pytest.raises(ValueError, match="handshake_timeout of more than zero"):
        ductworks.listen(handshake_timeout=0)


def test_other_hosts_are_admitted_only_where_that_is_asked_for():
    with pytest.raises(ValueError, match="insecure"):
        ductworks.listen("tcp:0.0.0.0:0")
    ductworks.listen("tcp:0.0.0.0:0", insecure=True).close()


def test_connect_waits_for_the_listener(tmp_path):
    address = f"unix:{tmp_path / 'late'}"
    ducts = []
    thread = in_thread(lambda: ducts.append(ductworks.connect(address, timeout=PATIENCE)))
    wait_until_blocked(thread)
    with ductworks.listen(address, v1=True) as listener, listener.accept(PATIENCE):
        thread.join(PATIENCE)
        assert len(ducts) == 1
    ducts[0].close()


def test_connect_gives_up_in_time(tmp_path):
    with pytest.raises(FileNotFoundError):
        ductworks.connect(tmp_path / "nobody", timeout=SHORT)


def test_a_listener_is_an_iterable_that_close_ends():
    listener = ductworks.listen(reusable=True)
    accepted = []

    def serve():
        for duct in listener:
            accepted.append(duct)
            duct.send("hello")

    thread = in_thread(serve)
    clients = [ductworks.connect(listener.ticket) for _ in range(3)]
    assert [client.recv(PATIENCE) for client in clients] == ["hello"] * 3
    listener.close()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    for duct in (*clients, *accepted):
        duct.close()
    with pytest.raises(ductworks.DuctClosed):
        listener.accept()


# The rest


def test_stats_count_messages_and_bytes_each_way(ends):
    a, b = ends
    for size in (3, 0, 100_000):
        a.send_bytes(bytes(size))
        b.recv_bytes()
    with pytest.raises(TimeoutError):
        b.recv(SHORT)
    sent, received = a.stats(), b.stats()
    assert (sent.messages_sent, sent.bytes_sent, sent.largest_sent) == (3, 100_003, 100_000)
    assert (sent.messages_received, sent.bytes_received, sent.largest_received) == (0, 0, 0)
    assert received.messages_received == 3
    assert received.bytes_received == 100_003
    assert received.largest_received == 100_000
    assert received.waits >= 1
    assert "messages_sent=3" in repr(sent)
    assert sent == a.stats()


def test_repr_tells_state_and_address(ends):
    a, b = ends
    assert repr(a) == f"<ductworks.Duct pair, json, open, fd {a.fileno()}>"
    a.close()
    assert repr(a) == "<ductworks.Duct pair, json, closed>"
    assert list(b) == []
    assert "ended" in repr(b)
    with ductworks.listen(codec="raw") as listener:
        assert listener.address in repr(listener)
        assert listener.ticket not in repr(listener)
        duct, server = meet(listener, codec="raw")
        with duct, server:
            assert repr(duct).startswith(f"<ductworks.Duct {listener.address}, raw, open")


def test_a_closed_duct_says_so(ends):
    a, _ = ends
    a.close()
    a.close()
    for call in (a.recv, a.try_recv, a.fileno, a.poll, lambda: a.send(1), lambda: next(a)):
        with pytest.raises(ductworks.DuctClosed):
            call()


def test_an_end_that_is_gone_is_told_to_the_sender(ends):
    a, b = ends
    b.close()
    with pytest.raises(BrokenPipeError):
        while True:
            a.send("x" * 1000)


def test_a_message_over_the_limit_is_refused_at_both_ends():
    a, b = ductworks.pair(max_message_size=100)
    with a, b:
        with pytest.raises(ductworks.ProtocolError, match="limit is 100"):
            a.send_bytes(bytes(101))
        a.send_bytes(bytes(100))
        assert b.recv_bytes() == bytes(100)
    with raw_peer(max_message_size=100) as (duct, peer):
        peer.sendall(frame(bytes(101)))
        with pytest.raises(ductworks.ProtocolError, match="101 bytes"):
            duct.recv()
        assert duct.closed
    for size in (-1, 2**63):
        with pytest.raises(ValueError, match="max_message_size must be from 0 to"):
            ductworks.pair(max_message_size=size)


def test_a_value_that_cannot_be_encoded_leaves_the_duct_usable(ends):
    a, b = ends
    with pytest.raises(TypeError):
        a.send(object())
    a.send("next")
    assert b.recv() == "next"


def test_a_message_that_cannot_be_decoded_leaves_the_duct_usable(ends):
    a, b = ends
    a.send_bytes(b"{nonsense")
    with pytest.raises(json.JSONDecodeError):
        b.recv()
    a.send("next")
    assert b.recv() == "next"


@contextlib.contextmanager
def wrong_descriptors():
    """Numbers of descriptors that cannot become ducts, and what is wrong with each."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.listen()
        yield {
            "no socket": stack.enter_context(open(__file__)).fileno(),
            "got socket type": stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)).fileno(),
            "not connected": stack.enter_context(socket.socket(socket.AF_UNIX)).fileno(),
            "is not connected": listening.fileno(),
        }


def test_a_descriptor_that_is_no_connected_stream_is_refused_and_left_alone():
    with wrong_descriptors() as wrong:
        for fault, number in wrong.items():
            before = os.fstat(number)
            with pytest.raises(ValueError, match=f"expected a .*stream socket, .*{fault}"):
                ductworks.Duct(number, "json")
            assert os.fstat(number).st_ino == before.st_ino
    closed = os.open(__file__, os.O_RDONLY)
    os.close(closed)
    for number in (closed, 2**30, 2**31 - 1, 2**100, -1):
        with pytest.raises(ValueError, match=r"no socket: Bad file descriptor|invalid handle"):
            ductworks.Duct(number, "json")


@pytest.mark.parametrize(
    "options",
    [
        {"keepalive": 0.5},
        {"keepalive": -1},
        {"protocol": 3},
        {"max_message_size": -1},
        {"codec": "unknown"},
        {"surplus": 1},
    ],
)
@pytest.mark.parametrize("family", [socket.AF_UNIX, socket.AF_INET])
def test_a_number_stays_the_callers_whatever_fails(family, options):
    with contextlib.ExitStack() as stack:
        if family == socket.AF_UNIX:
            ours, theirs = map(stack.enter_context, socket.socketpair())
        else:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            ours = stack.enter_context(socket.create_connection(listener.getsockname()))
            theirs = stack.enter_context(listener.accept()[0])
        with pytest.raises((ValueError, TypeError)):
            ductworks.Duct(ours.fileno(), **{"codec": "json", **options})
        ours.sendall(b"still mine")
        assert theirs.recv(100) == b"still mine"


@needs_root
def test_a_descriptor_whose_other_end_is_another_user_is_refused():
    def as_nobody():
        os.setresuid(65534, 65534, 65534)
        with pytest.raises(PermissionError, match="expected the other end to run as user 65534"):
            ductworks.Duct(ours.fileno(), "json")
        ours.sendall(b"still mine")

    ours, theirs = socket.socketpair()
    with ours, theirs:
        fork(as_nobody)()
        assert theirs.recv(100) == b"still mine"


def test_a_duct_that_cannot_be_made_where_it_was_sent_leaves_no_descriptor():
    class Arrived:
        def detach(self):
            return number

    with socket.socket(type=socket.SOCK_DGRAM) as other:
        number = os.dup(other.fileno())
    with pytest.raises(ValueError, match="expected a stream socket"):
        ductworks.duct._rebuild(ductworks.Duct, Arrived(), "json", {})
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


def test_plain_pickle_refuses_a_duct(ends):
    with pytest.raises(TypeError, match="cannot pickle a Duct"):
        pickle.dumps(ends[0])


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_duct_is_an_argument_of_a_process(method):
    context = multiprocessing.get_context(method)
    a, b = ductworks.pair()
    process = context.Process(target=double, args=(b,), daemon=True)
    process.start()
    b.close()
    with a:
        a.send(21)
        assert a.recv(PATIENCE) == 42
    process.join(PATIENCE)
    assert process.exitcode == 0


def double(duct):
    duct.send(2 * duct.recv())


def test_a_duct_crosses_a_duct():
    a, b = ductworks.pair("pickle")
    c, d = ductworks.pair("json")
    with a, b, c:
        with d:
            a.send(d)
            with b.recv(PATIENCE) as received:
                received.send("across")
                assert c.recv(PATIENCE) == "across"
                assert received.codec == "json"


def test_a_duct_in_a_cycle_is_collected():
    class Codec:
        def encode(self, value):
            return value

        def decode(self, data):
            return data

    codec = Codec()
    a, b = ductworks.pair(codec)
    codec.duct = a
    number, gone = a.fileno(), weakref.ref(codec)
    del a, b, codec
    gc.collect()
    assert gone() is None
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(number)


def test_ducts_are_annotated_with_what_they_carry():
    assert ductworks.Duct[int, str].__origin__ is ductworks.Duct


# Across a network


@pytest.mark.parametrize("address", ["tcp:127.0.0.1:0", "tls:127.0.0.1:0"])
def test_a_keepalive_is_set_on_both_sides_and_goes_along_with_a_duct(address):
    with ductworks.listen(address, keepalive=10) as listener:
        ours, theirs = meet(listener, keepalive=2.5)
    with ours, theirs, socket.socket(fileno=os.dup(ours.fileno())) as probe:
        assert (ours.keepalive, theirs.keepalive) == (2.5, 10)
        idle = probe.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
        count = probe.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT)
        assert idle + count <= 3
        assert probe.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        ours.send("alive")
        assert theirs.recv() == "alive"


@pytest.mark.parametrize(
    ("wrong", "shown"), [(0, "0ns"), (0.5, "500ms"), (-1, "-1"), (float("nan"), "NaN")]
)
def test_a_keepalive_of_less_than_a_second_is_refused(wrong, shown):
    with pytest.raises(ValueError, match=f"at least a second, got {shown}$"):
        ductworks.listen(keepalive=wrong)
    with pytest.raises(ValueError, match=f"at least a second, got {shown}$"):
        ductworks.connect("tcp:127.0.0.1:1", keepalive=wrong)
