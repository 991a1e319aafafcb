"""The open file of a log: where it lies, what may be written to it, and its rotation.

One stream has it alone, or several replicas of one Program share it. It knows nothing of FIFOs: who has bytes asks for
room, moves or appends them, and has it rotated when they do not fit. Where they come from is of no interest here, but a
portion that a full disk took half of is kept, for nobody else may write before it is whole.

Standard library only; it raises OSError (also folders.Refused) where a conduit shall complain.
"""

from __future__ import annotations

import errno
import os
import stat
import time

from reconciler import folders, segments
from reconciler.folders import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

RETRY_SECONDS = 1.0
_OTHERS_MAY_WRITE = 0o022
_SPLICE_NONBLOCK = 2


class Bounds:
    """How a log is kept. `max_size` 0: no rotation; `max_files` 0: all are kept. `uid`: the user of its processes."""

    __slots__ = ("compress", "max_files", "max_size", "mode", "uid")

    def __init__(self, max_size: int, max_files: int, compress: bool, mode: int, uid: int) -> None:
        self.max_size = max_size
        self.max_files = max_files
        self.compress = compress
        self.mode = mode
        self.uid = uid


class LogFile:
    """One path. `users` are the ids of the streams that write to it, `repairs` what a killed pump left to be done."""

    __slots__ = (
        "_is_whole", "_open_files", "_owed", "_owed_by", "_paid", "_rotate_after", "_tidier", "bounds", "complaint",
        "fd", "index", "key", "owner", "path", "repairs", "size", "users",
    )  # fmt: skip

    def __init__(
        self, path: str, bounds: Bounds, tidier: segments.Tidier, open_files: dict[tuple[int, int], LogFile]
    ) -> None:
        """`open_files`: by device and inode, those of all logs. Two paths may lead to one file."""
        self.path = path
        self.bounds = bounds
        self.owner = ""  # the Program of its users
        self.users: set[str] = set()
        self.repairs: list[Callable[[], None]] = []
        self.fd = -1
        self.size = 0  # which is also where we write
        self.key = (0, 0)
        self.complaint: str | None = None  # it is written, but cannot be rotated
        self.index = segments.Index(path, bounds.mode)
        self._tidier = tidier
        self._open_files = open_files
        self._rotate_after = 0.0  # no rotation is tried before: the last one failed
        self._is_whole = False  # its last byte is known to end a line
        self._owed = memoryview(b"")
        self._owed_by: object = None
        self._paid: Callable[[], None] = _nothing

    # ---- opening ----

    @property
    def is_ready(self) -> bool:
        """Whether it is open, and nothing of before has to be done first."""
        return self.fd >= 0 and not self.repairs

    def open(self) -> None:
        """Open it unless it is, and finish what a killed pump began. OSError when that is impossible for now."""
        if self.fd < 0:
            self._open()
        while self.repairs:
            self.repairs[-1]()
            self.repairs.pop()

    def _open(self) -> None:
        fd, created = self._open_or_create()
        folders.keep(fd)
        self.index = segments.Index(self.path, self.bounds.mode)
        try:
            status = os.fstat(fd)
            self._check(status)
            if created:
                os.fchmod(fd, self.bounds.mode)  # the umask shall not decide
                self.index.settle()
            self.size = os.lseek(fd, 0, os.SEEK_END)
        except OSError:
            os.close(fd)
            raise
        self.fd = fd
        self.key = (status.st_dev, status.st_ino)
        self._is_whole = not self.size
        self._open_files[self.key] = self

    def _open_or_create(self) -> tuple[int, bool]:
        """The file, and whether it is new."""
        path, mode = self.path, self.bounds.mode
        for _ in range(3):  # someone may create or remove it between our looks
            try:
                return folders.open_file(path, os.O_RDWR), False
            except FileNotFoundError:
                pass
            except OSError as error:
                if error.errno == errno.ELOOP:
                    raise Refused(f"{path} is a symbolic link") from None
                raise
            folders.make_folder(os.path.dirname(path))
            try:
                return folders.open_file(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode), True
            except FileExistsError:
                continue
        raise Refused(f"{path} comes and goes")

    def _check(self, status: os.stat_result) -> None:
        """Whether this may be what we write to: somebody else may have put it there. Raises Refused."""
        path = self.path
        if not stat.S_ISREG(status.st_mode):
            raise Refused(f"{path} is not a regular file")
        other = self._open_files.get((status.st_dev, status.st_ino))
        if other is not None:
            raise Refused(f"{path} is the same file as {other.path}, the log of another stream")
        ours = {0, os.geteuid()}
        folder = folders.status(os.path.dirname(path) or ".")
        if status.st_uid not in ours | {folder.st_uid, self.bounds.uid}:
            raise Refused(f"{path} belongs to user {status.st_uid}, who is not the user of its processes")
        closed = folder.st_uid in ours and not folder.st_mode & _OTHERS_MAY_WRITE
        if status.st_nlink > 1 and status.st_uid in ours and not closed:
            raise Refused(f"{path} has other names, and others than us may have given it this one")

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            del self._open_files[self.key]

    def reopen(self) -> None:
        """Take the file that has the path now: someone moved ours away."""
        self.close()
        self.open()

    def set_bounds(self, bounds: Bounds) -> None:
        """They take effect at once."""
        old, self.bounds = self.bounds, bounds
        self._rotate_after, self.complaint = 0.0, None
        self.index.mode = bounds.mode
        if bounds.mode != old.mode and self.fd >= 0:
            try:
                os.fchmod(self.fd, bounds.mode)
            except OSError:  # not our file: its owner's mode stays
                pass

    def tidy(self) -> None:
        """Have closed segments compressed and removed, behind our back."""
        self._tidier.request(self.path, self.bounds.max_files, self.bounds.compress)

    # ---- writing ----

    def find_end(self) -> None:
        """We write at the end of the file that is there: others may truncate, extend or remove it."""
        status = os.fstat(self.fd)
        if status.st_nlink == 0:
            self.reopen()
        elif status.st_size != self.size:
            if status.st_size < self.size:
                self.index.drop()  # its offsets mean nothing any more
            self.size = os.lseek(self.fd, 0, os.SEEK_END)
            self._is_whole = False

    def room(self) -> int | None:
        """How many bytes may still be put in before it is to be rotated, perhaps less than none. None: any number."""
        limit = self.bounds.max_size
        if not limit or (self._rotate_after and _clock() < self._rotate_after):
            return None
        return limit - self.size

    def splice(self, fifo: int, count: int) -> int:
        """Move up to `count` bytes in one system call. BlockingIOError or 0: none wait."""
        moved = os.splice(fifo, self.fd, count, flags=_SPLICE_NONBLOCK)
        if moved:
            self.index.note(self.size, wall())
            self.size += moved
            self._is_whole = False
        return moved

    def at_line_start(self) -> bool:
        """Whether the last byte in it ends a line."""
        return self._is_whole or not self.size or os.pread(self.fd, 1, self.size - 1) == b"\n"

    def begin_line(self) -> None:
        """End the line that somebody began, if so: what comes next is a line of its own."""
        if not self.at_line_start():
            self.size += os.write(self.fd, b"\n")
        self._is_whole = True

    def append(self, lines: bytes, by: object, paid: Callable[[], None]) -> None:
        """Write whole lines; `paid` is called when they stand in it.

        OSError: some of them may stand in it. Then nobody writes before the rest does, see `pay`.
        """
        self._owed, self._owed_by, self._paid = memoryview(lines), by, paid
        self.index.note(self.size, wall())
        self.pay()

    def pay(self) -> None:
        """Write what is owed, if anything is. OSError: it cannot be written yet."""
        while self._owed:
            written = os.write(self.fd, self._owed)
            self._owed = self._owed[written:]
            self.size += written
        paid, self._paid, self._owed_by = self._paid, _nothing, None
        paid()

    def forget(self, by: object) -> None:
        """Who owes this has taken it elsewhere: the line that was begun stays as it is."""
        if self._owed_by is by:
            self._owed, self._owed_by, self._paid = memoryview(b""), None, _nothing
            self._is_whole = False

    def holds(self, offset: int, lines: bytes) -> int | None:
        """How many of these bytes stand at `offset`, up to the end of the file. None: something else does."""
        found = os.pread(self.fd, len(lines), offset)
        return len(found) if lines.startswith(found) else None

    # ---- rotating ----

    def rotate(self) -> None:
        """Close the segment: it gets its number, and a new file takes the path.

        Where that is impossible the file grows on, with a complaint: its directory shall not stop the writer.
        """
        path = self.path
        try:
            if self._is_in_place():  # else someone moved it away, and what has the path now is not ours to rename
                segment = segments.segment_path(path, segments.next_number(path))
                folders.rename(path, os.path.basename(segment))
                self.index.rename(segment)
        except OSError as error:
            self._rotate_after = _clock() + RETRY_SECONDS
            self.complaint = f"cannot rotate {path}: {error.strerror}; it grows on"
            return
        self._rotate_after = 0.0
        self.complaint = None
        self.reopen()
        self.tidy()

    def _is_in_place(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self.fd), folders.status(self.path))
        except FileNotFoundError:
            return False


def wall() -> float:
    return time.time()  # noqa: TID251 - shown to people beside log lines, decides nothing


def _clock() -> float:
    return time.monotonic()


def _nothing() -> None:
    pass
