"""A floor by the clock: when it holds, when it begins, and clocks that are set."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from reconciler.adapters.queues.cron import Clock
from reconciler.model.metadata import Cron
from support.queue_rigs import failure, read

BERLIN = ZoneInfo("Europe/Berlin")


def clock(start: str, end: str) -> Clock:
    return Clock(Cron(timezone="Europe/Berlin", start=start, end=end, desired_replicas=5), BERLIN)


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).timestamp()


OFFICE = ("0 8 * * 1-5", "0 18 * * 1-5")
NIGHT = ("0 22 * * *", "0 6 * * *")


@pytest.mark.parametrize(
    ("hours", "now", "replicas"),
    [
        (OFFICE, "2026-01-05 07:59:59", 0),
        (OFFICE, "2026-01-05 08:00", 5),
        (OFFICE, "2026-01-05 17:59:59", 5),
        (OFFICE, "2026-01-05 18:00", 0),
        (OFFICE, "2026-01-03 12:00", 0),
        (NIGHT, "2026-01-05 23:30", 5),
        (NIGHT, "2026-01-06 05:59", 5),
        (NIGHT, "2026-01-06 06:00", 0),
        (NIGHT, "2026-01-06 21:59", 0),
    ],
)
def test_the_floor_holds_from_start_to_end(hours: tuple[str, str], now: str, replicas: int) -> None:
    assert clock(*hours).reading(at(now)).waiting == replicas


def test_outside_of_it_the_next_start_is_known() -> None:
    found = clock(*OFFICE).reading(at("2026-01-03 12:00"))
    assert found.next_due_seconds == 44 * 3600
    assert found.found == "nothing until 2026-01-05 08:00 CET"
    assert clock(*OFFICE).reading(at("2026-01-05 12:00")).found == "5 until 2026-01-05 18:00 CET"


def test_one_clock_follows_the_time_forwards_and_back() -> None:
    one = clock(*OFFICE)
    moments = ["2026-01-05 07:00", "2026-01-05 09:00", "2026-01-05 19:00", "2026-01-09 09:00", "2026-01-05 07:30"]
    assert [one.reading(at(moment)).waiting for moment in moments] == [0, 5, 0, 5, 0]


def test_a_skipped_start_is_made_up_for() -> None:
    assert clock("30 2 * * *", "0 6 * * *").reading(at("2026-03-29 03:01")).waiting == 5


def test_the_driver_reads_the_clock_of_this_host() -> None:
    metadata = {"timezone": "UTC", "start": "* * * * *", "end": "0 0 29 2 *", "desiredReplicas": "2"}
    assert read("cron", metadata).waiting == 0  # a start always comes before the next end
    assert read("cron", {**metadata, "start": "0 0 29 2 *", "end": "* * * * *"}).waiting == 2


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../../etc/passwd", "/etc/passwd", "x" * 300])
def test_a_time_zone_that_does_not_exist_is_told(zone: str) -> None:
    failed = failure("cron", {"timezone": zone, "start": "0 8 * * *", "end": "0 9 * * *", "desiredReplicas": "1"})
    assert failed.reason == "BadMetadata"
    assert "this host does not know" in str(failed)
