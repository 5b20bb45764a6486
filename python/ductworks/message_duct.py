"""Message ducts: one send is one recv.

This is the original library's module of that name. Sending, receiving and polling are native; this
file gives them their names.
"""

from __future__ import annotations

import codecs
import socket
from typing import Any, Callable, Optional

from ductworks import _native
from ductworks._farewell import leave_at_exit
from ductworks._native import default_deserializer, default_serializer
from ductworks.base_duct import (
    DuctworksException,
    RawDuctChild,
    RawDuctParent,
    _refuse_ticket,
    tcp_ipv6_socket_constructor,
    tcp_socket_constructor,
    tcp_socket_listener_destructor,
)

__all__ = [
    "MAGIC_BYTE",
    "MessageDuctChild",
    "MessageDuctParent",
    "MessageProtocolException",
    "RemoteDuctClosed",
    "RemoteDuctDied",
    "RemoteDuctReset",
    "RemoteDuctTruncated",
    "create_pseudo_anonymous_duct_pair",
    "create_psuedo_anonymous_duct_pair",
    "default_deserializer",
    "default_serializer",
    "deserializer_with_decoder_constructor",
    "deserializer_with_encoder_constructor",
    "serializer_with_encoder_constructor",
]

MAGIC_BYTE = b"\x54"

Serializer = Callable[[Any], Any]
Deserializer = Callable[[Any], Any]


class MessageProtocolException(DuctworksException):
    """The other end does not speak the protocol, or a message is larger than the limit."""


class RemoteDuctClosed(EOFError, DuctworksException):
    """The other end has closed the duct, and all its messages have been received."""


class RemoteDuctDied(RemoteDuctClosed):
    """The other end is gone without a farewell: it was killed, crashed, or was cut off."""


class RemoteDuctTruncated(RemoteDuctDied):
    """The other end went away in the middle of a message."""


