"""What was accepted or applied at once is on disk as one file; here it gets files of its own, while nobody waits.

Runs in a thread, in portions, under the lock that whoever accepts holds: a portion is soon over. It decides nothing,
and nothing depends on when it is done.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from reconciler.model.objects import StateWriteFailed

PORTION = 50  # objects: 2 ms to 20 ms, as the file system is
PAUSE_SECONDS = 0.02
BUSY_SECONDS = 30.0  # so long others go first
LOOK_SECONDS = 0.1  # while they do
REFUSED_SECONDS = 5.0

log = logging.getLogger(__name__)


class BatchStore(Protocol):
    """Where such files are."""

    @property
    def has_unsettled(self) -> bool: ...
    def settle(self, most: int) -> bool: ...


class Tidying:
    """Works on what one store has of that, as long as there is any. `is_busy`: others go first."""

    def __init__(self, store: BatchStore, lock: asyncio.Lock, is_busy: Callable[[], bool] = lambda: False) -> None:
        self._store, self._lock, self.is_busy = store, lock, is_busy
        self._task: asyncio.Task[None] | None = None
        self.holds_lock = False
        self._closed = False

    def begin(self) -> None:
        """There may be something to do. Under the lock, or before anything else uses the store."""
        if self._store.has_unsettled and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._run(), name="tidy batches")

    async def close(self) -> None:
        """Leave the rest to the next controller."""
        self._closed = True
        if self._task is not None:
            if not self.holds_lock:  # a portion that was begun is done first: nobody else may write meanwhile
                self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        patient_until = asyncio.get_running_loop().time() + BUSY_SECONDS
        more, refused = True, ""
        while more and not self._closed:
            await self._wait_for_quiet(patient_until)
            async with self._lock:
                self.holds_lock = True
                try:
                    more = await asyncio.to_thread(self._store.settle, PORTION)
                    refused = ""
                except StateWriteFailed as error:
                    if refused != str(error):
                        log.warning("what came at once has no files of its own yet: %s", error)
                    refused = str(error)
                finally:
                    self.holds_lock = False
            if refused and not self._closed:
                await asyncio.sleep(REFUSED_SECONDS)

    async def _wait_for_quiet(self, patient_until: float) -> None:
        await asyncio.sleep(PAUSE_SECONDS)
        while self.is_busy() and asyncio.get_running_loop().time() < patient_until:
            await asyncio.sleep(LOOK_SECONDS)
