"""The tables on the terminal, and whether the goals are met."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from harness import (
    ARRAY_CASE,
    ARRAY_WORKLOAD,
    PIPE_CASES,
    STARTS,
    Measurement,
    case_label,
)
from memory import MemoryRun

TITLES = {
    "stream": "One-way stream",
    "roundtrip": "Round trip",
    "acknowledged": "Acknowledged, changed each time",
}
UNITS = {
    "stream": ("msg/s", "MB/s"),
    "roundtrip": ("trips/s", "us each"),
    "acknowledged": ("msg/s", "MB/s"),
}
SUBJECT = "ductworks"


def table(measurements: Sequence[Measurement]) -> str:
    """One table for measurements of the same peers, workload and placement."""
    first = measurements[0]
    peers, units = first.peers, UNITS[first.workload]
    others = [peer for peer in peers if not peer.startswith(SUBJECT)]
    bases = others if SUBJECT in peers else []
    rounds = len(first.seconds[peers[0]])
    title = f"{TITLES[first.workload]}, parent and child on {first.placement}"
    lines = [f"{title}, median of {rounds} rounds"]
    width = max(14, *(len(measurement.label) for measurement in measurements))
    lines.append(
        " " * width
        + "".join(f"{peer:>22}" for peer in peers)
        + "".join(f"{SUBJECT + ' /':>17}" for _ in bases)
    )
    lines.append(
        " " * width
        + f"{units[0]:>13}{units[1]:>9}" * len(peers)
        + "".join(f"{base:>17}" for base in bases)
    )
    for measurement in measurements:
        cells = [f"{measurement.label:<{width}}"]
        for peer in peers:
            second = (
                f"{1e6 / measurement.rate(peer):>9,.1f}"
                if first.workload == "roundtrip"
                else f"{measurement.megabytes(peer):>9,.1f}"
            )
            cells.append(f"{measurement.rate(peer):>13,.0f}{second}")
        cells += [f"{times(measurement.ratio(SUBJECT, base)):>17}" for base in bases]
        lines.append("".join(cells))
    return "\n".join(lines)


def tables(measurements: Iterable[Measurement]) -> str:
    groups: dict[tuple[str, str], list[Measurement]] = {}
    for measurement in measurements:
        groups.setdefault((measurement.placement, measurement.workload), []).append(measurement)
    return "\n\n".join(table(group) for group in groups.values())


def times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f} x"


class Verdict(NamedTuple):
    """A figure under one condition, and whether it meets the goal."""

    condition: str
    figure: str
    met: bool


class Goal(NamedTuple):
    text: str
    verdicts: list[Verdict]

    @property
    def word(self) -> str:
        met = [verdict.met for verdict in self.verdicts]
        if not met:
            return "-"
        return "met" if all(met) else "in part" if any(met) else "NOT MET"

    def line(self) -> str:
        figures = ", ".join(f"{v.figure} {v.condition}" for v in self.verdicts)
        return f"{self.word:<9}{self.text:<59}{figures or 'not measured'}"

    def as_json(self) -> dict[str, Any]:
        verdicts = [verdict._asdict() for verdict in self.verdicts]
        return {"goal": self.text, "verdict": self.word, "figures": verdicts}


class RateGoal(NamedTuple):
    """At least ``factor`` times the rate of ``base``, in each of the cases."""

    text: str
    workload: str
    cases: Sequence[str]
    base: str
    factor: float
    start: str = "exec"
    subject: str = SUBJECT

    def judge(self, measurements: Iterable[Measurement]) -> Goal:
        """Judge each placement by its worst case."""
        worst: dict[str, tuple[float, str]] = {}
        for measurement in measurements:
            ratio = measurement.ratio(self.subject, self.base)
            key = measurement.start, measurement.workload
            wanted = key == (self.start, self.workload) and measurement.case in self.cases
            if wanted and ratio is not None:
                entry = ratio, case_label(measurement.case)
                worst[measurement.placement] = min(worst.get(measurement.placement, entry), entry)
        verdicts = []
        for placement, (ratio, label) in worst.items():
            which = f" ({label})" if len(self.cases) > 1 else ""
            met = ratio >= self.factor
            verdicts.append(Verdict(f"on {placement}", f"{times(ratio)}{which}", met))
        return Goal(self.text, verdicts)


class FlowGoal(NamedTuple):
    """At least so many megabytes a second of one case's messages, one way."""

    text: str
    case: str
    megabytes: float
    subject: str

    def judge(self, measurements: Iterable[Measurement]) -> Goal:
        verdicts = []
        for measurement in measurements:
            key = measurement.workload, measurement.case
            if key == ("stream", self.case) and self.subject in measurement.peers:
                flow = measurement.megabytes(self.subject)
                met = flow >= self.megabytes
                verdicts.append(Verdict(f"on {measurement.placement}", f"{flow:,.0f} MB/s", met))
        return Goal(self.text, verdicts)


