"""Broken input while everything runs: the old version stays, the others go on, and the place of the error is told."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from support.daemon import Daemon, always, eventually

ROOT = os.geteuid() == 0


def syntax_error(path: Path) -> None:
    path.write_text(
        "apiVersion: reconciler/v1\nkind: Program\nmetadata: {name: web}\nspec:\n  command: [sh, -c\n  x: 1\n"
    )


def unknown_field(path: Path) -> None:
    path.write_text(path.read_text() + "  replicaz: 3\n")


def alias_bomb(path: Path) -> None:
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    path.write_text("a0: &a0 [x]\n" + "\n".join(levels) + "\n")


def deep_nesting(path: Path) -> None:
    path.write_text("a: " + "[" * 100_000 + "]" * 100_000)


def enormous(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(100 << 20)  # sparse: costs nothing to make, and must cost nothing to refuse


def latin_1(path: Path) -> None:
    path.write_bytes(path.read_bytes() + "# größer\n".encode("latin-1"))


def nul_bytes(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"metadata", b"meta\0data"))


def unreadable_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def dangling_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere.yaml")


BREAKAGES: dict[Callable[[Path], None], str] = {
    syntax_error: r":6:\d+: (error: )?is not valid YAML",
    unknown_field: r":\d+:3: (error: )?spec\.replicaz: .*replicas",
    alias_bomb: r":\d+:\d+: (error: )?.*alias",
    deep_nesting: r":\d+:\d+: (error: )?.*(deep|level)",
    enormous: r".*: (error: )?.*bytes",
    latin_1: r":\d+:\d+: (error: )?.*UTF-8",
    nul_bytes: r":\d+:\d+: (error: )?",
    unreadable_fifo: r".*: (error: )?.*(FIFO|not a regular file)",
    device: r".*: (error: )?.*(device|not a regular file)",
    dangling_link: r".*: (error: )?",
}


class TestBrokenFiles:
    def test_their_programs_run_on_each_place_is_told_and_the_others_change(self, daemon: Daemon) -> None:
        """All sorts of them at the same time: none stands in another one's light."""
        broken = {breakage.__name__.replace("_", "-"): breakage for breakage in BREAKAGES}
        paths = {name: daemon.declare(name, *daemon.worker("steady")) for name in broken}
        daemon.declare("other", *daemon.worker("steady"))
        daemon.start()
        pids = {name: daemon.until_running(name, 1) for name in broken}
        texts = {name: path.read_bytes() for name, path in paths.items()}

        for name, breakage in broken.items():
            breakage(paths[name])
        eventually(lambda: self.told_of(daemon) == set(map(str, paths.values())), "the problems are seen")
        daemon.declare("other", *daemon.worker("steady"), replicas=2)
        daemon.until_running("other", 2)

        def are_told() -> None:
            everywhere = (
                daemon.cli("get").err,
                daemon.cli("status", code=1).out,
                daemon.cli("validate", "-f", daemon.manifests, code=1).err,
                daemon.output(),
            )
            rows = {row.split()[0]: row for row in daemon.cli("get").out.splitlines()}
            for name, breakage in broken.items():
                pattern = re.compile(rf"{name}\.yaml{BREAKAGES[breakage]}")
                for told in (*everywhere, daemon.cli("describe", name).out):
                    assert pattern.search(told), (name, told)
                assert "; the last accepted spec stays in force" in daemon.cli("describe", name).out
                assert "Invalid" in rows[name]
                assert daemon.until_running(name, 1) == pids[name]
            assert "Invalid" not in rows["other"]

        are_told()
        daemon.kill_controller()
        eventually(lambda: self.told_of(daemon) == set(map(str, paths.values())), "the next controller sees them")
        are_told()
        assert len(daemon.ledger("start")) == len(broken) + 2

        for name, path in paths.items():
            if path.is_symlink() or not path.is_file():
                path.unlink()
            daemon.write(path.name, texts[name])
        eventually(lambda: not daemon.problems(), "the repair is seen")
        daemon.until_well()
        assert {name: daemon.until_running(name, 1) for name in broken} == pids

    def told_of(self, daemon: Daemon) -> set[str]:
        return {str(problem["file"]) for problem in daemon.problems()}

    def test_it_is_told_once_in_the_log_and_not_with_each_scan(self, daemon: Daemon) -> None:
        path = daemon.declare("web", *daemon.worker("steady"))
        daemon.start()
        daemon.until_running("web", 1)
        syntax_error(path)
        eventually(daemon.problems)
        for _ in range(3):
            daemon.cli("apply", "-f", daemon.manifests, code=None)
        assert daemon.output().count("is not valid YAML") == 1

    def test_a_program_that_was_never_accepted_is_not_run_and_its_file_is_named(self, daemon: Daemon) -> None:
        daemon.declare("other", *daemon.worker("steady"))
        daemon.start()
        daemon.declare("typo", comand=["sleep", "1"])
        eventually(daemon.problems)
        told = daemon.cli("get").err
        assert re.search(r"typo\.yaml:\d+:\d+: error: spec\.comand: .*command", told), told
        assert re.search(r"typo\.yaml:\d+:\d+: error: spec\.command: .*", told), "all errors come at once"
        assert [thing["metadata"]["name"] for thing in daemon.client.programs()["items"]] == ["other"]

    def test_hidden_names_directories_and_other_files_are_no_manifests(self, daemon: Daemon) -> None:
        daemon.declare("web", *daemon.worker("steady"))
        for name in (".hidden.yaml", "notes.txt", "web.yaml~", ".web.yaml.swp"):
            (daemon.manifests / name).write_text("{{{")
        (daemon.manifests / "a.yaml").mkdir()
        os.mkfifo(daemon.manifests / "pipe")
        daemon.start()
        daemon.until_running("web", 1)
        assert daemon.problems() == []


