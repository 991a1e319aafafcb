"""Where lines wait between the FIFO of a stream and its log, when they are to be framed on the way: one small file.

Framed bytes cannot be spliced: taking them out of the FIFO and writing them are two steps, and a kill in between would
lose or double them. So a splice first moves them here, as exactly as into a raw log; and before lines of it are
written, a record says which, where to and with what time. Whoever finds the record after a kill frames the same lines
anew, looks how many of these bytes stand in the log already, and writes the rest. The beginning of a line whose end has
not come waits here, too, however long the pump is away.

    0       the record, 64 bytes: smaller than what a kill could tear
    64      what the stream is: the message of the controller, so that it can be brought out without one
    16 KiB  bytes that came, in order; those before `end` are written, or are just being written

Standard library only. It raises OSError, with the name of this file in it.
"""

from __future__ import annotations

import json
import os
import struct
import zlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

READ_BYTES = 68 * 1024  # framed at once: more than the longest line
ROOM_BYTES = 1024 * 1024  # about as much may wait
_TRIMMED_FROM_BYTES = 64 * 1024  # so much of what is written may stay for now
_RECORD = struct.Struct("<BxxxIQQQQQQ")  # state, checksum of the rest, then as in Record
_RECORD_BYTES = 64
_ABOUT_BYTES = 16 * 1024 - _RECORD_BYTES
_BYTES_FROM = _RECORD_BYTES + _ABOUT_BYTES
_IDLE, _WRITING, _MOVING = 1, 2, 3
_SPLICE_NONBLOCK = 2


class Portion:
    """Lines that are being written: bytes `start` to `end`, to what offset of which file, and the time they bear."""

    __slots__ = ("end", "key", "offset", "start", "wall_ms")

    def __init__(self, start: int, end: int, offset: int, key: tuple[int, int], wall_ms: int) -> None:
        self.start = start
        self.end = end
        self.offset = offset
        self.key = key
        self.wall_ms = wall_ms


class Staging:
    """The file of one stream. It exists from the first line that is framed until it is removed, and over restarts."""

    __slots__ = ("_end", "_fd", "_quiet_to", "_size", "path", "portion")

    def __init__(self, path: str, about: dict[str, Any]) -> None:
        """Open it, or make it for a stream that is `about` this; what is in it then is taken over."""
        self.path = path
        self.portion: Portion | None = None  # begun, and not known to be written
        self._end = 0  # all before it is written
        self._quiet_to = 0  # no line ends between `_end` and here
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(self._fd).st_size
            self._size = max(size - _BYTES_FROM, 0)
            if size >= _RECORD_BYTES:
                self._recover(os.pread(self._fd, _RECORD_BYTES, 0))
            if not self.portion:
                self.describe(about)
            os.lseek(self._fd, _BYTES_FROM + self._size, os.SEEK_SET)
        except OSError:
            self.close()
            raise

    def _recover(self, data: bytes) -> None:
        """Go on where a killed pump was. After a power cut the record may be torn: then all is written once more."""
        state, checksum, *numbers = _RECORD.unpack(data[: _RECORD.size])
        if checksum != _checksum(state, numbers):
            return
        start, end, offset, device, inode, wall_ms = numbers
        if state == _MOVING:
            self._truncate(start)
        elif state == _WRITING:
            self._end = start
            self.portion = Portion(start, end, offset, (device, inode), wall_ms)
        else:
            self._end = end if end <= self._size else 0

    def describe(self, about: dict[str, Any]) -> None:
        """What the stream is from now on. Not while a portion is being written: that goes where it was to go."""
        text = json.dumps(about).encode()
        if len(text) >= _ABOUT_BYTES:
            raise OSError(0, "its path is too long")
        os.pwrite(self._fd, text + b"\n", _RECORD_BYTES)

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits here, not even the beginning of a line."""
        return self._end == self._size

    @property
    def is_full(self) -> bool:
        return self._size - self._end >= ROOM_BYTES

    def take(self, fifo: int, count: int) -> int:
        """Move up to `count` bytes out of the FIFO. BlockingIOError or 0: none wait."""
        moved = os.splice(fifo, self._fd, count, flags=_SPLICE_NONBLOCK)
        self._size += moved
        return moved

    def end_line(self) -> None:
        """What has begun is a line: its process has ended."""
        if not self.is_empty and os.pread(self._fd, 1, _BYTES_FROM + self._size - 1) != b"\n":
            self._size += os.write(self._fd, b"\n")

    def read(self) -> bytes:
        """What waits, up to a bound; b"" when there can be no whole line in it."""
        start = self._end
        looked_at = max(self._quiet_to, start)
        if looked_at == self._size:
            return b""
        data = os.pread(self._fd, READ_BYTES, _BYTES_FROM + start)
        self._quiet_to = start + len(data) if b"\n" not in data else start
        return data

    def text(self, portion: Portion) -> bytes:
        """The bytes of a portion."""
        return os.pread(self._fd, portion.end - portion.start, _BYTES_FROM + portion.start)

    def begin(self, count: int, offset: int, key: tuple[int, int], wall_ms: int) -> Portion:
        """Write down that the next `count` bytes are about to be written there."""
        portion = self.portion = Portion(self._end, self._end + count, offset, key, wall_ms)
        self._record(_WRITING, portion.start, portion.end, offset, *key, wall_ms)
        return portion

    def done(self) -> None:
        """They are."""
        assert self.portion is not None
        self._end = self.portion.end
        self.portion = None
        self._record(_IDLE, 0, self._end)
        left = self._size - self._end
        if self._end >= _TRIMMED_FROM_BYTES and left <= self._end:
            self._trim(left)

    def abandon(self) -> None:
        """They will not be written there; they wait again."""
        if self.portion:
            self.portion = None
            self._record(_IDLE, 0, self._end)

    def _trim(self, left: int) -> None:
        """Remove what is written: the rest moves to the front, where it overlaps nothing that is still of interest."""
        if left:
            os.pwrite(self._fd, os.pread(self._fd, left, _BYTES_FROM + self._end), _BYTES_FROM)
        self._record(_MOVING, left, 0)
        self._truncate(left)

    def _truncate(self, size: int) -> None:
        os.ftruncate(self._fd, _BYTES_FROM + size)
        os.lseek(self._fd, _BYTES_FROM + size, os.SEEK_SET)
        self._size, self._end, self._quiet_to = size, 0, 0
        self._record(_IDLE, 0, 0)

    def _record(self, state: int, *numbers: int) -> None:
        all_numbers = [*numbers, *(0 for _ in range(6 - len(numbers)))]
        os.pwrite(self._fd, _RECORD.pack(state, _checksum(state, all_numbers), *all_numbers), 0)

    def close(self) -> None:
        os.close(self._fd)

    def remove(self) -> None:
        """Nothing waits here any more."""
        self.close()
        os.unlink(self.path)


def about(path: str) -> dict[str, Any] | None:
    """What the stream is whose lines wait in this file. None: nobody can say."""
    try:
        with open(path, "rb") as file:
            file.seek(_RECORD_BYTES)
            found = json.loads(file.read(_ABOUT_BYTES).partition(b"\n")[0])
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _checksum(state: int, numbers: list[int]) -> int:
    return zlib.crc32(struct.pack("<B6Q", state, *numbers))
