"""`reexec` on a controller that only talks: what is asked, what is waited for, and what is said when it goes wrong."""

import os
from pathlib import Path
from typing import Any

import pytest

from support.calling import Call
from support.fake_controller import FakeController, Reply, Request, process, program

Json = dict[str, Any]

OLD: Json = {"version": "0.1.0", "pid": 11, "pumpPid": 12, "keeperPid": os.getpid(), "keeperReplaced": 0, "ready": True}
NEW: Json = {**OLD, "version": "0.2.0", "pid": 21, "pumpPid": 22}


class Daemon:
    """What the fake says about itself: the old one until it was asked to change over, then the later ones by turns."""

    def __init__(self, fake: FakeController, state: Path) -> None:
        self.fake = fake
        self.old = {**OLD, "stateDir": str(state)}
        self.later: list[Json] = [NEW]
        self.asked = False
        (state / "run").mkdir(parents=True)
        self.lock = state / "run" / "lock"
        fake.scripted["GET", "/v1/daemon"] = self.tell
        fake.scripted["POST", "/v1/reexec"] = self.take
        fake.programs = {"web": program("web")}

    def tell(self, _: Request) -> Reply:
        if not self.asked:
            return Reply(self.old)
        return Reply(self.later.pop(0) if len(self.later) > 1 else self.later[0])

    def take(self, request: Request) -> Reply:
        self.asked = "dryRun" not in request.query
        return Reply({"version": "0.1.0", "newVersion": "0.2.0", **request.body}, 202)


@pytest.fixture
def daemon(fake: FakeController, tmp_path: Path) -> Daemon:
    return Daemon(fake, tmp_path / "state")


def test_it_waits_for_both_and_says_what_became_of_what(daemon: Daemon, call: Call) -> None:
    not_yet = [daemon.old, {**NEW, "ready": False}, {**NEW, "pumpPid": None}, {**NEW, "pumpPid": 12}]
    daemon.later = [*not_yet, NEW]
    code, out, err = call("reexec")
    assert (code, out) == (0, "reexec: controller 11 -> 21, pump 12 -> 22, 2 processes kept\n")
    assert err == "version 0.1.0 -> 0.2.0: tried out, changing over\n"
    assert [request.body for request in daemon.fake.asked("POST", "/v1/reexec")] == [{"keeper": False}]
    assert len(daemon.later) == 1


def test_the_keeper_is_replaced_in_place(daemon: Daemon, call: Call) -> None:
    daemon.later = [{**NEW, "keeperReplaced": 1}]
    code, out, _ = call("reexec", "--keeper")
    assert (code, f", keeper {os.getpid()} in place," in out) == (0, True)
    assert daemon.fake.asked("POST", "/v1/reexec")[0].body == {"keeper": True}


def test_a_keeper_that_stayed_as_it_was_is_a_failure(daemon: Daemon, call: Call) -> None:
    code, out, err = call("reexec", "--keeper")
    assert (code, "controller 11 -> 21" in out) == (1, True)
    assert "is still the old one" in err


def test_processes_that_ended_by_themselves_are_counted_apart(daemon: Daemon, call: Call) -> None:
    def changed(request: Request) -> Reply:
        daemon.fake.programs = {"web": program("web", processes=[process(0), process(1, pid=999)])}
        return daemon.take(request)

    daemon.fake.scripted["POST", "/v1/reexec"] = changed
    daemon.fake.programs = {"web": program("web", processes=[process(0), process(1), process(2, pid=None)])}
    assert call("reexec").out.endswith(", 1 process kept (1 ended meanwhile)\n")


def test_a_millisecond_of_difference_between_two_clocks_is_no_end(daemon: Daemon, call: Call) -> None:
    def changed(request: Request) -> Reply:
        daemon.fake.programs["web"]["status"]["processes"][0]["startedAt"] = "2026-01-01T00:00:00.001Z"
        return daemon.take(request)

    daemon.fake.scripted["POST", "/v1/reexec"] = changed
    assert call("reexec").out.endswith(", 2 processes kept\n")


