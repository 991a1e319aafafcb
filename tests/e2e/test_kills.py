"""`kill -9` of controller, pump and keeper: no process notices; no byte, no exit code and no back-off is lost."""

import os
import random
import signal
import time

import pytest

from support.daemon import Daemon, always, cpu_seconds, eventually, is_alive

SMALL_SEGMENTS = {"maxSize": "64Ki", "maxFiles": 200, "compress": "none"}


def assert_all_was_logged_once(daemon: Daemon, name: str, count: int) -> None:
    """Let them finish: every byte that these processes printed stands in the segments, in order."""
    (daemon.folder / "enough").touch()
    ends = eventually(lambda: e if len(e := daemon.ledger("end")) == count else None, "all have printed") or []
    for entry in ends:
        expected = b"".join(b"%d %d %s\n" % (entry.pid, n, b"." * 60) for n in range(1, int(entry.more) + 1))
        daemon.until_logged(name, entry.replica, len(expected))
        assert daemon.log(name, entry.replica) == expected
        assert len(list((daemon.state / "logs" / name).glob(f"{entry.replica}.log*"))) > 3, "nothing was rotated"
    assert len(daemon.ledger("start")) == count


class TestController:
    def test_its_death_is_not_noticed_by_processes_nor_by_who_asks(self, daemon: Daemon) -> None:
        daemon.declare("web", *daemon.worker("steady"), replicas=5)
        daemon.start()
        pids, first = daemon.until_running("web", 5), daemon.controller
        before = daemon.object("web")
        os.kill(first, signal.SIGKILL)
        asked = daemon.cli("get")  # the keeper holds the socket: the question waits for the next controller
        assert "web" in asked.out
        daemon.await_ready()
        second = daemon.controller
        assert second != first
        assert cpu_seconds(second) < 1.0, "back within a second, if nobody else were on this machine"
        assert daemon.until_running("web", 5) == pids
        assert len(daemon.ledger()) == 5
        after = daemon.object("web")
        assert after["metadata"] == before["metadata"]
        assert [row["runs"] for row in after["status"]["processes"]] == [1] * 5
        assert daemon.client.status()["daemon"]["controllerDeaths"] == 1
        daemon.declare("web", *daemon.worker("steady"), replicas=6)
        assert pids.items() <= daemon.until_running("web", 6).items()

    def test_what_happened_before_is_still_told(self, daemon: Daemon) -> None:
        daemon.declare("web", *daemon.worker("steady"))
        daemon.start()
        daemon.until_running("web", 1)
        eventually(lambda: "start 0 (NewReplica)" in daemon.cli("events", "web").out)
        first = daemon.controller
        os.kill(first, signal.SIGKILL)
        eventually(lambda: daemon.controller != first)
        assert "start 0 (NewReplica)" in daemon.cli("events", "web").out

    @pytest.mark.parametrize(("how", "code", "killed_by"), [("7", 7, None), ("KILL", None, "KILL"), ("0", 0, None)])
    def test_how_a_process_ended_meanwhile_is_known_exactly(
        self, daemon: Daemon, how: str, code: int | None, killed_by: str | None
    ) -> None:
        go = daemon.folder / "go"
        daemon.declare("work", *daemon.worker("piece", go, how), replicas=3, restart_policy="Never")
        daemon.start()
        pids = daemon.until_running("work", 3)
        os.kill(daemon.keeper, signal.SIGSTOP)  # so that nobody takes over before they have ended
        try:
            daemon_pid = _controller_of(daemon)
            os.kill(daemon_pid, signal.SIGKILL)
            go.touch()
            eventually(lambda: not any(map(is_alive, pids.values())), "all three have ended")
        finally:
            os.kill(daemon.keeper, signal.SIGCONT)
        eventually(lambda: all("lastExit" in row for row in daemon.processes("work")), "their ends are known")
        for row in daemon.processes("work"):
            assert (row["lastExit"]["code"], row["lastExit"]["signal"]) == (code, killed_by)
            assert row["state"] == ("Succeeded" if code == 0 else "Failed")
            assert row["runs"] == 1
        assert len(daemon.ledger("start")) == 3

    def test_a_back_off_goes_on_where_it_was(self, daemon: Daemon) -> None:
        daemon.declare("sick", *daemon.worker("once", 1), restart_backoff={"initial": "1h", "max": "1h", "jitter": 0})
        daemon.start()
        eventually(lambda: "nextStartAt" in daemon.processes("sick")[0] if daemon.processes("sick") else False)
        before = daemon.processes("sick")[0]
        daemon.kill_controller()
        after = eventually(lambda: daemon.processes("sick"))[0]
        assert (after["failures"], after["state"]) == (2, "BackOff")
        assert after["nextStartAt"][:18] == before["nextStartAt"][:18]
        always(lambda: len(daemon.ledger("start")) == 2, 0.3)

    def test_run_once_work_is_neither_doubled_nor_lost(self, daemon: Daemon) -> None:
        daemon.declare("mail", *daemon.worker("once"), replicas=4, run_once=True, min_restart_interval="0s")
        daemon.start()
        for _ in range(2):
            daemon.until_written(40)
            time.sleep(random.uniform(0, 0.05))
            daemon.kill_controller()
        daemon.until_written(40)
        daemon.cli("stop", "mail")
        daemon.until_at_rest("mail")
        for replica in range(4):
            words = [(entry.what, entry.pid) for entry in daemon.ledger() if entry.replica == replica]
            starts, ends = words[::2], words[1::2]
            assert [pid for _, pid in starts] == [pid for _, pid in ends], f"two at once at ordinal {replica}"
            assert ({what for what, _ in starts}, {what for what, _ in ends}) == ({"start"}, {"end"})
        daemon.declare("mail", *daemon.worker("steady"), replicas=4)
        daemon.cli("start", "mail")
        daemon.until_running("mail", 4)
        # Of a start that a death interrupted nobody can say whether it was one.
        assert abs(sum(row["runs"] for row in daemon.processes("mail")) - len(daemon.ledger("start"))) <= 2

    def test_a_rollout_goes_on_and_keeps_its_bounds(self, daemon: Daemon) -> None:
        spec = {"replicas": 6, "strategy": {"maxUnavailable": 2}, "min_ready": "100ms"}
        daemon.declare("web", *daemon.worker("steady"), env={"VERSION": "1"}, **spec)
        daemon.start()
        daemon.until_available("web")
        daemon.declare("web", *daemon.worker("steady"), env={"VERSION": "2"}, **spec)
        kills = 0
        while len(daemon.ledger("start")) < 12:
            alive = sum(is_alive(entry.pid) for entry in daemon.ledger("start"))
            assert 4 <= alive <= 6
            if len(daemon.ledger("start")) >= 7 + 2 * kills and kills < 2:
                daemon.kill_controller()
                kills += 1
        daemon.until_available("web")
        assert len(daemon.ledger("start")) == 12
        assert [e.more for e in daemon.ledger("start") if is_alive(e.pid)] == ["2"] * 6

    def test_after_three_deaths_it_keeps_what_runs_and_reads_no_manifests(self, daemon: Daemon) -> None:
        daemon.declare("web", *daemon.worker("steady"), replicas=2)
        daemon.start()
        pids = daemon.until_running("web", 2)
        for _ in range(3):
            daemon.kill_controller()
        assert daemon.cli("status", "--daemon", code=1).out.count("safeMode") == 1
        assert daemon.holds("web", "SafeMode")
        assert daemon.until_running("web", 2) == pids
        daemon.declare("web", *daemon.worker("steady"), replicas=3)
        always(lambda: daemon.pids("web") == pids, 0.5)

    def test_usr1_replaces_it_and_keeps_the_processes(self, daemon: Daemon) -> None:
        daemon.declare("web", *daemon.worker("steady"), replicas=2)
        daemon.start()
        pids, first = daemon.until_running("web", 2), daemon.controller
        os.kill(daemon.keeper, signal.SIGUSR1)
        eventually(lambda: not is_alive(first), "the old one has left")
        assert daemon.until_running("web", 2) == pids
        assert daemon.controller != first
        assert daemon.client.status()["daemon"]["controllerDeaths"] == 0


