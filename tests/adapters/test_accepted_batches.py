"""Many that are accepted at once are one file, and later each one of its own: killed anywhere, nothing is lost."""

import errno
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from reconciler.adapters.statefiles import StateFiles, accepted, files
from reconciler.model.identity import Key
from reconciler.model.objects import Accepted, StateWriteFailed
from support.mortality import MOMENTS, fated

MANY = 3
Said = dict[str, tuple[str, int, str]]  # by name: uid, generation, file


@pytest.fixture(autouse=True)
def _few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accepted, "MANY", MANY)


@pytest.fixture
def state(tmp_path: Path) -> StateFiles:
    return StateFiles(str(tmp_path))


def item(name: str, generation: int = 1, uid: str = "", file: str = "a.yaml") -> Accepted:
    spec = {"command": ["run", "ünï\u2028\n"], "replicas": generation}
    return Accepted("Program", name, uid or f"uid-{name}", generation, spec, {"app": "shop"}, {}, "dir:/srv", file, 4)


def items(names: str, generation: int = 1, file: str = "a.yaml") -> list[Accepted]:
    return [item(name, generation, file=file) for name in names]


def key(name: str) -> Key:
    return Key("Program", name)


def said(found: dict[Key, Accepted]) -> Said:
    return {each.name: (each.uid, each.generation, each.file) for each in found.values()}


def read(folder: Path) -> Said:
    """What the next controller finds; nothing may be wrong with it."""
    found, problems = StateFiles(str(folder)).load_accepted()
    assert problems == []
    return said(found)


def batches(folder: Path) -> list[str]:
    return sorted(os.listdir(folder / "accepted/batches"))


def alone(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder / "accepted/Program"))
    except FileNotFoundError:
        return []


def settle(state: StateFiles, most: int = 1000) -> None:
    while state.settle(most):
        pass


def test_many_are_one_file_until_each_has_one_of_its_own(state: StateFiles, tmp_path: Path) -> None:
    state.write_accepted(items("abcde"))
    assert (batches(tmp_path), alone(tmp_path), state.has_unsettled) == (["0000000001.jsonl"], [], True)
    expected = state.load_accepted()
    assert expected == ({key(name): item(name) for name in "abcde"}, [])
    assert state.settle(2)
    assert alone(tmp_path) == ["a.yaml", "b.yaml"]
    settle(state, 2)
    assert (batches(tmp_path), alone(tmp_path), state.has_unsettled) == ([], [f"{n}.yaml" for n in "abcde"], False)
    assert StateFiles(str(tmp_path)).load_accepted() == expected


def test_a_few_have_files_of_their_own_at_once(state: StateFiles, tmp_path: Path) -> None:
    state.write_accepted(items("ab"))
    assert (alone(tmp_path), state.has_unsettled) == (["a.yaml", "b.yaml"], False)
    assert not (tmp_path / "accepted/batches").exists()


