"""Types that msgspec knows: dataclasses, TypedDicts, NamedTuples, attrs classes, Structs, and the
annotations of typing."""

from __future__ import annotations

import dataclasses
import datetime
import re
from typing import Any, Callable

import msgspec

from ductworks.codecs import _faults
from ductworks.codecs._annotations import is_union, members_of, name_of
from ductworks.codecs._libraries import format_by_name
from ductworks.errors import DecodeError

_TAG = "type"

# What a format has beside the values of JSON.
_NATIVE: dict[str, tuple[type, ...]] = {
    "json": (),
    "msgpack": (bytes, bytearray, datetime.datetime),
    "cbor": (bytes, bytearray),
}


def encoder(annotation: Any, format: str) -> Callable[[Any], bytes]:
    """What makes messages of values of a type."""
    has_floats = _known(annotation)
    write = _writer(annotation, format)
    may_lose = format == "json" and has_floats

    def encode(value: Any) -> bytes:
        try:
            message = write(value)
        except TypeError as error:
            raise _faults.unsendable(annotation, value, error) from error
        if may_lose and b"null" in message and _may_have_lost_numbers(value):
            _faults.refuse_lost_numbers(msgspec.to_builtins(value), message)
        return message

    return encode


# A float of MessagePack whose exponent says that it is none of the finite ones.
_NOT_FINITE = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]")


def _may_have_lost_numbers(value: Any) -> bool:
    """A look that takes a fraction of the time: these bytes may stand for something else."""
    try:
        return _NOT_FINITE.search(msgspec.msgpack.encode(value)) is not None
    except OverflowError:  # An int of more than 64 bits.
        return True


def _writer(annotation: Any, format: str) -> Callable[[Any], bytes]:
    write: Callable[[Any], bytes] = _format(format).encode
    native = _NATIVE[format]
    if _needs_tags(annotation):
        return lambda value: write(_tagged(value, annotation, native, format == "json"))
    if format == "cbor":
        return lambda value: write(msgspec.to_builtins(value, builtin_types=native))
    return write


def decoder(annotation: Any, format: str) -> Callable[[bytes], Any]:
    """What makes values of a type of messages."""
    _known(annotation)
    read = _reader(annotation, format)

    def decode(data: bytes) -> Any:
        try:
            return read(data)
        except MemoryError:
            raise
        except msgspec.ValidationError as error:
            raise DecodeError(_mismatch(annotation, str(error))) from error
        except Exception as error:
            raise _faults.malformed(format, error, name_of(annotation)) from error

    return decode


def _reader(annotation: Any, format: str) -> Callable[[bytes], Any]:
    if format == "cbor" or _needs_tags(annotation):
        read = _format(format).decode
        # A time may come in the format's own form, too: such values are taken as they are.
        native = (bytes, bytearray) if format != "json" else ()

        def convert(plain: Any, kind: Any) -> Any:
            return msgspec.convert(plain, kind, builtin_types=native, str_keys=format == "json")

        if _needs_tags(annotation):
            return lambda data: _untagged(read(data), annotation, convert)
        return lambda data: convert(read(data), annotation)
    decoder: Any = msgspec.json.Decoder if format == "json" else msgspec.msgpack.Decoder
    return decoder(annotation).decode  # type: ignore[no-any-return]


def _format(format: str) -> Any:
    if format == "json":
        return msgspec.json
    return format_by_name(format)


# What a type is made of


def _known(annotation: Any) -> bool:
    """Whether there may be floats in it, if msgspec knows all of it."""
    parts = _parts(annotation)
    try:
        for each in parts:
            msgspec.msgpack.Decoder(each)
    except (TypeError, NameError) as error:
        raise TypeError(f"msgspec cannot take {name_of(annotation)}: {error}") from error
    try:
        found = _walk([msgspec.inspect.type_info(each) for each in parts])
    except TypeError:
        return True  # msgspec 0.20 cannot describe every Literal that it takes.
    unknown = [name_of(kind.cls) for kind in found if isinstance(kind, msgspec.inspect.CustomType)]
    if unknown:
        raise TypeError(
            f"msgspec cannot take {name_of(annotation)}: it does not know {', '.join(unknown)}. "
            "Make that a dataclass, or give a codec of your own"
        )
    floating = (msgspec.inspect.FloatType, msgspec.inspect.AnyType)
    return any(isinstance(kind, floating) for kind in found)


_DESCRIPTIONS = (msgspec.inspect.Type, msgspec.inspect.Field)


