"""Walks over the bytes of a log, from segment to segment, while the pump goes on rotating, compressing and removing."""

import gzip
import os
import stat
import zlib
from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple, Self

from reconciler import folders, segments

BLOCK_BYTES = 64 * 1024
_ATTEMPTS = 10  # to open a file that is renamed at this moment, each time we look


class Place(NamedTuple):
    """Where a byte stands. The open file has the number that it will get when it is closed."""

    number: int
    offset: int


class SegmentFile:
    """One segment, opened for reading. What follows damage in a compressed one counts as not there."""

    def __init__(self, fd: int, number: int, *, closed: bool, compressed: bool) -> None:
        self.number = number
        self.closed = closed
        self.compressed = compressed
        self._raw = os.fdopen(fd, "rb", buffering=0)
        self._unzipped = gzip.GzipFile(fileobj=self._raw) if compressed else None

    def read_at(self, offset: int, count: int) -> bytes:
        """The bytes at `offset`; fewer at the end. In a compressed segment going back is slow."""
        if self._unzipped is None:
            return os.pread(self._raw.fileno(), count, offset)
        try:
            self._unzipped.seek(offset)
            return self._unzipped.read(count)
        except (EOFError, gzip.BadGzipFile, zlib.error):
            return b""

    def length(self) -> int:
        """How many bytes it holds. Of a compressed segment only reading it can tell."""
        if self._unzipped is None:
            return self.status().st_size
        length = 0
        while block := self.read_at(length, BLOCK_BYTES):
            length += len(block)
        return length

    def status(self) -> os.stat_result:
        return os.fstat(self._raw.fileno())

    def close(self) -> None:
        self._raw.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def closed_segments(path: str) -> Sequence[segments.Segment]:
    """Oldest first. A directory that may not be read, or that a planted link leads to, holds none."""
    try:
        return segments.closed_segments(path)
    except OSError:
        return []


def next_number(path: str) -> int:
    """The number that the open file will get."""
    closed = closed_segments(path)
    return closed[-1].number + 1 if closed else 1


def open_segment(path: str, number: int) -> SegmentFile | None:
    """The segment with this number or, when it was removed, the oldest one after it. None: there is none yet."""
    for _ in range(_ATTEMPTS):
        later = [segment for segment in closed_segments(path) if segment.number >= number]
        if later:
            fd = _open_regular(later[0].path)
            if fd is not None:
                return SegmentFile(fd, later[0].number, closed=True, compressed=later[0].compressed)
            continue  # compressed or removed at this moment
        fd = _open_regular(path)
        if fd is None:
            return None
        if next_number(path) <= number:
            return SegmentFile(fd, number, closed=False, compressed=False)
        os.close(fd)  # it was rotated between our looks: what we opened may be its successor
    return None


def _open_regular(path: str) -> int | None:
    try:
        fd = folders.open_file(path, os.O_RDONLY)
    except OSError:
        return None
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    return None


def snapshot(path: str) -> tuple[Place, Place]:
    """Where the log begins and ends at this moment."""
    closed = closed_segments(path)
    number = closed[-1].number + 1 if closed else 1
    first = Place(closed[0].number if closed else 1, 0)
    file = open_segment(path, number)
    if file is None:
        return first, Place(number, 0)
    with file:  # if it was rotated since we looked, the log ended where this one ends
        return first, Place(file.number, file.length())


class Cursor:
    """Reads on from a place. At the end there may be more later: it finds the successor of the file it is in."""

    def __init__(self, path: str, place: Place, end: Place | None = None) -> None:
        self._path = path
        self._number, self._offset = place
        self._end = end  # read no further; None: to wherever the log grows
        self._file: SegmentFile | None = None

    @property
    def place(self) -> Place:
        """Of the next byte."""
        return Place(self._number, self._offset)

    def read(self, count: int) -> bytes:
        """The next bytes, b"" when there are none now. All are of one segment: they stand just before `place`."""
        while True:
            file = self._file or self._open()
            if file is None:
                return b""
            if (allowed := self._allowed(count)) <= 0:
                return b""
            data = file.read_at(self._offset, allowed)
            if not data and self._is_current(file):
                if file.length() >= self._offset:
                    return b""
                self._offset = 0  # somebody truncated it
                continue
            # It is closed: what was written between our look at its end and its closing is found by a second look.
            data = data or file.read_at(self._offset, allowed)
            if data:
                self._offset += len(data)
                return data
            if not self._go_on(file):
                return b""

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _allowed(self, count: int) -> int:
        """How much may be read here."""
        if self._end is None or self._number < self._end.number:
            return count
        return min(count, self._end.offset - self._offset) if self._number == self._end.number else 0

    def _open(self) -> SegmentFile | None:
        file = self._file = open_segment(self._path, self._number)
        if file is not None and file.number != self._number:  # ours was removed before we came to it
            self._number, self._offset = file.number, 0
        return file

    def _is_current(self, file: SegmentFile) -> bool:
        """Whether this is the open file, the one that grows."""
        return not file.closed and _is_same(file, self._path)

    def _go_on(self, file: SegmentFile) -> bool:
        """To the successor of a file that has ended. False: there is none yet."""
        number = self._number
        if not file.closed:
            closed = closed_segments(self._path)
            own = next((each.number for each in closed if _is_same(file, each.path)), None)
            if own is not None:
                number = own
            elif not closed or closed[-1].number < number:
                # Not rotated: somebody removed it, and what comes next takes its number.
                if not folders.exists(self._path):
                    return False
                number -= 1
        self.close()
        self._number, self._offset = number + 1, 0
        return True


def _is_same(file: SegmentFile, path: str) -> bool:
    try:
        return os.path.samestat(file.status(), folders.status(path))
    except OSError:
        return False
