"""What a test leaves behind: processes, descriptors and files. Each of them fails it."""

import contextlib
import ctypes
import gc
import multiprocessing
import os
import re
import signal
import tempfile
import time
from multiprocessing import forkserver, resource_sharer, resource_tracker
from pathlib import Path

import ductworks
from processes import open_descriptors
from watchdog import descendants

# A thread or process that has been told to end may need as long as this on a busy machine.
PATIENCE = 5
PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans():
    """Become the parent of every process that outlives its own: no orphan is overlooked."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


FOLDER = "DUCTWORKS_TEST_FOLDER"


def make_folder_for_workers():
    """Workers make theirs in it: what one leaves whose interpreter had to be ended goes with it."""
    os.environ[FOLDER] = tempfile.mkdtemp(prefix="dw-", dir="/tmp")
    return os.environ[FOLDER]


def use_own_folder():
    """Let everything temporary of this process and its children lie in a folder of its own."""
    folder = tempfile.mkdtemp(prefix="dw-", dir=os.environ.get(FOLDER, "/tmp"))
    os.environ["TMPDIR"] = folder
    # Else the names of private sockets lie there.
    os.environ.pop("XDG_RUNTIME_DIR", None)
    tempfile.tempdir = None
    return folder


def make_what_is_kept():
    """Makes the library open what it keeps for a thread, before anything is counted."""
    ours, theirs = ductworks.pair()
    before = len(open_descriptors())
    # On a busy machine a deadline may pass before there was time to wait for it.
    while len(open_descriptors()) == before:
        ours.poll(0.001)
    theirs.close()
    ours.close()


def helpers():
    """Processes that multiprocessing starts once and keeps."""
    return {resource_tracker._resource_tracker._pid, forkserver._forkserver._forkserver_pid}


def is_kept(number, leads_to):
    """Whether a descriptor leads to those, or to the memory of multiprocessing's arrays."""
    tracker, server = resource_tracker._resource_tracker, forkserver._forkserver
    is_array = re.match(r"/\S+/pym-\d+-", leads_to)
    return is_array or number in (tracker._fd, server._forkserver_alive_fd)


class Leftovers:
    """What there is now beside what was there before."""

    def __init__(self):
        self.processes = set(descendants())
        self.descriptors = open_descriptors()
        self.files = set(self.temporary_files())

    @staticmethod
    def temporary_files():
        kept = multiprocessing.current_process()._config.get("tempdir")
        for entry in Path(tempfile.gettempdir()).iterdir():
            if str(entry) != kept and not entry.name.startswith("pytest-of-"):
                yield str(entry)

    def living_processes(self):
        """The processes that the test has started, and theirs."""
        kept = self.processes | helpers()
        for process in descendants():
            if process not in kept and not self.processes & set(ancestors(process)):
                yield process

    def end_processes(self):
        for process in self.living_processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def found(self):
        """A line for each thing that is left."""
        for process in self.living_processes():
            command = b"?"
            with contextlib.suppress(OSError):
                command = Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ")
            yield f"process {process}: {command[:300].decode()}"
        for number, leads_to in open_descriptors().items():
            if self.descriptors.get(number) != leads_to and not is_kept(number, leads_to):
                yield f"descriptor {number}: {leads_to}"
        for file in self.temporary_files():
            if file not in self.files:
                yield f"file {file}"

    def found_in_the_end(self):
        """What is left once the collector has run, and all that was about to end has ended."""
        found = list(self.found())
        if found:
            gc.collect()
            # The thread that hands out descriptors which were pickled goes on for ever.
            resource_sharer.stop(PATIENCE)
            deadline = time.monotonic() + PATIENCE
            while found and time.monotonic() < deadline:
                time.sleep(0.002)
                found = list(self.found())
        return found


def ancestors(process):
    while process > 1 and process != os.getpid():
        try:
            process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return
        yield process
