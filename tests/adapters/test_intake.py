"""Intake over a real state directory: on disk before it is announced, all or nothing, and a crash loses nothing."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from reconciler.adapters.documents import parse
from reconciler.adapters.statefiles import StateFiles
from reconciler.core.homes import Accept, Change, Remove, render
from reconciler.engine import intake
from reconciler.engine.intake import Intake
from reconciler.model.identity import Key
from reconciler.model.objects import FileReading, Scan, StateWriteFailed
from reconciler.model.problems import ApiError

WEB = Key("Program", "web")
CONFIG = "apiVersion: reconciler/v1\nkind: Config\nmetadata: {name: x}\nspec: {}\n"


def program(name: str, replicas: int = 1) -> str:
    head = f"apiVersion: reconciler/v1\nkind: Program\nmetadata: {{name: {name}}}\n"
    return f"{head}spec: {{command: [sleep, '1'], workingDir: /srv, replicas: {replicas}}}\n---\n"


async def parse_many(sources: Sequence[tuple[bytes, str, str | None]]) -> list[FileReading]:
    return [parse(*source) for source in sources]


class Folder:
    """A watched directory that holds what the test says."""

    def __init__(self, root: str) -> None:
        self.root, self.home = root, f"dir:{root}"
        self.texts: dict[str, str] = {}
        self.deliver: Callable[[Scan], Awaitable[None]] | None = None

    async def start(self, deliver: Callable[[Scan], Awaitable[None]]) -> None:
        self.deliver = deliver
        await self.rescan()

    async def rescan(self, *, settled: bool = False) -> Scan:
        paths = {os.path.join(self.root, name): text for name, text in sorted(self.texts.items())}
        files = {path: parse(text.encode(), path, os.path.dirname(path)) for path, text in paths.items()}
        scan = Scan(self.home, files)
        if self.deliver is not None:
            await self.deliver(scan)
        return scan

    async def close(self) -> None:
        self.deliver = None


class House:
    """An intake, what it announced, and the disk below it."""

    def __init__(self, state_dir: Path, *folders: Folder) -> None:
        self.state_dir, self.folders = state_dir, folders
        self.announced: list[Change] = []
        self.too_early: list[Change] = []  # announced, but not on disk
        self.store = StateFiles(str(state_dir))
        self.uids = iter(range(10_000))

    def _hear(self, changes: Sequence[Change]) -> None:
        on_disk, _ = self.store.load_accepted()
        for change in changes:
            match change:
                case Accept(after=after) if on_disk.get(after.key) != after:
                    self.too_early.append(change)
                case Remove(before=before) if before.key in on_disk:
                    self.too_early.append(change)
        self.announced += changes

    def _uid(self, key: Key) -> str:
        return f"{key.name}-{next(self.uids)}"

    async def start(self, *, read: bool = True) -> "House":
        self.announced.clear()
        self.intake = Intake(self.store, self._hear, self.folders, parse_many, self._uid, read=read)
        self.intake.restore()
        await self.intake.start()
        return self

    async def apply(self, *texts: str, file: str = "-", **terms: Any) -> list[str]:
        return self.lines(await self.intake.commit(await self.prepare(*texts, file=file, **terms)))

    async def prepare(self, *texts: str, file: str = "-", **terms: Any) -> Any:
        documents = [{"file": file, "text": text, "baseDir": "/base"} for text in texts]
        return await self.intake.prepare_apply({"documents": documents, **terms})

    def lines(self, prepared: Any) -> list[str]:
        return [f"{r['kind']}/{r['name']} {r['verb']} {r['generation']}" for r in prepared.results]

    def heard(self) -> str:
        text = render(self.announced)
        self.announced.clear()
        return text

    def in_force(self) -> dict[str, int]:
        return {key.name: item.canonical["replicas"] for key, item in sorted(self.intake.objects.items())}

    def conditions(self, key: Key = WEB) -> list[str]:
        return [condition.type for condition in self.intake.conditions(self.intake.objects[key])]


@pytest.fixture
def folder() -> Folder:
    return Folder("/srv/manifests")


@pytest.fixture
async def house(tmp_path: Path, folder: Folder) -> AsyncIterator[House]:
    house = await House(tmp_path, folder).start()
    yield house
    assert house.too_early == []


async def test_what_a_directory_declares_is_on_disk_before_it_is_announced(house: House, folder: Folder) -> None:
    folder.texts["web.yaml"] = program("web")
    await house.intake.rescan()
    assert house.heard() == "created program/web generation 1 from /srv/manifests/web.yaml:1"
    assert house.intake.objects[WEB].source == "dir:manifests/web.yaml"


async def test_a_new_controller_knows_what_is_in_force_and_announces_nothing(house: House, folder: Folder) -> None:
    folder.texts["web.yaml"] = program("web")
    await house.intake.rescan()
    await house.apply(program("mail"))
    before = dict(house.intake.objects)
    await house.start()
    assert house.intake.objects == before
    assert house.heard() == ""


async def test_many_are_on_disk_before_they_are_announced_and_later_in_files_of_their_own(
    house: House, folder: Folder
) -> None:
    house.intake.tidying.is_busy = lambda: True
    folder.texts["many.yaml"] = "".join(program(f"p{number}") for number in range(60))
    await house.intake.rescan()
    assert house.store.has_unsettled
    await house.intake.close()
    assert len(house.announced) == 60
    before = dict(house.intake.objects)
    await house.start()
    assert (house.intake.objects, house.heard()) == (before, "")
    while house.store.has_unsettled:
        await asyncio.sleep(0)
    assert len(os.listdir(house.state_dir / "accepted/Program")) == 60
    await house.intake.close()
    await house.start()
    assert house.intake.objects == before


async def test_many_that_are_applied_are_answered_for_before_each_has_a_file(house: House) -> None:
    house.intake.tidying.is_busy = lambda: True
    texts = [program(f"p{number}") for number in range(120)]
    assert len(await house.apply(*texts)) == 120
    assert len(os.listdir(house.state_dir / "incoming")) == 1
    before = dict(house.intake.objects)
    await house.intake.close()
    house.store = StateFiles(str(house.state_dir))  # as one finds it who comes after a kill
    await house.start()
    assert (house.intake.objects, house.heard()) == (before, "")
    assert await house.apply(program("p7", 2)) == ["Program/p7 configured 2"]
    while house.store.has_unsettled:
        await asyncio.sleep(0)
    assert len(os.listdir(house.state_dir / "manifests/Program")) == 120
    assert os.listdir(house.state_dir / "incoming") == []
    await house.start()
    assert house.in_force()["p7"] == 2
    assert house.heard() == ""


async def test_apply_creates_configures_and_leaves_unchanged(house: House) -> None:
    assert await house.apply(program("web") + program("mail")) == ["Program/web created 1", "Program/mail created 1"]
    assert await house.apply(program("web", 2) + program("mail")) == [
        "Program/web configured 2",
        "Program/mail unchanged 1",
    ]
    assert house.in_force() == {"mail": 1, "web": 2}
    assert house.intake.objects[WEB].source == "applyset:default"


async def test_a_dry_run_leaves_no_trace(house: House) -> None:
    prepared = await house.prepare(program("web"))
    assert house.lines(prepared) == ["Program/web created 1"]
    assert house.in_force() == {}
    assert await house.apply(program("web")) == ["Program/web created 1"]


async def test_prune_and_the_hint_without_it(house: House) -> None:
    await house.apply(program("web") + program("mail") + program("cron"))
    prepared = await house.prepare(program("web") + program("mail"))
    assert prepared.hints == ("not in the input, but in applyset default: program/cron (--prune deletes)",)
    assert await house.apply(program("web") + program("mail"), prune=True) == [
        "Program/web unchanged 1",
        "Program/mail unchanged 1",
        "Program/cron pruned 1",
    ]
    assert house.in_force() == {"mail": 1, "web": 1}


async def test_prune_refuses_more_than_half_and_all(house: House) -> None:
    await house.apply("".join(program(f"p{n}") for n in range(4)))
    terms: dict[str, str]
    for terms, message in [
        ({}, "3 of 4 objects of applyset default, more than 50%"),
        ({"pruneLimit": "2"}, "more than 2"),
        ({"pruneLimit": "many"}, "neither a share"),
    ]:
        with pytest.raises(ApiError, match=message):
            await house.prepare(program("p0"), prune=True, **terms)
    with pytest.raises(ApiError, match="all 4 objects of applyset default; --allow-empty"):
        await house.prepare(program("new"), prune=True, pruneLimit="100%")
    with pytest.raises(ApiError, match="nothing in the input"):
        await house.prepare(prune=True)
    assert len(await house.apply(program("p0"), prune=True, pruneLimit="100%")) == 4
    assert await house.apply(prune=True, allowEmpty=True) == ["Program/p0 pruned 1"]
    assert house.in_force() == {}


async def test_sets_prune_only_their_own(house: House) -> None:
    await house.apply(program("web") + program("mail"), applyset="one")
    await house.apply(program("cron") + program("sync"), applyset="two")
    answer = await house.apply(program("web"), applyset="one", prune=True)
    assert answer == ["Program/web unchanged 1", "Program/mail pruned 1"]
    assert house.in_force() == {"cron": 1, "sync": 1, "web": 1}


async def test_all_errors_of_an_input_come_at_once_and_nothing_is_applied(house: House) -> None:
    texts = (program("web") + "a: [", program("mail").replace("replicas", "replica"), program("Not_Ok"))
    with pytest.raises(ApiError) as caught:
        await house.prepare(*texts)
    assert (caught.value.exit_code, caught.value.reason) == (1, "Invalid")
    assert len(caught.value.problems) >= 3
    assert house.in_force() == {}


async def test_the_same_name_twice_in_one_input_has_to_be_the_same_twice(house: House) -> None:
    assert await house.apply(program("web"), program("web")) == ["Program/web created 1"]
    with pytest.raises(ApiError, match=r"^1 error; nothing was done$") as refused:
        await house.prepare(program("web"), program("web", 2))
    assert "stands differently" in refused.value.problems[0].message


async def test_other_kinds_are_not_applied_and_left_out_of_directories_with_a_warning(
    house: House, folder: Folder
) -> None:
    with pytest.raises(ApiError) as refused:
        await house.prepare(CONFIG)
    assert "Config is not applied" in refused.value.problems[0].message
    folder.texts["c.yaml"] = CONFIG
    answer = await house.intake.rescan()
    assert house.in_force() == {}
    assert answer["problems"][0]["severity"] == "warning"


class TestOwners:
    async def test_a_name_of_a_directory_is_refused_with_exit_6_and_an_equal_one_is_unchanged(
        self, house: House, folder: Folder
    ) -> None:
        folder.texts["web.yaml"] = program("web")
        await house.intake.rescan()
        with pytest.raises(ApiError, match=r"/srv/manifests/web\.yaml:1") as caught:
            await house.prepare(program("web", 2))
        assert caught.value.exit_code == 6
        (problem,) = caught.value.problems
        assert (problem.file, problem.line) == ("-", 1), "where it was handed in, not where it would be stored"
        assert await house.apply(program("web")) == ["Program/web unchanged 1"]
        await house.start()
        assert house.intake.objects[WEB].home == folder.home

    async def test_a_name_of_another_set_is_refused_and_take_over_moves_it(self, house: House) -> None:
        await house.apply(program("web"), applyset="one")
        uid = house.intake.objects[WEB].uid
        with pytest.raises(ApiError, match="belongs to applyset one; --take-over moves it to applyset two"):
            await house.prepare(program("web", 2), applyset="two")
        assert await house.apply(program("web", 2), applyset="two", takeOver=True) == ["Program/web configured 2"]
        assert house.intake.objects[WEB].uid == uid
        await house.start()
        assert (house.intake.objects[WEB].source, house.heard()) == ("applyset:two", "")
        assert house.store.load_applied()[0]["one"].members == ()

    async def test_take_over_from_a_directory_and_back(self, house: House, folder: Folder) -> None:
        folder.texts["web.yaml"] = program("web")
        await house.intake.rescan()
        assert await house.apply(program("web", 2), takeOver=True) == ["Program/web configured 2"]
        assert house.conditions() == ["Conflict"]
        answer = await house.apply(program("web"), file="/srv/manifests/web.yaml", takeOver=True)
        assert answer == ["Program/web configured 3"]
        assert house.intake.objects[WEB].home == folder.home
        assert house.conditions() == []
        await house.start()
        assert (house.intake.objects[WEB].home, house.heard()) == (folder.home, "")

    async def test_an_applied_object_is_deleted(self, house: House) -> None:
        await house.apply(program("web") + program("mail"))
        await house.intake.delete(WEB, dry_run=True)
        assert "web" in house.in_force()
        house.heard()
        await house.intake.delete(WEB)
        assert house.heard() == "removed program/web"
        await house.start()
        assert house.in_force() == {"mail": 1}
        assert list(house.store.load_leaving()) == [WEB]

    async def test_an_object_of_a_directory_is_not_and_the_file_is_named(self, house: House, folder: Folder) -> None:
        folder.texts["web.yaml"] = program("web")
        await house.intake.rescan()
        with pytest.raises(ApiError, match=r"delete it from /srv/manifests/web\.yaml:1") as caught:
            await house.intake.delete(WEB)
        assert caught.value.exit_code == 6
        with pytest.raises(ApiError) as caught:
            await house.intake.delete(Key("Program", "nobody"))
        assert caught.value.exit_code == 3

    async def test_unless_its_directory_has_lost_it(self, house: House, folder: Folder) -> None:
        folder.texts["web.yaml"] = program("web")
        await house.intake.rescan()
        folder.texts.clear()
        await house.intake.rescan()
        assert house.in_force() == {"web": 1}
        await house.intake.delete(WEB)
        assert house.in_force() == {}
        await house.start()
        assert house.in_force() == {}


class TestWatchedInput:
    async def test_applying_files_of_a_watched_directory_reads_it_now(self, house: House, folder: Folder) -> None:
        folder.texts["web.yaml"] = program("web")
        prepared = await house.prepare(program("web"), file="/srv/manifests/web.yaml")
        assert house.lines(prepared) == ["Program/web created 1"]
        assert prepared.hints == ("/srv/manifests is watched: its files are read, nothing was stored",)
        assert house.in_force() == {}
        await house.intake.commit(prepared)
        assert house.intake.objects[WEB].home == folder.home
        assert not (house.state_dir / "manifests").exists()

    async def test_diff_of_a_watched_directory_shows_what_is_gone(self, house: House, folder: Folder) -> None:
        folder.texts = {f"p{n}.yaml": program(f"p{n}") for n in range(3)}
        await house.intake.rescan()
        del folder.texts["p2.yaml"]
        documents = [
            {"file": f"/srv/manifests/{name}", "text": text, "baseDir": "/srv/manifests"}
            for name, text in folder.texts.items()
        ]
        prepared = await house.intake.prepare_apply({"documents": documents, "directories": ["/srv/manifests"]})
        assert house.lines(prepared)[-1] == "Program/p2 pruned 1"
        await house.intake.commit(prepared)
        assert sorted(house.in_force()) == ["p0", "p1"]

    async def test_allow_empty_confirms_the_loss_of_a_directory(self, house: House, folder: Folder) -> None:
        folder.texts["web.yaml"] = program("web")
        await house.intake.rescan()
        folder.texts.clear()
        await house.intake.rescan()
        (source,) = house.intake.sources()
        assert source["suspect"]
        assert "apply --allow-empty -f /srv/manifests" in source["message"]
        assert house.conditions() == ["SourceSuspect"]
        answer = await house.apply(directories=["/srv/manifests"], allowEmpty=True)
        assert answer == ["Program/web pruned 1"]
        assert (house.in_force(), house.intake.sources()[0]["suspect"]) == ({}, False)

    async def test_and_of_one_that_is_not_watched_any_more(self, house: House, folder: Folder) -> None:
        folder.texts["web.yaml"] = program("web")
        await house.intake.rescan()
        house.folders = ()
        await house.start()
        assert house.in_force() == {"web": 1}
        assert await house.apply(directories=["/srv/manifests"], allowEmpty=True) == ["Program/web pruned 1"]
        assert house.in_force() == {}

    async def test_reading_now_without_confirming_keeps_what_is_suspect_and_says_so(
        self, house: House, folder: Folder
    ) -> None:
        folder.texts = {f"p{n}.yaml": program(f"p{n}") for n in range(3)}
        await house.intake.rescan()
        folder.texts = {"p0.yaml": program("p0")}
        prepared = await house.prepare(program("p0"), file="/srv/manifests/p0.yaml", directories=["/srv/manifests"])
        assert house.lines(prepared) == ["Program/p0 unchanged 1"]
        assert "lost 2 objects at once (program/p1, program/p2)" in prepared.hints[0]
        await house.intake.commit(prepared)
        assert len(house.in_force()) == 3


class TestTrouble:
    async def test_a_broken_file_is_a_problem_and_a_condition_and_changes_nothing(
        self, house: House, folder: Folder
    ) -> None:
        folder.texts = {"web.yaml": program("web"), "mail.yaml": program("mail")}
        await house.intake.rescan()
        folder.texts = {"web.yaml": "a: [", "mail.yaml": program("mail", 2)}
        answer = await house.intake.rescan()
        assert [problem["file"] for problem in answer["problems"]] == ["/srv/manifests/web.yaml"]
        assert house.in_force() == {"mail": 2, "web": 1}
        (condition,) = house.intake.conditions(house.intake.objects[WEB])
        assert condition.type == "Invalid"
        assert condition.message.endswith("; the last accepted spec stays in force")
        await house.start()
        assert house.in_force() == {"mail": 2, "web": 1}

    async def test_the_log_tells_it_once_when_it_begins_and_once_when_it_is_over(
        self, house: House, folder: Folder, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO", "reconciler")
        folder.texts = {"web.yaml": program("web"), "mail.yaml": program("mail")}
        await folder.rescan()
        folder.texts["web.yaml"] = "spec: [\n"
        for _ in range(3):
            await folder.rescan()
        broken = [record for record in caplog.records if "is not valid YAML" in record.getMessage()]
        assert [record.levelname for record in broken] == ["ERROR"]
        assert broken[0].getMessage().endswith("; the last accepted spec stays in force")
        folder.texts = {}
        await folder.rescan()
        assert [r.levelname for r in caplog.records if "confirm with" in r.getMessage()] == ["WARNING"]
        folder.texts = {"web.yaml": program("web"), "mail.yaml": program("mail")}
        await folder.rescan()
        over = [r.getMessage() for r in caplog.records if r.getMessage().startswith("no longer so: ")]
        assert len(over) == 2
        assert not any("stays in force" in line for line in over)

    async def test_of_a_broken_file_that_nothing_is_in_force_of_the_log_says_no_more_than_that(
        self, house: House, folder: Folder, caplog: pytest.LogCaptureFixture
    ) -> None:
        folder.texts = {"web.yaml": program("web"), "new.yaml": "spec: [\n"}
        await folder.rescan()
        (broken,) = [text for record in caplog.records if "is not valid YAML" in (text := record.getMessage())]
        assert "stays in force" not in broken

    async def test_what_cannot_be_written_is_not_in_force_and_is_tried_again(
        self, house: House, folder: Folder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder.texts["web.yaml"] = program("web")
        await house.intake.rescan()
        house.heard()

        def refuse(*_: object) -> None:
            raise StateWriteFailed("accepted/Program/web.yaml", "No space left on device")

        monkeypatch.setattr(house.store, "write_accepted", refuse)
        folder.texts["web.yaml"] = program("web", 5)
        await house.intake.rescan()
        assert (house.in_force(), house.heard()) == ({"web": 1}, "")
        assert "No space left on device" in house.intake.problems()[0].message
        assert house.conditions() == ["StateUnwritable"]
        monkeypatch.undo()
        await house.intake.settle_again()
        assert (house.in_force(), house.intake.unsaved) == ({"web": 5}, "")
        assert house.conditions() == []

    async def test_however_often_the_disk_refuses_it_is_asked_again_at_one_pace_and_told_of_once(
        self, house: House, folder: Folder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        due: list[Callable[[], None]] = []

        def later(_seconds: float, call: Callable[[], None]) -> object:
            due.append(call)
            return object()

        def refuse(*_: object) -> None:
            raise StateWriteFailed("accepted/Program/web.yaml", "No space left on device")

        monkeypatch.setattr(asyncio.get_running_loop(), "call_later", later)
        monkeypatch.setattr(house.store, "write_accepted", refuse)
        for replicas in range(1, 5):
            folder.texts["web.yaml"] = program("web", replicas)
            await house.intake.rescan()
        assert len(due) == 1
        due.pop()()
        await asyncio.gather(*house.intake._begun)
        assert len(due) == 1
        assert sum(record.getMessage().startswith("not in force") for record in caplog.records) == 1

    async def test_an_apply_that_cannot_be_committed_is_refused_whole(
        self, house: House, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise StateWriteFailed("incoming/1.json", "Read-only file system")

        monkeypatch.setattr(house.store, "commit_incoming", refuse)
        with pytest.raises(ApiError, match=r"nothing was applied: .*Read-only file system"):
            await house.apply(program("web"))
        monkeypatch.undo()
        assert house.in_force() == {}
        await house.start()
        assert house.in_force() == {}

    @pytest.mark.parametrize("crash_in", ["replay_incoming", "write_accepted", "retire_accepted"])
    async def test_a_crash_after_the_commit_point_loses_nothing(
        self, house: House, monkeypatch: pytest.MonkeyPatch, crash_in: str
    ) -> None:
        await house.apply(program("web") + program("mail") + program("cron"))
        uid = house.intake.objects[WEB].uid

        def crash(*_: object) -> None:
            raise RuntimeError("kill -9")

        monkeypatch.setattr(house.store, crash_in, crash)
        with pytest.raises(RuntimeError):
            await house.apply(program("web", 3) + program("mail"), prune=True)
        monkeypatch.undo()
        await house.start()
        assert house.in_force() == {"mail": 1, "web": 3}
        assert (house.intake.objects[WEB].uid, house.intake.objects[WEB].generation) == (uid, 2)

    async def test_a_damaged_stored_manifest_keeps_its_object_in_force(self, house: House) -> None:
        await house.apply(program("web") + program("mail"))
        (house.state_dir / "manifests/Program/web.yaml").write_text("")
        await house.start()
        assert house.in_force() == {"mail": 1, "web": 1}
        assert house.conditions() == ["Invalid"]
        assert await house.apply(program("web", 2)) == ["Program/web configured 2"]

    async def test_a_damaged_inventory_keeps_everything_in_force(self, house: House) -> None:
        await house.apply(program("web") + program("mail"))
        (house.state_dir / "applysets/default.yaml").write_text("{")
        (house.state_dir / "manifests/Program/web.yaml").unlink()
        await house.start()
        assert house.in_force() == {"mail": 1, "web": 1}

    async def test_in_safe_mode_directories_are_not_read_and_not_missed(self, house: House, folder: Folder) -> None:
        folder.texts["web.yaml"] = program("web")
        await house.intake.rescan()
        folder.texts.clear()
        await house.start(read=False)
        assert (house.in_force(), house.heard()) == ({"web": 1}, "")
        assert not any(source["suspect"] for source in house.intake.sources())

    async def test_an_apply_is_judged_on_what_is_in_force_when_it_is_committed(
        self, house: House, folder: Folder
    ) -> None:
        prepared = await house.prepare(program("web", 2))
        folder.texts["web.yaml"] = program("web")
        await house.intake.rescan()
        with pytest.raises(ApiError, match="belongs to"):
            await house.intake.commit(prepared)

    async def test_a_client_that_hangs_up_cancels_nothing_that_was_begun(self, house: House) -> None:
        prepared = await house.prepare(program("web"))
        request = asyncio.get_running_loop().create_task(house.intake.commit(prepared))
        await asyncio.sleep(0)
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)
        await house.intake.settle_again()
        assert house.heard() == "created program/web generation 1 from applyset default"

    async def test_a_listener_that_trips_keeps_nobody_else_from_hearing(
        self, house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def trip(changes: Sequence[Change]) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(house.intake, "_announce", trip)
        await house.apply(program("web"))
        assert house.in_force() == {"web": 1}
        assert "ZeroDivisionError" in caplog.text

    async def test_applies_at_the_same_time_are_carried_out_one_after_the_other(self, house: House) -> None:
        await asyncio.gather(*(house.apply(program("web", n), program(f"p{n}")) for n in range(1, 9)))
        assert len(house.in_force()) == 9
        assert house.intake.objects[WEB].generation == 8


async def test_many_objects_are_settled_off_the_loop_with_the_same_answer(
    house: House, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "OFF_LOOP", 200)
    reading = parse(program("x").encode(), "/srv/manifests/x.yaml", "/srv/manifests").manifests[0]
    files = {f"/srv/manifests/p{n}.yaml": FileReading((reading._replace(name=f"p{n}"),)) for n in range(250)}
    await house.intake.take_scan(Scan(folder.home, files))
    assert len(house.intake.objects) == 250
    edited = {**files, "/srv/manifests/p7.yaml": FileReading((reading._replace(name="p7", canonical={"replicas": 9}),))}
    house.announced.clear()
    await house.intake.take_scan(Scan(folder.home, edited))
    assert house.heard() == "configured program/p7 generation 2 from /srv/manifests/p7.yaml:1"
