"""When a status file is written: soon, at most once a second, and after the passes that wait, up to a bound.

And what is kept of what was told: so many events, in little room, and nothing of an object that is gone.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from reconciler.engine.chores import BUSY_SECONDS, RETRY_SECONDS, Chores
from reconciler.engine.publish import (
    EVENTS_KEPT,
    FIRST_FLUSH_SECONDS,
    FLUSH_SECONDS,
    TELL_BUSY_SECONDS,
    TELL_SECONDS,
    Publisher,
)
from reconciler.model.identity import Key
from reconciler.model.objects import Accepted
from support.fakes import FakeClock
from support.sim_schedule import Schedule

KEY = Key("Thing", "one")


@dataclass(frozen=True, eq=False)
class Thing:
    """What is shown."""

    accepted: Accepted


class House:
    """A publisher, its clock, one object that it shows, and what it wrote."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.schedule = Schedule(self.clock)
        self.busy = False
        self.written: list[float] = []
        self.told: list[tuple[str, float]] = []
        self.number = 0
        nobody: Any = None
        later = self.schedule.later
        chores = Chores(self.clock, later, lambda: self.busy)
        self.publisher = Publisher(self.clock, self, nobody, lambda _: [], later, chores)
        self.publisher.show("Thing", lambda shown, view: {"number": self.number, "conditions": []})
        accepted = Accepted("Thing", "one", "uid", 1, {}, {}, {}, "dir:/m", "/m/one.yaml")
        self.shown = Thing(accepted)
        self.began = self.clock.now()

    def write_status(self, key: Key, document: Mapping[str, Any]) -> str | None:
        assert key == KEY
        assert document["status"]["number"] == self.number
        self.written.append(round(self.clock.now() - self.began, 3))
        return None

    def remove_status(self, key: Key) -> str | None:
        return None

    def append_event(self, event: Mapping[str, Any]) -> str | None:
        self.told.append((event["message"], round(self.clock.now() - self.began, 3)))
        return None

    def change(self) -> None:
        self.number += 1
        self.publisher.changed(self.shown)

    def pass_time(self, seconds: float) -> None:
        until = self.clock.now() + seconds
        while (at := self.schedule.next_alarm()) <= until:
            self.clock.advance_to(at)
            while (call := self.schedule.due()) is not None:
                call()
        self.clock.advance_to(until)


@pytest.fixture
def house() -> House:
    return House()


def test_a_first_change_is_written_soon_and_later_ones_once_a_second(house: House) -> None:
    for _ in range(20):
        house.change()
        house.pass_time(0.1)
    house.pass_time(5)
    assert house.written == pytest.approx([FIRST_FLUSH_SECONDS, FIRST_FLUSH_SECONDS + FLUSH_SECONDS, 2.1], abs=0.001)


def test_what_did_not_change_is_not_written_again(house: House) -> None:
    house.change()
    house.pass_time(5)
    house.publisher.changed(house.shown)
    house.pass_time(5)
    assert len(house.written) == 1


def test_passes_that_wait_go_first(house: House) -> None:
    house.busy = True
    house.change()
    house.pass_time(1)
    assert house.written == []
    house.busy = False
    house.pass_time(RETRY_SECONDS)
    assert len(house.written) == 1


def test_but_not_for_ever(house: House) -> None:
    house.busy = True
    house.change()
    house.pass_time(10)
    assert len(house.written) == 1
    assert BUSY_SECONDS <= house.written[0] <= BUSY_SECONDS + FIRST_FLUSH_SECONDS + RETRY_SECONDS + 0.001


def test_who_leaves_writes_what_is_due_whatever_waits(house: House) -> None:
    house.busy = True
    house.change()
    house.publisher.flush_all()
    assert len(house.written) == 1
    house.pass_time(5)
    assert len(house.written) == 1


def test_who_leaves_in_a_hurry_writes_states_before_what_can_be_made_anew(house: House) -> None:
    house.busy = True
    house.publisher.chores.add(lambda: house.clock.advance(0.3))
    house.publisher.chores.add(lambda: house.written.append(-1))
    house.change()
    house.publisher.flush_all(within=0.2)
    assert house.written == [0.0], "first the status; a chore that takes too long is the last one"
    house.publisher.flush_all()
    assert house.written == [0.0, -1]


