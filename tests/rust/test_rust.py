"""The Rust tests, each in a process of its own: under one watchdog, and held to leave nothing.

`make test` builds the programs and lists them in target/test-programs.json, as cargo's messages.
"""

import json
import os
import subprocess

import pytest
from support import ROOT

LISTED = ROOT / "target" / "test-programs.json"
FEATURES = "msgpack,multiprocessing,tls,tracing"


def programs():
    """What cargo has built: the kind, name and path of each, and the folder of its package."""
    if not LISTED.exists():
        pytest.fail(f"expected {LISTED}, which `make test` and `make test-rust` write")
    for line in LISTED.read_text().splitlines():
        message = json.loads(line)
        if message.get("executable"):
            kind = "test" if message["profile"]["test"] else message["target"]["kind"][0]
            folder = os.path.dirname(message["manifest_path"])
            yield kind, message["target"]["name"], message["executable"], folder


def all_tests():
    for kind, name, program, folder in programs():
        if kind != "test":
            continue

        def names(*options, program=program, folder=folder):
            command = [program, "--list", "--format", "terse", *options]
            text = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
            return [line.removesuffix(": test") for line in text.stdout.splitlines()]

        ignored = set(names("--ignored"))
        for test in names():
            marks = [pytest.mark.huge] if test in ignored else []
            yield pytest.param(program, folder, test, id=f"{name}::{test}", marks=marks)


def run(command, folder, **environment):
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    print(done.stdout)
    assert done.returncode == 0, f"{command} ended with {done.returncode}"


# Most have a watchdog of their own, which shows the stacks of their threads and comes first.
@pytest.mark.time_limit(180)
@pytest.mark.parametrize(("program", "folder", "test"), all_tests())
def test_rust(program, folder, test):
    command = [program, test, "--exact", "--nocapture", "--include-ignored"]
    run(command, folder, DUCTWORKS_TEST_ALONE="1")


@pytest.mark.parametrize("name", ["parent", "workers"])
def test_an_example_runs(name):
    [(program, folder)] = [
        (program, folder)
        for kind, example, program, folder in programs()
        if (kind, example) == ("example", name)
    ]
    run([program], folder)


@pytest.mark.time_limit(600)
def test_the_examples_of_the_documentation_run():
    run(["cargo", "test", "-p", "ductworks", "--features", FEATURES, "--doc"], ROOT)
