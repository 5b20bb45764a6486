"""A message channel between any two processes: one send is one recv.

>>> import ductworks
>>> a, b = ductworks.pair()
>>> a.send({"job": 1})
>>> b.recv()
{'job': 1}

:func:`pair`, :func:`listen` and :func:`connect` make ducts; :func:`wait` waits for many of them.
:func:`Pipe` is ``multiprocessing.Pipe``, with the rest of that module's names in
:mod:`ductworks.connection`. The classes of the original library are in
:mod:`ductworks.message_duct` (whole messages) and :mod:`ductworks.base_duct` (the byte streams
below them).
"""

from ductworks._native import Stats, __version__
from ductworks.connection import Pipe
from ductworks.duct import Duct, pair, wait
from ductworks.errors import (
    BufferTooSmall,
    DecodeError,
    DuctClosed,
    DuctError,
    NotDrained,
    PeerClosed,
    PeerDied,
    PeerReset,
    PeerTruncated,
    ProtocolError,
)
from ductworks.listening import Address, Listener, connect, listen

__all__ = [
    "Address",
    "BufferTooSmall",
    "DecodeError",
    "Duct",
    "DuctClosed",
    "DuctError",
    "Listener",
    "NotDrained",
    "PeerClosed",
    "PeerDied",
    "PeerReset",
    "PeerTruncated",
    "Pipe",
    "ProtocolError",
    "Stats",
    "__version__",
    "connect",
    "listen",
    "pair",
    "wait",
]