class TestLogs:
    def talk(self, daemon: Daemon, replicas: int) -> None:
        command = daemon.worker("count", daemon.folder / "enough")
        daemon.declare("talk", *command, replicas=replicas, restart_policy="Never", logs=SMALL_SEGMENTS)
        daemon.start()
        daemon.until_printed("talk", 100_000, range(replicas))

    def test_no_byte_is_lost_or_doubled_when_controller_and_pump_are_killed(self, daemon: Daemon) -> None:
        self.talk(daemon, 3)
        for kill in (daemon.kill_pump, daemon.kill_controller, daemon.kill_pump):
            kill()
            daemon.until_printed("talk", 100_000, range(3))
        assert_all_was_logged_once(daemon, "talk", 3)
        eventually(lambda: [row["state"] for row in daemon.processes("talk")] == ["Succeeded"] * 3)

    def test_no_byte_is_lost_or_doubled_when_the_keeper_is_killed(self, daemon: Daemon) -> None:
        self.talk(daemon, 2)
        daemon.kill_keeper()
        daemon.start()
        daemon.until_printed("talk", 100_000, range(2))
        assert_all_was_logged_once(daemon, "talk", 2)

    def test_what_the_command_line_tells_is_what_was_printed(self, daemon: Daemon) -> None:
        self.talk(daemon, 1)
        daemon.kill_pump()
        daemon.until_printed("talk", 50_000)
        assert_all_was_logged_once(daemon, "talk", 1)
        assert daemon.cli("logs", "talk", "--tail", "1000000").out.encode() == daemon.log("talk")


