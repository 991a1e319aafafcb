"""How all that lives in redis is looked at.

A kind of queue (redis.py, celery.py, ...) only says which commands to send and what the replies mean. Looking takes
nothing: no pop, no KEYS, no script. Waiting uses BLMOVE of a list onto itself: while the list is empty it blocks, and
when something comes it moves the head to where it was. Who waits has a reader of its own for that.
"""

import ssl
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from reconciler.adapters.queues import opening
from reconciler.adapters.queues.connections import Kept
from reconciler.adapters.queues.limits import CALL_SECONDS, SOCKET_SECONDS
from reconciler.adapters.queues.readings import wall_seconds
from reconciler.adapters.queues.resp import Argument, ErrorReply, Place, Resp
from reconciler.model.metadata import RedisServer
from reconciler.model.queues import QueueReadFailed, QueueReading
from reconciler.ports import QueueAsked

POLLING_SECONDS = 0.2

S = TypeVar("S", bound=RedisServer)


class Session:
    """What one look asks with. `now` is the time of the look, in seconds since the epoch."""

    def __init__(self, resp: Resp, place: Place, now: float) -> None:
        self.now = now
        self.empty_list: str | None = None  # a list of which the look saw that it is empty: it can be waited on
        self._resp = resp
        self._place = place

    def ask(self, *commands: Sequence[Argument], optional: str = "") -> list[Any]:
        """The replies to some commands, in one round trip.

        An error becomes QueueReadFailed, unless it contains `optional`: then the reply is None.
        """
        replies = self._resp.ask(*commands) if commands else []
        for index, (command, reply) in enumerate(zip(commands, replies, strict=True)):
            if isinstance(reply, ErrorReply):
                if not optional or optional not in str(reply):
                    raise self._failure(command, reply)
                replies[index] = None
        return replies

    def _failure(self, command: Sequence[Argument], error: ErrorReply) -> QueueReadFailed:
        if error.code != "WRONGTYPE":
            return self._place.refused(error)
        key = command[1]
        (kind,) = self._resp.ask(("TYPE", key))
        where, shown = (each.decode(errors="replace") if isinstance(each, bytes) else str(each) for each in (key, kind))
        message = f"{self._place.what}: {where} is a {shown}; is the key right, and the type it is counted as?"
        return QueueReadFailed("WrongType", message)


class RedisReader:
    """Implements ports.QueueReader. `look` asks and answers."""

    def __init__(
        self, server: RedisServer, look: Callable[[Session], QueueReading], tls: ssl.SSLContext | None = None
    ) -> None:
        """`tls` instead of what the settings say of it. Raises QueueReadFailed(BadMetadata)."""
        self._place = place = Place(server, tls)
        self._look = look
        self._kept = Kept(place.what, place.connect)
        self._empty_list: str | None = None

    def read(self) -> QueueReading:
        """Look once."""
        self._empty_list = None
        return self._kept.call(self._read)

    def _read(self, resp: Resp) -> QueueReading:
        session = Session(resp, self._place, wall_seconds())
        reading = self._look(session)
        self._empty_list = session.empty_list
        return reading

    @property
    def can_wait(self) -> bool:
        """Whether the last look saw an empty list."""
        return self._empty_list is not None

    def wait(self, seconds: float) -> bool:
        """Block until something is put into the list that is empty. Raises QueueReadFailed."""
        if self.read().waiting > 0 or self._empty_list is None:
            return True
        key = self._empty_list
        return self._kept.call(lambda resp: self._block(resp, key, seconds), seconds + CALL_SECONDS)

    def _block(self, resp: Resp, key: str, seconds: float) -> bool:
        resp.patience(seconds + SOCKET_SECONDS)
        (reply,) = resp.ask(("BLMOVE", key, key, "LEFT", "LEFT", f"{max(seconds, 0.01):.3f}"))
        if isinstance(reply, ErrorReply):  # older than 6.2, no permission to write, a replica, out of memory
            raise self._place.refused(reply)
        resp.patience(SOCKET_SECONDS)
        return reply is not None

    def close(self) -> None:
        """Let the connection go; a wait in another thread ends."""
        self._kept.close()


class RedisDriver(Generic[S]):
    """Implements ports.QueueDriver for a kind of queue: its settings, and how to look with them."""

    polling_seconds = POLLING_SECONDS

    def __init__(self, model: type[S], look: Callable[[S, Session], QueueReading]) -> None:
        self._model, self._look = model, look

    def open(self, asked: QueueAsked) -> RedisReader:
        """Make a reader."""
        settings = opening.settings(asked, self._model)
        return RedisReader(settings, lambda session: self._look(settings, session))
