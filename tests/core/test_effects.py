"""Effects: what an edit does, in the words of `diff` and of the log."""

from typing import Any

import pytest

from reconciler.core.effects import NO_EFFECT, Edit, effect_of
from support import worlds

RUNNING = {ordinal: {"runs": "r1", "since": 50} for ordinal in range(6)}


def effect(before: dict[str, Any] | None, after: dict[str, Any] | None, edit: Edit = Edit()) -> str:  # noqa: B008
    observed, _ = worlds.world(RUNNING if before is not None else {})
    wanted = [None if words is None else worlds.desired(**{"replicas": 6, **words}) for words in (before, after)]
    return effect_of(wanted[0], wanted[1], observed, edit).text


@pytest.mark.parametrize(
    ("before", "after", "edit", "text"),
    [
        (None, {}, Edit(), "create, start 6"),
        (None, {"replicas": 0}, Edit(), "create"),
        ({}, None, Edit(), "delete, stop 6"),
        (None, None, Edit(), "none"),
        ({}, {}, Edit(), "none"),
        ({}, {"replicas": 8}, Edit(), "scale 6 -> 8, start 2"),
        ({}, {"replicas": 4}, Edit(), "scale 6 -> 4, stop 2"),
        ({}, {"revision": "r2"}, Edit(rolling=("env",)), "roll 6 (env)"),
        ({}, {"epoch": 1}, Edit(), "roll 6 (restart)"),
        ({}, {}, Edit(in_place=("terminationGracePeriod",)), "update in place (terminationGracePeriod)"),
        ({}, {}, Edit(labels=True), "update in place (labels)"),
        (
            {},
            {"replicas": 4, "revision": "r2"},
            Edit(rolling=("command",), in_place=("logs",)),
            "scale 6 -> 4, stop 2, roll 4 (command), update in place (logs)",
        ),
        ({}, {"stopped_ordinals": [3]}, Edit(), "stop 1"),
        ({"stopped_ordinals": [3]}, {}, Edit(), "start 1"),
    ],
)
def test_the_effect_of_an_edit(before: Any, after: Any, edit: Edit, text: str) -> None:
    assert effect(before, after, edit) == text


def test_what_drains_already_is_not_counted() -> None:
    observed, _ = worlds.world({0: {"runs": "r1"}, 1: {"runs": "r1", "stopping": "ScaledDown"}})
    assert effect_of(worlds.desired(), None, observed, Edit()).text == "delete, stop 1"


def test_no_effect_is_no_change() -> None:
    assert not NO_EFFECT.change
