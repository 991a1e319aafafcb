"""The ledger that the processes of a chaos run write (chaos_worker.py), as lives: who began, and how he ended.

Read piece by piece while it grows, and forgotten piece by piece once it was judged: a run of hours starts a million
processes. Nothing here asks the product anything.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from support.chaos_worker import PROGRESS, line_of


@dataclass(eq=False, slots=True)
class Life:
    """One process that wrote into the ledger."""

    spawn: str
    program: str
    ordinal: int
    pid: int
    began: float
    revision: str
    version: str
    ended: float | None = None  # when it wrote its last words; None: it did not come to it
    code: int | None = None  # as it said itself, before it left
    signal: int | None = None  # that it was about to end itself with
    written: int | None = None  # bytes on its standard output
    killed: bool = False  # by the test
    gone: float = 0.0  # when it was, or when it wrote its last words

    @property
    def seat(self) -> tuple[str, int]:
        return self.program, self.ordinal


class Ledger:
    """All lives that are not forgotten yet, in the order in which they began."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "ledger"
        self.lives: dict[str, Life] = {}  # by spawn id
        self.left: dict[int, str] = {}  # pid of what a process left behind -> spawn id
        self.doubled: list[str] = []
        self.began = 0  # so many in all
        self.ended = 0
        self._last: dict[tuple[str, int], Life] = {}  # the last one that began at each ordinal
        self._offset = 0
        for name in ("locks", "progress"):
            (folder / name).mkdir()

    def read(self) -> int:
        """Take note of what was written since. How many lines that was."""
        try:
            with open(self.path, "rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return 0
        whole = data.rpartition(b"\n")[0]
        if not whole:
            return 0
        self._offset += len(whole) + 1
        lines = whole.decode().split("\n")
        for line in lines:
            self._take(line.split(" "))
        return len(lines)

    def _take(self, words: list[str]) -> None:
        at, pid, program, ordinal, spawn, what, *more = words
        if what == "start":
            self._begin(Life(spawn, program, int(ordinal), int(pid), float(at), more[0], more[1]))
        elif what == "double":
            self.doubled.append(f"{program}/{ordinal}: {spawn} (pid {pid}) found {' '.join(more)} there")
        elif what == "left":
            self.left[int(pid)] = spawn
        elif what in ("end", "signal") and spawn in self.lives:
            life = self.lives[spawn]
            if life.ended is not None or life.pid != int(pid):
                self.doubled.append(f"{program}/{ordinal}: {spawn} (pid {pid}) ended twice")
            life.ended = float(at)
            life.gone = life.ended + 10.0 ** -len(at.partition(".")[2])  # a shell's clock shows hundredths only
            self.ended += 1
            if what == "signal":
                life.signal = int(more[0])
                return
            life.code = int(more[0])
            life.written = len(line_of(spawn, 1)) if more[1:] == ["-"] else int(more[1]) if more[1:] else 0

    def _begin(self, life: Life) -> None:
        if life.spawn in self.lives:
            self.doubled.append(f"{life.program}/{life.ordinal}: {life.spawn} began twice (pid {life.pid})")
        before = self._last.get(life.seat)
        # Whoever began before has said his last words, or was killed; else two are there at once.
        if before is not None and before.ended is None and not before.killed and is_alive(before):
            self.doubled.append(f"{life.program}/{life.ordinal}: {life.spawn} began beside {before.spawn}")
        self.lives[life.spawn] = self._last[life.seat] = life
        self.began += 1

    def progress(self, life: Life) -> tuple[int, int]:
        """How many bytes this process has certainly written, and at most."""
        if life.written is not None:
            return life.written, life.written
        try:
            written = (self.folder / "progress" / life.spawn).read_bytes()
            return PROGRESS.unpack(written) if written else (0, 0)  # killed before it had begun
        except FileNotFoundError:
            return 0, len(line_of(life.spawn, 1))  # it prints a line at most, or never came to print

    def alive(self, program: str | None = None) -> list[Life]:
        """Those that run now."""
        return [
            life
            for life in self.lives.values()
            if program in (None, life.program) and life.ended is None and is_alive(life)
        ]

    def forget(self, gone: list[Life]) -> None:
        """These were judged."""
        for life in gone:
            del self.lives[life.spawn]
            (self.folder / "progress" / life.spawn).unlink(missing_ok=True)
        living = {life.spawn for life in self.lives.values()}
        self.left = {pid: spawn for pid, spawn in self.left.items() if spawn in living}

    # ---- pause ----

    def pause(self) -> None:
        """Everybody stands still as soon as he can."""
        (self.folder / "pause").touch()

    def go_on(self) -> None:
        (self.folder / "pause").unlink(missing_ok=True)


def is_alive(life: Life) -> bool:
    """Whether this very process still runs: numbers are given away again within minutes, spawn ids never."""
    try:
        with open(f"/proc/{life.pid}/environ", "rb") as file:
            environment = file.read()
    except OSError:  # gone
        return False
    return f"RECONCILER_SPAWN_ID={life.spawn}\0".encode() in environment  # a zombie has none


def boot_time() -> float:
    """The clock of the ledger and of the journal."""
    import time

    return time.clock_gettime(time.CLOCK_BOOTTIME)


def start_ticks(pid: int) -> int:
    """When a process began; 0: there is none, or it is a zombie."""
    try:
        line = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    fields = line[line.rindex(")") + 2 :].split()
    return 0 if fields[0] in "ZX" else int(fields[19])


def fds_of(pid: int) -> list[str]:
    """What a process has open, as the links of /proc show it."""
    found = []
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                found.append(os.readlink(f"/proc/{pid}/fd/{name}"))
            except OSError:
                continue  # closed meanwhile
    except OSError:
        return []
    return found
