"""``multiprocessing.connection`` on this package's engine: the same names and the same behaviour.

Change the import, and nothing else::

    from ductworks.connection import Client, Listener, Pipe, wait

docs/multiprocessing.md compares the two row by row.
"""

from __future__ import annotations

import multiprocessing.reduction
from multiprocessing import AuthenticationError, BufferTooShort
from typing import Any, NoReturn

from ductworks import _native
from ductworks._native import Stats

__all__ = [
    "AuthenticationError",
    "BufferTooShort",
    "Connection",
    "Pipe",
    "Stats",
]


class Connection(_native.Connection):
    """One end of a connection, with the methods of multiprocessing's.

    :param handle: The number of a connected descriptor, which belongs to the connection from now on.
    :param readable: Whether this end may receive.
    :param writable: Whether this end may send.
    """

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"cannot pickle a {type(self).__name__}: a descriptor has no meaning in another process. "
            "Hand it to a child through the arguments of multiprocessing.Process, or send it through "
            "another connection"
        )


def Pipe(duplex: bool = True) -> tuple[Connection, Connection]:  # noqa: N802
    """Make two connected ends.

    :param duplex: Whether both ends may send and receive. Else the first only receives, and the
        second only sends.
    """
    a, b = _native.socket_pair()
    return (
        Connection(a, True, duplex, buffers=True),
        Connection(b, duplex, True, buffers=True),
    )


def _rebuild(
    descriptor: Any, readable: bool, writable: bool, buffers: bool
) -> Connection:
    return Connection(descriptor.detach(), readable, writable, buffers=buffers)


def _reduce(connection: Connection) -> tuple[Any, ...]:
    descriptor = multiprocessing.reduction.DupFd(connection.fileno())
    return _rebuild, (
        descriptor,
        connection.readable,
        connection.writable,
        connection._buffers,
    )


multiprocessing.reduction.register(Connection, _reduce)
