"""Codecs of modern ducts: by name, as callables, as objects, and for known types."""

import dataclasses
import datetime
import decimal
import enum
import json
import math
import multiprocessing
import multiprocessing.pool
import pickle
import subprocess
import sys
import uuid

import cbor2
import ductworks
import msgspec
import numpy as np
import pytest
from ductworks import codecs
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support import examples, is_harmless, stable_repr

PATIENCE = 20

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=40),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=9), inner, max_size=5)
    ),
    max_leaves=20,
)


def through(value, *arguments, **options):
    """What arrives of a value."""
    a, b = ductworks.pair(*arguments, **options)
    with a, b:
        a.send(value)
        return b.recv(PATIENCE)


# By name


@pytest.mark.parametrize("codec", ["json", "msgpack", "cbor", "pickle"])
@settings(max_examples=examples(60))
@given(value=VALUES)
def test_common_values_cross_every_codec(codec, value):
    assert through(value, codec) == value


def test_raw_ducts_carry_bytes():
    for data in (b"", b"bytes", bytearray(b"array"), memoryview(b"view"), np.arange(4)):
        received = through(data, "raw")
        assert type(received) is bytes
        assert received == bytes(data)
    with pytest.raises(TypeError, match=r"raw duct sends bytes.*not str"):
        through("text", "raw")


def test_what_is_particular_to_each_codec():
    assert through((1, 2), "json") == [1, 2]
    assert through({1: "x"}, "json") == {"1": "x"}
    assert through(2**100, "json") == 2**100
    assert through(b"bytes", "msgpack") == b"bytes"
    assert through({1: "x"}, "cbor") == {1: "x"}
    assert through(2**100, "cbor") == 2**100
    moment = datetime.datetime(2026, 11, 23, tzinfo=datetime.timezone.utc)
    assert through(moment, "msgpack") == moment
    assert through(moment, "cbor") == moment
    assert through((1, {2, 3}), "pickle") == (1, {2, 3})
    with pytest.raises(OverflowError):
        through(2**100, "msgpack")


@pytest.mark.parametrize(
    ("codec", "wire"),
    [
        ("json", json.dumps({"a": [1, None]}).encode()),
        ("msgpack", msgspec.msgpack.encode({"a": [1, None]})),
        ("cbor", cbor2.dumps({"a": [1, None]})),
    ],
)
def test_the_messages_are_those_of_the_format(codec, wire):
    a, b = ductworks.pair(codec)
    with a, b:
        a.send({"a": [1, None]})
        assert b.recv_bytes() == wire
        b.send_bytes(wire)
        assert a.recv() == {"a": [1, None]}
        assert a.codec == codec or a.codec.name == codec
        assert codec in repr(a)


@pytest.mark.parametrize("codec", ["json", "msgpack", "cbor", "pickle"])
@settings(max_examples=examples(100))
@given(rubbish=st.binary(max_size=60))
def test_rubbish_is_refused_or_decoded_and_the_duct_goes_on(codec, rubbish):
    assume(codec != "pickle" or is_harmless(rubbish))
    a, b = ductworks.pair(codec)
    with a, b:
        a.send_bytes(rubbish)
        refused = () if codec == "pickle" else (EOFError, OSError)
        try:
            b.recv()
        except refused:
            pytest.fail("a message of rubbish looked like an end")
        except Exception:
            pass
        a.send("next")
        assert b.recv() == "next"


def test_only_a_duct_that_asks_for_it_unpickles():
    bomb = pickle.dumps(ValueError("unpickled"))
    for codec in ("json", "msgpack", "cbor", "raw"):
        a, b = ductworks.pair(codec)
        with a, b:
            a.send_bytes(bomb)
            if codec == "raw":
                assert b.recv() == bomb
            else:
                # That it happens to be no JSON, MessagePack or CBOR is another matter.
                with pytest.raises(ValueError, match=r"^(?!unpickled$)"):
                    raise b.recv()


def test_arrays_cross_a_pickle_duct_without_a_copy_in_the_pickle():
    a, b = ductworks.pair("pickle")
    array = np.arange(50_000, dtype=np.float64)
    with a, b:
        with multiprocessing.pool.ThreadPool(1) as pool:
            received = pool.apply_async(b.recv)
            a.send({"array": array})
            received = received.get(PATIENCE)["array"]
        assert (received == array).all()
        received[0] = -1  # It is writable, and nobody else's.
        assert array[0] == 0
        a.send({"array": array[:10_000]})
        assert b.recv_bytes()[0] == 0xFF


