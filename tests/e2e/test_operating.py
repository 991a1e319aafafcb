"""What an operator wishes for a time: visible everywhere, ended by its time, its opposite, an edit, or `reset`."""

import os
import signal

import pytest

from support.daemon import Daemon, always, eventually


@pytest.fixture
def web(daemon: Daemon) -> Daemon:
    """Three replicas of one Program, available."""
    daemon.declare("web", *daemon.worker("steady"), replicas=3, min_ready="50ms")
    daemon.start()
    daemon.until_available("web")
    return daemon


def overridden(daemon: Daemon, *words: str) -> None:
    """The override stands where one looks: in `get`, `describe`, `status`, the file, and in `diff`."""
    assert "Overridden" in daemon.cli("get", "web").out
    condition = daemon.condition("web", "Overridden")
    for word in words:
        assert word in condition["message"]
        assert word in daemon.cli("describe", "web").out
        assert word in daemon.cli("status", code=None).out
        assert word in daemon.cli("diff", "-f", daemon.manifests, code=None).out
    assert (daemon.state / "overrides/Program/web.yaml").exists()


def not_overridden(daemon: Daemon) -> None:
    eventually(lambda: not daemon.condition("web", "Overridden"), "the override is over")
    assert "Overridden" not in daemon.cli("get").out
    daemon.until_well()


class TestScale:
    def test_is_in_force_until_reset_and_touches_nobody_else(self, web: Daemon) -> None:
        three = web.until_running("web", 3)
        told = web.cli("scale", "web", "--replicas", "5", "--reason", "the sale")
        assert told.out == "program/web scaled\n"
        assert three.items() <= web.until_running("web", 5).items()
        overridden(web, "5", "the sale")
        assert web.object("web")["spec"]["replicas"] == 3, "the spec is the manifest's"
        assert web.object("web")["metadata"]["generation"] == 1
        web.kill_controller()
        web.until_running("web", 5)
        web.cli("reset", "web")
        assert web.until_running("web", 3) == three
        not_overridden(web)

    def test_ends_when_its_time_is_over(self, web: Daemon) -> None:
        three = web.until_running("web", 3)
        web.cli("scale", "web", "--replicas", "1", "--for", "1s")
        web.until_running("web", 1)
        three_again = web.until_running("web", 3)
        assert three_again[0] == three[0]
        not_overridden(web)
        assert web.events("web", "OverrideExpired")

    def test_ends_while_no_controller_was_there_to_see_it(self, web: Daemon) -> None:
        web.cli("scale", "web", "--replicas", "1", "--for", "500ms")
        web.until_running("web", 1)
        web.kill_controller()
        web.until_running("web", 3)
        not_overridden(web)

    def test_ends_with_an_edit_of_the_count_and_with_no_other(self, web: Daemon) -> None:
        web.cli("scale", "web", "--replicas", "5")
        five = web.until_running("web", 5)
        web.declare("web", *web.worker("steady"), replicas=3, min_ready="50ms", termination_grace_period="7s")
        told = web.cli("apply", "-f", web.manifests)
        eventually(lambda: web.object("web")["metadata"]["generation"] == 2)
        always(lambda: web.pids("web") == five, 0.3)
        assert "overrid" in told.err + told.out
        web.declare("web", *web.worker("steady"), replicas=4, min_ready="50ms", termination_grace_period="7s")
        assert web.until_running("web", 4).items() <= five.items()
        not_overridden(web)

    def test_back_to_the_written_count_is_no_override(self, web: Daemon) -> None:
        assert web.cli("scale", "web", "--replicas", "3").out == "program/web unchanged\n"
        web.cli("scale", "web", "--replicas", "4")
        web.cli("scale", "web", "--replicas", "3")
        web.until_running("web", 3)
        not_overridden(web)

    def test_several_at_once_and_a_dry_run(self, web: Daemon) -> None:
        web.declare("mail", *web.worker("steady"))
        web.until_running("mail", 1)
        told = web.cli("scale", "web", "program/mail", "--replicas", "2", "--dry-run")
        assert "program/mail scaled" in told.out
        always(lambda: (len(web.pids("web")), len(web.pids("mail"))) == (3, 1), 0.2)
        web.cli("scale", "web", "program/mail", "--replicas", "2")
        web.until_running("web", 2)
        web.until_running("mail", 2)


