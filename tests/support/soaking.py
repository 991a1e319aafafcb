"""A daemon that is kept busy for long, and looked at in between: do its three processes stay as they were?

Run-once Programs whose processes end at once are respawned as fast as the machine allows; manifests change all the
while. Memory is that behind which is no file: of the journal's segment, more or less is mapped. What a process takes
while it warms up (caches, tables, buffers that grow to their bounds) is no leak, so the comparison begins after a
warm-up; and a leak grows with the work, so it is compared how much it grew between the marks. The list of events has
its bound from the beginning: an earlier controller has told as many as are kept.
"""

import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from reconciler.engine.publish import EVENTS_KEPT
from support.daemon import Daemon, eventually

REPLICAS = 50
STABLE_PROGRAMS = 3  # beside the busy one: something that nothing may touch
LOOK_SECONDS = 0.2
PATIENCE_SECONDS = 120.0  # without one respawn
GROWTH_SHARE, GROWTH_BYTES = 0.05, 2 << 20  # of memory that is no leak: the larger of both
SIZES = ("segment", "segment.spare")


class Sight(NamedTuple):
    """What one process holds."""

    anonymous_bytes: int
    fds: int
    threads: int


class Mark(NamedTuple):
    """All of them at one moment, and how far the work is."""

    respawns: int
    reloads: int
    at: float  # monotonic seconds
    sights: dict[str, Sight]
    journal_bytes: int
    state_bytes: int


