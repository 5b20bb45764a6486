"""Raw ducts: byte streams with the original's methods and meanings."""

import os
import socket
import weakref

import pytest
from ductworks.base_duct import (
    DuctworksException,
    RawDuctChild,
    RawDuctParent,
    tcp_socket_constructor,
    tcp_socket_listener_destructor,
    unix_domain_socket_listener_destructor,
)
from ductworks.message_duct import MessageDuctChild, MessageDuctParent
from support import PATIENCE, SHORT, Background, raw_pair, wait_until_blocked


@pytest.fixture
def ducts(closing):
    return closing(*raw_pair())


def test_bytes_go_both_ways_and_calls_say_how_many(ducts):
    for one, other in (ducts, ducts[::-1]):
        assert one.send(b"some bytes") == 10
        assert other.recv(4) == b"some"
        buffer = bytearray(20)
        assert other.recv_into(buffer) == 6
        assert bytes(buffer) == b" bytes" + bytes(14)


def test_any_bytes_like_object_can_be_sent(ducts):
    parent, child = ducts
    for data in (b"abc", bytearray(b"abc"), memoryview(b"xabcx")[1:4]):
        assert parent.send(data) == 3
        assert child.recv(10) == b"abc"
    with pytest.raises(TypeError):
        parent.send("text")


def test_a_count_and_flags_are_heeded(ducts):
    parent, child = ducts
    assert parent.send(b"0123456789", socket.MSG_NOSIGNAL) == 10
    buffer = bytearray(10)
    assert child.recv_into(buffer, 4) == 4
    assert child.recv_into(memoryview(buffer)[4:], 3, socket.MSG_PEEK) == 3
    assert child.recv_into(memoryview(buffer)[4:], recv_num_bytes=6) == 6
    assert bytes(buffer) == b"0123456789"
    assert parent.send(b"again") == 5
    assert child.recv(2, socket.MSG_PEEK) == b"ag"
    assert child.recv(100, flags=socket.MSG_PEEK) == b"again"
    assert child.recv(100) == b"again"


def test_asking_for_nothing_is_answered_at_once(ducts):
    parent, _ = ducts
    assert parent.recv(0) == b""
    assert parent.recv_into(bytearray(0)) == 0
    assert parent.send(b"") == 0


def test_impossible_arguments_are_refused(ducts):
    parent, child = ducts
    child.send(b"undisturbed")
    with pytest.raises(ValueError, match="negative"):
        parent.recv(-1)
    with pytest.raises(ValueError, match="buffer"):
        parent.recv_into(bytearray(2), 5)
    with pytest.raises((TypeError, BufferError)):
        parent.recv_into(b"read-only")
    with pytest.raises((TypeError, BufferError)):
        parent.recv_into(memoryview(bytearray(8))[::2])
    with pytest.raises(ValueError, match="negative"):
        parent.poll(-1)
    assert parent.recv(20) == b"undisturbed"


def test_ducts_are_ordinary_objects(ducts):
    for duct in (*ducts, MessageDuctParent(ducts[0]), MessageDuctChild(ducts[1])):
        assert weakref.ref(duct)() is duct
        duct.attribute = "of the user's own"
        assert {duct: 1}[duct] == 1


@pytest.mark.parametrize("kind", [RawDuctParent, RawDuctChild, MessageDuctParent, MessageDuctChild])
def test_a_duct_that_was_never_initialised_raises_and_does_not_crash(kind):
    for name, arguments in (("send", (b"x",)), ("recv", (1,)), ("poll", (0,)), ("fileno", ())):
        duct = kind.__new__(kind)
        with pytest.raises((AttributeError, TypeError, RuntimeError, DuctworksException)):
            getattr(duct, name)(*arguments)


def test_the_timeout_bounds_a_call(closing):
    parent, child = closing(*raw_pair(timeout=SHORT))
    with pytest.raises(socket.timeout):
        parent.recv(1)
    with pytest.raises(socket.timeout):
        parent.recv_into(bytearray(1))
    with pytest.raises(socket.timeout):
        send_for_ever(child)


