import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import leftovers
import processes
import pytest
import support
from hypothesis import HealthCheck, settings
from watchdog import Watchdog, descendants, end

TIME_LIMIT = float(os.environ.get("DUCTWORKS_TEST_TIME_LIMIT", "60"))

settings.register_profile(
    "ductworks",
    deadline=None,
    derandomize="CI" in os.environ,
    # Examples may be slow to make where the machine is busy.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("ductworks")

WATCHDOG = pytest.StashKey()
FOLDER = pytest.StashKey()
SUMMARY = pytest.StashKey()
STARTED = time.time()


def is_controller(config):
    """Whether this process only hands tests out to others."""
    return not hasattr(config, "workerinput") and bool(config.getoption("numprocesses", None))


def pytest_configure(config):
    # A program that was started in the background ignores Ctrl-C, and so do its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # The fork tests fork on purpose, with threads running too.
    config.addinivalue_line("filterwarnings", "ignore:.*use of fork:DeprecationWarning")
    leftovers.adopt_orphans()
    if is_controller(config):
        config.stash[FOLDER] = leftovers.make_folder_for_workers()
        return
    config.stash[WATCHDOG] = Watchdog(os.fdopen(os.dup(2), "w"))
    config.stash[FOLDER] = leftovers.use_own_folder()
    leftovers.make_what_is_kept()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Long tests first, so that the run does not end waiting for one of them."""
    items.sort(key=lambda item: item.get_closest_marker("time_limit") is None)


@pytest.fixture(autouse=True)
def nothing_is_left(request):
    """Ends a test that hangs; fails one that leaves a process, a descriptor or a file behind."""
    marker = request.node.get_closest_marker("time_limit")
    # A busy machine, or a long run, gives every test more.
    limit = marker.args[0] * TIME_LIMIT / 60 if marker else TIME_LIMIT
    before = leftovers.Leftovers()
    with request.config.stash[WATCHDOG].watch(request.node.nodeid, limit, before.living_processes):
        yield
    # Drop pytest's own references to the fixtures, so that they do not count as leftovers.
    request.node.funcargs.clear()
    left = before.found_in_the_end()
    if left:
        before.end_processes()
        pytest.fail("the test leaves behind:\n" + "\n".join(left))


# The last line of a run.


def pytest_terminal_summary(terminalreporter, config):
    config.stash[SUMMARY] = summary(terminalreporter)


def pytest_unconfigure(config):
    if is_controller(config):
        # A worker whose interpreter had to be ended left its processes to this one.
        end(descendants(), lambda text: print(text, file=sys.stderr))
    folder = config.stash.get(FOLDER, None)
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
    if SUMMARY in config.stash:
        print(config.stash[SUMMARY])


def summary(reporter):
    """What ran, passed, was left out and why, and how long it took, builds included."""
    # A test may have passed, and then failed for what it leaves.
    failed = {
        report.nodeid for each in ("failed", "error") for report in reporter.stats.get(each, ())
    }
    passed = {report.nodeid for report in reporter.stats.get("passed", ())} - failed
    parts = [f"{len(passed)} passed", f"{len(failed)} failed"]
    skipped = reporter.stats.get("skipped", ())
    if skipped:
        reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in skipped)
        shown = "; ".join(f"{number} {reason}" for reason, number in reasons.items())
        parts.append(f"{len(skipped)} skipped ({shown})")
    if reporter.config.getoption("markexpr") == "not huge":
        parts.append("make test-huge left out")
    began = float(os.environ.get("DUCTWORKS_TEST_BEGAN", STARTED))
    return f"tests: {', '.join(parts)}, in {time.time() - began:.0f} s"


@pytest.fixture(params=["unix", "tcp"])
def transport(request):
    return support.TRANSPORTS[request.param]


@pytest.fixture(params=["parent", "child"])
def role(request):
    return request.param


@pytest.fixture
def closing():
    """Registers things with a close() for the end of the test."""
    with contextlib.ExitStack() as stack:

        def register(*things):
            for thing in things:
                stack.callback(thing.close)
            return things if len(things) > 1 else things[0]

        yield register


@pytest.fixture
def make_pair(transport, closing):
    """Makes connected (parent, child) pairs over each transport."""
    return lambda **options: closing(*support.connected_pair(transport, **options))


@pytest.fixture
def make_wire(transport, closing):
    """Makes (duct, plain socket) pairs over each transport."""
    return lambda *role, **options: closing(*support.wired(transport, *role, **options))


@pytest.fixture
def start_python():
    """Starts Python programs in processes of their own; see processes.ChildProcess."""
    with processes.process_starter() as start:
        yield start


@pytest.fixture(scope="session")
def original_python():
    """The interpreter that has the original ductworks 0.0.1a4."""
    default = support.ROOT / ".venv-original" / "bin" / "python"
    python = Path(os.environ.get("DUCTWORKS_ORIGINAL_PYTHON", default))
    check = [str(python), "-I", "-c", "import ductworks; print(ductworks.__version__)"]
    try:
        version = subprocess.run(check, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.fail(f"no original ductworks in {python} ({error}): run `make test`")
    assert version == "0.0.1a4", f"{python} has ductworks {version}, wanted the original 0.0.1a4"
    return python


@pytest.fixture
def reachable_directory():
    """A directory that other users may enter; pytest's own are closed to them."""
    directory = Path(tempfile.mkdtemp(dir="/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)
