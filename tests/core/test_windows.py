"""Stabilization windows and rate policies: what they keep, and what they let through."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.windows import (
    freed_at,
    least_allowed,
    most_allowed,
    stabilized,
    with_change,
    with_highest,
    with_lowest,
)
from reconciler.model.binding import Policy, ScaleDown, ScaleUp
from reconciler.model.state import NEVER


def policy(type_: str, value: int, period: float) -> Policy:
    return Policy.model_validate({"type": type_, "value": value, "period": period})


def up(select: str = "Max", *policies: Policy) -> ScaleUp:
    return ScaleUp(select_policy=select, policies=policies)


def down(select: str = "Max", *policies: Policy) -> ScaleDown:
    return ScaleDown(select_policy=select, policies=policies)


ASKED = st.lists(st.tuples(st.floats(0, 20), st.integers(0, 9)), min_size=1, max_size=40)


@given(ASKED, st.floats(0, 60))
def test_the_first_sample_is_the_extreme_of_the_window(steps, window):
    now, said, highest, lowest = 0.0, [], (), ()
    for after, count in steps:
        now += after
        said.append((now, count))
        highest, lowest = with_highest(highest, now, count, window), with_lowest(lowest, now, count, window)
        # What is said now counts also where the window has no length.
        within = [*(asked for at, asked in said if now < at + window), count]
        assert (highest[0][1], lowest[0][1]) == (max(within), min(within))
        assert len(highest) <= 10
        assert len(lowest) <= 10


@pytest.mark.parametrize(
    ("current", "lowest", "highest", "expected"),
    [(5, 3, 8, 5), (2, 3, 8, 3), (9, 3, 8, 8), (5, 5, 5, 5), (0, 4, 4, 4), (9, 4, 4, 4)],
)
def test_the_count_moves_only_as_far_as_all_of_a_window_agrees(current, lowest, highest, expected):
    assert stabilized(current, ((0.0, lowest),), ((0.0, highest),)) == expected


@pytest.mark.parametrize(
    ("rules", "current", "changes", "expected"),
    [
        (up("Max", policy("Percent", 100, 15), policy("Replicas", 4, 15)), 1, (), 5),
        (up("Max", policy("Percent", 100, 15), policy("Replicas", 4, 15)), 8, (), 16),
        (up("Min", policy("Percent", 100, 15), policy("Replicas", 4, 15)), 1, (), 2),
        (up("Disabled", policy("Replicas", 4, 15)), 3, (), 3),
        (up("Max", policy("Percent", 10, 15)), 3, (), 4),  # a percentage is rounded up: it shall get somewhere
        (up("Max", policy("Percent", 50, 15)), 0, (), 0),
        (up("Max", policy("Replicas", 4, 15)), 5, ((90.0, 3),), 6),  # 3 of the 4 were added within the period
        (up("Max", policy("Replicas", 4, 15)), 5, ((85.0, 3),), 9),  # which is over now
        (up("Max", policy("Replicas", 4, 15)), 9, ((90.0, 7),), 9),  # never down
        (up("Max", policy("Replicas", 4, 15)), 5, ((90.0, -2),), 11),  # what went away may come back
        (up("Max", policy("Percent", 100, 15)), 6, ((90.0, 3),), 6),
    ],
)
def test_up_to(rules, current, changes, expected):
    assert most_allowed(rules, current, changes, 100.0) == expected


@pytest.mark.parametrize(
    ("rules", "current", "changes", "expected"),
    [
        (down("Max", policy("Percent", 100, 15)), 7, (), 0),
        (down("Max", policy("Percent", 50, 15), policy("Replicas", 1, 15)), 7, (), 3),
        (down("Min", policy("Percent", 50, 15), policy("Replicas", 1, 15)), 7, (), 6),
        (down("Disabled", policy("Replicas", 4, 15)), 3, (), 3),
        (down("Max", policy("Percent", 30, 15)), 10, (), 7),  # 10 * 0.7 is 7, whatever floats say
        (down("Max", policy("Replicas", 2, 15)), 5, ((90.0, -2),), 5),
        (down("Max", policy("Replicas", 2, 15)), 5, ((85.0, -2),), 3),
        (down("Max", policy("Replicas", 2, 15)), 5, ((90.0, 4),), -1),  # what has just come may go
        (down("Max", policy("Replicas", 1, 15)), 5, ((90.0, -4),), 5),
    ],
)
def test_down_to(rules, current, changes, expected):
    assert least_allowed(rules, current, changes, 100.0) == expected


def test_changes_are_kept_for_the_longest_period():
    policies = (policy("Replicas", 1, 10), policy("Replicas", 5, 60))
    changes = with_change((), 0.0, 3, policies)
    changes = with_change(changes, 30.0, -1, policies)
    assert with_change(changes, 59.0, 0, policies) == ((0.0, 3), (30.0, -1))
    assert with_change(changes, 60.0, 0, policies) == ((30.0, -1),)
    assert with_change(changes, 60.0, 2, policies) == ((30.0, -1), (60.0, 2))


def test_the_next_change_falls_out_of_a_period():
    policies = (policy("Replicas", 1, 10), policy("Replicas", 5, 60))
    assert freed_at(policies, ((0.0, 3), (5.0, 1)), 5.0) == 10.0
    assert freed_at(policies, ((0.0, 3), (5.0, 1)), 15.0) == 60.0
    assert freed_at(policies, (), 15.0) == NEVER
