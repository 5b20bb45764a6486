"""What is said of a message that does not fit, and of a value that cannot be sent."""

from __future__ import annotations

import json
from gc import get_referents
from math import isfinite
from typing import Any

from ductworks.codecs._annotations import name_of
from ductworks.errors import DecodeError

FORMATS = {"json": "JSON", "msgpack": "MessagePack", "cbor": "CBOR"}


def malformed(format: str, error: Exception, what: str = "a message") -> DecodeError:
    """The error for bytes that are not of the format, or hold what is refused."""
    # What a library says may be only where it was; and a typed codec wraps an untyped one.
    while isinstance(error.__cause__, Exception) and str(error.__cause__):
        error = error.__cause__
    return DecodeError(f"expected {what} in {FORMATS[format]}, got something else: {error}")


def unsendable(annotation: Any, value: Any, error: Exception) -> TypeError:
    """The error for a value with something in it that the type does not have."""
    kind = type(value).__name__
    return TypeError(f"expected {name_of(annotation)} to send, got {kind}: {error}")


def refuse_lost_numbers(plain: Any, message: bytes) -> None:
    """Both libraries write NaN and the infinities as null, and the other end would never know.

    :param plain: The value, made of dicts, lists and the like.
    :param message: What was written in JSON.
    """
    lost = [each for each in _leaves(plain) if type(each) is float and not isfinite(each)]
    # A model may be set to write them in another way.
    if lost and _leaves(json.loads(message)).count(None) > _leaves(plain).count(None):
        raise ValueError(f"typed JSON has no {lost[0]}: use the format msgpack or cbor, or None")


def _leaves(plain: Any) -> list[Any]:
    leaves: list[Any] = []
    level = [plain]
    while level:
        leaves += [each for each in level if type(each) not in _CONTAINERS]
        level = get_referents(*[each for each in level if type(each) in _CONTAINERS])
    return leaves


_CONTAINERS = (dict, list, tuple, set, frozenset)
