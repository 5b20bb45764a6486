"""pydantic's models and dataclasses, and what contains them.

In every format a value travels in the form that it has in JSON, and is validated in the strict mode
of JSON: like msgspec, it does not guess what the other end may have meant.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Callable, Union

import pydantic
import pydantic_core

from ductworks.codecs import _faults
from ductworks.codecs._annotations import name_of
from ductworks.codecs._libraries import format_by_name
from ductworks.errors import DecodeError

# The faults of a message that an error tells of.
_TOLD = 3

# Messages go by aliases, as the validation does, and do without computed fields, which a model may
# refuse. What does not fit is an error; by default it is a warning.
_OPTIONS: dict[str, Any] = {"by_alias": True, "round_trip": True, "warnings": "error"}

_REFUSALS = (TypeError, UnicodeDecodeError, pydantic_core.PydanticSerializationError)


def encoder(annotation: Any, format: str) -> Callable[[Any], bytes]:
    """What makes messages of values of a type."""
    adapter = _adapter(annotation)
    write = None if format == "json" else format_by_name(format).encode

    def encode(value: Any) -> bytes:
        try:
            if write is not None:
                return write(adapter.dump_python(value, mode="json", **_OPTIONS))  # type: ignore[no-any-return]
            message = adapter.dump_json(value, **_OPTIONS)
        except _REFUSALS as error:
            raise _faults.unsendable(annotation, value, error) from error
        if b"null" in message:
            _faults.refuse_lost_numbers(adapter.dump_python(value, **_OPTIONS), message)
        return message

    return encode


def decoder(annotation: Any, format: str) -> Callable[[bytes], Any]:
    """What makes values of a type of messages."""
    adapter = _adapter(annotation)
    read = None if format == "json" else format_by_name(format).decode

    def decode(data: bytes) -> Any:
        try:
            if read is not None:
                # Only from JSON does the strict mode take a text for a time, a list for a set.
                data = pydantic_core.to_json(read(data))
            return adapter.validate_json(data, strict=True)
        except MemoryError:
            raise
        except pydantic.ValidationError as error:
            raise _fault(annotation, format, error) from error
        except Exception as error:
            raise _faults.malformed(format, error, name_of(annotation)) from error

    return decode


def _adapter(annotation: Any) -> pydantic.TypeAdapter[Any]:
    try:
        return pydantic.TypeAdapter(annotation)
    except pydantic.errors.PydanticUserError as error:
        raise TypeError(f"pydantic cannot take {name_of(annotation)}: {error}") from error


def _fault(annotation: Any, format: str, error: pydantic.ValidationError) -> DecodeError:
    faults = error.errors(include_url=False, include_context=False)
    if faults[0]["type"] == "json_invalid" and not faults[0]["loc"]:
        return _faults.malformed(format, ValueError(faults[0]["msg"]), name_of(annotation))
    name = name_of(annotation)
    told = [
        _told(fault["loc"], fault["type"], fault["msg"], fault["input"]) for fault in faults[:_TOLD]
    ]
    more = f"; and {len(faults) - _TOLD} more" if len(faults) > _TOLD else ""
    return DecodeError(f"expected {name}, but at {'; at '.join(told)}{more}")


def _told(path: tuple[Union[int, str], ...], kind: str, text: str, value: Any) -> str:
    got = f", got {type(value).__name__}" if kind.endswith("_type") else ""
    return f"{_written(path)}: {text[:1].lower()}{text[1:]}{got}"


def _written(path: Iterable[Union[int, str]]) -> str:
    steps = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return f"`{steps}`" if steps else "the top"
