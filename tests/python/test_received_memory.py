"""What a large message takes of the receiver's memory."""

import ductworks

RECEIVER = """
import resource, sys
import ductworks

def peak():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

with ductworks.connect(sys.argv[1]) as duct:
    duct.send("ready")
    before = peak()
    message = duct.recv_bytes()
    print(len(message), peak() - before)
"""


def test_a_message_is_never_in_memory_twice(start_python):
    # A little more than what memory that doubles would have grown to, whose content would then have
    # to move.
    size = 33 << 20
    with ductworks.listen() as listener:
        receiver = start_python(RECEIVER, listener.ticket)
        with listener.accept(20) as duct:
            assert duct.recv(20) == "ready"
            duct.send_bytes(bytes(size))
            received, taken = map(int, receiver.finish().split())
    assert received == size
    assert taken < 1.25 * size
