"""serialize and deserialize take any callables."""

import contextlib
import marshal
import pickle

import pytest
from ductworks.base_duct import NotConnectedException
from ductworks.message_duct import (
    create_psuedo_anonymous_duct_pair,
    default_deserializer,
    default_serializer,
    serializer_with_encoder_constructor,
)
from support import (
    SHORT,
    Background,
    eventually,
    frame,
    read_frame,
    wait_until_blocked,
)


@pytest.mark.parametrize("module", [pickle, marshal])
def test_other_serializers_of_python_fit(module):
    parent, child = create_psuedo_anonymous_duct_pair(module.dumps, module.loads)
    message = {"bytes": b"\x00\xff", "tuple": (1, 2), "set": {3}, "complex": 1j}
    parent.send(message)
    assert child.recv() == message
    parent.close()
    child.close()


def test_a_deserializer_gets_a_bytearray_of_its_own(make_wire):
    duct, peer = make_wire(deserialize=lambda payload: payload)
    peer.sendall(frame(b"one") + frame(b"two"))
    first, second = duct.recv(), duct.recv()
    assert (type(first), type(second)) == (bytearray, bytearray)
    assert (first, second) == (b"one", b"two")


def test_serializers_may_be_replaced_later(make_wire):
    duct, peer = make_wire()
    duct.serialize, duct.deserialize = pickle.dumps, pickle.loads
    duct.send({1, 2})
    assert pickle.loads(read_frame(peer)) == {1, 2}
    peer.sendall(frame(pickle.dumps({3})))
    assert duct.recv() == {3}


def test_the_default_serializers_are_callables_of_their_own():
    assert default_serializer({"a": "\u2603"}) == b'{"a": "\\u2603"}'
    assert default_deserializer(bytearray(b'{"a": "\xe2\x98\x83"}')) == {"a": "\u2603"}


def test_the_serializer_constructors_take_any_encoding_and_error_mode(make_wire):
    import ductworks.message_duct as module

    decoder_constructor = (
        getattr(module, "deserializer_with_decoder_constructor", None)
        or module.deserializer_with_encoder_constructor
    )
    encode = serializer_with_encoder_constructor(str.upper, "utf-16-le")
    assert encode("abc") == "ABC".encode("utf-16-le")
    with pytest.raises(UnicodeEncodeError):
        serializer_with_encoder_constructor(str, "ascii")("\u2603")
    assert serializer_with_encoder_constructor(str, "ascii", "replace")("\u2603") == b"?"
    decode = decoder_constructor(str.lower, "utf-16-le")
    assert decode("ABC".encode("utf-16-le")) == "abc"
    assert decoder_constructor(str)(b"\xff") == "\ufffd"
    with pytest.raises(UnicodeDecodeError):
        decoder_constructor(str, "utf-8", "strict")(b"\xff")
    duct, peer = make_wire(serialize=encode, deserialize=decode)
    duct.send("abc")
    assert read_frame(peer) == "ABC".encode("utf-16-le")
    peer.sendall(frame("XYZ".encode("utf-16-le")))
    assert duct.recv() == "xyz"


def test_serializers_may_use_the_duct_themselves(make_wire):
    def acknowledge(payload):
        duct.send("got it")
        return bytes(payload)

    duct, peer = make_wire(deserialize=acknowledge)
    peer.sendall(frame(b"question"))
    assert duct.recv() == b"question"
    assert read_frame(peer) == b'"got it"'

    def close_first(payload):
        duct.close()
        return b"too late"

    duct.serialize = close_first
    with pytest.raises(NotConnectedException):
        duct.send("x")
    assert peer.recv(1) == b""


def test_a_deserializer_may_receive_the_next_message_itself(make_wire):
    def join_with_next(payload):
        return payload + duct.recv() if payload.endswith(b",") else payload

    duct, peer = make_wire(deserialize=join_with_next)
    peer.sendall(frame(b"a,") + frame(b"b,") + frame(b"c") + frame(b"d"))
    assert duct.recv() == b"a,b,c"
    assert duct.recv() == b"d"


def test_what_was_sent_may_be_changed_afterwards(make_wire):
    duct, peer = make_wire(small_buffers=True, timeout=SHORT, serialize=lambda data: data)
    data = bytearray(b"a" * 2_000_000)
    duct.send(data)
    data[:] = b"b"
    reader = Background(read_frame, peer)
    eventually(lambda: duct.poll(0) or not reader.is_alive(), "the rest")
    assert reader.result() == b"a" * 2_000_000


def test_what_is_being_sent_cannot_be_changed_under_way(make_wire):
    duct, peer = make_wire(small_buffers=True, serialize=lambda data: data)
    data = bytearray(b"a" * 2_000_000)
    sender = Background(duct.send, data)
    wait_until_blocked(sender)
    with contextlib.suppress(BufferError):  # Either it is locked, or what is sent is a copy.
        data[:] = b"b"
        data.clear()
    reader = Background(read_frame, peer)
    sender.result()
    assert reader.result() == b"a" * 2_000_000
