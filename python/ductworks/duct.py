"""Ducts: connected ends of a channel of messages, and the ways to come by one."""

from __future__ import annotations

import atexit
import multiprocessing.process
import multiprocessing.reduction
import multiprocessing.util
import os
import time
import weakref
from collections.abc import Iterable
from multiprocessing.connection import wait as _wait_for_any
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Generic,
    NoReturn,
    Optional,
    TypeVar,
    Union,
    overload,
)

from ductworks import _native
from ductworks._native import DEFAULT_MESSAGE_LIMIT
from ductworks.base_duct import NotConnectedException
from ductworks.codecs import Codec, Typed, mirrored, resolve

if TYPE_CHECKING:
    from typing_extensions import TypeForm

__all__ = ["Address", "Duct", "Listener", "connect", "listen", "pair", "wait"]

T = TypeVar("T")
SendT = TypeVar("SendT")
RecvT = TypeVar("RecvT")

CodecPair = tuple[Callable[[SendT], Any], Callable[[bytes], RecvT]]
"""A callable that encodes and one that decodes."""

Address = Union[str, "os.PathLike[str]", "tuple[str, int]"]
"""``"unix:/path"``, ``"tcp:host:port"``, ``"tcp:[::1]:port"``; a path; or a host and a port."""


class Duct(_native.Duct[SendT, RecvT]):
    """One end of a channel: one send is one recv.

    Ducts are made by :func:`pair`, :func:`connect` and :func:`listen`. All methods may be called
    from several threads at the same time. A timeout is in seconds, None waits for ever, and
    TimeoutError means that nothing is lost: what was received in part is completed by the next
    call, and of what was to be sent not a byte went out.

    A duct that is closed, or whose process ends in an orderly way, says farewell: the other end
    receives what was sent and then the end (:class:`~ductworks.PeerClosed`). Where the process is
    killed or crashes, that is told apart (:class:`~ductworks.PeerDied`).
    """

    def __init__(
        self,
        socket: Any,
        codec: Any,
        *,
        address: Optional[str] = None,
        max_message_size: int = DEFAULT_MESSAGE_LIMIT,
        protocol: Optional[int] = None,
    ) -> None:
        _open.add(self)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"cannot pickle a {type(self).__name__}: a descriptor has no meaning in another "
            "process. Hand it to a child through the arguments of multiprocessing.Process, or send "
            "it through a duct with the pickle codec"
        )


def _rebuild(
    kind: type[Any], descriptor: Any, codec: Any, address: Optional[str], limit: int, protocol: int
) -> Any:
    number = descriptor.detach()
    return kind(number, codec, address=address, max_message_size=limit, protocol=protocol)


def _reduce(duct: Duct[Any, Any]) -> tuple[Any, ...]:
    descriptor = multiprocessing.reduction.DupFd(duct.fileno())
    duct._share()
    facts = (duct.codec, duct.address, duct.max_message_size, duct.protocol)
    return _rebuild, (type(duct), descriptor, *facts)


multiprocessing.reduction.register(Duct, _reduce)


# The ducts that say farewell when the process ends.
_open: weakref.WeakSet[Duct[Any, Any]] = weakref.WeakSet()


def _leave() -> None:
    for duct in list(_open):
        duct._leave()


def _leave_as_child(_: object = None) -> None:
    # A child of multiprocessing ends without the ordinary exit, and begins without the finalizers
    # of its parent.
    multiprocessing.util.Finalize(None, _leave, exitpriority=-100)


atexit.register(_leave)
if multiprocessing.process.parent_process() is not None:
    _leave_as_child()
multiprocessing.util.register_after_fork(_leave_as_child, _leave_as_child)
os.register_at_fork(after_in_parent=_native.forked)


class Listener(Generic[SendT, RecvT]):
    """Accepts any number of ducts at one address; made by :func:`listen`.

    Iterating over it accepts one duct after another until it is closed.
    """

    def __init__(self, listener: _native.Listener, codec: Any, max_message_size: int) -> None:
        self._listener = listener
        self._codec = codec
        self._max_message_size = max_message_size

    @property
    def address(self) -> str:
        """Where to connect, fit for a command line or an environment variable."""
        return self._listener.address

    @property
    def closed(self) -> bool:
        """Whether it has been closed."""
        return self._listener.closed

    def accept(self, timeout: Optional[float] = None) -> Duct[SendT, RecvT]:
        """Wait for somebody to connect.

        :param timeout: How many seconds to wait; None waits for ever.
        :raises TimeoutError: when the time is up.
        :raises DuctClosed: when the listener has been closed.
        """
        return Duct(
            self._listener.accept(timeout),
            self._codec,
            address=self.address,
            max_message_size=self._max_message_size,
        )

    def fileno(self) -> int:
        """The descriptor, readable when somebody waits to be accepted."""
        return self._listener.fileno()

    def close(self) -> None:
        """Stop listening and remove the name. Whoever waits in :meth:`accept` fails with
        DuctClosed; ducts that were accepted go on. Closing again does nothing."""
        self._listener.close()

    def __iter__(self) -> Listener[SendT, RecvT]:
        return self

    def __next__(self) -> Duct[SendT, RecvT]:
        try:
            return self.accept()
        except NotConnectedException:
            raise StopIteration from None

    def __enter__(self) -> Listener[SendT, RecvT]:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "listening"
        return f"<ductworks.Listener {self.address}, {state}>"


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


