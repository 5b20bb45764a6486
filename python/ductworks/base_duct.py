"""Raw ducts: one end of a byte stream between a parent and a child.

This is the original library's module of that name. Sending, receiving and polling are native; this
file says how sockets come to be and to their end, through constructors and destructors that can be
replaced.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import threading
import time
from typing import Any, Callable, Optional, Union

from ductworks import _native

__all__ = [
    "AlreadyConnectedException",
    "CommunicationFaultException",
    "DuctworksException",
    "LocalSocketFault",
    "NotConnectedException",
    "RawDuctChild",
    "RawDuctParent",
    "client_socket_destructor",
    "tcp_ipv6_socket_constructor",
    "tcp_socket_constructor",
    "tcp_socket_listener_destructor",
    "unix_domain_socket_constructor",
    "unix_domain_socket_listener_destructor",
]

Address = Union[str, bytes, "tuple[Any, ...]"]
"""A path, or a tuple of a host and a port, as the socket module takes them."""

# How often a private directory is made anew.
_ATTEMPTS = 8

_FIRST_PAUSE = 0.001
_LONGEST_PAUSE = 0.05


class DuctworksException(Exception):
    """The base of all exceptions of this package."""


class CommunicationFaultException(DuctworksException):
    """The listener's socket failed while it waited for the child."""


class AlreadyConnectedException(DuctworksException):
    """The duct is connected already."""


class NotConnectedException(DuctworksException):
    """The duct is not connected: not yet, or not any more."""


class LocalSocketFault(DuctworksException):
    """The local socket is of no use any more."""


def unix_domain_socket_constructor(linger_time: int = 3) -> socket.socket:
    """Make a Unix stream socket.

    :param linger_time: Kept for compatibility. A Unix socket delivers what was sent whether it
        lingers or not.
    """
    return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)


def tcp_socket_constructor(linger_time: int = 10, tcp_no_delay: int = 1) -> socket.socket:
    """Make an IPv4 TCP socket.

    :param linger_time: 0 makes close() throw away what has not been delivered and reset the
        connection. Any other number of seconds is kept for compatibility: the system delivers in
        the background what was sent, and close() does not wait for it.
    :param tcp_no_delay: 1 sends small messages at once, 0 lets the system collect them (Nagle).
    """
    return _tcp_socket(socket.AF_INET, linger_time, tcp_no_delay)


def tcp_ipv6_socket_constructor(linger_time: int = 10, tcp_no_delay: int = 1) -> socket.socket:
    """Make an IPv6 TCP socket; the parameters are those of :func:`tcp_socket_constructor`."""
    return _tcp_socket(socket.AF_INET6, linger_time, tcp_no_delay)


def _tcp_socket(family: int, linger_time: int, tcp_no_delay: int) -> socket.socket:
    new_socket = socket.socket(family, socket.SOCK_STREAM)
    try:
        new_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        new_socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        new_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, tcp_no_delay)
        if linger_time == 0:
            new_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except BaseException:
        new_socket.close()
        raise
    return new_socket


def _shutdown_and_close(
    some_socket: socket.socket, shutdown: bool, shutdown_mode: int = socket.SHUT_RDWR
) -> None:
    try:
        if shutdown:
            # It is no failure that the other end, or the connection itself, is gone already.
            with contextlib.suppress(OSError):
                some_socket.shutdown(shutdown_mode)
    finally:
        some_socket.close()


def unix_domain_socket_listener_destructor(
    listener_socket: socket.socket, shutdown: bool = False, shutdown_mode: int = socket.SHUT_RDWR
) -> None:
    """Close a Unix listener and remove its name.

    :param listener_socket: The socket to close.
    :param shutdown: Whether to shut the socket down as well. It then stops listening in every
        process that holds a copy of it.
    :param shutdown_mode: The directions to shut down.
    """
    address = listener_socket.getsockname()
    _shutdown_and_close(listener_socket, shutdown, shutdown_mode)
    if address:
        with contextlib.suppress(OSError):
            os.unlink(address)


