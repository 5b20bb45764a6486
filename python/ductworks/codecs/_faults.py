"""What is said of a message that does not fit, and of a value that cannot be sent."""

from __future__ import annotations

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


def refuse_lost_numbers(plain: Any) -> None:
    """Both libraries write NaN and the infinities as null, and the other end would never know.

    :param plain: A list of values of dicts, lists and the like.
    """
    level = [plain]
    while level:
        inside = get_referents(*level)
        for lost in [each for each in inside if type(each) is float and not isfinite(each)]:
            raise ValueError(
                f"typed JSON has no {lost}: use the format msgpack or cbor, or send None"
            )
        level = [each for each in inside if type(each) in _CONTAINERS]


_CONTAINERS = (dict, list, tuple, set, frozenset)
