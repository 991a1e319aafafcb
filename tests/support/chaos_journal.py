"""The journal of a chaos run, read along while controllers write it: each start and each end that was written down.

A checkpoint throws away what led to it, so the segment is followed like a log that is rotated: the old one to its end,
then the new one. The two files change places each time; which is which their first record says (the generation, which
also seeds the checksums of the others). It is read as any process may read it; whoever writes does not notice.
"""

import json
import os
import threading
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reconciler.core.records import Intended
from reconciler.model.state import History

WORD = 8
CHUNK_BYTES = 1 << 20
HEAD_BYTES = 4096
LOOK_SECONDS = 0.02
AT = Intended._fields.index("at") - Intended._fields.index("spawn_id") - 1
RUNS = History._fields.index("runs")


@dataclass(eq=False, slots=True)
class Run:
    """What the books say of one process, from the intent on."""

    spawn: str
    uid: str
    ordinal: int
    at: float
    pid: int = 0
    ended: float | None = None
    outcome: str = ""
    code: int | None = None
    signal: int | None = None
    withdrawn: bool = False  # it was never started
    message: str = ""  # why it could not be started


class Tail:
    """Follows the segments from a thread of its own; `take` hands over the records since the last call."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd, self._inode, self._generation, self._at = -1, 0, 0, 0
        self._new: list[list[Any]] = []
        self._stop = threading.Event()
        self._looking = threading.Lock()
        self.segments = 0  # how often a checkpoint began a new one
        self.bytes = 0
        self._thread = threading.Thread(target=self._follow, name="journal", daemon=True)
        self._thread.start()

    def take(self) -> list[list[Any]]:
        """All records that have been written until now and were not handed over yet."""
        with self._looking:
            self._look()
            new, self._new = self._new, []
            return new

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        if self._fd >= 0:
            os.close(self._fd)

    def _follow(self) -> None:
        while not self._stop.is_set():
            with self._looking:
                self._look()
            time.sleep(LOOK_SECONDS)

    def _look(self) -> None:
        self._read()
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        inode, (generation, first) = os.fstat(fd).st_ino, _head(fd)
        if not first or (inode, generation) == (self._inode, self._generation):
            os.close(fd)
            return
        self._read()  # the old one is written no more: this is its end
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._inode, self._generation, self._at = fd, inode, generation, first
        self.segments += 1
        self._read()

    def _read(self) -> None:
        if self._fd < 0:
            return
        while True:
            used = 0
            data = os.pread(self._fd, CHUNK_BYTES, self._at)
            while (found := _record(data, used, self._generation)) is not None:
                payload, used = found
                self._new.append(json.loads(payload))
            if not used:
                return
            self._at += used
            self.bytes += used


def _head(fd: int) -> tuple[int, int]:
    """The generation of a segment, and where its records begin; 0: there is none."""
    found = _record(os.pread(fd, HEAD_BYTES, 0), 0, 0)
    return (json.loads(found[0])[-1], found[1]) if found else (0, 0)


def _record(data: bytes, at: int, seed: int) -> tuple[bytes, int] | None:
    """The payload of the record at this place and where the next one would be; None: no whole one is there."""
    word = int.from_bytes(data[at : at + WORD], "little")
    length = word & 0xFFFFFFFF
    payload = data[at + WORD : at + WORD + length]
    if not length or len(payload) < length or zlib.crc32(payload, seed) != word >> 32:
        return None
    return payload, at + WORD + (length + 7 & ~7)


class Books:
    """Starts and ends as the journal tells them. `faults`: what no journal may say."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}  # by spawn id
        self.counts: dict[tuple[str, int], int] = {}  # (uid, ordinal) -> starts since it was last forgotten
        self.faults: list[str] = []
        self._seats: dict[tuple[str, int], Run] = {}

    def take(self, records: list[list[Any]]) -> None:
        for tag, *fields in records:
            handler = getattr(self, "_" + tag, None)
            if handler is not None:
                handler(*fields)

    def forget(self, spawns: list[str]) -> None:
        """These were judged."""
        for spawn in spawns:
            self.runs.pop(spawn, None)

    def _intended(self, uid: str, ordinal: int, spawn: str, *more: Any) -> None:
        if spawn in self.runs:
            return  # a checkpoint tells of the intent again
        before = self._seats.get((uid, ordinal))
        if before is not None and before.ended is None and not before.withdrawn:
            self.faults.append(f"{spawn} is intended where {before.spawn} has not ended")
        self.runs[spawn] = self._seats[uid, ordinal] = Run(spawn, uid, ordinal, more[AT])

    def _spawned(self, uid: str, ordinal: int, spawn: str, pid: int, _ticks: int) -> None:
        run = self.runs.get(spawn)
        if run is None or run.pid:
            self.faults.append(f"{spawn} (pid {pid}) is started twice, or without an intent")
            return
        run.pid = pid
        self.counts[uid, ordinal] = self.counts.get((uid, ordinal), 0) + 1

    def _exited(self, *fields: Any) -> None:
        uid, ordinal, outcome, code, signal, at = fields[:6]
        run = self._seats.get((uid, ordinal))
        if run is None or run.ended is not None:
            self.faults.append(f"an end at {uid}/{ordinal}, where nothing runs: {outcome} {code} {signal}")
            return
        run.ended, run.outcome, run.code, run.signal, run.message = at, outcome, code, signal, fields[-1]

    def _withdrawn(self, uid: str, ordinal: int, spawn: str) -> None:
        if spawn in self.runs:
            self.runs[spawn].withdrawn = True

    def _restored(self, uid: str, ordinal: int, history: list[Any], _process: Any) -> None:
        """A checkpoint, or what a namesake takes over from a deleted one."""
        known = self.counts.setdefault((uid, ordinal), history[RUNS])
        if known != history[RUNS]:
            self.faults.append(f"a checkpoint says {history[RUNS]} starts at {uid}/{ordinal}, there were {known}")

    def _forgotten(self, uid: str, ordinal: int) -> None:
        self.counts.pop((uid, ordinal), None)
