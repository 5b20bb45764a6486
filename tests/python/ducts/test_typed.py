"""Ducts for known types: what arrives is of the type, and what is not is refused by its field."""

import dataclasses
import datetime
import decimal
import enum
import functools
import json
import math
import multiprocessing
import pickle
import sys
import uuid
from dataclasses import dataclass, field
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    Optional,
    TypedDict,
    TypeVar,
    Union,
)

import attrs
import ductworks
import msgspec
import pydantic
import pytest
import typing_extensions
from ductworks import codecs
from hypothesis import given, settings
from hypothesis import strategies as st
from support import examples, stable_repr

PATIENCE = 20


def through(value, *arguments, **options):
    """What arrives of a value."""
    a, b = ductworks.pair(*arguments, **options)
    with a, b:
        a.send(value)
        return b.recv(PATIENCE)


def refusal(message, kind, codec="json"):
    """What is said of a message, which is gone then."""
    a, b = ductworks.pair(codec, type=kind)
    with a, b:
        a.send_bytes(message)
        with pytest.raises(ductworks.DecodeError) as refused:
            b.recv()
        assert not b.poll()
        return str(refused.value)


@dataclass
class Step:
    name: str
    size: int = 1


@dataclass
class Job:
    id: int
    steps: list[Step] = field(default_factory=list)


class Point(NamedTuple):
    x: float
    y: float


class Options(TypedDict):
    depth: int


class Stop(msgspec.Struct, tag=True):
    reason: str


class Go(msgspec.Struct, tag=True):
    speed: int


class Model(pydantic.BaseModel):
    name: str
    steps: list[Step] = []


class Untagged(msgspec.Struct):
    reason: str


@dataclass
class HasModel:
    model: Model


class TypedModel(typing_extensions.TypedDict):  # pydantic wants that one before Python 3.12.
    model: Model


FORMATS = ["json", "msgpack", "cbor"]


@pytest.mark.parametrize("codec", FORMATS)
@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Job, Job(1, [Step("a"), Step("b", 2)])),
        (Point, Point(1.5, 2.0)),
        (Options, {"depth": 3}),
        (Go, Go(5)),
        (Union[Go, Stop], Stop("tired")),
        (Optional[Job], None),
        (Optional[Job], Job(2)),
        (dict[str, list[int]], {"a": [1, 2]}),
        (Model, Model(name="m", steps=[Step("a")])),
        (list[Model], [Model(name="m")]),
        (float, 3),
    ],
    ids=stable_repr,
)
def test_values_of_known_types_arrive_as_such(codec, kind, value):
    received = through(value, codec, type=kind)
    assert received == value
    assert type(received) is type(value) or kind is float


WRONG = {"id": 1, "steps": [{"name": "a"}, {"name": "b", "size": "large"}]}


@pytest.mark.parametrize("codec", FORMATS)
@pytest.mark.parametrize(
    ("kind", "wrong", "path"),
    [
        (Job, WRONG, "steps[1].size"),
        (Job, {"steps": []}, "id"),
        (Model, {"name": "m", "steps": WRONG["steps"]}, "steps[1].size"),
        (Model, {"steps": []}, "name"),
        (Options, {"depth": "deep"}, "depth"),
        (dict[str, int], {"a": 1, "b": "two"}, "[...]"),
    ],
    ids=stable_repr,
)
def test_a_message_of_another_type_is_refused_by_the_name_of_its_field(codec, kind, wrong, path):
    untyped, _ = ductworks.pair(codec)
    a, b = ductworks.pair(codec, type=kind)
    encode = (lambda value: json.dumps(value).encode()) if codec == "json" else untyped.codec.encode
    with a, b:
        a.send_bytes(encode(wrong))
        with pytest.raises(ductworks.DecodeError) as refusal:
            b.recv()
        text = str(refusal.value)
        assert path in text
        assert "expected" in text
        assert isinstance(refusal.value, (ValueError, ductworks.DuctError))
        # The message is gone, and the next one can be received.
        right = {Job: Job(1), Model: Model(name="m"), Options: {"depth": 1}}.get(kind, {"a": 1})
        a.send(right)
        assert b.recv() == right


