"""Defects of the original 0.0.1a4 in what it does with messages; each test fails on the original.

The number in front of a test is the defect's. What else the same promise asks stands in the files
named after the promises, and the defects of the way to a connection in a file beside this one.
"""

import contextlib
import json
import mmap
import os
import socket
import threading

import pytest
from ductworks.message_duct import (
    MessageProtocolException,
    RemoteDuctClosed,
)
from support import (
    PATIENCE,
    RAW,
    SHORT,
    TRANSPORTS,
    Background,
    frame,
    raw_pair,
    read_frame,
    read_to_end,
    send_insistently,
    wait_until_blocked,
    wired,
)

# 2


def test_five_hostile_bytes_do_not_allocate_what_they_announce(start_python):
    child = start_python(
        """
        import resource, sys
        from support import TRANSPORTS, wired
        from ductworks.message_duct import MessageProtocolException
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
        duct, peer = wired(TRANSPORTS["unix"])
        peer.sendall(b"\\x54\\xff\\xff\\xff\\xff")
        try:
            duct.recv()
        except MessageProtocolException as error:
            print(error)
        """
    )
    assert "4294967295" in child.finish()


# 3


def test_recv_that_times_out_in_a_message_goes_on_where_it_was(make_wire, role):
    duct, peer = make_wire(role, timeout=SHORT)
    message = frame(b'"a message in two parts"')
    for split in (1, 3, 5, 9):
        peer.sendall(message[:split])
        with pytest.raises(socket.timeout):
            duct.recv()
        peer.sendall(message[split:])
        assert duct.recv() == "a message in two parts"


def test_payload_is_never_taken_for_a_frame_after_a_timeout(make_wire):
    duct, peer = make_wire(timeout=SHORT, **RAW)
    hidden = frame(b"hidden")
    message = frame(b"outer " + hidden)
    peer.sendall(message[: -len(hidden)])
    with pytest.raises(socket.timeout):
        duct.recv()
    peer.sendall(hidden)
    assert duct.recv() == b"outer " + hidden


# 4


def test_send_that_times_out_in_a_frame_does_not_shift_the_next_message(make_wire, role):
    duct, peer = make_wire(role, timeout=SHORT, small_buffers=True, **RAW)
    long_message = bytes(range(256)) * 4096
    with contextlib.suppress(socket.timeout):
        duct.send(long_message)
    reader = Background(read_to_end, peer)
    send_insistently(duct, b"next")
    duct.close()
    assert reader.result() == frame(long_message) + frame(b"next")


# 5


def test_send_does_not_wait_behind_an_idle_recv_with_the_same_lock():
    duct, peer = wired(TRANSPORTS["unix"], timeout=5, lock=threading.Lock())
    receiver = Background(duct.recv)
    wait_until_blocked(receiver)
    duct.send("while recv waits")
    assert receiver.is_alive(), "send waited until recv had given up"
    assert read_frame(peer) == b'"while recv waits"'
    peer.sendall(frame(b'"answer"'))
    assert receiver.result() == "answer"
    duct.close()
    peer.close()


class LockWithoutLuck:
    def __init__(self):
        self.released = 0

    def acquire(self):
        raise InterruptedError("no lock today")

    def release(self):
        self.released += 1


def test_a_lock_that_could_not_be_acquired_is_not_released():
    lock = LockWithoutLuck()
    duct, peer = wired(TRANSPORTS["unix"], lock=lock)
    with pytest.raises(InterruptedError, match="no lock today"):
        duct.send("x")
    peer.sendall(frame(b'"x"'))
    with pytest.raises(InterruptedError, match="no lock today"):
        duct.recv()
    assert lock.released == 0
    duct.close()
    peer.close()


# 7


def test_poll_and_listen_work_past_descriptor_1024(start_python):
    child = start_python(
        """
        import os, resource
        from support import TRANSPORTS, connected_pair, descriptor
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        while os.dup(0) < 1100:
            pass
        for transport in TRANSPORTS.values():
            parent, child = connected_pair(transport)
            assert descriptor(parent) > 1024
            assert parent.poll(0) is False
            child.send("hello")
            assert parent.poll(10) is True
            assert parent.recv() == "hello"
        """
    )
    child.finish()


# 12


def test_an_out_of_band_byte_does_not_break_a_tcp_duct():
    duct, peer = wired(TRANSPORTS["tcp"])
    for text in ("first", "second"):
        message = frame(json.dumps(text).encode())
        peer.sendall(message[:7])
        peer.send(b"!", socket.MSG_OOB)
        peer.sendall(message[7:])
        assert duct.poll(PATIENCE) is True
        assert duct.recv() == text
    duct.close()
    peer.close()


def test_close_does_not_linger_for_a_peer_that_does_not_read():
    duct, peer = wired(TRANSPORTS["tcp"], small_buffers=True, timeout=SHORT, **RAW)
    with contextlib.suppress(socket.timeout):
        duct.send(bytes(1 << 20))
    closer = Background(duct.close)
    closer.join(5)
    assert not closer.is_alive(), "close waits for a peer that does not read"
    peer.close()


# 14


def test_a_truncated_message_is_told_apart_from_a_clean_end(make_wire, role):
    clean, peer = make_wire(role)
    peer.close()
    with pytest.raises(RemoteDuctClosed) as clean_end:
        clean.recv()
    truncated, peer = make_wire(role)
    peer.sendall(frame(b'"cut"')[:-1])
    peer.close()
    with pytest.raises(EOFError) as truncated_end:
        truncated.recv()
    assert isinstance(truncated_end.value, RemoteDuctClosed)
    assert truncated_end.type is not clean_end.type


# 15


def test_bad_utf8_is_an_error(make_wire):
    duct, peer = make_wire()
    peer.sendall(frame(b'"\xff"') + frame(b'"after"'))
    with pytest.raises(UnicodeDecodeError):
        duct.recv()
    assert duct.recv() == "after"


def test_a_payload_past_the_length_field_is_refused_with_a_clear_error(make_wire):
    duct, peer = make_wire(serialize=lambda size: mmap.mmap(-1, size), deserialize=bytes)
    with pytest.raises(MessageProtocolException, match=str(2**32)):
        duct.send(2**32)
    duct.send(mmap.PAGESIZE)
    assert len(read_frame(peer)) == mmap.PAGESIZE


# 16


def test_recv_into_takes_flags_without_a_count():
    parent, child = raw_pair()
    child.send(b"peeked at")
    buffer = bytearray(20)
    assert parent.recv_into(buffer, flags=socket.MSG_PEEK) == 9
    assert parent.recv_into(buffer) == 9
    assert bytes(buffer[:9]) == b"peeked at"
    child.close()
    parent.close()


def test_an_installed_anyjson_does_not_replace_json(start_python, tmp_path):
    (tmp_path / "anyjson.py").write_text("def dumps(_): return 'replaced'\nloads = dumps\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    child = start_python(
        """
        import anyjson
        from ductworks.message_duct import create_psuedo_anonymous_duct_pair
        parent, child = create_psuedo_anonymous_duct_pair()
        parent.send({"json": True})
        assert child.recv() == {"json": True}
        """,
        env={**os.environ, "PYTHONPATH": path},
    )
    child.finish()
