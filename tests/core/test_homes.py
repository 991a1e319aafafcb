"""Who owns a name: each rule of core/homes.py, and the histories that editors, git and people make of them."""

from collections.abc import Collection, Mapping
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.homes import Accept, Change, Remove, SourceSuspect, render, settle
from reconciler.model.identity import Key
from reconciler.model.objects import Accepted, Declaration, FileReading, Scan
from reconciler.model.problems import Problem

A, B = "dir:/a", "dir:/b"
SET = "set:default"

Files = Mapping[str, Mapping[str, object] | None]


def declared(name: str, spec: object, line: int = 1, **labels: str) -> Declaration:
    return Declaration("Program", name, {"command": spec}, labels, {}, line)


def scan(home: str, files: Files, **about: object) -> Scan:
    """`{"x.yaml": {"web": 1}}`: x.yaml declares web with spec 1; None: it cannot be parsed."""
    root = home.removeprefix("dir:")
    readings = {}
    for path, content in sorted(files.items()):
        place = f"{root}/{path}" if home.startswith("dir:") else path
        if content is None:
            readings[place] = FileReading((), (Problem(place, 3, 1, "", "is not valid YAML"),))
        else:
            readings[place] = FileReading(tuple(declared(name, spec) for name, spec in content.items()))
    return Scan(home, readings, **about)  # type: ignore[arg-type]


class World:
    """What is in force, carried through settlements as intake would."""

    def __init__(self, *homes: str) -> None:
        self.accepted: dict[Key, Accepted] = {}
        self.scans = {home: Scan(home, tentative=True, present=False) for home in homes or (A,)}
        self.applied: list[Scan] = []
        self.changes: tuple[Change, ...] = ()

    def settle(self, *scans: Scan, confirmed: Collection[str] = (), preferred: Mapping[Key, str] | None = None) -> str:
        self.scans.update({each.home: each for each in scans})
        self.changes = settle(self.accepted, list(self.scans.values()), self.applied, confirmed, preferred)
        for change in self.changes:
            if isinstance(change, Accept):
                after = change.after if change.after.uid else replace(change.after, uid=f"uid-{len(self.accepted)}")
                self.accepted[after.key] = after
            elif isinstance(change, Remove):
                del self.accepted[change.before.key]
        return render(self.changes)

    def uid(self, name: str) -> str:
        return self.accepted[Key("Program", name)].uid

    def names(self) -> list[str]:
        return sorted(key.name for key in self.accepted)


def many(count: int, start: int = 0) -> dict[str, dict[str, object]]:
    return {f"p{n}.yaml": {f"p{n}": n} for n in range(start, start + count)}


def test_a_new_manifest_is_accepted_at_generation_1() -> None:
    assert World().settle(scan(A, {"x.yaml": {"web": 1}})) == "created program/web generation 1 from /a/x.yaml:1"


def test_what_is_in_force_as_declared_is_not_mentioned() -> None:
    world = World()
    world.settle(scan(A, many(3)))
    assert world.settle(scan(A, many(3))) == ""


def test_a_changed_spec_counts_the_generation_and_keeps_the_uid() -> None:
    world = World()
    world.settle(scan(A, {"x.yaml": {"web": 1}}))
    uid = world.uid("web")
    assert world.settle(scan(A, {"x.yaml": {"web": 2}})) == "configured program/web generation 2 from /a/x.yaml:1"
    assert world.uid("web") == uid


def test_changed_labels_count_changed_annotations_and_lines_do_not() -> None:
    world = World()
    world.settle(scan(A, {"x.yaml": {"web": 1}}))
    plain = declared("web", 1)

    def now(declaration: Declaration) -> str:
        return world.settle(Scan(A, {"/a/x.yaml": FileReading((declaration,))}))

    assert now(plain._replace(labels={"app": "shop"})) == "configured program/web generation 2 from /a/x.yaml:1"
    noted = plain._replace(labels={"app": "shop"}, annotations={"who": "me"})
    assert now(noted) == "annotated program/web generation 2 from /a/x.yaml:1"
    assert now(noted._replace(line=7)) == "moved program/web generation 2 from /a/x.yaml:7"


def test_one_of_several_manifests_deleted_is_removed() -> None:
    world = World()
    world.settle(scan(A, many(3)))
    assert world.settle(scan(A, many(2))) == "removed program/p2"


