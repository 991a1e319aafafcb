"""A reader for what cannot be waited on: a look, and an end."""

from collections.abc import Callable

from reconciler.model.queues import QueueReading


class PollingReader:
    """Implements ports.QueueReader."""

    can_wait = False

    def __init__(self, look: Callable[[], QueueReading], close: Callable[[], None]) -> None:
        self._look = look
        self._close = close

    def read(self) -> QueueReading:
        """Look once. Raises QueueReadFailed."""
        return self._look()

    def wait(self, seconds: float) -> bool:
        """Never called: there is nothing to wait on."""
        raise NotImplementedError

    def close(self) -> None:
        """Let the connection go."""
        self._close()
