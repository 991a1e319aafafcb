"""The way of lines from a FIFO through staging into a log that frames them or shares them, or onto a console.

A `Framer` stands in a conduit where a raw one has a single splice. What can happen to lines is told in staging.py, how
they look in framing.py. Standard library only; it raises OSError for its conduit to complain.
"""

from __future__ import annotations

from reconciler.folders import Refused
from reconciler.pumping import framing
from reconciler.pumping.console import PORTION_BYTES, Console
from reconciler.pumping.logfile import LogFile, wall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from reconciler.pumping.plumbing import Settings
    from reconciler.pumping.staging import Staging


class Framer:
    """Brings whole lines out of `staging`. `output` and `settings` may be exchanged by `turn_to`."""

    __slots__ = ("_failure", "_handed_over", "_rest", "output", "settings", "staging")

    def __init__(self, settings: Settings, staging: Staging, output: LogFile | Console) -> None:
        self.settings = settings
        self.staging = staging
        self.output = output
        self._handed_over: object = None  # the portion that is with the console
        self._rest = b""  # of the portion, which the console did not take
        self._failure: OSError | None = None  # why it did not
        if staging.portion:
            if isinstance(output, LogFile):
                output.repairs.append(self.repair)
            else:
                staging.abandon()  # nobody can say what was written: it is written again

    def turn_to(self, settings: Settings, output: LogFile | Console) -> None:
        """Other settings from now on, perhaps another place."""
        if settings is self.settings and output is self.output:
            return
        if output is not self.output:
            if isinstance(self.output, LogFile):
                if self.repair in self.output.repairs:
                    self.output.repairs.remove(self.repair)
                self.output.forget(self)
            self._handed_over, self._rest, self._failure = None, b"", None
            self.staging.abandon()
        self.settings, self.output = settings, output
        if not self.staging.portion:
            self.staging.describe(settings.message)

    def close(self) -> None:
        """Let go; what is staged stays."""
        self.staging.close()

    # ---- out ----

    def bring_out(self) -> None:
        """Write all lines that are whole, or hand over the first of them."""
        if isinstance(self.output, Console):
            self._hand_over(self.output)
            return
        file = self.output
        file.pay()
        while data := self.staging.read():
            lines = framing.cut(data)
            if not lines.taken:
                return
            self._write(file, lines)

    def _write(self, file: LogFile, lines: framing.Lines) -> None:
        """As many of them as fit into the open file; if none does, it is rotated first."""
        wall_ms = int(wall() * 1000)
        framed = self._framed(lines, wall_ms)
        room = file.room()
        if room is not None and len(framed) > room:
            count = framed.count(b"\n", 0, max(room, 0))
            if not count and file.size:
                file.rotate()
                return
            lines = lines.first(max(count, 1))  # a line that is larger than a file may be gets one of its own
            framed = self._framed(lines, wall_ms)
        file.begin_line()
        self.staging.begin(lines.taken, file.size, file.key, wall_ms)
        file.append(framed, self, self.staging.done)

    def _framed(self, lines: framing.Lines, wall_ms: int) -> bytes:
        wanted = self.settings
        return framing.framed(lines, wanted.form, wanted.program, wanted.replica, wanted.stream, wall_ms)

    def repair(self) -> None:
        """Finish the portion that a killed pump was writing."""
        file, portion = self.output, self.staging.portion
        assert isinstance(file, LogFile)
        assert portion is not None
        framed = self._framed(framing.cut(self.staging.text(portion), whole=True), portion.wall_ms)
        written = file.holds(portion.offset, framed) if file.key == portion.key else None
        if written is None:  # somebody took the file away, or what stood in it: none of it is lost, some may be doubled
            file.begin_line()
        file.append(framed[written or 0 :], self, self.staging.done)

    # ---- onto a console ----

    def _hand_over(self, console: Console) -> None:
        if self._handed_over is None and (portion := self._rest or self._portion()):
            token = object()
            try:
                console.hand_over(self.settings.id, portion, lambda rest, failure: self._settled(token, rest, failure))
            except RuntimeError as error:  # no thread is to be had
                self._rest = portion
                raise Refused(f"{console.path}: {error}") from None
            self._handed_over, self._rest = token, b""
        if self._failure:
            raise self._failure
        if self._handed_over and console.is_stuck:
            raise Refused(f"{console.path}: whoever reads it takes nothing")

    def _portion(self) -> bytes:
        """The next lines, few enough to be written at once."""
        data = self.staging.read()
        lines = framing.cut(data)
        if not lines.taken:
            return b""
        lines = lines.first(max(data.count(b"\n", 0, PORTION_BYTES), 1))
        wall_ms = int(wall() * 1000)
        self.staging.begin(lines.taken, 0, (0, 0), wall_ms)
        return self._framed(lines, wall_ms)

    def _settled(self, token: object, rest: bytes, failure: OSError | None) -> None:
        if token is self._handed_over:  # else it is of no interest any more
            self._handed_over, self._rest, self._failure = None, rest, failure
            if failure is None:
                self.staging.done()
