"""The bytes that travel, with a plain socket at the other end."""

import contextlib
import json
import socket

import pytest
from ductworks.message_duct import RemoteDuctClosed
from hypothesis import given, settings
from hypothesis import strategies as st
from support import (
    RAW,
    SHORT,
    TRANSPORTS,
    Background,
    eventually,
    examples,
    frame,
    read_exactly,
    read_frame,
    read_to_end,
    unread_bytes,
    wired,
)

messages = st.lists(st.binary(max_size=300), max_size=8)


@pytest.mark.parametrize(
    ("message", "wire"),
    [
        ("hello world", b"T\x00\x00\x00\x0d" + b'"hello world"'),
        (None, b"T\x00\x00\x00\x04null"),
        ({"a": [1, 2.5]}, b"T\x00\x00\x00\x0f" + b'{"a": [1, 2.5]}'),
        ("\u00e9", b"T\x00\x00\x00\x08" + b'"\\u00e9"'),
    ],
)
def test_a_message_is_a_magic_byte_a_length_and_json(make_wire, role, message, wire):
    duct, peer = make_wire(role)
    duct.send(message)
    assert read_exactly(peer, len(wire)) == wire
    peer.sendall(wire)
    assert duct.recv() == message


@pytest.mark.parametrize("size", [0, 1, 255, 256, 65535, 65536, 1 << 20])
def test_the_length_is_big_endian_and_counts_the_payload_only(make_wire, size):
    duct, peer = make_wire(**RAW)
    sender = Background(duct.send, bytes(size))
    assert read_exactly(peer, 5) == b"\x54" + size.to_bytes(4, "big")
    assert read_exactly(peer, size) == bytes(size)
    sender.result()


def test_nothing_but_frames_ever_travels(make_wire, role):
    duct, peer = make_wire(role, timeout=SHORT)
    assert duct.poll(0) is False
    with pytest.raises(socket.timeout):
        duct.recv()
    duct.send("only this")
    duct.close()
    assert read_to_end(peer) == frame(b'"only this"')


def test_every_json_text_of_a_peer_is_understood_not_only_our_own_spelling(make_wire):
    duct, peer = make_wire()
    text = ' { "snow\u2603" : [ 1e3 , "\\u2603" ] , "twice": 1, "twice": 2 }\n'
    peer.sendall(frame(text.encode()))
    assert duct.recv() == json.loads(text)


@pytest.fixture(scope="module", params=["unix", "tcp"])
def lasting_wire(request):
    """One wire for many examples, of which each leaves nothing behind."""
    duct, peer = wired(TRANSPORTS[request.param], **RAW)
    yield duct, peer
    duct.close()
    peer.close()


@settings(max_examples=examples(150))
@given(sent=messages, data=st.data())
def test_every_split_of_a_stream_into_writes_decodes_alike(lasting_wire, sent, data):
    duct, peer = lasting_wire
    stream = b"".join(map(frame, sent))
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=12).map(sorted))
    edges = [0, *cuts, len(stream)]

    def write():
        for start, end in zip(edges, edges[1:]):
            peer.sendall(stream[start:end])

    writer = Background(write)
    assert [duct.recv() for _ in sent] == sent
    writer.result()
    assert duct.poll(0) is False


@settings(max_examples=examples(40))
@given(sent=messages, data=st.data())
def test_every_split_decodes_alike_when_recv_times_out_at_each_cut(sent, data):
    duct, peer = wired(TRANSPORTS["unix"], timeout=0.005, **RAW)
    stream = b"".join(map(frame, sent))
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=6).map(sorted))
    edges = [0, *cuts, len(stream)]
    received = []
    for start, end in zip(edges, edges[1:]):
        peer.sendall(stream[start:end])
        with contextlib.suppress(socket.timeout):
            while True:
                received.append(duct.recv())
    assert received == sent
    peer.close()
    with pytest.raises(RemoteDuctClosed):
        duct.recv()
    duct.close()


@settings(max_examples=examples(100))
@given(sent=messages)
def test_what_is_sent_is_framed_in_order(lasting_wire, sent):
    duct, peer = lasting_wire
    for message in sent:
        duct.send(message)
    assert [read_frame(peer) for _ in sent] == sent


@settings(max_examples=examples(60))
@given(sent=messages)
def test_recv_never_reads_past_the_current_message(lasting_wire, sent):
    duct, peer = lasting_wire
    peer.sendall(b"".join(map(frame, sent)))
    left = sum(5 + len(message) for message in sent)
    for message in sent:
        eventually(lambda left=left: unread_bytes(duct) == left, "the stream")
        assert duct.recv() == message
        left -= 5 + len(message)
    assert unread_bytes(duct) == 0
