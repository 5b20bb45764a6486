"""Messages are encoded and decoded as json.dumps and json.loads would do it: values and errors."""

import collections
import enum
import json
import math
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import TRANSPORTS, Background, examples, frame, read_frame, wired

keys = st.one_of(st.text(), st.integers(), st.floats(), st.booleans(), st.none())
any_text = st.text(alphabet=st.characters(exclude_categories=()), max_size=30)
leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-(10**60), 10**60), st.floats(), any_text
)
documents = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(keys | any_text, inner, max_size=5),
    ),
    max_leaves=25,
)
DAMAGE = [b"", b'"', b"[", b"}", b",", b":", b"\\", b"\xff", b"\x00", b"-", b"1e", b"\n"]
plain_documents = st.recursive(
    leaves, lambda inner: st.lists(inner) | st.dictionaries(any_text, inner), max_leaves=25
)


def outcome(call):
    """What a call did, so that two calls can be compared; repr tells 1 from 1.0 and keeps nan."""
    try:
        return "value", repr(call())
    except Exception as error:
        return "error", type(error), str(error)


@pytest.fixture(scope="module")
def wire():
    """One wire for many examples, of which each leaves nothing behind."""
    duct, peer = wired(TRANSPORTS["unix"])
    yield duct, peer
    duct.close()
    peer.close()


def assert_encodes_as_json(wire, document):
    duct, peer = wire
    expected = outcome(lambda: json.dumps(document).encode("utf-8"))

    def send_and_read():
        sender = Background(duct.send, document)
        reader = Background(read_frame, peer) if expected[0] == "value" else None
        sender.result()
        return reader.result() if reader else None

    assert outcome(send_and_read) == expected


def assert_decodes_as_json(wire, payload):
    duct, peer = wire
    writer = Background(peer.sendall, frame(payload))
    received = outcome(duct.recv)
    writer.result()
    assert received == outcome(lambda: json.loads(payload.decode("utf-8")))
    # Whatever it was, it has been consumed, and the duct goes on.
    peer.sendall(frame(b'"next"'))
    assert duct.recv() == "next"


@settings(max_examples=examples(100))
@given(document=documents)
def test_the_bytes_on_the_wire_are_those_of_json_dumps(wire, document):
    assert_encodes_as_json(wire, document)


@settings(max_examples=examples(100))
@given(document=plain_documents, indent=st.none() | st.integers(0, 2), ascii_only=st.booleans())
def test_documents_are_decoded_as_by_json_loads(wire, document, indent, ascii_only):
    text = json.dumps(document, indent=indent, ensure_ascii=ascii_only)
    assert_decodes_as_json(wire, text.encode("utf-8", "surrogatepass"))


@settings(max_examples=examples(100))
@given(document=plain_documents, data=st.data())
def test_damaged_documents_fail_as_in_json_loads(wire, document, data):
    text = json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")
    place = data.draw(st.integers(0, len(text)))
    removed = data.draw(st.integers(0, 2))
    put = data.draw(
        st.sampled_from(
            [b"", b'"', b"[", b"}", b",", b":", b"\\", b"\xff", b"\x00", b"-", b"1e", b"\n"]
        )
    )
    assert_decodes_as_json(wire, text[:place] + put + text[place + removed :])


