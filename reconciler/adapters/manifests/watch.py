"""Wakes when something may have changed below a directory. A hint, never a source of facts.

watchdog's threads see the events; what they were about is not passed on, because events get lost (queue overflow,
links swapped above the root, remounts) and the next scan finds out by itself. One thing only events can tell: which
files somebody is writing to and has not closed (`is_open`); who asks must not rely on it for ever. One recursive watch
on the root, and one on each real directory outside of it that links lead to. When the kernel has no watches left, the
scans' own timer is what remains; `trouble` then says so.
"""

import asyncio
import errno
import os
import time
from collections.abc import Callable, Iterable

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver, ObservedWatch

from reconciler.adapters.manifests.survey import ENDINGS

EVENTS = frozenset({"created", "modified", "moved", "deleted", "closed", "attrib"})
"""Not `opened` and `closed_no_write`: listing a directory causes them, so each scan would call for the next one."""
MAX_LINK_TARGETS = 64  # each costs a thread; beyond that the timer has to do


class Watch:
    """Watches one home. `wake` is called on the loop; `last_event` is when something was last seen (monotonic)."""

    def __init__(self, root: str, wake: Callable[[], None]) -> None:
        self._root = root
        self._wake = wake
        self._observer: BaseObserver | None = None
        self._watches: dict[str, tuple[ObservedWatch, tuple[int, int]]] = {}
        self._calling = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._real_root = root
        self._open = OpenFiles()
        self._ended: set[str] = set()  # directories that were deleted: an inode number may be given out again
        self.last_event = 0.0
        self.trouble = ""

    def cover(
        self, loop: asyncio.AbstractEventLoop, root_identity: tuple[int, int], link_targets: Iterable[str]
    ) -> bool:
        """Make the watches fit what the last scan saw; a directory that was replaced is watched anew.

        Blocking (watchdog walks the tree). True when something is watched that was not before.
        """
        self._loop = loop
        root = os.path.realpath(self._root)
        self._real_root = root if os.path.isdir(root) else os.path.dirname(root)
        wanted = {path: _identity(path) for path in sorted(link_targets)[:MAX_LINK_TARGETS]}
        wanted[self._real_root] = root_identity if self._real_root == root else _identity(self._real_root)
        self.trouble = ""
        dead = self._ended | self._without_emitter()
        for path, (watch, identity) in list(self._watches.items()):
            if wanted.get(path) != identity or path in dead:
                self._drop(path, watch)
        missing = [path for path, identity in wanted.items() if path not in self._watches and identity != (0, 0)]
        for path in missing:
            self._add(path, wanted[path])
        return any(path in self._watches for path in missing)

    def is_open(self, path: str) -> bool:
        """Whether somebody wrote to this file and has not closed it, as far as events tell."""
        return bool(self._open) and (path in self._open or os.path.realpath(path) in self._open)

    def close(self) -> None:
        """End watching; the threads are gone when this returns."""
        if self._observer is not None:
            self._observer.stop()
            self._observer.join(timeout=5)
            self._observer = None
            self._watches.clear()

    def _add(self, path: str, identity: tuple[int, int]) -> None:
        recursive = path == self._real_root == os.path.realpath(self._root)
        try:
            if self._observer is None:
                observer = Observer()
                observer.daemon = True
                observer.start()
                self._observer = observer
            watch = self._observer.schedule(self._handler(path), path, recursive=recursive)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return  # gone again: the next scan tells
            limit = "fs.inotify.max_user_watches" if error.errno == errno.ENOSPC else "fs.inotify.max_user_instances"
            self.trouble = (
                f"cannot be watched ({error.strerror}; see sysctl {limit}); it is read from time to time instead"
            )
            return
        except RuntimeError as error:  # no thread is to be had for it
            self.trouble = f"cannot be watched ({error}); it is read from time to time instead"
            return
        finally:
            _close_on_exec()
        self._watches[path] = (watch, identity)

    def _handler(self, path: str) -> "_Handler":
        return _Handler(path, self._seen, self._ended, self._open)

    def _without_emitter(self) -> set[str]:
        emitters = self._observer.emitters if self._observer is not None else ()
        alive = {os.fsdecode(emitter.watch.path) for emitter in emitters if emitter.is_alive()}
        return self._watches.keys() - alive

    def _drop(self, path: str, watch: ObservedWatch) -> None:
        del self._watches[path]
        self._ended.discard(path)
        self._open.clear()  # nobody would tell when they are closed
        try:
            if self._observer is not None:
                self._observer.unschedule(watch)
        except (KeyError, OSError):
            pass  # the kernel dropped it together with the directory

    def _seen(self) -> None:
        """Called by watchdog's thread; a storm of events is one call on the loop."""
        self.last_event = time.monotonic()
        if not self._calling and self._loop is not None:
            self._calling = True
            try:
                self._loop.call_soon_threadsafe(self._awake)
            except RuntimeError:
                pass  # the loop has ended

    def _awake(self) -> None:
        self._calling = False
        self._wake()


class OpenFiles(set[str]):
    """Manifests that are being written: from the first write to the close."""

    def note(self, event: FileSystemEvent) -> None:
        """Take in one event; most are about something else."""
        kind, path, target = event.event_type, os.fsdecode(event.src_path), os.fsdecode(event.dest_path)
        if kind == "modified" and path.endswith(ENDINGS) and not event.is_directory:
            self.add(path)
        elif kind == "moved":
            self.discard(target)
            if path in self:
                self.discard(path)
                self.add(target)
        elif kind in ("closed", "deleted"):
            self.discard(path)


class _Handler(FileSystemEventHandler):
    """Leaves out what no scan would look at: below hidden directories (.git), and an editor's hidden files."""

    def __init__(self, path: str, seen: Callable[[], None], ended: set[str], opened: OpenFiles) -> None:
        self._path = path
        self._ended = ended
        self._opened = opened
        self._prefix = path.rstrip("/") + "/"
        self._seen = seen

    def dispatch(self, event: FileSystemEvent) -> None:
        if event.event_type == "deleted" and event.src_path == self._path:
            self._ended.add(self._path)
        self._opened.note(event)
        if event.event_type in EVENTS and (
            self._matters(event.src_path, event) or self._matters(event.dest_path, event)
        ):
            self._seen()

    def _matters(self, path: bytes | str, event: FileSystemEvent) -> bool:
        text = os.fsdecode(path)
        if not text:
            return False
        *folders, name = text.removeprefix(self._prefix).split("/")
        if any(folder.startswith(".") for folder in folders):
            return False
        # A link swap (`..data`) renames a hidden name; an editor's swap file is only written to.
        return not name.startswith(".") or event.event_type in ("moved", "created", "deleted")


def _identity(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return (0, 0)
    return (status.st_dev, status.st_ino)


def _close_on_exec() -> None:
    """watchdog opens inotify without CLOEXEC, and the processes we start would inherit it."""
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}") == "anon_inode:inotify":
                os.set_inheritable(int(name), False)
        except OSError:
            continue  # closed meanwhile