@pytest.mark.parametrize("codec", FORMATS)
@pytest.mark.parametrize(
    "rubbish", [b"", b"\xff\xff", b"{", b"\x91" * 100_000], ids=["none", "ff", "brace", "deep"]
)
def test_what_is_none_of_the_format_is_a_decode_error_too(codec, rubbish):
    for kind in (Job, Model):
        a, b = ductworks.pair(codec, type=kind)
        with a, b:
            a.send_bytes(rubbish)
            with pytest.raises(ductworks.DecodeError, match=f"expected {kind.__name__}"):
                b.recv()


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [(Job, {"id": 1}), (Model, Job(1)), (Union[Go, Stop], Job(1)), (int, "5"), (Options, [1])],
)
def test_a_value_of_another_type_is_not_sent(kind, wrong):
    a, b = ductworks.pair(type=kind)
    with a, b:
        with pytest.raises(TypeError, match=f"got {type(wrong).__name__}"):
            a.send(wrong)
        assert not b.poll()


def test_each_direction_may_have_a_type_of_its_own():
    client, server = ductworks.pair(codecs.Typed(send=Job, recv=Step, format="msgpack"))
    with client, server:
        client.send(Job(7))
        assert server.recv() == Job(7)
        server.send(Step("done"))
        assert client.recv() == Step("done")
        with pytest.raises(TypeError, match="expected Step to send, got Job"):
            server.send(Job(7))


def test_a_codec_without_types_refuses_one():
    for codec in ("pickle", "raw"):
        with pytest.raises(ValueError, match="json, msgpack or cbor"):
            ductworks.pair(codec, type=int)
    with pytest.raises(ValueError, match="codec that knows types"):
        ductworks.pair((str.encode, bytes.decode), type=int)


@pytest.mark.parametrize(
    "kind",
    [
        functools.partial,
        list[functools.partial],
        Union[int, functools.partial],
        5,
        "Job",
        Union[Go, Untagged],
        Union[Step, Job, int],
        list[Union[Step, Job]],
    ],
    ids=stable_repr,
)
def test_a_type_that_no_library_knows_is_refused_at_once(kind):
    with pytest.raises(TypeError, match="msgspec cannot take"):
        ductworks.pair(type=kind)


def test_a_model_with_a_type_that_pydantic_does_not_know_is_refused_at_once():
    with pytest.raises(TypeError, match="pydantic cannot take dict"):
        ductworks.pair(type=dict[str, Union[Model, functools.partial]])


# Values


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Everything:
    integer: int = 2**62
    number: float = 1.5
    text: str = "text"
    data: bytes = b"\x00\xff"
    moment: datetime.datetime = datetime.datetime(2026, 1, 2, 3, 4, 5, 6, datetime.timezone.utc)
    naive: datetime.datetime = datetime.datetime(2026, 1, 2, 3, 4, 5, 6)
    day: datetime.date = datetime.date(2026, 1, 2)
    hour: datetime.time = datetime.time(3, 4, 5)
    span: datetime.timedelta = datetime.timedelta(days=-1, microseconds=7)
    amount: decimal.Decimal = decimal.Decimal("1.50")
    identity: uuid.UUID = uuid.UUID(int=5)  # noqa: RUF009
    colour: Colour = Colour.BLUE
    pair: tuple[int, str] = (1, "one")
    numbers: set[int] = field(default_factory=lambda: {1, 2})
    frozen: frozenset[str] = frozenset({"a"})
    by_number: dict[int, float] = field(default_factory=lambda: {1: 2.0})
    maybe: Optional[int] = None
    one_of: Literal["a", "b"] = "b"
    either: Union[int, str, None] = "x"
    anything: Any = field(default_factory=lambda: [1, {"a": None}])
    inner: list[Step] = field(default_factory=lambda: [Step("a"), Step("b", 2)])


