"""The state directory: what is written is read back, a crash leaves old or new, damage is reported and never fatal."""

import errno
import json
import os
import stat
from pathlib import Path

import pytest
import yaml

from reconciler.adapters.statefiles import StateFiles, files
from reconciler.adapters.statefiles.events import EventLog
from reconciler.model.identity import Key
from reconciler.model.objects import Accepted, Declaration, Inventory, SetChange, StateWriteFailed
from reconciler.model.overrides import Overrides
from support.mortality import MOMENTS, fated

WEB = Key("Program", "web")


def accepted(name: str = "web", generation: int = 1, **about: object) -> Accepted:
    fields: dict[str, object] = {
        "kind": "Program",
        "name": name,
        "uid": f"uid-{name}",
        "generation": generation,
        "canonical": {"command": ["run", "ünï\u2028"], "replicas": 3},
        "labels": {"app": "shop"},
        "annotations": {"note": "two\nlines"},
        "home": "dir:/srv/manifests",
        "file": f"/srv/manifests/{name}.yaml",
        "line": 4,
    }
    return Accepted(**{**fields, **about})  # type: ignore[arg-type]


def stored(name: str, replicas: int = 1) -> Declaration:
    return Declaration("Program", name, {"replicas": replicas}, {"a": "b"}, {}, 2)


def applied(*names: str, removed: tuple[str, ...] = (), members: tuple[str, ...] | None = None) -> SetChange:
    keys = tuple(Key("Program", name) for name in (members if members is not None else names))
    gone = tuple(Key("Program", name) for name in removed)
    return SetChange("default", tuple(stored(name) for name in names), gone, (Inventory("default", keys, ("-",)),))


@pytest.fixture
def state(tmp_path: Path) -> StateFiles:
    return StateFiles(str(tmp_path))


class TestAccepted:
    def test_it_is_read_back_as_it_was(self, state: StateFiles) -> None:
        state.write_accepted([accepted("web", suspect=True), accepted("mail", 7)])
        assert state.load_accepted() == (
            {WEB: accepted("web", suspect=True), Key("Program", "mail"): accepted("mail", 7)},
            [],
        )

    def test_the_file_is_yaml_too_and_for_its_owner_only(self, state: StateFiles, tmp_path: Path) -> None:
        state.write_accepted([accepted()])
        path = tmp_path / "accepted/Program/web.yaml"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert yaml.safe_load(path.read_text())["spec"] == accepted().canonical

    def test_thousands_are_written_too(self, state: StateFiles) -> None:
        state.write_accepted([accepted(f"p{n}") for n in range(1000)])
        assert len(state.load_accepted()[0]) == 1000

    @pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe", b"[]", b"null", b'{"kind": "Program"}', b"\0" * 4096])
    def test_a_damaged_one_is_set_aside_and_reported_once(
        self, state: StateFiles, tmp_path: Path, damage: bytes
    ) -> None:
        state.write_accepted([accepted("web"), accepted("mail")])
        path = tmp_path / "accepted/Program/web.yaml"
        path.write_bytes(damage)
        found, problems = state.load_accepted()
        assert list(found) == [Key("Program", "mail")]
        assert [problem.file for problem in problems] == [str(path)]
        assert (tmp_path / "accepted/Program/web.yaml.broken").read_bytes() == damage
        assert state.load_accepted()[1] == []

    def test_what_a_crash_left_half_written_is_not_read(self, state: StateFiles, tmp_path: Path) -> None:
        state.write_accepted([accepted()])
        (tmp_path / "accepted/Program/.web.yaml.new").write_text('{"kin')
        assert state.load_accepted() == ({WEB: accepted()}, [])
        state.write_accepted([accepted(generation=2)])
        assert state.load_accepted()[0][WEB].generation == 2

    def test_a_disk_that_fills_up_in_the_middle_leaves_everything_as_it_was(
        self, state: StateFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        state.write_accepted([accepted("web"), accepted("mail")])
        calls = iter([None, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))])

        def fsync(fd: int) -> None:
            if (error := next(calls)) is not None:
                raise error

        monkeypatch.setattr(files.os, "fsync", fsync)
        with pytest.raises(StateWriteFailed, match=r"mail\.yaml: No space left on device"):
            state.write_accepted([accepted("web", 2), accepted("mail", 2)])
        monkeypatch.undo()
        assert {item.generation for item in state.load_accepted()[0].values()} == {1}
        assert sorted(os.listdir(tmp_path / "accepted/Program")) == ["mail.yaml", "web.yaml"]

    def test_what_is_removed_is_kept_aside_until_it_is_forgotten(self, state: StateFiles) -> None:
        state.write_accepted([accepted()])
        state.retire_accepted([WEB])
        assert state.load_accepted()[0] == {}
        assert state.load_leaving() == {WEB: accepted()}
        state.write_accepted([accepted(uid="another")])
        state.forget_accepted(WEB)
        state.forget_accepted(WEB)
        assert state.load_leaving() == {}
        assert state.load_accepted()[0][WEB].uid == "another"

    def test_a_namesake_that_is_deleted_too_does_not_hide_the_one_that_still_drains(self, state: StateFiles) -> None:
        for generation in (1, 2):
            state.write_accepted([accepted(generation=generation)])
            state.retire_accepted([WEB])
        assert state.load_accepted()[0] == {}
        assert state.load_leaving() == {WEB: accepted(generation=1)}

    @pytest.mark.parametrize("name", ["../x", "..", "a/b", "a\0b"])
    def test_no_name_leads_out_of_its_room(self, state: StateFiles, name: str) -> None:
        with pytest.raises(ValueError, match="not a name"):
            state.write_accepted([accepted(name)])

    def test_a_link_in_the_place_of_a_new_file_is_not_followed(self, state: StateFiles, tmp_path: Path) -> None:
        victim = tmp_path / "victim"
        victim.write_text("mine")
        (tmp_path / "accepted/Program").mkdir(parents=True)
        (tmp_path / "accepted/Program/.web.yaml.new").symlink_to(victim)
        with pytest.raises(StateWriteFailed):
            state.write_accepted([accepted()])
        assert victim.read_text() == "mine"


