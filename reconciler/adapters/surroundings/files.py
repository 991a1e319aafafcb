"""What else is asked of files: whether they are others than before, and where a directory really is."""

import os
from typing import NamedTuple

from reconciler.hostfiles import Missing, Refused, reason


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
