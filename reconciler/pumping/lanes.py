"""Streams whose logs lie on file systems that may hang: each such file system has a thread, and it is that which waits.

The pump's own thread hands over what it is told about them, tells the controller when one does not answer, and never
touches them. What processes write waits in their pipes meanwhile and is moved when it answers: nothing is lost, and
nobody else's log stands still. Standard library only.
"""

from __future__ import annotations

import os
import queue
import select
import threading
import time

from reconciler.hostmounts import SILENT, Mounts
from reconciler.pumping.console import STDERR, STDOUT
from reconciler.pumping.plumbing import Plumbing, Settings
from reconciler.pumping.streams import Streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

LOOK_SECONDS = 1.0  # how often it is asked whether lanes go on
SILENT_SECONDS = 1.0  # so long at one thing: it does not answer


class Lane:
    """The streams of one file system. `post` and `leave` never wait; `turn` does the work, in the thread."""

    def __init__(self, plumbing: Plumbing, paths: frozenset[str], tell: Callable[[str, str | None], None]) -> None:
        """`paths`: the logs that an earlier pump had on it."""
        self.is_written = True
        self.was_silent = False  # when it was looked at last
        self._plumbing, self._paths, self._tell = plumbing, paths, tell
        self._streams: Streams | None = None
        self._inbox: queue.SimpleQueue[Callable[[Streams], None]] = queue.SimpleQueue()
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._urgent, self._all = select.epoll(), select.epoll()
        for each in (self._urgent, self._all):
            each.register(self._fd, select.EPOLLIN)
        self._busy_since = 0.0  # 0: it waits for something to do
        self._leaves = False
        self._thread = threading.Thread(target=self._run, name="lane", daemon=True)

    def start(self) -> None:
        """RuntimeError when no thread is to be had."""
        self._busy_since = time.monotonic()
        self._thread.start()

    def post(self, call: Callable[[Streams], None]) -> None:
        """Have this done in its turn."""
        self._inbox.put(call)
        os.eventfd_write(self._fd, 1)

    @property
    def is_silent(self) -> bool:
        """Whether it has been waiting for its file system for long."""
        busy_since = self._busy_since
        return busy_since > 0 and time.monotonic() - busy_since > SILENT_SECONDS

    def leave(self, seconds: float) -> None:
        """Move what waits, and end."""

        def last(streams: Streams) -> None:
            streams.drain(seconds)
            self._leaves = True

        self.post(last)

    def join(self, seconds: float) -> None:
        """Wait so long for its end. One that hangs is left to the end of the process."""
        self._thread.join(seconds)

    def turn(self) -> None:
        """Wait until something is to be done, and do it."""
        if self._streams is None:
            self._streams = Streams(self._plumbing, self._tell, owns=self._paths.__contains__)
            self._all.register(self._streams.epoll.fileno(), select.EPOLLIN)
        streams, now = self._streams, time.monotonic()
        self._busy_since = 0.0
        rest = streams.rest_until - now
        if rest > 0:
            self._urgent.poll(rest)
        else:
            self._all.poll(streams.until_retry(now, -1.0))
        self._busy_since = now = time.monotonic()
        try:
            os.eventfd_read(self._fd)
        except BlockingIOError:
            pass
        while not self._inbox.empty():
            self._inbox.get()(streams)
        if streams.retry_at and now >= streams.retry_at:
            streams.retry()
        if now >= streams.rest_until:
            streams.serve(now)

    def look(self) -> None:
        """Have it noted whether somebody writes to its streams."""

        def note(streams: Streams) -> None:
            self.is_written = streams.are_written

        self.post(note)

    def _run(self) -> None:
        while not self._leaves:
            self.turn()
        assert self._streams is not None
        self._streams.close()