class TestOneNameTwice:
    def test_the_owner_keeps_it_and_both_files_are_named(self, daemon: Daemon) -> None:
        first = daemon.declare("web", *daemon.worker("steady"), env={"VERSION": "1"})
        daemon.start()
        pids = daemon.until_running("web", 1)
        second = daemon.write("a.yaml", daemon.manifest("web", *daemon.worker("steady"), env={"VERSION": "2"}))
        eventually(lambda: daemon.holds("web", "Conflict"), "the conflict is seen")
        for told in (daemon.cli("get").err, daemon.cli("status", code=1).out, daemon.output()):
            assert str(first) in told
            assert str(second) in told
        assert str(second) in daemon.cli("describe", "web").out
        assert "Conflict" in daemon.cli("get").out
        assert str(second) in daemon.cli("validate", "-f", daemon.manifests, code=1).err
        daemon.kill_controller()
        eventually(lambda: daemon.holds("web", "Conflict"))
        assert daemon.until_running("web", 1) == pids

        first.unlink()
        eventually(lambda: [entry.more for entry in daemon.ledger("start")] == ["1", "2"], "the other one has it now")
        eventually(lambda: not daemon.condition("web", "Conflict"))


class TestWhatCannotBeStarted:
    def told(self, daemon: Daemon, reasons: dict[str, str]) -> None:
        """Each reason is told in the words of a shell; it is tried again with growing delays; nothing crashes."""
        daemon.declare("other", *daemon.worker("steady"))
        daemon.start()
        for name in reasons:
            eventually(
                lambda name=name: "nextStartAt" in next(iter(daemon.processes(name)), {}), f"{name} is tried again"
            )
        status, processes = daemon.cli("status", code=None).out, daemon.cli("get", "ps").out
        for name, reason in reasons.items():
            row = daemon.processes(name)[0]
            assert (row["state"], row["pid"], row["lastExit"]["outcome"]) == ("BackOff", None, "NotStarted")
            for told in (row["lastExit"]["message"], daemon.cli("describe", name).out, status, processes):
                assert re.search(reason, told), (name, told)
            assert re.search(rf"{name}\b.*{reason}", daemon.output()), name
        daemon.until_running("other", 1)
        assert daemon.client.status()["daemon"]["controllerDeaths"] == 0

    def test_it_says_why(self, daemon: Daemon) -> None:
        closed, orphan = daemon.manifests / "closed", daemon.manifests / "orphan"
        closed.write_text("#!/bin/sh\n")
        orphan.write_text("#!/nowhere/sh\n")
        orphan.chmod(0o755)
        daemon.declare("no-command", "phpp", "artisan")
        daemon.declare("no-path", "/nowhere/php")
        daemon.declare("not-executable", str(closed))
        daemon.declare("no-interpreter", str(orphan))
        daemon.declare("no-directory", "sleep", "1000", working_dir="/nowhere")
        daemon.declare("no-user", "sleep", "1000", user="nosuchuser")
        self.told(
            daemon,
            {
                "no-command": "phpp: command not found",
                "no-path": "/nowhere/php: No such file or directory",
                "not-executable": "closed: Permission denied",
                "no-interpreter": "orphan: bad interpreter /nowhere/sh: No such file or directory",
                "no-directory": "/nowhere: No such file or directory",
                "no-user": r"user (\W)?nosuchuser(\W)? does not exist",
            },
        )

    def test_another_user_without_the_right_to_become_him(self, daemon: Daemon) -> None:
        if ROOT:
            pytest.skip("root may")
        daemon.declare("another-user", "sleep", "1000", user="root")
        self.told(daemon, {"another-user": "root"})

    def test_what_is_created_later_is_found_at_the_next_start(self, daemon: Daemon) -> None:
        tool = daemon.folder / "tool"
        backoff = {"initial": "200ms", "max": "200ms"}
        daemon.declare("late", str(tool), restart_backoff=backoff)
        daemon.start()
        eventually(lambda: daemon.holds("late", "CrashLoop"))
        tool.with_suffix(".new").write_text("#!/bin/sh\nexec sleep 1000\n")
        tool.with_suffix(".new").chmod(0o755)
        tool.with_suffix(".new").rename(tool)
        daemon.until_running("late", 1)

    def test_a_working_revision_is_not_given_up_for_one_that_cannot_start(self, daemon: Daemon) -> None:
        daemon.declare("web", *daemon.worker("steady"), replicas=3, min_ready="50ms")
        daemon.start()
        daemon.until_available("web")
        pids = daemon.pids("web")
        daemon.declare("web", "phpp", replicas=3, min_ready="50ms")
        eventually(lambda: "phpp" in daemon.cli("status", code=None).out, "the reason is shown")
        always(lambda: len(set(pids.values()) & set(daemon.pids("web").values())) >= 2, 0.5)


