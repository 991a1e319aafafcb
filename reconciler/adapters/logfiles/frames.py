"""Recognises the frames that the pump puts around lines (pumping/framing.py), and chooses lines by what these say."""

import json
import re
from typing import NamedTuple

_TIME = rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)"
_PREFIX = re.compile(_TIME + rb" [a-z0-9.-]+/(\d+) (out|err) [|+] ")
_JSON = re.compile(rb'\{"time":"' + _TIME + rb'","program":"[a-z0-9.-]+","replica":(\d+),"stream":"(out|err)",')

Whose = tuple[int, str]
"""Ordinal and stream."""


class Frame(NamedTuple):
    """What stands before the text. Times of one form: they compare as bytes."""

    time: bytes
    whose: Whose


def frame(line: bytes) -> Frame | None:
    """The frame of this line; None when it has none."""
    match = (_JSON if line[:1] == b"{" else _PREFIX).match(line)
    return Frame(match[1], (int(match[2]), match[3].decode())) if match else None


def text(line: bytes) -> str:
    """What was printed, of a line with a frame or without one."""
    if line[:1] == b"{" and _JSON.match(line):
        try:
            return str(json.loads(line)["message"])
        except (ValueError, LookupError):
            pass  # the end of it is missing
    match = _PREFIX.match(line)
    return (line[match.end() :] if match else line).decode(errors="replace")


class Choice(NamedTuple):
    """Which framed lines are wanted. Of others nobody can tell: they are, unless they are to be of somebody's."""

    whose: frozenset[Whose] | None = None  # None: everybody's
    since: bytes = b""  # a time as in a Frame

    def takes(self, line: bytes) -> bool:
        """Whether this line is wanted."""
        found = frame(line)
        if found is None:
            return self.whose is None
        return (self.whose is None or found.whose in self.whose) and found.time >= self.since
