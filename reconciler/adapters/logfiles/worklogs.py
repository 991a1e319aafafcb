"""Looks at the ends of logs for what processes do: whether they are in a piece of work.

In a thread of its own for each look, since a disk may hang, and one that ends with the process whatever it waits for.
"""

import logging
import os
import stat
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

from reconciler import folders
from reconciler.adapters.logfiles.frames import frame, text
from reconciler.adapters.logfiles.indexes import last_end
from reconciler.core.activity import Activity, last_activity
from reconciler.ports import WorkLog

END_BYTES = 32 << 10  # of each log; what lies further back tells of no present work, or of a very talkative process
SHARED_END_BYTES = 256 << 10  # of a log in which several write
MOST_BYTES = 4 << 20  # of all logs together: of whom it is not enough for, nothing is known
MOST_AT_ONCE = 16  # looks; those that hang among them
OUT = "out"

log = logging.getLogger("reconciler")


class WorkLogThreads:
    """Implements ports.WorkLogs."""

    def __init__(self, call_in_loop: Callable[[Callable[[], None]], object]) -> None:
        self._call_in_loop = call_in_loop
        self._under_way = 0  # counted in the loop only

    def look(self, logs: Sequence[WorkLog], told: Callable[[Mapping[int, Activity]], None]) -> None:
        """Begin a look; where there are too many already, it finds nothing."""

        def over(found: Mapping[int, Activity]) -> None:
            self._under_way -= 1
            told(found)

        self._under_way += 1
        thread = threading.Thread(target=self._look, args=(logs, over), name="work logs", daemon=True)
        try:
            if self._under_way <= MOST_AT_ONCE:
                thread.start()
                return
        except RuntimeError:
            pass  # the host has no room for another
        self._call_in_loop(lambda: over({}))

    def _look(self, logs: Sequence[WorkLog], over: Callable[[Mapping[int, Activity]], None]) -> None:
        found: Mapping[int, Activity] = {}
        try:
            found = activities(logs)
        except Exception:  # a hint that fails is no hint
            log.exception("what processes do cannot be told from their logs")
        try:
            self._call_in_loop(lambda: over(found))
        except RuntimeError:
            pass  # the loop is gone


def activities(logs: Sequence[WorkLog]) -> Mapping[int, Activity]:
    """What each ordinal does, of those whose logs tell."""
    found: dict[int, Activity] = {}
    left = MOST_BYTES
    ends: dict[str, tuple[int, bytes]] = {}  # of shared logs, which are read once
    for each in logs:
        if each.path not in ends:
            most = SHARED_END_BYTES if each.shared else END_BYTES
            ends[each.path] = at, data = _end(each.path, min(most, left))
            left -= len(data)
        at, data = ends[each.path]
        activity = last_activity(_newest_first(each, at, data))
        if activity is not None:
            found[each.ordinal] = activity
    return found


def _newest_first(log_: WorkLog, at: int, data: bytes) -> Iterator[str]:
    """The lines of the present run of one process, in `data` from offset `at` of its log on."""
    whose = (log_.ordinal, OUT)
    begin = last_end(log_.path, f"{log_.ordinal}/{OUT}" if log_.shared else "") - at
    end = len(data)
    while end > max(begin, 0):
        start = data.rfind(b"\n", 0, end) + 1
        line, end = data[start:end], start - 1
        if start < begin or (start == 0 and at > 0):
            return  # of an earlier run, or the rest of a line
        if log_.shared and ((found := frame(line)) is None or found.whose != whose):
            continue
        yield text(line)


def _end(path: str, most: int) -> tuple[int, bytes]:
    """The last bytes of the open file, and where they begin. Nothing where it cannot be read."""
    try:
        fd = folders.open_file(path, os.O_RDONLY)
    except OSError:
        return 0, b""
    try:
        status = os.fstat(fd)
        at = max(status.st_size - most, 0)
        return at, os.pread(fd, most, at) if stat.S_ISREG(status.st_mode) else b""
    except OSError:
        return 0, b""
    finally:
        os.close(fd)
