"""What travels between the ends of a Pipe, against docs/other-wires.md, and ends that break it."""

import multiprocessing
import os
import socket
import struct

import pytest
from ductworks import _native
from ductworks.connection import Connection
from support import PATIENCE, SHORT


@pytest.fixture
def ends():
    """A connection, and the plain socket at its other end."""
    mine, theirs = _native.pipe()
    with Connection(mine) as connection, socket.socket(fileno=theirs.detach()) as peer:
        peer.settimeout(PATIENCE)
        yield connection, peer


def cell(payload):
    return (struct.pack("!i", len(payload)) + payload).ljust(128, b"\0")


@pytest.mark.parametrize("size", [0, 1, 64, 123, 124, 125, 508, 509, 1000, 70_000])
def test_a_short_frame_is_padded(ends, size):
    connection, peer = ends
    data = os.urandom(size)
    connection.send_bytes(data)
    expected = cell(data)
    assert peer.recv(len(expected), socket.MSG_WAITALL) == expected
    peer.setblocking(False)
    with pytest.raises(BlockingIOError):
        peer.recv(1)
    peer.setblocking(True)
    peer.sendall(expected + cell(b"next"))
    assert connection.recv_bytes() == data
    assert connection.recv_bytes() == b"next"


def test_a_message_in_parts_is_padded_as_well(ends):
    connection, peer = ends
    connection.send([1, "x" * 20])
    assert len(peer.recv(1000)) == 128


@pytest.mark.parametrize("end", [1, 3, 4, 20, 127])
def test_an_end_in_a_cell_is_told_apart(ends, end):
    connection, peer = ends
    peer.sendall(cell(b"whole") + cell(b"cut off")[:end])
    peer.close()
    assert connection.recv_bytes() == b"whole"
    with pytest.raises(OSError, match="got end of file during message"):
        connection.recv_bytes()


def test_nothing_is_read_beyond_a_cell(ends):
    connection, peer = ends
    peer.sendall(cell(b"one") + cell(b"two")[:60])
    assert connection.recv_bytes() == b"one"
    assert connection.poll(SHORT)  # As in multiprocessing: something is there.
    peer.sendall(cell(b"two")[60:])
    assert connection.recv_bytes() == b"two"
    assert not connection.poll()


def test_a_negative_length_closes_the_connection(ends):
    connection, peer = ends
    peer.sendall(struct.pack("!i", -5))
    with pytest.raises(OSError, match="got -5"):
        connection.recv_bytes()
    assert connection.closed


def test_a_long_head_in_a_cell_is_understood(ends):
    connection, peer = ends
    peer.sendall((struct.pack("!iQ", -1, 5) + b"after").ljust(128, b"\0") + cell(b"next"))
    assert connection.recv_bytes() == b"after"
    assert connection.recv_bytes() == b"next"


def test_a_huge_length_in_a_cell_takes_no_memory(ends):
    connection, peer = ends
    peer.sendall(struct.pack("!iQ", -1, 2**62).ljust(128, b"x"))
    peer.close()
    with pytest.raises(OSError, match="got end of file during message"):
        connection.recv_bytes()


def test_a_buffer_too_small_for_what_came_with_the_head_gets_nothing(ends):
    connection, peer = ends
    peer.sendall(cell(b"0123456789"))
    place = bytearray(b"-" * 5)
    with pytest.raises(multiprocessing.BufferTooShort) as refusal:
        connection.recv_bytes_into(place)
    assert refusal.value.args == (b"0123456789",)
    assert place == b"-----"


def test_a_message_longer_than_the_maximum_is_refused_whatever_came_with_its_head(ends):
    connection, peer = ends
    peer.sendall(cell(b"0123456789"))
    with pytest.raises(OSError, match="bad message length"):
        connection.recv_bytes(9)
    assert not connection.readable
