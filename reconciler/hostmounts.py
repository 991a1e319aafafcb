"""Which file systems could keep us waiting for ever, and whether they answer at this moment.

A network file system whose server is away, or one that is served by a program that hangs, lets whoever touches it wait,
and no time-out ends that. The controller is one thread: so a path on one of those is first asked for in a thread that
may be lost, and who gets no answer at once does without. Disks of this machine are not asked: when they hang, all does.
"""

import os
import select
import threading
import weakref
from collections.abc import Callable

PATIENCE_SECONDS = 0.1  # for an answer; the loop stands still meanwhile, so it is waited for once per mount and outage
MOST_WAITING = 16  # threads that are lost to mounts that do not answer
MOST_LINKS = 40  # that the kernel follows, too
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
        self._let_go = weakref.finalize(self, os.close, self._fd)  # whoever uses it last need not know that
        self._changes = select.poll()
        self._changes.register(self._fd, select.POLLPRI)
        self._remote: frozenset[str] = frozenset()  # mount points that may hang
        self._waiting: dict[str, _Question] = {}  # by the mount point
        self._read()

    def close(self) -> None:
        """Let the mount table go. Threads that wait are left to themselves."""
        self._let_go()

    @property
    def all_solid(self) -> bool:
        """Whether nothing is mounted that could hang. Takes a microsecond."""
        if self._changes.poll(0):
            self._read()
        return not self._remote

    def place(self, path: str) -> str:
        """The mount point to which this absolute path leads, if that may hang, whether it answers or not; else "".

        Links are followed one by one, and nothing on such a mount is touched for that.
        """
        if self.all_solid:
            return ""
        at, ahead, links = "", _parts(path), 0
        while ahead:
            part = ahead.pop()
            if part == "..":
                at = os.path.dirname(at).rstrip("/")
                continue
            at = f"{at}/{part}"
            if at in self._remote:
                return at
            try:
                target = os.readlink(at)
            except (OSError, ValueError):  # no link, or nothing
                continue
            links += 1
            if links > MOST_LINKS:
                return ""
            at = "" if target.startswith("/") else os.path.dirname(at).rstrip("/")
            ahead += _parts(target)
        return ""

    def answers(self, path: str) -> bool:
        """Whether this absolute path may be touched now without waiting for ever. Takes PATIENCE_SECONDS at most."""
        place = self.place(path)
        return not place or self._ask(place, path)

    def _ask(self, place: str, path: str) -> bool:
        """Of a mount that is known to hang no more is asked until the answer to that is there."""
        for each in [each for each, question in self._waiting.items() if question.done.is_set()]:
            del self._waiting[each]
        if place in self._waiting or len(self._waiting) >= MOST_WAITING:
            return False
        try:
            question = _Question(path, self._look)
        except RuntimeError:  # no thread is to be had: who cannot ask does not go
            return False
        if question.done.wait(self._patience_seconds):
            return True
        self._waiting[place] = question
        return False

    def _read(self) -> None:
        found: dict[str, str] = {}
        for line in _whole(self._fd).splitlines():
            before, _, after = line.partition(" - ")
            fields = before.split(" ")
            if len(fields) > 4 and after:
                found[_unescaped(fields[4])] = after.split(" ", 1)[0]  # the last one of a place is on top
        # What "/" is of is not asked: where that hangs, nothing is left to be looked after.
        self._remote = frozenset(
            place for place, kind in found.items() if kind != found.get("/") and _may_hang(place, kind)
        )


class _Question:
    """One path that is being looked at, in a thread of its own."""

    def __init__(self, path: str, look: Callable[[str], object]) -> None:
        self.done = threading.Event()
        self._path, self._look = path, look
        threading.Thread(target=self._run, name=f"look at {path}", daemon=True).start()

    def _run(self) -> None:
        try:
            self._look(self._path)
        except (OSError, ValueError):
            pass  # that is an answer, too
        finally:
            self.done.set()


def _may_hang(place: str, kind: str) -> bool:
    if place.startswith(("/proc/", "/sys/")):
        return False  # every host has some there (binfmt_misc, connections of FUSE, lxcfs), and no Program has
    return kind in REMOTE or kind.startswith("fuse.") or kind == "fuse"


def _parts(path: str) -> list[str]:
    """The names on the way, the last one first."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


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
