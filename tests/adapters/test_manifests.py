"""A directory of manifests, looked at step by step: what is read, what is parsed, what is believed."""

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from watchdog.events import FileClosedEvent, FileDeletedEvent, FileModifiedEvent, FileMovedEvent, FileSystemEvent

from reconciler.adapters.documents import parse
from reconciler.adapters.manifests import Bulk, ManifestDirectory, contents
from reconciler.adapters.manifests import bulk as bulk_module
from reconciler.adapters.manifests.survey import survey
from reconciler.model.objects import FileReading, Scan

AS_ROOT = os.geteuid() == 0


def program(name: str, replicas: int = 1) -> str:
    head = f"apiVersion: reconciler/v1\nkind: Program\nmetadata: {{name: {name}}}\n"
    return f"{head}spec: {{command: [sleep, '1'], replicas: {replicas}}}\n---\n"


def test_a_file_that_does_not_tell_its_size_is_read_to_its_end() -> None:
    assert os.stat("/proc/self/status").st_size == 0
    found = contents.read("/proc/self/status")
    assert found.startswith(b"Name:")
    assert b"nonvoluntary_ctxt_switches" in found


class Look:
    """A directory with a clock of its own, which counts what is parsed and keeps what is delivered."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.now = 1000.0
        self.parsed: list[str] = []
        self.delivered: list[Scan] = []
        self.directory = ManifestDirectory(str(root), self._parse, Bulk(self._parse), now=lambda: self.now)

    def _parse(self, content: bytes, file: str, base_dir: str | None) -> FileReading:
        self.parsed.append(os.path.relpath(file, self.root))
        return parse(content, file, base_dir)

    async def _deliver(self, scan: Scan) -> None:
        self.delivered.append(scan)

    async def start(self) -> "Look":
        await self.directory.start(self._deliver, watch=False)
        return await self.later()

    async def later(self, seconds: float = 2.5, *, settled: bool = False) -> "Look":
        self.now += seconds
        self.parsed.clear()
        self.delivered.clear()
        self.scan = await self.directory.rescan(settled=settled)
        return self

    def heard(self, event: FileSystemEvent) -> None:
        """The kernel tells of something."""
        self.directory._watch._open.note(event)

    def replicas(self, name: str = "a") -> int:
        (found,) = (each for each in self.scan.files[f"{self.root}/{name}.yaml"].manifests if each.name == name)
        return int(found.canonical["replicas"])

    @property
    def names(self) -> dict[str, list[str]]:
        return {
            os.path.relpath(path, self.root): [each.name for each in reading.manifests]
            for path, reading in self.scan.files.items()
        }

    @property
    def complaints(self) -> list[str]:
        return [str(problem).replace(f"{self.root}/", "") for problem in self.scan.all_problems()]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "manifests"
    folder.mkdir()
    return folder


async def test_yaml_yml_and_json_below_the_root_are_read_hidden_names_are_not(root: Path) -> None:
    (root / "deep/er").mkdir(parents=True)
    (root / ".git").mkdir()
    for name in ("b.yaml", "a.yml", "deep/er/c.json", ".hidden.yaml", ".git/d.yaml", "e.txt", "f.yaml~"):
        (root / name).write_text(program("p-" + Path(name).stem.strip(".")))
    look = await Look(root).start()
    assert look.names == {"a.yml": ["p-a"], "b.yaml": ["p-b"], "deep/er/c.json": ["p-c"]}


async def test_only_what_changed_is_parsed(root: Path) -> None:
    for name in ("a", "b", "c"):
        (root / f"{name}.yaml").write_text(program(name))
    look = await Look(root).start()
    (root / "b.yaml").write_text(program("b", 2))
    assert (await look.later()).parsed == ["b.yaml"]
    assert (await look.later()).parsed == []
    assert look.delivered == []


async def test_a_file_written_again_with_the_same_content_is_not_parsed_and_nothing_is_delivered(root: Path) -> None:
    (root / "a.yaml").write_text(program("a"))
    look = await Look(root).start()
    os.utime(root / "a.yaml", ns=(1, 1))
    await look.later()
    assert (look.parsed, look.delivered) == ([], [])


async def test_two_writes_within_one_tick_of_the_clock_are_both_seen(root: Path) -> None:
    path = root / "a.yaml"
    path.write_text(program("a", 1))
    look = Look(root)
    await look.directory.start(look._deliver, watch=False)
    known = look.directory._known[str(path)]
    path.write_text(program("a", 2))
    # As if the clock had not moved on between the two writes: the stamp that was noted is the one of now.
    stamp = survey(str(root)).files[str(path)]
    look.directory._known[str(path)] = known._replace(stamp=stamp)
    await look.later()
    assert look.scan.files[str(path)].manifests[0].canonical["replicas"] == 2


class TestAFileThatIsBeingWritten:
    """Half a manifest may be a valid one, so it is not read before its writer is done."""

    async def written_halfway(self, root: Path) -> Look:
        """`replicas: 12` has come as far as `replicas: 1`."""
        path = root / "a.yaml"
        path.write_text(program("a", 3))
        look = await Look(root).start()
        path.write_text(program("a", 1))
        look.heard(FileModifiedEvent(str(path)))
        return await look.later()

    async def test_is_read_when_it_is_closed(self, root: Path) -> None:
        look = await self.written_halfway(root)
        assert (look.replicas(), look.parsed, look.delivered) == (3, [], [])
        (root / "a.yaml").write_text(program("a", 12))
        assert (await look.later()).replicas() == 3
        look.heard(FileClosedEvent(str(root / "a.yaml")))
        assert (await look.later()).replicas() == 12

    async def test_is_read_when_nothing_has_changed_for_long_whoever_has_it_open(self, root: Path) -> None:
        look = await self.written_halfway(root)
        assert (await look.later(9.9)).replicas() == 3
        assert (await look.later(0.2)).replicas() == 1

    async def test_is_read_in_the_end_although_it_changes_all_the_time(self, root: Path) -> None:
        look = await self.written_halfway(root)
        for number in range(13, 25):
            assert look.replicas() == 3
            (root / "a.yaml").write_text(program("a", number))
            await look.later(5.0)
        assert look.replicas() == 24

    async def test_that_is_renamed_meanwhile_is_waited_for_under_its_new_name(self, root: Path) -> None:
        look = await Look(root).start()
        (root / "b.yaml").write_text(program("b"))
        look.heard(FileModifiedEvent(str(root / "b.yaml")))
        (root / "b.yaml").rename(root / "c.yaml")
        look.heard(FileMovedEvent(str(root / "b.yaml"), str(root / "c.yaml")))
        assert (await look.later()).names == {}
        look.heard(FileClosedEvent(str(root / "c.yaml")))
        assert (await look.later()).names == {"c.yaml": ["b"]}

    async def test_and_replaced_by_a_finished_one_is_not_waited_for(self, root: Path) -> None:
        look = await self.written_halfway(root)
        (root / "new").write_text(program("a", 5))
        (root / "new").replace(root / "a.yaml")
        look.heard(FileMovedEvent(str(root / "new"), str(root / "a.yaml")))
        assert (await look.later()).replicas() == 5

    async def test_and_deleted_is_gone(self, root: Path) -> None:
        look = await self.written_halfway(root)
        (root / "a.yaml").unlink()
        look.heard(FileDeletedEvent(str(root / "a.yaml")))
        assert (await look.later()).names == {}
        (root / "a.yaml").write_text(program("a", 5))
        assert (await look.later()).replicas() == 5

    async def test_delays_no_other_one(self, root: Path) -> None:
        look = await self.written_halfway(root)
        (root / "b.yaml").write_text(program("b", 2))
        assert (await look.later()).replicas("b") == 2

    async def test_is_known_by_where_it_really_lies(self, root: Path, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(root)
        look = await Look(tmp_path / "link").start()
        (root / "a.yaml").write_text(program("a"))
        look.heard(FileModifiedEvent(str(root / "a.yaml")))
        assert (await look.later()).names == {}
        look.heard(FileClosedEvent(str(root / "a.yaml")))
        assert (await look.later()).names == {"a.yaml": ["a"]}

    async def test_whose_writer_begins_while_it_is_read_is_left_for_the_next_look(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = root / "a.yaml"
        look = await self.written_halfway(root)
        look.heard(FileClosedEvent(str(path)))

        def overtaken(path_read: str) -> bytes:
            content = contents.read(path_read)
            path.write_text(program("a", 4))
            look.heard(FileModifiedEvent(str(path)))
            return content

        monkeypatch.setattr("reconciler.adapters.manifests.directory.read", overtaken)
        assert (await look.later()).replicas() == 3
        monkeypatch.undo()
        look.heard(FileClosedEvent(str(path)))
        assert (await look.later()).replicas() == 4

    async def test_that_was_replaced_while_it_was_read_is_read_again(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = root / "a.yaml"
        path.write_text(program("a", 1))
        look = await Look(root).start()
        numbers = iter(range(2, 9))

        def overtaken(path_read: str) -> bytes:
            content = contents.read(path_read)
            path.write_text(program("a", next(numbers)))
            return content

        path.write_text(program("a", 2))
        monkeypatch.setattr("reconciler.adapters.manifests.directory.read", overtaken)
        assert (await look.later()).replicas() == 3, "three times, then what was read last has to do"

    async def test_where_nobody_tells_a_second_of_quiet_is_waited_for(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = root / "a.yaml"
        path.write_text(program("a", 1))
        look = await Look(root).start()
        look.directory._watch.trouble = "no watches left"
        path.write_text(program("a", 2))
        assert (await look.later()).replicas() == 1
        assert (await look.later(0.9)).replicas() == 1
        assert (await look.later(0.2)).replicas() == 2


async def test_a_change_is_delivered_at_once_and_absence_tentatively_for_two_seconds(root: Path) -> None:
    (root / "a.yaml").write_text(program("a"))
    (root / "b.yaml").write_text(program("b"))
    look = await Look(root).start()
    assert not look.scan.tentative
    (root / "a.yaml").unlink()
    await look.later(0.1)
    assert (look.names, look.scan.tentative) == ({"b.yaml": ["b"]}, True)
    await look.later(1.0)
    assert look.scan.tentative
    await look.later(1.5)
    assert not look.scan.tentative
    assert len(look.delivered) == 1


async def test_further_losses_are_waited_for_but_not_forever(root: Path) -> None:
    for number in range(60):
        (root / f"p{number:02d}.yaml").write_text(program(f"p{number}"))
    look = await Look(root).start()
    waited = 0.0
    for number in range(60):
        (root / f"p{number:02d}.yaml").unlink()
        await look.later(1.0)
        waited += 1.0
        if not look.scan.tentative:
            break
    assert 25 < waited <= 31


async def test_a_name_that_vanishes_from_a_file_is_tentative_too(root: Path) -> None:
    (root / "a.yaml").write_text(program("a") + program("b"))
    look = await Look(root).start()
    (root / "a.yaml").write_text("")
    assert (await look.later(0.1)).scan.tentative
    (root / "a.yaml").write_text(program("a") + program("b"))
    assert (await look.later()).names == {"a.yaml": ["a", "b"]}


async def test_a_name_that_was_dropped_while_its_file_was_broken_is_tentative_once_it_can_be_read(root: Path) -> None:
    (root / "a.yaml").write_text(program("a") + program("b"))
    look = await Look(root).start()
    (root / "a.yaml").write_text("command: [")
    assert not (await look.later()).scan.tentative
    (root / "a.yaml").write_text(program("a"))
    assert (await look.later()).scan.tentative


async def test_somebody_who_asks_to_read_now_means_what_is_gone_to_be_gone(root: Path) -> None:
    (root / "a.yaml").write_text(program("a"))
    look = await Look(root).start()
    (root / "a.yaml").unlink()
    assert not (await look.later(0.1, settled=True)).scan.tentative


async def test_the_first_look_believes_no_absence(root: Path) -> None:
    look = Look(root)
    await look.directory.start(look._deliver, watch=False)
    assert look.delivered[0].tentative
    assert not (await look.later()).scan.tentative


async def test_a_root_that_vanishes_and_comes_back(root: Path) -> None:
    (root / "a.yaml").write_text(program("a"))
    look = await Look(root).start()
    root.rename(root.with_name("away"))
    assert not (await look.later()).scan.present
    assert (look.names, look.scan.tentative) == ({}, True)
    assert not (await look.later()).scan.tentative
    root.with_name("away").rename(root)
    assert (await look.later()).scan.present
    assert (look.names, look.parsed) == ({"a.yaml": ["a"]}, [])


async def test_a_root_that_was_never_there_is_not_an_error_of_ours(root: Path) -> None:
    look = await Look(root / "nowhere").start()
    assert (look.scan.present, look.scan.error) == (False, "")


async def test_a_home_may_be_a_single_file(root: Path) -> None:
    (root / "a.yaml").write_text(program("a"))
    look = await Look(root / "a.yaml").start()
    assert look.names == {".": ["a"]}


@pytest.mark.skipif(AS_ROOT, reason="root reads everything")
async def test_an_unreadable_folder_keeps_what_was_known_below_it(root: Path) -> None:
    (root / "sub").mkdir()
    (root / "sub/a.yaml").write_text(program("a"))
    look = await Look(root).start()
    (root / "sub").chmod(0)
    await look.later()
    (root / "sub").chmod(0o700)
    assert look.names == {"sub/a.yaml": ["a"]}
    assert look.complaints == ["sub: cannot be read: Permission denied"]


async def test_a_folder_that_cannot_be_listed_is_a_problem_and_not_absence(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "sub").mkdir()
    (root / "sub/a.yaml").write_text(program("a"))
    look = await Look(root).start()
    real = os.scandir

    def scandir(path: str) -> object:
        if path.endswith("sub"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr("reconciler.adapters.manifests.survey.os.scandir", scandir)
    await look.later()
    assert look.names == {"sub/a.yaml": ["a"]}
    assert look.scan.unreadable == {str(root / "sub")}
    assert look.complaints == ["sub: cannot be read: Permission denied"]
    monkeypatch.setattr("reconciler.adapters.manifests.survey.os.scandir", lambda path: scandir(path + "/sub"))
    assert (await look.later()).scan.error == "cannot be read: Permission denied"


async def test_a_file_that_cannot_be_read_is_tried_again_at_every_look(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "a.yaml").write_text(program("a"))
    look = await Look(root).start()
    (root / "a.yaml").write_text(program("a", 2))

    def refuse(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("reconciler.adapters.manifests.contents.os.open", refuse)
    assert (await look.later()).complaints == ["a.yaml: cannot be read: Input/output error"]
    monkeypatch.undo()
    assert (await look.later()).names == {"a.yaml": ["a"]}


async def test_what_is_no_manifest_file_is_a_problem_that_names_it(root: Path) -> None:
    os.mkfifo(root / "a-pipe.yaml")
    (root / "b-null.yaml").symlink_to("/dev/null")
    (root / "c-folder.yaml").mkdir()
    with open(root / "d-huge.yaml", "wb") as huge:
        huge.truncate(100 << 20)
    (root / "e-dangling.yaml").symlink_to("nowhere")
    (root / "f-circle.yaml").symlink_to("f-circle.yaml")
    (root / "g-bytes.yaml").write_bytes(b"\xff\xfe")
    (root / "h-fine.yaml").write_text(program("fine"))
    look = await Look(root).start()
    assert look.names["h-fine.yaml"] == ["fine"]
    places = [complaint.split(":")[0] for complaint in look.complaints]
    assert places == [f"{x}.yaml" for x in ("a-pipe", "b-null", "d-huge", "e-dangling", "f-circle", "g-bytes")]
    assert look.complaints[0] == "a-pipe.yaml: is a FIFO, not a regular file"
    assert "104,857,600 bytes" in look.complaints[2]


async def test_loops_of_links_end_and_each_folder_is_read_once_under_its_own_name(root: Path) -> None:
    (root / "real").mkdir()
    (root / "real/a.yaml").write_text(program("a"))
    (root / "a-link").symlink_to("real")
    (root / "real/up").symlink_to("..")
    look = await Look(root).start()
    assert look.names == {"real/a.yaml": ["a"]}


async def test_links_that_lead_outside_are_followed(root: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/a.yaml").write_text(program("a"))
    (root / "linked").symlink_to(tmp_path / "other")
    look = await Look(root).start()
    assert look.names == {"linked/a.yaml": ["a"]}


async def test_a_link_swap_as_kubelet_does_it(root: Path) -> None:
    for version in ("1", "2"):
        (root / f"..v{version}").mkdir()
        (root / f"..v{version}/k.yaml").write_text(program("k", int(version)))
    (root / "..data").symlink_to("..v1")
    (root / "k.yaml").symlink_to("..data/k.yaml")
    look = await Look(root).start()
    (root / "..data_tmp").symlink_to("..v2")
    (root / "..data_tmp").rename(root / "..data")
    await look.later()
    assert look.scan.files[str(root / "k.yaml")].manifests[0].canonical["replicas"] == 2
    assert not look.scan.tentative


class TestBulk:
    @pytest.fixture(autouse=True)
    def _twenty_are_few(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bulk_module, "FEW_FILES", 20)

    @pytest.mark.parametrize(("files", "asks"), [(20, False), (21, True)])
    async def test_a_few_are_parsed_without_a_helper(self, root: Path, tmp_path: Path, files: int, asks: bool) -> None:
        for number in range(files):
            (root / f"p{number:03d}.yaml").write_text(program(f"p{number}"))
        bulk = Bulk(parse, command=("/bin/sh", "-c", f": > {tmp_path}/asked"))
        scan = await ManifestDirectory(str(root), parse, bulk).rescan()
        assert (tmp_path / "asked").exists() is asks
        assert sum(len(reading.manifests) for reading in scan.files.values()) == files

    async def test_a_large_one_is_not_a_few(self, root: Path, tmp_path: Path) -> None:
        (root / "a.yaml").write_text(program("a") + "#" * bulk_module.FEW_BYTES)
        bulk = Bulk(parse, command=("/bin/sh", "-c", f": > {tmp_path}/asked"))
        scan = await ManifestDirectory(str(root), parse, bulk).rescan()
        assert (tmp_path / "asked").exists()
        assert sum(len(reading.manifests) for reading in scan.files.values()) == 1

    async def test_many_files_are_parsed_elsewhere(self, root: Path) -> None:
        for number in range(200):
            (root / f"p{number:03d}.yaml").write_text(program(f"p{number}"))
        (root / "broken.yaml").write_text("a: [")
        look = await Look(root).start()
        assert look.parsed == []
        assert len(look.scan.files) == 201
        assert [names for names in look.names.values() if not names] == [[]]
        assert look.complaints[0].startswith("broken.yaml:")

    @pytest.mark.parametrize(
        ("crash", "says"),
        [
            ("os._exit(3)", "the parser died of it (exit status 3)"),
            ("time.sleep(60)", "was not parsed within 0.5 seconds"),
        ],
    )
    async def test_a_file_that_kills_the_parser_costs_only_itself(
        self, root: Path, tmp_path: Path, crash: str, says: str
    ) -> None:
        helper = tmp_path / "helper.py"
        helper.write_text(
            "import os, time\nfrom reconciler.adapters.documents import parsing\nreal = parsing.parse\n"
            f"def parse(content, file, base_dir):\n    if b'evil' in content: {crash}\n"
            "    return real(content, file, base_dir)\nparsing.parse = parse\nparsing.main()\n"
        )
        for number in range(100):
            (root / f"p{number:03d}.yaml").write_text(program("evil" if number == 40 else f"p{number}"))
        bulk = Bulk(parse, command=(sys.executable, str(helper)), hang_seconds=0.5 if "sleep" in crash else 10)
        directory = ManifestDirectory(str(root), parse, bulk)
        scan = await directory.rescan()
        assert [str(problem) for problem in scan.all_problems()] == [f"{root}/p040.yaml: {says}"]
        assert sum(len(reading.manifests) for reading in scan.files.values()) == 99

    async def test_without_a_helper_it_still_gets_done(self, root: Path) -> None:
        for number in range(30):
            (root / f"p{number:03d}.yaml").write_text(program(f"p{number}"))
        scan = await ManifestDirectory(str(root), parse, Bulk(parse, command=("/nonexistent",))).rescan()
        assert sum(len(reading.manifests) for reading in scan.files.values()) == 30

    @pytest.mark.parametrize(
        "code",
        [
            "def half(:",
            "raise SystemExit('half of an upgrade')",
            "from reconciler.adapters.documents import parsing; parsing.__version__ = '99'; parsing.main()",
            "print('0.0.1', flush=True); import time; time.sleep(60)",
            "import os; os.write(1, bytes([255, 10]))",
            "import os; os.write(1, bytes(1 << 20))",
        ],
        ids=["half", "quits", "newer", "older and hangs", "no text", "endless"],
    )
    async def test_what_an_upgrade_left_half_done_is_no_fault_of_the_files(
        self, root: Path, tmp_path: Path, code: str
    ) -> None:
        helper = tmp_path / "helper.py"
        helper.write_text(code)
        for number in range(30):
            (root / f"p{number:03d}.yaml").write_text(program(f"p{number}"))
        bulk = Bulk(parse, command=(sys.executable, str(helper)))
        scan = await ManifestDirectory(str(root), parse, bulk).rescan()
        assert scan.all_problems() == []
        assert sum(len(reading.manifests) for reading in scan.files.values()) == 30

    async def test_inputs_in_memory_keep_their_order(self) -> None:
        sources: list[tuple[bytes, str, str | None]] = [(program(f"p{n}").encode(), "-", "/base") for n in range(150)]
        readings = await Bulk(parse).parse_all(sources)
        assert [reading.manifests[0].name for reading in readings] == [f"p{n}" for n in range(150)]

    async def test_others_have_short_turns_while_it_goes_on_and_the_usual_ones_after_it(self, root: Path) -> None:
        usual, seen = sys.getswitchinterval(), list[float]()

        def batches() -> Iterator[list[bulk_module.Source]]:
            seen.append(sys.getswitchinterval())
            yield [bulk_module.Source(program("a").encode(), "a.yaml", "/base")]

        bulk = Bulk(parse, command=("/nonexistent",))
        found: list[str] = []

        def done(source: bulk_module.Source, reading: FileReading) -> None:
            found.append(reading.manifests[0].name)

        await asyncio.gather(bulk.parse(batches(), done), bulk.parse(batches(), done))
        assert found == ["a", "a"]
        assert all(each < usual for each in seen)
        assert len(seen) == 2
        assert sys.getswitchinterval() == usual