class Lanes:
    """All lanes of a pump. `tell(stream_id, complaint)` and `closed(stream_id)` are called by `heed` only."""

    def __init__(
        self, run_dir: str, mounts: Mounts, tell: Callable[[str, str | None], None], closed: Callable[[str], None]
    ) -> None:
        self.wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._run_dir, self._mounts, self._tell, self._closed = run_dir, mounts, tell, closed
        self._lanes: dict[str, Lane] = {}  # by mount point
        self._of: dict[str, tuple[Lane, str]] = {}  # id of a stream -> its lane, and the path of its log
        self._said: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._look_at = 0.0

    def take_over(self, plumbing: Plumbing) -> None:
        """Serve what a pump before us served there."""
        places: dict[str, dict[str, str]] = {}
        for message in plumbing.noted():
            try:
                settings = Settings(message)
            except (KeyError, TypeError, ValueError):
                continue
            if place := self._place(settings):
                places.setdefault(place, {})[settings.id] = settings.path
        for place, paths in places.items():
            if lane := self._lane(place, frozenset(paths.values())):
                self._of.update((stream_id, (lane, path)) for stream_id, path in paths.items())

    def owns(self, path: str) -> bool:
        """Whether a log there is a lane's business."""
        return bool(self._lanes) and path not in (STDOUT, STDERR) and self._mounts.place(path) in self._lanes

    def _place(self, settings: Settings) -> str:
        return "" if settings.is_for_console else self._mounts.place(settings.path)

    def _lane(self, place: str, paths: frozenset[str] = frozenset()) -> Lane | None:
        lane = self._lanes.get(place)
        if lane is None:
            lane = Lane(Plumbing(self._run_dir), paths, lambda *news: self._say(lambda: self._tell(*news)))
            try:
                lane.start()
            except RuntimeError:  # then it has to do without
                return None
            self._lanes[place] = lane
        return lane

    def _say(self, news: Callable[[], None]) -> None:
        """From the thread of a lane."""
        self._said.put(news)
        os.eventfd_write(self.wake_fd, 1)

    def heed(self) -> None:
        """Tell what lanes have said: to be called when `wake_fd` is readable."""
        os.eventfd_read(self.wake_fd)
        while not self._said.empty():
            self._said.get()()

    # ---- what the controller wants: False, or nothing, when it is none of theirs ----

    def open(self, settings: Settings) -> bool:
        """Serve this stream, if its log lies where it might hang."""
        place = self._place(settings)
        lane = self._lane(place) if place else None
        before = self._of.pop(settings.id, None)
        if before is not None and before[0] is not lane:
            before[0].post(lambda streams: streams.let_go(settings.id))
        if lane is None:
            return False
        self._of[settings.id] = lane, settings.path
        lane.post(lambda streams: streams.open(settings))
        if lane.was_silent:
            self._complain(settings.id, settings.path)
        return True

    def let_go(self, stream_id: str) -> bool:
        """It is not wanted any more; `closed` when it is gone."""
        lane, _ = self._of.pop(stream_id, (None, ""))
        if lane is None:
            return False

        def go(streams: Streams) -> None:
            streams.let_go(stream_id)
            self._say(lambda: self._closed(stream_id))

        lane.post(go)
        return True

    def mark(self, stream_id: str, run: str) -> None:
        """A run has ended. Where nobody answers that is not noted: notes would pile up."""
        lane, _ = self._of.get(stream_id, (None, ""))
        if lane is not None and not lane.is_silent:
            lane.post(lambda streams: streams.mark(stream_id, run))

    def reopen(self) -> None:
        """Somebody moved the files away."""
        for lane in self._lanes.values():
            lane.post(Streams.reopen)

    def sweep(self, wanted: set[str]) -> None:
        """There are no others than these."""
        claimed = frozenset(wanted)
        for stream_id in self._of.keys() - claimed:
            del self._of[stream_id]
        for lane in self._lanes.values():
            lane.post(lambda streams: streams.sweep(set(claimed)))

    def tell_again(self) -> None:
        """Whoever listens knows nothing yet."""
        for lane in self._lanes.values():
            lane.was_silent = False
            lane.post(Streams.tell_again)

    # ---- how they are ----

    def until_look(self, timeout_seconds: float) -> float:
        """How long may be waited, at most `timeout_seconds` (below 0: without end)."""
        if not self._lanes:
            return timeout_seconds
        return LOOK_SECONDS if timeout_seconds < 0 else min(timeout_seconds, LOOK_SECONDS)

    def look(self, now: float) -> None:
        """Say which of them got no answer for a while, and which did again."""
        if now < self._look_at:
            return
        self._look_at = now + LOOK_SECONDS
        for lane in self._lanes.values():
            if lane.is_silent is not lane.was_silent:
                lane.was_silent = not lane.was_silent
                for stream_id, (its, path) in self._of.items():
                    if its is lane and lane.was_silent:
                        self._complain(stream_id, path)
                    elif its is lane:
                        self._tell(stream_id, None)
                if not lane.was_silent:
                    lane.post(Streams.tell_again)

    def _complain(self, stream_id: str, path: str) -> None:
        self._tell(stream_id, f"cannot write {path}: {SILENT}")

    @property
    def are_written(self) -> bool:
        """Whether somebody wrote to one of their streams when it was last looked."""
        for lane in self._lanes.values():
            lane.look()
        return any(lane.is_written for lane in self._lanes.values())

    def drain(self, seconds: float) -> None:
        """Move all that waits, for at most `seconds`, and end them."""
        for lane in self._lanes.values():
            lane.leave(seconds)
        end = time.monotonic() + seconds
        for lane in self._lanes.values():
            lane.join(max(0.1, end - time.monotonic()))

    def close(self) -> None:
        """Let go of what can be: a lane that hangs may still want to say something."""
        if not self._lanes:
            os.close(self.wake_fd)