def test_a_renamed_file_moves_its_objects_with_their_uid() -> None:
    world = World()
    world.settle(scan(A, {"x.yaml": {"web": 1}}))
    uid = world.uid("web")
    assert world.settle(scan(A, {"y.yaml": {"web": 1}})) == "moved program/web generation 1 from /a/y.yaml:1"
    assert world.uid("web") == uid


def test_a_file_renamed_and_edited_at_once_is_one_edit() -> None:
    world = World()
    world.settle(scan(A, {"x.yaml": {"web": 1}}))
    uid = world.uid("web")
    edited = scan(A, {"y.yaml": {"web": 2}}, tentative=True)
    assert world.settle(edited) == "configured program/web generation 2 from /a/y.yaml:1"
    assert world.uid("web") == uid


def test_two_files_that_swap_their_objects_swap_nothing_that_runs() -> None:
    world = World()
    world.settle(scan(A, {"x.yaml": {"web": 1}, "y.yaml": {"mail": 2}}))
    before = (world.uid("web"), world.uid("mail"))
    assert world.settle(scan(A, {"x.yaml": {"mail": 2}, "y.yaml": {"web": 1}})) == (
        "moved program/web generation 1 from /a/y.yaml:1\nmoved program/mail generation 1 from /a/x.yaml:1"
    )
    assert (world.uid("web"), world.uid("mail")) == before


def test_two_programs_that_swap_their_names_are_two_edits() -> None:
    world = World()
    world.settle(scan(A, {"x.yaml": {"web": 1}, "y.yaml": {"mail": 2}}))
    assert world.settle(scan(A, {"x.yaml": {"web": 2}, "y.yaml": {"mail": 1}})) == (
        "configured program/web generation 2 from /a/x.yaml:1\nconfigured program/mail generation 2 from /a/y.yaml:1"
    )


def test_deleted_and_created_again_within_one_scan_is_not_deleted() -> None:
    world = World()
    world.settle(scan(A, {"x.yaml": {"web": 1}}))
    assert world.settle(scan(A, {"x.yaml": {"web": 1}})) == ""


def test_deleted_and_created_again_later_is_a_new_object() -> None:
    world = World()
    world.settle(scan(A, many(3)))
    world.settle(scan(A, many(2)))
    assert world.settle(scan(A, many(3))) == "created program/p2 generation 1 from /a/p2.yaml:1"


def test_the_only_object_renamed_in_its_file_is_replaced() -> None:
    world = World()
    world.settle(scan(A, {"x.yaml": {"web": 1}}))
    assert world.settle(scan(A, {"x.yaml": {"site": 1}})) == (
        "removed program/web\ncreated program/site generation 1 from /a/x.yaml:1"
    )


