"""Pickles that travel through connections: written and read natively where they are plain, by the
pickle module otherwise, and with large buffers beside them."""

import gc
import io
import multiprocessing.connection
import multiprocessing.pool
import pickle
import random
import socket
import struct
import sys

import numpy as np
import pytest
from ductworks.connection import Connection, Pipe
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support import examples, is_harmless

ATOMS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=300)
    | st.binary(max_size=300)
)
PLAIN = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.lists(inner, max_size=6).map(tuple)
        | st.dictionaries(st.text(max_size=20) | st.integers(), inner, max_size=6)
    ),
    max_leaves=30,
)


@pytest.fixture
def ends():
    a, b = Pipe()
    with a, b:
        yield a, b


@pytest.fixture(scope="module")
def shared_ends():
    a, b = Pipe()
    with a, b:
        yield a, b


def same(left, right, compared=None):
    """Whether two values are equal, and of the same types all through; they may hold themselves."""
    compared = {} if compared is None else compared
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return same(list(left.items()), list(right.items()), compared)
    if isinstance(left, (list, tuple)):
        if len(left) != len(right):
            return False
        if (id(left), id(right)) in compared:
            return True
        compared[id(left), id(right)] = left, right  # Alive, so that the numbers stay theirs.
        return all(same(*each, compared) for each in zip(left, right))
    return left == right or left != left


def test_values_that_contain_themselves_can_be_compared():
    loops = []
    for last in (1, 1, 2):
        loop = [[], {}]
        loop[0].append(loop)
        loop[1]["last"] = (loop, last)
        loops.append(loop)
    one, alike, other = loops
    assert same(one, alike)
    assert not same(one, other)


@settings(max_examples=examples(150))
@given(value=PLAIN)
def test_what_is_sent_is_a_pickle_of_the_value(shared_ends, value):
    a, b = shared_ends
    a.send(value)
    assert same(pickle.loads(b.recv_bytes()), value)


