"""The `sqlite` trigger: opened for reading only, beside whoever writes.

A reader never blocks a writer in WAL mode; in the older modes it does for as long as it counts. To wait is to sleep
until the kernel tells of a write, and to ask SQLite whether that was a commit.
"""

import os
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import quote

from reconciler.adapters.queues import opening, sql
from reconciler.adapters.queues.filewatch import FileWatch
from reconciler.adapters.queues.limits import CALL_SECONDS, within
from reconciler.model.metadata import Sqlite
from reconciler.model.queues import QueueReadFailed, QueueReading
from reconciler.ports import QueueAsked

_BUSY_SECONDS = 1.0
_COMMIT_SECONDS = (0.001, 0.002, *[0.004] * 25)  # until a slow disk has synchronized what was written


class SqliteReader:
    """Implements ports.QueueReader."""

    can_wait = True

    def __init__(self, path: str, question: sql.Asking) -> None:
        self._path = path
        self._question = question
        self._database: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._version: int | None = None  # of what was counted last
        self._closed = False
        self._watch: FileWatch | None = None
        self._waits = False
        self._lock = threading.Lock()

    def read(self) -> QueueReading:
        """Look once."""
        with within(CALL_SECONDS, self._interrupt, self._path):
            try:
                database = self._opened()
                self._version = _data_version(database)
                with closing(database.execute(self._question.text)) as cursor:
                    rows = cursor.fetchmany(2)
                    columns = [column[0] for column in cursor.description or ()]
            except sqlite3.Error as error:
                self._let_go()
                raise _failure(self._path, self._question.what, error) from None
            return self._question.answered(columns, rows)

    def wait(self, seconds: float) -> bool:
        """Block until somebody writes into the database, whatever it is. Raises QueueReadFailed."""
        deadline = time.monotonic() + seconds
        with self._lock:
            self._closed, self._waits = False, True
        try:
            watch = self._watching()
            return self.read().waiting > 0 or self._wait(watch, deadline)
        finally:
            with self._lock:
                self._waits = False
                ended = self._watch if self._closed else None
                self._watch = None if self._closed else self._watch
            if ended is not None:
                ended.close()

    def _watching(self) -> FileWatch:
        """One that knows of nothing older than this call. Raises QueueReadFailed."""
        watch = self._watch
        if watch is not None and watch.begin(self._path):
            return watch
        try:
            made = FileWatch(self._path)
        except OSError as error:
            raise QueueReadFailed("ServerError", f"{self._path} cannot be watched: {error}") from None
        with self._lock:
            self._watch = made
        if watch is not None:
            watch.close()
        return made

    def _wait(self, watch: FileWatch, deadline: float) -> bool:
        """A commit shows a moment after its last write: so it is looked for a few times more after each write."""
        soon: Iterator[float] = iter(())
        while not self._closed:
            if self._is_changed():
                return True
            left = deadline - time.monotonic()
            pause = next(soon, None)
            if left <= 0:
                return False
            if watch.wait(left if pause is None else min(pause, left)):
                soon = iter(_COMMIT_SECONDS)
        return False

    def _is_changed(self) -> bool:
        try:
            database = self._database
            return database is None or _identity(self._path) != self._file or _data_version(database) != self._version
        except QueueReadFailed:
            return True
        except sqlite3.Error:
            return False  # busy

    def close(self) -> None:
        """Let the file go; a wait in another thread ends."""
        with self._lock:
            self._closed = True
            watch = self._watch
            if watch is not None and self._waits:
                watch.end()
                watch = None
            elif watch is not None:
                self._watch = None
        if watch is not None:
            _close_aside(watch)
        self._let_go()

    def _let_go(self) -> None:
        with self._lock:
            database, self._database = self._database, None
        if database is not None:
            database.interrupt()
            database.close()

    def _interrupt(self) -> None:
        with self._lock:
            if self._database is not None:
                self._database.interrupt()

    def _opened(self) -> sqlite3.Connection:
        """The connection to the file that is there now: a rollout may have put another one in its place."""
        found = _identity(self._path)
        if self._database is not None and found == self._file:
            return self._database
        self._let_go()
        database = sqlite3.connect(
            f"file:{quote(self._path)}?mode=ro",
            uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False,
        )  # fmt: skip
        with self._lock:
            self._database, self._file = database, found
        return database


def _close_aside(watch: FileWatch) -> None:
    """It may be the loop that closes a reader, and that would wait for the kernel."""
    try:
        threading.Thread(target=watch.close, name="queue-unwatch", daemon=True).start()
    except RuntimeError:  # the host has no room for another
        watch.close()


def _identity(path: str) -> tuple[int, int]:
    """Which file it is. Raises QueueReadFailed when it is none: opening a FIFO would never end."""
    try:
        found = os.stat(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise QueueReadFailed("NotFound", f"the database {path} cannot be opened: {reason}") from None
    if not stat.S_ISREG(found.st_mode):
        raise QueueReadFailed("WrongType", f"{path} is not a file")
    return found.st_dev, found.st_ino


def _data_version(database: sqlite3.Connection) -> int:
    version: int = database.execute("PRAGMA data_version").fetchone()[0]
    return version


def _failure(path: str, what: str, error: sqlite3.Error) -> QueueReadFailed:
    text = str(error)
    if "no such table" in text:
        return QueueReadFailed("NotFound", f"{path}: {text}; has the application made its tables yet?")
    if "not a database" in text or "malformed" in text:
        return QueueReadFailed("WrongType", f"{path} is not an SQLite database, or is damaged: {text}")
    if "locked" in text or "busy" in text:
        hint = "somebody writes and does not end; a database in WAL mode can be read meanwhile"
        return QueueReadFailed("TimedOut", f"{path} is locked for longer than {_BUSY_SECONDS:g} s: {hint}")
    if "interrupted" in text:
        return sql.too_slow(what)
    if "unable to open" in text:
        return QueueReadFailed("NotFound", f"{path}: {text}; may the controller read it, and its folder?")
    if "readonly" in text:
        return QueueReadFailed("BadMetadata", f"{what} must only read: {text}")
    return QueueReadFailed("BadMetadata", f"{what} is refused: {text}")


class _Driver:
    polling_seconds = 0.2

    def open(self, asked: QueueAsked) -> SqliteReader:
        """Make a reader."""
        settings = opening.settings(asked, Sqlite)
        path = os.path.join(asked.working_dir, settings.path)
        return SqliteReader(path, sql.Question(settings, asked.count_at_most, '"'))


DRIVER = _Driver()
