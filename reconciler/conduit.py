"""One log stream: the bytes of a FIFO into a file, which is rotated at line ends.

Every byte is moved by exactly one splice, which takes it out of the FIFO as it puts it into the file. So all state is
the kernel's: SIGKILL between any two instructions, or inside one, neither loses nor doubles a byte, and a new pump
needs no journal. What is about to come is looked at with tee, which takes nothing.

A conduit never raises for what its files do: `complaint` says what is wrong, and `halted` whether bytes wait in the
FIFO because of it (then the writer waits too, once that is full). When to serve which conduit is the pump's business.
Standard library only.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
import struct
import termios
import time

from reconciler import segments

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PEEK_BYTES = 64 * 1024  # what a pipe holds by default: more cannot be seen at once
PIPE_BYTES = 1024 * 1024  # what a busy stream gets, where the kernel allows it
CHUNK_BYTES = 1024 * 1024
DRAIN_BYTES = 8 * PIPE_BYTES  # a full pipe several times over: whoever writes faster than we drain does not end
LONG_LINE_BYTES = 1024 * 1024  # a line may exceed the size limit by this much, then it is cut
RETRY_SECONDS = 1.0
_TEE_NONBLOCK = 2  # SPLICE_F_NONBLOCK
_OPEN_LOG = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Settings:
    """What the controller wants of a stream. `max_size` 0: no rotation; `max_files` 0: all are kept.

    KeyError, TypeError or ValueError when the message makes no sense.
    """

    __slots__ = ("compress", "fifo", "id", "max_files", "max_size", "mode", "path")

    def __init__(self, message: dict[str, Any]) -> None:
        self.id = str(message["id"])
        self.fifo = _possible_path(message["fifo"])
        self.path = _possible_path(message["path"])
        self.max_size = int(message["max_size"])
        self.max_files = int(message["max_files"])
        self.compress = message["compress"] == "gzip"
        self.mode = int(message["mode"]) & 0o777


class Plumbing:
    """What all conduits of a pump share."""

    def __init__(self, tidier: segments.Tidier | None = None) -> None:
        self.tidier = tidier or segments.Tidier()
        self.owners: dict[tuple[int, int], str] = {}  # (device, inode) of each open log file -> id of its stream
        self._peek_reader, self._peek_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._tee = ctypes.CDLL(None, use_errno=True).tee
        self._tee.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_size_t, ctypes.c_uint)
        self._tee.restype = ctypes.c_ssize_t

    def peek(self, fifo: int, count: int) -> bytes:
        """The next bytes of a FIFO, which stay in it: at most `count`, fewer when they lie in many small buffers."""
        copied = self._tee(fifo, self._peek_writer, count, _TEE_NONBLOCK)
        if copied < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return os.read(self._peek_reader, copied)

    def close(self) -> None:
        os.close(self._peek_reader)
        os.close(self._peek_writer)


class Refused(Exception):
    """This file will not be written to. The text says why."""


class Conduit:
    """One FIFO into one log. To be made, then `open`ed, then served whenever bytes wait."""

    __slots__ = (
        "_enlarged", "_index", "_key", "_plumbing", "_rotate_after", "capacity", "complaint", "fifo", "file", "halted",
        "settings", "size",
    )  # fmt: skip

    def __init__(self, settings: Settings, plumbing: Plumbing) -> None:
        self.settings = settings
        self.fifo = -1
        self.file = -1
        self.size = 0  # of the open file, which is also where we write
        self.complaint: str | None = None
        self.halted = False
        self.capacity = PEEK_BYTES  # of the pipe
        self._enlarged = False
        self._plumbing = plumbing
        self._key = (0, 0)  # of the open file in `Plumbing.owners`
        self._rotate_after = 0.0  # no rotation is tried before: the last one failed
        self._index = segments.Index(settings.path, settings.mode)

    # ---- what the pump asks for ----

    def open(self) -> None:
        """Open what is not open. A complaint when that fails; to be asked again later."""
        try:
            if self.fifo < 0:
                self._open_fifo()
            if self.file < 0:
                self._open_file()
        except (OSError, Refused) as error:
            self._halt(error)
        else:
            self._heal()

    def adopt(self, settings: Settings) -> None:
        """Other settings. What waits in the FIFO still goes to the old place if that is possible."""
        old = self.settings
        moved_fifo = settings.fifo != old.fifo or not (self.fifo >= 0 and _is_at(self.fifo, settings.fifo))
        if settings.path != old.path or moved_fifo:
            self.drain()
            self._close_file()
        if moved_fifo:
            self._close_fifo()
        self.settings = settings
        self._rotate_after = 0.0
        if settings.mode != old.mode and self.file >= 0:
            try:
                os.fchmod(self.file, settings.mode)
            except OSError:  # not our file: its owner's mode stays
                pass
        self.open()
        self.tidy()

    def tidy(self) -> None:
        """Have closed segments compressed and removed, behind our back."""
        wanted = self.settings
        self._plumbing.tidier.request(wanted.path, wanted.max_files, wanted.compress)

    def serve(self, budget: int = CHUNK_BYTES) -> int:
        """Move at most about `budget` bytes. How many were moved; 0 when none wait, or none can be moved."""
        if self.file < 0 or self.fifo < 0:
            self.open()
            if self.halted:
                return 0
        moved = 0
        try:
            self._find_end()
            while moved < budget:
                asked = budget - moved
                step = self._step(asked)
                moved += step
                if step < min(asked, PEEK_BYTES):
                    break  # most likely it is empty now; if not, we are called again
        except BlockingIOError:
            pass  # the FIFO is empty
        except (OSError, Refused) as error:
            self._halt(error)
            return moved
        if moved > self.capacity / 2:
            self._enlarge()
        self._heal()
        return moved

    def drain(self) -> None:
        """Move until the FIFO is empty, or so much that its writer clearly does not end."""
        left = DRAIN_BYTES
        while left > 0 and (moved := self.serve()):
            left -= moved

    def mark(self, run: str) -> None:
        """What was written until now belongs to `run`, which ended. Empty runs leave no record: they show nothing."""
        self.drain()
        if self.file >= 0:
            self._index.end(self.size, _wall(), run)

    def reopen(self) -> None:
        """Take the file that has the path now: someone moved ours away."""
        self._close_file()
        self.open()

    def close(self) -> None:
        """Let go, without draining."""
        self._close_file()
        self._close_fifo()

    # ---- opening ----

    def _open_fifo(self) -> None:
        # By path, so that this description is ours alone: O_NONBLOCK on a shared one would reach the writers.
        fd = os.open(self.settings.fifo, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        if not stat.S_ISFIFO(os.fstat(fd).st_mode):
            os.close(fd)
            raise Refused(f"{self.settings.fifo} is not a FIFO")
        self.fifo = fd
        self.capacity = fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)
        self._enlarged = False

    def _open_file(self) -> None:
        path = self.settings.path
        fd, created = self._open_or_create(path)
        self._index = segments.Index(path, self.settings.mode)
        try:
            status = os.fstat(fd)
            key = (status.st_dev, status.st_ino)
            if not stat.S_ISREG(status.st_mode):
                raise Refused(f"{path} is not a regular file")
            owner = self._plumbing.owners.get(key)
            if owner is not None:
                raise Refused(f"{path} is written by {owner}; one file for several replicas is not supported yet")
            if created:
                os.fchmod(fd, self.settings.mode)  # the umask shall not decide
                self._index.settle()
            self.size = os.lseek(fd, 0, os.SEEK_END)
        except (OSError, Refused):
            os.close(fd)
            raise
        self.file = fd
        self._key = key
        self._plumbing.owners[key] = self.settings.id

    def _open_or_create(self, path: str) -> tuple[int, bool]:
        """The log file, and whether it is new. Never through a symbolic link, never blocking on what is no file."""
        for _ in range(3):  # someone may create or remove it between our looks
            try:
                return os.open(path, _OPEN_LOG), False
            except FileNotFoundError:
                pass
            except OSError as error:
                if error.errno == errno.ELOOP:
                    raise Refused(f"{path} is a symbolic link") from None
                raise
            os.makedirs(os.path.dirname(path) or ".", mode=0o755, exist_ok=True)
            try:
                return os.open(path, _OPEN_LOG | os.O_CREAT | os.O_EXCL, self.settings.mode), True
            except FileExistsError:
                continue
        raise Refused(f"{path} comes and goes")

    def _close_file(self) -> None:
        if self.file >= 0:
            os.close(self.file)
            self.file = -1
            del self._plumbing.owners[self._key]

    def _close_fifo(self) -> None:
        if self.fifo >= 0:
            os.close(self.fifo)
            self.fifo = -1

    # ---- moving ----

    def _find_end(self) -> None:
        """We write at the end of the file that is there: others may truncate, extend or remove it."""
        status = os.fstat(self.file)
        if status.st_nlink == 0:
            self._close_file()
            self._open_file()
        elif status.st_size != self.size:
            if status.st_size < self.size:
                self._index.drop()  # its offsets mean nothing any more
            self.size = os.lseek(self.file, 0, os.SEEK_END)

    def _step(self, count: int) -> int:
        """Move some bytes and close a segment when it is full. 0: no byte waits."""
        limit = self.settings.max_size
        if not limit or (self._rotate_after and _clock() < self._rotate_after):
            return self._splice(count)
        room = limit - self.size
        if room > PEEK_BYTES:
            return self._splice(min(count, room - PEEK_BYTES))
        waiting = _waiting_bytes(self.fifo)
        if waiting <= room:
            return self._splice(waiting) if waiting else 0
        return self._near_limit(room)

    def _near_limit(self, room: int) -> int:
        """More waits than the segment may take: the last line end that fits is where it ends."""
        seen = self._plumbing.peek(self.fifo, room if room > 0 else PEEK_BYTES)
        if room > 0:
            end = seen.rfind(b"\n") + 1
            if len(seen) < room:  # small buffers hid the rest; this much fits anyway
                return self._splice_exactly(len(seen))
            if end:
                moved = self._splice_exactly(end)
                self._rotate()
                return moved
        if self.size and self._at_line_start():
            self._rotate()
            return self._step(CHUNK_BYTES)
        # The line that has begun does not fit: it is finished over the limit, but not without bound.
        if room > 0:
            return self._splice_exactly(room)
        end = seen.find(b"\n") + 1
        moved = self._splice_exactly(end or len(seen))
        if not end and self.size - self.settings.max_size >= LONG_LINE_BYTES:
            self._rotate()
        return moved

    def _splice(self, count: int) -> int:
        """Move up to `count` bytes, in one system call. BlockingIOError or 0: none wait."""
        moved = os.splice(self.fifo, self.file, count, flags=_TEE_NONBLOCK)
        if moved:
            self._index.note(self.size, _wall())
            self.size += moved
        return moved

    def _splice_exactly(self, count: int) -> int:
        """Move `count` bytes that are known to wait."""
        left = count
        while left:
            left -= self._splice(left)
        return count

    def _at_line_start(self) -> bool:
        return os.pread(self.file, 1, self.size - 1) == b"\n"

    # ---- rotating ----

    def _rotate(self) -> None:
        """Close the segment: it gets its number, and a new file takes the path.

        Where that is impossible the file grows on, with a complaint: its directory shall not stop the writer.
        """
        path = self.settings.path
        try:
            if _is_at(self.file, path):  # else someone moved it away, and what has the path now is not ours to rename
                segment = segments.segment_path(path, segments.next_number(path))
                os.rename(path, segment)
                self._index.rename(segment)
        except OSError as error:
            self._rotate_after = _clock() + RETRY_SECONDS
            self.complaint = f"cannot rotate {path}: {error.strerror}; it grows on"
            return
        self._rotate_after = 0.0
        self._close_file()
        self._open_file()
        self.tidy()

    # ---- complaints ----

    def _halt(self, error: Exception) -> None:
        if isinstance(error, OSError):
            self.complaint = f"cannot write {self.settings.path}: {error.strerror}"
        else:
            self.complaint = f"cannot write: {error}"
        self.halted = True
        self._enlarge()  # the writer may go on for longer

    def _heal(self) -> None:
        self.halted = False
        if not self._rotate_after:
            self.complaint = None

    def _enlarge(self) -> None:
        """A large pipe, for those that need one: a user may have so many, then all further ones are small."""
        if not self._enlarged and self.fifo >= 0:
            self._enlarged = True
            try:
                self.capacity = fcntl.fcntl(self.fifo, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
            except OSError:
                pass


def _possible_path(path: object) -> str:
    """ValueError for what can be no path: a NUL or a lone surrogate in it."""
    text = str(path)
    if b"\0" in os.fsencode(text):
        raise ValueError(f"a NUL in {text!r}")
    return text


def _is_at(fd: int, path: str) -> bool:
    """Whether the file that `fd` holds is the one at `path`."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _waiting_bytes(fifo: int) -> int:
    count: int = struct.unpack("i", fcntl.ioctl(fifo, termios.FIONREAD, b"\0\0\0\0"))[0]
    return count


def _wall() -> float:
    return time.time()  # noqa: TID251 - shown to people beside log lines, decides nothing


def _clock() -> float:
    return time.monotonic()
