"""The controller's own log lines, on standard error.

Written by a thread of its own: whoever reads that pipe may stop reading, and the loop must not wait for him. Lines
that find the queue full are counted and left out. A thousand lines at once are a few writes: a thread that is woken
for each of them would take the interpreter away from whoever has work to do.
"""

import logging
import queue
import sys
import threading
import time
from typing import TextIO

QUEUE_LENGTH = 10_000
BATCH_LINES = 500
COLLECT_SECONDS = 0.01  # after a batch; a line after silence is written at once


class Lines(logging.Handler):
    """Never blocks: a full queue loses the line, and the next one that fits says how many were lost."""

    def __init__(self, stream: TextIO, length: int = QUEUE_LENGTH) -> None:
        super().__init__()
        self.setFormatter(_Formatter())
        self._stream = stream
        self._length = length
        self._lost = 0
        self._waiting: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write, name="log", daemon=True)
        self._writer.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Put a line in the queue, ready to be written."""
        if self._waiting.qsize() >= self._length:
            self._lost += 1
            return
        if self._lost:
            told = {"msg": "%d lines were left out", "args": (self._lost,), "levelname": "WARNING"}
            self._waiting.put(self.format(logging.makeLogRecord(told)))
            self._lost = 0
        try:
            self._waiting.put(self.format(record))
        except Exception:  # whoever logs has a mistake in it: that is no reason to fail
            self.handleError(record)

    def stop(self) -> None:
        """Write out what is left, and end. Who has not read ten thousand lines is not waited for."""
        if self._waiting.qsize() < self._length:
            self._waiting.put(None)
            self._writer.join()

    def _write(self) -> None:
        last = False
        while not last:
            lines = [self._waiting.get()]
            while len(lines) < BATCH_LINES and not self._waiting.empty():
                lines.append(self._waiting.get())
            last = None in lines
            try:
                self._stream.write("".join([f"{line}\n" for line in lines if line is not None]))
                self._stream.flush()
            except (OSError, ValueError):
                continue  # a standard error that is gone is no reason to say so on it
            if not last:
                time.sleep(COLLECT_SECONDS)


class _Formatter(logging.Formatter):
    """`2026-11-23T10:00:00.000Z INFO program/web: start 3 (NewReplica)`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")
        self._second, self._text = -1, ""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        """The moment, in UTC. Lines that come at once have most of it in common."""
        second = int(record.created)
        if second != self._second:
            self._second, self._text = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._text}.{int(record.msecs):03d}Z"


def start_logging(level: str) -> Lines:
    """Begin; `stop()` of what is returned writes out what is left."""
    root = logging.getLogger()
    lines = Lines(sys.stderr)
    root.handlers[:] = [lines]
    root.setLevel(level.upper())
    logging.raiseExceptions = False
    # Of a record we show neither place nor thread: to look for them takes as long as all the rest of a line.
    logging._srcfile = None  # as the documentation of logging has it
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    return lines
