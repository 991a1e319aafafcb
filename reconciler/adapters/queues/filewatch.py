"""Sleeps until somebody writes into an SQLite database: what the kernel tells of its files, and nothing meanwhile.

Which transactions there were is not told, only that files were written; SQLite knows the rest.
"""

import ctypes
import os
import select
import struct
from collections.abc import Iterator

_MODIFY, _MOVED_TO, _CREATE, _DELETE = 0x2, 0x80, 0x100, 0x200
_HEADER = struct.Struct("iIII")
_SUFFIXES = ("", "-wal", "-journal")

_libc = ctypes.CDLL(None, use_errno=True)


class FileWatch:
    """Of one database, over many waits: to close one takes the kernel 10 to 25 ms, to make one 0.1.

    Raises OSError when the kernel grants no more of these.
    """

    def __init__(self, path: str) -> None:
        self._path = os.path.realpath(path)
        self._names = {os.fsencode(os.path.basename(self._path) + suffix) for suffix in _SUFFIXES}
        self._events = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._events < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        self._ended = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll = select.poll()
        for descriptor in (self._events, self._ended):
            self._poll.register(descriptor, select.POLLIN)
        self._add_all()

    def begin(self, path: str) -> bool:
        """Another wait begins: what was written before is of no interest. False: it is about another file by now."""
        if os.path.realpath(path) != self._path:
            return False
        self._add_all()  # the folder, or a file, may be a new one by the old name
        for descriptor in (self._events, self._ended):
            try:
                while os.read(descriptor, 1 << 16):
                    pass
            except BlockingIOError:
                pass
        return True

    def wait(self, seconds: float) -> bool:
        """True: something was written, or is there that was not. False: the time is over, or `end` was called."""
        ready = [descriptor for descriptor, _ in self._poll.poll(max(seconds, 0.0) * 1000)]
        if self._ended in ready or not ready:
            return False
        ours = False
        for name in self._names_of_events():
            ours = ours or not name or name in self._names
            if name in self._names:
                self._add_files()  # a new file by an old name, or the first of that name
        return ours

    def end(self) -> None:
        """Let a `wait` in another thread end."""
        os.eventfd_write(self._ended, 1)

    def close(self) -> None:
        """Watch no more."""
        os.close(self._events)
        os.close(self._ended)

    def _add_all(self) -> None:
        self._add(os.path.dirname(self._path), _CREATE | _MOVED_TO | _DELETE)
        self._add_files()

    def _add_files(self) -> None:
        for suffix in _SUFFIXES[:2]:
            self._add(self._path + suffix, _MODIFY)

    def _add(self, path: str, mask: int) -> None:
        """What is not there cannot be watched; the folder tells when it comes."""
        _libc.inotify_add_watch(self._events, os.fsencode(path), mask)

    def _names_of_events(self) -> Iterator[bytes]:
        """Of files in the folder; empty for a write into one that is watched itself."""
        try:
            events = os.read(self._events, 1 << 16)
        except BlockingIOError:
            return
        start = 0
        while start < len(events):
            _, _, _, length = _HEADER.unpack_from(events, start)
            start += _HEADER.size
            yield events[start : start + length].rstrip(b"\0")
            start += length
