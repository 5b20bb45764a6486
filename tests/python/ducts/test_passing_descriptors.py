"""Open files, sockets and ducts that go along with messages."""

import json
import os
import socket
import subprocess
import sys

import ductworks
import pytest
from support import PATIENCE, SHORT, Background

CHILD = """
import os, ductworks
with ductworks.connect(os.environ.pop("DUCT")) as parent:
    names, (file, number) = parent.recv_fds()
    with open(file) as file, ductworks.Duct(number, "json") as duct:
        for line in file:
            duct.send([names, line])
"""


@pytest.fixture
def ends():
    a, b = ductworks.pair()
    with a, b:
        yield a, b


def test_a_child_reads_a_file_and_uses_a_duct_that_it_is_handed(tmp_path):
    (tmp_path / "poem").write_text("first\nsecond\n")
    with ductworks.listen() as listener:
        environment = {**os.environ, "DUCT": listener.ticket}
        child = subprocess.Popen([sys.executable, "-c", CHILD], env=environment)
        with listener.accept(PATIENCE) as duct, open(tmp_path / "poem") as poem:
            ours, theirs = ductworks.pair()
            with ours:
                duct.send_fds(["poem", "duct"], [poem, theirs])
                theirs.close()
                names = ["poem", "duct"]
                assert list(ours) == [[names, "first\n"], [names, "second\n"]]
        assert child.wait(PATIENCE) == 0


def test_whoever_receives_owns_copies_that_no_child_inherits(ends):
    a, b = ends
    reading, writing = os.pipe()
    a.send_fds("the writing end", [writing])
    os.close(writing)
    value, (copy,) = b.recv_fds(PATIENCE)
    assert value == "the writing end"
    assert copy != writing or not os.get_inheritable(copy)
    os.write(copy, b"through the copy")
    os.close(copy)
    with open(reading, "rb") as pipe:
        assert pipe.read() == b"through the copy"


def test_other_ways_to_receive_close_what_comes(ends):
    a, b = ends
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            a.send_fds(1, [theirs])
        assert b.recv() == 1
        assert ours.recv(1) == b""


def test_none_and_as_many_as_may_be(ends):
    a, b = ends
    a.send_fds("none", [])
    assert b.recv_fds() == ("none", [])
    a.send("none either")
    assert b.recv_fds() == ("none either", [])
    with open(os.devnull) as file:
        a.send_fds("sixteen", [file] * 16)
        value, numbers = b.recv_fds()
        for number in numbers:
            os.close(number)
        assert (value, len(numbers)) == ("sixteen", 16)
        with pytest.raises(ValueError, match="at most 16"):
            a.send_fds("one more", [file] * 17)
    with pytest.raises(TimeoutError):
        b.recv_fds(SHORT)


def test_what_is_no_descriptor_is_refused_before_anything_is_sent(ends):
    a, b = ends
    for wrong, error in (
        ([None], TypeError),
        ([-1], ValueError),
        ([1 << 20], OSError),
        (7, TypeError),
        ([object()], TypeError),
    ):
        with pytest.raises(error):
            a.send_fds("never", wrong)
    with open(os.devnull) as file, pytest.raises(TypeError):
        a.send_fds({1, 2}, [file])
    a.send("still in step")
    assert b.recv() == "still in step"


def test_a_value_that_cannot_be_decoded_leaves_no_descriptor_open():
    a, b = ductworks.pair("raw")
    b = ductworks.Duct(b.detach(), "json")
    ours, theirs = socket.socketpair()
    with a, b, ours:
        with theirs:
            a.send_fds(b"no JSON", [theirs])
        with pytest.raises(json.JSONDecodeError):
            b.recv_fds()
        assert ours.recv(1) == b""


@pytest.mark.parametrize("address", ["tcp:127.0.0.1:0", "tls:127.0.0.1:0"])
def test_they_go_to_another_process_of_this_host_only(address):
    with ductworks.listen(address) as listener:
        connected = Background(ductworks.connect, listener.ticket)
        with listener.accept(PATIENCE) as duct, connected.result() as other:
            with open(os.devnull) as file, pytest.raises(ValueError, match="this host only"):
                duct.send_fds(1, [file])
            duct.send(2)
            assert other.recv() == 2


def test_version_1_has_no_word_for_them():
    ours, theirs = socket.socketpair()
    with theirs, ductworks.Duct(ours.detach(), "json") as duct, open(os.devnull) as file:
        with pytest.raises(ValueError, match="version 1"):
            duct.send_fds(1, [file])
