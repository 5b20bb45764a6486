"""Ducts: connected ends of a channel of messages, and the ways to come by one."""

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
    Generic,
    NoReturn,
    Optional,
    TypeVar,
    Union,
    overload,
)

from ductworks import _native
from ductworks._farewell import leave_at_exit
from ductworks._native import DEFAULT_MESSAGE_LIMIT
from ductworks.base_duct import NotConnectedException
from ductworks.codecs import Codec, Named, Typed, mirrored, resolve

if TYPE_CHECKING:
    from typing import TypedDict

    from typing_extensions import TypeForm, Unpack

    class _Listening(TypedDict, total=False):
        """The options of :func:`listen` that have nothing to do with types."""

        backlog: int
        insecure: bool
        v1: bool
        reusable: bool
        handshake_timeout: float
        max_message_size: int

    class _Connecting(TypedDict, total=False):
        """The options of :func:`connect` that have nothing to do with types."""

        timeout: Optional[float]
        v1: bool
        handshake_timeout: float
        max_message_size: int


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
        leave_at_exit(self)

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


class Listener(Generic[SendT, RecvT]):
    """Accepts any number of ducts at one address; made by :func:`listen`.

    Iterating over it accepts one duct after another until it is closed.
    """

    def __init__(self, listener: _native.DuctListener, codec: Any, max_message_size: int) -> None:
        self._listener = listener
        self._codec = codec
        self._max_message_size = max_message_size

    @property
    def address(self) -> str:
        """Where it listens. There is no secret in it, and by itself it admits nobody."""
        return self._listener.address

    @property
    def ticket(self) -> str:
        """What the next child needs to be let in: the address and a token. It is a secret: hand it
        on in an environment variable or by another private way, not on a command line, which every
        user of the host can read. Unless it is reusable, it admits one."""
        return self._listener.ticket

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
    **options: Unpack[_Listening],
) -> Listener[Any, Any]: ...
@overload
def listen(
    address: Optional[Address] = None,
    *,
    codec: Codec[SendT, RecvT],
    type: None = None,
    **options: Unpack[_Listening],
) -> Listener[SendT, RecvT]: ...
@overload
def listen(
    address: Optional[Address] = None,
    *,
    codec: CodecPair[SendT, RecvT],
    type: None = None,
    **options: Unpack[_Listening],
) -> Listener[SendT, RecvT]: ...
@overload
def listen(
    address: Optional[Address] = None,
    *,
    codec: str = "json",
    type: type[T],
    **options: Unpack[_Listening],
) -> Listener[T, T]: ...
@overload
def listen(
    address: Optional[Address] = None,
    *,
    codec: str = "json",
    type: TypeForm[T],
    **options: Unpack[_Listening],
) -> Listener[T, T]: ...
@overload
def listen(
    address: Optional[Address] = None,
    *,
    codec: str = "json",
    type: Any,
    **options: Unpack[_Listening],
) -> Listener[Any, Any]: ...
def listen(
    address: Optional[Address] = None,
    *,
    codec: Any = "json",
    type: Any = None,
    backlog: int = 128,
    insecure: bool = False,
    v1: bool = False,
    reusable: bool = False,
    handshake_timeout: float = 10.0,
    max_message_size: int = DEFAULT_MESSAGE_LIMIT,
) -> Listener[Any, Any]:
    """Listen for ducts at an address.

    Whoever connects has to prove that they know the token in :attr:`Listener.ticket`. Others are
    turned away while listening goes on; the logger ``ductworks`` tells who and why.

    :param address: Where. Default: a private, random Unix address. Port 0 lets the system choose
        one.
    :param codec: See :func:`pair`.
    :param type: See :func:`pair`.
    :param backlog: How many connections may wait to be accepted.
    :param insecure: Allows a TCP address that other hosts can reach: whoever can read along there
        can read and change what is sent, the token notwithstanding.
    :param v1: Let those in who speak version 1 of the protocol, the original library among them.
        They bring no token: whoever can reach the address is let in.
    :param reusable: Let one ticket admit any number of ducts. Default: each admits one, and then
        the listener has another.
    :param handshake_timeout: How many seconds a client has to prove itself.
    :param max_message_size: See :func:`pair`.
    """
    codec = resolve(codec, type)
    listener = _native.DuctListener(
        None if address is None else _text_of(address),
        backlog=backlog,
        insecure=insecure,
        v1=v1,
        reusable=reusable,
        handshake_timeout=handshake_timeout,
        limit=max_message_size,
        codec=_name_on_the_wire(codec),
    )
    return Listener(listener, codec, max_message_size)


