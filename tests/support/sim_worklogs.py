"""What simulated processes print of what they do, and a disk that may take its time."""

from collections.abc import Callable, Mapping, Sequence

from reconciler.core.activity import Activity
from reconciler.model.state import NEVER
from reconciler.ports import WorkLog
from support.sim_schedule import Schedule


class Disk:
    """What stands at the ends of logs, by ordinal, and how long a look takes; NEVER: it hangs."""

    def __init__(self) -> None:
        self.activities: dict[int, Activity] = {}
        self.seconds = 0.01
        self.looks: list[Sequence[WorkLog]] = []


class FakeWorkLogs:
    """Implements ports.WorkLogs."""

    def __init__(self, disk: Disk, schedule: Schedule) -> None:
        self._disk, self._schedule = disk, schedule

    def look(self, logs: Sequence[WorkLog], told: Callable[[Mapping[int, Activity]], None]) -> None:
        self._disk.looks.append(logs)
        asked = {each.ordinal for each in logs}
        found = {ordinal: activity for ordinal, activity in self._disk.activities.items() if ordinal in asked}
        if self._disk.seconds != NEVER:
            self._schedule.later(self._disk.seconds, lambda: told(found))
