"""What the modern API raises, besides the built-in exceptions."""

from __future__ import annotations

from typing import Any

from ductworks.base_duct import DuctworksException, NotConnectedException
from ductworks.message_duct import (
    MessageProtocolException,
    RemoteDuctClosed,
    RemoteDuctDied,
    RemoteDuctReset,
    RemoteDuctTruncated,
)

__all__ = [
    "BufferTooSmall",
    "DecodeError",
    "DuctClosed",
    "DuctError",
    "NotDrained",
    "PeerClosed",
    "PeerDied",
    "PeerReset",
    "PeerTruncated",
    "ProtocolError",
]

# The classes of the original's modules, by names that say what they mean here.
DuctError = DuctworksException
DuctClosed = NotConnectedException
PeerClosed = RemoteDuctClosed
PeerDied = RemoteDuctDied
PeerTruncated = RemoteDuctTruncated
PeerReset = RemoteDuctReset
ProtocolError = MessageProtocolException


class DecodeError(DuctworksException, ValueError):
    """A message is not of the format or the type that the duct was made for. It is gone, and the
    duct is usable."""


class NotDrained(DuctworksException, TimeoutError):
    """The other end has not received everything, when the time was up or it went away."""

    unreceived: int
    """How many messages it had not received: so many at most, and maybe fewer."""

    def __init__(self, text: str, unreceived: int) -> None:
        super().__init__(text)
        self.unreceived = unreceived

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.unreceived)


class BufferTooSmall(DuctworksException, ValueError):
    """A message does not fit into the buffer. It is still there."""