def tcp_socket_listener_destructor(
    listener_socket: socket.socket, shutdown: bool = False, shutdown_mode: int = socket.SHUT_RDWR
) -> None:
    """Close a TCP listener.

    :param listener_socket: The socket to close.
    :param shutdown: Whether to shut the socket down as well.
    :param shutdown_mode: The directions to shut down.
    """
    _shutdown_and_close(listener_socket, shutdown, shutdown_mode)


def client_socket_destructor(
    client_socket: socket.socket, shutdown: bool = False, shutdown_mode: int = socket.SHUT_RDWR
) -> None:
    """Close a connected socket.

    :param client_socket: The socket to close.
    :param shutdown: Whether to shut the connection down as well. It then ends in every process that
        holds a copy of the socket.
    :param shutdown_mode: The directions to shut down.
    """
    _shutdown_and_close(client_socket, shutdown, shutdown_mode)


def _refuse_oneself(connected_socket: Any) -> None:
    """Where nobody listens at a TCP port of this host, the system may pick that very port for the
    connecting end, which then talks to itself."""
    here = connected_socket.getsockname()
    if isinstance(here, tuple) and here == connected_socket.getpeername():
        raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))


def _refuse_ticket(address: Any) -> None:
    """A ticket is no address of this API, and no error is to show it. Whatever else is wrong with
    an address is told when it is used."""
    for part in address if isinstance(address, tuple) else (address,):
        text = os.fsdecode(part) if isinstance(part, (str, bytes)) else ""
        if _native.is_ticket(text.encode(errors="replace").decode()):
            raise ValueError(
                "expected an address, and got a ticket, which is a secret: connect with "
                "ductworks.connect, or use the address alone, which is the part before its #"
            )


def _identity(address: Any) -> Optional[tuple[int, int]]:
    """Which file a Unix address names, if it is one and exists."""
    if not address or not isinstance(address, (str, bytes)):
        return None
    try:
        facts = os.lstat(address)
    except (OSError, ValueError):  # An abstract address is no path.
        return None
    return facts.st_dev, facts.st_ino


def _path_for_v2(duct: Any, constructor: Callable[[], Any], address: Any) -> Optional[str]:
    """The path beside which version 2 of the protocol may be spoken, if it may: by a duct of
    messages, over an ordinary Unix socket of this package's own making."""
    plain = duct._carries_messages and constructor is unix_domain_socket_constructor
    if plain and isinstance(address, str) and address and "\0" not in address:
        return address if duct._is_plain() else None
    return None


