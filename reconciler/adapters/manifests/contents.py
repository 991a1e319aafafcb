"""Reads manifests' bytes. Blocking: runs in a thread. Never waits for a FIFO, never reads more than a manifest has."""

import errno
import os
import stat

from reconciler.adapters.manifests.survey import MAX_BYTES
from reconciler.model.digests import blake2b


class Unreadable(Exception):
    """A file cannot be read now; the text is the reason."""


def read(path: str) -> bytes:
    """The content of a regular file of at most MAX_BYTES. Raises Unreadable, or FileNotFoundError when it is gone."""
    try:
        # What was a file when it was looked at may be a FIFO or a device by now: opening must not wait or act.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Unreadable(f"cannot be read: {os.strerror(error.errno or errno.EIO)}") from error
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise Unreadable("is not a regular file")
        content = os.read(fd, min(found.st_size, MAX_BYTES) + 1)  # room for the most would cost more than all the rest
        while content and len(content) != found.st_size and len(content) <= MAX_BYTES:
            if not (more := os.read(fd, MAX_BYTES + 1 - len(content))):
                break
            content += more
    except OSError as error:
        raise Unreadable(f"cannot be read: {os.strerror(error.errno or errno.EIO)}") from error
    finally:
        os.close(fd)
    if len(content) > MAX_BYTES:
        raise Unreadable(f"has more than {MAX_BYTES:,} bytes, the most a manifest may have")
    return content


def digest(content: bytes) -> bytes:
    """What tells whether a file that was written again also changed."""
    return blake2b(content, digest_size=16).digest()
