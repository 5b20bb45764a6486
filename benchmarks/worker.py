"""One end of a measured connection. The benchmarks start it; it is not run by hand.

``bench.py`` starts ``worker.py parent`` under the interpreter of the peer that is measured, and
that parent execs ``worker.py child`` with the same interpreter, or forks or spawns its child with
``multiprocessing.Process`` and an end of the peer's ``Pipe`` as an argument. The two talk over the
peer's connection. Orders arrive on stdin and answers leave on stdout, and the parent passes orders
on by another way, so that nothing but the measured messages ever travels on the connection:

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
import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Client, Listener
from time import perf_counter
from typing import Any, Callable, NamedTuple, Union

JSON_DOCUMENT = {"id": 4711, "name": "ductworks", "ok": True, "n": 0.25}
SMALL_TUPLE = (4711, "ductworks", 0.25)
ARRAY_BYTES = 16 << 20

# The first arrays of a round are not timed: they get memory anew that both peers' processes gave
# back with the last round's arrays, and a round is short.
ARRAYS_BEFORE = 2

# What the two ends write into the array, each into its own.
SENT_AND_CHANGED = -1.0
RECEIVED_AND_CHANGED = -2.0

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
    """The message of a case: a value, or as many bytes as the case's name says."""
    if case == "json":
        return JSON_DOCUMENT
    if case == "tuple":
        return SMALL_TUPLE
    if case == "array":
        import numpy

        return numpy.arange(ARRAY_BYTES // 8, dtype=numpy.float64)
    size = int(case.removeprefix("pickled-"))
    return (bytes(range(256)) * (size // 256 + 1))[:size]


def is_bytes(case: str) -> bool:
    """Whether the message travels as it is; else the connection makes bytes of a value."""
    return case.isdecimal()


def duct_arguments(case: str) -> dict[str, Any]:
    arguments: dict[str, Any] = {"timeout": DUCT_TIMEOUT}
    if is_bytes(case):
        arguments.update(serialize=identity, deserialize=identity)
    return arguments


def pipe_connection(connection: Any, case: str) -> Connection:
    if is_bytes(case):
        return Connection(connection.send_bytes, connection.recv_bytes)
    return Connection(connection.send, connection.recv)


def make_pipe(peer: str) -> tuple[Any, Any]:
    if peer == "pipe":
        return multiprocessing.Pipe()

    import ductworks

    return ductworks.Pipe()


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
    return b"received" if is_bytes(case) else "received"


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


def parent_acknowledged(connection: Connection, case: str, count: int) -> float:
    """Send an array again and again, changed each time, and once more as soon as it is sent."""
    send, recv, array = connection.send, connection.recv, message_of(case)
    count += ARRAYS_BEFORE
    begin = perf_counter()
    for number in range(count):
        if number == ARRAYS_BEFORE:
            begin = perf_counter()
        array[number] = value = number + 0.5
        send(array)
        array[number] = SENT_AND_CHANGED
        check_equal(recv(), value)
    seconds = perf_counter() - begin
    check_equal_arrays(array, changed_array(case, count))
    return seconds


def child_acknowledged(connection: Connection, case: str, count: int) -> None:
    send, recv, array = connection.send, connection.recv, None
    count += ARRAYS_BEFORE
    for number in range(count):
        array = recv()
        value = float(array[number])
        array[number] = RECEIVED_AND_CHANGED
        send(value)
    expected = changed_array(case, count)
    expected[count - 1] = RECEIVED_AND_CHANGED
    check_equal_arrays(array, expected)


def changed_array(case: str, count: int) -> Any:
    array = message_of(case)
    array[:count] = SENT_AND_CHANGED
    return array


def check_equal_arrays(received: Any, expected: Any) -> None:
    check_equal(*((array.dtype, array.shape, array.tobytes()) for array in (received, expected)))


PARENT_WORKLOADS = {
    "stream": parent_stream,
    "roundtrip": parent_roundtrip,
    "acknowledged": parent_acknowledged,
}
CHILD_WORKLOADS = {
    "stream": child_stream,
    "roundtrip": child_roundtrip,
    "acknowledged": child_acknowledged,
}


def answer(line: object) -> None:
    print(line, flush=True)


def package_version(peer: str) -> str | None:
    return None if peer == "pipe" else importlib.metadata.version("ductworks")


class ExecutedChild:
    """A child that is told by its stdin what to do, and says on its stdout that it is ready."""

    def __init__(self, options: argparse.Namespace, address: str) -> None:
        arguments = [
            sys.executable, __file__, "child", "--peer", options.peer,
            "--case", options.case, "--workload", options.workload, "--address", address,
        ]  # fmt: skip
        self._process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pid = self._process.pid

    def order(self, count: int) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(count, file=self._process.stdin, flush=True)
        if self._process.stdout.readline() != "ready\n":
            raise RuntimeError("the child ended early")

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        if self._process.wait(EXIT_TIMEOUT) != 0:
            raise RuntimeError(f"the child ended with status {self._process.returncode}")


# A forked child has these too, and closes them: the end of the parent is then an end for it. A
# spawned child never has them.
ends_of_the_parent: list[Any] = []


class ForkedOrSpawnedChild:
    """A child of multiprocessing. Orders go to it over a connection of their own."""

    def __init__(self, options: argparse.Namespace, ours: Any, theirs: Any) -> None:
        self._orders, orders = multiprocessing.Pipe()
        ends_of_the_parent.extend([ours, self._orders])
        self._process = multiprocessing.get_context(options.start).Process(
            target=run_forked_or_spawned_child,
            args=(theirs, orders, options.case, options.workload),
            daemon=True,
        )
        self._process.start()
        theirs.close()
        orders.close()
        self.pid = self._process.pid

    def order(self, count: int) -> None:
        self._orders.send(count)
        try:
            self._orders.recv()
        except EOFError:
            raise RuntimeError("the child ended early") from None

    def end(self) -> None:
        self._orders.close()
        self._process.join(EXIT_TIMEOUT)
        if self._process.exitcode != 0:
            raise RuntimeError(f"the child ended with status {self._process.exitcode}")


Child = Union[ExecutedChild, ForkedOrSpawnedChild]


@contextmanager
def connected_child(options: argparse.Namespace) -> Iterator[tuple[Connection, Child]]:
    """Start the child; yield the parent's end of the connection with it, and the child."""
    if options.start != "exec":
        ours, theirs = make_pipe(options.peer)
        with ours:
            child: Child = ForkedOrSpawnedChild(options, ours, theirs)
            yield pipe_connection(ours, options.case), child
        return

    children: list[ExecutedChild] = []

    def start(address: str) -> None:
        children.append(ExecutedChild(options, address))

    with parent_connection(options.peer, options.case, start) as connection:
        yield connection, children[0]


def run_parent(options: argparse.Namespace) -> None:
    workload = PARENT_WORKLOADS[options.workload]
    with connected_child(options) as (connection, child):
        facts = {
            "parent": os.getpid(),
            "child": child.pid,
            "python": platform.python_version(),
            "package": package_version(options.peer),
        }
        message_of(options.case)  # What that imports is no part of the first round.
        answer(json.dumps(facts))
        for line in sys.stdin:
            child.order(int(line))
            answer(repr(workload(connection, options.case, int(line))))
        child.end()


def run_child(options: argparse.Namespace) -> None:
    workload = CHILD_WORKLOADS[options.workload]
    with child_connection(options.peer, options.case, options.address) as connection:
        for line in sys.stdin:
            answer("ready")
            workload(connection, options.case, int(line))


def run_forked_or_spawned_child(connection: Any, orders: Any, case: str, workload: str) -> None:
    for end in ends_of_the_parent:
        end.close()
    message_of(case)
    work = CHILD_WORKLOADS[workload]
    with connection:
        while True:
            try:
                count = orders.recv()
            except EOFError:
                return
            orders.send("ready")
            work(pipe_connection(connection, case), case, count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("role", choices=["parent", "child"])
    parser.add_argument("--peer", choices=["duct", "pipe"], required=True)
    parser.add_argument("--start", choices=["exec", "fork", "spawn"], default="exec")
    parser.add_argument("--case", required=True)
    parser.add_argument("--workload", choices=sorted(PARENT_WORKLOADS), required=True)
    parser.add_argument("--address")
    options = parser.parse_args()
    run_parent(options) if options.role == "parent" else run_child(options)


if __name__ == "__main__":
    main()
