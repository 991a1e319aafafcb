"""The journal of a chaos run, as controllers write it: each start, each end, and what was asked of a process between.

A checkpoint throws away what led to it. So a copy of each segment is kept (chaos_keeper.py), and read to its end before
the next one. Which segment it is says its first record (the generation, which also seeds the checksums of the others);
where it was read to is remembered, for a copy may be of a segment that went on afterwards.
"""

import json
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reconciler.core.records import Intended
from reconciler.model.state import History

WORD = 8
CHUNK_BYTES = 1 << 20
HEAD_BYTES = 4096
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
    stopped: bool = False  # it was to be asked to end
    killed: bool = False  # it was to be killed
    message: str = ""  # why it could not be started


class Tail:
    """Follows the segments; `take` hands over the records since the last call."""

    def __init__(self, segment: Path, kept: Path) -> None:
        self._segment, self._kept = segment, kept
        kept.mkdir()
        self._generation, self._at = 0, 0
        self.segments = 0  # how often a checkpoint began a new one
        self.bytes = 0

    def take(self) -> list[list[Any]]:
        """All records that have been written until now and were not handed over yet."""
        copies, fd = self._snapshot()
        new: list[list[Any]] = []
        for copy in copies:
            with copy.open("rb") as file:
                new += self._read(file.fileno())
            copy.unlink()
        if fd >= 0:
            new += self._read(fd)
            os.close(fd)
        return new

    def _snapshot(self) -> tuple[list[Path], int]:
        """The copies that are there, and the segment that came after them, open (-1: there is none)."""
        while True:
            copies = self._copies()
            try:
                fd = os.open(self._segment, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return copies, -1
            if self._copies() == copies:
                return copies, fd
            os.close(fd)  # another one may have taken its place in between

    def _copies(self) -> list[Path]:
        return sorted(path for path in self._kept.iterdir() if path.name.isdigit())

    def _read(self, fd: int) -> list[list[Any]]:
        generation, first = _head(fd)
        if not first:
            return []
        if generation != self._generation:
            self._generation, self._at = generation, first
            self.segments += 1
        found: list[list[Any]] = []
        while True:
            used = 0
            data = os.pread(fd, CHUNK_BYTES, self._at)
            while (record := _record(data, used, generation)) is not None:
                payload, used = record
                found.append(json.loads(payload))
            if not used:
                return found
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

    def last(self, uid: str, ordinal: int) -> Run | None:
        """The last one at this ordinal, judged or not."""
        return self._seats.get((uid, ordinal))

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

    def _stop(self, uid: str, ordinal: int, *more: Any) -> None:
        silent = more[-1] is True  # nobody signals it, its end is awaited
        if (run := self._seats.get((uid, ordinal))) and not silent:
            run.stopped = run.stopped or run.ended is None

    def _killed(self, uid: str, ordinal: int, _at: float) -> None:
        if run := self._seats.get((uid, ordinal)):
            run.killed = run.killed or run.ended is None

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
