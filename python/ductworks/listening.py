"""Ducts between two programs: listening for them, and connecting."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Generic, Optional, TypeVar, Union, overload

from ductworks import _native
from ductworks._native import DEFAULT_MESSAGE_LIMIT
from ductworks.base_duct import NotConnectedException
from ductworks.codecs import Codec, Named, Typed, resolve
from ductworks.duct import CodecPair, Duct

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
        keepalive: Optional[float]
        certfile: Optional[File]
        keyfile: Optional[File]
        cafile: Optional[File]
        token: bool
        advertise: Optional[str]

    class _Connecting(TypedDict, total=False):
        """The options of :func:`connect` that have nothing to do with types."""

        timeout: Optional[float]
        v1: bool
        handshake_timeout: float
        max_message_size: int
        keepalive: Optional[float]
        certfile: Optional[File]
        keyfile: Optional[File]
        cafile: Optional[File]


__all__ = ["Address", "Listener", "connect", "listen"]

T = TypeVar("T")
SendT = TypeVar("SendT")
RecvT = TypeVar("RecvT")

Address = Union[str, "os.PathLike[str]", "tuple[str, int]"]
"""``"unix:/path"``, ``"tcp:host:port"``, ``"tcp:[::1]:port"``, ``"tls:host:port"``; a path; or a
host and a port."""

File = Union[str, "os.PathLike[str]"]
"""The path of a file."""


class Listener(Generic[SendT, RecvT]):
    """Accepts any number of ducts at one address; made by :func:`listen`.

    Iterating over it accepts one duct after another until it is closed.
    """

    def __init__(self, listener: _native.DuctListener, codec: Any, **options: Any) -> None:
        self._listener = listener
        self._codec = codec
        self._options = options

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
        socket = self._listener.accept(timeout)
        return Duct(socket, self._codec, address=self.address, **self._options)

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
    keepalive: Optional[float] = None,
    certfile: Optional[File] = None,
    keyfile: Optional[File] = None,
    cafile: Optional[File] = None,
    token: bool = True,
    advertise: Optional[str] = None,
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
    :param keepalive: Notice within so many seconds, and one more, that the other host or the
        network to it is gone: at least 1. Whoever waits then gets PeerDied; an end that is slow, or
        does not read, is none that is gone. None leaves that to the system, which may take hours.
        It concerns TCP only, with TLS or without.
    :param certfile: For a ``tls:`` address: a PEM file with the certificate to be known by, and the
        chain behind it. Default: a new key, which the ticket says how to recognise.
    :param keyfile: A PEM file with the certificate's key; default: it is in ``certfile``.
    :param cafile: A PEM file with the authorities of which clients have to show a certificate.
    :param token: False: let those in who show such a certificate, without a token.
    :param advertise: The host that the address and the ticket name, where others reach this one by
        another name than it listens at. Default at a ``tls:`` address for all interfaces: an IP
        address of this host.
    :raises ValueError: if the address is malformed, or can be reached from other hosts without
        encryption; or if a PEM file is of no use.
    :raises OSError: if the address is in use or cannot be made, or a file cannot be read.
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
        keepalive=keepalive,
        codec=_name_on_the_wire(codec),
        certfile=certfile,
        keyfile=keyfile,
        cafile=cafile,
        token=token,
        advertise=advertise,
    )
    return Listener(listener, codec, max_message_size=max_message_size, keepalive=keepalive)


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
    keepalive: Optional[float] = None,
    certfile: Optional[File] = None,
    keyfile: Optional[File] = None,
    cafile: Optional[File] = None,
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
    :param keepalive: See :func:`listen`.
    :param certfile: A PEM file with a certificate to show to a listener that asks for one.
    :param keyfile: A PEM file with the certificate's key; default: it is in ``certfile``.
    :param cafile: A PEM file with the authorities that may vouch for a listener at a ``tls:``
        address without a pin. Default: those that the system trusts.
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
        keepalive=keepalive,
        codec=_name_on_the_wire(codec),
        certfile=certfile,
        keyfile=keyfile,
        cafile=cafile,
    )
    where = _native.address_of(ticket)
    return Duct(
        socket, codec, address=where, max_message_size=max_message_size, keepalive=keepalive
    )


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
    if not isinstance(address, str):
        # It may be a ticket, which is not to be shown.
        expected = "expected a text, a path, or a host and a port"
        raise TypeError(f"{expected}, got a value of type {type(address).__name__}")
    return f"unix:{address}" if address.startswith("/") else address