def test_a_dry_run_tries_the_code_out_and_replaces_nothing(daemon: Daemon, call: Call) -> None:
    code, out, err = call("reexec", "--dry-run", "--keeper")
    assert code == 0
    assert out == (
        f"reexec: controller 11, pump 12, keeper {os.getpid()} would be replaced, version 0.1.0 -> 0.2.0,"
        " 2 processes kept (dry run)\n"
    )
    assert (err, daemon.asked) == ("", False)


def test_code_that_would_not_work_is_refused_and_nothing_is_waited_for(daemon: Daemon, call: Call) -> None:
    why = "the installed code would not work: SyntaxError: invalid syntax (app.py, line 3). Nothing was replaced"
    daemon.fake.refuses("POST", "/v1/reexec", 409, 1, "RehearsalFailed", why)
    assert call("reexec") == (1, "", f"error: {why}\n")


def test_a_keeper_that_is_too_old_is_a_conflict(daemon: Daemon, call: Call) -> None:
    daemon.fake.refuses("POST", "/v1/reexec", 409, 6, "KeeperTooOld", "replace it, too")
    assert call("reexec").code == 6


def test_nobody_answering_in_time_is_a_time_out_that_says_what_holds_meanwhile(daemon: Daemon, call: Call) -> None:
    daemon.later = [daemon.old]
    code, out, err = call("reexec", "--timeout", "300ms")
    assert (code, out) == (4, "")
    assert "error: no new controller after 300ms: none answered\n" in err
    assert f"the processes run on, and keeper {os.getpid()} tries again" in err


def test_controllers_that_die_before_they_answer_are_seen(daemon: Daemon, call: Call) -> None:
    pids = iter(["11", "31", "31", "32", "33"])

    def note(request: Request) -> Reply:
        daemon.lock.write_text(f"1\nboot\npump 12 5\ncontroller {next(pids, '33')} 7\n")
        return Reply({}, 503)

    def begin(request: Request) -> Reply:
        daemon.fake.scripted["GET", "/v1/daemon"] = note
        return daemon.take(request)

    daemon.fake.scripted["POST", "/v1/reexec"] = begin
    code, _, err = call("reexec", "--timeout", "1s")
    assert code == 4
    assert "controller 31 did not live; 32 is tried\ncontroller 32 did not live; 33 is tried\n" in err
    assert "3 controllers started and none answered" in err


def test_a_keeper_that_is_gone_is_said_at_once(daemon: Daemon, call: Call) -> None:
    daemon.old["keeperPid"] = 2**22 + 1

    def leave(request: Request) -> Reply:
        daemon.fake.path.unlink()
        return daemon.take(request)

    daemon.fake.scripted["POST", "/v1/reexec"] = leave
    code, _, err = call("reexec", "--timeout", "20s")
    assert (code, "is gone; the processes run on without a daemon" in err) == (1, True)


def test_safe_mode_of_the_new_one_is_a_failure_with_what_to_do(daemon: Daemon, call: Call) -> None:
    daemon.later = [{**NEW, "safeMode": True, "controllerDeaths": 3}]
    code, out, err = call("reexec")
    assert (code, "controller 11 -> 21" in out) == (1, True)
    assert "runs in safe mode, 3 died before it: mend what kills it, then reexec again" in err


def test_what_the_new_one_warns_of_is_passed_on(daemon: Daemon, call: Call) -> None:
    daemon.later = [{**NEW, "warnings": ["pipes are small"]}]
    code, _, err = call("reexec")
    assert (code, err.splitlines()[-1]) == (0, "warning: pipes are small")


def test_without_a_controller_there_is_nothing_to_replace(call: Call, tmp_path: Path) -> None:
    assert call("--state-dir", tmp_path, "reexec").code == 5


def test_a_controller_that_does_not_know_the_question_about_itself_is_asked_for_all(
    fake: FakeController, call: Call
) -> None:
    error = {"exitCode": 3, "reason": "NoSuchPath", "message": "there is no /v1/daemon here", "problems": []}
    fake.answers("GET", "/v1/daemon", {"error": error}, 404)
    fake.daemon = {"version": "0.0.9", "pid": 7, "ready": True}
    code, out, err = call("status", "--daemon")
    assert (code, "0.0.9" in out) == (0, True)
    assert "reconciler reexec` replaces what runs" in err
