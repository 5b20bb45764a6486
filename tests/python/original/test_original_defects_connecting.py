"""Defects of the original 0.0.1a4 on the way to a connection; each test fails on the original.

The number in front of a test is the defect's. The defects in what it does with messages stand in a
file beside this one.
"""

import gc
import os
import socket
import stat
import sys
from pathlib import Path

import pytest
from ductworks.base_duct import RawDuctChild, RawDuctParent, unix_domain_socket_constructor
from ductworks.message_duct import (
    MessageDuctChild,
    MessageDuctParent,
)
from marks import needs_root
from processes import fork
from support import PATIENCE, SHORT, TRANSPORTS, connected_pair, descriptor

# 1


def test_connect_gives_up_on_a_missing_address_after_its_retries(tmp_path):
    attempts = []

    def count_and_construct():
        attempts.append(None)
        assert len(attempts) < 10, "connect goes on for ever"
        return unix_domain_socket_constructor()

    child = RawDuctChild(str(tmp_path / "nowhere"), socket_constructor=count_and_construct)
    with pytest.raises(FileNotFoundError):
        child.connect(connect_retry_count=2, connect_retry_delay=0.001)
    assert len(attempts) == 3


def test_a_second_child_on_a_used_address_is_told_so(closing):
    parent, _ = closing(*connected_pair(TRANSPORTS["unix"]))
    attempts = []

    def count_and_construct():
        attempts.append(None)
        assert len(attempts) < 10, "connect goes on for ever"
        return unix_domain_socket_constructor()

    second = RawDuctChild(parent.listener_address, socket_constructor=count_and_construct)
    with pytest.raises(FileNotFoundError):
        second.connect(connect_retry_count=1, connect_retry_delay=0)


def test_connect_closes_the_sockets_of_failed_attempts(tmp_path):
    path = str(tmp_path / "refusing")
    with socket.socket(socket.AF_UNIX) as bound_but_not_listening:
        bound_but_not_listening.bind(path)
        constructed = []

        def remember_and_construct():
            constructed.append(unix_domain_socket_constructor())
            return constructed[-1]

        child = RawDuctChild(path, socket_constructor=remember_and_construct)
        with pytest.raises(ConnectionRefusedError):
            child.connect(connect_retry_count=2, connect_retry_delay=0)
        assert [sock.fileno() for sock in constructed] == [-1, -1, -1]


# 6


def test_listen_takes_a_timeout(transport):
    parent = transport.parent()
    parent.bind()
    assert parent.listen(0) is False
    assert parent.listen(timeout=SHORT) is False
    child = transport.child(parent.listener_address)
    child.connect()
    assert parent.listen(1) is True
    child.close()
    parent.close()


def test_connect_takes_the_retry_arguments(tmp_path):
    child = MessageDuctChild.psuedo_anonymous_child_duct(str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError):
        child.connect(connect_retry_count=1, connect_retry_delay=0)
    with pytest.raises(FileNotFoundError):
        child.connect(1, 0)


# 8


class FailsBeforeItsBaseIsReady(MessageDuctParent):
    def __init__(self):
        raise LookupError("nothing was set up")


@pytest.mark.parametrize(
    "construct",
    [MessageDuctParent, MessageDuctChild, RawDuctParent, RawDuctChild, FailsBeforeItsBaseIsReady],
)
def test_a_duct_whose_init_failed_is_collected_in_silence(construct, monkeypatch):
    complaints = []
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)
    with pytest.raises((TypeError, LookupError)):
        construct()
    # The traceback keeps half a duct alive until here.
    gc.collect()
    assert [str(complaint.exc_value) for complaint in complaints] == []


# 9


def test_bind_works_after_a_bind_that_failed(tmp_path):
    directory = tmp_path / "later"
    parent = MessageDuctParent.psuedo_anonymous_parent_duct(str(directory / "duct"))
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            parent.bind()
    directory.mkdir()
    parent.bind()
    child = MessageDuctChild.psuedo_anonymous_child_duct(parent.listener_address)
    child.connect()
    assert parent.listen()
    child.send("connected")
    assert parent.recv() == "connected"
    child.close()
    parent.close()


# 10


def test_close_in_a_forked_child_leaves_the_listener_to_the_parent(transport):
    parent = transport.parent()
    parent.bind()
    fork(parent.close)()
    child = transport.child(parent.listener_address)
    child.connect()
    assert parent.listen()
    parent.send("still here")
    assert child.recv() == "still here"
    child.close()
    parent.close()


# 11


@needs_root
def test_a_stranger_does_not_use_up_the_accept(start_python, reachable_directory):
    address = reachable_directory / "duct"
    parent = MessageDuctParent.psuedo_anonymous_parent_duct(str(address))
    parent.bind()
    address.chmod(0o777)
    stranger = start_python(
        """
        import os, socket, sys
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(sys.argv[1])
            print("connected", flush=True)
            sys.stdin.readline()
        """,
        address,
    )
    assert stranger.hear() == "connected"
    child = MessageDuctChild.psuedo_anonymous_child_duct(str(address))
    child.connect()
    assert parent.listen()
    child.send("the real child")
    assert parent.poll(PATIENCE)
    assert parent.recv() == "the real child"
    stranger.say("go")
    stranger.finish()
    child.close()
    parent.close()


# 13


def test_an_anonymous_address_lies_in_a_private_directory():
    parent = MessageDuctParent.psuedo_anonymous_parent_duct()
    parent.bind()
    directory = Path(parent.listener_address).parent.stat()
    assert stat.S_IMODE(directory.st_mode) == 0o700
    assert directory.st_uid == os.geteuid()
    parent.close()


def test_a_long_temporary_directory_does_not_matter(start_python, tmp_path):
    long_name = tmp_path / ("long" * 40)
    long_name.mkdir()
    environment = {**os.environ, "TMPDIR": str(long_name)}
    environment.pop("XDG_RUNTIME_DIR", None)
    child = start_python(
        """
        from ductworks.message_duct import create_psuedo_anonymous_duct_pair
        parent, child = create_psuedo_anonymous_duct_pair()
        parent.send("short enough")
        assert child.recv() == "short enough"
        """,
        env=environment,
    )
    child.finish()


# 16
def test_ipv6_works(closing):
    parent = closing(MessageDuctParent.psuedo_anonymous_tcp_parent_duct("::1"))
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError as error:
        pytest.skip(f"this kernel has no ::1: {error}")
    parent.bind()
    host, port = parent.listener_address[:2]
    child = closing(MessageDuctChild.psuedo_anonymous_tcp_child_duct(host, port))
    child.connect()
    assert parent.listen()
    child.send("six")
    assert parent.recv() == "six"
    with socket.socket(fileno=os.dup(descriptor(child))) as sock:
        assert sock.family == socket.AF_INET6
