"""Queues in memory, and meters that look at them when the world says so."""

from collections.abc import Callable, Sequence

from reconciler.ports import QueueAnswer, QueueAsked

Queues = dict[str, tuple[QueueAnswer, ...]]


class FakeMeter:
    """Implements ports.QueueMeter."""

    polling_seconds = 0.2

    def __init__(self, meters: "FakeMeters", name: str) -> None:
        self._meters, self._name = meters, name
        self.looks = 0

    def look(self) -> None:
        self.looks += 1

    def close(self) -> None:
        self._meters.told.pop(self._name, None)


class FakeMeters:
    """Implements ports.QueueMeters."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues
        self.told: dict[str, Callable[[Sequence[QueueAnswer]], None]] = {}
        self.asked: dict[str, tuple[QueueAsked, ...]] = {}
        self.meters: dict[str, FakeMeter] = {}

    def open(
        self,
        name: str,
        asked: Sequence[QueueAsked],
        polling_seconds: float | None,
        told: Callable[[Sequence[QueueAnswer]], None],
    ) -> FakeMeter:
        self.asked[name], self.told[name] = tuple(asked), told
        self.meters[name] = FakeMeter(self, name)
        return self.meters[name]

    def answer(self, name: str) -> None:
        """A look comes back."""
        if name in self.told and name in self._queues:
            self.told[name](self._queues[name])
