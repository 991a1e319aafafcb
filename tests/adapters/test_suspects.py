"""run/suspects.json: who died over what, over the death of controllers."""

from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.adapters.statefiles import SuspectFiles
from reconciler.adapters.statefiles import suspects as module
from reconciler.model.objects import Accepted

WEB = Accepted("Program", "web", "u1", 3, {}, {}, {}, "dir:/m", "/m/web.yaml")
MAIL = replace(WEB, name="mail", uid="u2")


def suspects(folder: Path, *, careful: bool = True) -> SuspectFiles:
    return SuspectFiles(str(folder), careful=careful)


def test_what_a_careful_controller_was_at_when_it_died_is_known_to_the_next_ones(tmp_path: Path) -> None:
    dies = suspects(tmp_path)
    dies.at(MAIL)
    dies.over()
    dies.at(WEB)
    for careful in (True, True, False):
        after = suspects(tmp_path, careful=careful)
        assert (after.knows(WEB), after.knows(MAIL)) == (True, False)


def test_who_dies_in_between_dies_of_nothing_that_is_known(tmp_path: Path) -> None:
    dies = suspects(tmp_path)
    dies.at(WEB)
    dies.over()
    assert not suspects(tmp_path).knows(WEB)


def test_who_is_not_careful_writes_nothing_down_and_forgets_what_was(tmp_path: Path) -> None:
    suspects(tmp_path).at(WEB)
    suspects(tmp_path, careful=False).at(MAIL)
    after = suspects(tmp_path)
    assert not after.knows(WEB)
    assert not after.knows(MAIL)


def test_another_generation_another_object_and_another_version_are_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suspects(tmp_path).at(WEB)
    after = suspects(tmp_path)
    assert not after.knows(replace(WEB, generation=4))
    assert not after.knows(replace(WEB, uid="u9"))
    assert after.knows(WEB)
    monkeypatch.setattr(module, "__version__", "7.0")
    assert not after.knows(WEB)


def test_what_is_cleared_is_tried_again(tmp_path: Path) -> None:
    suspects(tmp_path).at(WEB)
    suspects(tmp_path).clear(WEB)
    assert not suspects(tmp_path).knows(WEB)


@pytest.mark.parametrize("rubbish", [b"", b"[]", b'{"at": 7}', b'{"at": ["a"]}', b"\xff", b"[" * 100_000, b'"' * 2048])
def test_rubbish_is_nothing(tmp_path: Path, rubbish: bytes) -> None:
    for name in ("at", "suspects.json"):
        (tmp_path / name).write_bytes(rubbish)
    after = suspects(tmp_path)
    assert not after.knows(WEB)
    after.at(WEB)
    assert suspects(tmp_path).knows(WEB)


def test_a_folder_that_takes_nothing_stops_nobody(tmp_path: Path) -> None:
    nowhere = suspects(tmp_path / "is not there")
    nowhere.at(WEB)
    nowhere.over()
    nowhere.clear(WEB)
    assert not nowhere.knows(WEB)
