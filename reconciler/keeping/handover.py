"""How the keeper is replaced in place: what it holds and knows goes through an exec to the code that is installed now.

The pid, the processes, the lock and all descriptors stay; only the program is another one. What is known travels in a
file in memory, as a document with a version: a keeper that cannot read it says so at a rehearsal, before anything has
happened. Nobody is asked to wait: exits and signals of that moment stay with the kernel until the new program looks.
"""

from __future__ import annotations

import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

VERSION = 1
READS = (1,)
"""The versions of documents that this code can go on from: raise VERSION with every change of what is in one."""


class Unreadable(Exception):
    """This code cannot go on from what the former keeper handed over. The text says why and what to do."""


def check(version: object) -> None:
    """Raises Unreadable unless this code goes on from documents of this version."""
    if version not in READS:
        readable = " and ".join(map(str, READS))
        raise Unreadable(
            f"the running keeper hands over version {version}, this one reads {readable}: "
            "end it with `reconciler shutdown --keep`, then start it again; processes live on"
        )


def pack(document: Mapping[str, Any]) -> int:
    """Put a document into a file in memory; its descriptor."""
    data = memoryview(json.dumps({"version": VERSION, **document}).encode())
    fd = os.memfd_create("reconciler-handover")
    try:
        while data:
            data = data[os.write(fd, data) :]
    except BaseException:
        os.close(fd)
        raise
    return fd


def unpack(fd: int) -> dict[str, Any]:
    """The document of a former keeper; the descriptor is closed. Raises Unreadable."""
    try:
        with open(fd, "rb") as file:
            file.seek(0)
            document = json.load(file)
        check(document["version"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Unreadable(f"what the former keeper left cannot be read: {error!r}") from None
    assert isinstance(document, dict)
    return document


def become(argv: Sequence[str], environment: Mapping[str, str], fds: Iterable[int]) -> None:
    """Exec `argv` with these descriptors. Comes back as an OSError only, with everything as it was."""
    inherited = list(fds)
    try:
        for fd in inherited:
            os.set_inheritable(fd, True)
        os.execve(argv[0], list(argv), environment)  # noqa: S606  # no shell is wanted
    finally:
        for fd in inherited:
            os.set_inheritable(fd, False)
