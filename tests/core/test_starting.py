"""How many processes may be starting at a time: what counts, what waits, and whose turn it is."""

from typing import Any

import pytest

from reconciler.core.starting import LONGEST_START_SECONDS, Starts, counts, starting_until
from reconciler.model.state import NEVER
from support import worlds

# --- what counts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "desired", "expected"),
    [
        ({}, {}, True),
        ({}, {"min_ready": 0}, False),
        ({"exited": "Succeeded"}, {}, False),
        ({"exited": "Succeeded", "revision": "r0"}, {}, True),
        ({"exited": "Succeeded"}, {"restart_policy": "OnFailure"}, True),
        ({"exited": "Failed"}, {}, True),
        ({"exited": "Stopped"}, {}, True),
    ],
)
def test_a_start_counts_unless_the_replica_has_proved_itself(words: Any, desired: Any, expected: bool) -> None:
    _, memory = worlds.world({0: words})
    assert counts(worlds.desired(**desired), memory.histories[0], "r1") is expected


@pytest.mark.parametrize(
    ("words", "min_ready", "until"),
    [
        ({"runs": "r1", "since": 100}, 1, 101),
        ({"runs": "r1", "since": 100}, 0, 100),
        ({"runs": "r1", "since": 100}, 3600, 100 + LONGEST_START_SECONDS),
        ({"runs": "r1", "since": 100, "proven": True}, 1, -NEVER),
    ],
)
def test_a_process_is_starting_until_it_is_available_but_not_for_ever(
    words: Any, min_ready: float, until: float
) -> None:
    observed, memory = worlds.world({0: words})
    desired = worlds.desired(min_ready=min_ready)
    assert starting_until(desired, observed.processes[0], memory.histories[0]) == until


# --- whose turn it is -------------------------------------------------------------------------------------------------


class Fleet:
    """Programs that start what they may at once, each process starting for ten seconds."""

    def __init__(self, most: int, **wanted: int) -> None:
        self.starts: Starts[str] = Starts(most)
        self.wanted = wanted
        self.began: list[str] = []
        for name in wanted:
            self.look_at(name, 0.0)

    def look_at(self, name: str, now: float) -> None:
        for _ in range(int(min(self.starts.allowed(name, now), self.wanted[name]))):
            self.wanted[name] -= 1
            self.began.append(name)
            self.starts.began(name, self.wanted[name], now + 10)
        self.starts.waits(name, self.wanted[name])

    def turns(self, now: float) -> list[str]:
        self.began.clear()
        for name in dict.fromkeys(self.starts.turns(now)):
            self.look_at(name, now)
        return self.began


def test_the_first_takes_what_is_free_and_the_others_stand_in_line() -> None:
    fleet = Fleet(3, big=5, small=1)
    assert fleet.began == ["big"] * 3
    assert fleet.starts.starting(0) == 3
    assert fleet.starts.next_turn_at() == 10
    assert not fleet.turns(9.9)


def test_a_place_goes_to_one_program_after_the_other() -> None:
    fleet = Fleet(3, big=20, small=2, other=2)
    assert fleet.turns(10) == ["big", "small", "other"]
    assert fleet.turns(20) == ["big", "small", "other"]
    assert fleet.turns(30) == ["big"] * 3


def test_a_process_that_ends_starts_no_more() -> None:
    fleet = Fleet(1, web=1, mail=1)
    fleet.starts.ended("web", 0)
    assert fleet.turns(1) == ["mail"]
    assert fleet.starts.next_turn_at() == NEVER


def test_who_does_not_take_what_was_granted_leaves_it_to_the_next() -> None:
    fleet = Fleet(1, web=1, mail=1, post=1)
    assert fleet.starts.turns(10) == ["mail"]
    assert not fleet.starts.turns(10), "it is given once"
    fleet.starts.waits("mail", 0)
    assert fleet.turns(10) == ["post"]


def test_nobody_overtakes_who_stands_in_line() -> None:
    fleet = Fleet(1, web=1, mail=1)
    fleet.wanted["late"] = 1
    fleet.look_at("late", 10)
    assert fleet.began == ["web"], "a place is free, but mail was first"
    assert fleet.turns(10) == ["mail"]
    assert fleet.turns(20) == ["late"]


def test_the_order_is_the_same_each_time() -> None:
    def history() -> list[list[str]]:
        fleet = Fleet(2, a=3, b=3, c=3)
        return [list(fleet.turns(10.0 * step)) for step in range(1, 5)]

    assert history() == history()


def test_without_a_bound_nothing_is_kept() -> None:
    starts: Starts[str] = Starts(0)
    starts.began("web", 0, 10)
    assert starts.starting(0) == 0
    assert starts.allowed("web", 0) == NEVER
