"""Ends a test that hangs: shows where its threads and processes are, and ends the processes."""

import contextlib
import faulthandler
import os
import shutil
import signal
import subprocess
import sysconfig
import threading
import time
from pathlib import Path

import pytest

# For a test that nothing but the end of its process can end.
RESPITE = 30
# How long the stacks of other processes may take.
DUMPING = 60


class Watchdog:
    """Limits the time of one test at a time, which runs in the main thread."""

    def __init__(self, stderr):
        self.stderr = stderr  # Capturing replaces sys.stderr; a hang must be seen all the same.

    @contextlib.contextmanager
    def watch(self, name, limit, living_processes):
        """Fail the test in the with block once limit seconds are over.

        living_processes gives the processes that are ended with it.
        """
        running = True

        def give_up(*_):
            if running:
                pytest.fail(f"still running after {limit} s; the stacks are on standard error")

        def bark():
            self.say(f"\n{name} is still running after {limit} s\n")
            faulthandler.dump_traceback(file=self.stderr)
            end(list(living_processes()), self.say)
            faulthandler.dump_traceback_later(RESPITE, exit=True, file=self.stderr)
            signal.pthread_kill(main, signal.SIGUSR2)

        # Where nothing heeds the signal, or no thread can run: the interpreter ends.
        faulthandler.dump_traceback_later(limit + DUMPING + RESPITE, exit=True, file=self.stderr)
        before = signal.signal(signal.SIGUSR2, give_up)
        main = threading.main_thread().ident
        timer = threading.Timer(limit, bark)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            running = False
            timer.cancel()
            timer.join()
            signal.signal(signal.SIGUSR2, before)
            faulthandler.cancel_dump_traceback_later()

    def say(self, text):
        self.stderr.write(text)
        self.stderr.flush()


def stack_of(process):
    """What is known of where another process is."""
    facts = []
    dump = shutil.which("py-spy", path=sysconfig.get_path("scripts")) or "py-spy"
    try:
        program = os.readlink(f"/proc/{process}/exe")
        if "python" in Path(program).name:
            shown = subprocess.run(
                [dump, "dump", "--pid", str(process)], capture_output=True, text=True, timeout=10
            )
            if shown.returncode == 0:
                return shown.stdout
            facts.append(f"no stack of Python's: {shown.stderr.strip()}")
    except (OSError, subprocess.TimeoutExpired):
        pass
    for thread in Path(f"/proc/{process}/task").glob("*"):
        with contextlib.suppress(OSError):
            facts.append(f"thread {thread.name}: waits in {(thread / 'wchan').read_text() or '?'}")
    return "\n".join(facts)


def end(processes, say):
    """Show where each of the processes is, and kill it."""
    until = time.monotonic() + DUMPING - 10
    for process in processes:
        if time.monotonic() > until:
            break
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            say(f"\nprocess {process}: {command[:500]}\n{stack_of(process)}\n")
    for process in processes:
        with contextlib.suppress(OSError):
            os.kill(process, signal.SIGKILL)


def parents():
    """The parent of each process of this machine, and whether it has ended."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                facts = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                found[int(entry)] = (int(facts[1]), facts[0] in "ZX")
    return found


def descendants(root=None):
    """The living processes that come from this one, parents first."""
    known = parents()
    found = [os.getpid() if root is None else root]
    for parent in found:
        found += [child for child, (of, _) in known.items() if of == parent]
    return [process for process in found[1:] if not known[process][1]]
