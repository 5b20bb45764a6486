"""Memory of two processes while one streams 1 MiB messages to the other."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from harness import Peer, WorkerPair

CASE = "1048576"
WARM_UP_MESSAGES = 64
SAMPLE_SECONDS = 0.02


class MemoryUse(NamedTuple):
    """Resident memory of one process, in KiB."""

    begin: int
    maximum: int
    end: int

    @property
    def growth_mib(self) -> float:
        """How far the process was at most from where it began."""
        return max(self.maximum - self.begin, 0) / 1024


class MemoryRun(NamedTuple):
    seconds: float
    messages: int
    processes: dict[str, MemoryUse]

    @property
    def growth_mib(self) -> float:
        return max(use.growth_mib for use in self.processes.values())

    def as_json(self) -> dict[str, Any]:
        return {
            "message": CASE,
            "seconds": self.seconds,
            "messages": self.messages,
            "resident_kib": {role: use._asdict() for role, use in self.processes.items()},
            "growth_mib": self.growth_mib,
        }


def resident_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise ProcessLookupError(pid)


def stream_and_watch(peer: Peer, seconds: float) -> MemoryRun:
    """Stream for ``seconds`` and sample the resident memory of both processes all the while."""
    with WorkerPair(peer, CASE, "stream") as pair:
        pids = {role: pair.facts[role] for role in ("parent", "child")}
        per_message = pair.round(WARM_UP_MESSAGES) / WARM_UP_MESSAGES
        begin = {role: resident_kib(pid) for role, pid in pids.items()}
        highest = dict(begin)
        stop = threading.Event()

        def sample() -> None:
            while not stop.wait(SAMPLE_SECONDS):
                for role, pid in pids.items():
                    highest[role] = max(highest[role], resident_kib(pid))

        sampler = threading.Thread(target=sample)
        sampler.start()
        try:
            messages, started = 0, time.monotonic()
            while (left := seconds - (time.monotonic() - started)) > 0:
                count = max(1, round(min(left, 2.0) / per_message))
                per_message = pair.round(count) / count
                messages += count
            elapsed = time.monotonic() - started
        finally:
            stop.set()
            sampler.join()
        end = {role: resident_kib(pid) for role, pid in pids.items()}
        uses = {
            role: MemoryUse(begin[role], max(highest[role], end[role]), end[role]) for role in pids
        }
        return MemoryRun(elapsed, messages, uses)