@overload
def listen(
    address: Optional[Address] = None,
    *,
    codec: str = "json",
    type: None = None,
    backlog: int = ...,
    insecure: bool = ...,
    max_message_size: int = ...,
) -> Listener[Any, Any]: ...
@overload
def listen(
    address: Optional[Address] = None,
    *,
    codec: Codec[SendT, RecvT],
    type: None = None,
    backlog: int = ...,
    insecure: bool = ...,
    max_message_size: int = ...,
) -> Listener[SendT, RecvT]: ...
@overload
def listen(
    address: Optional[Address] = None,
    *,
    codec: CodecPair[SendT, RecvT],
    type: None = None,
    backlog: int = ...,
    insecure: bool = ...,
    max_message_size: int = ...,
) -> Listener[SendT, RecvT]: ...
@overload
def listen(
    address: Optional[Address] = None,
    *,
    codec: str = "json",
    type: type[T],
    backlog: int = ...,
    insecure: bool = ...,
    max_message_size: int = ...,
) -> Listener[T, T]: ...
@overload
def listen(
    address: Optional[Address] = None,
    *,
    codec: str = "json",
    type: TypeForm[T],
    backlog: int = ...,
    insecure: bool = ...,
    max_message_size: int = ...,
) -> Listener[T, T]: ...
@overload
def listen(
    address: Optional[Address] = None,
    *,
    codec: str = "json",
    type: Any,
    backlog: int = ...,
    insecure: bool = ...,
    max_message_size: int = ...,
) -> Listener[Any, Any]: ...
def listen(
    address: Optional[Address] = None,
    *,
    codec: Any = "json",
    type: Any = None,
    backlog: int = 128,
    insecure: bool = False,
    max_message_size: int = DEFAULT_MESSAGE_LIMIT,
) -> Listener[Any, Any]:
    """Listen for ducts at an address.

    :param address: Where. Default: a private, random Unix address. Port 0 lets the system choose
        one.
    :param codec: See :func:`pair`.
    :param type: See :func:`pair`.
    :param backlog: How many connections may wait to be accepted.
    :param insecure: Allows a TCP address that other hosts can reach: anybody there can connect,
        read along and change what is sent.
    :param max_message_size: See :func:`pair`.
    """
    codec = resolve(codec, type)
    where = None if address is None else _text_of(address)
    listener = _native.Listener(where, backlog=backlog, insecure=insecure)
    return Listener(listener, codec, max_message_size)


@overload
def connect(
    address: Address,
    *,
    timeout: Optional[float] = ...,
    codec: str = "json",
    type: None = None,
    max_message_size: int = ...,
) -> Duct[Any, Any]: ...
@overload
def connect(
    address: Address,
    *,
    timeout: Optional[float] = ...,
    codec: Codec[SendT, RecvT],
    type: None = None,
    max_message_size: int = ...,
) -> Duct[SendT, RecvT]: ...
@overload
def connect(
    address: Address,
    *,
    timeout: Optional[float] = ...,
    codec: CodecPair[SendT, RecvT],
    type: None = None,
    max_message_size: int = ...,
) -> Duct[SendT, RecvT]: ...
@overload
def connect(
    address: Address,
    *,
    timeout: Optional[float] = ...,
    codec: str = "json",
    type: type[T],
    max_message_size: int = ...,
) -> Duct[T, T]: ...
@overload
def connect(
    address: Address,
    *,
    timeout: Optional[float] = ...,
    codec: str = "json",
    type: TypeForm[T],
    max_message_size: int = ...,
) -> Duct[T, T]: ...
@overload
def connect(
    address: Address,
    *,
    timeout: Optional[float] = ...,
    codec: str = "json",
    type: Any,
    max_message_size: int = ...,
) -> Duct[Any, Any]: ...
def connect(
    address: Address,
    *,
    timeout: Optional[float] = 5.0,
    codec: Any = "json",
    type: Any = None,
    max_message_size: int = DEFAULT_MESSAGE_LIMIT,
) -> Duct[Any, Any]:
    """Connect to an address, trying again while nobody listens there.

    :param address: Where.
    :param timeout: How many seconds to try; None tries for ever.
    :param codec: See :func:`pair`.
    :param type: See :func:`pair`.
    :param max_message_size: See :func:`pair`.
    :raises ConnectionRefusedError, FileNotFoundError: if nobody listened there until the time was
        up.
    :raises PermissionError: if the listener runs as another user.
    """
    codec = resolve(codec, type)
    where = _text_of(address)
    socket = _native.connect(where, timeout=timeout)
    return Duct(socket, codec, address=where, max_message_size=max_message_size)


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


def _text_of(address: Address) -> str:
    if isinstance(address, tuple):
        host, port = address
        return f"tcp:[{host}]:{port}" if ":" in host else f"tcp:{host}:{port}"
    if isinstance(address, os.PathLike):
        return f"unix:{os.fspath(address)}"
    return f"unix:{address}" if address.startswith("/") else address
