"""A picture of figures that lie far apart: per panel one dot for each manager on a logarithmic axis. SVG text.

A dot is the median, the line through it reaches from the least to the greatest; the dashed line is the goal. Bars would
lie: they have no beginning on such an axis.
"""

from collections.abc import Mapping, Sequence
from html import escape
from math import ceil, floor, log10
from typing import NamedTuple

_WIDTH, _LEFT, _RIGHT, _ROW, _HEAD, _FOOT = 760, 110, 90, 18, 30, 30
_OURS, _THEIRS, _GOAL = "#d1495b", "#0b6bcb", "#2e933c"


class Dots(NamedTuple):
    """One panel: by name the least, the middle and the greatest value, and how to write the middle."""

    title: str
    values: Mapping[str, tuple[float, float, float]]
    labels: Mapping[str, str]
    goal: float | None = None
    stressed: str = ""


def picture(panels: Sequence[Dots]) -> str:
    """All panels, one below the other."""
    parts, top = [], 0
    for panel in panels:
        drawn, height = _panel(panel, top)
        parts += drawn
        top += height
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top}" font-family="sans-serif" font-size="12">'
    )
    return "\n".join([head, f'<rect width="{_WIDTH}" height="{top}" fill="white"/>', *parts, "</svg>", ""])


def decades(numbers: Sequence[float]) -> tuple[int, int]:
    """The powers of ten that hold all numbers between them; what is not above 0 has no place there."""
    above = [number for number in numbers if number > 0] or [1.0]
    low, high = floor(log10(min(above))), ceil(log10(max(above)))
    return low, max(high, low + 1)


def _panel(panel: Dots, top: int) -> tuple[list[str], int]:
    low, high = decades([*(number for values in panel.values.values() for number in values), panel.goal or 0.0])
    inside = _WIDTH - _LEFT - _RIGHT
    bottom = top + _HEAD + _ROW * len(panel.values)

    def x(number: float) -> float:
        share = (log10(number) - low) / (high - low) if number > 0 else 0.0
        return _LEFT + max(0.0, share) * inside

    parts = [f'<text x="{_LEFT}" y="{top + 18}" font-weight="bold">{escape(panel.title)}</text>']
    for power in range(low, high + 1):
        at = f"{x(10.0**power):.1f}"
        parts.append(f'<line x1="{at}" y1="{top + _HEAD - 4}" x2="{at}" y2="{bottom}" stroke="#ddd"/>')
        parts.append(f'<text x="{at}" y="{bottom + 14}" text-anchor="middle" fill="#555">{10.0**power:,g}</text>')
    if panel.goal:
        at = f"{x(panel.goal):.1f}"
        line = (
            f'<line x1="{at}" y1="{top + _HEAD - 4}" x2="{at}" y2="{bottom}" stroke="{_GOAL}" stroke-dasharray="4 3"/>'
        )
        parts.append(line)
    for index, (name, (least, middle, greatest)) in enumerate(panel.values.items()):
        y, colour = top + _HEAD + _ROW * index + 9, _OURS if name == panel.stressed else _THEIRS
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<line x1="{x(least):.1f}" y1="{y}" x2="{x(greatest):.1f}" y2="{y}" stroke="{colour}"/>')
        parts.append(f'<circle cx="{x(middle):.1f}" cy="{y}" r="4" fill="{colour}"/>')
        parts.append(f'<text x="{x(greatest) + 8:.1f}" y="{y + 4}" fill="#333">{escape(panel.labels[name])}</text>')
    return parts, bottom + _FOOT - top
