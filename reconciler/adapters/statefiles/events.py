"""events.jsonl: one line of JSON per event, appended, rotated by size. For readers only; nothing depends on it."""

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

MAX_BYTES = 5 << 20
MAX_FILES = 3
LOADED_BYTES = 1 << 20  # some 5,000 events, in 20 ms


class EventLog:
    """Appends to one file and moves it on when it is full (`.1` is the last full one, `.2` the one before)."""

    def __init__(self, path: str, max_bytes: int = MAX_BYTES, max_files: int = MAX_FILES) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._max_files = max_files
        self._fd = -1
        self._size = 0

    def append(self, event: Mapping[str, Any]) -> str | None:
        """Add a line. Returns what went wrong: a full disk must not stop anything."""
        line = json.dumps(event, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
        try:
            if self._fd < 0:
                self._open()
            if self._size and self._size + len(line) > self._max_bytes:
                self._rotate()
            self._size += os.write(self._fd, line)
        except OSError as error:
            self.close()
            return f"cannot write {self._path}: {error.strerror}"
        return None

    def load(self) -> Iterator[dict[str, Any]]:
        """The last events, oldest first; a line cut by a crash, a full disk or our own patience is left out."""
        try:
            with open(self._path, "rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - LOADED_BYTES))
                for line in file:
                    try:
                        event = json.loads(line)
                    except ValueError:
                        continue
                    if isinstance(event, dict):
                        yield event
        except OSError:
            return

    def close(self) -> None:
        """Let the file go; the next event opens it again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(self._path, flags, 0o600)
        self._size = os.fstat(self._fd).st_size
        # A line that was cut must not swallow the one that comes now.
        if self._size and os.pread(self._fd, 1, self._size - 1) != b"\n":
            self._size += os.write(self._fd, b"\n")

    def _rotate(self) -> None:
        self.close()
        for number in range(self._max_files - 1, 0, -1):
            older = self._path if number == 1 else f"{self._path}.{number - 1}"
            if os.path.lexists(older):
                os.rename(older, f"{self._path}.{number}")
        self._open()
