"""What else is asked of files: whether they are others than before, and where a directory really is."""

import os
import time
from typing import NamedTuple

from reconciler.hostfiles import Missing, Refused, reason

PLAIN_SECONDS = 0.05  # thousands of Programs that are built in a row share some directories
PLAIN_MOST = 1000


class Watched(NamedTuple):
    """Something whose change means: read again."""

    path: str
    link: bool = False  # where the path leads is what counts, not what is there

    def look(self) -> tuple[object, ...]:
        """How it is now, cheaply. Includes the change time: a repaired permission is a change, too."""
        try:
            if self.link:
                return (self.path, os.path.realpath(self.path), os.path.isdir(self.path))
            found = os.stat(self.path)
        except (OSError, ValueError):
            return (self.path,)
        return (self.path, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def directory(path: str) -> str:
    """Where a process starts that starts in `path`: the same, or where its links lead. Raises Refused."""
    try:
        real = os.path.realpath(path, strict=True)
        if not os.path.isdir(real):
            raise Refused("is not a directory")
    except FileNotFoundError:
        raise Missing("no such directory") from None
    except (OSError, ValueError) as error:
        raise Refused(reason(error)) from None
    return real


class Plain:
    """Tells directories to which no link leads. One that was such just now, and is still the same, is believed."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, int, int]] = {}  # until when, and which it was

    def __call__(self, path: str) -> str:
        """The directory of this name, when no link leads there; else nothing."""
        try:
            found = os.lstat(path)
        except (OSError, ValueError):
            return ""
        moment, known = time.monotonic(), self._known.get(path)
        if known is not None and moment < known[0] and known[1:] == (found.st_dev, found.st_ino):
            return os.path.normpath(path)
        try:
            real = directory(path)
        except Refused:
            return ""
        if real != os.path.normpath(path):
            return ""
        if len(self._known) >= PLAIN_MOST:
            self._known.clear()
        self._known[path] = (moment + PLAIN_SECONDS, found.st_dev, found.st_ino)
        return real
