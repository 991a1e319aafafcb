"""SegmentJournal: records in a file that is mapped into memory, so that an append is a copy and not a system call.

What stands in the mapping is the kernel's: it survives SIGKILL. A record is a header word and a JSON payload, and the
word is stored last, in one instruction: a record is there as a whole or not at all. A checkpoint is written to a
second file, the spare, which then changes names with the first: both have their room on the disk from the start, so a
disk that is full later takes all that is to be written. Nothing here knows what a record means.
"""

import ctypes
import json
import mmap
import os
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from json import encoder
from typing import Any, Final

SEGMENT: Final = "segment"
SPARE: Final = "segment.spare"
DAMAGED: Final = "segment.damaged"
_VERSION: Final = 2  # 1 had no generations
_WORD: Final = 8  # a header: length of the payload in the low half, its CRC-32 in the high half; 0: nothing follows
_PAGE: Final = mmap.PAGESIZE
_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2

Encode = Callable[[Sequence[Any]], bytes]


def _encoding() -> Encode:
    """Records as compact JSON. `json` makes an encoder for every call, which costs more than to encode a record."""
    make = getattr(encoder, "c_make_encoder", None)
    if make is None:  # this interpreter has none in C
        encode_text = json.JSONEncoder(separators=(",", ":")).encode
        return lambda record: encode_text(record).encode()
    encode = make(None, _refuse, encoder.encode_basestring_ascii, None, ":", ",", False, False, True)
    return lambda record: "".join(encode(record, 0)).encode()


def _refuse(value: object) -> Any:
    raise TypeError(f"no JSON value: {value!r}")


_encode = _encoding()
_libc = ctypes.CDLL(None, use_errno=True)