class TestApply:
    def test_what_was_committed_is_carried_over(self, state: StateFiles, tmp_path: Path) -> None:
        state.commit_incoming(applied("web", "mail"))
        assert state.load_applied() == ({}, {}, [])
        assert state.replay_incoming() == []
        inventories, objects, problems = state.load_applied()
        assert inventories == {"default": Inventory("default", (WEB, Key("Program", "mail")), ("-",))}
        assert objects == {"default": {WEB: stored("web"), Key("Program", "mail"): stored("mail")}}
        assert problems == []
        assert os.listdir(tmp_path / "incoming") == []

    def test_changes_are_carried_over_in_their_order(self, state: StateFiles) -> None:
        state.commit_incoming(applied("web"))
        state.commit_incoming(applied(removed=("web",), members=()))
        state.commit_incoming(applied("mail"))
        state.replay_incoming()
        assert list(state.load_applied()[1]["default"]) == [Key("Program", "mail")]

    @pytest.mark.parametrize("crash_at", range(4))
    def test_a_crash_while_carrying_over_is_made_good(
        self, state: StateFiles, monkeypatch: pytest.MonkeyPatch, crash_at: int
    ) -> None:
        state.commit_incoming(applied("web", "mail"))
        state.replay_incoming()
        state.commit_incoming(applied("cron", removed=("web",), members=("mail", "cron")))
        steps = iter(range(100))
        real_rename, real_unlink = os.rename, os.unlink

        def crash(act: object) -> object:
            def step(*args: str) -> None:
                if next(steps) == crash_at:
                    raise KeyboardInterrupt
                act(*args)  # type: ignore[operator]

            return step

        monkeypatch.setattr(files.os, "rename", crash(real_rename))
        monkeypatch.setattr(files.os, "unlink", crash(real_unlink))
        with pytest.raises(KeyboardInterrupt):
            state.replay_incoming()
        monkeypatch.undo()
        assert state.replay_incoming() == []
        inventories, objects, _ = state.load_applied()
        assert sorted(key.name for key in objects["default"]) == ["cron", "mail"]
        assert sorted(key.name for key in inventories["default"].members) == ["cron", "mail"]

    def test_it_is_carried_over_a_little_at_a_time_and_in_order(self, state: StateFiles, tmp_path: Path) -> None:
        state.commit_incoming(applied("a", "b", "c"))
        state.commit_incoming(applied("d", removed=("a",), members=("b", "c", "d")))
        assert state.has_unsettled
        assert state.settle(2)
        assert sorted(os.listdir(tmp_path / "manifests/Program")) == ["a.yaml", "b.yaml"]
        assert len(os.listdir(tmp_path / "incoming")) == 2
        while state.settle(2):
            pass
        assert not state.has_unsettled
        assert os.listdir(tmp_path / "incoming") == []
        assert [key.name for key in state.load_applied()[1]["default"]] == ["b", "c", "d"]

    def test_what_is_carried_over_at_once_meanwhile_is_not_begun_again(self, state: StateFiles) -> None:
        state.commit_incoming(applied("a", "b", "c"))
        state.settle(1)
        state.commit_incoming(applied(removed=("a",), members=("b", "c")))
        state.replay_incoming()
        assert not state.has_unsettled
        assert not state.settle(1)
        assert [key.name for key in state.load_applied()[1]["default"]] == ["b", "c"]

    def test_killed_anywhere_on_its_way_it_is_carried_over_by_the_next(self, tmp_path: Path) -> None:
        at, lived = 0, False
        while not lived:
            at += 1
            for moment in MOMENTS:
                folder = tmp_path / f"{at}-{moment}"
                state = StateFiles(str(folder))
                state.commit_incoming(applied("a", "b", "c"))
                state.commit_incoming(applied("d", removed=("a",), members=("b", "c", "d")))
                with fated(at, moment) as fate:
                    while state.settle(2):
                        pass
                lived = not fate.struck
                following = StateFiles(str(folder))
                assert following.replay_incoming() == []
                inventories, objects, problems = following.load_applied()
                assert [key.name for key in objects["default"]] == ["b", "c", "d"], f"killed at {at} ({moment})"
                assert [key.name for key in inventories["default"].members] == ["b", "c", "d"]
                assert (problems, os.listdir(folder / "incoming")) == ([], [])
        assert at > 10, "it was killed all along"

    def test_one_that_is_damaged_since_is_told_and_the_next_goes_on(self, state: StateFiles, tmp_path: Path) -> None:
        for name in "abc":
            state.commit_incoming(applied(name))
        (tmp_path / "incoming/0000000002.json").write_text("{}")
        state.settle(10)
        with pytest.raises(StateWriteFailed, match="set aside"):
            state.settle(10)
        while state.settle(10):
            pass
        assert list(state.load_applied()[1]["default"]) == [Key("Program", "a"), Key("Program", "c")]

    def test_a_damaged_change_is_set_aside_and_the_next_goes_on(self, state: StateFiles, tmp_path: Path) -> None:
        (tmp_path / "incoming").mkdir()
        (tmp_path / "incoming/0000000001.json").write_text("{}")
        state.commit_incoming(applied("web"))
        (problem,) = state.replay_incoming()
        assert "set aside" in problem.message
        assert list(state.load_applied()[1]["default"]) == [WEB]

    def test_a_disk_that_does_not_take_the_commit_leaves_nothing(
        self, state: StateFiles, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(fd: int, data: bytes) -> int:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        monkeypatch.setattr(files.os, "write", full)
        with pytest.raises(StateWriteFailed, match="Read-only file system"):
            state.commit_incoming(applied("web"))
        monkeypatch.undo()
        state.replay_incoming()
        assert state.load_applied() == ({}, {}, [])


class TestSideRooms:
    def test_overrides_are_read_back_and_an_empty_one_is_none(self, state: StateFiles) -> None:
        state.write_override(WEB, {"scale": {"replicas": 8, "by": "me"}})
        assert state.load_overrides("Program", dict) == ({WEB: {"scale": {"replicas": 8, "by": "me"}}}, [])
        state.write_override(WEB, {})
        state.write_override(WEB, {})
        assert state.load_overrides("Program", dict) == ({}, [])

    @pytest.mark.parametrize(
        "spec",
        [
            '{"scale": {"replicas": 1e999, "written": 1}}',
            '{"scale": 7}',
            '{"stop": {"ordinals": 3, "now": true}}',
            '{"restart": {"epoch": 1, "ordinals": [[1]], "now": false}}',
            "[" * 5000 + "]" * 5000,
        ],
    )
    def test_an_override_that_is_none_is_set_aside_and_named(self, state: StateFiles, spec: str) -> None:
        """Whoever starts with it would die of it, and so would the next one."""
        state.write_override(WEB, {"scale": {"replicas": 8}})
        path = state._path("overrides", *WEB)
        with open(path, "w", encoding="utf-8") as file:
            file.write(f'{{"spec": {spec}}}')
        found, problems = state.load_overrides("Program", Overrides.from_document)
        assert (found, len(problems)) == ({}, 1)
        assert "is damaged and was set aside as web.yaml.broken" in problems[0].message

    def test_history_is_kept_by_revision(self, state: StateFiles) -> None:
        state.write_history("web", "7f3c", {"spec": {"a": 1}})
        state.write_history("web", "9999", {"spec": {"a": 2}})
        assert sorted(state.kept_revisions("web")) == ["7f3c", "9999"]
        assert state.kept_revisions("web-2") == []
        state.remove_history("web", "9999")
        assert state.load_history("web") == ({"7f3c": {"spec": {"a": 1}}}, [])

    def test_status_is_put_in_place_whole_and_only_when_it_differs(self, state: StateFiles, tmp_path: Path) -> None:
        path = tmp_path / "status/Program/web.yaml"
        assert state.write_status(WEB, {"status": {"replicas": 1}}) is None
        first = path.stat().st_ino
        state.write_status(WEB, {"status": {"replicas": 1}})
        assert path.stat().st_ino == first
        state.write_status(WEB, {"status": {"replicas": 2}})
        assert yaml.safe_load(path.read_text()) == {"status": {"replicas": 2}}
        assert state.remove_status(WEB) is None
        assert state.remove_status(WEB) is None
        assert not path.exists()

    def test_a_status_that_cannot_be_written_is_told_and_tried_again(self, state: StateFiles, tmp_path: Path) -> None:
        (tmp_path / "status").write_text("in the way")
        assert "cannot write" in (state.write_status(WEB, {"a": 1}) or "")
        (tmp_path / "status").unlink()
        assert state.write_status(WEB, {"a": 1}) is None


class TestEvents:
    def test_a_line_each_rotated_by_size(self, tmp_path: Path) -> None:
        path = tmp_path / "events.jsonl"
        events = EventLog(str(path), max_bytes=100, max_files=3)
        for number in range(40):
            assert events.append({"number": number, "text": "é\ud800"}) is None
        events.close()
        assert sorted(os.listdir(tmp_path)) == ["events.jsonl", "events.jsonl.1", "events.jsonl.2"]
        assert all(each.stat().st_size <= 100 for each in tmp_path.iterdir())
        names = ("events.jsonl.2", "events.jsonl.1", "events.jsonl")
        lines = [json.loads(line)["number"] for name in names for line in (tmp_path / name).read_text().splitlines()]
        assert lines == list(range(lines[0], 40))

    def test_a_line_cut_by_a_crash_costs_only_itself(self, state: StateFiles, tmp_path: Path) -> None:
        (tmp_path / "events.jsonl").write_text('{"number": 1}\n{"numb')
        state.append_event({"number": 3})
        assert list(state.load_events()) == [{"number": 1}, {"number": 3}]

    def test_of_a_long_past_the_last_events_are_loaded(self, state: StateFiles) -> None:
        for number in range(3000):
            state.append_event({"number": number, "message": "m" * 500})
        found = list(state.load_events())
        assert 1500 < len(found) < 3000
        assert [event["number"] for event in found] == list(range(3000 - len(found), 3000))
        state.close()

    def test_a_disk_that_refuses_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "events.jsonl").mkdir()
        assert "cannot write" in (EventLog(str(tmp_path / "events.jsonl")).append({"a": 1}) or "")
