"""The last words of a process: its ducts say farewell, so that its end is not taken for a death."""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing.process
import multiprocessing.util
import os
import weakref
from typing import Any

from ductworks import _native

_open: weakref.WeakSet[Any] = weakref.WeakSet()


def leave_at_exit(duct: Any) -> None:
    """Call the duct's ``_leave()`` when the process ends, if it still exists."""
    _open.add(duct)


def _all_open() -> list[Any]:
    while True:
        try:
            return list(_open)
        except RuntimeError:
            pass  # Another thread has made a duct meanwhile.


def _leave() -> None:
    for duct in _all_open():
        with contextlib.suppress(Exception):  # The others have last words too.
            duct._leave()


def _leave_as_child(_: object = None) -> None:
    # A child of multiprocessing ends without the ordinary exit, and begins without the finalizers
    # of its parent.
    multiprocessing.util.Finalize(None, _leave, exitpriority=-100)


atexit.register(_leave)
if multiprocessing.process.parent_process() is not None:
    _leave_as_child()
multiprocessing.util.register_after_fork(_leave_as_child, _leave_as_child)
os.register_at_fork(after_in_parent=_native.forked)
