"""Which replicas a count stands for: the ones that would be missed least go first, and nobody moves without need."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.activity import Activity
from reconciler.core.ranking import chosen, is_a_choice
from support import worlds

OLD = {"runs": "r1", "since": 10}
YOUNG = {"runs": "r1", "since": 90}
LEAVING = {"runs": "r1", "since": 5, "stopping": "RevisionChanged", "kill_at": 130}
FAILING = {"exited": "Failed", "failures": 3, "at": 99}
STOPPED = {"exited": "Stopped", "at": 99}


def choose(
    count: int,
    before: set[int] | None,
    replicas: dict[int, dict[str, Any]],
    activities: dict[int, Activity] | None = None,
) -> set[int]:
    observed, memory = worlds.world(replicas)
    return set(chosen(count, before, observed, memory, activities or {}))


def choice(count: int, before: set[int] | None, replicas: dict[int, dict[str, Any]]) -> bool:
    return is_a_choice(count, before, worlds.world(replicas)[0])


IDLE = Activity(False, "12:00")


def test_a_rising_count_takes_the_lowest_free_ordinals() -> None:
    assert choose(4, {1, 3}, {1: OLD, 3: OLD}) == {0, 1, 2, 3}
    assert choose(3, set(), {}) == {0, 1, 2}


def test_an_ordinal_at_which_a_process_is_still_ending_is_taken_last() -> None:
    assert choose(2, {1}, {0: LEAVING, 1: OLD}) == {1, 2}


def test_a_count_that_stays_moves_nobody_whoever_has_ended_meanwhile() -> None:
    assert choose(2, {1, 3}, {1: STOPPED, 3: OLD, 0: OLD}) == {1, 3}


def test_who_fails_goes_first_then_who_has_not_started_yet() -> None:
    replicas = {0: FAILING, 1: YOUNG, 3: OLD}
    assert choose(3, {0, 1, 2, 3}, replicas) == {1, 2, 3}
    assert choose(2, {0, 1, 2, 3}, replicas) == {1, 3}


def test_then_who_is_leaving_anyway_then_the_idle_then_the_youngest() -> None:
    replicas = {0: LEAVING, 1: {**OLD, "since": 11}, 2: YOUNG, 3: OLD}
    assert choose(3, {0, 1, 2, 3}, replicas) == {1, 2, 3}
    assert choose(2, {0, 1, 2, 3}, replicas) == {1, 3}
    working = Activity(True, "12:00")
    assert choose(2, {0, 1, 2, 3}, replicas, {1: IDLE, 2: working, 3: working}) == {2, 3}
    assert choose(1, {0, 1, 2, 3}, replicas) == {3}  # it has been there for longest


def test_who_works_stays_before_those_of_whom_nobody_knows_and_these_before_the_idle() -> None:
    replicas = {0: {**OLD, "since": 5}, 1: {**OLD, "since": 6}, 2: YOUNG}
    activities = {0: IDLE, 2: Activity(True, "12:00")}
    assert choose(2, {0, 1, 2}, replicas, activities) == {1, 2}
    assert choose(1, {0, 1, 2}, replicas, activities) == {2}


def test_the_one_longest_in_its_work_is_the_last_to_go_however_young_it_is() -> None:
    replicas = {0: {**OLD, "since": 5}, 1: {**OLD, "since": 6}, 2: YOUNG}
    activities = {0: Activity(True, "12:09"), 1: Activity(True, "12:08"), 2: Activity(True, "12:01")}
    assert choose(2, {0, 1, 2}, replicas, activities) == {1, 2}
    assert choose(1, {0, 1, 2}, replicas, activities) == {2}
    same = dict.fromkeys(range(3), Activity(True, ""))
    assert choose(1, {0, 1, 2}, replicas, same) == {0}


def test_what_they_do_matters_only_where_some_of_those_that_run_stay_and_some_go() -> None:
    replicas = {0: OLD, 1: OLD, 2: LEAVING}
    assert choice(1, {0, 1, 2, 3}, replicas)
    assert choice(1, None, replicas)
    assert not choice(0, {0, 1, 2, 3}, replicas), "all go"
    assert not choice(2, {0, 1, 2, 3}, replicas), "those go that leave anyway or do not run"
    assert not choice(1, {2, 3}, replicas)


def test_after_a_restart_of_the_controller_what_runs_stands_for_the_choice() -> None:
    assert choose(2, None, {2: OLD, 5: YOUNG}) == {2, 5}
    assert choose(1, None, {2: OLD, 5: YOUNG}) == {2}
    assert choose(3, None, {2: OLD, 5: YOUNG}) == {0, 2, 5}


ORDINALS = st.integers(0, 9)


@given(
    count=st.integers(0, 10),
    before=st.none() | st.sets(ORDINALS),
    replicas=st.dictionaries(ORDINALS, st.sampled_from([OLD, YOUNG, LEAVING, FAILING, STOPPED])),
    activities=st.dictionaries(ORDINALS, st.builds(Activity, st.booleans(), st.sampled_from(["", "1", "2"]))),
)
def test_the_choice_has_the_asked_size_and_changes_one_way_only(
    count: int, before: set[int] | None, replicas: dict[int, dict[str, Any]], activities: dict[int, Activity]
) -> None:
    now = choose(count, before, replicas, activities)
    assert len(now) == count
    if before is not None:
        assert now <= before or now >= before
