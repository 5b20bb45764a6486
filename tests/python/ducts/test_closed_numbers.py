"""When a duct is closed, the number of its descriptor is free for others, and nothing that becomes
of the duct afterwards touches what has the number then."""

import contextlib
import os
import select
import socket
import subprocess
import sys
import threading

import ductworks
import pytest
from ductworks.connection import Connection
from support import PATIENCE, Background, wait_until_blocked

LARGE = b"z" * 20_000_000  # More than any socket takes.


def ends_of_pair():
    return ductworks.pair()


def ends_over(address, **options):
    with ductworks.listen(address, **options) as listener:
        ticket = listener.ticket
        connected = Background(lambda: ductworks.connect(ticket, **options))
        return listener.accept(PATIENCE), connected.result()


WAYS = {
    "pair": ends_of_pair,
    "unix": lambda: ends_over(None),
    "tcp": lambda: ends_over("tcp:127.0.0.1:0"),
    "version 1": lambda: ends_over("tcp:127.0.0.1:0", v1=True),
    "tls": lambda: ends_over("tls:127.0.0.1:0"),
}


def close_again(duct):
    duct.close()


def leave_its_block(duct):
    duct.__exit__(None, None, None)


def end_with_the_process(duct):
    duct._leave()


def ask_everything(duct):
    for ask in (
        lambda: duct.send_bytes(b"x"),
        lambda: duct.send_bytes(LARGE),
        lambda: duct.send_fds("x", [0]),
        lambda: duct.recv(0),
        lambda: duct.poll(0),
        lambda: duct.drain(0),
        lambda: duct.finish(0),
        lambda: duct.detach(),
    ):
        with contextlib.suppress(Exception):
            ask()


AFTERWARDS = [close_again, leave_its_block, end_with_the_process, ask_everything]


@contextlib.contextmanager
def stranger_at(number):
    """The other end of a socket that now has this number."""
    theirs, seen = socket.socketpair()
    if seen.fileno() == number:
        theirs, seen = seen, theirs
    if theirs.fileno() != number:
        os.dup2(theirs.fileno(), number)
        theirs.close()
        theirs = socket.socket(fileno=number)
    with theirs, seen:
        seen.setblocking(False)
        yield seen


def assert_untouched(seen):
    with pytest.raises(BlockingIOError):
        seen.recv(100)


@pytest.mark.parametrize(
    "afterwards", [*AFTERWARDS, None], ids=lambda act: getattr(act, "__name__", "drop")
)
@pytest.mark.parametrize("way", WAYS)
def test_a_closed_duct_writes_the_rest_of_a_message_to_nobody_else(way, afterwards):
    duct, other = WAYS[way]()
    duct.send_bytes(LARGE, timeout=0)  # The rest of it stays with the duct.
    number = duct.fileno()
    duct.close()
    with stranger_at(number) as seen:
        if afterwards:
            afterwards(duct)
        del duct
        assert_untouched(seen)
    other.close()


def test_a_closed_duct_keeps_none_of_the_descriptors_that_it_could_not_send():
    a, b = ductworks.pair()
    reading, writing = os.pipe()
    a.send_fds("x" * 3_000_000, [writing], timeout=0)
    os.close(writing)
    number = a.fileno()
    a.close()
    with stranger_at(number) as seen, open(reading, "rb") as pipe:
        # Its other ends are closed.
        assert select.select([pipe], [], [], PATIENCE)[0]
        assert pipe.read() == b""
        a.close()
        assert_untouched(seen)
    b.close()


@pytest.mark.parametrize("way", WAYS)
def test_of_two_threads_that_close_a_duct_neither_touches_what_has_its_number_next(way):
    for _ in range(30):
        duct, other = WAYS[way]()
        duct.send_bytes(LARGE, timeout=0)
        start = threading.Barrier(3)
        strangers = []

        def close(duct=duct, start=start):
            start.wait()
            duct.close()

        closers = [threading.Thread(target=close) for _ in range(2)]
        for closer in closers:
            closer.start()
        start.wait()
        while any(closer.is_alive() for closer in closers):
            strangers.extend(socket.socketpair())
            while len(strangers) > 40:
                strangers.pop(0).close()
        for stranger in strangers:
            stranger.setblocking(False)
        for stranger in strangers:
            # Those whose other end was closed to make room have come to their end.
            with contextlib.suppress(BlockingIOError):
                assert stranger.recv(5) == b""
        for stranger in strangers:
            stranger.close()
        other.close()


def test_a_closed_connection_over_a_pipe_writes_to_no_file_that_has_its_number(tmp_path):
    reading, writing = os.pipe()
    connection = Connection(writing, readable=False)
    sending = Background(connection.send_bytes, LARGE)
    wait_until_blocked(sending)
    connection.close()
    with pytest.raises(OSError, match="closed"):
        sending.result()
    with open(tmp_path / "precious", "wb", buffering=0) as precious:
        if precious.fileno() != writing:
            os.dup2(precious.fileno(), writing)
        precious.write(b"precious")
        connection.close()
        del connection
        assert (tmp_path / "precious").read_bytes() == b"precious"
    with contextlib.suppress(OSError):
        os.close(writing)
    os.close(reading)


EXITING = """
import os, sys, ductworks
duct, other = ductworks.pair()
duct.send_bytes(b"z" * 3_000_000, timeout=0)
number = duct.fileno()
duct.close()
other.close()
os.dup2(int(sys.argv[1]), number)
"""


def test_the_end_of_a_process_writes_no_rest_of_a_closed_duct():
    theirs, seen = socket.socketpair()
    with theirs, seen:
        subprocess.run(
            [sys.executable, "-c", EXITING, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            timeout=PATIENCE,
            check=True,
        )
        seen.setblocking(False)
        assert_untouched(seen)