class TestStopAndStart:
    def test_the_whole_program(self, web: Daemon) -> None:
        assert web.cli("stop", "web", "--reason", "upgrade").out == "program/web stopped\n"
        web.until_at_rest("web")
        assert web.cli("status", code=None).out.count("Stopped") >= 1
        assert "upgrade" in web.cli("describe", "web").out
        web.declare("web", *web.worker("steady"), replicas=4, min_ready="50ms")
        web.kill_controller()
        eventually(lambda: web.object("web")["metadata"]["generation"] == 2)
        always(lambda: not web.pids("web"), 0.3, "an edit starts nothing that an operator stopped")
        assert web.cli("start", "web").out == "program/web started\n"
        web.until_running("web", 4)
        not_overridden(web)

    def test_single_replicas(self, web: Daemon) -> None:
        three = web.until_running("web", 3)
        web.cli("stop", "web/1")
        assert web.until_running("web", 2) == {0: three[0], 2: three[2]}
        overridden(web, "stopped 1")
        assert web.cli("get", "web").out.split()[-1] == "Available,Overridden"
        assert "program/web: available" in web.cli("apply", "-f", web.manifests, "--wait").err
        web.cli("stop", "web/2")
        assert web.until_running("web", 1) == {0: three[0]}
        web.cli("start", "web/1")
        assert sorted(web.until_running("web", 2)) == [0, 1]
        web.cli("start", "web")
        web.until_running("web", 3)
        not_overridden(web)

    def test_for_a_time(self, web: Daemon) -> None:
        web.cli("stop", "web", "--for", "1s")
        web.until_at_rest("web")
        web.until_running("web", 3)
        not_overridden(web)

    def test_now_waits_for_no_grace_period(self, web: Daemon) -> None:
        web.declare("deaf", *web.worker("stubborn"), termination_grace_period="1h")
        web.until_running("deaf", 1)
        web.cli("stop", "deaf", "--now")
        web.until_at_rest("deaf")
        assert web.events("deaf", "Killing")


class TestRestart:
    def test_replaces_all_within_the_strategy(self, web: Daemon) -> None:
        old = web.until_running("web", 3)
        web.cli("restart", "web")
        while len(web.ledger("start")) < 6:
            assert len(web.ledger("start")) - len(web.ledger("end")) >= 2
        new = web.until_running("web", 3)
        assert not set(old.values()) & set(new.values())
        eventually(lambda: len(web.ledger("end")) == 3)
        assert "RestartRequested" in {event["cause"] for event in web.events("web", "Stopping")}
        web.kill_controller()
        always(lambda: web.pids("web") == new, 0.3, "it is not repeated")

    def test_replaces_one(self, web: Daemon) -> None:
        old = web.until_running("web", 3)
        web.cli("restart", "web/1")
        eventually(lambda: len(web.ledger("start")) == 4)
        new = web.until_running("web", 3)
        assert {o for o in range(3) if old[o] != new[o]} == {1}

    def test_now_replaces_all_at_once(self, web: Daemon) -> None:
        web.cli("restart", "web", "--now")
        eventually(lambda: len(web.ledger("start")) == 6)
        starts, ends = web.ledger("start")[3:], web.ledger("end")
        assert max(end.at for end in ends) - min(end.at for end in ends) < 5
        assert max(end.at for end in ends) <= max(start.at for start in starts)

    def test_ends_a_back_off(self, daemon: Daemon) -> None:
        daemon.declare("sick", *daemon.worker("once", 1), restart_backoff={"initial": "1h", "max": "1h"})
        daemon.start()
        eventually(lambda: daemon.holds("sick", "CrashLoop"))
        daemon.cli("restart", "sick")
        eventually(lambda: len(daemon.ledger("start")) >= 3)


class TestLooking:
    def test_a_process_that_somebody_killed_is_back_with_its_reason(self, web: Daemon) -> None:
        pid = web.until_running("web", 3)[1]
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: len(web.ledger("start")) == 4)
        web.until_running("web", 3)
        row = web.processes("web")[1]
        assert (row["lastExit"]["signal"], row["cause"], row["restarts"]) == ("KILL", "ProcessExited", 1)
        described = web.cli("describe", "web/1").out
        for words in ("KILL", "ProcessExited"):
            assert words in described
        told = web.cli("events", "web").out
        assert "1 failed: signal KILL after" in told
        assert "start 1 (ProcessExited)" in told

    def test_logs_follow_new_replicas_and_end_with_the_daemon(self, web: Daemon) -> None:
        web.declare("talk", "/bin/sh", "-c", 'echo "hello $RECONCILER_REPLICA"; exec sleep 1000', replicas=2)
        eventually(lambda: web.log("talk", 1))
        assert sorted(web.cli("logs", "talk").out.split("\n")) == ["", "hello 0", "hello 1"]
        assert web.cli("logs", "talk/1").out == "hello 1\n"
        prefixed = web.cli("logs", "talk", "--prefix").out.splitlines()
        assert sorted(prefixed) == ["[talk/0] hello 0", "[talk/1] hello 1"]
        os.kill(web.pids("talk")[0], signal.SIGKILL)
        eventually(lambda: web.log("talk").count(b"hello") == 2)
        assert web.cli("logs", "talk/0", "--previous").out == "hello 0\n"

    def test_shutdown_can_be_waited_for(self, web: Daemon) -> None:
        web.cli("shutdown", "--wait")
        assert web.wait() == 0
        assert len(web.ledger("end")) == 3
