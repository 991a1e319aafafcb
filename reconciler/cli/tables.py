"""Tables: aligned columns, three spaces apart, the last one cut at a terminal's edge and nowhere else."""

import shutil
import sys
from collections.abc import Callable, Sequence

from reconciler.cli.text import has_colours, is_terminal, paint

Row = Sequence[str]
Painter = Callable[[int, str], str]
"""Names the colour of a cell (column, text); empty: none."""

_GAP = "   "
_LEAST_LAST_COLUMN = 12


class Table:
    """Renders rows below a header. Later rows keep the columns of those before, and widen them if they must."""

    def __init__(self, header: Row, painter: Painter | None = None) -> None:
        self._header = header
        self._widths = [len(cell) for cell in header]
        self._painter = painter if painter and has_colours(sys.stdout) else None
        self._edge = shutil.get_terminal_size().columns if is_terminal(sys.stdout) else 0

    def render(self, rows: Sequence[Row], *, headed: bool = True, indent: str = "") -> str:
        """The lines of these rows, without a final newline."""
        for index in range(len(self._header)):
            self._widths[index] = max([self._widths[index], *(len(row[index]) for row in rows)])
        last = len(self._header) - 1
        layout = indent + "".join(f"{{:<{width}}}{_GAP}" for width in self._widths[:last]) + "{}"
        room = self._room(len(indent))
        lines = [layout.format(*self._header).rstrip()] if headed else []
        for row in rows:
            cells = row if not room or len(row[last]) <= room else [*row[:last], row[last][: room - 1] + "…"]
            lines.append((self._painted(indent, cells) if self._painter else layout.format(*cells)).rstrip())
        return "\n".join(lines)

    def _room(self, indent: int) -> int:
        """How wide the last column may be; 0: as wide as it likes."""
        if not self._edge:
            return 0
        return max(_LEAST_LAST_COLUMN, self._edge - indent - sum(width + len(_GAP) for width in self._widths[:-1]))

    def _painted(self, indent: str, cells: Row) -> str:
        assert self._painter is not None
        last = len(cells) - 1
        parts = []
        for index, cell in enumerate(cells):
            padding = "" if index == last else " " * (self._widths[index] - len(cell)) + _GAP
            parts.append(paint(cell, self._painter(index, cell)) + padding)
        return indent + "".join(parts)
