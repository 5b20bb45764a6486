"""Measure ductworks beside the original and multiprocessing's Pipe: ``make bench``.

One parent and one exec'd child a peer, the same work for each peer, rounds that take turns, and
the median round; first with both processes on one core, then on two. Then the same for the two
packages' Pipes, with children that multiprocessing forks and spawns. It takes eight minutes or so.

The interpreter that runs this has ductworks installed. The one that has the original comes from
DUCTWORKS_ORIGINAL_PYTHON, by default the one in .venv-original beside this repository's Makefile.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import machine
from chart import chart
from harness import (
    ARRAY_CASE,
    ARRAY_WORKLOAD,
    CASES,
    ONE_CORE,
    PIPE_CASES,
    STARTS,
    WORKLOADS,
    BenchError,
    Measurement,
    Peer,
    WorkerPair,
    cores,
    measure,
    placements,
    say,
)
from memory import MemoryRun, stream_and_watch
from report import goal_lines, judge, memory_lines, tables

BENCHMARKS = Path(__file__).parent
RESULTS = BENCHMARKS / "results"
ROUNDS = 11
ROUND_SECONDS = 0.25
# Small messages through Pipe: many cases, and each message is short.
PIPE_ROUND_SECONDS = 0.15
QUICK_ROUNDS = 3
QUICK_ROUND_SECONDS = 0.05


def main() -> int:
    options = parse_arguments()
    peers = available_peers(options.peers)
    time = machine.ProcessorTime()
    versions: dict[str, Any] = {}
    python: list[Measurement] = []
    pipes: list[Measurement] = []
    rust: list[Measurement] = []
    meetings: dict[str, dict[str, float]] = {}
    memory: MemoryRun | None = None
    try:
        versions = peer_versions(peers)
        for placement in placements()[: 1 if options.one_core else None]:
            if options.only != "pipes":
                python += measure_python(peers, placement, options)
            if options.only != "ducts":
                pipes += measure_pipes(peers, placement, options)
            if options.only != "pipes" and options.rust is not None:
                document = measure_rust(options.rust, placement, options)
                versions["rust"] = document["versions"]
                meetings[placement] = document["meetings"]
                rust += [Measurement.from_json(placement, m) for m in document["measurements"]]
        subject = next((peer for peer in peers if peer.name == "ductworks"), None)
        if options.only != "pipes" and subject is not None and options.memory_seconds > 0:
            say(f"streaming 1 MiB messages for {options.memory_seconds:g} s")
            memory = stream_and_watch(subject, options.memory_seconds)
    except BenchError as error:
        say(f"bench: {error}")
        return 1
    except KeyboardInterrupt:
        return 130

    goals = judge(python, pipes, rust, meetings, memory)
    stolen = time.stolen_percent()
    for title, measurements in (("Python", python), ("Pipe", pipes), ("Rust", rust)):
        if measurements:
            print(title, tables(measurements), sep="\n\n", end="\n\n")
    if memory is not None:
        print(memory_lines(memory), end="\n\n")
    print(goal_lines(goals))
    print(f"\nProcessor time that other users of the hardware took: {stolen:.0f} %")

    document = {
        "machine": {**machine.facts(), "stolen_percent": round(stolen, 1)},
        "versions": versions,
        "python": [measurement.as_json() for measurement in python],
        "pipes": [measurement.as_json() for measurement in pipes],
        "rust": [measurement.as_json() for measurement in rust],
        "meetings": meetings,
        "memory": memory.as_json() if memory is not None else None,
        "goals": [goal.as_json() for goal in goals],
    }
    write(options.json, json.dumps(document, indent=1) + "\n")
    streams = [m for m in python if m.placement == ONE_CORE and m.workload == "stream"]
    if streams and {"ductworks", "original"} <= set(streams[0].peers):
        write(options.svg, chart(streams, chart_subtitle(streams)))
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--rounds", type=positive, help=f"rounds a peer ({ROUNDS}; quick: {QUICK_ROUNDS})"
    )
    parser.add_argument(
        "--quick", action="store_true", help="a rough measurement in about 30 s; writes no files"
    )
    parser.add_argument(
        "--only",
        choices=["ducts", "pipes"],
        help="one part: ducts (Rust and memory too), or the two Pipes; writes only files named",
    )
    parser.add_argument(
        "--one-core", action="store_true", help="leave out the runs on two cores (quick does)"
    )
    parser.add_argument(
        "--memory-seconds", type=float, help="length of the memory run (60; quick: 0, none)"
    )
    parser.add_argument("--rust", type=Path, metavar="PROGRAM", help="the ductworks-bench program")
    parser.add_argument("--json", type=Path, help="file for the figures (results/bench.json)")
    parser.add_argument("--svg", type=Path, help="file for the chart (results/bench.svg)")
    parser.add_argument(
        "--peers",
        type=lambda names: names.split(","),
        default=["ductworks", "original", "pipe"],
        help="the Python peers to measure (ductworks,original,pipe)",
    )
    options = parser.parse_args()
    if options.rounds is None:
        options.rounds = QUICK_ROUNDS if options.quick else ROUNDS
    if options.memory_seconds is None:
        options.memory_seconds = 0.0 if options.quick else 60.0
    options.one_core |= options.quick
    if not options.quick and options.only is None:
        options.json = options.json or RESULTS / "bench.json"
        options.svg = options.svg or RESULTS / "bench.svg"
    options.round_seconds = QUICK_ROUND_SECONDS if options.quick else ROUND_SECONDS
    options.pipe_round_seconds = min(options.round_seconds, PIPE_ROUND_SECONDS)
    return options


def positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError(text)
    return number


def available_peers(names: Sequence[str]) -> list[Peer]:
    default = BENCHMARKS.parent / ".venv-original" / "bin" / "python"
    original = os.environ.get("DUCTWORKS_ORIGINAL_PYTHON") or str(default)
    if "original" in names and not os.access(original, os.X_OK):
        say("The original is left out: no interpreter in DUCTWORKS_ORIGINAL_PYTHON.")
        names = [name for name in names if name != "original"]
    known = {
        "ductworks": Peer("ductworks", sys.executable, "duct"),
        "original": Peer("original", original, "duct"),
        "pipe": Peer("pipe", sys.executable, "pipe"),
    }
    return [known[name] for name in names]


def pipe_peers(peers: Sequence[Peer], start: str) -> list[Peer]:
    """Those of the peers that have a Pipe, with the way in which they start their children."""
    return [peer._replace(start=start) for peer in peers if peer.name != "original"]


def peer_versions(peers: Sequence[Peer]) -> dict[str, Any]:
    versions: dict[str, Any] = {}
    for peer in peers:
        with WorkerPair(peer, "json", "roundtrip") as pair:
            versions[peer.name] = {key: pair.facts[key] for key in ("package", "python")}
    with suppress(importlib.metadata.PackageNotFoundError):
        versions["numpy"] = importlib.metadata.version("numpy")
    return versions


def measure_python(
    peers: Sequence[Peer], placement: str, options: argparse.Namespace
) -> list[Measurement]:
    return [
        measure_and_say(peers, case, workload, placement, options.rounds, options.round_seconds)
        for workload in WORKLOADS
        for case in CASES
    ]


def measure_pipes(
    peers: Sequence[Peer], placement: str, options: argparse.Namespace
) -> list[Measurement]:
    seconds = options.pipe_round_seconds
    work = [(workload, case, seconds) for workload in WORKLOADS for case in PIPE_CASES]
    if importlib.util.find_spec("numpy") is not None:
        work.append((ARRAY_WORKLOAD, ARRAY_CASE, options.round_seconds))
    else:
        say("The array is left out: numpy is not installed.")
    return [
        measure_and_say(
            pipe_peers(peers, start), case, workload, placement, options.rounds, seconds
        )
        for workload, case, seconds in work
        for start in STARTS
    ]


def measure_and_say(
    peers: Sequence[Peer],
    case: str,
    workload: str,
    placement: str,
    rounds: int,
    round_seconds: float,
) -> Measurement:
    measurement = measure(peers, case, workload, placement, rounds, round_seconds)
    rates = ", ".join(f"{peer} {measurement.rate(peer):,.0f}/s" for peer in measurement.peers)
    say(f"{workload} of {measurement.label}, {placement}: {rates}")
    return measurement


def measure_rust(program: Path, placement: str, options: argparse.Namespace) -> dict[str, Any]:
    command = [str(program), "--json", "--rounds", str(options.rounds)]
    command += ["--round-seconds", str(options.round_seconds)]
    command += ["--cores", ",".join(map(str, cores(placement)))]
    try:
        run = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    except OSError as error:
        raise BenchError(f"the Rust program did not start: {error.strerror}") from error
    if run.returncode != 0:
        raise BenchError(f"the Rust program ended with status {run.returncode}")
    document: dict[str, Any] = json.loads(run.stdout)
    return document


def chart_subtitle(streams: Sequence[Measurement]) -> str:
    rounds = len(streams[0].seconds["original"])
    return (
        f"Python {sys.version_info[0]}.{sys.version_info[1]}, Unix socket, one parent and one"
        f" exec'd child on one core, median of {rounds} rounds"
    )


def write(path: Path | None, content: str) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        say(f"wrote {path.name}")


if __name__ == "__main__":
    sys.exit(main())
