"""What the modern API raises, besides the built-in exceptions."""

from __future__ import annotations

from ductworks.base_duct import DuctworksException, NotConnectedException
from ductworks.message_duct import (
    MessageProtocolException,
    RemoteDuctClosed,
    RemoteDuctReset,
    RemoteDuctTruncated,
)

__all__ = [
    "BufferTooSmall",
    "DecodeError",
    "DuctClosed",
    "DuctError",
    "PeerClosed",
    "PeerReset",
    "PeerTruncated",
    "ProtocolError",
]

# The classes of the original's modules, by names that say what they mean here.
DuctError = DuctworksException
DuctClosed = NotConnectedException
PeerClosed = RemoteDuctClosed
PeerTruncated = RemoteDuctTruncated
PeerReset = RemoteDuctReset
ProtocolError = MessageProtocolException


class DecodeError(DuctworksException, ValueError):
    """A message is not of the format or the type that the duct was made for. It is gone, and the
    duct is usable."""


class BufferTooSmall(DuctworksException, ValueError):
    """A message does not fit into the buffer. It is still there."""
