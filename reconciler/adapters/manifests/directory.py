"""One home on disk: keeps a Scan of it up to date and hands each new one on.

Flow: something wakes it (a hint from Watch, its own timer, somebody asking) -> survey by stat -> only files with a
new stamp whose writers are done are read -> only those with new content are parsed -> a new Scan, if anything differs.
It does not judge: who owns what, and whether a loss is believed, is decided in core/homes.py; it only says `tentative`
while names have just vanished, because git and editors delete first and create then.
"""

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import NamedTuple

from reconciler.adapters.manifests.bulk import Bulk, Source, batched, is_little
from reconciler.adapters.manifests.contents import Unreadable, digest, read
from reconciler.adapters.manifests.settling import (
    HINT_LAG_SECONDS,
    OPEN_QUIET_SECONDS,
    UNWATCHED_QUIET_SECONDS,
    Settling,
    is_young,
)
from reconciler.adapters.manifests.survey import Stamp, Survey, stamp_of, survey
from reconciler.adapters.manifests.watch import Watch
from reconciler.model.identity import Key
from reconciler.model.objects import DIRECTORY, FileReading, Parse, Scan
from reconciler.model.problems import Problem

QUIET_SECONDS = 0.05  # a burst of events is over
BURST_MAX_SECONDS = 1.0  # but under constant change nobody waits longer
LOSS_QUIET_SECONDS = 2.0  # names are believed gone when no others have vanished for so long
LOSS_MAX_SECONDS = 30.0
SETTLED_SECONDS = 0.1  # a stamp is trusted when it was still the same so long after the file was read
READS_MAX = 3  # of one file in one look, while its stamp moves on
RESCAN_MIN_SECONDS, RESCAN_MAX_SECONDS = 2.0, 60.0
RESCAN_COST_SHARE = 10_000  # surveys take at most this part of a core; ten times as much while nothing can be watched

_log = logging.getLogger(__name__)


class _Known(NamedTuple):
    """What is known of one file."""

    stamp: Stamp | None  # None: not to be trusted, read it again
    digest: bytes
    reading: FileReading
    read_at: float
    confirmed: bool  # read again after its stamp had settled: within a tick of the clock, two writes look like one


