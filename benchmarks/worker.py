"""One end of a measured connection. The benchmarks start it; it is not run by hand.

``bench.py`` starts ``worker.py parent`` under the interpreter of the peer that is measured, and
that parent execs ``worker.py child`` with the same interpreter. The two talk over the peer's
connection. Orders arrive on stdin and answers leave on stdout, so that nothing but the measured
messages ever travels on the connection:

    order to the parent, a line        answer, a line
    (none, at the start)               {"parent": PID, "child": PID, "python": ..., ...}
    N                                  the seconds that a round of N messages took

The end of stdin ends a worker. This file imports nothing from its neighbours, and the code that
measures this package and the original is one and the same: only the interpreter differs.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Client, Listener
from time import perf_counter
from typing import Any, Callable, NamedTuple

JSON_DOCUMENT = {"id": 4711, "name": "ductworks", "ok": True, "n": 0.25}

# A peer that waits for its turn is blocked in recv for as long as the others measure. The original
# gives up after 30 s by default, so both packages get the same longer limit.
DUCT_TIMEOUT = 300.0
EXIT_TIMEOUT = 30.0


class Connection(NamedTuple):
    """How a peer sends and receives one message of the case that is measured."""

    send: Callable[[Any], Any]
    recv: Callable[[], Any]


def identity(payload: Any) -> Any:
    return payload


def message_of(case: str) -> Any:
    """The message of a case: the JSON document, or as many bytes as the case's name says."""
    if case == "json":
        return JSON_DOCUMENT
    size = int(case)
    return (bytes(range(256)) * (size // 256 + 1))[:size]


def duct_arguments(case: str) -> dict[str, Any]:
    arguments: dict[str, Any] = {"timeout": DUCT_TIMEOUT}
    if case != "json":
        arguments.update(serialize=identity, deserialize=identity)
    return arguments


def pipe_connection(connection: Any, case: str) -> Connection:
    if case == "json":
        return Connection(connection.send, connection.recv)
    return Connection(connection.send_bytes, connection.recv_bytes)


@contextmanager
def parent_connection(peer: str, case: str, start: Callable[[str], None]) -> Iterator[Connection]:
    """Listen, call ``start`` with the address so that it starts the child, and accept it."""
    if peer == "pipe":
        with tempfile.TemporaryDirectory(prefix="duct-bench-") as directory:
            with Listener(f"{directory}/pipe", family="AF_UNIX") as listener:
                start(str(listener.address))
                connection = listener.accept()
            with connection:
                yield pipe_connection(connection, case)
        return

    from ductworks.message_duct import MessageDuctParent

    duct = MessageDuctParent.psuedo_anonymous_parent_duct(**duct_arguments(case))
    duct.bind()
    start(duct.listener_address)
    if not duct.listen():
        raise TimeoutError("the child did not connect")
    try:
        yield Connection(duct.send, duct.recv)
    finally:
        duct.close()


@contextmanager
def child_connection(peer: str, case: str, address: str) -> Iterator[Connection]:
    if peer == "pipe":
        with Client(address, family="AF_UNIX") as connection:
            yield pipe_connection(connection, case)
        return

    from ductworks.message_duct import MessageDuctChild

    duct = MessageDuctChild.psuedo_anonymous_child_duct(address, **duct_arguments(case))
    duct.connect()
    try:
        yield Connection(duct.send, duct.recv)
    finally:
        duct.close()


def check_equal(received: Any, expected: Any) -> None:
    # The original hands a bytearray to the deserializer, which equals the bytes that were sent.
    if received != expected:
        raise ValueError("received a message that differs from the one sent")


def acknowledgement(case: str) -> Any:
    """What the child answers once it has a whole stream: a message of the connection's own kind."""
    return "received" if case == "json" else b"received"


def parent_stream(connection: Connection, case: str, count: int) -> float:
    send, message = connection.send, message_of(case)
    begin = perf_counter()
    for _ in range(count):
        send(message)
    answer = connection.recv()
    seconds = perf_counter() - begin
    check_equal(answer, acknowledgement(case))
    return seconds


def child_stream(connection: Connection, case: str, count: int) -> None:
    recv, message = connection.recv, None
    for _ in range(count):
        message = recv()
    connection.send(acknowledgement(case))
    check_equal(message, message_of(case))


def parent_roundtrip(connection: Connection, case: str, count: int) -> float:
    send, recv, message, answer = connection.send, connection.recv, message_of(case), None
    begin = perf_counter()
    for _ in range(count):
        send(message)
        answer = recv()
    seconds = perf_counter() - begin
    check_equal(answer, message)
    return seconds


def child_roundtrip(connection: Connection, case: str, count: int) -> None:
    send, recv = connection.send, connection.recv
    for _ in range(count):
        send(recv())


PARENT_WORKLOADS = {"stream": parent_stream, "roundtrip": parent_roundtrip}
CHILD_WORKLOADS = {"stream": child_stream, "roundtrip": child_roundtrip}


def answer(line: object) -> None:
    print(line, flush=True)


def package_version(peer: str) -> str | None:
    return None if peer == "pipe" else importlib.metadata.version("ductworks")


def run_parent(options: argparse.Namespace) -> None:
    child: subprocess.Popen[str] | None = None

    def start(address: str) -> None:
        nonlocal child
        arguments = [
            sys.executable, __file__, "child", "--peer", options.peer,
            "--case", options.case, "--workload", options.workload, "--address", address,
        ]  # fmt: skip
        child = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    workload = PARENT_WORKLOADS[options.workload]
    with parent_connection(options.peer, options.case, start) as connection:
        assert child is not None
        assert child.stdin is not None
        assert child.stdout is not None
        facts = {
            "parent": os.getpid(),
            "child": child.pid,
            "python": platform.python_version(),
            "package": package_version(options.peer),
        }
        answer(json.dumps(facts))
        for line in sys.stdin:
            print(line, end="", file=child.stdin, flush=True)
            if child.stdout.readline() != "ready\n":
                raise RuntimeError("the child ended early")
            answer(repr(workload(connection, options.case, int(line))))
        child.stdin.close()
        if child.wait(EXIT_TIMEOUT) != 0:
            raise RuntimeError(f"the child ended with status {child.returncode}")


def run_child(options: argparse.Namespace) -> None:
    workload = CHILD_WORKLOADS[options.workload]
    with child_connection(options.peer, options.case, options.address) as connection:
        for line in sys.stdin:
            answer("ready")
            workload(connection, options.case, int(line))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("role", choices=["parent", "child"])
    parser.add_argument("--peer", choices=["duct", "pipe"], required=True)
    parser.add_argument("--case", required=True)
    parser.add_argument("--workload", choices=sorted(PARENT_WORKLOADS), required=True)
    parser.add_argument("--address")
    options = parser.parse_args()
    run_parent(options) if options.role == "parent" else run_child(options)


if __name__ == "__main__":
    main()
