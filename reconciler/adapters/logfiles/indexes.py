"""Reads the indexes beside a log: when its bytes came, and where runs ended. What makes no sense is passed over."""

import os
from collections.abc import Iterator
from typing import IO, NamedTuple

from reconciler import folders, segments
from reconciler.adapters.logfiles.cursor import Place, next_number

_RECORD_BYTES = 4096  # no record is longer
_END_BYTES = 4 * _RECORD_BYTES


class Record(NamedTuple):
    """One line of an index. `run`: the one that ended at `offset`; None: bytes from `offset` on came at `wall`.

    `whose`: where several write to one log, of which the run was: REPLICA/STREAM.
    """

    offset: int
    wall: float
    run: str | None
    whose: str = ""


def records(path: str, number: int) -> Iterator[Record]:
    """The records of one segment, in order."""
    file = _open_index(path, number)
    if file is not None:
        with file:
            last = 0
            while line := file.readline(_RECORD_BYTES):
                record = _parsed(line)
                if record is not None and record.offset >= last:
                    last = record.offset
                    yield record


def last_end(path: str, whose: str = "") -> int:
    """Where the last run ended that ended in the open file, as far as the end of its index tells; else 0.

    `whose`: REPLICA/STREAM, where several write to one log.
    """
    file = _open_index(path, next_number(path))
    if file is None:
        return 0
    with file:
        at = max(os.fstat(file.fileno()).st_size - _END_BYTES, 0)
        file.seek(at)
        parsed = [_parsed(line) for line in file.read(_END_BYTES).splitlines()[at > 0 :]]
    ends = [r.offset for r in parsed if r is not None and r.run is not None and (not whose or r.whose == whose)]
    return ends[-1] if ends else 0


class Times:
    """When the lines of a log came, for places in rising order. It keeps up with an index that grows.

    `refresh` now and then: it looks again for an index that was not there.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._number = 0
        self._absent = False
        self._index: IO[bytes] | None = None
        self._wall: float | None = None  # of the last record at or before the place asked for
        self._next: Record | None = None

    def at(self, place: Place) -> float | None:
        """The wall time, exact within a second. None: nobody knows."""
        if place.number != self._number or (self._index is None and not self._absent):
            self.close()
            self._number = place.number
            self._index = _open_index(self._path, place.number)
            self._absent = self._index is None
            self._wall = self._next = None
        while (record := self._next or self._read()) is not None:
            if record.offset > place.offset:
                self._next = record
                break
            self._next = None
            self._wall = record.wall
        return self._wall

    def refresh(self) -> None:
        self._absent = False

    def close(self) -> None:
        if self._index is not None:
            self._index.close()
            self._index = None

    def _read(self) -> Record | None:
        while self._index is not None:
            at = self._index.tell()
            line = self._index.readline(_RECORD_BYTES)
            if not line.endswith(b"\n"):  # the end, or a record that is being written
                self._index.seek(at)
                return None
            if record := _parsed(line):
                return record
        return None


def _open_index(path: str, number: int) -> IO[bytes] | None:
    """A closed segment's index has its name without `.gz`. Where it is missing, the open file's knows nothing of it."""
    is_open = number >= next_number(path)
    try:
        name = (path if is_open else segments.segment_path(path, number)) + segments.INDEX
        fd = folders.open_file(name, os.O_RDONLY)
    except OSError:
        return None
    return os.fdopen(fd, "rb")


def _parsed(line: bytes) -> Record | None:
    offset, _, rest = line.rstrip(b"\n").partition(b" ")
    wall, _, rest = rest.partition(b" ")
    end, _, rest = rest.partition(b" ")
    run, _, whose = rest.decode(errors="replace").partition(" ")
    try:
        return Record(int(offset), float(wall), *((run, whose) if end == b"end" else (None, "")))
    except ValueError:
        return None
