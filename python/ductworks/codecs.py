"""Codecs: how values become messages.

A codec is named (``"json"``, ``"msgpack"``, ``"cbor"``, ``"pickle"``, ``"raw"``), or is a pair of
callables, or any object with ``encode`` and ``decode``. docs/codecs.md says which is for what.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Callable, Generic, Optional, Protocol, TypeVar, Union, cast

from ductworks.errors import DecodeError

__all__ = ["Codec", "Typed", "resolve"]

SendT = TypeVar("SendT")
RecvT = TypeVar("RecvT")
SendT_contra = TypeVar("SendT_contra", contravariant=True)
RecvT_co = TypeVar("RecvT_co", covariant=True)

BUILT_IN = ("json", "pickle", "raw")
"""These are native, and a duct knows them by name."""

NAMES = ("json", "msgpack", "cbor", "pickle", "raw")


class Codec(Protocol[SendT_contra, RecvT_co]):
    """What a duct needs of a codec. A ``name`` is shown where there is one."""

    def encode(self, value: SendT_contra, /) -> Any:
        """Make a bytes-like object of a value."""

    def decode(self, data: bytes, /) -> RecvT_co:
        """Make a value of the bytes of a message."""


def resolve(codec: Any = "json", type: Any = None) -> Any:
    """Make a codec of what a user gives: the name of a built-in one, or an object.

    :param codec: A name, a pair of callables, or an object with ``encode`` and ``decode``.
    :param type: What is sent and received, if not just anything; see :class:`Typed`.
    :raises ValueError: for an unknown name, or a codec that knows no types.
    :raises ImportError: if the library that a codec needs is not installed.
    """
    if type is not None:
        if not isinstance(codec, str):
            raise ValueError(
                "type= goes with the name of a codec that knows types (json, msgpack, cbor), not "
                f"with {codec!r}: let the codec's own decode() check"
            )
        return Typed(send=type, recv=type, format=codec)
    if isinstance(codec, str):
        if codec in BUILT_IN:
            return codec
        return Named(codec)
    if isinstance(codec, tuple):
        if len(codec) == 2 and callable(codec[0]) and callable(codec[1]):
            return Pair(*codec)
        raise TypeError(f"expected a pair of callables, (encode, decode), got {codec!r}")
    if callable(getattr(codec, "encode", None)) and callable(getattr(codec, "decode", None)):
        return codec
    raise TypeError(
        f"expected a codec: one of {', '.join(NAMES)}, a pair of callables, or an object with "
        f"encode() and decode(); got {codec!r}"
    )


@dataclasses.dataclass(frozen=True)
class Pair(Generic[SendT, RecvT]):
    """A pair of callables as a codec."""

    encode: Callable[[SendT], Any]
    decode: Callable[[bytes], RecvT]

    @property
    def name(self) -> str:
        """The name of the encoding callable."""
        return getattr(self.encode, "__qualname__", repr(self.encode))


class Named:
    """A codec of a third-party library, known by its name so that it can be pickled."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.encode, self.decode = _functions(name)

    def __reduce__(self) -> tuple[Any, ...]:
        return Named, (self.name,)

    def __repr__(self) -> str:
        return f"<codec {self.name}>"


def _functions(name: str) -> tuple[Callable[[Any], bytes], Callable[[Any], Any]]:
    if name == "msgpack":
        # Of the three libraries for Python msgspec's is the fastest, and refuses what it cannot give
        # back: an int of more than 64 bits, for one.
        msgspec = _import("msgspec", "msgpack")
        return msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder().decode
    if name == "cbor":
        cbor2 = _import("cbor2", "cbor")
        return cbor2.dumps, cbor2.loads
    raise ValueError(f"unknown codec {name!r}: expected one of {', '.join(NAMES)}")


def _import(library: str, extra: str) -> Any:
    import importlib

    try:
        return importlib.import_module(library)
    except ImportError as error:
        raise ImportError(
            f"this codec needs {library}, which is not installed: pip install 'ductworks[{extra}]'"
        ) from error


