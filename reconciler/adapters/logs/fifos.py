"""The FIFOs that processes print into: made for their user, held by the keeper, each with a note for the pump."""

import asyncio
import json
import os
import shutil
import stat
from collections.abc import Callable
from typing import Any

HELD_SECONDS = 5.0  # a keeper of before `sync` does not say that it holds a FIFO; by then it does
NOTE = ".to"
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
_HOLD = os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


class Holder:
    """Has the keeper hold FIFOs, and holds each itself until it does.

    A process may print and end before keeper or pump have come to open its FIFO: what nobody has open is gone.
    """

    def __init__(self, hold: Callable[[str], None], sync: Callable[[Callable[[], None]], None]) -> None:
        """`hold` tells the keeper to, `sync` asks it to say when it has done all that it was told."""
        self._hold = hold
        self._sync = sync
        self._held: list[int] = []
        self._asked_about: list[int] | None = None  # those about which it was asked

    def hold(self, fifo: str) -> None:
        """Use it inside a running event loop."""
        self._hold(fifo)
        try:
            self._held.append(os.open(fifo, _HOLD))
        except OSError:  # out of descriptors: then as it is
            return
        if self._asked_about is None:
            self._ask()

    def _ask(self) -> None:
        """One question at a time: what is to be held meanwhile comes with the next."""
        held, self._held = self._held, []
        self._asked_about = held
        # It may be a keeper that does not know the question.
        timer = asyncio.get_running_loop().call_later(HELD_SECONDS, lambda: self._let_go(held))

        def answered() -> None:
            timer.cancel()
            self._let_go(held)

        self._sync(answered)

    def _let_go(self, fds: list[int]) -> None:
        while fds:
            os.close(fds.pop())
        if self._asked_about is fds:
            self._asked_about = None
            if self._held:
                self._ask()

    def close(self) -> None:
        """Hold nothing any more."""
        for fds in (self._held, self._asked_about or []):
            while fds:
                os.close(fds.pop())


def make_fifo(path: str, owner: tuple[int, int] | None) -> bool:
    """See to it that a FIFO of this owner is at `path`. Whether it is a new one: what waits in an old one is kept."""
    uid, gid = owner or (os.geteuid(), os.getegid())
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        made = True
    else:
        made = not stat.S_ISFIFO(found.st_mode)
        if not made and (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (uid, gid, 0o600):
            return False
        if stat.S_ISDIR(found.st_mode):
            shutil.rmtree(path)
        elif made:
            os.unlink(path)
    if made:
        os.mkfifo(path, 0o600)
    os.chmod(path, 0o600)
    os.chown(path, uid, gid)
    return made


def note_of(fifo: str) -> str:
    """The file that says what a FIFO is for: a pump that starts serves it at once, with or without a controller."""
    return fifo + NOTE


def write_note(fifo: str, message: dict[str, Any]) -> None:
    """Leave the message that opens it for a pump that starts. A help: without it the pump waits for a controller."""
    try:
        with open(os.open(note_of(fifo), _WRITE, 0o600), "w", encoding="utf-8") as file:
            file.write(json.dumps(message))  # `dump` is the slow one, and leaves circles to the collector
    except OSError:
        pass


def id_of(fifo: str) -> str:
    """The id of the stream whose FIFO this is, from its note or else from its name."""
    try:
        with open(note_of(fifo), encoding="utf-8") as file:
            return str(json.load(file)["id"])
    except (OSError, ValueError, LookupError, TypeError):
        return "/".join(os.path.basename(fifo).rsplit("-", 2))


def files_in(directory: str) -> list[str]:
    """All files below it."""
    return [os.path.join(folder, name) for folder, _, names in os.walk(directory) for name in names]