@overload
def connect(
    address: Address,
    *,
    codec: str = "json",
    type: None = None,
    **options: Unpack[_Connecting],
) -> Duct[Any, Any]: ...
@overload
def connect(
    address: Address,
    *,
    codec: Codec[SendT, RecvT],
    type: None = None,
    **options: Unpack[_Connecting],
) -> Duct[SendT, RecvT]: ...
@overload
def connect(
    address: Address,
    *,
    codec: CodecPair[SendT, RecvT],
    type: None = None,
    **options: Unpack[_Connecting],
) -> Duct[SendT, RecvT]: ...
@overload
def connect(
    address: Address,
    *,
    codec: str = "json",
    type: type[T],
    **options: Unpack[_Connecting],
) -> Duct[T, T]: ...
@overload
def connect(
    address: Address,
    *,
    codec: str = "json",
    type: TypeForm[T],
    **options: Unpack[_Connecting],
) -> Duct[T, T]: ...
@overload
def connect(
    address: Address,
    *,
    codec: str = "json",
    type: Any,
    **options: Unpack[_Connecting],
) -> Duct[Any, Any]: ...
def connect(
    address: Address,
    *,
    timeout: Optional[float] = 5.0,
    codec: Any = "json",
    type: Any = None,
    v1: bool = False,
    handshake_timeout: float = 60.0,
    max_message_size: int = DEFAULT_MESSAGE_LIMIT,
) -> Duct[Any, Any]:
    """Connect with a listener's ticket, trying again while nobody listens there.

    :param address: The ticket; or an address, where the listener asks for no token.
    :param timeout: How many seconds to try; None tries for ever.
    :param codec: See :func:`pair`. If both sides use a named one, it has to be the same.
    :param type: See :func:`pair`.
    :param v1: Speak version 1 of the protocol at a TCP address, which cannot tell by itself. At a
        Unix address that is found out.
    :param handshake_timeout: How many seconds the listener has to accept once it was reached.
    :param max_message_size: See :func:`pair`. The smaller of what both sides say holds.
    :raises ConnectionRefusedError, FileNotFoundError: if nobody listened there until the time was
        up.
    :raises PermissionError: if the listener runs as another user, refuses the ticket, or does not
        know its token itself; or if the codecs differ.
    :raises TimeoutError: if it was reached and did not accept.
    :raises ConnectionResetError: if it went away before it accepted.
    """
    codec = resolve(codec, type)
    ticket = _text_of(address)
    socket = _native.connect_duct(
        ticket,
        timeout=timeout,
        v1=v1,
        handshake_timeout=handshake_timeout,
        limit=max_message_size,
        codec=_name_on_the_wire(codec),
    )
    where = _native.address_of(ticket)
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


def _name_on_the_wire(codec: Any) -> str:
    """The name by which two ends compare their codecs; none where they cannot be compared."""
    if isinstance(codec, str):
        return codec
    if isinstance(codec, Typed):
        return codec.format
    return codec.name if isinstance(codec, Named) else ""


def _text_of(address: Address) -> str:
    if isinstance(address, tuple):
        host, port = address
        return f"tcp:[{host}]:{port}" if ":" in host else f"tcp:{host}:{port}"
    if isinstance(address, os.PathLike):
        return f"unix:{os.fspath(address)}"
    return f"unix:{address}" if address.startswith("/") else address