class TestConflicts:
    def test_the_recorded_owner_keeps_a_name_against_an_earlier_path(self) -> None:
        world = World()
        world.settle(scan(A, {"x.yaml": {"web": 1}}))
        assert world.settle(scan(A, {"a.yaml": {"web": 2}, "x.yaml": {"web": 1}})) == (
            "conflict program/web: /a/x.yaml:1 keeps it against /a/a.yaml:1"
        )

    def test_the_problem_names_both_places(self) -> None:
        world = World()
        world.settle(scan(A, {"a.yaml": {"web": 1}, "b.yaml": {"web": 2}}))
        (conflict,) = (change for change in world.changes if hasattr(change, "as_problem"))
        assert str(conflict.as_problem()) == (
            "/a/b.yaml:1:1: metadata.name: program/web is declared differently in /a/a.yaml:1, which owns it"
            " (rename one, or delete this one)"
        )

    def test_a_name_without_owner_goes_to_the_first_directory_then_the_first_path(self) -> None:
        world = World(A, B)
        assert world.settle(scan(A, {"y.yaml": {"web": 2}, "x.yaml": {"web": 1}}), scan(B, {"a.yaml": {"web": 3}})) == (
            "created program/web generation 1 from /a/x.yaml:1\n"
            "conflict program/web: /a/x.yaml:1 keeps it against /a/y.yaml:1\n"
            "conflict program/web: /a/x.yaml:1 keeps it against /b/a.yaml:1"
        )

    def test_an_equal_spec_elsewhere_is_no_conflict(self) -> None:
        world = World(A, B)
        world.settle(scan(A, {"x.yaml": {"web": 1}}))
        assert world.settle(scan(B, {"x.yaml": {"web": 1}})) == ""

    def test_an_owner_that_changes_comes_into_conflict_with_what_was_equal(self) -> None:
        world = World(A, B)
        world.settle(scan(A, {"x.yaml": {"web": 1}}), scan(B, {"x.yaml": {"web": 1}}))
        assert world.settle(scan(A, {"x.yaml": {"web": 2}})) == (
            "configured program/web generation 2 from /a/x.yaml:1\n"
            "conflict program/web: /a/x.yaml:1 keeps it against /b/x.yaml:1"
        )

    def test_when_the_owner_lets_go_the_other_has_it_with_the_same_uid(self) -> None:
        world = World(A, B)
        world.settle(scan(A, {"x.yaml": {"web": 1}, "y.yaml": {"mail": 1}}), scan(B, {"x.yaml": {"web": 2}}))
        uid = world.uid("web")
        assert world.settle(scan(A, {"y.yaml": {"mail": 1}})) == "configured program/web generation 2 from /b/x.yaml:1"
        assert world.uid("web") == uid

    def test_an_owner_that_was_deleted_a_moment_ago_has_not_let_go(self) -> None:
        world = World(A, B)
        world.settle(scan(A, {"x.yaml": {"web": 1}, "y.yaml": {"mail": 1}}), scan(B, {"x.yaml": {"web": 2}}))
        assert world.settle(scan(A, {"y.yaml": {"mail": 1}}, tentative=True)) == (
            "conflict program/web: /a/x.yaml:1 keeps it against /b/x.yaml:1"
        )

    def test_a_vanished_directory_does_not_hand_its_names_to_others(self) -> None:
        world = World(A, B)
        world.settle(scan(A, {"x.yaml": {"web": 1}}), scan(B, {"x.yaml": {"web": 2}}))
        assert "/a/x.yaml:1 keeps it against /b/x.yaml:1" in world.settle(scan(A, {}, present=False))
        assert world.accepted[Key("Program", "web")].canonical == {"command": 1}

    def test_take_over_moves_a_name_and_it_stays_there(self) -> None:
        world = World(A)
        world.settle(scan(A, {"x.yaml": {"web": 1}}))
        world.applied = [scan(SET, {"manifests/Program/web.yaml": {"web": 2}})]
        kept = "conflict program/web: /a/x.yaml:1 keeps it against applyset default"
        assert world.settle() == kept
        assert world.settle(preferred={Key("Program", "web"): SET}) == (
            "configured program/web generation 2 from applyset default\n"
            "conflict program/web: applyset default keeps it against /a/x.yaml:1"
        )
        assert world.settle() == "conflict program/web: applyset default keeps it against /a/x.yaml:1"


