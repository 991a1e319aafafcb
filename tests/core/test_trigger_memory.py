"""What is remembered of one trigger: whose memory it is, failures in a row, since when nothing was taken."""

import pytest

from reconciler.core.watching import has_stalled, remembered, seen
from reconciler.model.queues import QueueReading
from reconciler.model.scaling import Counts, Look, TriggerMemory
from reconciler.model.state import NEVER
from support.scales import REFUSED, Found, spec_of

TRIGGER = spec_of().triggers[0]
NEW = TriggerMemory(TRIGGER.type, TRIGGER.metadata)
THERE = Counts(written=0, running=2, ready=2, started=2)


def after(*found: Found, counts: Counts = THERE, run_once: bool = False) -> TriggerMemory:
    """The memory after looks at 1, 2, ... seconds that found this."""
    memory = NEW
    for at, each in enumerate(found, 1):
        assert each is not None
        memory = seen(TRIGGER, memory, Look(float(at), each), counts, run_once=run_once)
    return memory


def queue(waiting: float, reserved: float | None = 0, completed: float | None = None) -> QueueReading:
    return QueueReading(waiting, reserved, completed=completed)


def test_each_trigger_has_the_memory_at_its_place_also_where_two_look_at_one_queue() -> None:
    first, second = NEW._replace(failures=1), NEW._replace(failures=2)
    assert remembered(TRIGGER, (first, second), 0) is first
    assert remembered(TRIGGER, (first, second), 1) is second


def test_a_memory_is_found_at_another_place_and_not_taken_from_another_queue() -> None:
    other = TriggerMemory(TRIGGER.type, {"elsewhere": "x"}, failures=3)
    of_another_type = TriggerMemory("sqlite", TRIGGER.metadata, failures=4)
    mine = NEW._replace(failures=1)
    assert remembered(TRIGGER, (other, of_another_type, mine), 0) is mine
    assert remembered(TRIGGER, (other, of_another_type), 5) == NEW


@pytest.mark.parametrize(
    ("found", "since"),
    [
        ([queue(3), queue(3)], 2.0),
        ([queue(3), queue(5)], 2.0),  # more has come
        ([queue(3), queue(3), queue(3)], 2.0),  # and the clock goes on
        ([queue(3)], NEVER),  # who knows what was before
        ([queue(3), queue(2)], NEVER),  # one was taken
        ([queue(3), queue(3, 1)], NEVER),  # one is in work
        ([queue(3, 1), queue(3)], NEVER),  # one was in work a moment ago
        ([queue(3, None), queue(3)], 2.0),  # what was not known is no work
        ([queue(3), queue(3, None)], NEVER),  # who cannot see work cannot miss it
        ([queue(3), queue(0)], NEVER),  # nothing waits
        ([queue(3, completed=7), queue(3, completed=8)], NEVER),  # one was done between two looks
        ([queue(3, completed=7), queue(3, completed=7)], 2.0),
        ([queue(3, completed=7), queue(3, completed=0)], NEVER),  # the server was restarted: anything may have been
        ([queue(3), queue(3, completed=7)], 2.0),
        ([queue(3, completed=7), queue(3)], 2.0),
        ([queue(3), queue(3), queue(2), queue(2)], 4.0),
        ([queue(3), queue(3), REFUSED], NEVER),  # nobody knows what happens meanwhile
    ],
)
def test_since_when_nothing_was_taken(found: list[Found], since: float) -> None:
    assert after(*found).stalled_since == since


def test_without_ready_replicas_nobody_could_have_taken_anything() -> None:
    nobody = Counts(written=0, running=2, ready=0)
    assert after(queue(3), queue(3), counts=nobody).stalled_since == NEVER
    assert after(queue(3), queue(3), counts=nobody, run_once=True).stalled_since == 2.0
    waits = after(queue(3), queue(3))
    assert seen(TRIGGER, waits, None, nobody, run_once=False).stalled_since == NEVER


@pytest.mark.parametrize(
    ("now", "counts", "run_once", "stalled"),
    [
        (61.9, THERE, False, False),
        (62.0, THERE, False, True),
        (62.0, Counts(0, 0, 0, started=2), False, True),  # seen() has asked for ready ones all along
        (62.0, Counts(0, 0, 0, started=2), True, False),  # none was there since
        (62.0, Counts(0, 0, 0, started=3), True, True),  # one came, took nothing and went
        (62.0, Counts(0, 1, 1, started=2), True, True),  # one is there
        (61.9, Counts(0, 1, 1, started=3), True, False),
    ],
)
def test_stalled_is_who_could_have_taken_something_for_all_that_time(
    now: float, counts: Counts, run_once: bool, stalled: bool
) -> None:
    memory = after(queue(3), queue(3), run_once=run_once)
    assert has_stalled(memory, 60.0, counts, now, run_once=run_once) is stalled


def test_numbers_are_put_within_bounds() -> None:
    read = after(QueueReading(-3, -1, delayed=1e300, completed=5)).reading
    assert read == QueueReading(0.0, 0.0, delayed=1e18, completed=5.0)