class EverythingModel(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
    everything: Everything = Everything()
    by_day: dict[datetime.date, int] = {datetime.date(2026, 1, 2): 1}
    by_identity: dict[uuid.UUID, int] = {uuid.UUID(int=3): 1}
    large: int = 2**40
    secret_free: pydantic.HttpUrl = pydantic.HttpUrl("http://localhost/")


@pytest.mark.parametrize("codec", FORMATS)
@pytest.mark.parametrize("value", [Everything(), EverythingModel()], ids=["msgspec", "pydantic"])
def test_fields_of_all_kinds_survive(codec, value):
    received = through(value, codec, type=type(value))
    assert received == value
    fields = received if isinstance(value, Everything) else received.everything
    for each in dataclasses.fields(Everything):
        assert type(getattr(fields, each.name)) is type(getattr(Everything(), each.name)), each.name


T = TypeVar("T")


@dataclass
class Box(Generic[T]):
    content: T


@attrs.define
class Attrs:
    x: int


@pydantic.dataclasses.dataclass
class Checked:
    x: int


class Tree(msgspec.Struct):
    children: "list[Tree]" = []


class Aliased(pydantic.BaseModel):
    user_id: int = pydantic.Field(alias="userId")

    @pydantic.computed_field
    def double(self) -> int:
        return 2 * self.user_id


class Strict(pydantic.BaseModel, extra="forbid"):
    x: int = 1

    @pydantic.computed_field
    def double(self) -> int:
        return 2 * self.x


Number = NewType("Number", int)


@pytest.mark.parametrize("codec", FORMATS)
@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Box[int], Box(5)),
        (Attrs, Attrs(1)),
        (Checked, Checked(1)),
        (Tree, Tree([Tree(), Tree([Tree()])])),
        (Aliased, Aliased(userId=3)),
        (Strict, Strict(x=3)),
        (Number, 5),
        (Annotated[int, msgspec.Meta(gt=0)], 5),
        (Annotated[int, pydantic.Field(gt=0)], 5),
        (Literal["a", 1], 1),
        (list[Job], [Job(1)]),
        (tuple[int, ...], (1, 2)),
        (Any, {"a": [1]}),
        (None, None),
        (Union[int, str, None], "x"),
        (Union[Step, Job], Job(3, [Step("a")])),
        (Union[Step, Job], Step("a")),
        (Union[Step, Attrs, Untagged, None], Attrs(1)),
        (Union[Step, Attrs, Untagged, None], Untagged("why")),
        (Union[Step, Attrs, Untagged, None], None),
        (Union[Model, Step], Step("a")),
        (dict[str, Model], {"a": Model(name="m")}),
        (HasModel, HasModel(Model(name="m"))),
        (TypedModel, {"model": Model(name="m")}),
    ],
    ids=stable_repr,
)
def test_a_value_arrives_as_what_it_was(codec, kind, value):
    received = through(value, codec, type=kind)
    assert received == value
    assert type(received) is type(value)


@pytest.mark.skipif(sys.version_info < (3, 10), reason="X | Y is of Python 3.10")
def test_a_union_may_be_written_with_a_bar():
    kind = eval("Step | Job | None")
    assert through(Step("a"), type=kind) == Step("a")
    assert through(None, type=kind) is None
    assert codecs.Typed(send=kind, recv=kind).name == "Step or Job or None as json"


@settings(max_examples=examples(80))
@given(
    value=st.builds(
        Job,
        st.integers(-(2**63), 2**63 - 1),
        st.lists(st.builds(Step, st.text(), st.integers(-9, 9))),
    )
)
@pytest.mark.parametrize("codec", FORMATS)
def test_every_job_survives(codec, value):
    codec = codecs.Typed(send=Job, recv=Job, format=codec)
    assert codec.decode(codec.encode(value)) == value


