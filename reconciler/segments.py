"""The files of one log: the open one, its closed segments, the index beside each. Names, order, and tidying up.

    web/3.log              the open file                         web/3.log.idx            its index
    web/3.log.000041       a closed segment, the newest          web/3.log.000041.idx
    web/3.log.000040.gz    an older one, compressed              web/3.log.000040.idx     (offsets of the bytes inside)

A number is one more than the greatest there is, so names alone carry all state. An index is text, one record a line:
`OFFSET WALL` (what stands from OFFSET on was moved from WALL on, within a second) and `OFFSET WALL end RUN`, with a
REPLICA/STREAM behind it where lines are framed. It is a help, not the log: lines of it may be torn or missing.

The pump renames and writes the index; the `Tidier` removes and compresses behind it, in threads of its own. It must not
touch an open file. Standard library only, and little of that: the pump stays near a bare interpreter.
"""

from __future__ import annotations

import os
import queue
import stat
import threading
import zlib

from reconciler import folders

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

INDEX = ".idx"
COMPRESSED = ".gz"
UNFINISHED = ".gz.tmp"
INDEX_SECONDS = 1.0  # bytes moved later than this after an index record get one of their own
_FAST_BYTES = 64 * 1024  # after this much there may be another record, but not more often than
_FAST_SECONDS = 0.05
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT
_DIGITS = 6
_BLOCK_BYTES = 256 * 1024
_GZIP_FORMAT = 31  # zlib's window bits for the largest window with gzip's header and trailer
_LOWEST_PRIORITY = 19


class Segment:
    """A closed segment of a log, by its number."""

    __slots__ = ("compressed", "index_path", "number", "path")

    def __init__(self, log_path: str, number: int, compressed: bool) -> None:
        plain = segment_path(log_path, number)
        self.number = number
        self.compressed = compressed
        self.path = plain + COMPRESSED if compressed else plain
        self.index_path = plain + INDEX


def segment_path(log_path: str, number: int) -> str:
    """The name of a closed segment before it is compressed."""
    return f"{log_path}.{number:0{_DIGITS}d}"


def closed_segments(log_path: str, names: Iterable[str] | None = None) -> list[Segment]:
    """The closed segments of a log, oldest first, each number once. `names`: its directory, when that is read already.

    Where the plain and the compressed one stand side by side the compressed one counts: it got its name when whole.
    OSError when the directory is there and cannot be listed.
    """
    directory, base = os.path.split(log_path)
    if names is None:
        try:
            names = folders.names(directory)
        except FileNotFoundError:
            return []
    found: dict[int, bool] = {}
    for name in names:
        if name.startswith(base):
            number, ending = _parsed(name[len(base) :])
            if number and ending in ("", COMPRESSED):
                found[number] = found.get(number, False) or ending == COMPRESSED
    return [Segment(log_path, number, found[number]) for number in sorted(found)]


def next_number(log_path: str) -> int:
    """The number that the open file gets when it is closed."""
    closed = closed_segments(log_path)
    return closed[-1].number + 1 if closed else 1


def _parsed(tail: str) -> tuple[int, str]:
    """`.000040.gz` as (40, ".gz"); (0, "") when this is no name of a segment."""
    digits, dot, rest = tail[1:].partition(".")
    if tail[:1] != "." or len(digits) < _DIGITS or not (digits.isascii() and digits.isdigit()):
        return 0, ""
    return int(digits), dot + rest


class Index:
    """Writes the index of an open log. It is a help: what cannot be written is left out."""

    __slots__ = ("_log_path", "_noted_at", "_noted_offset", "_path", "_torn", "mode")

    def __init__(self, log_path: str, mode: int) -> None:
        self._log_path = log_path
        self._path = log_path + INDEX
        self.mode = mode
        self._torn = True  # the last record may be, as far as we know: it was another pump's
        self._noted_at = 0.0
        self._noted_offset = 0

    def note(self, offset: int, wall: float) -> None:
        """Bytes came and stand at `offset`. A record each second, and of a fast stream some in between."""
        often = _FAST_SECONDS if offset - self._noted_offset >= _FAST_BYTES else INDEX_SECONDS
        if not 0 <= wall - self._noted_at < often:  # below 0: the clock was set back
            self._noted_at = wall
            self._noted_offset = offset
            self._append(f"{offset} {wall:.3f}\n")

    def end(self, offset: int, wall: float, run: str, whose: str = "") -> None:
        """All before `offset` belongs to `run`, which ended, or to one before it; as far as it is of `whose` stream."""
        self._append(" ".join([f"{offset} {wall:.3f} end {'_'.join(run.split())}", *whose.split()]) + "\n")

    def rename(self, segment: str) -> None:
        """The log has become this segment."""
        try:
            folders.rename(self._path, os.path.basename(segment) + INDEX)
        except OSError:
            pass

    def drop(self) -> None:
        """The log begins anew."""
        self._noted_at = 0.0
        self._noted_offset = 0
        folders.unlink(self._path)

    def settle(self) -> None:
        """The log is new. An index there is left of a rotation cut short between its renames, or of a removed log."""
        if folders.exists(self._path):
            closed = closed_segments(self._log_path)
            if closed and not folders.exists(closed[-1].index_path):
                self.rename(segment_path(self._log_path, closed[-1].number))
            else:
                self.drop()

    def _append(self, record: str) -> None:
        try:
            fd = folders.open_file(self._path, _APPEND, self.mode)
        except OSError:
            return
        data = (b"\n" if self._torn and os.fstat(fd).st_size else b"") + record.encode(errors="replace")
        try:
            self._torn = os.write(fd, data) < len(data)
        except OSError:
            self._torn = True
        finally:
            os.close(fd)