def send_for_ever(duct):
    while True:
        duct.send(bytes(1 << 20))


def test_no_timeout_waits_for_ever(closing):
    parent, child = closing(*raw_pair(timeout=None))
    receiver = Background(parent.recv, 10)
    wait_until_blocked(receiver)
    child.send(b"at last")
    assert receiver.result() == b"at last"


def test_poll_tells_whether_bytes_or_the_end_wait(ducts):
    parent, child = ducts
    assert parent.poll(0) is False
    assert parent.poll(SHORT) is False
    child.send(b"x")
    assert parent.poll() is True
    assert parent.recv(10) == b"x"
    child.close()
    assert parent.poll(PATIENCE) is True
    assert parent.recv(10) == b""


def test_listen_says_false_when_nobody_came_and_may_be_called_again(tmp_path, closing):
    parent = closing(RawDuctParent(str(tmp_path / "duct")))
    assert parent.listen(0) is False
    assert parent.listen(SHORT) is False
    child = closing(RawDuctChild(str(tmp_path / "duct")))
    child.connect()
    assert parent.listen(PATIENCE) is True


def test_bind_twice_is_bind_once(tmp_path, closing):
    parent = closing(RawDuctParent(str(tmp_path / "duct")))
    parent.bind()
    before = os.stat(tmp_path / "duct").st_ino
    parent.bind(listen_queue_depth=5)
    assert os.stat(tmp_path / "duct").st_ino == before


def test_tcp_reports_the_port_that_it_got(closing):
    parent = closing(
        RawDuctParent(("127.0.0.1", 0), tcp_socket_constructor, tcp_socket_listener_destructor)
    )
    assert parent.listener_address is None
    parent.bind()
    assert parent.bind_address == ("127.0.0.1", 0)
    host, port = parent.listener_address
    assert host == "127.0.0.1"
    assert port > 0
    child = closing(RawDuctChild((host, port), tcp_socket_constructor))
    child.connect()
    assert parent.listen()
    assert parent.listener_address == (host, port)
    child.send(b"tcp")
    assert parent.recv(3) == b"tcp"


def test_a_bytes_path_will_do(tmp_path, closing):
    path = os.fsencode(tmp_path / "duct")
    parent, child = closing(RawDuctParent(path), RawDuctChild(path))
    parent.bind()
    child.connect()
    assert parent.listen()
    child.send(b"x")
    assert parent.recv(1) == b"x"


def test_the_public_constructors_make_the_sockets_they_name():
    with tcp_socket_constructor(tcp_no_delay=1) as sock:
        assert sock.family == socket.AF_INET
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    with tcp_socket_constructor(linger_time=1, tcp_no_delay=0) as sock:
        assert not sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_the_unix_listener_destructor_closes_and_unlinks(tmp_path):
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(tmp_path / "duct"))
    sock.listen()
    unix_domain_socket_listener_destructor(sock, shutdown=True)
    assert sock.fileno() == -1
    assert not (tmp_path / "duct").exists()


def test_close_with_shutdown_ends_the_connection_for_every_copy(ducts):
    parent, child = ducts
    copy = os.dup(parent.get_conn_file_descriptor())
    parent.close(shutdown=True)
    assert child.recv(1) == b""
    os.close(copy)


def test_close_without_shutdown_leaves_other_copies_open(ducts):
    parent, child = ducts
    with socket.socket(fileno=os.dup(parent.get_conn_file_descriptor())) as copy:
        parent.close()
        copy.send(b"still open")
        assert child.recv(20) == b"still open"
    assert child.recv(20) == b""


def test_a_closed_raw_duct_may_connect_again(tmp_path, closing):
    path = str(tmp_path / "duct")
    parent, child = closing(RawDuctParent(path), RawDuctChild(path))
    for text in (b"first", b"second"):
        parent.bind()
        child.connect()
        assert parent.listen()
        child.send(text)
        assert parent.recv(10) == text
        child.close()
        parent.close()
