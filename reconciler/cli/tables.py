"""Tables: aligned columns. On a terminal they move closer where room is scarce, and the last one is cut at the edge."""

import sys
from collections.abc import Callable, Sequence

from reconciler.cli.text import has_colours, is_terminal, paint, terminal_columns

Row = Sequence[str]
Painter = Callable[[int, str], str]
"""Names the colour of a cell (column, text); empty: none."""

_GAP = 3
_NARROW_GAP = 2
_LEAST_LAST_COLUMN = 12


class Table:
    """Renders rows below a header. Later rows keep the columns of those before, and widen them if they must."""

    def __init__(self, header: Row, painter: Painter | None = None, *, cut: bool = True) -> None:
        self._header = header
        self._widths = [len(cell) for cell in header]
        self._painter = painter if painter and has_colours(sys.stdout) else None
        self._edge = terminal_columns() if cut and is_terminal(sys.stdout) else 0
        self._gap = _GAP

    def render(self, rows: Sequence[Row], *, headed: bool = True, indent: str = "") -> str:
        """The lines of these rows, without a final newline."""
        for index in range(len(self._header)):
            self._widths[index] = max([self._widths[index], *(len(row[index]) for row in rows)])
        last = len(self._header) - 1
        if self._edge and len(indent) + sum(self._widths) + last * self._gap > self._edge:
            self._gap = _NARROW_GAP
        room = self._room(len(indent))
        layout = indent + "".join(f"{{:<{width + self._gap}}}" for width in self._widths[:last]) + "{}"
        lines = [layout.format(*self._header).rstrip()] if headed else []
        for row in rows:
            cells = row if not room or len(row[last]) <= room else [*row[:last], row[last][: room - 1] + "…"]
            lines.append((self._painted(indent, cells) if self._painter else layout.format(*cells)).rstrip())
        return "\n".join(lines)

    def _room(self, indent: int) -> int:
        """How wide the last column may be; 0: as wide as it likes."""
        if not self._edge:
            return 0
        taken = indent + sum(width + self._gap for width in self._widths[:-1])
        return max(_LEAST_LAST_COLUMN, self._edge - taken)

    def _painted(self, indent: str, cells: Row) -> str:
        assert self._painter is not None
        last = len(cells) - 1
        parts = []
        for index, cell in enumerate(cells):
            padding = "" if index == last else " " * (self._widths[index] - len(cell) + self._gap)
            parts.append(paint(cell, self._painter(index, cell)) + padding)
        return indent + "".join(parts)
