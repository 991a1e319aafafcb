"""A drain is a promise: the signal, the grace period, then the whole tree; and one piece of work is let finish."""

import os
import signal
import time
from pathlib import Path

from support.daemon import Daemon, always, eventually, is_alive


def tree_of(daemon: Daemon, replica: int = 0) -> list[int]:
    """The grandchildren that a worker of mode `parent` has: one in its session, one in another that ignores TERM."""
    aside = Path(f"{daemon.ledger_path}.setsid.{replica}")
    eventually(lambda: aside.exists() and aside.read_text().endswith("\n"), "the tree has grown")
    eventually(lambda: [entry for entry in daemon.ledger("grandson") if entry.replica == replica])
    in_session = [int(entry.more) for entry in daemon.ledger("grandson") if entry.replica == replica]
    return [*in_session, int(aside.read_text())]


class TestTheGracePeriod:
    def test_who_ends_at_the_signal_is_not_killed(self, daemon: Daemon) -> None:
        daemon.declare("web", *daemon.worker("steady"), replicas=2)
        daemon.start()
        daemon.until_running("web", 2)
        daemon.declare("web", *daemon.worker("steady"), replicas=0)
        daemon.until_at_rest("web")
        assert [entry.more for entry in daemon.ledger("end")] == ["TERM", "TERM"]
        assert daemon.events("web", "Killing") == []

    def test_who_ignores_the_signal_is_killed_after_it_and_not_before(self, daemon: Daemon) -> None:
        daemon.declare("web", *daemon.worker("stubborn"), termination_grace_period="1s")
        daemon.start()
        pid = daemon.until_running("web", 1)[0]
        daemon.declare("web", *daemon.worker("stubborn"), termination_grace_period="1s", replicas=0)
        ignored = eventually(lambda: daemon.ledger("ignored"))[0]
        row = daemon.processes("web")[0]
        assert (row["state"], row["cause"], row["pid"]) == ("Stopping", "ScaledDown", pid)
        assert row["killAt"] > row["stoppingSince"]
        always(lambda: is_alive(pid), 0.6)
        eventually(lambda: not is_alive(pid))
        assert float(Path("/proc/uptime").read_text().split()[0]) - ignored.at > 0.9
        assert daemon.messages("web", "Killing") == [f"kill 0, pid {pid} (GracePeriodOver)"]
        assert len(daemon.ledger("ignored")) == 1

    def test_another_signal_may_be_asked_for(self, daemon: Daemon) -> None:
        script = f"trap 'echo quit > \"{daemon.folder}/told\"; exit 0' QUIT; while :; do sleep 0.05; done"
        daemon.declare("web", "/bin/sh", "-c", script, stop_signal="QUIT")
        daemon.start()
        daemon.until_available("web")
        daemon.cli("stop", "web")
        daemon.until_at_rest("web")
        assert (daemon.folder / "told").read_text() == "quit\n"

    def test_without_end_nobody_is_killed(self, daemon: Daemon) -> None:
        daemon.declare("web", *daemon.worker("stubborn"), termination_grace_period="infinity")
        daemon.start()
        pid = daemon.until_running("web", 1)[0]
        daemon.cli("stop", "web")
        eventually(lambda: daemon.ledger("ignored"))
        row = daemon.processes("web")[0]
        assert (row["state"], row["killAt"]) == ("Stopping", None)
        always(lambda: is_alive(pid), 0.5)
        daemon.cli("stop", "web", "--now")
        eventually(lambda: not is_alive(pid), "an operator may lose patience")

    def test_an_operator_may_lose_patience_with_what_was_deleted_too(self, daemon: Daemon) -> None:
        daemon.declare("other", *daemon.worker("steady"))
        path = daemon.declare("web", *daemon.worker("stubborn"), termination_grace_period="infinity")
        daemon.start()
        daemon.until_running("web", 1)
        path.unlink()
        eventually(lambda: daemon.ledger("ignored"))
        assert "web/0" in daemon.cli("get", "ps").out
        daemon.cli("stop", "web", "--now")
        eventually(lambda: len(daemon.client.programs()["items"]) == 1, "it is gone")


