"""The `beanstalkd` trigger: statistics of a tube, and the age of what comes next, by the few commands that takes.

Nothing is ever reserved: that would count as an attempt. To look at the next one needs `use`, which would make a tube
and keep it: so it is used only while it has something ready, and let go in the same breath.
"""

import socket
from collections.abc import Iterable
from typing import NamedTuple

from reconciler.adapters.queues import opening
from reconciler.adapters.queues.connections import Hold, Kept, Lost, dial
from reconciler.adapters.queues.polling import Polled
from reconciler.adapters.queues.readings import combined
from reconciler.adapters.queues.urls import Url
from reconciler.model.metadata import Beanstalkd
from reconciler.model.queues import QueueReadFailed, QueueReading
from reconciler.ports import QueueAsked

DEFAULT_PORT = 11300
_LINE_BYTES = 1024
_LONGEST_BODY = 64 << 20
_COUNTS = tuple(f"current-jobs-{state}" for state in ("ready", "reserved", "delayed", "buried"))


class _Reply(NamedTuple):
    words: list[str]
    body: bytes


class Talk:
    """One connection. Raises OSError and Lost."""

    def __init__(self, connected: socket.socket, what: str) -> None:
        self._socket = connected
        self._replies = connected.makefile("rb")
        self._what = what

    def say(self, *commands: str) -> list[_Reply]:
        """The replies to some commands, in one round trip."""
        self._socket.sendall("".join(f"{command}\r\n" for command in commands).encode())
        return [self._reply() for _ in commands]

    def statistics(self, command: str, needed: Iterable[str] = ()) -> dict[str, int] | None:
        """The numbers of `stats-tube NAME` and the like, the needed ones among them; None: there is no such thing."""
        (reply,) = self.say(command)
        if reply.words[0] == "NOT_FOUND":
            return None
        if reply.words[0] != "OK":
            raise QueueReadFailed("ServerError", f"{self._what}: {' '.join(reply.words)}")
        pairs = (line.partition(": ") for line in reply.body.decode(errors="replace").splitlines())
        found = {name: int(value) for name, _, value in pairs if value.isdigit()}
        missing = [name for name in needed if name not in found]
        if missing:
            raise Lost("ServerError", f"{self._what} does not answer as a beanstalkd does: {missing[0]} is missing")
        return found

    def close(self) -> None:
        """Let it go."""
        try:
            self._replies.close()
        finally:
            self._socket.close()

    def _reply(self) -> _Reply:
        line = self._replies.readline(_LINE_BYTES)
        words = line.decode(errors="replace").split()
        if not line.endswith(b"\n") or not words:
            if len(line) < _LINE_BYTES:
                raise Lost("ConnectionRefused", f"{self._what} closed the connection")
            raise self._garbled(line)
        if words[0] not in {"OK", "FOUND", "USING", "NOT_FOUND"}:
            raise self._garbled(line)
        if words[0] not in {"OK", "FOUND"}:
            return _Reply(words, b"")
        if not words[-1].isdigit() or int(words[-1]) > _LONGEST_BODY:
            raise self._garbled(line)
        length = int(words[-1])
        body = self._replies.read(length + 2)
        if len(body) < length + 2:
            raise Lost("ConnectionRefused", f"{self._what} closed the connection")
        return _Reply(words, body[:-2])

    def _garbled(self, line: bytes) -> Lost:
        return Lost("ServerError", f"{self._what} does not answer as a beanstalkd does: {line[:40]!r}")


class BeanstalkdReader(Polled):
    """Implements ports.QueueReader for one tube, or several as one queue. To wait one had to take something."""

    def __init__(self, url: str, tubes: tuple[str, ...]) -> None:
        """Raises QueueReadFailed(BadMetadata)."""
        self._url = Url(url, ("beanstalk", "beanstalkd", "tcp"), DEFAULT_PORT)
        self._tubes = tubes
        self._what = f"beanstalkd at {self._url.place}"
        self._kept = Kept(self._what, self._connect)

    def read(self) -> QueueReading:
        """Look once."""
        return self._kept.call(lambda talk: combined([tube_reading(talk, tube) for tube in self._tubes]))

    def close(self) -> None:
        """Let the connection go."""
        self._kept.close()

    def _connect(self, hold: Hold) -> Talk:
        return Talk(dial(self._url.host, self._url.port, hold), self._what)


def tube_reading(talk: Talk, tube: str) -> QueueReading:
    """What waits in one tube. A tube that does not exist is empty: they come and go."""
    found = talk.statistics(f"stats-tube {tube}", _COUNTS)
    if found is None:
        return QueueReading(0, reserved=0, delayed=0, found=f"tube {tube}: empty")
    ready, reserved, delayed, buried = (found[name] for name in _COUNTS)
    text = f"tube {tube}: {ready} ready, {reserved} reserved, {delayed} delayed, {buried} buried"
    paused = found.get("pause-time-left", 0)
    if paused:  # nothing can be taken before that is over
        text += f", paused for {paused} s"
    age = _next(talk, tube, "peek-ready", "age") if ready and not paused else None
    comes = _next(talk, tube, "peek-delayed", "time-left") if delayed else None
    if paused and ready:
        comes = paused
    return QueueReading(
        waiting=0 if paused else ready,
        reserved=reserved,
        delayed=delayed + ready if paused else delayed,
        oldest_seconds=age,
        next_due_seconds=comes,
        arrived=found.get("total-jobs"),
        completed=found.get("cmd-delete"),
        found=text,
    )


def _next(talk: Talk, tube: str, peek: str, wanted: str) -> float | None:
    """One number of what comes next in a tube; None when it has gone meanwhile."""
    _, next_one, _ = talk.say(f"use {tube}", peek, "use default")
    if next_one.words[0] != "FOUND" or len(next_one.words) != 3:
        return None
    found = talk.statistics(f"stats-job {next_one.words[1]}")
    return None if found is None else found.get(wanted)


class _Driver:
    polling_seconds = 0.2

    def open(self, asked: QueueAsked) -> BeanstalkdReader:
        """Make a reader."""
        settings = opening.settings(asked, Beanstalkd)
        return BeanstalkdReader(settings.url, (settings.tube,))


DRIVER = _Driver()
