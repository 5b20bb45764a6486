"""Facts of the machine that belong beside the figures: no names, no paths."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any


def facts() -> dict[str, Any]:
    return {
        "system": platform.system(),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "processor": _first_value("/proc/cpuinfo", "model name"),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(int(_first_value("/proc/meminfo", "MemTotal").split()[0]) / 2**20, 1),
        "python": platform.python_version(),
    }


def _first_value(path: str, key: str) -> str:
    for line in Path(path).read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return "0"


class ProcessorTime:
    """How much processor time other users of the hardware took while something was measured."""

    def __init__(self) -> None:
        self._begin = self._read()

    def stolen_percent(self) -> float:
        spent = [now - then for now, then in zip(self._read(), self._begin)]
        idle, stolen = spent[3] + spent[4], spent[7]
        wanted = sum(spent[:8]) - idle
        return 100 * stolen / wanted if wanted else 0.0

    @staticmethod
    def _read() -> list[int]:
        # proc_stat(5): user nice system idle iowait irq softirq steal ...
        return [int(field) for field in Path("/proc/stat").read_text().split("\n")[0].split()[1:]]