def test_who_has_no_time_at_all_leaves_at_once(house: House) -> None:
    house.busy = True
    house.change()
    house.publisher.flush_all(within=0.0)
    assert house.written == []


def test_what_was_removed_meanwhile_is_not_written(house: House) -> None:
    house.busy = True
    house.change()
    house.publisher.removed(house.shown)
    house.pass_time(5)
    assert house.written == []


def test_what_happened_is_told_a_moment_later(house: House) -> None:
    house.publisher.event("one", "Normal", "Testing", "first")
    house.publisher.event("one", "Normal", "Testing", "second")
    assert house.told == []
    house.pass_time(5)
    assert house.told == [("first", TELL_SECONDS), ("second", TELL_SECONDS)]


def test_words_come_after_passes_that_wait(house: House) -> None:
    house.busy = True
    house.publisher.event("one", "Normal", "Testing", "it")
    house.pass_time(0.5)
    assert house.told == []
    house.busy = False
    house.pass_time(0.1)
    assert [message for message, _ in house.told] == ["it"]


def test_but_no_later_than_a_second(house: House) -> None:
    house.busy = True
    house.publisher.event("one", "Normal", "Testing", "early")
    house.pass_time(0.9)
    house.publisher.event("one", "Normal", "Testing", "late")
    house.pass_time(5)
    (_, early), (_, late) = house.told
    assert TELL_BUSY_SECONDS <= early <= TELL_BUSY_SECONDS + 0.1
    assert late <= 0.9 + TELL_BUSY_SECONDS + 0.1


def test_whoever_asks_is_told_at_once_and_nobody_twice(house: House) -> None:
    house.busy = True
    house.publisher.event("one", "Normal", "Testing", "it")
    assert [event["message"] for event in house.publisher.events("one")] == ["it"]
    house.pass_time(0.3)
    house.publisher.event("one", "Normal", "Testing", "more")
    house.busy = False
    house.pass_time(5)
    assert [message for message, _ in house.told] == ["it", "more"]


def test_events_are_kept_up_to_a_bound_and_share_their_words(house: House) -> None:
    for number in range(EVENTS_KEPT + 100):
        manifest = json.loads('{"name": "email-of-the-shop"}')  # as each reading of a file makes it
        house.publisher.event(manifest["name"], "Normal", "Accepted", f"edit {number}")
    kept = house.publisher.events(None)
    assert len(kept) == EVENTS_KEPT
    assert kept[-1]["message"] == f"edit {EVENTS_KEPT + 99}"
    assert len({id(event["name"]) for event in kept}) == 1


def test_events_of_earlier_controllers_share_their_words_too(house: House) -> None:
    about = {"type": "Normal", "kind": "Program", "name": "email", "reason": "Starting", "cause": "NewReplica"}
    lines = [json.dumps({"at": 1.5, **about, "message": f"start {n}", "count": 1}) for n in range(100)]
    house.publisher.recall(map(json.loads, lines))
    kept = house.publisher.events("email")
    assert kept == list(map(json.loads, lines))
    assert len({id(word) for event in kept for word in (*event, *(event[field] for field in about))}) == 13


def test_nothing_is_kept_of_an_object_that_is_gone(house: House) -> None:
    house.change()
    house.pass_time(FIRST_FLUSH_SECONDS)
    for number in range(10):
        accepted = Accepted("Thing", "one", f"uid-{number}", 1, {}, {}, {}, "dir:/m", "/m/one.yaml")
        shown = Thing(accepted)
        house.publisher.changed(shown)
        house.pass_time(FLUSH_SECONDS)
        house.publisher.changed(shown)
        house.publisher.removed(shown)
    house.pass_time(FLUSH_SECONDS)
    house.publisher.removed(house.shown)
    left = {name: each for name, each in vars(house.publisher).items() if hasattr(each, "__len__") and len(each)}
    assert left.keys() == {"_status_of"}