def _walk(kinds: list[Any]) -> list[Any]:
    """All descriptions of types that are contained in some, which may be in circles."""
    found: dict[int, Any] = {}
    left = list(kinds)
    while left:
        each = left.pop()
        if isinstance(each, (tuple, list)):
            left += each
        elif isinstance(each, _DESCRIPTIONS) and id(each) not in found:
            found[id(each)] = each
            left += [getattr(each, name) for name in each.__struct_fields__]
    return list(found.values())


# Unions of classes. msgspec tells Structs with tags apart, and takes one dataclass at most. Here,
# others get the tag that such a Struct has.


def _needs_tags(annotation: Any) -> bool:
    classes = _tagged_classes(annotation)
    if len(classes) < 2:
        return False
    others = [each for each in members_of(annotation) if each not in (*classes, type(None))]
    if others:
        return False  # msgspec will say what it thinks of it.
    for each in classes:
        if getattr(getattr(each, "__struct_config__", None), "array_like", False):
            raise TypeError(f"{each.__name__} travels as an array, which has no place for a tag")
        if _TAG in {field.encode_name for field in _fields_of(each)}:
            raise TypeError(
                f"{each.__name__} has a field {_TAG!r}, which is where the name of the class goes "
                f"in {name_of(annotation)}: rename it, or use Structs with a tag_field of their own"
            )
    if len({each.__name__ for each in classes}) < len(classes):
        raise TypeError(f"the classes in {name_of(annotation)} must have different names")
    return True


def _parts(annotation: Any) -> tuple[Any, ...]:
    return members_of(annotation) if _needs_tags(annotation) else (annotation,)


def _tagged_classes(annotation: Any) -> tuple[Any, ...]:
    if not is_union(annotation):
        return ()
    return tuple(each for each in members_of(annotation) if _is_record(each))


def _is_record(kind: Any) -> bool:
    if not isinstance(kind, type):
        return False
    if issubclass(kind, msgspec.Struct):
        return kind.__struct_config__.tag is None
    return dataclasses.is_dataclass(kind) or hasattr(kind, "__attrs_attrs__")


def _fields_of(kind: Any) -> Any:
    return getattr(msgspec.inspect.type_info(kind), "fields", ())


def _tagged(value: Any, annotation: Any, native: tuple[type, ...], str_keys: bool) -> Any:
    plain = msgspec.to_builtins(value, builtin_types=native, str_keys=str_keys)
    if value is None:
        return None
    kind = next(each for each in _tagged_classes(annotation) if isinstance(value, each))
    return {_TAG: kind.__name__, **plain}


def _untagged(plain: Any, annotation: Any, convert: Callable[[Any, Any], Any]) -> Any:
    if plain is None and type(None) in members_of(annotation):
        return None
    if not isinstance(plain, dict):
        raise msgspec.ValidationError(f"Expected `object`, got `{_kind_of(plain)}`")
    if _TAG not in plain:
        raise msgspec.ValidationError(f"Object missing required field `{_TAG}`")
    tag = plain.pop(_TAG)
    for each in _tagged_classes(annotation):
        if each.__name__ == tag:
            return convert(plain, each)
    raise msgspec.ValidationError(f"Invalid value {tag!r:.40} - at `$.{_TAG}`")


_KINDS = {dict: "object", list: "array", type(None): "null"}


def _kind_of(plain: Any) -> str:
    return _KINDS.get(type(plain), type(plain).__name__)


# Errors

_AT = re.compile(r"(?P<reason>.*) - at (?P<key>`key` in )?`\$(?P<path>.*)`", re.DOTALL)
_EXPECTED_GOT = re.compile(r"[Ee]xpected `(?P<expected>[^`]*)`(?P<more>.*), got `(?P<got>[^`]*)`")


def _mismatch(annotation: Any, text: str) -> str:
    """Such as "expected Job, but at `.steps[2].size`: expected int, got str", of msgspec's
    "Expected `int`, got `str` - at `$.steps[2].size`"."""
    name = name_of(annotation)
    at = _AT.fullmatch(text)
    reason = at["reason"] if at else text
    simple = _EXPECTED_GOT.fullmatch(reason)
    if at is None and simple:
        return f"expected {name}, got {simple['got']}"
    if simple:
        reason = f"expected {simple['expected']}{simple['more']}, got {simple['got']}"
    reason = reason[:1].lower() + reason[1:]
    if at is None:
        return f"expected {name}: {reason}"
    path = f"`{at['path']}`" if at["path"] else "the top"
    where = f"a key of {path}" if at["key"] else path
    return f"expected {name}, but at {where}: {reason}"
