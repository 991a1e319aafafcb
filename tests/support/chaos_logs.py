"""The log files of a chaos run, read to their last byte: each line is there once, whole, and in its place.

What a process prints is a function of its spawn id (chaos_worker.line_of), and whoever sits at an ordinal prints there
alone. So a log is right when it is the lines of its processes one after the other, each from the first to as many as
that process says it wrote. Segments that were read are removed, but for the newest: its number has to go on.
"""

import gzip
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from support.chaos_absences import PIPE_BYTES, Absences, Spill
from support.chaos_journal import Run
from support.chaos_ledger import Ledger, Life, is_alive
from support.chaos_worker import line_of

CLOSED = re.compile(r"\.(\d{6,})(\.gz)?$")
FIRST_LINE = re.compile(rb"([0-9a-f]{8}-[0-9a-f]+) 1 \.*\n$")
SHOWN_FAULTS = 5


@dataclass(slots=True)
class Book:
    """One log, as far as it was read."""

    program: str
    ordinal: int
    number: int = 1  # the segment that is read next
    offset: int = 0  # and where
    spawn: str = ""  # whose lines are being read
    line: int = 0  # the last whole one of his
    rest: bytes = b""  # what was read of the next
    seen: dict[str, int] = field(default_factory=dict)  # spawn id -> bytes, of those that were not judged yet
    faults: list[str] = field(default_factory=list)

    def take(self, data: bytes) -> None:
        lines = (self.rest + data).splitlines(keepends=True)
        self.rest = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
        for line in lines:
            self._line(line)

    def _line(self, line: bytes) -> None:
        if self.spawn and line == line_of(self.spawn, self.line + 1):
            self.line += 1
            self.seen[self.spawn] += len(line)
            return
        first = FIRST_LINE.search(line)
        whole = line_of(first[1].decode(), 1) if first else b""
        # Whoever was killed may have left the beginning of a line, and the next one goes on from there.
        broken = line[: -len(whole)] if whole and line.endswith(whole) else line
        beginning = bool(self.spawn) and line_of(self.spawn, self.line + 1).startswith(broken)
        if not whole or (broken and not beginning):
            if len(self.faults) < SHOWN_FAULTS:
                place = f"{self.program}/{self.ordinal}: after line {self.line} of {self.spawn or 'nobody'}"
                self.faults.append(f"{place} stands {line[:60]!r}")
            self._resynchronise(line)
            return
        if broken:
            self.seen[self.spawn] += len(broken)
        assert first is not None
        self.spawn, self.line = first[1].decode(), 1
        if self.spawn in self.seen:
            self.faults.append(f"{self.program}/{self.ordinal}: {self.spawn} begins again")
        self.seen[self.spawn] = self.seen.get(self.spawn, 0) + len(whole)

    def _resynchronise(self, line: bytes) -> None:
        """One fault shall be told once: go on from the line that is there."""
        words = line.split(b" ", 2)
        if len(words) == 3 and words[1].isdigit():
            self.spawn, self.line = words[0].decode(errors="replace"), int(words[1])
            self.seen[self.spawn] = self.seen.get(self.spawn, 0) + len(line)

    @property
    def bytes(self) -> dict[str, int]:
        """How many bytes of each process were read, the line that is not whole yet included."""
        return {**self.seen, self.spawn: self.seen.get(self.spawn, 0) + len(self.rest)} if self.spawn else self.seen