class RawDuctParent(_native.RawDuct):
    """The end that listens. Its listener takes a single child and is then gone, so that parent and
    child are connected as if by an anonymous pair of sockets."""

    DEFAULT_TIMEOUT = 30

    def __init__(
        self,
        bind_address: Address,
        server_listener_socket_constructor: Callable[[], Any] = unix_domain_socket_constructor,
        server_listener_socket_destructor: Callable[
            ..., Any
        ] = unix_domain_socket_listener_destructor,
        server_connection_socket_destructor: Callable[..., Any] = client_socket_destructor,
        timeout: Optional[float] = DEFAULT_TIMEOUT,
    ) -> None:
        _refuse_ticket(bind_address)
        self.server_listener_socket_constructor = server_listener_socket_constructor
        self.server_listener_socket_destructor = server_listener_socket_destructor
        self.server_connection_socket_destructor = server_connection_socket_destructor
        self.bind_address = bind_address
        self.listener_address: Any = None
        self.listener_socket: Any = None
        self.socket_timeout = timeout
        self._carries_messages = False
        self._second: Optional[_native.SecondDoor] = None
        self._place: Optional[_native.PrivatePath] = None
        self._binder: Optional[int] = None
        self._name: Optional[tuple[int, int]] = None
        self._binding = threading.Lock()

    @classmethod
    def _in_private_place(cls, timeout: Optional[float]) -> RawDuctParent:
        """A parent at a random path in a fresh directory that nobody else can enter."""
        place = _native.PrivatePath()
        duct = cls(bind_address=place.path, timeout=timeout)
        duct._place = place
        return duct

    @property
    def conn_socket(self) -> Any:
        """The connected socket, or None."""
        return self._socket

    def bind(self, listen_queue_depth: int = 1) -> None:
        """Bind the address and begin to listen, unless that is done already.

        :param listen_queue_depth: How many connections may wait to be accepted.
        :raises AlreadyConnectedException: if the duct is connected.
        :raises OSError: if the address cannot be bound. Nothing is left behind then.
        """
        if self._socket is not None:
            raise AlreadyConnectedException("Already connected to other end!")
        with self._binding:
            if self.listener_socket is None:
                self._bind(listen_queue_depth)

    def _bind(self, listen_queue_depth: int) -> None:
        listener = self.server_listener_socket_constructor()
        bound = False
        try:
            listener.settimeout(self.socket_timeout)
            self._bind_listener(listener, listen_queue_depth)
            bound = True
            address = listener.getsockname()
            listener.listen(listen_queue_depth)
        except BaseException:
            # A name that was there before is not ours to remove.
            if bound:
                self.server_listener_socket_destructor(listener)
            else:
                listener.close()
            self._close_second()
            if self._place is not None:
                self._place.remove()
            raise
        self.listener_socket = listener
        self.listener_address = address
        self._binder = os.getpid()
        self._name = _identity(address)

    def _bind_listener(self, listener: Any, listen_queue_depth: int) -> None:
        constructor = self.server_listener_socket_constructor
        path = _path_for_v2(self, constructor, self.bind_address)
        attempts = 1 if self._place is None else _ATTEMPTS
        for attempt in range(1, attempts + 1):
            if self._place is not None:
                self._place.create()
            try:
                # The name for version 2 comes first: whoever finds this one looks for that again.
                if path is not None and self._second is None:
                    depth = min(max(listen_queue_depth, 0), 0xFFFF)
                    self._second = _native.SecondDoor.beside(path, depth)
                listener.bind(self.bind_address)
            except FileNotFoundError:
                self._close_second()
                if attempt == attempts:
                    raise  # Else another process took the empty directory for a leftover.
            else:
                return

    def listen(self, timeout: Optional[float] = 60) -> bool:
        """Wait for the child to connect. Binds first if that has not been done.

        A process of another user is turned away, and the waiting goes on.

        :param timeout: How many seconds to wait; None waits for ever.
        :return: True if the child is connected now, False if the time is up.
        :raises AlreadyConnectedException: if the duct is connected.
        :raises NotConnectedException: if another thread closes the duct meanwhile.
        """
        if self._socket is not None:
            raise AlreadyConnectedException("Already connected to other end!")
        self.bind()
        listener = self.listener_socket
        try:
            accepted = self._accept(listener, timeout, self._second)
        except LocalSocketFault as error:
            self._drop_listener()
            raise CommunicationFaultException("Bind socket faulted!") from error
        if accepted is None:
            return False
        connection, protocol = accepted
        try:
            connection.settimeout(self.socket_timeout)
            self._attach(connection, protocol)
        except BaseException:
            connection.close()
            raise
        self._drop_listener()
        return True

    def close(self, shutdown: bool = False) -> None:
        """Close the connection and the listener, if they are open. Whoever waits in the duct fails
        with NotConnectedException.

        In a forked child this closes the child's copies only.

        :param shutdown: Whether to shut the connection down as well, for every process that holds a
            copy of it.
        """
        connection = self._detach()
        try:
            self._drop_listener()
        finally:
            if connection is not None:
                self.server_connection_socket_destructor(connection, shutdown=shutdown)

    def _drop_listener(self) -> None:
        listener, self.listener_socket = self.listener_socket, None
        if listener is None:
            return
        try:
            # The listener still belongs to who bound it, and a name to whoever made it.
            if self._binder == os.getpid() and self._name == _identity(self.listener_address):
                self.server_listener_socket_destructor(listener, shutdown=True)
            else:
                listener.close()
        finally:
            self._close_second()
            if self._place is not None:
                self._place.remove()

    def _close_second(self) -> None:
        second, self._second = self._second, None
        if second is not None:
            second.close()

    def get_conn_file_descriptor(self) -> int:
        """The descriptor of the connected socket; the older name of :meth:`fileno`."""
        return self.fileno()

    def __del__(self) -> None:
        # Where __init__ failed there is nothing to close.
        if hasattr(self, "_binder"):
            self.close()