# Callables and objects


def test_a_pair_of_callables_is_a_codec():
    assert through({1, 2}, (pickle.dumps, pickle.loads)) == {1, 2}
    assert through("text", (str.encode, bytes.decode)) == "text"


class Upper:
    def encode(self, value):
        return bytearray(value.upper().encode())

    def decode(self, data):
        assert type(data) is bytes
        return data.decode()


def test_an_object_with_encode_and_decode_is_a_codec():
    assert through("text", Upper()) == "TEXT"
    codec = Upper()
    a, b = ductworks.pair(codec)
    with a, b:
        assert a.codec is codec
        assert "Upper" in repr(a)


def test_what_a_codec_raises_comes_through_and_leaves_the_duct_usable():
    class Failing(Upper):
        failing = True

        def encode(self, value):
            if self.failing:
                raise LookupError("encode")
            return super().encode(value)

        def decode(self, data):
            if self.failing:
                raise LookupError("decode")
            return super().decode(data)

    codec = Failing()
    a, b = ductworks.pair(codec)
    with a, b:
        with pytest.raises(LookupError, match="encode"):
            a.send("x")
        a.send_bytes(b"x")
        with pytest.raises(LookupError, match="decode"):
            b.recv()
        codec.failing = False
        a.send("next")
        assert b.recv() == "NEXT"


def test_a_codec_must_encode_to_bytes():
    with pytest.raises(TypeError, match=r"encode\(\) returns must be bytes.*not str"):
        through("x", (lambda value: value, bytes.decode))


def test_what_is_no_codec_is_refused():
    with pytest.raises(ValueError, match="unknown codec 'yaml': expected one of json, msgpack"):
        ductworks.pair("yaml")
    for wrong in (5, None, (len,), (len, 5), object()):
        with pytest.raises(TypeError, match=r"expected a (codec|pair of callables)"):
            ductworks.pair(wrong)


def test_a_class_in_the_place_of_a_codec_is_refused_with_a_hint():
    with pytest.raises(TypeError, match="call it"):
        ductworks.pair(Upper)
    with pytest.raises(TypeError, match="goes into type="):
        ductworks.pair(int)


def test_a_missing_library_is_named_when_the_codec_is_asked_for():
    program = """
import sys
for missing in ("msgspec", "cbor2", "pydantic"):
    sys.modules[missing] = None
import ductworks
for codec, options, extra in (
    ("msgpack", {}, "msgpack"), ("cbor", {}, "cbor"), ("json", {"type": int}, "typed"),
):
    try:
        ductworks.pair(codec, **options)
    except ImportError as error:
        assert f"pip install 'ductworks[{extra}]'" in str(error), error
    else:
        raise SystemExit(f"{codec} did not miss its library")
a, b = ductworks.pair()
a.send(1)
assert b.recv() == 1
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=PATIENCE)


def test_importing_the_package_imports_no_third_party_library():
    program = """
import sys, ductworks
found = {"msgspec", "cbor2", "pydantic", "numpy", "orjson", "msgpack"} & set(sys.modules)
raise SystemExit(f"imported {found}" if found else 0)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=PATIENCE)


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Record:
    x: int = 1


ZONE = datetime.timezone(datetime.timedelta(hours=1))
MOMENT = datetime.datetime(2026, 1, 2, 3, 4, 5, 6, ZONE)
PLAIN = [None, True, 2**63, -(2**63), 1.5, "text", [1], {"a": 1}]
REFUSED = (TypeError, ValueError, OverflowError)


