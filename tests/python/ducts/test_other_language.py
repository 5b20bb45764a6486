"""examples/other_language.py, which knows nothing of this package, and a real parent."""

import os
import signal
import subprocess
import sys

import ductworks
import pytest
from support import PATIENCE, ROOT, Background

EXAMPLE = ROOT / "examples" / "other_language.py"


@pytest.fixture(params=[None, "tcp:127.0.0.1:0", "tcp:[::1]:0"], ids=["unix", "tcp", "tcp6"])
def listener(request):
    with ductworks.listen(request.param) as listener:
        yield listener


@pytest.fixture
def start():
    children = []

    def start(ticket):
        command = [sys.executable, "-I", str(EXAMPLE)]
        environment = {**os.environ, "DUCT": ticket}
        child = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        children.append(child)
        return child

    yield start
    for child in children:
        child.kill()
        child.communicate()


def test_it_imports_nothing_of_the_package():
    assert "import ductworks" not in EXAMPLE.read_text()


def test_it_answers_until_the_parent_closes_and_says_farewell(listener, start):
    child = start(listener.ticket)
    with listener.accept(PATIENCE) as duct:
        for numbers in [[], [1, 2], list(range(1000)), [2**70, -(2**70)]]:
            duct.send({"add": numbers})
            assert duct.recv(PATIENCE) == {"sum": sum(numbers)}
        duct.send({"add": [1]})
        duct.send({"add": [2]})
        duct.finish(PATIENCE)
        assert list(duct) == [{"sum": 1}, {"sum": 2}]
        with pytest.raises(ductworks.PeerClosed) as caught:
            duct.recv(PATIENCE)
        assert not isinstance(caught.value, ductworks.PeerDied)
        duct.drain(0)
    assert child.wait(PATIENCE) == 0


def test_it_answers_a_drain(listener, start):
    child = start(listener.ticket)
    with listener.accept(PATIENCE) as duct:
        duct.send({"add": []})
        assert duct.recv(PATIENCE) == {"sum": 0}
        duct.drain(PATIENCE)
    assert child.wait(PATIENCE) == 0


def test_it_refuses_a_message_over_its_limit_before_it_reads_it(listener, start):
    child = start(listener.ticket)
    with listener.accept(PATIENCE) as duct:
        with pytest.raises(ductworks.ProtocolError, match="1048576"):
            duct.send({"add": [0] * (1 << 20)})
        duct.send({"add": []})
        assert duct.recv(PATIENCE) == {"sum": 0}
    assert child.wait(PATIENCE) == 0


def test_it_notices_a_parent_that_does_not_know_its_token(listener, start):
    accepted = Background(listener.accept, PATIENCE)
    stranger = start(f"{listener.address}#{'00' * 32}")
    _, errors = stranger.communicate(timeout=PATIENCE)
    assert stranger.returncode == 1
    assert "the listener does not know the token of this ticket" in errors
    child = start(listener.ticket)
    with accepted.result() as duct:
        duct.send({"add": [4]})
        assert duct.recv(PATIENCE) == {"sum": 4}
    assert child.wait(PATIENCE) == 0


PARENT = """
import os, signal, subprocess, sys, ductworks
with ductworks.listen() as listener:
    environment = {**os.environ, "DUCT": listener.ticket}
    subprocess.Popen([sys.executable, sys.argv[1]], env=environment)
    duct = listener.accept(20)
    duct.send({"add": []})
    assert duct.recv(20) == {"sum": 0}
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_it_tells_a_parent_that_died_from_one_that_closed(reachable_directory):
    # The child holds standard error open until it ends.
    command = [sys.executable, "-c", PARENT, str(EXAMPLE)]
    # A killed parent leaves its name behind.
    environment = {**os.environ, "TMPDIR": str(reachable_directory)}
    parent = subprocess.run(
        command, env=environment, stderr=subprocess.PIPE, text=True, timeout=PATIENCE
    )
    assert parent.returncode == -signal.SIGKILL
    assert "the parent died" in parent.stderr