class Tidier:
    """Removes what is over `max_files` and compresses what is closed. `request` never waits; threads do the work.

    `max_files` counts the open file too, as a kubelet does; 0 keeps all. A failure is left for the next request: what
    could not be compressed stays readable as it is. Compressing has the lowest priority, and can take its time: it has
    a thread of its own, so that removing does not wait for it and a busy machine is no reason for a full disk.
    """

    def __init__(self) -> None:
        self._requests: queue.SimpleQueue[tuple[str, int, bool]] = queue.SimpleQueue()
        self._to_compress: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._compressing: set[str] = set()  # what is in it, and what is at work
        self._threads: dict[str, threading.Thread] = {}

    def request(self, log_path: str, max_files: int, compress: bool) -> None:
        """Ask for a log to be tidied. Threads start when there is work: who logs nothing pays nothing."""
        self._requests.put((log_path, max_files, compress))
        self._start("tidier", self._remove_for_ever)

    def _start(self, name: str, work: Callable[[], None]) -> None:
        if name not in self._threads:
            thread = threading.Thread(target=work, name=name, daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no thread to be had now: the next request tries again
                return
            self._threads[name] = thread

    def _remove_for_ever(self) -> None:  # pragma: no cover - endless; what it does is what is tested
        while True:
            self._requests.put(self._requests.get())  # sleep until there is one; it goes back to the queue
            self.remove()

    def _compress_for_ever(self) -> None:  # pragma: no cover - the same
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST_PRIORITY)
        while True:
            self._to_compress.put(self._to_compress.get())
            self.compress()

    def remove(self) -> None:
        """Remove all that was asked for, and note what is to be compressed. One directory is listed once for all."""
        wanted: dict[str, tuple[int, bool]] = {}
        while not self._requests.empty():
            log_path, max_files, compress = self._requests.get()
            wanted[log_path] = max_files, compress
        listings: dict[str, list[str]] = {}
        for log_path, (max_files, compress) in wanted.items():
            directory = os.path.dirname(log_path)
            try:
                if directory not in listings:
                    listings[directory] = folders.names(directory)
                self._tidy(log_path, listings[directory], max_files, compress)
            except OSError:  # an unreadable or vanished directory is the pump's to report, when it writes
                continue

    def _tidy(self, log_path: str, names: list[str], max_files: int, compress: bool) -> None:
        directory, base = os.path.split(log_path)
        for name in names:
            left_over = os.path.join(directory, name)
            is_unfinished = name.startswith(base) and _parsed(name[len(base) :])[1] == UNFINISHED
            if is_unfinished and left_over.removesuffix(UNFINISHED) not in self._compressing:
                folders.unlink(left_over)  # of a pump that was killed
        closed = closed_segments(log_path, names)
        surplus = len(closed) - max(max_files - 1, 0) if max_files else 0
        for segment in closed[: max(surplus, 0)]:
            plain = segment_path(log_path, segment.number)
            # The index first: killed in between, we leave a segment without index, not an index without segment.
            for path in (segment.index_path, plain, plain + COMPRESSED):
                if os.path.basename(path) in names or plain in self._compressing:
                    folders.unlink(path)
        for segment in closed[max(surplus, 0) :]:
            plain = segment_path(log_path, segment.number)
            if segment.compressed:
                if os.path.basename(plain) in names:
                    folders.unlink(plain)  # whole beside its compressed self: someone was killed in between
            elif compress and plain not in self._compressing:
                self._compressing.add(plain)
                self._to_compress.put(plain)
                self._start("compressor", self._compress_for_ever)

    def compress(self) -> None:
        """Compress all that is waiting for it."""
        while not self._to_compress.empty():
            plain = self._to_compress.get()
            try:
                self._compress(plain)
            except OSError:  # the disk is full, or the segment went away
                folders.unlink(plain + UNFINISHED)
            self._compressing.discard(plain)

    def _compress(self, plain: str) -> None:
        """One closed segment, whole and on the disk before it takes the place of the plain one."""
        unfinished = plain + UNFINISHED
        folders.unlink(unfinished)
        source = folders.open_file(plain, os.O_RDONLY)
        try:
            mode = stat.S_IMODE(os.fstat(source).st_mode)
            with open(folders.open_file(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as target:
                squeeze = zlib.compressobj(wbits=_GZIP_FORMAT)
                while block := os.read(source, _BLOCK_BYTES):
                    target.write(squeeze.compress(block))
                target.write(squeeze.flush())
                target.flush()
                os.fchmod(target.fileno(), mode)
                os.fsync(target.fileno())
            if folders.exists(plain):
                folders.rename(unfinished, os.path.basename(plain) + COMPRESSED)
                folders.unlink(plain)
            else:  # removed meanwhile
                folders.unlink(unfinished)
        finally:
            os.close(source)
