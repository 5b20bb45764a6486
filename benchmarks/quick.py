"""A few seconds' comparison with multiprocessing's Pipe, for ``make demo``.

from quick import format_rows, quick_table
print(format_rows(quick_table(seconds=6)))
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import NamedTuple

from harness import ONE_CORE, Peer, case_label, measure

CASES = ("json", "64")
ROUNDS = 3

# Two interpreters start for each peer and message.
STARTING_SECONDS = 0.25


class QuickRow(NamedTuple):
    """One-way messages a second, median of three rounds; both processes share one core."""

    message: str
    ductworks: float
    pipe: float

    @property
    def ratio(self) -> float:
        return self.ductworks / self.pipe


def quick_table(seconds: float = 6.0) -> list[QuickRow]:
    """Measure this interpreter's ductworks against Pipe in about ``seconds``, 5 to 8 for choice."""
    peers = [Peer("ductworks", sys.executable, "duct"), Peer("pipe", sys.executable, "pipe")]
    runs = len(CASES) * len(peers)
    # The calibration takes about as long as half a round.
    round_seconds = max(0.02, (seconds / runs - STARTING_SECONDS) / (ROUNDS + 0.5))
    rows = []
    for case in CASES:
        measurement = measure(peers, case, "stream", ONE_CORE, ROUNDS, round_seconds)
        rates = measurement.rate("ductworks"), measurement.rate("pipe")
        rows.append(QuickRow(case_label(case), *rates))
    return rows


def format_rows(rows: Iterable[QuickRow]) -> str:
    lines = [f"{'messages a second':<18}{'ductworks':>12}{'Pipe':>12}{'ratio':>9}"]
    for row in rows:
        lines.append(
            f"{row.message:<18}{row.ductworks:>12,.0f}{row.pipe:>12,.0f}{row.ratio:>7.1f} x"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(format_rows(quick_table()))
