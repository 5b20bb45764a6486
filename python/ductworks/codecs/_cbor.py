"""CBOR by cbor2, the one maintained library for Python that knows all of it.

It knows more than a message needs. Refused when received are shared references, through which a few
bytes become a value that contains itself, or one that takes forever to walk; and regular
expressions and e-mail messages, which would be parsed at once.
"""

from __future__ import annotations

import io
from gc import get_referents, is_tracked
from typing import Any, Callable

import cbor2

from ductworks.codecs._faults import malformed

_SHARED_REFERENCE, _REGULAR_EXPRESSION, _MIME_MESSAGE = 29, 35, 36
_REFUSED = {
    _SHARED_REFERENCE: "shared references",
    _REGULAR_EXPRESSION: "regular expressions",
    _MIME_MESSAGE: "MIME messages",
}

_DEEPEST_SENT = 256
_DEEPEST_RECEIVED = 400
_CONTAINERS = (list, dict, tuple, set, frozenset, cbor2.CBORTag)


def encode(value: Any) -> bytes:
    """Make the message for a value.

    :raises TypeError: if it is not of the kinds that CBOR has.
    :raises RecursionError: if it is nested more than 256 deep.
    """
    _refuse_depth(value)
    try:
        return cbor2.dumps(value)
    except cbor2.CBOREncodeError as error:
        if isinstance(error, (TypeError, ValueError)):
            raise
        raise TypeError(f"cannot be sent as CBOR: {error}") from error


def _refuse_depth(value: Any) -> None:
    """cbor2 6 encodes recursively, with no limit: 10,000 levels overflow the stack."""
    # Attributes are referents too, and an attribute may lead back to the parent, so this first look
    # is only quick.
    if _is_deep(value, lambda level: get_referents(*level)) and _is_deep(value, _contents):
        raise RecursionError(f"expected at most {_DEEPEST_SENT} levels in a CBOR message, got more")


def _is_deep(value: Any, contents: Callable[[list[Any]], list[Any]]) -> bool:
    level = [value] if isinstance(value, _CONTAINERS) else []
    for _ in range(_DEEPEST_SENT):
        if not level:
            return False
        # Only what may contain something is tracked. The identities are for values that occur in
        # several places, which would be counted again and again.
        inside = filter(is_tracked, contents(level))
        level = list({id(each): each for each in inside if isinstance(each, _CONTAINERS)}.values())
    return bool(level)


def _contents(level: list[Any]) -> list[Any]:
    contents: list[Any] = []
    for each in level:
        if isinstance(each, cbor2.CBORTag):
            contents.append(each.value)
        else:
            contents += each
            contents += each.values() if isinstance(each, dict) else ()
    return contents


def decode(data: bytes) -> Any:
    """Make a value of a message.

    :raises DecodeError: if the bytes are not CBOR, or hold what is refused.
    """
    try:
        stream = io.BytesIO(data)
        value = _decoder(stream, data).decode()
        if stream.tell() < len(data):
            raise ValueError(f"{len(data) - stream.tell()} bytes follow the value")
    except MemoryError:
        raise
    except Exception as error:
        raise malformed("cbor", error) from error
    return value


def _refusal(tag: int) -> ValueError:
    return ValueError(f"{_REFUSED[tag]} (tag {tag}) are not accepted")


def _refusing(tag: int) -> Callable[..., Any]:
    def refuse(*_: Any) -> Any:
        raise _refusal(tag)

    return refuse


_HOOKS: dict[str, Any] = {"semantic_decoders": {tag: _refusing(tag) for tag in _REFUSED}}


def _decoder_of_6(stream: io.BytesIO, data: bytes) -> Any:
    return cbor2.CBORDecoder(stream, max_depth=_DEEPEST_RECEIVED, **_HOOKS)


def _decoder_of_5(stream: io.BytesIO, data: bytes) -> Any:
    """cbor2 5 cannot be told to refuse a tag that it knows, so the tags are looked for first."""
    if any(mark in data for mark in _MARKS):
        _refuse_tags(data)
    return cbor2.CBORDecoder(stream, max_depth=_DEEPEST_RECEIVED)


# How the tags may begin: in one byte, as they should be, or padded with zeros. The same bytes may
# stand for something else.
_MARKS = (
    *(bytes([0xD8, tag]) for tag in _REFUSED),
    *(head + bytes(zeros) for head, zeros in ((b"\xd9", 1), (b"\xda", 3), (b"\xdb", 7))),
)


def _refuse_tags(data: bytes) -> None:
    """Go from head to head: in CBOR, what a head contains simply follows it (RFC 8949, 3)."""
    position = 0
    while position < len(data):
        kind, argument = data[position] >> 5, data[position] & 31
        position += 1
        if 24 <= argument <= 27:
            size = 1 << (argument - 24)
            argument = int.from_bytes(data[position : position + size], "big")
            position += size
        elif argument > 27:
            argument = 0  # An end that comes later: what is inside follows, chunks have heads too.
        if kind == 6 and argument in _REFUSED:
            raise _refusal(argument)
        if kind in (2, 3):
            position += argument


def _choose() -> Callable[[io.BytesIO, bytes], Any]:
    for choice in (_decoder_of_6, _decoder_of_5):
        try:
            choice(io.BytesIO(), b"")
        except TypeError:
            continue
        return choice
    # Before 5.9, a message of some thousand bytes could overflow the stack (CVE-2026-26209).
    raise ImportError(
        "this codec needs cbor2 5.9 or newer: pip install --upgrade 'ductworks[cbor]'"
    )


_decoder = _choose()