def test_the_wire_is_plain_data():
    a, b = ductworks.pair(type=Job)
    with a, b:
        a.send(Job(1, [Step("a")]))
        assert json.loads(b.recv_bytes()) == {"id": 1, "steps": [{"name": "a", "size": 1}]}
    a, b = ductworks.pair(type=Union[Step, Job])
    with a, b:
        a.send(Step("a"))
        assert json.loads(b.recv_bytes()) == {"type": "Step", "name": "a", "size": 1}
    a, b = ductworks.pair(type=Aliased)
    with a, b:
        a.send(Aliased(userId=3))
        assert json.loads(b.recv_bytes()) == {"userId": 3}


def test_cbor_takes_times_in_its_own_form_as_well():
    plain = codecs.resolve("cbor")
    value = Box(datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc))
    typed = codecs.Typed(send=Box[datetime.datetime], recv=Box[datetime.datetime], format="cbor")
    assert typed.decode(plain.encode({"content": value.content})) == value


# Refusals


@pytest.mark.parametrize("codec", FORMATS)
def test_the_text_says_where_what_was_expected_and_what_came(codec):
    wrong = {"id": 1, "steps": [{"name": "a"}, {"name": "b"}, {"name": "c", "size": "large"}]}
    message = encoded(wrong, codec)
    assert refusal(message, Job, codec) == (
        "expected Job, but at `.steps[2].size`: expected int, got str"
    )
    assert refusal(message, Union[Job, Step], codec) == (
        "expected Job or Step: object missing required field `type`"
    )
    message = encoded({"type": "Job", **wrong}, codec)
    assert refusal(message, Union[Job, Step], codec) == (
        "expected Job or Step, but at `.steps[2].size`: expected int, got str"
    )
    assert refusal(encoded([], codec), Job, codec) == "expected Job, got array"
    message = encoded({"name": "m", "steps": wrong["steps"]}, codec)
    assert refusal(message, Model, codec) == (
        "expected Model, but at `.steps[2].size`: input should be a valid integer, got str"
    )


def encoded(plain, codec):
    if codec == "json":
        return json.dumps(plain).encode()
    return codecs.resolve(codec).encode(plain)


@pytest.mark.parametrize(
    ("kind", "plain", "text"),
    [
        (Job, {"steps": []}, "expected Job: object missing required field `id`"),
        (Job, {"id": 1, "steps": [{}]}, "at `.steps[0]`: object missing required field `name`"),
        (int, "x", "expected int, got str"),
        (Optional[Job], 5, "expected Job or None, got int"),
        (dict[int, int], {"a": 1}, "at a key of the top: expected int, got str"),
        (Annotated[int, msgspec.Meta(gt=0)], 0, "expected int: expected `int` >= 1"),
        (Annotated[int, pydantic.Field(gt=0)], 0, "at the top: input should be greater than 0"),
        (Literal["a", "b"], "c", "expected 'a' or 'b': invalid enum value 'c'"),
        (Union[Job, Step], {"type": "Jub"}, "at `.type`: invalid value 'Jub'"),
        (Union[Job, Step], {"type": {}}, "at `.type`: invalid value {}"),
        (Union[Job, Step], None, "expected Job or Step, got null"),
        (Union[Go, Stop], {"type": "Gone"}, "at `.type`: invalid value 'Gone'"),
        (Model, [], "at the top: input should be an object, got list"),
        (Model, {}, "expected Model, but at `.name`: field required"),
        (
            list[Model],
            [{}] * 9,
            "`[1].name`: field required; at `[2].name`: field required; and 6 ",
        ),
        (Strict, {"y": 1}, "expected Strict, but at `.y`: extra inputs are not permitted"),
    ],
    ids=stable_repr,
)
def test_each_kind_of_misfit_has_its_text(kind, plain, text):
    assert text in refusal(encoded(plain, "json"), kind)


