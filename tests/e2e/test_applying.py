"""Manifests that are handed in: all or nothing, owned by a set, waited for, refused with an exit code that says why."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reconciler.client import ClientError
from support.daemon import MARK, Daemon, always, eventually

NOBODY = 65534


@pytest.fixture
def started(daemon: Daemon) -> Daemon:
    """Running, with nothing in its watched directory."""
    return daemon.start()


def names(daemon: Daemon) -> list[str]:
    return [thing["metadata"]["name"] for thing in daemon.client.programs()["items"]]


def files(daemon: Daemon, *programs: str, folder: str = "input") -> Path:
    """A folder with a manifest of each of these, and nothing else."""
    place = daemon.folder / folder
    place.mkdir(exist_ok=True)
    for old in place.iterdir():
        old.unlink()
    for name in programs:
        (place / f"{name}.yaml").write_text(daemon.manifest(name, *daemon.worker("steady")))
    return place


class TestWhatIsTaken:
    def test_files_folders_and_several_documents(self, started: Daemon) -> None:
        more = started.folder / "more.yaml"
        more.write_text("---\n".join(started.manifest(name, *started.worker("steady")) for name in ("c", "d")))
        told = started.cli("apply", "-f", files(started, "a", "b"), "-f", more)
        assert told.out == "".join(f"program/{name} created\n" for name in "abcd")
        assert names(started) == ["a", "b", "c", "d"]
        for name in "abcd":
            started.until_running(name, 1)
        again = started.cli("apply", "-f", files(started, "a", "b"), "-f", more)
        assert again.out == "".join(f"program/{name} unchanged\n" for name in "abcd")
        assert started.object("a")["metadata"]["generation"] == 1

    def test_stdin(self, started: Daemon) -> None:
        text = started.manifest("a", *started.worker("steady"), working_dir=str(started.folder))
        assert started.cli("apply", "-f", "-", text=text).out == "program/a created\n"
        started.until_running("a", 1)

    def test_stdin_has_no_folder_for_relative_paths(self, started: Daemon) -> None:
        text = started.manifest("a", *started.worker("steady"), working_dir="sub")
        refused = started.cli("apply", "-f", "-", text=text, code=1)
        assert "workingDir" in refused.err
        assert "--base-dir" in refused.err
        (started.folder / "sub").mkdir()
        started.cli("apply", "-f", "-", "--base-dir", started.folder, text=text)
        assert started.object("a")["spec"]["workingDir"] == str(started.folder / "sub")

    def test_what_get_printed_may_be_applied_again(self, started: Daemon) -> None:
        started.cli("apply", "-f", files(started, "a"))
        pids = started.until_running("a", 1)
        printed = started.cli("get", "a", "-o", "yaml").out
        assert started.cli("apply", "-f", "-", text=printed).out == "program/a unchanged\n"
        always(lambda: started.pids("a") == pids, 0.3)

    def test_it_is_all_or_nothing(self, started: Daemon) -> None:
        place = files(started, "a", "b")
        (place / "c.yaml").write_text(started.manifest("c", "sleep", "1", replicaz=1))
        (place / "d.yaml").write_text("kind: [}\n")
        refused = started.cli("apply", "-f", place, code=1)
        assert f"{place}/c.yaml:" in refused.err
        assert f"{place}/d.yaml:1:" in refused.err, "all errors come at once"
        assert refused.out == ""
        assert names(started) == []
        assert not list((started.state / "accepted").rglob("*.yaml"))

    def test_a_dry_run_says_what_would_be_done_and_does_nothing(self, started: Daemon) -> None:
        told = started.cli("apply", "--dry-run", "-f", files(started, "a"))
        assert told.out.startswith("program/a created")
        assert "dry run" in told.out + told.err
        assert names(started) == []

    def test_it_outlives_the_daemon(self, started: Daemon) -> None:
        started.cli("apply", "-f", files(started, "a"))
        pids, uid = started.until_running("a", 1), started.object("a")["metadata"]["uid"]
        started.kill_controller()
        assert started.until_running("a", 1) == pids
        started.quit()
        started.start()
        started.until_running("a", 1)
        assert started.object("a")["metadata"]["uid"] == uid


class TestPruning:
    def test_without_it_one_is_told_what_is_left_over(self, started: Daemon) -> None:
        started.cli("apply", "-f", files(started, "a", "b", "c"))
        told = started.cli("apply", "-f", files(started, "a", "b"))
        assert "c" in told.err
        assert "--prune" in told.err
        assert names(started) == ["a", "b", "c"]

    def test_it_deletes_what_the_set_holds_and_the_input_does_not(self, started: Daemon) -> None:
        started.cli("apply", "-f", files(started, "x"), "--applyset", "other")
        started.cli("apply", "-f", files(started, "a", "b", "c"))
        started.until_running("c", 1)
        told = started.cli("apply", "-f", files(started, "a", "b"), "--prune")
        assert "program/c pruned\n" in told.out
        eventually(lambda: names(started) == ["a", "b", "x"], "c is gone")
        assert len(started.ledger("end")) == 1

    def test_it_refuses_more_than_half_and_all(self, started: Daemon) -> None:
        started.cli("apply", "-f", files(started, "a", "b", "c"))
        refused = started.cli("apply", "-f", files(started, "a"), "--prune", code=1)
        assert "--prune-limit" in refused.err
        assert names(started) == ["a", "b", "c"]
        empty = files(started, folder="empty")
        refused = started.cli("apply", "-f", empty, "--prune", "--prune-limit", "100%", code=None)
        assert refused.code != 0
        assert "--allow-empty" in refused.err
        assert names(started) == ["a", "b", "c"]
        started.cli("apply", "-f", files(started, "a"), "--prune", "--prune-limit", "100%")
        eventually(lambda: names(started) == ["a"])
        started.cli("apply", "-f", empty, "--prune", "--prune-limit", "100%", "--allow-empty")
        eventually(lambda: names(started) == [])


class TestOwners:
    def test_a_name_of_a_watched_directory_is_refused_with_6_and_both_are_named(self, daemon: Daemon) -> None:
        watched = daemon.declare("a", *daemon.worker("steady"), replicas=2)
        daemon.start()
        pids = daemon.until_running("a", 2)
        refused = daemon.cli("apply", "-f", files(daemon, "a", "b"), code=6)
        assert str(watched) in refused.err
        assert names(daemon) == ["a"]
        assert daemon.cli("delete", "a", code=6).err.count(str(watched)) == 1
        assert daemon.until_running("a", 2) == pids
        other = daemon.folder / "same.yaml"
        other.write_text(watched.read_text().replace("spec:\n", f"spec:\n  workingDir: {daemon.manifests}\n"))
        assert daemon.cli("apply", "-f", other).out == "program/a unchanged\n"

    def test_a_name_of_another_set_is_refused_with_6_and_may_be_taken_over(self, started: Daemon) -> None:
        started.cli("apply", "-f", files(started, "a"), "--applyset", "one")
        pids = started.until_running("a", 1)
        other = started.folder / "other.yaml"
        same = f"{started.folder}/input"
        other.write_text(started.manifest("a", *started.worker("steady"), working_dir=same, replicas=2))
        assert "one" in started.cli("apply", "-f", other, "--applyset", "two", code=6).err
        started.cli("apply", "-f", other, "--applyset", "two", "--take-over")
        assert pids.items() <= started.until_running("a", 2).items()

    def test_applying_a_watched_directory_reads_it_now_and_stores_nothing(self, daemon: Daemon) -> None:
        daemon.declare("a", *daemon.worker("steady"))
        daemon.start()
        daemon.declare("b", *daemon.worker("steady"))
        told = daemon.cli("apply", "-f", daemon.manifests)
        assert names(daemon) == ["a", "b"]
        assert "watched" in told.err
        assert not list((daemon.state / "manifests").rglob("*.yaml"))

    def test_delete_ends_what_was_applied(self, started: Daemon) -> None:
        started.cli("apply", "-f", files(started, "a", "b"))
        started.until_running("a", 1)
        assert started.cli("delete", "a").out == "program/a deleted\n"
        eventually(lambda: names(started) == ["b"])
        assert started.cli("delete", "a", code=3).err.startswith("error: ")

    def test_who_comes_back_while_his_predecessor_drains_waits_for_that(self, started: Daemon) -> None:
        place = files(started)
        path = place / "a.yaml"
        path.write_text(started.manifest("a", *started.worker("stubborn"), termination_grace_period="1s"))
        started.cli("apply", "-f", path)
        old = started.until_running("a", 1)
        started.cli("delete", "a")
        started.cli("apply", "-f", path)
        eventually(lambda: len(started.ledger("start")) == 2)
        new = started.until_running("a", 1)
        assert old != new
        assert started.ledger("start")[1].at > started.ledger("ignored")[0].at + 0.9


class TestWaiting:
    def test_it_returns_when_all_is_available(self, started: Daemon) -> None:
        told = started.cli("apply", "-f", files(started, "a", "b"), "--wait")
        assert "program/a: available" in told.err
        for name in ("a", "b"):
            assert started.holds(name, "Available")
        assert started.cli("status").code == 0

    def test_it_waits_for_the_new_revision_and_not_for_the_old_one(self, started: Daemon) -> None:
        path = files(started, "a") / "a.yaml"
        for version in ("1", "2"):
            path.write_text(started.manifest("a", *started.worker("steady"), replicas=2, env={"VERSION": version}))
            started.cli("apply", "-f", path, "--wait")
            alive = [entry.more for entry in started.ledger("start")][-2:]
            assert alive == [version] * 2

    def test_on_failure_it_tells_the_reason_and_the_last_lines_and_ends_with_1(self, started: Daemon) -> None:
        path = started.folder / "a.yaml"
        script = "echo connecting; echo no such database >&2; exit 3"
        path.write_text(started.manifest("a", "/bin/sh", "-c", script, progress_deadline="1s"))
        failed = started.cli("apply", "-f", path, "--wait", "--timeout", "20s", code=1)
        for words in ("program/a", "exit code 3", "no such database", "connecting"):
            assert words in failed.err
        path.write_text(started.manifest("a", "/bin/sh", "-c", script, restart_policy="Never"))
        assert "exit code 3" in started.cli("apply", "-f", path, "--wait", code=1).err

    def test_when_time_is_over_it_ends_with_4(self, started: Daemon) -> None:
        path = started.folder / "a.yaml"
        path.write_text(started.manifest("a", "/bin/sh", "-c", "echo no luck; exit 3"))
        told = started.cli("apply", "-f", path, "--wait", "--timeout", "1s", code=4)
        assert "timed out" in told.err
        assert "no luck" in told.err

    def test_a_controller_that_is_replaced_meanwhile_is_not_noticed(self, started: Daemon) -> None:
        path = started.folder / "a.yaml"
        path.write_text(started.manifest("a", *started.worker("steady"), min_ready="2s"))
        waiting = subprocess.Popen(
            started.command("apply", "-f", path, "--wait"), env=started.environment(), stderr=subprocess.PIPE, text=True
        )
        eventually(lambda: started.processes("a"), "it is applied")
        started.kill_controller()
        _, told = waiting.communicate(timeout=30)
        assert (waiting.returncode, "available" in told) == (0, True)
        assert len(started.ledger("start")) == 1


class TestWithoutAController:
    def test_nothing_is_stored_and_it_ends_with_5(self, daemon: Daemon) -> None:
        refused = daemon.cli("apply", "-f", files(daemon, "a"), code=5)
        assert "no controller is running" in refused.err
        assert not daemon.state.exists()
        for words in (("get",), ("status",), ("scale", "a", "--replicas", "2"), ("logs", "a"), ("shutdown",)):
            assert daemon.cli(*words, code=5).err.count("no controller is running") == 1

    def test_offline_it_is_stored_for_the_next_start(self, daemon: Daemon) -> None:
        daemon.cli("apply", "--offline", "-f", files(daemon, "a"))
        daemon.start()
        daemon.until_running("a", 1)
        assert daemon.cli("delete", "a").code == 0

    def test_offline_is_not_needed_while_one_runs_and_that_is_said(self, started: Daemon) -> None:
        told = started.cli("apply", "--offline", "-f", files(started, "a"))
        assert "a controller runs" in told.err
        started.until_running("a", 1)


class TestExitCodes:
    @pytest.mark.parametrize(
        ("words", "code"),
        [
            ("get -o name", 0),
            ("get nothing", 3),
            ("get ps nothing/3", 3),
            ("describe nothing", 3),
            ("logs nothing", 3),
            ("scale nothing --replicas 2", 3),
            ("scale nothing --replicas -2", 2),
            ("stop", 2),
            ("frobnicate", 2),
            ("apply", 2),
            ("apply -f nowhere.yaml", 2),
            ("--request-timeout never get", 2),
            ("--socket nowhere.sock get", 5),
            ("version", 0),
            ("completion bash", 0),
        ],
    )
    def test_say_what_went_wrong(self, started: Daemon, words: str, code: int) -> None:
        told = started.cli(*words.split(), code=code)
        assert (told.err == "") == (code == 0)
        assert len(told.err.splitlines()) <= 5

    def test_who_has_no_permission_is_told_where_it_ends_the_mode_and_who_he_is(self, started: Daemon) -> None:
        if os.geteuid() != 0:
            pytest.skip("only root can be somebody else")
        # Everything is imported before the privileges go: the code may lie where nobody may look.
        script = (
            "import os, sys, reconciler.__main__, reconciler.cli.main, reconciler.cli.get, reconciler.client.requests; "
            f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY}); "
            f"sys.argv = ['reconciler', '--state-dir', {str(started.state)!r}, 'get']; "
            "sys.exit(reconciler.__main__.main())"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, env=started.environment(), check=False
        )
        assert done.returncode == 7, done.stderr
        for words in ("permission denied at /", "mode 0700", "owner root", str(NOBODY)):
            assert words in done.stderr

    def test_a_daemon_that_does_not_answer_is_timed_out(self, started: Daemon) -> None:
        controller = started.controller
        os.kill(controller, signal.SIGSTOP)
        try:
            began = time.monotonic()
            told = started.cli("--request-timeout", "1s", "get", code=4)
            assert time.monotonic() - began > 0.9
            assert "1s" in told.err
        finally:
            os.kill(controller, signal.SIGCONT)

    def test_json_for_programs_text_for_people(self, started: Daemon) -> None:
        started.cli("apply", "-f", files(started, "a"))
        started.until_running("a", 1)
        assert json.loads(started.cli("get", "-o", "json").out)["items"][0]["metadata"]["name"] == "a"
        assert json.loads(started.cli("get", "ps", "a/0", "-o", "json").out)
        for line in started.cli("events", "-o", "json").out.splitlines():
            assert json.loads(line)["name"] == "a"
        assert started.cli("get", "-o", "name").out == "program/a\n"


def test_the_daemon_passes_nothing_of_its_own_environment_on(daemon: Daemon) -> None:
    daemon.declare("env", "/bin/sh", "-c", f'cd "{daemon.folder}"; env > env.new; mv env.new env; exec sleep 1000')
    daemon.start()
    eventually((daemon.folder / "env").exists)
    found = dict(line.split("=", 1) for line in (daemon.folder / "env").read_text().splitlines())
    assert MARK not in found
    assert {name for name in found if name.startswith("RECONCILER_")} >= {"RECONCILER_PROGRAM", "RECONCILER_REPLICA"}
    with pytest.raises(ClientError):
        daemon.client.program("nothing")