class Typed(Generic[SendT, RecvT]):
    """A codec for values of known types, which checks every message that is received.

    Dataclasses, TypedDicts, NamedTuples, msgspec Structs and annotations such as ``list[int]`` or
    ``Union[Job, Stop]`` are the business of msgspec; pydantic models, and what contains them, of
    pydantic.

    :param send: The type of what is sent.
    :param recv: The type of what is received.
    :param format: ``"json"``, ``"msgpack"`` or ``"cbor"``.
    :raises TypeError: if no library knows the type.
    """

    def __init__(self, send: type[SendT], recv: type[RecvT], format: str = "json") -> None:
        if format not in ("json", "msgpack", "cbor"):
            known = "unknown" if format not in NAMES else "untyped"
            raise ValueError(
                f"{known} format {format!r}: a typed duct speaks json, msgpack or cbor"
            )
        self.send_type = send
        self.recv_type = recv
        self.format = format
        self._classes = _classes_of(send)
        self._encode = _encoder(send, format)
        self._decode = _decoder(recv, format)

    @property
    def name(self) -> str:
        """What is received, and in which format."""
        return f"{_name(self.recv_type)} in {self.format}"

    def encode(self, value: SendT, /) -> bytes:
        """Make the message for a value.

        :raises TypeError: if it is not of the type.
        """
        if self._classes is not None and not isinstance(value, self._classes):
            raise TypeError(
                f"expected {_name(self.send_type)} to send, got {type(value).__qualname__}"
            )
        return self._encode(value)

    def decode(self, data: bytes, /) -> RecvT:
        """Make a value of a message.

        :raises DecodeError: if it is not of the type; the text names the field.
        """
        return cast(RecvT, self._decode(data))

    def __reduce__(self) -> tuple[Any, ...]:
        return Typed, (self.send_type, self.recv_type, self.format)

    def __repr__(self) -> str:
        send, recv = _name(self.send_type), _name(self.recv_type)
        return f"Typed(send={send}, recv={recv}, format={self.format!r})"


def _name(annotation: Any) -> str:
    return getattr(annotation, "__qualname__", None) or repr(annotation)


def _classes_of(annotation: Any) -> Optional[Union[type, tuple[type, ...]]]:
    """The classes that a value of this type is an instance of, where that can be told."""
    from typing import get_args, get_origin

    if annotation is float:
        return int, float
    if isinstance(annotation, type) and get_origin(annotation) is None:
        # A TypedDict is a class of no instances.
        return dict if hasattr(annotation, "__total__") else annotation
    if get_origin(annotation) is Union:
        classes: list[type] = []
        for member in get_args(annotation):
            found = _classes_of(member)
            if found is None:
                return None
            classes += found if isinstance(found, tuple) else [found]
        return tuple(classes)
    return None


def _is_pydantic(annotation: Any) -> bool:
    """Whether a type is, or mentions, one of pydantic's."""
    from typing import get_args

    if hasattr(annotation, "__pydantic_validator__") or hasattr(
        annotation, "__pydantic_core_schema__"
    ):
        return True
    return any(_is_pydantic(argument) for argument in get_args(annotation))


def _encoder(annotation: Any, format: str) -> Callable[[Any], bytes]:
    if _is_pydantic(annotation):
        adapter = _import("pydantic", "pydantic").TypeAdapter(annotation)
        if format == "json":
            return cast(Callable[[Any], bytes], adapter.dump_json)
        to_bytes, _ = _functions(format)
        return lambda value: to_bytes(adapter.dump_python(value, mode="json"))
    msgspec = _import("msgspec", "typed")
    if format == "json":
        return cast(Callable[[Any], bytes], msgspec.json.Encoder().encode)
    if format == "msgpack":
        return cast(Callable[[Any], bytes], msgspec.msgpack.Encoder().encode)
    to_bytes, _ = _functions(format)
    builtins = (bytes, bytearray)
    return lambda value: to_bytes(msgspec.to_builtins(value, builtin_types=builtins))


def _decoder(annotation: Any, format: str) -> Callable[[bytes], Any]:
    if _is_pydantic(annotation):
        return _pydantic_decoder(annotation, format)
    msgspec = _import("msgspec", "typed")
    if format == "json":
        decode = msgspec.json.Decoder(annotation).decode
    elif format == "msgpack":
        decode = msgspec.msgpack.Decoder(annotation).decode
    else:
        _, from_bytes = _functions(format)

        def decode(data: bytes) -> Any:
            return msgspec.convert(from_bytes(data), annotation, builtin_types=(bytes, bytearray))

    def checked(data: bytes) -> Any:
        try:
            return decode(data)
        except Exception as error:
            # Such as "Expected `int`, got `str` - at `$.steps[2].size`", or what the format's own
            # library says of bytes that are none of it.
            raise DecodeError(f"expected {_name(annotation)}: {error}") from error

    return checked


def _pydantic_decoder(annotation: Any, format: str) -> Callable[[bytes], Any]:
    pydantic = _import("pydantic", "pydantic")
    adapter = pydantic.TypeAdapter(annotation)

    def decode(data: bytes) -> Any:
        try:
            if format == "json":
                return adapter.validate_json(data)
            _, from_bytes = _functions(format)
            return adapter.validate_python(from_bytes(data))
        except pydantic.ValidationError as error:
            faults = "; ".join(
                f"{fault['msg']} - at `{_path(fault['loc'])}`, got {fault['input']!r:.100}"
                for fault in error.errors(include_url=False)
            )
            raise DecodeError(f"expected {_name(annotation)}: {faults}") from error
        except Exception as error:
            raise DecodeError(f"expected {_name(annotation)}: {error}") from error

    return decode


def _path(location: tuple[Union[int, str], ...]) -> str:
    return "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