@pytest.mark.parametrize("codec", FORMATS)
@pytest.mark.parametrize(
    ("kind", "plain"),
    [
        (Step, {"name": "a", "size": "1"}),
        (Step, {"name": "a", "size": 1.5}),
        (Step, {"name": "a", "size": True}),
        (Step, {"name": 5}),
        (Model, {"name": 5}),
        (Model, {"name": "m", "steps": [{"name": "a", "size": "1"}]}),
        (Model, {"name": "m", "steps": [{"name": "a", "size": True}]}),
        (Model, {"name": "m", "steps": {"name": "a"}}),
    ],
    ids=stable_repr,
)
def test_nothing_is_guessed(codec, kind, plain):
    refusal(encoded(plain, codec), kind, codec)


@pytest.mark.parametrize("codec", FORMATS)
@pytest.mark.parametrize(
    ("kind", "plain", "value"),
    [
        (Step, {"name": "a", "more": 1}, Step("a")),
        (Model, {"name": "m", "more": 1}, Model(name="m")),
        (Options, {"depth": 1, "more": 1}, {"depth": 1}),
        (Union[Step, Job], {"type": "Step", "name": "a", "more": 1}, Step("a")),
    ],
    ids=stable_repr,
)
def test_fields_that_are_not_known_are_left_out(codec, kind, plain, value):
    assert codecs.resolve(codec, type=kind).decode(encoded(plain, codec)) == value


class Closed(msgspec.Struct, forbid_unknown_fields=True):
    x: int = 0


def test_a_type_may_refuse_fields_that_it_does_not_know():
    assert "unknown field `y`" in refusal(b'{"y": 1}', Closed)


@pytest.mark.parametrize("codec", FORMATS)
@pytest.mark.parametrize("kind", [Tree, Any, Model, pydantic.JsonValue], ids=stable_repr)
def test_a_message_nested_too_deeply_is_refused(codec, kind):
    deep = {"json": b'{"children":[' * 50_000, "msgpack": b"\x81\xa8children\x91" * 50_000}
    deep["cbor"] = b"\xa1\x68children\x81" * 50_000
    assert refusal(deep[codec], kind, codec).startswith(
        f"expected {codecs.Typed(kind, kind).name[:3]}"
    )


@settings(max_examples=examples(80))
@given(rubbish=st.binary(max_size=40))
@pytest.mark.parametrize("kind", [Job, Model, Union[Step, Job], Everything], ids=stable_repr)
@pytest.mark.parametrize("codec", FORMATS)
def test_rubbish_is_a_decode_error(codec, kind, rubbish):
    codec = codecs.Typed(send=kind, recv=kind, format=codec)
    try:
        value = codec.decode(rubbish)
    except ductworks.DecodeError:
        return
    assert codec.decode(codec.encode(value)) == value


# What is not sent


class Bytes(pydantic.BaseModel):
    data: bytes


@pytest.mark.parametrize("codec", FORMATS)
@pytest.mark.parametrize(
    ("kind", "wrong", "text"),
    [
        (Job, {"id": 1}, "expected Job to send, got dict"),
        (int, True, "expected int to send, got bool"),
        (list[int], (1, 2), "expected list[int] to send, got tuple"),
        (Options, [], "expected Options to send, got list"),
        (Union[Step, Job, None], Go(1), "expected Step or Job or None to send, got Go"),
        (Model, Job(1), "expected Model to send, got Job"),
        (Job, Job(1, [object()]), "expected Job to send, got Job: Encoding objects of type object"),
        (Any, object(), "expected Any to send, got object"),
        (list[Model], [{"name": 1}], "expected list[Model] to send, got list"),
        (Model, Model.model_construct(name=5), "expected Model to send, got Model"),
        (Bytes, Bytes(data=b"\xff"), "expected Bytes to send, got Bytes"),
    ],
    ids=stable_repr,
)
def test_what_does_not_fit_is_not_sent(codec, kind, wrong, text):
    a, b = ductworks.pair(codec, type=kind)
    with a, b:
        with pytest.raises(TypeError) as refused:
            a.send(wrong)
        assert str(refused.value).startswith(text)
        assert not b.poll()