@settings(max_examples=examples(150))
@given(value=PLAIN, protocol=st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_every_pickle_of_a_value_is_received_as_the_value(shared_ends, value, protocol):
    a, b = shared_ends
    a.send_bytes(pickle.dumps(value, protocol))
    assert same(b.recv(), value)


def outcome(load):
    try:
        return load()
    except Exception as error:
        return type(error)


@pytest.mark.parametrize(
    ("damaged", "expected"),
    [
        (b"\x80\x04Nr\xe8\x03\x00\x00.", True),
        (b"\x80\x04Nr\xe9\x03\x00\x00.", False),
        (b"\x80\x04Np1001\n.", False),
        (b"\x80\x04cos\nsystem\n.", False),
        (b"\x80\x04X\x05\x00\x00\x00r\xff\xff\xff\x30.", True),
        (b"\x80\x04Nr\xff\xff\xff\x30" + b"\xff", False),
        (b"\x80\x04\xffr\xff\xff\xff\x30.", True),
    ],
)
def test_pickles_that_are_too_much_for_the_pickle_module_are_known(damaged, expected):
    assert is_harmless(damaged) == expected


@settings(max_examples=examples(80))
@given(value=PLAIN, data=st.data())
def test_a_damaged_pickle_means_what_the_pickle_module_says(shared_ends, value, data):
    a, b = shared_ends
    damaged = bytearray(pickle.dumps(value, protocol=4))
    place = data.draw(st.integers(0, len(damaged) - 1))
    damaged[place] = data.draw(st.integers(0, 255))
    assume(damaged[0] != 0xFF)  # A pickle with buffers: see below.
    assume(is_harmless(damaged))
    a.send_bytes(damaged)
    received, expected = outcome(b.recv), outcome(lambda: pickle.loads(damaged))
    assert same(received, expected)


@pytest.mark.parametrize(
    "damaged",
    [
        b"\x80\x04]((K\x01ee.",  # APPENDS to a list below a mark
        b"\x80\x04](K\x01ae.",  # APPEND
        b"\x80\x04}((K\x01K\x02uu.",  # SETITEMS
        b"\x80\x04}(K\x01K\x02su.",  # SETITEM
        b"\x80\x04](\x94e.",  # MEMOIZE
        b"\x80\x04K\x01(\x85.",  # TUPLE1
        b"\x80\x04](.",  # STOP
    ],
)
def test_an_opcode_that_reaches_below_a_mark_is_refused_as_the_pickle_module_does(ends, damaged):
    a, b = ends
    a.send_bytes(damaged)
    with pytest.raises(pickle.UnpicklingError) as expected:
        pickle.loads(damaged)
    with pytest.raises(pickle.UnpicklingError) as received:
        b.recv()
    assert str(received.value) == str(expected.value)


@settings(max_examples=examples(100))
@given(rubbish=st.binary(max_size=60))
def test_rubbish_is_refused_and_the_connection_goes_on(shared_ends, rubbish):
    a, b = shared_ends
    message = b"\x80\x05" + rubbish
    assume(is_harmless(message))
    a.send_bytes(message)
    outcome(b.recv)
    a.send("next")
    assert b.recv() == "next"


def test_an_object_that_is_referred_to_twice_arrives_as_one(ends):
    a, b = ends
    inner = [1]
    for value in ([inner, inner], {"a": inner, "b": inner}, ((inner,), inner)):
        a.send(value)
        received = b.recv()
        items = list(received.values()) if isinstance(received, dict) else list(received)
        first = items[0][0] if isinstance(items[0], tuple) else items[0]
        assert first is items[1]


def test_an_object_that_contains_itself_arrives_so(ends):
    a, b = ends
    loop = []
    loop.append(loop)
    a.send(loop)
    received = b.recv()
    assert received[0] is received


def test_subclasses_of_plain_types_keep_their_class(ends):
    a, b = ends
    for value in (Number(5), Text("five"), {"key": Number(1)}, [Text("x")]):
        a.send(value)
        received = b.recv()
        assert same(received, value)


class Number(int):
    pass


class Text(str):
    pass


def test_text_with_lone_surrogates_crosses(ends):
    a, b = ends
    a.send("\ud800")
    assert b.recv() == "\ud800"


def test_nan_and_infinities_cross(ends):
    a, b = ends
    a.send([float("nan"), float("inf"), -0.0])
    nan, infinity, zero = b.recv()
    assert nan != nan
    assert infinity == float("inf")
    assert struct.pack("d", zero) == struct.pack("d", -0.0)


# Buffers beside the pickle


@pytest.mark.parametrize("size", [1, 16 * 1024 - 8, 16 * 1024, 100_000, 3_000_000])
def test_an_array_arrives_whole_writable_and_by_itself(ends, size):
    a, b = ends
    array = np.frombuffer(random.Random(size).randbytes(size), dtype=np.uint8).copy()
    copy = array.copy()
    with multiprocessing.pool.ThreadPool(1) as pool:
        received = pool.apply_async(b.recv)
        a.send(array)
        array[:] = 0  # It belongs to the caller again.
        received = received.get(20)
    assert (received == copy).all()
    received[0] ^= 1
    assert received.flags.writeable


def test_several_arrays_and_the_rest_of_a_value_cross_together(ends):
    a, b = ends
    value = {
        "points": np.arange(30_000, dtype=np.float64),
        "name": "several",
        "mask": np.zeros(100_001, dtype=bool),
        "complex": np.ones((50, 500), dtype=np.complex128),
        "small": np.arange(3),
    }
    with multiprocessing.pool.ThreadPool(1) as pool:
        received = pool.apply_async(b.recv)
        a.send(value)
        received = received.get(20)
    assert list(received) == list(value)
    for key, array in value.items():
        assert np.array_equal(received[key], array), key
        if isinstance(array, np.ndarray):
            assert received[key].dtype == array.dtype
            assert received[key].flags.aligned


def test_a_read_only_buffer_arrives_read_only(ends):
    a, b = ends
    array = np.arange(20_000)
    array.flags.writeable = False
    a.send(array)
    received = b.recv()
    assert not received.flags.writeable
    assert np.array_equal(received, array)


def test_an_array_with_gaps_crosses(ends):
    a, b = ends
    array = np.arange(40_000).reshape(200, 200)[:, ::2]
    a.send(array)
    assert np.array_equal(b.recv(), array)


def test_the_buffers_lie_beside_the_pickle_and_are_not_copied_into_it(ends):
    a, b = ends
    array = np.frombuffer(bytes(range(256)) * 100, dtype=np.uint8)
    a.send(array)
    message = b.recv_bytes()
    kind, version, reserved, count = struct.unpack_from("!BBHI", message)
    assert (kind, version, reserved, count) == (0xFF, 1, 0, 1)
    pickle_len, buffer_len = struct.unpack_from("!2Q", message, 8)
    assert buffer_len == array.nbytes
    assert pickle_len < 500
    start = -(-(24 + pickle_len) // 16) * 16
    assert message[start:] == array.tobytes()


def test_a_connection_to_somebody_unknown_gets_ordinary_pickles():
    ours, theirs = socket.socketpair()
    with Connection(ours.detach()) as connection:
        peer = multiprocessing.connection.Connection(theirs.detach())
        array = np.arange(9000)
        connection.send(array)
        assert np.array_equal(peer.recv(), array)
        peer.send(array)
        assert np.array_equal(connection.recv(), array)
        peer.close()


def damaged_heads():
    whole = io.BytesIO()
    whole.write(struct.pack("!BBHIQQ", 0xFF, 1, 0, 1, 4, 16))
    good = whole.getvalue() + pickle.dumps(None, 2) + bytes(4) + bytes(16)
    yield good[:7]
    yield good[:20]
    yield good + b"x"
    yield good[:-1]
    yield b"\xff\x02" + good[2:]
    yield good[:2] + b"\x00\x01" + good[4:]
    yield struct.pack("!BBHI", 0xFF, 1, 0, 0xFFFFFFFF)
    yield struct.pack("!BBHIQQ", 0xFF, 1, 0, 1, 2**64 - 1, 2**64 - 1)
    yield struct.pack("!BBHIQQ", 0xFF, 1, 0, 1, 0, 2**63)


@pytest.mark.parametrize("message", list(damaged_heads()))
def test_a_damaged_pickle_with_buffers_is_refused_and_the_connection_goes_on(ends, message):
    a, b = ends
    a.send_bytes(message)
    with pytest.raises(pickle.UnpicklingError, match="lengths in its head"):
        b.recv()
    a.send("next")
    assert b.recv() == "next"


def test_large_bytes_are_sent_without_a_copy_in_the_pickle(ends):
    a, b = ends
    payload = random.Random(1).randbytes(5_000_000)
    with multiprocessing.pool.ThreadPool(1) as pool:
        received = pool.apply_async(b.recv)
        a.send({"payload": payload, "text": "t" * 200_000})
        assert received.get(20) == {"payload": payload, "text": "t" * 200_000}


@pytest.mark.parametrize(
    "value",
    [(1, "x"), b"y" * 20_000, [np.zeros(5000), np.ones(9000)], Text("x")],
    ids=["plain", "bytes", "arrays", "object"],
)
def test_nothing_is_left_of_messages_that_are_gone(ends, value):
    a, b = ends

    def blocks_of(messages):
        for _ in range(messages):
            a.send(value)
            b.recv()
        gc.collect()
        return sys.getallocatedblocks()

    before = blocks_of(100)
    assert blocks_of(1000) - before < 500
