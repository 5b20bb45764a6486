"""A message channel between any two processes: one send is one recv.

The classes of the original library are in :mod:`ductworks.message_duct` (whole messages) and
:mod:`ductworks.base_duct` (the byte streams below them).
"""

from ductworks._native import __version__
from ductworks.connection import Pipe

__all__ = ["Pipe", "__version__"]