class TestKeeper:
    def test_processes_outlive_it_and_the_next_run_takes_them_over(self, daemon: Daemon) -> None:
        daemon.declare("web", *daemon.worker("steady"), replicas=3)
        daemon.start()
        pids = daemon.until_running("web", 3)
        daemon.kill_keeper()
        assert all(map(is_alive, pids.values()))
        assert daemon.cli("get", code=5).out == ""
        daemon.start()
        assert daemon.until_running("web", 3) == pids
        assert len(daemon.ledger()) == 3
        daemon.declare("web", *daemon.worker("steady"), replicas=2)
        assert daemon.until_running("web", 2) == {0: pids[0], 1: pids[1]}
        before = len(daemon.ledger("start"))
        os.kill(pids[0], signal.SIGKILL)
        eventually(lambda: len(daemon.ledger("start")) > before, "who is not our own process is missed, too")
        (row,) = (row for row in daemon.processes("web") if row["replica"] == 0)
        assert row["lastExit"]["signal"] in {"KILL", None}, "as the kernel tells, or unknown where it forgets at once"
        assert daemon.until_running("web", 2)[1] == pids[1]

    def test_an_end_that_nobody_saw_is_unknown_unless_the_kernel_knows_and_nothing_is_repeated(
        self, daemon: Daemon
    ) -> None:
        daemon.declare("web", *daemon.worker("steady"))
        daemon.declare("work", *daemon.worker("piece", daemon.folder / "go"), restart_policy="Never")
        daemon.start()
        web, work = daemon.until_running("web", 1), daemon.until_running("work", 1)
        daemon.kill_keeper()
        for pid in (web[0], work[0]):
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: not any(map(is_alive, (web[0], work[0]))))
        daemon.start()
        eventually(lambda: daemon.until_running("web", 1) != web, "its place is taken")
        # Where nobody reaped them (a container without an init), the zombie still tells.
        known = {("Unknown", None, 0), ("Failed", "KILL", 1)}
        row = daemon.processes("web")[0]
        assert (row["lastExit"]["outcome"], row["lastExit"]["signal"], row.get("failures", 0)) in known
        eventually(lambda: daemon.processes("work")[0]["state"] in {"Unknown", "Failed"}, "it may have done its work")
        assert [entry.pid for entry in daemon.ledger("start")].count(work[0]) == 1
        eventually(lambda: len(daemon.ledger("start")) == 3, "three starts in all")

    def test_a_second_run_on_the_same_state_is_refused(self, daemon: Daemon) -> None:
        daemon.start()
        refused = daemon.cli("run", "-f", daemon.manifests, code=6)
        assert f"already runs on {daemon.state} (pid {daemon.keeper})" in refused.err
        assert daemon.client.is_ready()

    def test_everything_may_be_killed_at_once(self, daemon: Daemon) -> None:
        daemon.declare("web", *daemon.worker("steady"), replicas=2)
        daemon.start()
        old = daemon.until_running("web", 2)
        for pid in (daemon.controller, daemon.pump, daemon.keeper, *old.values()):
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: not any(map(is_alive, (daemon.keeper, *old.values()))))
        daemon.start()
        eventually(
            lambda: not set(daemon.until_running("web", 2).values()) & set(old.values()), "their places are taken"
        )
        daemon.until_available("web")
        assert not daemon.condition("web", "CrashLoop")


def _controller_of(daemon: Daemon) -> int:
    """The controller's pid, from /proc: the API is not asked while the keeper stands still."""
    return next(proc.pid for proc in daemon.everybody() if "reconciler.app" in proc.command)
