"""Careful reading of the host's files: regular ones only, bounded, without ever blocking, and not through somebody
else's link.

The controller often is root and reads for processes that are not. A user who can put a link where an environment file
is expected could have root read /etc/shadow for them: so a link that belongs to somebody else is followed only to a
file that the process could have read itself.
"""

import os
import stat
from collections.abc import Iterator

from reconciler.model.launch import Credentials

_MOST_LINKS = 40  # as the kernel


class Refused(Exception):
    """The host does not have, or will not give, what a spec names. The text says so in plain words."""


class Missing(Refused):
    """There is nothing by that name."""


def reason(error: OSError | ValueError) -> str:
    """Why the kernel refused, as a shell would put it."""
    return (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)


def content(path: str, limit_bytes: int, reader: Credentials | None) -> bytes:
    """The whole of a file, read on behalf of a process with these ids. Raises Refused; Missing when it is not there."""
    if not path.startswith("/"):
        raise Refused("is not an absolute path, and $(NAME) is not expanded here")
    try:
        # Asked before it is opened as well: opening alone can have effects on a device.
        _regular(path, os.stat(path))
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except FileNotFoundError:
        raise Missing("no such file") from None
    except (OSError, ValueError) as error:
        raise Refused(reason(error)) from None
    try:
        found = os.fstat(descriptor)
        _regular(path, found)
        if reader:
            _allowed(path, descriptor, found, reader)
        return _whole(descriptor, limit_bytes)
    except OSError as error:
        raise Refused(reason(error)) from None
    finally:
        os.close(descriptor)


def _regular(path: str, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise Refused("is a directory" if stat.S_ISDIR(found.st_mode) else "is not a regular file")


def _whole(descriptor: int, limit_bytes: int) -> bytes:
    parts = []
    left = limit_bytes + 1
    while left > 0 and (part := os.read(descriptor, left)):
        parts.append(part)
        left -= len(part)
    if left <= 0:
        raise Refused(f"is larger than {limit_bytes // 1024} KiB")
    return b"".join(parts)


def _allowed(path: str, descriptor: int, found: os.stat_result, reader: Credentials) -> None:
    """Refuse a way that somebody else laid to a file which the reader could not have opened."""
    trusted = {0, os.geteuid()}
    place = os.readlink(f"/proc/self/fd/{descriptor}")
    strangers = {owner for owner in _link_owners(path) if owner not in trusted}
    # Somebody may turn the link around between the opening and this question: then the two places differ.
    if not strangers and os.path.realpath(path) == place:
        return
    if not _may_read(place, found, reader):
        raise Refused("leads through a link of another user to a file that the process may not read")


def _link_owners(path: str) -> Iterator[int]:
    """Who owns the links that a path passes through."""
    parts = list(reversed(path.split("/")))
    place = "/"
    links = 0
    while parts and links <= _MOST_LINKS:
        part = parts.pop()
        if part in {"", "."}:
            continue
        step = os.path.dirname(place) if part == ".." else os.path.join(place, part)
        found = os.lstat(step)
        if not stat.S_ISLNK(found.st_mode):
            place = step
            continue
        yield found.st_uid
        links += 1
        target = os.readlink(step)
        parts += reversed(target.split("/"))
        if target.startswith("/"):
            place = "/"


def _may_read(place: str, found: os.stat_result, reader: Credentials) -> bool:
    """By the mode bits alone; access lists are not looked at, which errs on the side of refusing."""
    if not _has(found, reader, 4):
        return False
    while (place := os.path.dirname(place)) != "/":
        if not _has(os.stat(place), reader, 1):
            return False
    return True


def _has(found: os.stat_result, reader: Credentials, bit: int) -> bool:
    if reader.uid == 0:
        return True
    if found.st_uid == reader.uid:
        return bool(found.st_mode >> 6 & bit)
    if found.st_gid == reader.gid or found.st_gid in reader.groups:
        return bool(found.st_mode >> 3 & bit)
    return bool(found.st_mode & bit)
