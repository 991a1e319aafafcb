"""What can wait: in its turn, in small portions, after the passes that wait, up to a bound."""

from collections.abc import Callable
from functools import partial

import pytest

from reconciler.engine.chores import BUSY_SECONDS, PAUSE_SECONDS, PORTION_SECONDS, RETRY_SECONDS, Chores
from support.fakes import FakeClock
from support.sim_schedule import Schedule


class House:
    """Chores that take their time, and when each was done."""

    def __init__(self) -> None:
        self.clock = FakeClock(0.0)
        self.schedule = Schedule(self.clock)
        self.busy = False
        self.done: list[tuple[str, float]] = []
        self.turns = 0
        self.chores = Chores(self.clock, self.later, lambda: self.busy)

    def later(self, seconds: float, call: Callable[[], None]) -> object:
        self.turns += 1
        return self.schedule.later(seconds, call)

    def add(self, name: str, seconds: float = 0.0) -> None:
        self.chores.add(partial(self.do, name, seconds))

    def do(self, name: str, seconds: float) -> None:
        self.done.append((name, round(self.clock.now(), 3)))
        self.clock.advance(seconds)

    def pass_time(self, seconds: float) -> None:
        until = self.clock.now() + seconds
        while (at := self.schedule.next_alarm()) <= until:
            self.clock.advance_to(max(at, self.clock.now()))
            while (call := self.schedule.due()) is not None:
                call()
        self.clock.advance_to(max(until, self.clock.now()))


@pytest.fixture
def house() -> House:
    return House()


def test_they_are_done_in_their_order_and_not_at_once(house: House) -> None:
    house.add("a")
    house.add("b")
    assert house.done == []
    house.pass_time(0)
    assert house.done == [("a", 0), ("b", 0)]
    assert house.turns == 1


def test_others_have_their_turn_between_portions(house: House) -> None:
    for number in range(20):
        house.add(str(number), PORTION_SECONDS / 2)
    house.pass_time(1)
    assert [name for name, _ in house.done] == [str(number) for number in range(20)]
    assert house.turns == 10
    assert house.done[-1][1] >= 9 * (PORTION_SECONDS + PAUSE_SECONDS)


def test_a_slow_one_ends_its_portion(house: House) -> None:
    house.add("slow", 10 * PORTION_SECONDS)
    house.add("next")
    house.pass_time(1)
    assert house.done == [("slow", 0), ("next", 10 * PORTION_SECONDS + PAUSE_SECONDS)]


def test_passes_that_wait_go_first(house: House) -> None:
    house.busy = True
    house.add("a")
    house.pass_time(1)
    assert house.done == []
    house.busy = False
    house.pass_time(RETRY_SECONDS)
    assert len(house.done) == 1


def test_but_not_for_ever_and_each_waits_for_itself(house: House) -> None:
    house.busy = True
    house.add("a")
    house.pass_time(1)
    house.add("b")
    house.pass_time(10)
    (_, first), (_, second) = house.done
    assert BUSY_SECONDS <= first <= BUSY_SECONDS + RETRY_SECONDS + 0.001
    assert 1 + BUSY_SECONDS <= second <= 1 + BUSY_SECONDS + RETRY_SECONDS + 0.001


def test_what_somebody_waits_for_is_done_at_once_and_only_once(house: House) -> None:
    house.busy = True
    house.add("a")
    house.add("b")
    house.chores.finish()
    assert [name for name, _ in house.done] == ["a", "b"]
    house.pass_time(10)
    assert len(house.done) == 2
    house.busy = False
    house.add("c")
    house.pass_time(1)
    assert [name for name, _ in house.done] == ["a", "b", "c"]


def test_who_has_no_time_does_a_part_and_is_told_how_many_are_left(house: House) -> None:
    house.busy = True
    for number in range(10):
        house.add(str(number), 0.1)
    assert house.chores.finish(until=house.clock.now() + 0.25) == 7
    assert [name for name, _ in house.done] == ["0", "1", "2"]
    assert house.chores.finish() == 0


def test_a_chore_may_make_another_one(house: House) -> None:
    house.chores.add(lambda: house.add("made"))
    house.pass_time(1)
    assert [name for name, _ in house.done] == ["made"]
