import contextlib
import faulthandler
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from pathlib import Path

import processes
import pytest
import support
from hypothesis import HealthCheck, settings

TIME_LIMIT = float(os.environ.get("DUCTWORKS_TEST_TIME_LIMIT", "60"))

settings.register_profile(
    "ductworks",
    deadline=None,
    derandomize="CI" in os.environ,
    # Examples may be slow to make where the machine is busy.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("ductworks")


def pytest_configure(config):
    config.addinivalue_line("markers", "time_limit(seconds): a hang limit of this test's own")
    # The fork tests fork on purpose, with threads running too.
    config.addinivalue_line("filterwarnings", "ignore:.*use of fork:DeprecationWarning")
    # Capturing replaces sys.stderr; a hang must be seen all the same.
    config.stash[STDERR] = os.fdopen(os.dup(2), "w")


STDERR = pytest.StashKey()


@pytest.fixture(autouse=True)
def time_limit(request):
    """A hang fails: first by a signal; where nothing heeds that, pytest ends with tracebacks."""
    marker = request.node.get_closest_marker("time_limit")
    limit = marker.args[0] if marker else TIME_LIMIT
    running = True

    def give_up(*_):
        if running:
            pytest.fail(f"still running after {limit} s")

    faulthandler.dump_traceback_later(limit + 30, exit=True, file=request.config.stash[STDERR])
    before = signal.signal(signal.SIGUSR2, give_up)
    main = threading.main_thread().ident
    timer = threading.Timer(limit, signal.pthread_kill, (main, signal.SIGUSR2))
    timer.daemon = True
    timer.start()
    yield
    running = False
    timer.cancel()
    timer.join()
    signal.signal(signal.SIGUSR2, before)
    faulthandler.cancel_dump_traceback_later()


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
    default = support.TESTS.parents[1] / ".venv-original" / "bin" / "python"
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
