"""Readers of what cannot be waited on: they look when they are asked, and nothing else."""

from collections.abc import Callable

from reconciler.model.queues import QueueReading


class Polled:
    """The part of ports.QueueReader that has nothing to do here."""

    can_wait = False

    def wait(self, seconds: float) -> bool:
        """Never called: there is nothing to wait on."""
        raise NotImplementedError


class PollingReader(Polled):
    """Implements ports.QueueReader: a look, and an end."""

    def __init__(self, look: Callable[[], QueueReading], close: Callable[[], None]) -> None:
        self._look = look
        self._close = close

    def read(self) -> QueueReading:
        """Look once. Raises QueueReadFailed."""
        return self._look()

    def close(self) -> None:
        """Let the connection go."""
        self._close()
