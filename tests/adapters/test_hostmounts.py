"""Paths that do not answer: asked in threads, which here wait for a gate instead of a file system."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.adapters.processes.shim import entering
from reconciler.adapters.processes.spawn import Spawner
from reconciler.adapters.surroundings import Surroundings
from reconciler.hostmounts import MOST_WAITING, SILENT, Mounts
from reconciler.model.launch import Launch
from reconciler.model.manifest import understood
from reconciler.ports import SpawnFailed
from support.descriptors import descriptors

LINE = "{} 27 0:{} / {} rw,relatime - {} source rw\n"


class Host:
    """A mount table, and a network disk at `remote` that can be silent."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.remote = folder, folder / "remote"
        self.remote.mkdir()
        self.table = folder / "mountinfo"
        self.answers = threading.Event()
        self.answers.set()
        self.asked: list[str] = []
        self.mount("nfs4")
        self.mounts = self.looking()

    def mount(self, kind: str, at: str = "") -> None:
        escaped = (at or str(self.remote)).replace(" ", "\\040")
        self.table.write_text(LINE.format(20, 1, "/", "ext4") + LINE.format(21, 2, escaped, kind))

    def looking(self, patience_seconds: float = 0.05) -> Mounts:
        return Mounts(table=str(self.table), look=self._look, patience_seconds=patience_seconds)

    def _look(self, path: str) -> None:
        self.asked.append(path)
        if os.path.realpath(path).startswith(str(self.remote)):
            assert self.answers.wait(30)

    def hang(self) -> None:
        self.answers.clear()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path)
    yield host
    host.answers.set()
    host.mounts.close()
    host.mounts.close()


def until_answered(host: Host, path: str) -> None:
    deadline = time.monotonic() + 30
    while not host.mounts.answers(path):
        assert time.monotonic() < deadline


