"""Which files are in the middle of being written: they are read when their writer is done, or has been silent for long.

Half a manifest may be a valid one (`replicas: 1` of `replicas: 12`), so nothing in its content tells. What tells is
that somebody wrote to the file and has not closed it since. That may have been missed, or somebody never closes it: a
file is waited for as long as it keeps changing, and never longer than WAIT_MAX_SECONDS.
"""

import time
from collections.abc import Container
from typing import NamedTuple

from reconciler.adapters.manifests.survey import Stamp

OPEN_QUIET_SECONDS = 10.0  # so long after the last change a file is read although somebody has it open
UNWATCHED_QUIET_SECONDS = 1.0  # the same where nobody tells whether it is open
WAIT_MAX_SECONDS = 60.0
HINT_LAG_SECONDS = 0.02  # so long after a write it is certain that we heard of it


class _Waiting(NamedTuple):
    """A file that is not read yet."""

    stamp: Stamp
    since: float
    changed_at: float


class Settling:
    """Remembers what is being waited for. Times are of any clock that does not jump."""

    def __init__(self) -> None:
        self._waiting: dict[str, _Waiting] = {}

    def is_settled(self, path: str, stamp: Stamp, moment: float, quiet_seconds: float) -> bool:
        """Whether this file may be read; `quiet_seconds` without a change make up for not knowing."""
        waiting = self._waiting.get(path, _Waiting(stamp, moment, moment))
        if waiting.stamp != stamp:
            waiting = waiting._replace(stamp=stamp, changed_at=moment)
        if moment - waiting.changed_at >= quiet_seconds or moment - waiting.since >= WAIT_MAX_SECONDS:
            self._waiting.pop(path, None)
            return True
        self._waiting[path] = waiting
        return False

    def keep_only(self, paths: Container[str]) -> None:
        """Others are gone: a file of that name that comes later is another one."""
        for path in [path for path in self._waiting if path not in paths]:
            del self._waiting[path]

    def __bool__(self) -> bool:
        """Whether anything is waited for."""
        return bool(self._waiting)


def is_young(stamp: Stamp) -> bool:
    """Whether a file was written so recently that we may not have heard of it. Asks the clock that stamps are of."""
    age = time.clock_gettime_ns(time.CLOCK_REALTIME) - stamp[0]
    return 0 <= age < HINT_LAG_SECONDS * 1e9