class SegmentJournal:
    """The Journal on disk. One process at a time may have it open.

    `damage` says what replay could not read. `boot_changed`: another boot wrote what is there, its processes are gone,
    and a checkpoint is wanted before anything of this boot is appended. When the disk refuses, `writable` is False and
    records are dropped, from the first that did not fit until the next checkpoint that does: a journal has no holes.

    The checksums of a segment are seeded with its generation: what the spare holds of its time before is no record now.
    """

    def __init__(self, directory: str, segment_bytes: int = 4 << 20, boot_id: str | None = None) -> None:
        self._directory = directory
        self._segment_bytes = _pages(segment_bytes)
        self._boot_id = boot_id or _boot_id()
        self._map: mmap.mmap | None = None
        self._words: memoryview | None = None
        self._fd = -1
        self._size = 0
        self._end = 0  # where the next record goes
        self._first = 0  # where the first record after our own header record is
        self._generation = 0
        self._writable = False
        self._old = b""  # what could be read of a segment that cannot be written
        self.damage: str | None = None
        self.boot_changed = False
        self._open()

    # ---- the port ----

    def append(self, record: Sequence[Any], *, durable: bool = False) -> None:
        """Write one record. Never raises for the disk's sake; see `writable`."""
        if not self._writable:
            return
        payload = _encode(record)
        start = self._end
        end = start + _WORD + (len(payload) + 7 & ~7)
        if end + _WORD > self._size and not self._grow(end + _WORD):
            self._writable = False
            return
        segment, words = self._map, self._words
        assert segment is not None
        assert words is not None
        # The payload, then the nothing that follows it, then the word that makes it a record.
        segment[start + _WORD : start + _WORD + len(payload)] = payload
        words[end >> 3] = 0
        words[start >> 3] = zlib.crc32(payload, self._generation) << 32 | len(payload)
        self._end = end
        if durable:
            self._flush(start, end + _WORD)

    def replay(self) -> Iterator[list[Any]]:
        """All whole records since the last checkpoint, the checkpoint's own first."""
        content: mmap.mmap | bytes = self._old if self._map is None else self._map
        at = self._first
        while at < self._end:
            payload = _payload(content, at, self._generation)
            if payload is None:
                return
            yield json.loads(payload)
            at = _next(at, payload)

    def checkpoint(self, records: Iterable[Sequence[Any]]) -> None:
        """Replace all that was written by these records. When the disk refuses, what was there stays in force."""
        generation = int.from_bytes(os.urandom(4), "little")
        head = _record(_encode(["journal", _VERSION, self._boot_id, generation]), 0)
        content = b"".join([head, *(_record(_encode(record), generation) for record in records)])
        # Room to write as much again before the next one is due, however much there is to remember.
        size = max(self._segment_bytes, _pages(4 * len(content)))
        try:
            self._replace(content, size)
        except OSError:
            # The old segment may still take records, unless one is missing in it already.
            return
        self._first, self._end, self._generation = len(head), len(content), generation
        self._old, self._writable, self.boot_changed = b"", True, False
        _sync_directory(self._directory)

    @property
    def full(self) -> bool:
        """Whether a checkpoint is due."""
        return not self._writable or self._end * 2 > self._size

    @property
    def writable(self) -> bool:
        """False when the disk refused: records are lost until a checkpoint succeeds."""
        return self._writable

    def close(self) -> None:
        """Let the segment go. What was appended is the kernel's already."""
        self._writable = False
        if self._words is not None:
            self._words.release()
            self._words = None
        if self._map is not None:
            self._map.close()
            self._map = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    # ---- opening ----

    def _open(self) -> None:
        path = f"{self._directory}/{SEGMENT}"
        try:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            self.checkpoint(())
            self._reserve()
            return
        except OSError:
            self._read_only(path)
            return
        size = os.fstat(fd).st_size & ~(_WORD - 1)
        if size < _WORD:
            os.close(fd)
            self.checkpoint(())
            return
        segment = mmap.mmap(fd, size)
        self._hold(fd, segment, size)
        self._writable = True
        self._find_end(segment)
        if self.damage is not None:
            self._set_aside(path)
        if not self._first:  # not one whole record of ours in it
            self._writable = False
            self.checkpoint(())
        self._reserve()

    def _reserve(self) -> None:
        """Have the room for the next checkpoint, if the disk has it now."""
        try:
            os.close(self._spare(self._segment_bytes))
        except OSError:
            pass  # the checkpoint will ask again

    def _spare(self, size: int) -> int:
        """The spare, with all its room. Raises OSError."""
        path = f"{self._directory}/{SPARE}"
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            found = os.fstat(fd)
            if found.st_size > size:
                os.ftruncate(fd, size)
            elif found.st_size < size or found.st_blocks * 512 < size:
                os.posix_fallocate(fd, 0, size)  # a mapping of a hole would be a SIGBUS on a full disk
        except BaseException:
            os.close(fd)
            _remove(path)  # what it got is of no use, and others need it
            raise
        return fd

    def _read_only(self, path: str) -> None:
        """The disk takes no writes, but what it holds still counts."""
        try:
            with open(path, "rb") as file:
                self._old = file.read()
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                self.damage = f"{path}: {error.strerror}"
            return
        self._size = len(self._old)
        self._find_end(self._old)

    def _find_end(self, content: mmap.mmap | bytes) -> None:
        at = 0
        while (payload := _payload(content, at, self._generation)) is not None:
            if at == 0 and not self._check_first(payload):
                return
            at = _next(at, payload)
            self._first = self._first or at
        self._end = at
        if at + _WORD <= self._size and content[at : at + _WORD] != bytes(_WORD):
            places = range(at + _WORD, self._size, _WORD)
            later = next((there for there in places if _payload(content, there, self._generation)), None)
            # A record that did not become whole has nothing behind it. One that was whole has.
            if later is not None or at == 0:
                self.damage = f"{self._directory}/{SEGMENT}: the record at byte {at} is damaged, what follows is lost"

    def _check_first(self, payload: bytes) -> bool:
        try:
            tag, version, boot_id, *generation = json.loads(payload)
        except ValueError:
            tag = version = boot_id = None
        if tag != "journal" or version not in (1, _VERSION):
            self.damage = f"{self._directory}/{SEGMENT}: not a journal of version {_VERSION}"
            return False
        self._generation = generation[0] if version == _VERSION else 0
        self.boot_changed = boot_id != self._boot_id
        return True

    def _set_aside(self, path: str) -> None:
        """Keep a copy for whoever wants to know what happened; the segment itself goes on from where it can be read."""
        try:
            with open(path, "rb") as source:
                content = source.read()
            fd = os.open(f"{self._directory}/{DAMAGED}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(fd, "wb") as copy:
                copy.write(content)
        except OSError:
            pass  # the copy is a courtesy

    # ---- the mapping ----

    def _hold(self, fd: int, segment: mmap.mmap, size: int) -> None:
        self.close()
        self._fd, self._map, self._size = fd, segment, size
        self._words = memoryview(segment).cast("Q")

    def _replace(self, content: bytes, size: int) -> None:
        fd = self._spare(size)
        try:
            os.pwrite(fd, content + bytes(_WORD), 0)
            os.fsync(fd)
            segment = mmap.mmap(fd, size)
            _change_names(f"{self._directory}/{SPARE}", f"{self._directory}/{SEGMENT}")
        except BaseException:
            os.close(fd)
            raise
        self._hold(fd, segment, size)  # from here on the old one is the spare: nothing may go there any more

    def _grow(self, needed: int) -> bool:
        """Nobody has found the time for a checkpoint: go on in a longer segment."""
        size = self._size + _pages(max(self._segment_bytes, needed - self._size))
        try:
            fd = os.dup(self._fd)
            try:
                os.posix_fallocate(fd, 0, size)
                segment = mmap.mmap(fd, size)
            except BaseException:
                os.close(fd)
                raise
        except OSError:
            return False
        self._hold(fd, segment, size)
        self._writable = True
        return True

    def _flush(self, start: int, end: int) -> None:
        assert self._map is not None
        first = start // _PAGE * _PAGE
        try:
            self._map.flush(first, end - first)
        except OSError:  # the disk failed: whatever was written may be gone
            self._writable = False


def _payload(content: mmap.mmap | bytes, at: int, generation: int) -> bytes | None:
    """The payload of the record at this place. None when there is none of this generation, or not a whole one."""
    word = int.from_bytes(content[at : at + _WORD], sys.byteorder)
    length = word & 0xFFFFFFFF
    if not length or at + _WORD + length > len(content):
        return None
    payload = content[at + _WORD : at + _WORD + length]
    return payload if zlib.crc32(payload, generation if at else 0) == word >> 32 else None


def _record(payload: bytes, generation: int) -> bytes:
    word = zlib.crc32(payload, generation) << 32 | len(payload)
    return word.to_bytes(_WORD, sys.byteorder) + payload + bytes(-len(payload) % _WORD)


def _next(at: int, payload: bytes) -> int:
    return at + _WORD + (len(payload) + 7 & ~7)


def _pages(count: int) -> int:
    return -(-count // _PAGE) * _PAGE


def _change_names(new: str, old: str) -> None:
    """`new` takes the name of `old`, at one stroke, and gives it its own. Raises OSError."""
    code = _libc.renameat2(_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(old), _RENAME_EXCHANGE)
    if code != 0:  # there is no old one yet, or this file system cannot do that: then the old one is gone
        os.rename(new, old)


def _sync_directory(directory: str) -> None:
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.fsync(fd)
    except OSError:
        pass  # after a power loss the old segment may be back: whole, and a little behind
    finally:
        os.close(fd)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass  # the next one overwrites it


def _boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()
