"""Other processes for the tests: Python programs, spoken to in lines, and forked children."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import traceback
from pathlib import Path

from support import HELPERS, PATIENCE, Background, eventually


class ChildProcess:
    """A Python program in a process of its own, spoken to in lines over its stdin and stdout."""

    def __init__(self, script, *arguments, python=sys.executable, env=None, cwd=None):
        command = [str(python)]
        if command != [sys.executable]:
            command.append("-I")  # Another interpreter must not find this one's packages.
        if isinstance(script, Path):
            command.append(str(script))
        else:
            command += ["-c", textwrap.dedent(script)]
        environment = dict(os.environ if env is None else env)
        path = [str(HELPERS), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, path))
        self.process = subprocess.Popen(
            command + [str(argument) for argument in arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=cwd,
        )

    @property
    def pid(self):
        return self.process.pid

    def say(self, line=""):
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def hear(self):
        """The next line that the child prints."""
        reader = Background(self.process.stdout.readline)
        reader.join(PATIENCE)
        line = None if reader.is_alive() else reader.value
        if not line:
            self.process.kill()
            _, errors = self.process.communicate()
            state = "ended" if line == "" else "hangs"
            raise AssertionError(f"the child {state} where it should have spoken:\n{errors}")
        return line.rstrip("\n")

    def finish(self):
        """Wait for the end; give back the rest of what the child printed. It must exit with 0."""
        try:
            output, errors = self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            _, errors = self.process.communicate()
            raise AssertionError(f"the child hangs:\n{errors}") from None
        assert self.process.returncode == 0, f"exit {self.process.returncode}:\n{errors}"
        self.errors = errors
        return output

    def kill(self):
        self.process.kill()
        self.process.wait(PATIENCE)

    def dispose(self):
        if self.process.poll() is None:
            self.process.kill()
        with contextlib.suppress(ValueError, BrokenPipeError):
            self.process.communicate(timeout=PATIENCE)


@contextlib.contextmanager
def process_starter():
    """Gives a function that makes ChildProcesses; none of them outlives the with block."""
    with contextlib.ExitStack() as stack:

        def start(script, *arguments, **options):
            child = ChildProcess(script, *arguments, **options)
            stack.callback(child.dispose)
            return child

        yield start


def fork(work):
    """Run work() in a forked child; call the returned function to join it."""
    sys.stderr.flush()
    process_id = os.fork()
    if process_id == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(status)

    def join():
        ended = []

        def has_ended():
            ended[:] = os.waitpid(process_id, os.WNOHANG)
            return ended[0]

        try:
            eventually(has_ended, "the end of the forked child")
        except BaseException:
            os.kill(process_id, signal.SIGKILL)
            os.waitpid(process_id, 0)
            raise
        assert ended[1] == 0, f"the forked child failed with wait status {ended[1]}"

    return join


def open_descriptors():
    """The descriptors of this process with what they lead to."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found