def test_a_batch_is_lines_of_json_for_its_owner_only(state: StateFiles, tmp_path: Path) -> None:
    state.write_accepted(items("abc"))
    path = tmp_path / "accepted/batches/0000000001.jsonl"
    head, *lines = map(json.loads, path.read_bytes().rstrip(b"\n").split(b"\n"))
    assert head == {"apiVersion": "reconciler/v1", "kind": "AcceptedBatch", "items": 3}
    assert [line["metadata"]["name"] for line in lines] == ["a", "b", "c"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


class TestOrder:
    def test_what_is_changed_while_a_batch_holds_it_is_found_changed(self, state: StateFiles, tmp_path: Path) -> None:
        state.write_accepted(items("abc"))
        state.write_accepted([item("b", 2)])
        assert batches(tmp_path) == ["0000000001.jsonl", "0000000002.jsonl"]
        assert read(tmp_path)["b"] == ("uid-b", 2, "a.yaml")
        settle(state)
        assert read(tmp_path)["b"] == ("uid-b", 2, "a.yaml")

    def test_a_batch_outdoes_older_files_of_the_same_generation(self, state: StateFiles, tmp_path: Path) -> None:
        """Thousands that move to another file keep their generation."""
        state.write_accepted(items("ab") + items("c"))
        settle(state)
        state.write_accepted(items("abc", file="b.yaml"))
        assert {place for _, _, place in read(tmp_path).values()} == {"b.yaml"}

    def test_what_no_batch_holds_is_written_alone_meanwhile(self, state: StateFiles, tmp_path: Path) -> None:
        state.write_accepted(items("abc"))
        state.write_accepted([item("z")])
        assert alone(tmp_path) == ["z.yaml"]
        assert sorted(read(tmp_path)) == ["a", "b", "c", "z"]

    def test_a_torn_file_of_what_a_batch_holds_is_no_damage(self, state: StateFiles, tmp_path: Path) -> None:
        """It is not flushed before the batch goes: after a power cut it may be empty."""
        state.write_accepted(items("abc"))
        state.settle(1)
        (tmp_path / "accepted/Program/a.yaml").write_bytes(b"")
        assert sorted(read(tmp_path)) == ["a", "b", "c"]
        assert alone(tmp_path) == ["a.yaml"]

    def test_what_was_removed_does_not_come_back(self, state: StateFiles, tmp_path: Path) -> None:
        state.write_accepted(items("abc"))
        state.retire_accepted([key("b")])
        assert sorted(read(tmp_path)) == ["a", "c"]
        assert said(StateFiles(str(tmp_path)).load_leaving()) == {"b": ("uid-b", 1, "a.yaml")}
        state.forget_accepted(key("b"))
        assert sorted(read(tmp_path)) == ["a", "c"]

    def test_the_next_controller_goes_on_with_it(self, state: StateFiles, tmp_path: Path) -> None:
        state.write_accepted(items("abc"))
        state.settle(2)
        following = StateFiles(str(tmp_path))
        following.load_accepted()
        assert following.has_unsettled
        following.write_accepted(items("abcd", 2))
        settle(following)
        assert {generation for _, generation, _ in read(tmp_path).values()} == {2}
        assert batches(tmp_path) == []


class TestKills:
    """A story in which all kinds of change meet; it is cut off at each call that changes the disk."""

    STEPS: Sequence[Callable[[StateFiles], object]] = (
        lambda state: state.write_accepted(items("abcd")),
        lambda state: state.settle(2),
        lambda state: state.write_accepted([item("a", 2), item("z")]),
        lambda state: state.settle(2),
        lambda state: state.write_accepted(items("cde", 3, file="b.yaml")),
        lambda state: state.settle(1),
        lambda state: state.retire_accepted([key("c"), key("z")]),
        lambda state: state.write_accepted([item("c", uid="another")]),
        lambda state: state.forget_accepted(key("c")),
        lambda state: state.write_accepted([item("a", 3), item("b", 3), item("c", 2, uid="another")]),
        lambda state: state.retire_accepted([key("c")]),
        settle,
    )

    def tell(self, state: StateFiles) -> Iterator[tuple[Said, Said]]:
        """The story; before each step, and at the end: what was acknowledged."""
        for step in self.STEPS:
            yield said(state.load_accepted()[0]), said(state.load_leaving())
            step(state)
        yield said(state.load_accepted()[0]), said(state.load_leaving())

    def test_nothing_acknowledged_is_lost_and_nothing_removed_comes_back(self, tmp_path: Path) -> None:
        acknowledged = list(self.tell(StateFiles(str(tmp_path / "whole"))))
        at, lived = 0, False
        while not lived:
            at += 1
            for moment in MOMENTS:
                folder, reached = tmp_path / f"{at}-{moment}", 0
                with fated(at, moment) as fate:
                    state = StateFiles(str(folder))
                    for step in self.STEPS:
                        step(state)
                        reached += 1
                reached = min(reached, len(self.STEPS) - 1)
                lived = not fate.struck
                found, leaving = read(folder), said(StateFiles(str(folder)).load_leaving())
                before, after = acknowledged[reached], acknowledged[reached + 1]
                for name in before[0].keys() | after[0].keys() | found.keys():
                    allowed = [state[0].get(name) for state in (before, after)]
                    assert found.get(name) in allowed, f"{name} after a kill at call {at} ({moment}), step {reached}"
                for name, gone in before[1].items():
                    if name in after[1]:
                        assert leaving.get(name) == gone, f"{name} leaves no more after a kill at {at} ({moment})"
                following = StateFiles(str(folder))
                following.load_accepted()
                settle(following)
                assert read(folder) == found, f"settled after a kill at call {at} ({moment})"
                assert not following.has_unsettled
        assert at > 40, "it was killed all along"


class TestDamage:
    @pytest.mark.parametrize("damage", [b"", b"\0\0", b"[", b"\xff", b'{"metadata": 7}'])
    def test_a_damaged_line_is_told_with_its_place_and_costs_that_line(
        self, state: StateFiles, tmp_path: Path, damage: bytes
    ) -> None:
        state.write_accepted(items("abc"))
        path = tmp_path / "accepted/batches/0000000001.jsonl"
        lines = path.read_bytes().split(b"\n")
        lines[2] = damage
        path.write_bytes(b"\n".join(lines))
        following = StateFiles(str(tmp_path))
        found, problems = following.load_accepted()
        assert sorted(said(found)) == ["a", "c"]
        (problem,) = problems
        assert (problem.file, problem.severity) == (str(path), "warning")
        assert "line" in str(problem)
        settle(following)
        assert sorted(read(tmp_path)) == ["a", "c"]
        assert batches(tmp_path) == ["0000000001.jsonl.broken"]
        assert path.with_suffix(".jsonl.broken").read_bytes() == b"\n".join(lines)

    def test_what_the_damaged_line_said_before_is_still_known(self, state: StateFiles, tmp_path: Path) -> None:
        state.write_accepted([item("b")])
        state.write_accepted(items("abc", 2))
        path = tmp_path / "accepted/batches/0000000001.jsonl"
        path.write_bytes(path.read_bytes().replace(b'"name": "b"', b'"nam', 1))
        found, _ = StateFiles(str(tmp_path)).load_accepted()
        assert {name: generation for name, (_, generation, _) in said(found).items()} == {"a": 2, "b": 1, "c": 2}

    def test_a_batch_that_ends_early_is_told(self, state: StateFiles, tmp_path: Path) -> None:
        state.write_accepted(items("abc"))
        path = tmp_path / "accepted/batches/0000000001.jsonl"
        path.write_bytes(b"\n".join(path.read_bytes().split(b"\n")[:3]) + b"\n")
        found, problems = StateFiles(str(tmp_path)).load_accepted()
        assert sorted(said(found)) == ["a", "b"]
        assert [problem.message for problem in problems] == ["1 of 3 lines are missing"]

    def test_a_damaged_head_costs_nothing(self, state: StateFiles, tmp_path: Path) -> None:
        state.write_accepted(items("abc"))
        path = tmp_path / "accepted/batches/0000000001.jsonl"
        path.write_bytes(b"?" + path.read_bytes())
        found, problems = StateFiles(str(tmp_path)).load_accepted()
        assert sorted(said(found)) == ["a", "b", "c"]
        assert [(problem.file, problem.line) for problem in problems] == [(str(path), 1)]

    def test_one_that_cannot_be_read_is_set_aside_at_once(self, state: StateFiles, tmp_path: Path) -> None:
        """Read at the next start it would outdo what was written meanwhile."""
        path = tmp_path / "accepted/batches/0000000001.jsonl"
        path.parent.mkdir(parents=True)
        path.symlink_to("nowhere")
        found, problems = state.load_accepted()
        assert found == {}
        assert "No such file or directory; it was set aside as 0000000001.jsonl.broken" in problems[0].message
        assert not state.has_unsettled
        state.write_accepted(items("abc"))
        assert sorted(read(tmp_path)) == ["a", "b", "c"]


class TestRefusal:
    def test_a_disk_that_is_full_leaves_everything_as_it_was(
        self, state: StateFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        state.write_accepted(items("abc"))

        def full(fd: int, data: bytes) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(files.os, "write", full)
            with pytest.raises(StateWriteFailed, match=r"0000000002\.jsonl: No space left"):
                state.write_accepted(items("abcd", 2))
            with pytest.raises(StateWriteFailed, match=r"a\.yaml: No space left"):
                state.settle(2)
            with pytest.raises(StateWriteFailed, match=r"a\.yaml: No space left"):
                state.retire_accepted([key("b")])
        assert batches(tmp_path) == ["0000000001.jsonl"]
        assert {generation for _, generation, _ in read(tmp_path).values()} == {1}
        state.write_accepted(items("abcd", 2))
        settle(state, 1)
        assert {generation for _, generation, _ in read(tmp_path).values()} == {2}

    def test_a_folder_that_cannot_be_made_is_told(self, state: StateFiles, tmp_path: Path) -> None:
        (tmp_path / "accepted").write_text("in the way")
        with pytest.raises(StateWriteFailed, match="accepted/batches: Not a directory"):
            state.write_accepted(items("abc"))

    def test_what_cannot_be_made_safe_keeps_its_batch(
        self, state: StateFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        state.write_accepted(items("abc"))

        def refuse(folder: str) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        with monkeypatch.context() as patch:
            patch.setattr(files, "_sync_filesystem", refuse)
            with pytest.raises(StateWriteFailed, match="Input/output error"):
                state.settle(100)
        assert (batches(tmp_path), state.has_unsettled) == (["0000000001.jsonl"], True)
        settle(state)
        assert batches(tmp_path) == []