class Logs:
    """All logs of these Programs."""

    def __init__(self, folder: Path, programs: Iterable[str]) -> None:
        self.folder = folder
        self.programs = frozenset(programs)
        self.books: dict[tuple[str, int], Book] = {}
        self.bytes = 0

    def read(self) -> None:
        """Take in what is there, and remove segments that were read."""
        for program in self.programs:
            for path in sorted((self.folder / program).glob("*.log")):
                seat = program, int(path.name.partition(".")[0])
                self._read(self.books.setdefault(seat, Book(*seat)), path)

    def _read(self, book: Book, path: Path) -> None:
        closed, file = _opened(path)
        try:
            for number in sorted(n for n in closed if n >= book.number):
                if number > book.number:
                    book.faults.append(f"{book.program}/{book.ordinal}: segment {book.number} is missing")
                self._take(book, _content(closed[number])[book.offset :])
                book.number, book.offset = number + 1, 0
            if file is not None:
                file.seek(book.offset)
                data = file.read()
                self._take(book, data)
                book.offset += len(data)
        finally:
            if file is not None:
                file.close()
        for number in closed.keys() - {max(closed, default=0)}:
            if number < book.number:
                closed[number].unlink(missing_ok=True)
                Path(f"{path}.{number:06d}.idx").unlink(missing_ok=True)

    def _take(self, book: Book, data: bytes) -> None:
        self.bytes += len(data)
        book.take(data)

    def faults(self, ledger: Ledger, runs: Mapping[str, Run], absences: Absences) -> list[str]:
        """What is wrong between what processes say they wrote and what stands in the files.

        Bytes may be missing of who ended before or while keeper and pump were both gone (`absences`): what was in the
        pipe then, which is the last that was written to it.
        """
        found = [fault for book in self.books.values() for fault in book.faults]
        for seat, lives in _by_seat(ledger.lives.values(), self.programs).items():
            book = self.books.get(seat)
            told = book.bytes if book else {}
            losses: list[_Loss] = []
            for life in lives:
                there = told.get(life.spawn, 0)
                least, most = ledger.progress(life)
                loss = _Loss(life, runs.get(life.spawn), least, there)
                losses.append(loss)
                if there > most or (there < least and not loss.is_excused(absences)):
                    found.append(f"{loss}; it wrote {least} to {most} bytes, {there} are there")
            found += _not_the_last(losses, absences)
        return found

    def unheld(self, ledger: Ledger, lives: Iterable[Life]) -> int:
        """How many bytes are missing; none but those that nobody held."""
        of = [life for life in lives if life.program in self.programs]
        there = {life.spawn: book.bytes.get(life.spawn, 0) for life in of if (book := self.books.get(life.seat))}
        return sum(max(0, ledger.progress(life)[0] - there.get(life.spawn, 0)) for life in of)

    def forget(self, lives: Iterable[Life]) -> None:
        """These were judged."""
        for life in lives:
            book = self.books.get(life.seat)
            if book is not None and life.spawn != book.spawn:
                book.seen.pop(life.spawn, None)


@dataclass(slots=True)
class _Loss:
    """How much is missing of one process, mostly nothing."""

    life: Life
    run: Run | None
    least: int
    there: int

    def __str__(self) -> str:
        life = self.life
        return f"{life.program}/{life.ordinal} {life.spawn} ({life.began:.2f} to {self.ended or 0:.2f})"

    @property
    def missing(self) -> int:
        return max(0, self.least - self.there)

    @property
    def ended(self) -> float | None:
        """When it wrote for the last time; None: it may still write."""
        if self.life.gone:
            return self.life.gone
        return self.run.ended if self.run is not None and not is_alive(self.life) else None

    @property
    def fifo(self) -> str:
        return "" if self.run is None else f"{self.run.uid}-{self.run.ordinal}-out"

    def spill(self, absences: Absences) -> Spill | None:
        return None if self.ended is None else absences.spill_after(self.ended)

    def is_excused(self, absences: Absences) -> bool:
        """Whether so much may be missing, looking at this process alone."""
        spill = self.spill(absences)
        if spill is None or self.ended is None:
            return False
        return self.missing <= (PIPE_BYTES if self.ended >= spill.began else spill.waiting.get(self.fifo, 0))


def _not_the_last(losses: list[_Loss], absences: Absences) -> list[str]:
    """A pipe that goes takes along what was written to it last: nothing from before, and not more than it held."""
    found = []
    spilt: dict[float, int] = {}  # beginning of the moment -> bytes of who had ended before
    losing: _Loss | None = None
    for loss in losses:
        spill = loss.spill(absences)
        if spill is None or loss.ended is None or loss.ended >= spill.began:
            losing = None
            continue
        if losing is not None and losing.spill(absences) is spill and loss.there:
            found.append(f"{losing}: {losing.missing} bytes are missing, and what {loss} wrote after it is there")
        losing = loss if loss.missing else None
        spilt[spill.began] = spilt.get(spill.began, 0) + loss.missing
        if spilt[spill.began] > (held := spill.waiting.get(loss.fifo, 0)):
            found.append(f"{loss}: {spilt[spill.began]} bytes are missing, {held} were in the pipe")
    return found


def _by_seat(lives: Iterable[Life], programs: frozenset[str]) -> dict[tuple[str, int], list[Life]]:
    """Those who print, in the order in which they began."""
    found: dict[tuple[str, int], list[Life]] = {}
    for life in lives:
        if life.program in programs:
            found.setdefault(life.seat, []).append(life)
    return found


def _opened(path: Path) -> tuple[dict[int, Path], IO[bytes] | None]:
    """The closed segments by number, and the file that follows them: nothing was rotated between the two looks."""
    while True:
        closed = _closed(path)
        file = path.open("rb") if path.exists() else None
        if _closed(path).keys() == closed.keys():
            return closed, file
        if file is not None:
            file.close()


def _closed(path: Path) -> dict[int, Path]:
    closed: dict[int, Path] = {}
    for each in sorted(path.parent.glob(f"{path.name}.*")):
        if found := CLOSED.search(each.name):
            closed[int(found[1])] = each  # compressed and plain: the compressed one, sorted last, is whole
    return closed


def _content(path: Path) -> bytes:
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except FileNotFoundError:  # it was compressed while we looked
        return gzip.decompress(path.with_name(path.name + ".gz").read_bytes())