class ManifestDirectory:
    """Watches one home (a directory, or a single file) and delivers a Scan whenever what it declares changes."""

    def __init__(
        self,
        root: str,
        parse: Parse,
        bulk: Bulk | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.root = os.path.abspath(root)
        self.home = DIRECTORY + self.root
        self.scan: Scan | None = None
        self._deliver: Callable[[Scan], Awaitable[None]] | None = None
        self._parse = parse
        self._bulk = bulk or Bulk(parse)
        self._now = now
        self._known: dict[str, _Known] = {}
        self._names: dict[str, frozenset[Key]] = {}  # by file: what it declares, or did before it broke
        self._lost = False  # names vanished during this look
        self._unconfirmed = False
        self._settling = Settling()
        self._first_loss_at = self._last_loss_at = float("-inf")
        self._next_rescan_seconds = RESCAN_MIN_SECONDS
        self._woken = asyncio.Event()
        self._watch = Watch(self.root, self._woken.set)
        self._is_watching = False
        self._reading = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._looks: set[asyncio.Task[Scan]] = set()

    async def start(self, deliver: Callable[[Scan], Awaitable[None]], *, watch: bool = True) -> None:
        """Read everything, deliver it, and (`watch`) do so again whenever it changes."""
        self._deliver, self._is_watching = deliver, watch
        await self.rescan()
        if watch:
            self._task = asyncio.create_task(self._keep_up(), name=f"watch {self.root}")

    async def close(self) -> None:
        """Stop watching."""
        if self._task is not None:
            self._task.cancel()
        await asyncio.gather(*([self._task] if self._task else []), *self._looks, return_exceptions=True)
        await asyncio.to_thread(self._watch.close)

    async def rescan(self, *, settled: bool = False) -> Scan:
        """Look now, and deliver what differs. `settled`: somebody says that what is gone is meant to be gone."""
        # Who asks may hang up; a look that was begun is finished, or its result would be known and never delivered.
        task = asyncio.get_running_loop().create_task(self._look(settled=settled))
        self._looks.add(task)
        task.add_done_callback(self._looks.discard)
        return await asyncio.shield(task)

    async def _look(self, *, settled: bool) -> Scan:
        async with self._reading:
            found, cost_seconds = await asyncio.to_thread(_timed_survey, self.root)
            if self._is_watching:
                loop = asyncio.get_running_loop()
                if await asyncio.to_thread(self._watch.cover, loop, found.root_identity, found.link_targets):
                    self._woken.set()  # what happened before the watches stood is found by looking again
            share = RESCAN_COST_SHARE / 10 if self._watch.trouble else RESCAN_COST_SHARE
            self._next_rescan_seconds = min(max(RESCAN_MIN_SECONDS, share * cost_seconds), RESCAN_MAX_SECONDS)
            if found.present and not found.error:
                await self._take_in(found)
            scan = self._as_scan(found, settled=settled)
            if scan != self.scan:
                if self._deliver is not None:
                    await self._deliver(scan)
                self.scan = scan
            return scan

    # when to look

    async def _keep_up(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._wait_seconds()):
                    await self._woken.wait()
            except TimeoutError:
                pass
            else:
                await self._burst_over()
            self._woken.clear()
            try:
                await self.rescan()
            except Exception:
                # Watching must outlive whatever is wrong with one look; the timer tries again.
                _log.exception("reading %s failed", self.root)

    def _wait_seconds(self) -> float:
        if self.scan is not None and self.scan.tentative:
            return min(LOSS_QUIET_SECONDS, self._next_rescan_seconds)
        return RESCAN_MIN_SECONDS if self._unconfirmed or self._settling else self._next_rescan_seconds

    async def _burst_over(self) -> None:
        began = time.monotonic()
        while True:
            moment = time.monotonic()
            wait = min(self._watch.last_event + QUIET_SECONDS, began + BURST_MAX_SECONDS) - moment
            if wait <= 0:
                return
            await asyncio.sleep(wait)

    # what is there

    async def _take_in(self, found: Survey) -> None:
        """Read what has a new stamp, parse what has new content, note what is gone."""
        moment = self._now()
        changed = [path for path, stamp in found.files.items() if self._is_to_be_read(path, stamp, moment)]
        if self._is_watching and any(is_young(found.files[path]) for path in changed):
            await asyncio.sleep(HINT_LAG_SECONDS)
        self._settling.keep_only(found.files)
        changed = [path for path in changed if self._is_settled(path, found.files[path], moment)]
        size = sum(found.files[path][3] for path in changed)
        sources = self._sources(found, changed)
        if is_little(len(changed), size):
            for source, reading in await asyncio.to_thread(lambda: [(each, self._parse(*each)) for each in sources]):
                self._note(found, source, reading)
        else:
            await self._bulk.parse(batched(sources), lambda source, reading: self._note(found, source, reading))
        for path, problem in found.problems.items():
            if path not in found.unreadable:
                self._know(path, _Known(None, b"", FileReading((), (problem,)), moment, confirmed=True))
        for path in [path for path in self._known if path not in found.files and path not in found.problems]:
            if not _below(path, found.unreadable):
                del self._known[path]
                self._lost |= bool(self._names.pop(path, None))
        # Before the first look nothing is known: a controller that starts during a checkout must not believe it.
        if self._lost or self.scan is None:
            if moment - self._last_loss_at > LOSS_QUIET_SECONDS:
                self._first_loss_at = moment
            self._last_loss_at = moment
        self._lost = False
        self._unconfirmed = any(not known.confirmed for known in self._known.values())

    def _is_to_be_read(self, path: str, stamp: Stamp, moment: float) -> bool:
        known = self._known.get(path)
        if known is None or known.stamp != stamp:
            return True
        return not known.confirmed and moment - known.read_at >= SETTLED_SECONDS

    def _is_settled(self, path: str, stamp: Stamp, moment: float) -> bool:
        quiet_seconds = 0.0
        if self._watch.is_open(path):
            quiet_seconds = OPEN_QUIET_SECONDS
        elif self._watch.trouble and self.scan is not None:
            quiet_seconds = UNWATCHED_QUIET_SECONDS
        return self._settling.is_settled(path, stamp, moment, quiet_seconds)

    def _sources(self, found: Survey, paths: Sequence[str]) -> Iterator[Source]:
        """The contents that have to be parsed. Runs in a thread, one step at a time."""
        for path in paths:
            known = self._known.get(path)
            try:
                content = self._read_whole(found, path)
            except FileNotFoundError:
                found.files.pop(path, None)  # gone since it was seen
                continue
            except Unreadable as error:
                reading = FileReading((), (Problem(path, 0, 1, "", str(error)),))
                self._know(path, _Known(None, b"", reading, self._now(), confirmed=True))
                continue
            if content is None:
                continue
            if known is not None and known.digest == digest(content):
                same_stamp = known.stamp == found.files[path]
                self._known[path] = known._replace(stamp=found.files[path], read_at=self._now(), confirmed=same_stamp)
                continue
            yield Source(content, path, os.path.dirname(path))

    def _read_whole(self, found: Survey, path: str) -> bytes | None:
        """The content; None when somebody has just begun to write another one, of which we shall hear."""
        for _ in range(READS_MAX):
            content = read(path)
            stamp = stamp_of(path)
            if stamp in (None, found.files[path]):
                break
            # Written since it was looked at: what was read may be neither the old content nor the new one.
            found.files[path] = stamp
            time.sleep(HINT_LAG_SECONDS)
            if self._watch.is_open(path):
                return None
        return content

    def _note(self, found: Survey, source: Source, reading: FileReading) -> None:
        path = source.file
        self._know(path, _Known(found.files[path], digest(source.content), reading, self._now(), confirmed=False))

    def _know(self, path: str, known: _Known) -> None:
        """Replace what is known of a file, and notice when names vanish from it."""
        names = frozenset(Key(declared.kind, declared.name) for declared in known.reading.manifests)
        before = self._names.get(path, frozenset())
        if known.reading.broken:
            names |= before  # what it declared may still be meant; it is lost only once it can be read again
        self._lost |= bool(before - names)
        self._names[path] = names
        self._known[path] = known

    def _as_scan(self, found: Survey, *, settled: bool) -> Scan:
        moment = self._now()
        if settled:
            self._last_loss_at = self._first_loss_at = float("-inf")
        elif not found.present and (self.scan is None or self.scan.present):
            self._first_loss_at = self._last_loss_at = moment
        tentative = moment - self._last_loss_at < LOSS_QUIET_SECONDS and moment - self._first_loss_at < LOSS_MAX_SECONDS
        problems = [found.problems[path] for path in sorted(found.unreadable)]
        if self._watch.trouble:
            problems.append(Problem(self.root, 0, 1, "", self._watch.trouble, severity="warning"))
        return Scan(
            home=self.home,
            files=self._readings() if found.present and not found.error else {},
            present=found.present,
            error=found.error,
            unreadable=frozenset(found.unreadable),
            tentative=tentative,
            problems=tuple(problems),
        )

    def _readings(self) -> dict[str, FileReading]:
        return {path: self._known[path].reading for path in sorted(self._known)}


def _timed_survey(root: str) -> tuple[Survey, float]:
    began = time.thread_time()
    return survey(root), time.thread_time() - began


def _below(path: str, folders: set[str]) -> bool:
    return bool(folders) and any(path.startswith(folder + "/") for folder in folders)
