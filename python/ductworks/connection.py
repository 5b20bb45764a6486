"""``multiprocessing.connection`` on this package's engine: the same names and the same behaviour.

Change the import, and nothing else::

    from ductworks.connection import Client, Listener, Pipe, wait

docs/multiprocessing.md compares the two row by row.
"""

from __future__ import annotations

import contextlib
import multiprocessing.reduction
import os
import socket
from collections.abc import Iterator
from multiprocessing import AuthenticationError, BufferTooShort
from multiprocessing.connection import wait
from typing import Any, NoReturn, Optional, Union

from ductworks import _native

__all__ = [
    "AuthenticationError",
    "BufferTooShort",
    "Client",
    "Connection",
    "Listener",
    "Pipe",
    "wait",
]

Address = Union[str, bytes, "tuple[Any, ...]"]
"""A path, or a tuple of a host and a port, as multiprocessing takes them."""


class Connection(_native.Connection):
    """One end of a connection, with the methods of multiprocessing's.

    :param handle: The number of a connected descriptor, which from now on belongs to the
        connection.
    :param readable: Whether this end may receive.
    :param writable: Whether this end may send.
    """

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"cannot pickle a {type(self).__name__}: a descriptor has no meaning in another "
            "process. Hand it to a child through the arguments of multiprocessing.Process, or send "
            "it through another connection"
        )


def Pipe(duplex: bool = True) -> tuple[Connection, Connection]:
    """Make two connected ends.

    :param duplex: Whether both ends may send and receive. Else the first only receives, and the
        second only sends.
    """
    a, b = _native.pipe()
    return Connection(a, True, duplex), Connection(b, duplex, True)


class Listener:
    """Accepts connections at one address, from whoever speaks multiprocessing's wire.

    Somebody who does not prove to know the key within the time for that is turned away, and
    listening goes on meanwhile. A Unix address admits only processes of the same user.

    :param address: A path, or a tuple of a host and a port. Default: a private, random path.
    :param family: ``"AF_UNIX"`` or ``"AF_INET"``. Default: what the address is.
    :param backlog: How many connections may wait to be accepted.
    :param authkey: The key that both ends have to know, or None.
    :param handshake_timeout: How many seconds a client has to prove that it knows the key.
    """

    def __init__(
        self,
        address: Optional[Address] = None,
        family: Optional[str] = None,
        backlog: int = 1,
        authkey: Optional[bytes] = None,
        *,
        handshake_timeout: float = 10.0,
    ) -> None:
        self._listener: Optional[_native.Listener] = None
        if not handshake_timeout > 0:
            expected = "expected a handshake_timeout of more than zero seconds"
            raise ValueError(f"{expected}, got {handshake_timeout}: nobody could be let in")
        family = family or (_family_of(address) if address else "AF_UNIX")
        _check(family, authkey)
        if not address and family == "AF_INET":
            address = ("localhost", 0)
        with _bad_addresses():
            self._listener = _native.Listener(
                _text_of(address) if address else None,
                backlog=backlog,
                # Whoever listens so has chosen it, and has the key against strangers.
                insecure=True,
                authkey=authkey,
                handshake_timeout=handshake_timeout,
            )
        self._address = _form_of(self._listener.address)
        self._last_accepted: Any = None

    def accept(self, *, timeout: Optional[float] = None) -> Connection:
        """Wait for somebody to connect.

        :param timeout: How many seconds to wait; None waits for ever.
        :raises TimeoutError: when the time is up.
        :raises OSError: if the listener is closed, by another thread perhaps.
        """
        listener = self._listener
        if listener is None:
            raise OSError("listener is closed")
        try:
            accepted = listener.accept(timeout)
        except Exception:
            if listener.closed:
                raise OSError("listener is closed") from None
            raise
        with socket.socket(fileno=os.dup(accepted.fileno())) as peer:
            try:
                self._last_accepted = peer.getpeername()
            except OSError:  # It has gone again, which its connection will tell.
                self._last_accepted = ""
        return Connection(accepted)

    def close(self) -> None:
        """Stop listening and remove the name. Closing again does nothing."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()

    def fileno(self) -> int:
        """The descriptor, readable when somebody waits to be accepted."""
        if self._listener is None:
            raise OSError("listener is closed")
        return self._listener.fileno()

    @property
    def address(self) -> Any:
        """Where to connect: a path, or a tuple of a host and a port."""
        return self._address

    @property
    def last_accepted(self) -> Any:
        """The address of the client that was accepted last, or None."""
        return self._last_accepted

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


def Client(
    address: Address,
    family: Optional[str] = None,
    authkey: Optional[bytes] = None,
    *,
    handshake_timeout: float = 10.0,
) -> Connection:
    """Connect to a listener.

    :param address: The listener's.
    :param family: ``"AF_UNIX"`` or ``"AF_INET"``. Default: what the address is.
    :param authkey: The key that both ends have to know, or None.
    :param handshake_timeout: How many seconds the two may take to prove it.
    :raises AuthenticationError: if one of the two does not know the key.
    """
    _check(family or _family_of(address), authkey)
    with _bad_addresses():
        connected = _native.connect(
            _text_of(address),
            timeout=None,
            retry=False,
            authkey=authkey,
            handshake_timeout=handshake_timeout,
        )
    return Connection(connected)


@contextlib.contextmanager
def _bad_addresses() -> Iterator[None]:
    """Raise what multiprocessing raises for an address that cannot be, such as a path too long."""
    try:
        yield
    except ValueError as error:
        raise OSError(str(error)) from None


def _family_of(address: Any) -> str:
    if isinstance(address, tuple):
        return "AF_INET"
    if isinstance(address, str) and address.startswith("\\\\"):
        return "AF_PIPE"
    if isinstance(address, str):
        return "AF_UNIX"
    refusal = ValueError if isinstance(address, bytes) else TypeError
    raise refusal(f"address type of {_native.masked(repr(address))} unrecognized")


def _check(family: str, authkey: Any) -> None:
    if family == "AF_PIPE":
        raise ValueError(f"Family {family} is not recognized.")
    if family not in ("AF_UNIX", "AF_INET"):
        raise ValueError("unrecognized family")
    if authkey is not None and not isinstance(authkey, bytes):
        raise TypeError("authkey should be a byte string")


def _text_of(address: Any) -> str:
    if isinstance(address, str):
        return f"unix:{address}"
    host, port = address[:2]
    # As for the socket module, no host means every interface.
    host = host or "0.0.0.0"
    return f"tcp:[{host}]:{port}" if ":" in host else f"tcp:{host}:{port}"


def _form_of(address: str) -> Any:
    """The address as multiprocessing gives it."""
    if address.startswith("unix:"):
        return address[len("unix:") :]
    host, _, port = address[len("tcp:") :].rpartition(":")
    return host.strip("[]"), int(port)


def _rebuild(descriptor: Any, readable: bool, writable: bool) -> Connection:
    return Connection(descriptor.detach(), readable, writable)


def _reduce(connection: Connection) -> tuple[Any, ...]:
    descriptor = multiprocessing.reduction.DupFd(connection.fileno())
    return _rebuild, (descriptor, connection.readable, connection.writable)


multiprocessing.reduction.register(Connection, _reduce)
