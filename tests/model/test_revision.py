"""The revision: what rolls processes, and what must not."""

import re

import pytest

from reconciler.model.program import ProgramSpec
from reconciler.model.revision import IN_PLACE, ROLLING, SCALING, Changes, changed_fields, revision, uses_count
from support.reading import manifest

BASE = {"command": ["a"], "workingDir": "/"}


def test_every_field_is_classified_once():
    fields = {field.alias for field in ProgramSpec.model_fields.values()}
    assert fields == ROLLING | IN_PLACE | {SCALING}
    assert not ROLLING & IN_PLACE


def test_a_revision_is_eight_hex_digits_and_never_changes_over_releases():
    assert revision(BASE) == "7f40894f"
    assert revision({**BASE, "env": {"A": "ä"}, "runOnce": True}) == "5ff00749"
    assert revision(BASE, {"env": "x"}) == "7fcb5721"


def test_the_order_in_which_things_are_written_does_not_matter():
    one = manifest("env: {A: x, B: y}\nuser: u\nrunOnce: true").canonical
    two = manifest("runOnce: true\nuser: u\nenv: {B: y, A: x}").canonical
    assert revision(one) == revision(two)
    assert revision(BASE, {"a": "1", "b": "2"}) == revision(BASE, {"b": "2", "a": "1"})


def test_another_notation_of_the_same_is_the_same_revision():
    one = manifest("command: a 'b c'\nlimits: {memlock: 64Ki}\numask: '22'\nworkingDir: .").canonical
    two = manifest("command: [a, b c]\nlimits: {memlock: 65536}\numask: '0022'").canonical
    assert revision(one) == revision(two)


@pytest.mark.parametrize("field", sorted(IN_PLACE | {SCALING}))
def test_what_takes_effect_in_place_does_not_enter_it(field):
    assert revision({**BASE, field: "anything"}) == revision(BASE)


@pytest.mark.parametrize("field", sorted(ROLLING))
def test_what_a_process_is_started_with_does(field):
    assert revision({**BASE, field: "anything"}) != revision(BASE)


def test_content_from_outside_enters_it():
    revisions = {revision(BASE), revision(BASE, {"/x": "1"}), revision(BASE, {"/x": "2"}), revision(BASE, {"/y": "1"})}
    assert len(revisions) == 4


def test_the_count_enters_it_only_where_processes_are_told():
    told = {**BASE, "command": ["a", "--of=$(REPLICAS)"], "replicas": 2}
    assert revision(told) != revision({**told, "replicas": 3})
    assert revision(told, replicas=3) == revision({**told, "replicas": 3})
    assert revision(BASE, replicas=3) == revision(BASE)


@pytest.mark.parametrize(
    ("text", "used"),
    [
        ("$(REPLICAS)", True),
        ("a$(REPLICAS)b", True),
        ("$$$(REPLICAS)", True),
        ("$$(REPLICAS)", False),
        ("$(REPLICA)", False),
        ("REPLICAS", False),
    ],
)
def test_an_escaped_count_is_none(text, used):
    assert uses_count({**BASE, "command": ["a", text]}) is used
    assert uses_count({**BASE, "env": {"A": text}}) is used
    assert uses_count({**BASE, "processName": text}) is False


@pytest.mark.parametrize(
    ("new", "changes"),
    [
        ({}, Changes()),
        ({"env": {"A": "x"}}, Changes(rolling=("env",))),
        ({"user": "u", "env": {}}, Changes(rolling=("env", "user"))),
        ({"terminationGracePeriod": 3.0}, Changes(in_place=("terminationGracePeriod",))),
        ({"replicas": 3}, Changes(scale=(1, 3))),
        ({"replicas": 1}, Changes()),
        ({"replicas": 0, "nice": 1, "suspend": True}, Changes(("nice",), ("suspend",), (1, 0))),
        ({"command": ["$(REPLICAS)"], "replicas": 2}, Changes(("command", "replicas"), (), (1, 2))),
    ],
)
def test_an_edit_is_told_by_the_names_users_write(new, changes):
    assert changed_fields(BASE, {**BASE, **new}) == changes
    assert changes.any is bool(new and new != {"replicas": 1})


def test_a_revision_changes_exactly_when_a_rolling_field_does():
    for field in sorted(ROLLING | IN_PLACE):
        new = {**BASE, field: "anything"}
        assert bool(changed_fields(BASE, new).rolling) is (revision(BASE) != revision(new))
        assert re.fullmatch(r"[0-9a-f]{8}", revision(new))