@dataclass
class Measured:
    value: Optional[float] = None
    unit: Optional[str] = None


class MeasuredModel(pydantic.BaseModel):
    value: Optional[float] = None
    unit: Optional[str] = None


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", [Measured, MeasuredModel])
def test_numbers_that_json_does_not_have_do_not_become_null(kind, number):
    a, b = ductworks.pair(type=kind)
    with a, b:
        with pytest.raises(ValueError, match=f"typed JSON has no {number}"):
            a.send(kind(value=number))
        assert not b.poll()
        a.send(kind(value=1.0))
        assert b.recv() == kind(value=1.0)


@pytest.mark.parametrize(
    "value", [b"\xcb\x7f\xf8", 2**70, [None, 1e308], decimal.Decimal("NaN")], ids=stable_repr
)
def test_what_only_looks_like_one_of_those_numbers_is_sent(value):
    a, b = ductworks.pair(type=Any)
    with a, b:
        a.send([None, value])
        assert b.recv()[0] is None


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("codec", ["msgpack", "cbor"])
@pytest.mark.parametrize("kind", [Measured, MeasuredModel])
def test_other_formats_have_those_numbers(codec, kind, number):
    value = kind(value=number)
    assert repr(through(value, codec, type=kind)) == repr(value)


def test_a_model_may_write_those_numbers_in_a_way_of_its_own():
    class Own(MeasuredModel, ser_json_inf_nan="constants"):
        pass

    for number in (math.nan, math.inf, -math.inf):
        value = Own(value=number)
        assert repr(through(value, type=Own)) == repr(value)


def test_a_tag_needs_its_place():
    @dataclass
    class Typed:
        type: str

    class Array(msgspec.Struct, array_like=True):
        x: int

    with pytest.raises(TypeError, match="Typed has a field 'type'"):
        ductworks.pair(type=Union[Typed, Step])
    with pytest.raises(TypeError, match="Array travels as an array"):
        ductworks.pair(type=Union[Array, Step])
    first = dataclasses.make_dataclass("Same", [("x", int)])
    second = dataclasses.make_dataclass("Same", [("y", int)])
    with pytest.raises(TypeError, match="different names"):
        ductworks.pair(type=Union[first, second])


# The codec itself


def test_a_typed_codec_says_what_it_is():
    codec = codecs.Typed(send=Job, recv=Optional[Step], format="cbor")
    assert repr(codec) == "Typed(send=Job, recv=Step or None, format='cbor')"
    assert codec.name == "Job out and Step or None in as cbor"
    a, b = ductworks.pair(type=list[Job])
    with a, b:
        assert "list[Job] as json" in repr(a)


def test_the_other_end_has_the_mirrored_codec():
    codec = codecs.mirrored(codecs.Typed(send=Job, recv=Step, format="msgpack"))
    assert (codec.send, codec.recv, codec.format) == (Step, Job, "msgpack")
    same = codecs.Typed(send=Job, recv=Job)
    assert codecs.mirrored(same) is same
    assert codecs.mirrored("json") == "json"


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    "kind", [Job, Optional[Job], list[Model], Union[Step, Job]], ids=stable_repr
)
def test_a_typed_codec_can_be_pickled(format, kind):
    codec = codecs.Typed(send=kind, recv=kind, format=format)
    copy = pickle.loads(pickle.dumps(codec))
    assert repr(copy) == repr(codec)
    assert (copy.send, copy.recv) == (codec.send, codec.recv)


@pytest.mark.parametrize("value", [Step("s", 3), Model(name="m")], ids=["msgspec", "pydantic"])
def test_a_typed_duct_goes_to_a_spawned_process(value):
    a, b = ductworks.pair(type=type(value))
    process = multiprocessing.get_context("spawn").Process(target=echo, args=(b,))
    process.start()
    b.close()
    with a:
        a.send(value)
        assert a.recv(PATIENCE) == value
    process.join(PATIENCE)


def echo(duct):
    for value in duct:
        duct.send(value)
