"""An SVG chart of one-way rates relative to the original. It stands alone and follows the theme."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from harness import Measurement, case_label

BASE = "original"

WIDTH = 760
LABEL_WIDTH = 118
VALUE_WIDTH = 168
TOP = 86
BAR_HEIGHT = 16
BAR_GAP = 3
GROUP_GAP = 18
FOOT = 58

# Plain rules first: a renderer that knows no media queries shows the light theme.
STYLE = """
  text { font: 13px system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif; }
  text { paint-order: stroke; stroke: #ffffff; stroke-width: 4px; stroke-linejoin: round; }
  .page { fill: #ffffff; } .grid { stroke: #d8dee4; } .base { stroke: #57606a; }
  .text { fill: #1f2328; } .faint { fill: #59636e; font-size: 12px; }
  .title { font-size: 17px; font-weight: 600; }
  .strong { font-weight: 600; }
  .bar0 { fill: #0969da; } .bar1 { fill: #8c959f; } .bar2 { fill: #d4a72c; }
  @media (prefers-color-scheme: dark) {
    text { stroke: #0d1117; }
    .page { fill: #0d1117; } .grid { stroke: #30363d; } .base { stroke: #9198a1; }
    .text { fill: #e6edf3; } .faint { fill: #9198a1; }
    .bar0 { fill: #4493f8; } .bar1 { fill: #6e7681; } .bar2 { fill: #bb8009; }
  }
"""


def chart(measurements: Sequence[Measurement], subtitle: str) -> str:
    """Draw the measurements, each of which has the peer ``original``, as groups of bars."""
    peers = measurements[0].peers
    ratios = [[m.ratio(peer, BASE) or 0.0 for peer in peers] for m in measurements]
    step = nice_step(max(map(max, ratios)))
    last_tick = math.ceil(max(map(max, ratios)) / step)
    plot_width = WIDTH - LABEL_WIDTH - VALUE_WIDTH
    group_height = len(peers) * (BAR_HEIGHT + BAR_GAP) + GROUP_GAP
    bottom = TOP + len(measurements) * group_height
    height = bottom + FOOT

    def x(ratio: float) -> float:
        return LABEL_WIDTH + plot_width * ratio / (step * last_tick)

    title = "One-way message rate, relative to the original"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"'
        f' width="{WIDTH}" height="{height}" role="img" aria-label="{title}">',
        f"<title>{title}</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="page" width="{WIDTH}" height="{height}" rx="6"/>',
        text(20, 30, title, "text title"),
        text(20, 50, subtitle, "faint"),
    ]
    parts += legend(peers)
    for number in range(last_tick + 1):
        at = x(number * step)
        parts.append(
            f'<line class="grid" x1="{at:.1f}" y1="{TOP}" x2="{at:.1f}" y2="{bottom - 8}"/>'
        )
        parts.append(text(at, bottom + 10, f"{number * step:g} x", "faint", "middle"))
    parts.append(
        f'<line class="base" stroke-dasharray="4 3" x1="{x(1):.1f}" y1="{TOP}"'
        f' x2="{x(1):.1f}" y2="{bottom - 8}"/>'
    )
    for index, measurement in enumerate(measurements):
        top = TOP + GROUP_GAP / 2 + index * group_height
        middle = top + len(peers) * (BAR_HEIGHT + BAR_GAP) / 2 + 3
        parts.append(text(LABEL_WIDTH - 10, middle, case_label(measurement.case), "text", "end"))
        for number, peer in enumerate(peers):
            ratio = ratios[index][number]
            y = top + number * (BAR_HEIGHT + BAR_GAP)
            parts.append(
                f'<rect class="bar{number}" x="{LABEL_WIDTH}" y="{y:.1f}"'
                f' width="{x(ratio) - LABEL_WIDTH:.1f}" height="{BAR_HEIGHT}" rx="2"/>'
            )
            label = f"{ratio:.1f} x, {measurement.rate(peer):,.0f} msg/s"
            style = "text strong" if number == 0 else "faint"
            parts.append(text(x(ratio) + 6, y + BAR_HEIGHT - 4, label, style))
    note = "times the rate of the original (dashed line); longer is faster"
    parts.append(text(LABEL_WIDTH + plot_width / 2, bottom + 34, note, "faint", "middle"))
    parts.append("</svg>\n")
    return "\n".join(parts)


def nice_step(largest: float) -> float:
    """A distance of ticks of 1, 2 or 5 times a power of ten, for at most eight of them."""
    power = 10.0 ** math.floor(math.log10(largest / 8))
    return next(power * factor for factor in (1, 2, 5, 10) if largest / (power * factor) <= 8)


def legend(peers: Sequence[str]) -> list[str]:
    parts, at = [], 20.0
    for number, peer in enumerate(peers):
        parts.append(
            f'<rect class="bar{number}" x="{at:.1f}" y="62" width="12" height="12" rx="2"/>'
        )
        parts.append(text(at + 18, 73, peer, "text"))
        at += 40 + 7.5 * len(peer)
    return parts


def text(x: float, y: float, content: str, style: str, anchor: str = "start") -> str:
    return (
        f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
        f"{escape(content)}</text>"
    )
