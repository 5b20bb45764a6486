"""Codecs: how values become messages.

A codec is named (``"json"``, ``"msgpack"``, ``"cbor"``, ``"pickle"``, ``"raw"``), or is a pair of
callables, or any object with ``encode`` and ``decode``. :class:`Typed` checks what is sent and
received against a type. docs/codecs.md says which is for what.
"""

from __future__ import annotations

import dataclasses
import reprlib
from typing import TYPE_CHECKING, Any, Callable, Generic, Protocol, TypeVar, cast, overload

from ductworks.codecs._annotations import acceptance, name_of
from ductworks.codecs._libraries import NAMES, format_by_name, library_for

if TYPE_CHECKING:
    from typing_extensions import TypeForm

__all__ = ["NAMES", "Codec", "Named", "Typed", "mirrored", "resolve"]

SendT = TypeVar("SendT")
RecvT = TypeVar("RecvT")
SendT_contra = TypeVar("SendT_contra", contravariant=True)
RecvT_co = TypeVar("RecvT_co", covariant=True)

_NATIVE = ("json", "pickle", "raw")  # A duct knows these by their names.
_TYPED = ("json", "msgpack", "cbor")
_TYPED_NAMES = "json, msgpack or cbor"


class Codec(Protocol[SendT_contra, RecvT_co]):
    """What a duct needs of a codec. If it has a ``name``, the duct's repr shows it."""

    def encode(self, value: SendT_contra, /) -> Any:
        """Make a bytes-like object of a value."""

    def decode(self, data: bytes, /) -> RecvT_co:
        """Make a value of the bytes of a message."""


def resolve(codec: Any = "json", type: Any = None) -> Any:
    """Make a codec of what a user gives: the name of a native one, or an object.

    :param codec: A name, a pair of callables, or an object with ``encode`` and ``decode``.
    :param type: What is sent and received, if not just anything; see :class:`Typed`.
    :raises ValueError: for an unknown name, or a codec that knows no types.
    :raises TypeError: for something that is no codec, or a type that no library knows.
    :raises ImportError: if the library that a codec needs is not installed.
    """
    if type is not None:
        if not isinstance(codec, str):
            raise ValueError(
                f"type= goes with the name of a codec that knows types ({_TYPED_NAMES}), not with "
                f"{codec!r}: let the decode() of your own codec check"
            )
        return Typed(send=type, recv=type, format=codec)
    if isinstance(codec, str):
        return codec if codec in _NATIVE else Named(codec)
    if isinstance(codec, tuple) and len(codec) == 2 and all(map(callable, codec)):
        return Pair(*codec)
    if _has_both(codec) and not isinstance(codec, _TYPE):
        return codec
    hint = ""
    if isinstance(codec, _TYPE):
        hint = ": call it" if _has_both(codec) else ": a type goes into type="
    raise TypeError(
        f"expected a codec, that is one of {', '.join(NAMES)}, a pair of callables "
        f"(encode, decode), or an object with encode() and decode(); got {codec!r}{hint}"
    )


_TYPE = type


def _has_both(codec: Any) -> bool:
    return callable(getattr(codec, "encode", None)) and callable(getattr(codec, "decode", None))


def mirrored(codec: Any) -> Any:
    """The codec of the other end: one that sends what this one receives."""
    if isinstance(codec, Typed) and codec.send is not codec.recv:
        return Typed(send=codec.recv, recv=codec.send, format=codec.format)
    return codec


@dataclasses.dataclass(frozen=True)
class Pair(Generic[SendT, RecvT]):
    """A pair of callables as a codec."""

    encode: Callable[[SendT], Any]
    decode: Callable[[bytes], RecvT]

    @property
    def name(self) -> str:
        """The name of the encoding callable."""
        return getattr(self.encode, "__qualname__", type(self.encode).__qualname__)


class Named:
    """A codec of a third-party library. A pickle of it is its name."""

    def __init__(self, name: str) -> None:
        library = format_by_name(name)
        self.name = name
        self.encode: Callable[[Any], bytes] = library.encode
        self.decode: Callable[[bytes], Any] = library.decode

    def __reduce__(self) -> tuple[Any, ...]:
        return Named, (self.name,)

    def __repr__(self) -> str:
        return f"<codec {self.name}>"


class Typed(Generic[SendT, RecvT]):
    """A codec for values of known types, which checks every message that is received.

    pydantic's models and dataclasses, and what contains them, are the business of pydantic; other
    dataclasses, TypedDicts, NamedTuples, attrs classes, msgspec's Structs and annotations such as
    ``list[int]`` or ``Union[Job, Stop]`` are that of msgspec.

    :param send: The type of what is sent.
    :param recv: The type of what is received.
    :param format: ``"json"``, ``"msgpack"`` or ``"cbor"``.
    :raises TypeError: if the library does not know a type.
    :raises ValueError: for another format.
    :raises ImportError: if the library is not installed.
    """

    send: Any
    recv: Any
    format: str

    @overload
    def __init__(
        self: Typed[SendT, RecvT], send: type[SendT], recv: type[RecvT], format: str = "json"
    ) -> None: ...
    @overload
    def __init__(
        self: Typed[SendT, RecvT],
        send: TypeForm[SendT],
        recv: TypeForm[RecvT],
        format: str = "json",
    ) -> None: ...
    @overload  # For type checkers that do not know what a union is as a value.
    def __init__(self: Typed[Any, Any], send: Any, recv: Any, format: str = "json") -> None: ...
    def __init__(self, send: Any, recv: Any, format: str = "json") -> None:
        if format not in _TYPED:
            raise ValueError(f"a typed duct speaks {_TYPED_NAMES}, not {format!r}")
        self.send = send
        self.recv = recv
        self.format = format
        self._accepts = acceptance(send)
        self._encode = library_for(send).encoder(send, format)
        self._decode = library_for(recv).decoder(recv, format)

    @property
    def name(self) -> str:
        """What travels, and how."""
        if self.send is self.recv:
            return f"{name_of(self.send)} as {self.format}"
        return f"{name_of(self.send)} out and {name_of(self.recv)} in as {self.format}"

    def encode(self, value: SendT, /) -> bytes:
        """Make the message for a value.

        :raises TypeError: if it is not of the type.
        """
        if not self._accepts(value):
            raise TypeError(
                f"expected {name_of(self.send)} to send, got {type(value).__name__}: "
                f"{reprlib.repr(value)}"
            )
        return cast(bytes, self._encode(value))

    def decode(self, data: bytes, /) -> RecvT:
        """Make the value of a message.

        :raises ductworks.DecodeError: if it is not of the type; the text names the field.
        """
        return cast(RecvT, self._decode(data))

    def __reduce__(self) -> tuple[Any, ...]:
        return Typed, (self.send, self.recv, self.format)

    def __repr__(self) -> str:
        send, recv = name_of(self.send), name_of(self.recv)
        return f"Typed(send={send}, recv={recv}, format={self.format!r})"
