"""Whether a process that serves a queue is in a piece of work, told from the last line of its log that says so.

    [2026-11-25 17:26:07][1010] Processing: App\\Mail\\Welcome                        Laravel up to 8
      2026-11-25 17:26:07 App\\Mail\\Welcome ............................ RUNNING     Laravel 9 and later
      2026-11-25 17:26:08 App\\Mail\\Welcome ....................... 871.45ms DONE
    {"level":"info","job":"App\\\\Mail\\\\Welcome","status":"starting",...}           queue:work --json

A hint for the ranking of victims, no more: an application may print what it likes. Pure.
"""

import json
import re
from collections.abc import Iterable

LONGEST_LINE = 2000
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_MOMENT = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
_OLD = re.compile(rf"\[{_MOMENT}\]\[[^\]]*\] (Processing|Processed|Failed):\s")
_NEW = re.compile(rf"\s*{_MOMENT} \S.* \.* ?(?:[0-9.]+ ?(?:ms|s|m|h)[0-9ms ]* )?(RUNNING|DONE|FAIL)\s*")
_BEGINS = frozenset({"Processing", "RUNNING", "starting"})
_ENDS = frozenset({"Processed", "Failed", "DONE", "FAIL", "success", "failed", "released_after_exception"})


def is_working(lines: Iterable[str]) -> bool | None:
    """Whether the process has begun a piece of work and not finished it; `lines` in order. None: no line tells."""
    found: bool | None = None
    for line in lines:
        told = _told(line)
        found = found if told is None else told
    return found


def _told(line: str) -> bool | None:
    word = _word(_COLOUR.sub("", line)) if len(line) <= LONGEST_LINE else None
    if word in _BEGINS:
        return True
    return False if word in _ENDS else None


def _word(line: str) -> str | None:
    if line.startswith("{"):
        try:
            said = json.loads(line)
        except (ValueError, RecursionError):
            return None
        status = said.get("status")
        return status if isinstance(status, str) and "job" in said else None
    found = _OLD.match(line) or _NEW.fullmatch(line)
    return found[1] if found else None
