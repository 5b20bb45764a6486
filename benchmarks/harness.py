"""Worker pairs, calibration, and rounds that take turns."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

WORKER = Path(__file__).with_name("worker.py")

# The case "json" has the length that json.dumps writes, "tuple" that of its pickle; a number is a
# size in bytes, sent as bytes or, in a pickled case, as a value.
SIZES = {"json": 56, "tuple": 38, "pickled-64": 64, "array": 16 << 20}
LABELS = {"json": "small JSON", "tuple": "small tuple", "pickled-64": "pickled, 64 B"}
CASES = ("json", "64", "4096", "65536", "1048576")
WORKLOADS = ("stream", "roundtrip")

# What goes through Pipe, to a child that multiprocessing starts in one of these ways.
STARTS = ("fork", "spawn")
PIPE_CASES = ("tuple", "pickled-64", "64")
ARRAY_CASE, ARRAY_WORKLOAD = "array", "acknowledged"

# Where the two processes run: a system moves them between these as it likes, and then a figure
# tells more about its scheduler than about the peer. On one core no two things happen at once, and
# the same figures come back run after run. On two, the ends of a stream work at the same time, and
# waking the other end costs far more, most of all on a virtual machine, and varies.
ONE_CORE = "one core"
TWO_CORES = "two cores"


def payload_size(case: str) -> int:
    return SIZES[case] if case in SIZES else int(case)


def case_label(case: str) -> str:
    if case in LABELS:
        return LABELS[case]
    kind, size = "array" if case == ARRAY_CASE else "bytes", payload_size(case)
    if size >= 1 << 20:
        return f"{kind}, {size >> 20} MiB"
    return f"{kind}, {size >> 10} KiB" if size >= 1 << 10 else f"{kind}, {size} B"


class BenchError(Exception):
    """A benchmark could not be carried out; the text is for the person who ran it."""


class Peer(NamedTuple):
    """Something to measure: the name in the tables, and how ``worker.py`` is run for it."""

    name: str
    interpreter: str
    kind: str  # "duct" or "pipe": which connection worker.py opens
    start: str = "exec"  # how it starts the child; "fork" and "spawn": one end is an argument


class WorkerPair:
    """A running parent and child that are connected, and measure whenever they are told to."""

    def __init__(self, peer: Peer, case: str, workload: str) -> None:
        self.peer = peer
        arguments = [peer.interpreter, str(WORKER), "parent"]
        arguments += ["--peer", peer.kind, "--start", peer.start]
        arguments += ["--case", case, "--workload", workload]
        self._process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.facts: dict[str, Any] = {}

    def wait_until_connected(self) -> None:
        self.facts = json.loads(self._answer())

    def pin(self, parent: int, child: int) -> None:
        """Keep each process on a core."""
        os.sched_setaffinity(self.facts["parent"], {parent})
        os.sched_setaffinity(self.facts["child"], {child})

    def round(self, count: int) -> float:
        """Let ``count`` messages pass and return the seconds that this took."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # The missing answer says it better.
            print(count, file=self._process.stdin, flush=True)
        return float(self._answer())

    def close(self) -> None:
        """End both processes: the end of their input is their order to leave."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise BenchError(f"the worker of peer {self.peer.name!r} failed; see its error above")
        return line

    def __enter__(self) -> WorkerPair:
        try:
            self.wait_until_connected()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class Measurement:
    """The rounds of every peer for one message and one workload; each did the same work."""

    placement: str
    case: str
    workload: str
    payload_bytes: int
    count: int
    seconds: dict[str, list[float]]
    start: str = "exec"

    @property
    def label(self) -> str:
        label = case_label(self.case)
        return label if self.start == "exec" else f"{label}, {self.start}"

    @property
    def peers(self) -> list[str]:
        return list(self.seconds)

    def median(self, peer: str) -> float:
        """Seconds of the median round."""
        return statistics.median(self.seconds[peer])

    def rate(self, peer: str) -> float:
        """Messages a second; for round trips, round trips a second."""
        return self.count / self.median(peer)

    def megabytes(self, peer: str) -> float:
        """Payload in MB (10^6 bytes) a second in one direction."""
        return self.rate(peer) * self.payload_bytes / 1e6

    def ratio(self, peer: str, base: str) -> float | None:
        """How many times the rate of ``base`` this peer reached: the median of the rounds' ratios.

        What else the machine does changes slowly, so that it weighs on both peers of a round.
        """
        if peer not in self.seconds or base not in self.seconds:
            return None
        rounds = zip(self.seconds[base], self.seconds[peer])
        return statistics.median(theirs / ours for theirs, ours in rounds)

    @classmethod
    def from_json(cls, placement: str, document: dict[str, Any]) -> Measurement:
        """A measurement as the Rust program prints it; this library comes first."""
        peers = sorted(document["peers"], key=lambda peer: not peer.startswith("ductworks"))
        seconds = {peer: document["peers"][peer]["round_seconds"] for peer in peers}
        return cls(
            placement,
            document["message"],
            document["workload"],
            document["payload_bytes"],
            document["messages_per_round"],
            seconds,
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "placement": self.placement,
            "start": self.start,
            "message": self.case,
            "payload_bytes": self.payload_bytes,
            "workload": self.workload,
            "messages_per_round": self.count,
            "peers": {
                peer: {
                    "median_seconds": self.median(peer),
                    "messages_per_second": self.rate(peer),
                    "megabytes_per_second": self.megabytes(peer),
                    "round_seconds": self.seconds[peer],
                }
                for peer in self.peers
            },
        }


@contextmanager
def worker_pairs(
    peers: Sequence[Peer], case: str, workload: str, placement: str
) -> Iterator[list[WorkerPair]]:
    with ExitStack() as stack:
        pairs = []
        for peer in peers:  # They start at the same time.
            pairs.append(WorkerPair(peer, case, workload))
            stack.callback(pairs[-1].close)
        for pair in pairs:
            pair.wait_until_connected()
            pair.pin(*cores(placement))
        yield pairs


def placements() -> tuple[str, ...]:
    """The placements that this machine allows."""
    return (ONE_CORE, TWO_CORES) if len(os.sched_getaffinity(0)) > 1 else (ONE_CORE,)


def cores(placement: str) -> tuple[int, int]:
    """The parent's core and the child's."""
    # The first core usually serves the interrupts, so a choice begins at the other end.
    child, *others = sorted(os.sched_getaffinity(0), reverse=True)
    return (others[0] if placement == TWO_CORES else child), child


def calibrate(pairs: Sequence[WorkerPair], round_seconds: float) -> int:
    """Warm every pair up, and return the count at which the slowest takes ``round_seconds``."""
    # A tenth of a round is long enough to judge a rate by, and warms caches and allocators.
    probe_seconds = round_seconds / 10
    slowest = max(seconds_per_message(pair, probe_seconds) for pair in pairs)
    return max(1, round(round_seconds / slowest))


def seconds_per_message(pair: WorkerPair, probe_seconds: float) -> float:
    count = 1
    while True:
        seconds = pair.round(count)
        if seconds >= probe_seconds:
            return seconds / count
        # The first messages are slow, so a guess from them is not trusted beyond a factor of ten.
        count = min(count * 10, max(count + 1, round(count * 1.2 * probe_seconds / seconds)))


def take_turns(pairs: Sequence[WorkerPair], count: int, rounds: int) -> dict[str, list[float]]:
    """Measure the pairs in turn, ``rounds`` times; each round begins with another pair."""
    seconds: dict[str, list[float]] = {pair.peer.name: [] for pair in pairs}
    for number in range(rounds):
        first = number % len(pairs)
        for pair in [*pairs[first:], *pairs[:first]]:
            seconds[pair.peer.name].append(pair.round(count))
    return seconds


def measure(
    peers: Sequence[Peer],
    case: str,
    workload: str,
    placement: str,
    rounds: int,
    round_seconds: float,
) -> Measurement:
    """Measure one message and workload for all peers, which start their children alike."""
    with worker_pairs(peers, case, workload, placement) as pairs:
        count = calibrate(pairs, round_seconds)
        seconds = take_turns(pairs, count, rounds)
        size = payload_size(case)
        return Measurement(placement, case, workload, size, count, seconds, peers[0].start)


def say(text: str) -> None:
    """Progress, on stderr where it does not mix with the results."""
    print(text, file=sys.stderr, flush=True)