@pytest.mark.parametrize(
    ("value", "json", "msgpack", "cbor"),
    [
        (PLAIN, PLAIN, PLAIN, PLAIN),
        (2**64, 2**64, REFUSED, 2**64),
        (math.inf, math.inf, math.inf, math.inf),
        ("\ud800", "\ud800", REFUSED, REFUSED),
        (b"\xff", REFUSED, b"\xff", b"\xff"),
        (bytearray(b"\xff"), REFUSED, b"\xff", b"\xff"),
        ((1, 2), [1, 2], [1, 2], [1, 2]),
        ({1, 2}, REFUSED, [1, 2], {1, 2}),
        ({1: 2}, {"1": 2}, {1: 2}, {1: 2}),
        (MOMENT, REFUSED, MOMENT.astimezone(datetime.timezone.utc), MOMENT),
        (MOMENT.replace(tzinfo=None), REFUSED, "2026-01-02T03:04:05.000006", REFUSED),
        (MOMENT.date(), REFUSED, "2026-01-02", MOMENT.date()),
        (decimal.Decimal("1.50"), REFUSED, "1.50", decimal.Decimal("1.50")),
        (uuid.UUID(int=1), REFUSED, str(uuid.UUID(int=1)), uuid.UUID(int=1)),
        (Colour.RED, REFUSED, "red", REFUSED),
        (Record(), REFUSED, {"x": 1}, REFUSED),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_the_table_of_what_survives(value, json, msgpack, cbor):
    expected = {"json": json, "msgpack": msgpack, "cbor": cbor, "pickle": value}
    for codec, arrived in expected.items():
        if arrived is REFUSED:
            with pytest.raises(REFUSED):
                through(value, codec)
        else:
            received = through(value, codec)
            assert received == arrived
            assert type(received) is type(arrived)
            if isinstance(value, datetime.datetime) and type(arrived) is type(value):
                assert received.utcoffset() == arrived.utcoffset()


def test_not_a_number_survives_everywhere():
    for codec in ("json", "msgpack", "cbor", "pickle"):
        assert math.isnan(through(math.nan, codec))


# MessagePack and CBOR


def test_what_message_pack_cannot_say_is_not_sent():
    a, b = ductworks.pair("msgpack")
    with a, b:
        for wrong, error in (
            (object(), TypeError),
            (2**64, OverflowError),
            (-(2**63) - 1, OverflowError),
        ):
            with pytest.raises(error):
                a.send(wrong)
        assert not b.poll()


def test_what_cbor_cannot_say_is_not_sent():
    a, b = ductworks.pair("cbor")
    with a, b:
        for wrong in (object(), {"a": [len]}):
            with pytest.raises(TypeError):
                a.send(wrong)
        with pytest.raises((TypeError, ValueError), match="naive datetime"):
            a.send(datetime.datetime(2026, 1, 1))
        assert not b.poll()


def nested(depth, inside=None):
    value = [] if inside is None else [inside]
    for _ in range(depth - 1):
        value = [value]
    return value


@pytest.mark.parametrize("depth", [257, 1_000, 100_000])
def test_a_value_nested_too_deeply_for_cbor_is_not_sent(depth):
    a, b = ductworks.pair("cbor")
    with a, b:
        for value in (nested(depth), {"key": (nested(depth - 2),)}):
            with pytest.raises(RecursionError, match="at most 256 levels"):
                a.send(value)
        assert not b.poll()
        a.send(nested(256))
        assert b.recv() == nested(256)


def test_what_a_list_has_as_attributes_is_no_depth():
    class Tree(list):
        parent = None

    root, child = Tree(), Tree()
    root.append(child)
    child.parent = root
    assert through(root, "cbor") == [[]]


def test_values_that_occur_often_are_no_depth():
    value = []
    for _ in range(10):
        value = [value, value]
    assert through(value, "cbor") == value


@pytest.mark.parametrize("codec", ["msgpack", "cbor"])
def test_a_value_that_contains_itself_is_not_sent(codec):
    value = []
    value += [value, value]
    a, b = ductworks.pair(codec)
    with a, b:
        with pytest.raises((RecursionError, ValueError)):
            a.send(value)
        assert not b.poll()


def hostile(*rows):
    return pytest.mark.parametrize(
        ("codec", "message"), [row[1:] for row in rows], ids=[row[0] for row in rows]
    )


@hostile(
    ("nested_arrays", "msgpack", b"\x91" * 100_000),
    ("nested_maps", "msgpack", b"\x81\x01" * 100_000),
    ("nested_keys", "msgpack", b"\x81" * 100_000),
    ("an_array_of_4_gi", "msgpack", b"\xdd\xff\xff\xff\xff"),
    ("bytes_of_4_gi", "msgpack", b"\xc6\xff\xff\xff\xff"),
    ("a_map_of_4_gi", "msgpack", b"\xdf\xff\xff\xff\xff"),
    ("a_key_that_is_a_map", "msgpack", b"\x81\x80\x01"),
    ("no_utf8", "msgpack", b"\xa1\xff"),
    ("no_time", "msgpack", b"\xd7\xff" + b"\xff" * 8),
    ("nothing", "msgpack", b""),
    ("two_values", "msgpack", b"\x01\x02"),
    ("nested_arrays", "cbor", b"\x81" * 100_000),
    ("nested_maps", "cbor", b"\xa1\x00" * 100_000),
    ("nested_tags", "cbor", b"\xd8\x64" * 100_000),
    ("nested_unknown_tags", "cbor", b"\xd9\x30\x39" * 100_000),
    ("nested_without_lengths", "cbor", b"\x9f" * 100_000),
    ("an_array_of_8_ei", "cbor", b"\x9b\x7f" + b"\xff" * 7),
    ("bytes_of_4_ei", "cbor", b"\x5b\x3f" + b"\xff" * 7),
    ("text_of_8_ei", "cbor", b"\x7b\x7f" + b"\xff" * 7),
    ("a_number_too_large", "cbor", bytes.fromhex("c5821a3b9aca0001")),
    ("an_exponent_too_large", "cbor", b"\xc4\x82\xc2\x50" + b"\xff" * 16 + b"\x01"),
    ("a_fraction_by_0", "cbor", bytes.fromhex("d81e820100")),
    ("no_date", "cbor", b"\xd8\x64\x1b\x7f" + b"\xff" * 7),
    ("no_utf8", "cbor", b"\x61\xff"),
    ("a_list_in_itself", "cbor", bytes.fromhex("d81c81d81d00")),
    ("a_shared_list", "cbor", bytes.fromhex("82d81c80d81d00")),
    ("a_shared_list_in_2_bytes", "cbor", bytes.fromhex("82d81c80d9001d00")),
    ("a_shared_list_in_4_bytes", "cbor", bytes.fromhex("82d81c80da0000001d00")),
    ("a_shared_list_in_8_bytes", "cbor", bytes.fromhex("82d81c80db000000000000001d00")),
    ("a_regular_expression", "cbor", bytes.fromhex("d823622e2a")),
    ("an_email", "cbor", bytes.fromhex("d824613a")),
    ("nothing", "cbor", b""),
    ("two_values", "cbor", b"\x01\x02"),
)
def test_a_hostile_message_is_refused_and_the_duct_goes_on(codec, message):
    a, b = ductworks.pair(codec)
    with a, b:
        a.send_bytes(message)
        with pytest.raises(
            ductworks.DecodeError, match=r"expected a message in (MessagePack|CBOR)"
        ):
            b.recv()
        a.send("next")
        assert b.recv() == "next"


def test_bytes_that_look_like_a_refused_tag_are_not_one():
    for value in (
        b"\xd8\x1d",
        [b"\xd9\x00\x1d" * 100, "x" * 29],
        -29,
        0x1D,
        {29: b"\xd8"},
        5.3e-44,
    ):
        assert through(value, "cbor") == value
    a, b = ductworks.pair("cbor")
    with a, b:  # In chunks, of a length that is not announced.
        a.send_bytes(b"\x9f\x5f\x42\xd8\x1d\x41\x00\xff\xff")
        assert b.recv() == [b"\xd8\x1d\x00"]


@settings(max_examples=examples(100))
@given(
    value=st.recursive(
        VALUES | st.binary(max_size=40) | st.decimals(allow_nan=False) | st.uuids(),
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.integers(), inner, max_size=4)
        ),
        max_leaves=20,
    ),
)
def test_cbor_values_survive_and_never_look_like_a_refused_tag(value):
    codec = codecs.resolve("cbor")
    assert codec.decode(codec.encode(value)) == value


@pytest.mark.parametrize("tag", [29, 35, 36])
@pytest.mark.parametrize("codec", ["cbor"])
@settings(max_examples=examples(80))
@given(before=st.lists(VALUES | st.binary(max_size=30), max_size=4))
def test_a_refused_tag_is_found_wherever_it_is(codec, tag, before):
    codec = codecs.resolve(codec)
    message = b"".join(
        [bytes([0x80 + len(before) + 1]), *map(codec.encode, before), bytes([0xD8, tag]), b"\x61a"]
    )
    with pytest.raises(ductworks.DecodeError, match=f"tag {tag}"):
        codec.decode(message)


# Other processes


@pytest.mark.parametrize(
    "codec",
    ["json", "msgpack", "cbor", "pickle", (str.encode, bytes.decode), Upper()],
    ids=stable_repr,
)
def test_a_codec_goes_to_a_spawned_process(codec):
    a, b = ductworks.pair(codec)
    process = multiprocessing.get_context("spawn").Process(target=echo, args=(b,))
    process.start()
    b.close()
    with a:
        a.send("VALUE")
        assert a.recv(PATIENCE) == "VALUE"
    process.join(PATIENCE)


def echo(duct):
    for value in duct:
        duct.send(value)