@settings(max_examples=examples(80))
@given(payload=st.binary(max_size=40) | any_text.map(lambda text: text.encode("utf-8", "ignore")))
def test_any_bytes_are_decoded_or_refused_as_by_json_loads(wire, payload):
    assert_decodes_as_json(wire, payload)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b" ",
        b"\xef\xbb\xbf1",
        b"NaN",
        b"-Infinity",
        b"-0",
        b"-0.0",
        b"1e400",
        b"0.1e-400",
        b"01",
        b"1.",
        b".5",
        b"+1",
        b"nan",
        b"True",
        b"'single'",
        b"18446744073709551616",
        b"-9223372036854775809",
        b"9" * 4000,
        b"9" * 5000,
        b"3.14159265358979323846264338327950288",
        b'"\\ud800"',
        b'"\\ud83d\\ude00"',
        b'"\\ude00\\ud83d"',
        b'"\\u00"',
        b'"\\x"',
        b'"tab\there"',
        b'"\x7f\xc2\x80"',
        b'"\xed\xa0\x80"',
        b'{"a":1,"a":2}',
        b'{"a" 1}',
        b"{1: 2}",
        b"[1,]",
        b"[1 2]",
        b"1 2",
        b"[" * 400 + b"]" * 400,
        b"/**/1",
    ],
    ids=lambda payload: ascii(payload[:24]),
)
def test_every_corner_of_the_grammar_is_decoded_as_by_json_loads(wire, payload):
    assert_decodes_as_json(wire, payload)


class Number(enum.IntEnum):
    ONE = 1


class Text(str):
    def __str__(self):
        return "not this"


class Whole(int):
    def __repr__(self):
        return "not this"


class Real(float):
    def __repr__(self):
        return "not this"


class Listed(list):
    pass


Point = collections.namedtuple("Point", "x y")


@pytest.mark.parametrize(
    "document",
    [
        Number.ONE,
        Text("text"),
        Whole(3),
        Real(0.5),
        True,
        Listed([1]),
        Point(1, 2),
        collections.OrderedDict(b=1, a=2),
        collections.defaultdict(int, a=1),
        {Number.ONE: 1, Text("t"): 2, Whole(7): 3, Real(0.25): 4, None: 5, True: 6, 1.5: 7},
        {1: "int", "1": "text"},
        {math.nan: 1, math.inf: 2},
        -0.0,
        1e16,
        1e22,
        5e-324,
        1.7976931348623157e308,
        math.nan,
        -math.inf,
        10**25,
        -(2**63),
        2**64,
        '\u2028\x00\x1f\x7f"\\/',
        "\ud800",
        "\U0001f600",
        "",
        [],
        (),
        {},
        10**4400,
        {1, 2},
        b"bytes",
        bytearray(b"bytes"),
        1j,
        object,
        range(3),
        {(1, 2): 3},
        {b"key": 1},
        [1, [2, {3}]],
    ],
    ids=lambda document: ascii(type(document).__name__),
)
def test_every_kind_of_python_value_is_encoded_as_by_json_dumps(wire, document):
    assert_encodes_as_json(wire, document)


def test_circular_documents_are_refused_as_by_json_dumps(wire):
    circular = []
    circular.append({"again": circular})
    assert_encodes_as_json(wire, circular)
    endless = {}
    endless["again"] = endless
    assert_encodes_as_json(wire, endless)


def test_the_same_object_twice_is_not_a_circle(wire):
    shared = [1]
    assert_encodes_as_json(wire, {"a": shared, "b": shared, "c": [shared, shared]})


def test_nesting_without_end_is_a_recursion_error_in_both_directions(wire):
    duct, peer = wire
    deep = []
    for _ in range(200_000):
        deep = [deep]
    with pytest.raises(RecursionError):
        duct.send(deep)
    Background(peer.sendall, frame(b"[" * 200_000 + b"]" * 200_000))
    with pytest.raises(RecursionError):
        duct.recv()
    peer.sendall(frame(b"1"))
    assert duct.recv() == 1
    while deep:
        deep = deep.pop()


def test_a_document_that_another_thread_changes_is_sent_whole_or_refused(wire):
    duct, peer = wire
    document = {str(number): [number] for number in range(50)}
    done = threading.Event()

    def change():
        number = 0
        while not done.is_set():
            document[f"new {number % 50}"] = [number]
            document.pop(f"new {(number + 25) % 50}", None)
            number += 1

    changer = Background(change)
    for _ in range(200):
        try:
            duct.send(document)
        except RuntimeError:
            continue  # "dictionary changed size during iteration", as in json.dumps
        assert isinstance(json.loads(read_frame(peer)), dict)
    done.set()
    changer.result()