class TestBrokenFiles:
    def test_every_object_of_a_broken_file_stays_in_force(self) -> None:
        world = World()
        world.settle(scan(A, {"x.yaml": {"web": 1, "mail": 2}}))
        assert world.settle(scan(A, {"x.yaml": None})) == (
            "invalid program/web: /a/x.yaml\ninvalid program/mail: /a/x.yaml"
        )
        assert world.names() == ["mail", "web"]

    def test_over_a_restart_too(self) -> None:
        world = World()
        world.settle(scan(A, {"x.yaml": {"web": 1}}))
        reborn = World()
        reborn.accepted = dict(world.accepted)
        assert reborn.settle() == ""
        assert reborn.settle(scan(A, {"x.yaml": None})) == "invalid program/web: /a/x.yaml"

    def test_the_sound_documents_of_a_broken_file_follow_their_changes(self) -> None:
        world = World()
        world.settle(scan(A, {"x.yaml": {"web": 1, "mail": 2}}))
        error = Problem("/a/x.yaml", 9, 1, "spec.replicas", "must be a number")
        partly = Scan(A, {"/a/x.yaml": FileReading((declared("mail", 3),), (error,))})
        assert world.settle(partly) == (
            "invalid program/web: /a/x.yaml\nconfigured program/mail generation 2 from /a/x.yaml:1"
        )

    def test_a_broken_file_loses_nothing_to_another_file(self) -> None:
        world = World()
        world.settle(scan(A, {"x.yaml": {"web": 1}}))
        assert world.settle(scan(A, {"x.yaml": None, "y.yaml": {"web": 2}})) == (
            "conflict program/web: /a/x.yaml:1 keeps it against /a/y.yaml:1\ninvalid program/web: /a/x.yaml"
        )

    def test_a_warning_breaks_nothing(self) -> None:
        world = World()
        world.settle(scan(A, {"x.yaml": {"web": 1, "mail": 2}, "y.yaml": {"cron": 1}}))
        warning = Problem("/a/x.yaml", 1, 1, "", "runs as root", severity="warning")
        warned = {"/a/x.yaml": FileReading((declared("web", 1),), (warning,)), **scan(A, {"y.yaml": {"cron": 1}}).files}
        assert world.settle(Scan(A, warned)) == "removed program/mail"

    def test_what_lies_below_an_unreadable_folder_stays_in_force(self) -> None:
        world = World()
        world.settle(scan(A, {"sub/deep/x.yaml": {"web": 1}, "y.yaml": {"mail": 1}, "z.yaml": {"cron": 1}}))
        locked = scan(A, {"y.yaml": {"mail": 1}}, unreadable=frozenset({"/a/sub"}))
        assert world.settle(locked) == "invalid program/web: /a/sub\nremoved program/cron"


class TestSuspectSources:
    def test_a_directory_that_went_from_some_to_none_stops_nothing(self) -> None:
        world = World()
        world.settle(scan(A, {"x.yaml": {"web": 1}}))
        assert world.settle(scan(A, {})) == (
            "suspected program/web generation 1 from /a/x.yaml:1\nsuspect dir:/a: program/web"
        )
        assert world.settle(scan(A, {})) == "suspect dir:/a: program/web"

    def test_more_than_half_lost_at_once_stops_nothing(self) -> None:
        world = World()
        world.settle(scan(A, many(5)))
        world.settle(scan(A, many(2)))
        assert world.names() == ["p0", "p1", "p2", "p3", "p4"]

    def test_half_lost_is_believed(self) -> None:
        world = World()
        world.settle(scan(A, many(4)))
        world.settle(scan(A, many(2)))
        assert world.names() == ["p0", "p1"]

    def test_what_was_suspect_stays_so_when_others_come_and_over_a_restart(self) -> None:
        world = World()
        world.settle(scan(A, many(5)))
        world.settle(scan(A, many(2)))
        grown = {**many(2), **many(30, start=100)}
        world.settle(scan(A, grown))
        reborn = World()
        reborn.accepted = dict(world.accepted)
        assert reborn.settle(scan(A, grown)) == "suspect dir:/a: program/p2 program/p3 program/p4"

    def test_what_comes_back_is_trusted_again(self) -> None:
        world = World()
        world.settle(scan(A, many(5)))
        uid = world.uid("p4")
        world.settle(scan(A, many(2)))
        assert world.settle(scan(A, many(5))) == "\n".join(
            f"returned program/p{n} generation 1 from /a/p{n}.yaml:1" for n in (2, 3, 4)
        )
        assert world.uid("p4") == uid

    def test_a_confirmed_loss_is_carried_out(self) -> None:
        world = World()
        world.settle(scan(A, many(2)))
        world.settle(scan(A, {}))
        assert world.settle(confirmed={A}) == "removed program/p0\nremoved program/p1"

    def test_a_vanished_directory_is_suspect_and_says_so(self) -> None:
        world = World()
        world.settle(scan(A, many(2)))
        assert world.settle(scan(A, {}, present=False)) == "suspect dir:/a: program/p0 program/p1"
        (suspect,) = world.changes
        assert isinstance(suspect, SourceSuspect)
        assert suspect.message == "/a is not there; restore it, or confirm with `apply --allow-empty -f /a`"

    def test_a_directory_that_vanished_a_moment_ago_is_not_yet_worth_a_word(self) -> None:
        world = World()
        world.settle(scan(A, many(2)))
        assert world.settle(scan(A, {}, present=False, tentative=True)) == ""

    def test_a_vanished_directory_can_be_confirmed_one_that_cannot_be_listed_can_not(self) -> None:
        world = World()
        world.settle(scan(A, many(1)))
        world.settle(scan(A, {}, error="cannot be read: Permission denied"), confirmed={A})
        assert world.names() == ["p0"]
        world.settle(scan(A, {}, present=False), confirmed={A})
        assert world.names() == []

    def test_a_directory_that_is_not_watched_any_more_keeps_what_it_had(self) -> None:
        world = World(A)
        world.settle(scan(A, {"x.yaml": {"web": 1}}))
        reborn = World(B)
        reborn.accepted = dict(world.accepted)
        assert reborn.settle(scan(B, {"y.yaml": {"mail": 1}})) == (
            "suspect dir:/a: program/web\ncreated program/mail generation 1 from /b/y.yaml:1"
        )

    def test_a_directory_renamed_together_with_its_option_moves(self) -> None:
        world = World(A)
        world.settle(scan(A, {"x.yaml": {"web": 1}}))
        reborn = World(B)
        reborn.accepted = dict(world.accepted)
        assert reborn.settle(scan(B, {"x.yaml": {"web": 1}})) == "moved program/web generation 1 from /b/x.yaml:1"

    def test_everything_moved_to_another_directory_is_no_loss(self) -> None:
        world = World(A, B)
        world.settle(scan(A, many(2)), scan(B, {}))
        assert world.settle(scan(A, {}), scan(B, many(2))) == (
            "moved program/p0 generation 1 from /b/p0.yaml:1\nmoved program/p1 generation 1 from /b/p1.yaml:1"
        )

    def test_a_directory_whose_files_are_all_broken_has_lost_nothing(self) -> None:
        world = World()
        world.settle(scan(A, many(2)))
        assert "suspect" not in world.settle(scan(A, {"p0.yaml": None, "p1.yaml": None}))