def judge_meetings(meetings: Mapping[str, Mapping[str, float]]) -> Goal:
    """How long two take to meet, by placement and by the way they do."""
    verdicts = []
    for placement, seconds in meetings.items():
        ratio = seconds[SUBJECT] / seconds[f"{SUBJECT} v1"]
        verdicts.append(Verdict(f"on {placement}", times(ratio), ratio <= MEETING_FACTOR))
    return Goal("Rust, bind to first message: at most 2 x version 1", verdicts)


_ALL = ("json", "64", "4096", "65536", "1048576")

PYTHON_GOALS = (
    RateGoal("small JSON one-way: 3 x the original", "stream", ("json",), "original", 3.0),
    RateGoal("small JSON one-way: 1.5 x Pipe", "stream", ("json",), "pipe", 1.5),
    RateGoal("64-byte bytes one-way: 3 x the original", "stream", ("64",), "original", 3.0),
    RateGoal("1 MiB bytes one-way: 2 x the original", "stream", ("1048576",), "original", 2.0),
    RateGoal("no round trip slower than Pipe's", "roundtrip", _ALL, "pipe", 1.0),
)
_SMALL_BYTES = ("pickled-64", "64")
PIPE_GOALS = tuple(
    RateGoal(f"Pipe, {start}: {text}", workload, cases, "pipe", factor, start)
    for start in STARTS
    for text, workload, cases, factor in (
        ("small tuple one-way: 2 x multiprocessing's", "stream", ("tuple",), 2.0),
        ("64 bytes one-way: 2 x multiprocessing's", "stream", _SMALL_BYTES, 2.0),
        ("no round trip slower", "roundtrip", PIPE_CASES, 1.0),
        ("16 MiB array: 10 x multiprocessing's", ARRAY_WORKLOAD, (ARRAY_CASE,), 10.0),
    )
)
MEETING_FACTOR = 2.0
FLOW_GOAL = FlowGoal("Rust, TLS, 1 MiB one-way: 1 GB/s", "1048576", 1000.0, f"{SUBJECT} TLS")
RUST_GOALS = (
    RateGoal("Rust one-way: 0.95 x version 1", "stream", _ALL, f"{SUBJECT} v1", 0.95),
    RateGoal("Rust round trip: 0.95 x version 1", "roundtrip", _ALL, f"{SUBJECT} v1", 0.95),
    RateGoal("Rust one-way: 0.9 x the bare stream", "stream", _ALL, "bare", 0.9),
    RateGoal("Rust round trip: 0.9 x the bare stream", "roundtrip", _ALL, "bare", 0.9),
)
MEMORY_GOAL_MIB = 16.0


def judge(
    python: Sequence[Measurement],
    pipes: Sequence[Measurement],
    rust: Sequence[Measurement],
    meetings: Mapping[str, Mapping[str, float]],
    memory: MemoryRun | None,
) -> list[Goal]:
    goals = [goal.judge(python) for goal in PYTHON_GOALS]
    goals += [goal.judge(pipes) for goal in PIPE_GOALS]
    goals += [goal.judge(rust) for goal in (*RUST_GOALS, FLOW_GOAL)]
    goals.append(judge_meetings(meetings))
    text = f"memory: both processes within {MEMORY_GOAL_MIB:.0f} MiB of where they began"
    verdicts = []
    if memory is not None:
        grown = memory.growth_mib
        condition = f"in {memory.seconds:.0f} s"
        verdicts.append(Verdict(condition, f"{grown:.1f} MiB", grown <= MEMORY_GOAL_MIB))
    goals.append(Goal(text, verdicts))
    return goals


def goal_lines(goals: Iterable[Goal]) -> str:
    return "\n".join(goal.line() for goal in goals)


def memory_lines(memory: MemoryRun) -> str:
    rate = memory.messages / memory.seconds
    lines = [f"Memory, 1 MiB messages for {memory.seconds:.0f} s, {rate:,.0f} msg/s; resident MiB"]
    lines.append(f"{'':<14}{'begin':>9}{'maximum':>9}{'end':>9}")
    for role, use in memory.processes.items():
        lines.append(f"{role:<14}" + "".join(f"{kib / 1024:>9.1f}" for kib in use))
    return "\n".join(lines)