class Soak:
    """The load on one daemon, and what is seen of it."""

    def __init__(self, daemon: Daemon, tell: Callable[[str], None] = lambda _: None) -> None:
        self.daemon = daemon
        self.reloads = 0
        self.most_journal_bytes = 0
        self._tell = tell
        self._pids: dict[str, int] = {}

    def begin(self) -> None:
        """Start the daemon and its load."""
        daemon = self.daemon
        daemon.declare("busy", "/bin/true", run_once=True, replicas=REPLICAS, min_restart_interval="0s", min_ready="0s")
        for number in range(STABLE_PROGRAMS):
            daemon.declare(f"calm-{number}", "/bin/sleep", "100000", replicas=2, min_ready="0s")
        self._declare_changing()
        self._tell_earlier_events()
        daemon.start()
        daemon.until_running("calm-0", 2)
        eventually(lambda: self.respawns() > 0, "it respawns")
        self._pids = {"keeper": daemon.keeper, "controller": daemon.controller, "pump": daemon.pump}

    def run(self, respawns: int, reloads: int) -> None:
        """Do so much more; reloads are spread evenly."""
        start, before = self.respawns(), self.reloads
        moved_at, seen = time.monotonic(), start
        while (done := self.respawns() - start) < respawns or self.reloads - before < reloads:
            if done + start != seen:
                moved_at, seen = time.monotonic(), done + start
            assert time.monotonic() - moved_at < PATIENCE_SECONDS, "nothing is respawned any more"
            due = before + (reloads if done >= respawns else reloads * done // respawns)
            while self.reloads < due:
                self._reload()
            self.most_journal_bytes = max(self.most_journal_bytes, self._journal_bytes())
            time.sleep(LOOK_SECONDS)

    def respawns(self) -> int:
        """How many processes have ended."""
        return sum(int(row["runs"]) for row in self.daemon.processes("busy"))

    def mark(self) -> Mark:
        """Let what is busy come to rest, look at all three, and go on: so every descriptor can be counted."""
        respawns = self.respawns()
        self.daemon.cli("stop", "busy")
        self.daemon.until_at_rest("busy")
        for name, pid in (("controller", self.daemon.controller), ("pump", self.daemon.pump)):
            assert self._pids[name] == pid, f"the {name} died: {self.daemon.output()[-2000:]}"
        eventually(lambda: not self.daemon.status("guest")["processes"], "the guest is gone")
        mark = Mark(
            respawns,
            self.reloads,
            time.monotonic(),
            {name: _steady(pid) for name, pid in self._pids.items()},
            self._journal_bytes(),
            sum(_size(path) for path in self.daemon.state.rglob("*")),
        )
        self._tell(_line(mark))
        self.daemon.cli("start", "busy")
        eventually(lambda: self.respawns() >= respawns, "it goes on")
        return mark

    def _reload(self) -> None:
        """A manifest changes, and every tenth time one comes and goes; whether it is in force is awaited."""
        self.reloads += 1
        self._declare_changing()
        if self.reloads % 10 == 0:
            path = self.daemon.declare("guest", "/bin/sleep", "100000", min_ready="0s")
            eventually(lambda: self.daemon.pids("guest"), "the guest runs")
            path.unlink()
            self.daemon.client.rescan()
        wanted = str(self.reloads)
        eventually(lambda: self.daemon.object("changing")["spec"]["env"]["N"] == wanted, f"reload {wanted} is in force")

    def _tell_earlier_events(self) -> None:
        """As many as are kept, and such as this load makes."""
        self.daemon.state.mkdir(mode=0o700)
        cause = "RevisionChanged"
        with open(self.daemon.state / "events.jsonl", "w", encoding="utf-8") as file:
            for number in range(EVENTS_KEPT):
                about = {"at": 1e9 + number, "type": "Normal", "kind": "Program", "name": "changing"}
                said = {"reason": "Stopping", "message": f"stop 0, pid {number} ({cause})", "count": 1}
                file.write(json.dumps({**about, **said, "cause": cause, "ordinal": 0}) + "\n")

    def _declare_changing(self) -> None:
        self.daemon.declare("changing", "/bin/sleep", "100000", env={"N": str(self.reloads)}, min_ready="0s")

    def _journal_bytes(self) -> int:
        return sum(_size(self.daemon.state / "run" / "journal" / name) for name in SIZES)


def grown(early: Mark, late: Mark) -> list[str]:
    """What is not flat between two marks: one line each."""
    found = []
    for name, before in early.sights.items():
        after = late.sights[name]
        allowed = max(int(before.anonymous_bytes * GROWTH_SHARE), GROWTH_BYTES)
        if after.anonymous_bytes - before.anonymous_bytes > allowed:
            found.append(f"{name}: memory {_mib(before.anonymous_bytes)} -> {_mib(after.anonymous_bytes)}")
        if after.fds > before.fds:
            found.append(f"{name}: {before.fds} -> {after.fds} descriptors")
        if after.threads > before.threads:
            found.append(f"{name}: {before.threads} -> {after.threads} threads")
    if late.journal_bytes > early.journal_bytes:
        found.append(f"journal: {_mib(early.journal_bytes)} -> {_mib(late.journal_bytes)}")
    return found


def table(marks: list[Mark]) -> str:
    """All marks, one line each, under a head."""
    return "\n".join([_HEAD, *map(_line, marks)])


_HEAD = (
    f"{'respawns':>9} {'reloads':>8} "
    + " ".join(f"{name + ' MiB, fds':>20}" for name in ("keeper", "controller", "pump"))
    + f" {'journal':>9} {'state':>9}"
)


def _line(mark: Mark) -> str:
    sights = " ".join(f"{_mib(sight.anonymous_bytes):>15} {sight.fds:>4}" for sight in mark.sights.values())
    return f"{mark.respawns:>9} {mark.reloads:>8} {sights} {_mib(mark.journal_bytes):>9} {_mib(mark.state_bytes):>9}"


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.1f}"


def _steady(pid: int) -> Sight:
    """The middle of some looks: what is open for a moment only is not held."""
    looks = []
    for _ in range(9):
        looks.append(_sight(pid))
        time.sleep(0.03)
    return Sight(*(int(statistics.median_low(values)) for values in zip(*looks, strict=True)))


def _sight(pid: int) -> Sight:
    folder = Path(f"/proc/{pid}")
    return Sight(anonymous_bytes(pid), len(os.listdir(folder / "fd")), len(os.listdir(folder / "task")))


def pss_bytes(pid: int) -> int:
    """The memory of a process, with its share of what it shares."""
    return _rolled_up(pid, "Pss")


def anonymous_bytes(pid: int) -> int:
    """The memory behind which is no file. Of the journal, between nothing and a segment is mapped, in turns."""
    return _rolled_up(pid, "Pss_Anon")


def _rolled_up(pid: int, name: str) -> int:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in rollup if line.startswith(f"{name}:"))


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0  # gone since it was listed
