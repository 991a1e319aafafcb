"""Real files, real inotify: editors, git, link swaps and vanishing directories, each seen soon and never misread."""

import asyncio
import os
import shutil
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from reconciler.adapters.documents import parse
from reconciler.adapters.manifests import Bulk, ManifestDirectory
from reconciler.adapters.manifests.watch import Watch
from reconciler.model.objects import Scan

SOON_SECONDS = 90.0  # the machine may be busy, and then it looks by its timer each minute only
HINTED_SECONDS = 30.0  # quicker than that timer where tests are `hinted`: an event did it


def program(name: str, replicas: int = 1) -> str:
    head = f"apiVersion: reconciler/v1\nkind: Program\nmetadata: {{name: {name}}}\n"
    return f"{head}spec: {{command: [sleep, '1'], replicas: {replicas}}}\n"


class Watched:
    """A watched directory, and every scan that it delivered."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.scans: list[Scan] = []
        self.news = asyncio.Event()
        self.directory = ManifestDirectory(str(root), parse, Bulk(parse))

    async def deliver(self, scan: Scan) -> None:
        self.scans.append(scan)
        self.news.set()

    @property
    def declared(self) -> dict[str, int]:
        readings = self.scans[-1].files.values()
        return {each.name: each.canonical["replicas"] for reading in readings for each in reading.manifests}

    async def until(self, holds: Callable[[], bool], seconds: float = SOON_SECONDS) -> float:
        """How long it took until this held."""
        began = time.monotonic()
        async with asyncio.timeout(seconds):
            while not holds():
                self.news.clear()
                await self.news.wait()
        return time.monotonic() - began

    async def until_declared(self, seconds: float = SOON_SECONDS, **replicas: int) -> float:
        return await self.until(lambda: self.declared == replicas, seconds)

    async def quiet(self) -> None:
        """Wait until it looks only by its timer any more, so that what comes is due to an event."""
        while self.directory._unconfirmed or self.scans[-1].tentative:
            await asyncio.sleep(0.11)
            await self.directory.rescan(settled=True)

    @property
    def lost(self) -> set[str]:
        """Names that were missing from a scan whose absences are to be believed."""
        ever = {each.name for scan in self.scans for reading in scan.files.values() for each in reading.manifests}
        return {
            name
            for scan in self.scans
            if scan.trusted
            for name in ever - {each.name for reading in scan.files.values() for each in reading.manifests}
        }


@asynccontextmanager
async def watching(root: Path) -> AsyncIterator[Watched]:
    watched = Watched(root)
    await watched.directory.start(watched.deliver)
    try:
        await watched.quiet()
        watched.scans[:-1] = []
        yield watched
    finally:
        await watched.directory.close()


@pytest.fixture
def hinted(monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks by its timer after a minute only."""
    monkeypatch.setattr("reconciler.adapters.manifests.directory.RESCAN_MIN_SECONDS", 60.0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "manifests"
    folder.mkdir()
    (folder / "a.yaml").write_text(program("a"))
    (folder / "b.yaml").write_text(program("b"))
    return folder


@pytest.mark.usefixtures("hinted")
async def test_a_write_is_seen_within_a_blink(root: Path) -> None:
    async with watching(root) as watched:
        (root / "a.yaml").write_text(program("a", 2))
        took = await watched.until_declared(a=2, b=1)
        print(f"write seen after {took * 1000:.0f} ms")
        assert took < HINTED_SECONDS


def vim(path: Path, text: str) -> None:
    """With 'backup': the old file is renamed away, the new one written in its place, the backup removed."""
    (path.parent / f".{path.name}.swp").write_text("swap")
    path.rename(path.with_name(path.name + "~"))
    path.write_text(text)
    path.with_name(path.name + "~").unlink()
    (path.parent / f".{path.name}.swp").unlink()


def emacs(path: Path, text: str) -> None:
    """A lock that is a dangling link, an auto-save file, and a write in place."""
    lock = path.parent / f".#{path.name}"
    lock.symlink_to("somebody@somewhere.1234")
    (path.parent / f"#{path.name}#").write_text(text)
    path.write_text(text)
    (path.parent / f"#{path.name}#").unlink()
    lock.unlink()


def sed(path: Path, text: str) -> None:
    """A new file with another name is renamed over the old one."""
    temporary = path.parent / "sedAb12Cd"
    temporary.write_text(text)
    temporary.rename(path)


def slow(path: Path, text: str) -> None:
    """A truncated file that fills up in several writes."""
    with path.open("w") as file:
        for line in text.splitlines(keepends=True):
            file.write(line)
            file.flush()


@pytest.mark.parametrize("edit", [vim, emacs, sed, slow])
@pytest.mark.usefixtures("hinted")
async def test_an_edit_is_one_change_and_no_loss(root: Path, edit: Callable[[Path, str], None]) -> None:
    async with watching(root) as watched:
        edit(root / "a.yaml", program("a", 3))
        assert await watched.until_declared(a=3, b=1) < HINTED_SECONDS
        assert watched.lost == set()


@pytest.mark.usefixtures("hinted")
async def test_half_of_what_is_written_in_place_is_never_read(root: Path) -> None:
    async with watching(root) as watched:
        text = program("a", 12)
        half, rest = text[: text.index("12") + 1], text[text.index("12") + 1 :]
        with (root / "a.yaml").open("w") as file:
            for part in (half, rest):
                file.write(part)
                file.flush()
                await asyncio.sleep(0.5)
                assert watched.declared["a"] == 1, "the old one, as long as it is open"
        assert await watched.until_declared(a=12, b=1) < HINTED_SECONDS
        assert len(watched.scans) == 2, "one change"


@pytest.mark.usefixtures("hinted")
async def test_a_change_of_permissions_is_no_writing(root: Path) -> None:
    async with watching(root) as watched:
        (root / "a.yaml").write_text(program("a", 2))
        (root / "a.yaml").chmod(0o600)
        assert await watched.until_declared(a=2, b=1) < HINTED_SECONDS


@pytest.mark.usefixtures("hinted")
async def test_new_folders_are_watched_too(root: Path) -> None:
    async with watching(root) as watched:
        (root / "x/y/z").mkdir(parents=True)
        (root / "x/y/z/c.yaml").write_text(program("c"))
        await watched.until_declared(a=1, b=1, c=1)
        await watched.quiet()
        (root / "x/y/z/c.yaml").write_text(program("c", 2))
        assert await watched.until_declared(a=1, b=1, c=2) < HINTED_SECONDS


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
async def test_git_checkout_loses_nothing_that_both_branches_have(root: Path) -> None:
    git(root, "init")
    git(root, "add", ".")
    git(root, "commit", "-m", "one")
    git(root, "checkout", "-b", "two")
    for number in range(40):
        (root / f"p{number}.yaml").write_text(program(f"p{number}", 2))
    (root / "a.yaml").write_text(program("a", 2))
    git(root, "add", ".")
    git(root, "commit", "-m", "two")
    git(root, "checkout", "main")
    async with watching(root) as watched:
        git(root, "checkout", "two")
        await watched.until_declared(a=2, b=1, **{f"p{n}": 2 for n in range(40)})
        assert watched.lost - {f"p{n}" for n in range(40)} == set()
        git(root, "checkout", "main")
        await watched.until(lambda: watched.declared == {"a": 1, "b": 1} and watched.scans[-1].trusted)
        assert "a" not in watched.lost


@pytest.mark.usefixtures("hinted")
async def test_a_link_swap_as_kubelet_does_it(root: Path) -> None:
    for version in ("1", "2"):
        (root / f"..v{version}").mkdir()
        (root / f"..v{version}/k.yaml").write_text(program("k", int(version)))
    (root / "..data").symlink_to("..v1")
    (root / "k.yaml").symlink_to("..data/k.yaml")
    async with watching(root) as watched:
        (root / "..data_tmp").symlink_to("..v2")
        (root / "..data_tmp").rename(root / "..data")
        shutil.rmtree(root / "..v1")
        assert await watched.until_declared(a=1, b=1, k=2) < HINTED_SECONDS
        await watched.quiet()
        (root / "..v2/k.yaml").write_text(program("k", 3))
        assert await watched.until_declared(a=1, b=1, k=3) < HINTED_SECONDS
        assert watched.lost == set()


@pytest.mark.usefixtures("hinted")
async def test_a_link_above_the_root_that_is_swapped(tmp_path: Path) -> None:
    for release in ("1", "2"):
        (tmp_path / release / "manifests").mkdir(parents=True)
        (tmp_path / release / "manifests/a.yaml").write_text(program("a", int(release)))
    (tmp_path / "current").symlink_to("1")
    async with watching(tmp_path / "current/manifests") as watched:
        (tmp_path / "next").symlink_to("2")
        (tmp_path / "next").rename(tmp_path / "current")
        await watched.until_declared(a=2)
        await watched.quiet()
        (tmp_path / "2/manifests/a.yaml").write_text(program("a", 3))
        assert await watched.until_declared(a=3) < HINTED_SECONDS
        assert watched.lost == set()


@pytest.mark.parametrize("away", ["renamed", "removed"])
@pytest.mark.usefixtures("hinted")
async def test_a_root_that_vanishes_and_comes_back_is_watched_again(root: Path, away: str) -> None:
    async with watching(root) as watched:
        if away == "renamed":
            root.rename(root.with_name("away"))
        else:
            shutil.rmtree(root)
        await watched.until(lambda: not watched.scans[-1].present and not watched.scans[-1].tentative)
        root.mkdir()
        (root / "a.yaml").write_text(program("a", 5))
        await watched.until_declared(a=5)
        await watched.quiet()
        (root / "a.yaml").write_text(program("a", 6))
        assert await watched.until_declared(a=6) < HINTED_SECONDS


async def test_a_deletion_is_believed_after_two_seconds(root: Path) -> None:
    async with watching(root) as watched:
        (root / "b.yaml").unlink()
        took = await watched.until(lambda: watched.declared == {"a": 1} and watched.scans[-1].trusted)
        assert took >= 1.9


async def test_constant_change_is_followed_all_the_same(root: Path) -> None:
    async with watching(root) as watched:
        deadline = time.monotonic() + SOON_SECONDS  # about three seconds where nobody else wants the CPUs
        number = 1
        while len(watched.scans) < 4:
            assert time.monotonic() < deadline
            number += 1
            (root / "a.yaml").write_text(program("a", number))
            await asyncio.sleep(0.01)
        await watched.until_declared(a=number, b=1)


@pytest.mark.usefixtures("hinted")
async def test_what_an_editor_does_to_hidden_files_wakes_nobody(root: Path) -> None:
    (root / ".git").mkdir()
    async with watching(root) as watched:
        looks = []
        real = watched.directory._take_in

        async def counted(found: object) -> None:
            looks.append(found)
            await real(found)  # type: ignore[arg-type]

        watched.directory._take_in = counted  # type: ignore[method-assign,assignment]
        for number in range(20):
            (root / ".git/index").write_text(str(number))
            await asyncio.sleep(0.05)
        assert len(looks) <= 1


async def test_without_watches_it_says_so_and_reads_from_time_to_time(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("watchdog.observers.api.BaseObserver.schedule", exhausted)
    async with watching(root) as watched:
        (problem,) = watched.scans[-1].problems
        assert problem.severity == "warning"
        assert "fs.inotify.max_user_watches" in problem.message
        (root / "a.yaml").write_text(program("a", 2))
        await watched.until_declared(a=2, b=1)


async def test_no_descriptor_and_no_thread_is_left_behind_or_inherited(root: Path) -> None:
    async with watching(root):
        for name in os.listdir("/proc/self/fd"):
            path = f"/proc/self/fd/{name}"
            if os.path.lexists(path) and os.readlink(path) == "anon_inode:inotify":
                assert not os.get_inheritable(int(name))


async def test_ten_thousand_manifests(tmp_path: Path) -> None:
    """The figures are printed; only what would be a catastrophe is asserted, for the machine has other things to do."""
    for number in range(10_000):
        folder = tmp_path / f"d{number % 100}"
        folder.mkdir(exist_ok=True)
        (folder / f"p{number}.yaml").write_text(program(f"p{number}"))
    pauses: list[float] = []

    async def feel() -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.001)
            pauses.append(time.monotonic() - before)

    feeling = asyncio.create_task(feel())
    directory = ManifestDirectory(str(tmp_path), parse, Bulk(parse))
    began = time.monotonic()
    scan = await directory.rescan()
    loaded = time.monotonic() - began
    longest_loading = max(pauses)
    await asyncio.sleep(0.2)
    await directory.rescan()
    pauses.clear()
    began = time.monotonic()
    await directory.rescan()
    looked = time.monotonic() - began
    feeling.cancel()
    print(f"10,000 manifests: first load {loaded:.2f} s, longest pause {longest_loading * 1000:.0f} ms; ", end="")
    print(f"a look at nothing new {looked * 1000:.0f} ms, longest pause {max(pauses, default=0) * 1000:.0f} ms")
    assert len(scan.files) == 10_000
    assert loaded < 60
    await directory.close()


async def test_without_a_thread_to_watch_with_it_is_read_from_time_to_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.yaml").write_text(program("a", 1))

    def refused(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("watchdog.utils.threading.Thread.start", refused)
    watch = Watch(str(tmp_path), lambda: None)
    identity = tmp_path.stat()
    assert not watch.cover(asyncio.get_running_loop(), (identity.st_dev, identity.st_ino), ())
    assert watch.trouble == "cannot be watched (can't start new thread); it is read from time to time instead"
    monkeypatch.undo()
    assert watch.cover(asyncio.get_running_loop(), (identity.st_dev, identity.st_ino), ())
    assert not watch.trouble
    watch.close()
