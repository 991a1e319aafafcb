"""Results as a picture: what waits and how many processes there are, over time, one line per scaler. SVG text."""

from collections.abc import Callable, Sequence
from html import escape
from math import ceil, floor, log10

from reconciler.simulation.machine import Sample
from reconciler.simulation.results import Result

COLOURS = ("#0b6bcb", "#d1495b", "#2e933c", "#8f5fbf", "#c77700", "#555555")
MOST_POINTS = 600
_WIDTH, _PANEL, _GAP, _LEFT, _RIGHT, _TOP = 900, 210, 50, 60, 20, 58
_FONT = 'font-family="sans-serif" font-size="12"'
_INSIDE = _WIDTH - _LEFT - _RIGHT
_LEGEND_LINE = 20

Value = Callable[[Sample], int]


def svg(title: str, results: Sequence[Result], duration: float) -> str:
    """The picture."""
    legend_top = _TOP + 2 * (_PANEL + _GAP) + 10
    height = legend_top + _LEGEND_LINE * len(results)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" {_FONT}>',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{_LEFT}" y="22" font-size="15">{escape(title)}</text>',
        *_panel("waiting", _TOP, results, duration, lambda sample: sample.waiting),
        *_panel("processes", _TOP + _PANEL + _GAP, results, duration, lambda sample: sample.processes),
    ]
    for index, result in enumerate(results):
        y = legend_top + _LEGEND_LINE * index
        colour = COLOURS[index % len(COLOURS)]
        parts.append(f'<rect x="{_LEFT}" y="{y - 9}" width="18" height="4" fill="{colour}"/>')
        parts.append(f'<text x="{_LEFT + 26}" y="{y}">{escape(legend(result))}</text>')
    return "\n".join([*parts, "</svg>", ""])


def legend(result: Result) -> str:
    """A line in words."""
    return (
        f"{result.name}: p95 {result.wait_p95:.3g}s, longest {result.wait_max:.3g}s,"
        f" {result.process_seconds:.0f} process seconds, {result.changes} changes"
    )


def thinned(samples: Sequence[Sample], duration: float, value: Value) -> list[tuple[float, int]]:
    """Steps as few points: of each slice of time what it begins with, and its highest and lowest."""
    slices: dict[int, list[tuple[float, int]]] = {}
    for sample in samples:
        number = min(MOST_POINTS - 1, int(sample.at / duration * MOST_POINTS))
        slices.setdefault(number, []).append((sample.at, value(sample)))
    points: list[tuple[float, int]] = []
    for found in slices.values():
        extremes = {found[0], found[-1], max(found, key=lambda point: point[1]), min(found, key=lambda point: point[1])}
        points += sorted(extremes)
    return points


def nice_step(most: float, parts: int = 4) -> float:
    """A round distance between the marks of an axis."""
    rough = most / parts
    power = 10.0 ** floor(log10(rough))
    return float(next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough))


def _panel(name: str, top: int, results: Sequence[Result], duration: float, value: Value) -> list[str]:
    lines = [thinned(result.samples, duration, value) for result in results]
    highest = max([1, *(number for line in lines for _, number in line)])
    step = max(1.0, nice_step(highest))
    ceiling = ceil(highest / step) * step

    def x(at: float) -> str:
        return f"{_LEFT + at / duration * _INSIDE:.1f}"

    def y(number: float) -> str:
        return f"{top + _PANEL * (1 - number / ceiling):.1f}"

    parts = [f'<text x="{_LEFT}" y="{top - 6}" fill="#333">{name}</text>']
    for mark in range(round(ceiling / step) + 1):
        at = y(mark * step)
        parts.append(f'<line x1="{_LEFT}" y1="{at}" x2="{_WIDTH - _RIGHT}" y2="{at}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{at}" text-anchor="end" dy="4" fill="#333">{mark * step:g}</text>')
    time_step = nice_step(duration, 6)
    for mark in range(int(duration / time_step) + 1):
        at = x(mark * time_step)
        parts.append(f'<line x1="{at}" y1="{top + _PANEL}" x2="{at}" y2="{top + _PANEL + 4}" stroke="#333"/>')
        label = f'<text x="{at}" y="{top + _PANEL + 17}" text-anchor="middle" fill="#333">{mark * time_step:g}s</text>'
        parts.append(label)
    for index, line in enumerate(lines):
        path = f"M{x(line[0][0])} {y(line[0][1])}" + "".join(f"H{x(at)}V{y(number)}" for at, number in line[1:])
        colour = COLOURS[index % len(COLOURS)]
        parts.append(f'<path d="{path}H{x(duration)}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
    return parts
