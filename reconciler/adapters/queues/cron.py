"""The `cron` trigger: a floor under the count between two times of the clock. Asks nobody."""

from datetime import datetime
from zoneinfo import ZoneInfo

from reconciler.adapters.queues import opening
from reconciler.adapters.queues.polling import PollingReader
from reconciler.adapters.queues.readings import wall_seconds
from reconciler.model.cron import Schedule
from reconciler.model.metadata import Cron
from reconciler.model.queues import QueueReadFailed, QueueReading
from reconciler.ports import QueueAsked


class Clock:
    """What comes next, kept until it has come."""

    def __init__(self, settings: Cron, zone: ZoneInfo) -> None:
        self._zone = zone
        self._replicas = settings.desired_replicas
        self._schedules = (Schedule.parse(settings.start), Schedule.parse(settings.end))
        self._next = (0.0, 0.0)
        self._looked = 0.0

    def reading(self, now: float) -> QueueReading:
        """Between start and end is when an end comes first."""
        if not self._looked <= now < min(self._next):  # it has come, or the clock was set back
            moment = datetime.fromtimestamp(now, self._zone)
            self._next = tuple(each.next_after(moment).timestamp() for each in self._schedules)  # type: ignore[assignment]
        self._looked = now
        start, end = self._next
        shown = datetime.fromtimestamp(min(start, end), self._zone).strftime("%Y-%m-%d %H:%M %Z")
        if end < start:
            return QueueReading(self._replicas, found=f"{self._replicas} until {shown}")
        return QueueReading(0, next_due_seconds=start - now, found=f"nothing until {shown}")


class _Driver:
    polling_seconds = 1.0

    def open(self, asked: QueueAsked) -> PollingReader:
        """Make a reader."""
        settings = opening.settings(asked, Cron)
        try:
            zone = ZoneInfo(settings.timezone)
        except (OSError, ValueError, KeyError):
            message = f"timezone: this host does not know {settings.timezone!r}; write one such as Europe/Berlin"
            raise QueueReadFailed("BadMetadata", f"{message} (Debian: apt install tzdata)") from None
        clock = Clock(settings, zone)
        return PollingReader(lambda: clock.reading(wall_seconds()), lambda: None)


DRIVER = _Driver()