class TestTheTree:
    def test_grandchildren_are_gone_too_the_daemonised_included(self, daemon: Daemon) -> None:
        daemon.declare("web", *daemon.worker("parent"), replicas=2, termination_grace_period="1s")
        daemon.start()
        daemon.until_running("web", 2)
        family = [*tree_of(daemon, 0), *tree_of(daemon, 1)]
        assert all(map(is_alive, family))
        daemon.declare("web", *daemon.worker("parent"), replicas=1, termination_grace_period="1s")
        eventually(lambda: not any(map(is_alive, family[2:])), "the tree of replica 1 is gone")
        assert all(map(is_alive, family[:2]))
        assert len(daemon.ledger("end")) == 1

    def test_no_successor_starts_before_it_is_empty(self, daemon: Daemon) -> None:
        daemon.declare("web", *daemon.worker("parent"), termination_grace_period="1s", env={"VERSION": "1"})
        daemon.start()
        daemon.until_available("web")
        family = tree_of(daemon)
        daemon.declare("web", *daemon.worker("parent"), termination_grace_period="1s", env={"VERSION": "2"})
        eventually(lambda: len(daemon.ledger("start")) == 2, "the successor started")
        assert not any(map(is_alive, family))

    def test_what_a_crash_leaves_behind_is_ended_before_the_restart(self, daemon: Daemon) -> None:
        daemon.declare("web", *daemon.worker("parent"), termination_grace_period="1s")
        daemon.start()
        pid = daemon.until_running("web", 1)[0]
        family = tree_of(daemon)
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: len(daemon.ledger("start")) == 2, "it was restarted")
        assert not any(map(is_alive, family))


class TestRunOnce:
    def working(self, daemon: Daemon, **spec: object) -> int:
        """A process in the middle of its piece of work, and what it needs to finish: the file `go`."""
        daemon.declare("mail", *daemon.worker("piece", daemon.folder / "go"), run_once=True, **spec)
        daemon.start()
        return daemon.until_running("mail", 1)[0]

    def finish(self, daemon: Daemon, pid: int) -> None:
        """Nobody interrupts it, and it finishes in peace."""
        always(lambda: is_alive(pid), 0.4)
        (daemon.folder / "go").touch()
        eventually(lambda: not is_alive(pid))
        assert [(entry.what, entry.pid, entry.more) for entry in daemon.ledger("end")][:1] == [("end", pid, "0")]
        assert daemon.ledger("signalled") == []

    def test_is_let_finish_when_it_is_scaled_down(self, daemon: Daemon) -> None:
        pid = self.working(daemon)
        daemon.declare("mail", *daemon.worker("piece", daemon.folder / "go"), run_once=True, replicas=0)
        eventually(lambda: daemon.processes("mail")[0]["state"] == "Stopping")
        self.finish(daemon, pid)
        daemon.until_at_rest("mail")
        assert len(daemon.ledger("start")) == 1

    def test_is_let_finish_in_a_rollout_and_followed_by_the_new_revision(self, daemon: Daemon) -> None:
        pid = self.working(daemon, env={"VERSION": "1"}, min_ready="0s")
        daemon.declare(
            "mail", *daemon.worker("piece", daemon.folder / "go"), run_once=True, env={"VERSION": "2"}, min_ready="0s"
        )
        eventually(lambda: daemon.processes("mail")[0]["state"] == "Stopping")
        self.finish(daemon, pid)
        eventually(lambda: [entry.more for entry in daemon.ledger("start")][1:2] == ["2"])

    def test_is_let_finish_when_its_manifest_is_deleted(self, daemon: Daemon) -> None:
        daemon.declare("other", *daemon.worker("steady"))
        pid = self.working(daemon)
        (daemon.manifests / "mail.yaml").unlink()
        eventually(lambda: daemon.processes("mail")[0]["state"] == "Stopping")
        self.finish(daemon, pid)
        eventually(lambda: len(daemon.client.programs()["items"]) == 1, "it is gone")

    def test_is_let_finish_at_a_shutdown(self, daemon: Daemon) -> None:
        pid = self.working(daemon)
        daemon.cli("shutdown")
        eventually(lambda: daemon.client.status()["daemon"]["draining"])
        self.finish(daemon, pid)
        assert daemon.quit() == 0

    def test_is_signalled_when_its_grace_period_has_an_end(self, daemon: Daemon) -> None:
        pid = self.working(daemon, termination_grace_period="500ms")
        daemon.cli("stop", "mail")
        eventually(lambda: not is_alive(pid))
        # What its grace period was for is over: nothing but KILL is left.
        assert daemon.events("mail", "Killing")