class TestAppliedSets:
    def test_what_leaves_a_set_is_removed_however_much_it_is(self) -> None:
        world = World()
        world.applied = [scan(SET, {"manifests/Program/web.yaml": {"web": 1}})]
        world.settle()
        world.applied = [scan(SET, {})]
        assert world.settle() == "removed program/web"

    def test_a_set_that_lost_its_inventory_stops_nothing(self) -> None:
        world = World()
        world.applied = [scan(SET, {"manifests/Program/web.yaml": {"web": 1}})]
        world.settle()
        world.applied = []
        assert world.settle() == "suspect set:default: program/web"

    def test_a_damaged_stored_manifest_stops_nothing(self) -> None:
        world = World()
        world.applied = [scan(SET, {"manifests/Program/web.yaml": {"web": 1}})]
        world.settle()
        world.applied = [scan(SET, {"manifests/Program/web.yaml": None})]
        assert world.settle() == "invalid program/web: manifests/Program/web.yaml"


NAMES = ("p0", "p1", "p2", "p3")
contents = st.dictionaries(
    st.sampled_from(["w.yaml", "x.yaml", "y.yaml"]),
    st.none() | st.dictionaries(st.sampled_from(NAMES), st.integers(0, 2), max_size=3),
)
looks = st.builds(
    lambda home, files, state: scan(home, files if state != "gone" else {}, **STATES[state]),
    st.sampled_from([A, B]),
    contents,
    st.sampled_from(["fine", "fine", "fine", "gone", "moment"]),
)
STATES: dict[str, dict[str, object]] = {"fine": {}, "gone": {"present": False}, "moment": {"tentative": True}}


@given(st.lists(looks, max_size=8))
def test_whatever_happens_settling_twice_changes_nothing_and_nothing_is_lost_in_doubt(history: list[Scan]) -> None:
    world = World(A, B)
    for look in history:
        before = dict(world.accepted)
        world.settle(look)
        for change in world.changes:
            if isinstance(change, Remove):
                home = world.scans[change.before.home]
                assert home.trusted
                assert not home.files.get(change.before.file, FileReading()).broken
            if isinstance(change, Accept) and change.before is not None:
                assert change.after.uid == change.before.uid
                assert change.after.generation - change.before.generation in (0, 1)
        assert all(world.accepted[key].uid == item.uid for key, item in before.items() if key in world.accepted)
        again = world.settle()
        assert not any(isinstance(change, Accept | Remove) for change in world.changes), again