class RemoteDuctReset(RemoteDuctClosed, ConnectionResetError):
    """The other end died, or closed without reading everything that it had been sent."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        # EOFError, which comes first, knows nothing of an OSError's numbers.
        if len(args) >= 2:
            self.errno, self.strerror = args[:2]


def serializer_with_encoder_constructor(
    serialization_func: Callable[[Any], str],
    encoder_type: str = "utf-8",
    encoder_error_mode: str = "strict",
) -> Callable[[Any], bytes]:
    """Make a serializer of a function that returns text, such as ``json.dumps``.

    :param serialization_func: The function.
    :param encoder_type: The encoding of the text.
    :param encoder_error_mode: What to do with text that the encoding cannot express.
    """
    encoder = codecs.getencoder(encoder_type)

    def serialize(payload: Any) -> bytes:
        return encoder(serialization_func(payload), encoder_error_mode)[0]

    return serialize


def deserializer_with_decoder_constructor(
    deserialization_func: Callable[[str], Any],
    decoder_type: str = "utf-8",
    decoder_error_mode: str = "replace",
) -> Callable[[Any], Any]:
    """Make a deserializer of a function that takes text, such as ``json.loads``.

    :param deserialization_func: The function.
    :param decoder_type: The encoding of the text.
    :param decoder_error_mode: What to do with bytes that are no text. The built-in deserializer
        is strict; the default here is the original's.
    """
    decoder = codecs.getdecoder(decoder_type)

    def deserialize(payload: Any) -> Any:
        return deserialization_func(decoder(payload, decoder_error_mode)[0])

    return deserialize


deserializer_with_encoder_constructor = deserializer_with_decoder_constructor


class MessageDuctParent(_native.MessageDuct):
    """The end that listens for a child and exchanges messages with it.

    :param socket_duct: A raw duct (:class:`~ductworks.base_duct.RawDuctParent`), or any object with
        its methods.
    :param serialize: A callable that makes a bytes-like object of a value. Default: UTF-8 JSON.
    :param deserialize: A callable that makes a value of a bytearray. Default: UTF-8 JSON.
    :param lock: An object with ``acquire`` and ``release``, which is held while a message is
        transferred. The duct is safe to use from several threads without one.
    """

    def __init__(
        self,
        socket_duct: Any,
        serialize: Serializer = default_serializer,
        deserialize: Deserializer = default_deserializer,
        lock: Any = None,
    ) -> None:
        self.socket_duct = socket_duct
        self.serialize = serialize
        self.deserialize = deserialize
        self.lock = lock
        _take_in(socket_duct)

    @property
    def bind_address(self) -> Any:
        """The address that was asked for."""
        return self.socket_duct.bind_address

    @property
    def listener_address(self) -> Any:
        """The address that the child has to connect to, once it is bound: a path, or a tuple of a
        host and a port."""
        return self.socket_duct.listener_address

    @classmethod
    def psuedo_anonymous_parent_duct(
        cls,
        bind_address: Optional[str] = None,
        serialize: Serializer = default_serializer,
        deserialize: Deserializer = default_deserializer,
        lock: Any = None,
        timeout: Optional[float] = RawDuctParent.DEFAULT_TIMEOUT,
    ) -> MessageDuctParent:
        """Make a parent duct with a Unix socket.

        :param bind_address: The path to listen at. Default: a random name in a fresh directory that
            no other user can enter.
        :param serialize: See :class:`MessageDuctParent`.
        :param deserialize: See :class:`MessageDuctParent`.
        :param lock: See :class:`MessageDuctParent`.
        :param timeout: How many seconds a send or recv may take; None waits for ever.
        """
        if bind_address is None:
            raw = RawDuctParent._in_private_place(timeout)
        else:
            raw = RawDuctParent(bind_address=bind_address, timeout=timeout)
        return cls(raw, serialize=serialize, deserialize=deserialize, lock=lock)

    @classmethod
    def psuedo_anonymous_tcp_parent_duct(
        cls,
        bind_address: str = "localhost",
        bind_port: int = 0,
        serialize: Serializer = default_serializer,
        deserialize: Deserializer = default_deserializer,
        lock: Any = None,
        timeout: Optional[float] = RawDuctParent.DEFAULT_TIMEOUT,
    ) -> MessageDuctParent:
        """Make a parent duct with a TCP socket.

        :param bind_address: The host name or IP address (4 or 6) of the interface to listen at. A
            duct on any other interface than the loopback is open to whoever can reach it.
        :param bind_port: The port; 0 lets the system choose one.
        :param serialize: See :class:`MessageDuctParent`.
        :param deserialize: See :class:`MessageDuctParent`.
        :param lock: See :class:`MessageDuctParent`.
        :param timeout: How many seconds a send or recv may take; None waits for ever.
        """
        raw = RawDuctParent(
            bind_address=(bind_address, bind_port),
            server_listener_socket_constructor=_tcp_constructor_for(bind_address),
            server_listener_socket_destructor=tcp_socket_listener_destructor,
            timeout=timeout,
        )
        return cls(raw, serialize=serialize, deserialize=deserialize, lock=lock)

    pseudo_anonymous_parent_duct = psuedo_anonymous_parent_duct
    pseudo_anonymous_tcp_parent_duct = psuedo_anonymous_tcp_parent_duct

    def bind(self, listen_queue_depth: int = 1) -> None:
        """Bind the address and begin to listen.

        :param listen_queue_depth: How many connections may wait to be accepted.
        """
        if listen_queue_depth == 1:  # The default of an object that takes no argument, too.
            self.socket_duct.bind()
        else:
            self.socket_duct.bind(listen_queue_depth)

    def listen(self, timeout: Optional[float] = 60) -> bool:
        """Wait for the child to connect.

        :param timeout: How many seconds to wait; None waits for ever.
        :return: True if the child is connected now, False if the time is up.
        """
        if timeout == 60:  # The default of an object that takes no argument, too.
            connected = bool(self.socket_duct.listen())
        else:
            connected = bool(self.socket_duct.listen(timeout))
        if connected:
            self._announce()
        return connected

    def get_conn_file_descriptor(self) -> int:
        """The descriptor of the connection; the older name of :meth:`fileno`."""
        return self.fileno()

    def __del__(self) -> None:
        self.close()


class MessageDuctChild(_native.MessageDuct):
    """The end that connects to a parent and exchanges messages with it.

    :param socket_duct: A raw duct (:class:`~ductworks.base_duct.RawDuctChild`), or any object with
        its methods.
    :param serialize: A callable that makes a bytes-like object of a value. Default: UTF-8 JSON.
    :param deserialize: A callable that makes a value of a bytearray. Default: UTF-8 JSON.
    :param lock: An object with ``acquire`` and ``release``, which is held while a message is
        transferred. The duct is safe to use from several threads without one.
    """

    def __init__(
        self,
        socket_duct: Any,
        serialize: Serializer = default_serializer,
        deserialize: Deserializer = default_deserializer,
        lock: Any = None,
    ) -> None:
        self.socket_duct = socket_duct
        self.serialize = serialize
        self.deserialize = deserialize
        self.lock = lock
        _take_in(socket_duct)

    @property
    def connect_address(self) -> Any:
        """The address of the parent."""
        return self.socket_duct.connect_address

    @classmethod
    def psuedo_anonymous_child_duct(
        cls,
        connect_address: str,
        serialize: Serializer = default_serializer,
        deserialize: Deserializer = default_deserializer,
        lock: Any = None,
        timeout: Optional[float] = RawDuctChild.DEFAULT_TIMEOUT,
    ) -> MessageDuctChild:
        """Make a child duct with a Unix socket.

        :param connect_address: The path to connect to: the parent's ``listener_address``.
        :param serialize: See :class:`MessageDuctChild`.
        :param deserialize: See :class:`MessageDuctChild`.
        :param lock: See :class:`MessageDuctChild`.
        :param timeout: How many seconds a send or recv may take; None waits for ever.
        """
        raw = RawDuctChild(connect_address, timeout=timeout)
        return cls(raw, serialize=serialize, deserialize=deserialize, lock=lock)

    @classmethod
    def psuedo_anonymous_tcp_child_duct(
        cls,
        connect_address: str,
        connect_port: int,
        serialize: Serializer = default_serializer,
        deserialize: Deserializer = default_deserializer,
        lock: Any = None,
        timeout: Optional[float] = RawDuctChild.DEFAULT_TIMEOUT,
    ) -> MessageDuctChild:
        """Make a child duct with a TCP socket.

        :param connect_address: The parent's host: ``listener_address[0]``.
        :param connect_port: The parent's port: ``listener_address[1]``.
        :param serialize: See :class:`MessageDuctChild`.
        :param deserialize: See :class:`MessageDuctChild`.
        :param lock: See :class:`MessageDuctChild`.
        :param timeout: How many seconds a send or recv may take; None waits for ever.
        """
        raw = RawDuctChild(
            connect_address=(connect_address, connect_port),
            socket_constructor=_tcp_constructor_for(connect_address),
            timeout=timeout,
        )
        return cls(raw, serialize=serialize, deserialize=deserialize, lock=lock)

    pseudo_anonymous_child_duct = psuedo_anonymous_child_duct
    pseudo_anonymous_tcp_child_duct = psuedo_anonymous_tcp_child_duct

    def connect(
        self,
        connect_retry_count: int = RawDuctChild.DEFAULT_CONNECT_RETRY_COUNT,
        connect_retry_delay: float = RawDuctChild.DEFAULT_RETRY_DELAY,
    ) -> None:
        """Connect to the parent.

        :param connect_retry_count: How often to try again if nobody listens there.
        :param connect_retry_delay: How many seconds to wait before each further attempt.
        """
        defaults = (RawDuctChild.DEFAULT_CONNECT_RETRY_COUNT, RawDuctChild.DEFAULT_RETRY_DELAY)
        if (connect_retry_count, connect_retry_delay) == defaults:
            self.socket_duct.connect()  # An object may take no arguments.
        else:
            self.socket_duct.connect(connect_retry_count, connect_retry_delay)
        self._announce()

    def get_conn_file_descriptor(self) -> int:
        """The descriptor of the connection; the older name of :meth:`fileno`."""
        return self.fileno()

    def __del__(self) -> None:
        self.close()


def create_psuedo_anonymous_duct_pair(
    serialize: Serializer = default_serializer,
    deserialize: Deserializer = default_deserializer,
    parent_lock: Any = None,
    child_lock: Any = None,
) -> tuple[MessageDuctParent, MessageDuctChild]:
    """Make a parent and a child duct that are connected already.

    :param serialize: The serializer of both.
    :param deserialize: The deserializer of both.
    :param parent_lock: The lock of the parent.
    :param child_lock: The lock of the child.
    """
    parent = MessageDuctParent.psuedo_anonymous_parent_duct(
        serialize=serialize, deserialize=deserialize, lock=parent_lock
    )
    parent.bind()
    child = MessageDuctChild.psuedo_anonymous_child_duct(
        parent.listener_address, serialize=serialize, deserialize=deserialize, lock=child_lock
    )
    child.connect()
    parent.listen()
    return parent, child


create_pseudo_anonymous_duct_pair = create_psuedo_anonymous_duct_pair


def _take_in(socket_duct: Any) -> None:
    """Lets a raw duct that carries messages find out, at a Unix address, whether its other end
    speaks version 2 of the protocol."""
    if isinstance(socket_duct, (RawDuctParent, RawDuctChild)):
        socket_duct._carries_messages = True
        leave_at_exit(socket_duct)


def _tcp_constructor_for(host: str) -> Callable[[], socket.socket]:
    """The constructor for the address family of a host: IPv4 where it has one, as the original."""
    _refuse_ticket(host)  # Before anybody is asked for that name.
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return tcp_socket_constructor  # bind or connect will say what is wrong with the host.
    families = {family for family, *_ in found}
    if socket.AF_INET in families or socket.AF_INET6 not in families:
        return tcp_socket_constructor
    return tcp_ipv6_socket_constructor