class TestAWatchedDirectory:
    def suspect(self, daemon: Daemon) -> str:
        """What `status` says of a home that lost its manifests, once that is seen."""
        eventually(lambda: daemon.holds("web", "SourceSuspect"), "the loss is seen")
        assert "SourceSuspect" in daemon.cli("get").out
        told = daemon.cli("status", code=1).out
        line = next(line for line in told.splitlines() if "--allow-empty" in line)
        assert str(daemon.manifests) in line
        return line

    def test_that_vanishes_stops_nothing_and_is_well_when_it_returns(self, daemon: Daemon) -> None:
        daemon.declare("web", *daemon.worker("steady"), replicas=2)
        daemon.start()
        pids = daemon.until_running("web", 2)
        daemon.manifests.rename(daemon.folder / "moved")
        assert "is not there" in self.suspect(daemon)
        daemon.kill_controller()
        self.suspect(daemon)
        assert daemon.until_running("web", 2) == pids
        (daemon.folder / "moved").rename(daemon.manifests)
        eventually(lambda: not daemon.condition("web", "SourceSuspect"), "it is back")
        daemon.declare("web", *daemon.worker("steady"), replicas=3)
        assert pids.items() <= daemon.until_running("web", 3).items()
        daemon.until_well()

    def test_that_is_emptied_stops_nothing_until_that_is_confirmed(self, daemon: Daemon) -> None:
        daemon.declare("web", *daemon.worker("steady"), replicas=2)
        daemon.declare("other", *daemon.worker("steady"))
        daemon.start()
        pids, other = daemon.until_running("web", 2), daemon.until_running("other", 1)
        for path in daemon.manifests.glob("*.yaml"):
            path.unlink()
        assert "web" in self.suspect(daemon)
        daemon.cli("apply", "-f", daemon.manifests, code=None)  # reads it now, and is no confirmation
        always(lambda: (daemon.pids("web"), daemon.pids("other")) == (pids, other), 0.3)
        daemon.cli("apply", "--allow-empty", "-f", daemon.manifests)
        eventually(lambda: not daemon.client.programs()["items"], "all are gone")
        assert len(daemon.ledger("end")) == 3

    def test_that_loses_most_of_its_files_at_once_is_suspect_and_the_rest_is_followed(self, daemon: Daemon) -> None:
        for name in ("web", "b", "c", "d"):
            daemon.declare(name, *daemon.worker("steady"))
        daemon.start()
        for name in ("web", "b", "c", "d"):
            daemon.until_running(name, 1)
        for name in ("web", "b", "c"):
            (daemon.manifests / f"{name}.yaml").unlink()
        self.suspect(daemon)
        daemon.declare("d", *daemon.worker("steady"), replicas=2)
        daemon.until_running("d", 2)
        assert not daemon.ledger("end")

    def test_that_is_not_there_yet_is_waited_for(self, daemon: Daemon) -> None:
        later = daemon.folder / "later"
        daemon.start(later)
        assert "no such directory yet" in daemon.output()
        (daemon.folder / "aside").mkdir()
        (daemon.folder / "aside/web.yaml").write_text(daemon.manifest("web", *daemon.worker("steady")))
        (daemon.folder / "aside").rename(later)
        daemon.until_running("web", 1)

    def test_that_may_not_be_read_says_so(self, daemon: Daemon) -> None:
        if ROOT:
            pytest.skip("root may read everything")
        daemon.declare("web", *daemon.worker("steady"))
        daemon.start()
        pids = daemon.until_running("web", 1)
        daemon.manifests.chmod(0)
        try:
            self.suspect(daemon)
            assert daemon.pids("web") == pids
        finally:
            daemon.manifests.chmod(0o755)
