"""A test that hangs is ended and shown, and one that leaves something behind fails."""

import os
import re
import subprocess
import sys
import textwrap

import pytest
from support import HELPERS, PATIENCE, TESTS
from watchdog import descendants


@pytest.fixture
def outcome_of(tmp_path):
    """Runs a test under this suite's conftest, in a pytest of its own; what it prints."""

    def run(source, *, passes, limit=PATIENCE):
        file = tmp_path / "test_it.py"
        file.write_text(textwrap.dedent(source))
        path = os.pathsep.join([str(TESTS), str(HELPERS)])
        options = ["-n0", "-p", "conftest", "-p", "no:cacheprovider", "-c", os.devnull]
        ended = subprocess.run(
            [sys.executable, "-m", "pytest", *options, str(file)],
            env={**os.environ, "PYTHONPATH": path, "DUCTWORKS_TEST_TIME_LIMIT": str(limit)},
            capture_output=True,
            text=True,
            timeout=3 * PATIENCE,
        )
        assert (ended.returncode == 0) == passes, ended.stdout + ended.stderr
        return ended.stdout + ended.stderr

    return run


def test_a_test_that_leaves_nothing_passes(outcome_of):
    told = outcome_of("def test_it(): pass", passes=True)
    assert re.search(r"^tests: 1 passed, 0 failed, in \d+ s$", told, re.MULTILINE)


def test_a_hang_is_ended_with_the_stacks_of_threads_and_processes(outcome_of):
    source = """
        import subprocess, sys, threading, time

        def wait_in_a_thread():
            time.sleep(1000)

        def test_it():
            threading.Thread(target=wait_in_a_thread, daemon=True).start()
            program = "import time\\ndef wait_in_a_child(): time.sleep(1000)\\nwait_in_a_child()"
            subprocess.run([sys.executable, "-c", program])
            time.sleep(1000)
    """
    told = outcome_of(source, passes=False, limit=3)
    assert "still running after 3.0 s" in told
    assert "in wait_in_a_thread" in told
    # Where only an ancestor may look into a process, py-spy says so (ptrace(2), Yama).
    assert "wait_in_a_child (<string>" in told or "ermission" in told


@pytest.mark.parametrize(
    ("source", "left"),
    [
        ("import subprocess\ndef test_it(): subprocess.Popen(['sleep', '30'])", "process "),
        (
            "import subprocess\ndef test_it(): subprocess.run('sleep 30 & ', shell=True)",
            "process ",
        ),
        ("import os\ndef test_it(): os.open('/dev/null', os.O_RDONLY)", "descriptor "),
        ("import tempfile\ndef test_it(): tempfile.mkstemp('.left')", ".left"),
    ],
    ids=["process", "orphan", "descriptor", "file"],
)
def test_what_is_left_behind_fails_a_test(outcome_of, source, left):
    told = outcome_of(source, passes=False)
    assert re.search(f"the test leaves behind:(.|\n)*{re.escape(left)}", told)


def test_what_a_test_left_running_is_ended(outcome_of):
    source = """
        import subprocess

        def test_it():
            child = subprocess.Popen(["sleep", "1000"])
            print("left", child.pid)
    """
    told = outcome_of(source, passes=False)
    process = int(re.search(r"^left (\d+)$", told, re.MULTILINE)[1])
    assert process not in descendants()