class TestTheEndOfAll:
    def test_shutdown_drains_everything_and_ends_with_0(self, daemon: Daemon) -> None:
        daemon.declare("web", *daemon.worker("steady"), replicas=3)
        daemon.declare("mail", *daemon.worker("once"), replicas=3, run_once=True, min_restart_interval="0s")
        daemon.declare("tree", *daemon.worker("parent"), termination_grace_period="1s")
        daemon.start()
        daemon.until_running("web", 3)
        tree_of(daemon)
        daemon.cli("shutdown")
        assert daemon.wait() == 0
        assert len([entry for entry in daemon.ledger("end") if entry.more == "TERM"]) == 4
        assert len(daemon.ledger("start")) == len(daemon.ledger("end"))
        assert list(daemon.everybody()) == []

    def test_term_does_the_same_and_the_next_run_begins_where_it_was(self, daemon: Daemon) -> None:
        daemon.declare("web", *daemon.worker("steady"), replicas=2)
        daemon.start()
        daemon.until_running("web", 2)
        uid = daemon.object("web")["metadata"]["uid"]
        assert daemon.quit(signal.SIGTERM) == 0
        assert len(daemon.ledger("end")) == 2
        daemon.start()
        daemon.until_running("web", 2)
        assert daemon.object("web")["metadata"] | {"uid": uid} == daemon.object("web")["metadata"]
        assert len(daemon.messages("web", "Accepted")) == 1, "nothing new was accepted"

    def test_a_repeated_signal_is_the_same_request_and_a_later_int_kills(self, daemon: Daemon) -> None:
        daemon.declare("web", *daemon.worker("stubborn"), replicas=2, termination_grace_period="1h")
        daemon.start()
        pids = daemon.until_running("web", 2)
        os.kill(daemon.keeper, signal.SIGINT)
        os.kill(daemon.keeper, signal.SIGINT)
        began = time.monotonic()
        eventually(lambda: len(daemon.ledger("ignored")) == 2, "they were asked")
        if time.monotonic() - began < 0.9:
            assert all(map(is_alive, pids.values()))
        while time.monotonic() - began < 1.2:
            time.sleep(0.05)
        assert daemon.quit(signal.SIGINT) == 0
        assert not any(map(is_alive, pids.values()))
        assert len(daemon.ledger("ignored")) == 2

    def test_a_controller_that_dies_while_draining_drains_on(self, daemon: Daemon) -> None:
        daemon.declare("web", *daemon.worker("stubborn"), replicas=2, termination_grace_period="3s")
        daemon.start()
        pids = daemon.until_running("web", 2)
        os.kill(daemon.keeper, signal.SIGTERM)
        eventually(lambda: len(daemon.ledger("ignored")) == 2)
        os.kill(daemon.controller, signal.SIGKILL)
        assert daemon.wait() == 0
        assert not any(map(is_alive, pids.values()))
        assert len(daemon.ledger("start")) == 2, "nothing was started again"