class TestMounts:
    def test_a_network_disk_is_asked_each_time_and_one_of_the_machine_never(self, host: Host) -> None:
        for _ in range(3):
            assert host.mounts.answers(f"{host.remote}/web")
            assert host.mounts.answers(str(host.folder))
        assert host.asked == [f"{host.remote}/web"] * 3

    def test_silence_is_waited_for_once_and_for_nothing_else_on_that_disk(self, host: Host) -> None:
        host.hang()
        assert not host.mounts.answers(f"{host.remote}/web")
        for number in range(100):
            assert not host.mounts.answers(f"{host.remote}/web")
            assert not host.mounts.answers(f"{host.remote}/mail/{number}")
        assert len(host.asked) == 1, "nobody asked, so nobody waited"
        assert host.mounts.answers(str(host.folder)), "others are asked"
        host.answers.set()
        until_answered(host, f"{host.remote}/web")
        until_answered(host, f"{host.remote}/mail/1")

    def test_that_nothing_is_there_is_an_answer_too(self, host: Host) -> None:
        mounts = Mounts(table=str(host.table))
        assert mounts.answers(f"{host.remote}/nothing")
        assert mounts.answers(f"{host.remote}/a\0b")
        assert mounts.answers("/a\0b")
        mounts.close()

    def test_who_cannot_ask_does_not_go(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuses(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", refuses)
        assert not host.mounts.answers(f"{host.remote}/web")

    def test_an_answer_that_came_late_keeps_nobody_from_asking(self, host: Host) -> None:
        host.hang()
        assert not host.mounts.answers(f"{host.remote}/web")
        host.answers.set()
        until_answered(host, f"{host.remote}/mail")
        assert host.mounts._waiting == {}

    def test_threads_that_wait_are_bounded(self, host: Host) -> None:
        disks = [host.folder / f"disk-{number}" for number in range(MOST_WAITING + 5)]
        host.table.write_text(LINE.format(20, 1, "/", "ext4") + "".join(LINE.format(21, 2, at, "nfs") for at in disks))
        gate = threading.Event()
        mounts = Mounts(table=str(host.table), look=lambda path: gate.wait(30), patience_seconds=0.001)
        assert not any(mounts.answers(str(disk)) for disk in disks)
        assert len(mounts._waiting) == MOST_WAITING
        gate.set()
        mounts.close()

    @pytest.mark.parametrize(
        ("kind", "may_hang"),
        [
            ("nfs", True),
            ("fuse.sshfs", True),
            ("cifs", True),
            ("fuse", True),
            ("fuseblk", False),
            ("xfs", False),
            ("ext4", False),
        ],
    )
    def test_which_kinds_may_hang(self, host: Host, kind: str, may_hang: bool) -> None:
        host.mount(kind)
        mounts = host.looking()
        assert mounts.all_solid is not may_hang
        mounts.close()

    def test_what_every_host_has_is_not_feared(self, host: Host) -> None:
        usual = (
            ("autofs", "/proc/sys/fs/binfmt_misc"),
            ("fusectl", "/sys/fs/fuse/connections"),
            ("fuse.lxcfs", "/proc/cpuinfo"),
        )
        host.table.write_text("".join(LINE.format(20, 1, at, kind) for kind, at in (("ext4", "/"), *usual)))
        mounts = host.looking()
        assert mounts.all_solid
        mounts.close()

    def test_what_the_root_is_of_is_not_asked(self, host: Host) -> None:
        host.table.write_text(LINE.format(20, 1, "/", "9p") + LINE.format(21, 2, host.remote, "9p"))
        mounts = host.looking()
        assert mounts.all_solid
        mounts.close()

    def test_names_with_blanks_and_lines_that_are_none(self, host: Host) -> None:
        host.mount("nfs", at=f"{host.folder}/my disk")
        with host.table.open("a") as table:
            table.write("rubbish\n21 - \n\n")
        mounts = host.looking()
        assert mounts.place(f"{host.folder}/my disk/web") == f"{host.folder}/my disk"
        mounts.close()

    def test_on_which_mount_a_path_is_is_told_though_it_does_not_answer(self, host: Host) -> None:
        host.hang()
        assert host.mounts.place("/") == ""
        assert host.mounts.place(f"{host.folder}/web.log") == ""
        assert host.mounts.place(f"{host.folder}/./logs//../remote/web.log") == str(host.remote)
        assert host.mounts.place(f"{host.remote}/../web.log") == str(host.remote), "the way leads through it"
        assert host.asked == []

    def test_links_are_followed(self, host: Host) -> None:
        for name, target in (
            ("absolute", host.remote), ("relative", "../remote/web"), ("far", "absolute/web"), ("home", "/."),
        ):  # fmt: skip
            (host.folder / "links").mkdir(exist_ok=True)
            (host.folder / "links" / name).symlink_to(target)
        for name in ("absolute", "relative", "far"):
            assert host.mounts.place(f"{host.folder}/links/{name}/web.log") == str(host.remote)
        assert host.mounts.place(f"{host.folder}/links/home/{host.remote}") == str(host.remote)
        assert host.mounts.place(f"{host.folder}/links/home/srv") == ""

    def test_links_that_lead_to_each_other_lead_nowhere(self, host: Host) -> None:
        for one, other in (("a", "b"), ("b", "a")):
            (host.folder / one).symlink_to(other)
        assert host.mounts.place(f"{host.folder}/a/web") == ""

    def test_a_mount_that_comes_or_goes_changes_what_is_known(self, host: Host) -> None:
        class Changed:
            def poll(self, timeout: int) -> list[tuple[int, int]]:
                return [(0, 0)]

        assert host.mounts.answers(f"{host.remote}/web")
        host.mount("ext4")
        assert not host.mounts.all_solid, "nobody said that it changed"
        host.mounts._changes = Changed()  # type: ignore[assignment]
        assert host.mounts.all_solid
        assert host.mounts.place(f"{host.remote}/web") == ""
        assert host.mounts.answers(f"{host.remote}/web")

    def test_who_only_forgets_it_keeps_no_descriptor(self, host: Host) -> None:
        before = len(descriptors())
        for _ in range(3):
            assert Mounts().answers("/")
        assert len(descriptors()) == before

    def test_the_real_table_can_be_read(self) -> None:
        mounts = Mounts()
        assert mounts.answers("/")
        assert mounts.answers("a\0b")
        mounts.close()


class TestWhoAsks:
    def launch(self, *argv: str, cwd: Path) -> Launch:
        return Launch(argv=argv, env={"PATH": "/usr/bin:/bin"}, cwd=str(cwd), stdout=None, stderr=None)

    def test_nothing_is_started_where_nobody_answers_and_nobody_waits(self, host: Host) -> None:
        spawner = Spawner({}, marked=False, mounts=host.mounts)
        host.hang()
        for argv, cwd in [(("true",), host.remote), ((f"{host.remote}/run",), host.folder), (("./run",), host.remote)]:
            with pytest.raises(SpawnFailed, match=SILENT):
                spawner.spawn(self.launch(*argv, cwd=cwd), "s-1", 0, 0.0)
        spawner.close()

    @pytest.mark.parametrize("argv", [("sh", "-c", "pwd >out"), ("./run",), ("./run=2",)])
    def test_where_it_may_hang_the_process_goes_by_itself(self, host: Host, argv: tuple[str, ...]) -> None:
        for name in ("run", "run=2"):
            path = host.remote / name
            path.write_text("#!/bin/sh\npwd >out\n")
            path.chmod(0o755)
        spawner = Spawner({}, marked=False, mounts=host.mounts)
        pid = spawner.spawn(self.launch(*argv, cwd=host.remote), "s-1", 0, 0.0)
        assert os.waitpid(pid, 0)[1] == 0
        assert (host.remote / "out").read_text() == f"{host.remote}\n"
        spawner.close()

    def test_what_is_not_there_is_seen_by_its_exit(self, host: Host) -> None:
        spawner = Spawner({}, marked=False, mounts=host.mounts)
        pid = spawner.spawn(self.launch("./nothing", cwd=host.remote), "s-1", 0, 0.0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 127
        with pytest.raises(SpawnFailed):
            spawner.spawn(self.launch("sh", "a\0b", cwd=host.remote), "s-1", 0, 0.0)
        spawner.close()

    def test_files_that_do_not_answer_keep_what_was_good_last(self, host: Host) -> None:
        env = host.remote / "shop.env"
        env.write_text("COLOUR=red\n")
        surroundings = Surroundings(environment={}, mounts=host.mounts)
        spec, _ = understood({"command": ["true"], "workingDir": "/", "envFrom": [{"file": str(env)}]})
        before = surroundings.read("web", spec)
        host.hang()
        assert surroundings.fingerprint("web") != before.fingerprint
        facts = surroundings.read("web", spec)
        assert (facts.startable, facts.outer["COLOUR"], facts.digests) == (True, "red", before.digests)
        assert any(SILENT in problem for problem in facts.problems)
        assert surroundings.fingerprint("web") == facts.fingerprint, "it is not read again and again"
        fresh = surroundings.read("another", spec)
        assert not fresh.startable
        host.answers.set()
        until_answered(host, str(env))
        assert surroundings.fingerprint("web") != facts.fingerprint


def test_a_host_without_an_env_that_enters_uses_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    assert entering("/srv", "true") == ("/usr/bin/env", "-C", "/srv")
    monkeypatch.setattr(os.path, "realpath", lambda path: "/bin/busybox")
    assert entering("/srv", "true")[:2] == ("/bin/sh", "-c")
