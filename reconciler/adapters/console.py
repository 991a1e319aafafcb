"""The controller's own log lines, on standard error.

Written by a thread of its own: whoever reads that pipe may stop reading, and the loop must not wait for him. Lines
that find the queue full are counted and left out.
"""

import logging
import logging.handlers
import queue
import sys
import time

QUEUE_LENGTH = 10_000


class _LossyHandler(logging.handlers.QueueHandler):
    """Never blocks: a full queue loses the line, and the next one that fits says how many were lost."""

    lost = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            if self.lost:
                told = {"msg": "%d lines were left out", "args": (self.lost,), "levelname": "WARNING"}
                note = logging.makeLogRecord(told)
                self.queue.put_nowait(note)
                self.lost = 0
            self.queue.put_nowait(record)
        except queue.Full:
            self.lost += 1


class _Formatter(logging.Formatter):
    """`2026-11-23T10:00:00Z INFO program/web: start 3 (NewReplica)`."""

    converter = time.gmtime  # type: ignore[assignment]  # as the documentation of logging has it
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")


def start_logging(level: str) -> logging.handlers.QueueListener:
    """Begin; `stop()` of what is returned writes out what is left."""
    lines: queue.Queue[logging.LogRecord] = queue.Queue(QUEUE_LENGTH)
    stream = logging.StreamHandler(sys.stderr)
    stream.setFormatter(_Formatter())
    root = logging.getLogger()
    root.handlers[:] = [_LossyHandler(lines)]
    root.setLevel(level.upper())
    # Of a record we show neither place nor thread: to look for them takes as long as all the rest of a line.
    logging._srcfile = None  # as the documentation of logging has it
    logging.logThreads = logging.logMultiprocessing = logging.logProcesses = False
    logging.raiseExceptions = False  # a standard error that is gone is no reason to say so on it
    listener = logging.handlers.QueueListener(lines, stream)
    listener.start()
    return listener
