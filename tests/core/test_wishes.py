"""The operator's verbs: what each leaves in the override file, how wishes end, and what is refused."""

import json
from typing import Any

import pytest

from reconciler.engine.wishes import VERBS, Asked, after_verb
from reconciler.model.overrides import Moment, Overrides
from reconciler.model.problems import ApiError

ASKED = Asked("root", Moment(1000.0))
WRITTEN = 6


def test_a_bound_program_can_be_held_at_any_count_the_written_one_too() -> None:
    answer = after_verb(Overrides(), "scale", {"replicas": 6}, 6, Asked("op", Moment(100.0), bound=True))
    assert answer.overrides.scale is not None
    assert (answer.verb, answer.message) == ("scaled", "to 6; its binding has no say until `reset`")


def after(*verbs: tuple[str, dict[str, Any]]) -> Overrides:
    overrides = Overrides()
    for verb, body in verbs:
        overrides = after_verb(overrides, verb, body, WRITTEN, ASKED).overrides
    return overrides


def test_scale_overrides_the_written_count_until_the_manifest_changes_it() -> None:
    overrides = after(("scale", {"replicas": 8, "reason": "sale"}))
    assert overrides.texts() == ["replicas is 8 instead of 6 by root: sale"]
    assert overrides.in_force(Moment(1000.0), WRITTEN).scale is not None
    assert overrides.in_force(Moment(1000.0), 7).scale is None


def test_scale_to_the_written_count_ends_it() -> None:
    assert after(("scale", {"replicas": 8}), ("scale", {"replicas": 6})) == Overrides()
    assert after_verb(Overrides(), "scale", {"replicas": 6}, WRITTEN, ASKED).verb == "unchanged"


def test_a_wish_with_an_end_expires() -> None:
    overrides = after(("scale", {"replicas": 8, "for": 60}), ("stop", {"for": 30}))
    assert not overrides.is_over(Moment(1029.0))
    assert overrides.is_over(Moment(1030.0))
    assert overrides.in_force(Moment(1059.0), WRITTEN).stop is None
    assert overrides.in_force(Moment(1059.0), WRITTEN).scale is not None
    assert overrides.in_force(Moment(1060.0), WRITTEN) == Overrides()
    assert not Overrides().is_over(Moment(1e12))


def test_stop_and_start_of_the_whole_and_of_single_replicas() -> None:
    assert after(("stop", {})).texts() == ["stopped by root"]
    assert after(("stop", {"for": 60})).texts() == ["stopped by root until 1970-01-01T00:17:40Z"]
    assert after(("stop", {}), ("start", {})) == Overrides()
    some = after(("stop", {"ordinals": [3]}), ("stop", {"ordinals": [1]}))
    assert some.texts() == ["stopped 1, 3 by root"]
    assert (
        after(("stop", {"ordinals": [1, 3]}), ("start", {"ordinals": [3]})).stop
        == after(("stop", {"ordinals": [1]})).stop
    )
    assert after(("stop", {"ordinals": [1]}), ("start", {"ordinals": [1]})) == Overrides()


def test_what_is_so_already_is_unchanged() -> None:
    stopped = after(("stop", {}))
    assert after_verb(stopped, "stop", {"ordinals": [1]}, WRITTEN, ASKED).verb == "unchanged"
    assert after_verb(Overrides(), "start", {}, WRITTEN, ASKED).verb == "unchanged"


def test_each_restart_gives_out_a_higher_number() -> None:
    overrides = after(("restart", {}), ("restart", {"ordinals": [2]}), ("restart", {"ordinals": [3], "now": True}))
    assert overrides.restart is not None
    assert (overrides.restart.epoch, overrides.restart.ordinals, overrides.restart.now) == (1, ((2, 2), (3, 3)), True)
    assert after_verb(overrides, "restart", {}, WRITTEN, ASKED).overrides.restart.epoch == 4  # type: ignore[union-attr]


def test_reset_ends_all_wishes_but_never_the_count_of_restarts() -> None:
    overrides = after(("scale", {"replicas": 8}), ("restart", {}), ("stop", {}))
    answer = after_verb(overrides, "reset", {}, WRITTEN, ASKED)
    assert answer.overrides == Overrides(restart=overrides.restart)
    assert answer.message == "no longer: replicas is 8 instead of 6 by root; stopped by root"
    assert after_verb(Overrides(), "reset", {}, WRITTEN, ASKED).message == ""


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("scale", {}),
        ("scale", {"replicas": -1}),
        ("scale", {"replicas": True}),
        ("scale", {"replicas": 10**9}),
        ("scale", {"replicas": "6"}),
        ("scale", {"replicas": 8, "for": 0}),
        ("scale", {"replicas": 8, "for": "1h"}),
        ("scale", {"replicas": 8, "reason": 5}),
        ("stop", {"ordinals": []}),
        ("stop", {"ordinals": [-1]}),
        ("stop", {"ordinals": "all"}),
        ("stop", {"now": 1}),
        ("restart", {"ordinals": [1.5]}),
    ],
)
def test_what_makes_no_sense_is_refused_as_usage(verb: str, body: dict[str, Any]) -> None:
    with pytest.raises(ApiError) as refused:
        after_verb(Overrides(), verb, body, WRITTEN, ASKED)
    assert refused.value.exit_code == 2


def test_one_replica_of_a_stopped_program_cannot_be_started() -> None:
    with pytest.raises(ApiError, match="as a whole"):
        after_verb(after(("stop", {})), "start", {"ordinals": [1]}, WRITTEN, ASKED)


@pytest.mark.parametrize("verb", VERBS)
def test_wishes_survive_their_file(verb: str) -> None:
    overrides = after((verb, {"replicas": 8, "ordinals": [1]} if verb != "start" else {}))
    assert Overrides.from_document(json.loads(json.dumps(overrides.as_document()))) == overrides
