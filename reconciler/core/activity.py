"""Whether a process that serves a queue is in a piece of work, told from the last line of its log that says so.

    [2026-11-25 17:26:07][1010] Processing: App\\Mail\\Welcome                        Laravel up to 8
      2026-11-25 17:26:07 App\\Mail\\Welcome ............................ RUNNING     Laravel 9 and later
      2026-11-25 17:26:08 App\\Mail\\Welcome ....................... 871.45ms DONE
      2026-11-25 17:26:07 Illuminate\\Notifications\\SendQueuedNotifications  RUNNING   no room for dots
    {"level":"info","job":"App\\\\Mail\\\\Welcome","status":"starting",...}           queue:work --json

A hint for the ranking of victims, no more: an application may print what it likes. Pure.
"""

import json
import re
from collections.abc import Iterable
from typing import NamedTuple

LONGEST_LINE = 2000
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_MOMENT = r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)"
_OLD = re.compile(rf"\[{_MOMENT}\]\[[^\]]*\] (Processing|Processed|Failed):\s")
_NEW = re.compile(rf"\s*{_MOMENT} \S.* (RUNNING|DONE|FAIL)\s*")
_GAPS = (" .", "  ")  # between name and word: dots up to the width of the terminal, or no room even for one
_BEGINS = frozenset({"Processing", "RUNNING", "starting"})
_ENDS = frozenset({"Processed", "Failed", "DONE", "FAIL", "success", "failed", "released_after_exception"})


class Activity(NamedTuple):
    """What a process said last. `since`: when, by its own clock and in its own words; they compare as texts."""

    working: bool
    since: str = ""


def last_activity(newest_first: Iterable[str]) -> Activity | None:
    """What the newest line that tells anything tells. None: no line does."""
    for line in newest_first:
        told = _told(line) if len(line) <= LONGEST_LINE else None
        if told is not None:
            return told
    return None


def _told(line: str) -> Activity | None:
    said = _of_json(line) if line.startswith("{") else _of_text(_COLOUR.sub("", line))
    if said is None:
        return None
    word, since = said
    if word in _BEGINS:
        return Activity(True, since)
    return Activity(False, since) if word in _ENDS else None


def _of_text(line: str) -> tuple[str, str] | None:
    if found := _OLD.match(line):
        return found[2], found[1]
    if (found := _NEW.fullmatch(line)) and any(gap in line[found.end(1) : found.start(2)] for gap in _GAPS):
        return found[2], found[1]
    return None


def _of_json(line: str) -> tuple[str, str] | None:
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return None
    word, since = said.get("status"), said.get("timestamp")
    if not isinstance(word, str) or "job" not in said:
        return None
    return word, since if isinstance(since, str) else ""
