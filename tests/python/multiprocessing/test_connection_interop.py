"""Stock Pythons at the other end: every version that is found, in both roles, on Unix and TCP,
with and without a key."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ductworks.connection import Client, Listener
from support import PATIENCE

KEY = b"between us"
VERSIONS = ["3.9", "3.10", "3.11", "3.12", "3.13"]


def find_pythons():
    """The stock interpreters here: pyenv's, those on the PATH, and the one that runs this."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    found = {"{}.{}".format(*sys.version_info[:2]): sys.executable}
    for version in VERSIONS:
        on_path = shutil.which(f"python{version}")
        candidates = [*sorted(root.glob(f"{version}.*/bin/python")), *filter(None, [on_path])]
        for candidate in candidates:
            # A shim may stand for a version that is not there.
            run = subprocess.run([candidate, "-c", ""], capture_output=True, check=False)
            if run.returncode == 0:
                found[version] = str(candidate)
                break
    return found


PYTHONS = find_pythons()

# What the stock end does: the same as the end of ours, mirrored.
STOCK = """
import multiprocessing.connection, sys
role, kind, key = sys.argv[1], sys.argv[2], sys.argv[3].encode() or None
if role == "client":
    address = sys.argv[4] if kind == "unix" else ("127.0.0.1", int(sys.argv[4]))
    connection = multiprocessing.connection.Client(address, authkey=key)
else:
    address = sys.argv[4] if kind == "unix" else ("127.0.0.1", 0)
    listener = multiprocessing.connection.Listener(address, authkey=key)
    print(listener.address if kind == "unix" else listener.address[1], flush=True)
    connection = listener.accept()
while True:
    try:
        message = connection.recv()
    except EOFError:
        break
    if message == "bytes":
        connection.send_bytes(connection.recv_bytes())
    else:
        connection.send(message)
"""

VALUES = [
    None,
    (4711, "ductworks", 0.25),
    {"key": [1, 2, {"deep": b"\0\xff"}], "big": 2**70},
    "x" * 300_000,
    {1, 2, 3},
    b"y" * 5_000_000,
]


def converse(connection):
    for value in VALUES:
        connection.send(value)
        assert connection.recv() == value
    for size in (0, 1, 16384, 16385, 1_000_000):
        connection.send("bytes")
        connection.send_bytes(b"z" * size)
        assert connection.recv_bytes() == b"z" * size


def start(python, role, kind, key, address):
    # -I: neither this package nor its folder.
    command = [PYTHONS[python], "-I", "-c", STOCK, role, kind, (key or b"").decode(), str(address)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("key", [None, KEY], ids=["open", "key"])
@pytest.mark.parametrize("kind", ["unix", "tcp"])
@pytest.mark.parametrize("python", sorted(PYTHONS))
class TestStockPython:
    def test_as_a_client_of_our_listener(self, python, kind, key, tmp_path):
        address = str(tmp_path / "listener") if kind == "unix" else ("127.0.0.1", 0)
        with Listener(address, authkey=key) as listener:
            where = listener.address if kind == "unix" else listener.address[1]
            with start(python, "client", kind, key, where) as peer:
                with listener.accept(timeout=PATIENCE) as connection:
                    converse(connection)
                assert peer.wait(PATIENCE) == 0

    def test_as_a_listener_for_our_client(self, python, kind, key, tmp_path):
        with start(python, "listener", kind, key, tmp_path / "listener") as peer:
            where = peer.stdout.readline().strip()
            address = where if kind == "unix" else ("127.0.0.1", int(where))
            with Client(address, authkey=key) as connection:
                converse(connection)
            assert peer.wait(PATIENCE) == 0


def test_the_pythons_of_this_machine_are_found():
    assert "{}.{}".format(*sys.version_info[:2]) in PYTHONS