class RawDuctChild(_native.RawDuct):
    """The end that connects to a parent."""

    DEFAULT_TIMEOUT = 30
    DEFAULT_CONNECT_RETRY_COUNT = 3
    DEFAULT_RETRY_DELAY = 3

    def __init__(
        self,
        connect_address: Address,
        socket_constructor: Callable[[], Any] = unix_domain_socket_constructor,
        socket_destructor: Callable[..., Any] = client_socket_destructor,
        timeout: Optional[float] = DEFAULT_TIMEOUT,
    ) -> None:
        _refuse_ticket(connect_address)
        self.socket_constructor = socket_constructor
        self.socket_destructor = socket_destructor
        self.connect_address = connect_address
        self.socket_timeout = timeout
        self._carries_messages = False

    @property
    def socket(self) -> Any:
        """The connected socket, or None."""
        return self._socket

    def connect(
        self,
        connect_retry_count: int = DEFAULT_CONNECT_RETRY_COUNT,
        connect_retry_delay: float = DEFAULT_RETRY_DELAY,
    ) -> None:
        """Connect to the parent.

        :param connect_retry_count: How often to try again if the connection is refused or, for a
            Unix socket, its path does not exist.
        :param connect_retry_delay: How many seconds to wait before each further attempt.
        :raises AlreadyConnectedException: if the duct is connected.
        :raises PermissionError: if the parent runs as another user.
        :raises OSError: if the connection cannot be made.
        """
        if self._socket is not None:
            raise AlreadyConnectedException("Already connected to other end!")
        while True:
            try:
                return self._connect_once()
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ECONNREFUSED):
                    raise
                if connect_retry_count <= 0:
                    raise
            connect_retry_count -= 1
            time.sleep(connect_retry_delay)

    def _connect_once(self) -> None:
        """One attempt, which waits while the listener's queue is full."""
        deadline = None if self.socket_timeout is None else time.monotonic() + self.socket_timeout
        pause = _FIRST_PAUSE
        path = _path_for_v2(self, self.socket_constructor, self.connect_address)
        while True:
            new_socket, protocol = None, 1
            try:
                if path is not None:
                    connected, protocol = _native.connect_either(path)
                    new_socket = socket.socket(fileno=connected.detach())
                    new_socket.settimeout(self.socket_timeout)
                else:
                    new_socket = self.socket_constructor()
                    new_socket.settimeout(self.socket_timeout)
                    new_socket.connect(self.connect_address)
                    _refuse_oneself(new_socket)
                _native.verify_peer(new_socket.fileno())
                return self._attach(new_socket, protocol)
            except BlockingIOError as error:
                if new_socket is not None:
                    new_socket.close()
                # Anything else that would block is the user's own wish not to.
                full = error.errno == errno.EAGAIN
                if not full or (deadline is not None and time.monotonic() >= deadline):
                    raise
            except BaseException:
                if new_socket is not None:
                    new_socket.close()
                raise
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def close(self, shutdown: bool = False) -> None:
        """Close the connection, if it is open. Whoever waits in the duct fails with
        NotConnectedException.

        :param shutdown: Whether to shut the connection down as well, for every process that holds a
            copy of it.
        """
        connection = self._detach()
        if connection is not None:
            self.socket_destructor(connection, shutdown=shutdown)

    def get_conn_file_descriptor(self) -> int:
        """The descriptor of the connected socket; the older name of :meth:`fileno`."""
        return self.fileno()

    def __del__(self) -> None:
        # Where __init__ failed there is nothing to close.
        if hasattr(self, "socket_timeout"):
            self.close()
