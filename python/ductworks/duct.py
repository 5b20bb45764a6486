"""Ducts: connected ends of a channel of messages."""

from __future__ import annotations

import multiprocessing.reduction
import os
import time
from collections.abc import Iterable
from multiprocessing.connection import wait as _wait_for_any
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    NoReturn,
    Optional,
    TypeVar,
    overload,
)

from ductworks import _native
from ductworks._farewell import leave_at_exit
from ductworks._native import DEFAULT_MESSAGE_LIMIT
from ductworks.codecs import Codec, Typed, mirrored, resolve

if TYPE_CHECKING:
    from typing_extensions import TypeForm

__all__ = ["CodecPair", "Duct", "pair", "wait"]

T = TypeVar("T")
SendT = TypeVar("SendT")
RecvT = TypeVar("RecvT")

CodecPair = tuple[Callable[[SendT], Any], Callable[[bytes], RecvT]]
"""A callable that encodes and one that decodes."""


class Duct(_native.Duct[SendT, RecvT]):
    """One end of a channel: one send is one recv.

    Ducts are made by :func:`pair`, :func:`connect` and :func:`listen`. All methods may be called
    from several threads at the same time. A timeout is in seconds, None waits for ever, and
    TimeoutError means that nothing is lost: what was received in part is completed by the next
    call, and of what was to be sent not a byte went out.

    A duct that is closed, or whose process ends in an orderly way, says farewell: the other end
    receives what was sent and then the end (:class:`~ductworks.PeerClosed`). Where the process is
    killed or crashes, that is told apart (:class:`~ductworks.PeerDied`).

    :param socket: The number of a connected stream socket, which from now on belongs to the duct.
        Where an exception is raised, it stays the caller's.
    :param codec: See :func:`pair`.
    :raises ValueError: if it is no connected stream socket, or an option cannot be.
    :raises PermissionError: if the other end runs as another user.
    """

    def __init__(
        self,
        socket: Any,
        codec: Any,
        *,
        address: Optional[str] = None,
        max_message_size: int = DEFAULT_MESSAGE_LIMIT,
        protocol: Optional[int] = None,
        keepalive: Optional[float] = None,
    ) -> None:
        leave_at_exit(self)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"cannot pickle a {type(self).__name__}: a descriptor has no meaning in another "
            "process. Hand it to a child through the arguments of multiprocessing.Process, or send "
            "it through a duct with the pickle codec"
        )


def _rebuild(kind: type[Any], descriptor: Any, codec: Any, options: dict[str, Any]) -> Any:
    number = descriptor.detach()
    try:
        return kind(number, codec, **options)
    except BaseException:
        os.close(number)
        raise


def _reduce(duct: Duct[Any, Any]) -> tuple[Any, ...]:
    duct._share()
    descriptor = multiprocessing.reduction.DupFd(duct.fileno())
    options = {
        name: getattr(duct, name)
        for name in ("address", "max_message_size", "protocol", "keepalive")
    }
    return _rebuild, (type(duct), descriptor, duct.codec, options)


multiprocessing.reduction.register(Duct, _reduce)


@overload
def pair(
    codec: str = "json", *, type: None = None, max_message_size: int = ...
) -> tuple[Duct[Any, Any], Duct[Any, Any]]: ...
@overload
def pair(
    codec: Typed[SendT, RecvT], *, type: None = None, max_message_size: int = ...
) -> tuple[Duct[SendT, RecvT], Duct[RecvT, SendT]]: ...
@overload
def pair(
    codec: Codec[SendT, RecvT], *, type: None = None, max_message_size: int = ...
) -> tuple[Duct[SendT, RecvT], Duct[SendT, RecvT]]: ...
@overload
def pair(
    codec: CodecPair[SendT, RecvT], *, type: None = None, max_message_size: int = ...
) -> tuple[Duct[SendT, RecvT], Duct[SendT, RecvT]]: ...
@overload
def pair(
    codec: str = "json", *, type: type[T], max_message_size: int = ...
) -> tuple[Duct[T, T], Duct[T, T]]: ...
@overload
def pair(
    codec: str = "json", *, type: TypeForm[T], max_message_size: int = ...
) -> tuple[Duct[T, T], Duct[T, T]]: ...
@overload
def pair(
    codec: str = "json", *, type: Any, max_message_size: int = ...
) -> tuple[Duct[Any, Any], Duct[Any, Any]]: ...
def pair(
    codec: Any = "json", *, type: Any = None, max_message_size: int = DEFAULT_MESSAGE_LIMIT
) -> tuple[Duct[Any, Any], Duct[Any, Any]]:
    """Make two connected ducts.

    >>> a, b = ductworks.pair()
    >>> a.send({"job": 1})
    >>> b.recv()
    {'job': 1}

    :param codec: How values become messages: ``"json"``, ``"msgpack"``, ``"cbor"``, ``"pickle"``,
        ``"raw"``, a pair of callables, or an object with ``encode`` and ``decode``.
    :param type: What is sent and received: a dataclass, TypedDict, msgspec Struct, pydantic model,
        or another annotation that these know.
    :param max_message_size: The largest message, in bytes, that may be sent or received.
    """
    codec = resolve(codec, type)
    a, b = _native.socket_pair()
    return (
        Duct(a, codec, max_message_size=max_message_size),
        Duct(b, mirrored(codec), max_message_size=max_message_size),
    )


def wait(objects: Iterable[Any], timeout: Optional[float] = None) -> list[Any]:
    """Wait until something can be received from any of the objects, and return those.

    :param objects: Ducts, connections, listeners, sockets, processes' sentinels, descriptors, or
        whatever has a ``fileno()``. A duct counts once a whole message, or its end, is there.
    :param timeout: How many seconds to wait; None waits for ever.
    :return: The objects that are ready; none of them when the time is up.
    """
    objects = list(objects)
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        ready = _wait_for_any(objects, left)
        # A part of a message makes its descriptor ready as well. poll() takes it in.
        whole = [each for each in ready if not isinstance(each, _native.Duct) or each.poll()]
        if whole or not ready:
            return whole
