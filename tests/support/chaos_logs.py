"""The log files of a chaos run, read to their last byte: each line is there once, whole, and in its place.

What a process prints is a function of its spawn id (chaos_worker.line_of), and whoever sits at an ordinal prints there
alone. So a log is right when it is the lines of its processes one after the other, each from the first to as many as
that process says it wrote. Segments that were read are removed, but for the newest: its number has to go on.
"""

import gzip
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from support.chaos_ledger import Ledger, Life
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

    def faults(self, ledger: Ledger, lives: Iterable[Life], was_unheld: Callable[[float], bool]) -> list[str]:
        """What is wrong between what these processes say they wrote and what stands in the files.

        `was_unheld`: whether keeper and pump were both gone then; who ended then took the rest in his pipe along.
        """
        found = [fault for book in self.books.values() for fault in book.faults]
        for life in lives:
            if life.program not in self.programs:
                continue
            book = self.books.get(life.seat)
            there = book.bytes.get(life.spawn, 0) if book else 0
            least, most = ledger.progress(life)
            of = f"{life.program}/{life.ordinal} {life.spawn} ({life.began:.2f} to {life.gone:.2f})"
            said = f"{of}: wrote {least} to {most} bytes, {there} are there"
            if there > most or (there < least and not was_unheld(life.gone)):
                found.append(said)
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
