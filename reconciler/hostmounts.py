"""Which file systems could keep us waiting for ever, and whether they answer at this moment.

A network file system whose server is away, or one that is served by a program that hangs, lets whoever touches it wait,
and no time-out ends that. The controller is one thread: so a path on one of those is first asked for in a thread that
may be lost, and who gets no answer at once does without. Disks of this machine are not asked: when they hang, all does.
"""

import os
import select
import threading
import time
from collections.abc import Callable, Mapping

PATIENCE_SECONDS = 0.1  # for an answer; the loop stands still meanwhile, so it is waited for once per path and outage
MOST_WAITING = 16  # threads that are lost to paths that do not answer
REMEMBERED_SECONDS = 10.0  # that a path is on a disk of this machine, while nothing is mounted or unmounted
REMEMBERED_PATHS = 10_000
REMOTE = frozenset({
    "9p", "afs", "autofs", "beegfs", "ceph", "cifs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4",
    "ocfs2", "orangefs", "smb3", "smbfs", "virtiofs",
})  # fmt: skip
SILENT = "its file system does not answer"


class Mounts:
    """Knows the mount table, and asks. To be used by one thread."""

    def __init__(
        self,
        *,
        table: str = "/proc/self/mountinfo",
        look: Callable[[str], object] = os.stat,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._look, self._patience_seconds = look, patience_seconds
        self._fd = os.open(table, os.O_RDONLY | os.O_CLOEXEC)
        self._changes = select.poll()
        self._changes.register(self._fd, select.POLLPRI)
        self._remote: Mapping[str, str] = {}  # mount points that may hang -> the type
        self._all: frozenset[str] = frozenset()
        self._solid: dict[str, float] = {}  # path -> until when this is believed
        self._places: dict[str, str] = {}  # path -> the mount that may hang, as it was found last
        self._waiting: dict[str, _Question] = {}
        self._read()

    def close(self) -> None:
        """Let the mount table go. Threads that wait are left to themselves."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @property
    def all_solid(self) -> bool:
        """Whether nothing is mounted that could hang. Takes a microsecond."""
        if self._changes.poll(0):
            self._read()
        return not self._remote

    def is_solid(self, path: str) -> bool:
        """Whether it is on a disk of this machine, as it was found when it `answers`ed."""
        return not self._remote or path in self._solid

    def answers(self, path: str) -> bool:
        """Whether this absolute path may be touched now without waiting for ever. Takes PATIENCE_SECONDS at most."""
        if self.all_solid:
            return True
        until = self._solid.get(path)
        if until is not None:
            if time.monotonic() < until:
                return True
            del self._solid[path]
        return self._ask(path)

    def place(self, path: str) -> str:
        """The mount point that it is on, if that may hang, whether it answers or not; "" on a disk of this machine."""
        if self.all_solid:
            return ""
        lexical = self._mount_of(path)
        if self.answers(path):
            return self._places.get(path, "")
        return lexical if lexical in self._remote else self._places.get(path, path)

    def _ask(self, path: str) -> bool:
        question = self._waiting.get(path)
        if question is None:
            # One that is known to hang is not asked again for each path on it.
            mount = self._mount_of(path)
            if mount in self._remote and any(self._mount_of(other) == mount for other in self._still_waiting()):
                return False
            if len(self._still_waiting()) >= MOST_WAITING:
                return False
            try:
                question = _Question(path, self._look)
            except RuntimeError:  # no thread is to be had: who cannot ask does not go
                return False
            self._waiting[path] = question
            question.done.wait(self._patience_seconds)
        if not question.done.is_set():
            return False
        del self._waiting[path]
        if len(self._solid) + len(self._places) >= REMEMBERED_PATHS:
            self._solid.clear()
            self._places.clear()
        places = [place for place in (self._mount_of(path), self._mount_of(question.real)) if place in self._remote]
        if places:
            self._places[path] = places[0]
        else:
            self._places.pop(path, None)
            self._solid[path] = time.monotonic() + REMEMBERED_SECONDS
        return True

    def _still_waiting(self) -> list[str]:
        for path in [path for path, question in self._waiting.items() if question.done.is_set()]:
            del self._waiting[path]
        return list(self._waiting)

    def _mount_of(self, path: str) -> str:
        """The mount point by the letters of the path; nothing is touched for that."""
        while path not in self._all and path != "/":
            path = os.path.dirname(path) or "/"
        return path

    def _read(self) -> None:
        found: dict[str, str] = {}
        for line in _whole(self._fd).splitlines():
            before, _, after = line.partition(" - ")
            fields = before.split(" ")
            if len(fields) > 4 and after:
                found[_unescaped(fields[4])] = after.split(" ", 1)[0]  # the last one of a place is on top
        self._all = frozenset({*found, "/"})
        # What "/" is of is not asked: where that hangs, nothing is left to be looked after.
        self._remote = {
            place: kind for place, kind in found.items() if place != "/" and _may_hang(kind) and kind != found.get("/")
        }
        self._solid.clear()
        self._places.clear()


class _Question:
    """One path that is being looked at, in a thread of its own."""

    def __init__(self, path: str, look: Callable[[str], object]) -> None:
        self.path, self.real = path, path
        self.done = threading.Event()
        self._look = look
        threading.Thread(target=self._run, name=f"look at {path}", daemon=True).start()

    def _run(self) -> None:
        try:
            self.real = os.path.realpath(self.path)
            self._look(self.path)
        except (OSError, ValueError):
            pass  # that is an answer, too
        finally:
            self.done.set()


def _may_hang(kind: str) -> bool:
    return kind in REMOTE or (kind.startswith("fuse") and kind != "fuseblk")


def _whole(fd: int) -> str:
    parts, at = [], 0
    while part := os.pread(fd, 1 << 16, at):
        parts.append(part)
        at += len(part)
    return os.fsdecode(b"".join(parts))


def _unescaped(text: str) -> str:
    for code, letter in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, letter)
    return text
