"""What a large message takes of the receiver's memory."""

import os

import ductworks

RECEIVER = """
import sys
import ductworks

def memory(name):
    with open("/proc/self/status") as status:
        facts = dict(line.split(":", 1) for line in status)
    return 1024 * int(facts[name].split()[0])

with ductworks.connect(sys.argv[1]) as duct:
    for number in range(int(sys.argv[2])):
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # From now on the peak is that of what comes.
        before = memory("VmRSS")
        duct.send(number)
        message = duct.recv_bytes()
        print(len(message), memory("VmHWM") - before)
        del message
"""


def test_a_message_is_never_in_memory_twice(start_python):
    # Of every relation to the sizes that memory has which doubles while a message grows.
    sizes = [mib << 20 for mib in range(8, 34)]
    # What is freed goes back to the system at once, and is not counted as taken.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    with ductworks.listen() as listener:
        receiver = start_python(RECEIVER, listener.ticket, len(sizes), env=environment)
        with listener.accept(20) as duct:
            for number, size in enumerate(sizes):
                assert duct.recv(20) == number
                duct.send_bytes(bytes(size))
            lines = receiver.finish().splitlines()
    assert len(lines) == len(sizes)
    for size, line in zip(sizes, lines):
        received, taken = map(int, line.split())
        assert received == size
        assert taken < 1.25 * size, size
