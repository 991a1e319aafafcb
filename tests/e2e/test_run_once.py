"""Processes that take one piece of work and exit: success is no failure, failure backs off, and everybody says why."""

import itertools
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

from reconciler.client import Client, ClientError, socket_in
from support.daemon import Daemon, Entry, eventually

RUNS = 300


class Watched:
    """All that a watch of Programs tells, collected aside until the daemon is gone."""

    def __init__(self, daemon: Daemon) -> None:
        self.objects: list[dict[str, Any]] = []
        self._client = Client([socket_in(str(daemon.state))])
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        try:
            for message in self._client.watch_programs():
                if message["type"] != "SYNCED":
                    self.objects.append(message["object"])
        except ClientError:
            pass  # the daemon was ended

    def since_available(self) -> list[dict[str, Any]]:
        """The statuses from the first one that was Available on."""
        statuses = [thing["status"] for thing in self.objects]
        return list(itertools.dropwhile(lambda status: available(status) != "True", statuses))


def available(status: dict[str, Any]) -> str:
    return str(next(c["status"] for c in status["conditions"] if c["type"] == "Available"))


def gaps(starts: list[Entry]) -> Iterator[float]:
    """Seconds from each start of a replica to its next one."""
    for _, entries in itertools.groupby(sorted(starts, key=lambda e: (e.replica, e.at)), lambda e: e.replica):
        moments = [entry.at for entry in entries]
        yield from (later - earlier for earlier, later in itertools.pairwise(moments))


class TestSuccess:
    def test_six_that_exit_0_are_started_again_at_once_and_are_available_all_the_time(self, daemon: Daemon) -> None:
        daemon.declare("send-mail", *daemon.worker("once"), replicas=6, run_once=True, min_restart_interval="0s")
        daemon.start()
        watched = Watched(daemon)
        followed = subprocess.Popen(
            daemon.command("get", "-w"), stdout=subprocess.PIPE, text=True, env=daemon.environment()
        )
        eventually(lambda: len(daemon.ledger("start")) >= RUNS and watched.since_available(), f"{RUNS} runs")
        runs_of_each = [row["runs"] for row in daemon.processes("send-mail")]
        followed.terminate()
        table, _ = followed.communicate(timeout=30)

        # Nobody waited for a floor between two starts, and all six had their share.
        assert min(gaps(daemon.ledger("start"))) < 0.1
        assert min(runs_of_each) >= RUNS / 6 / 3
        for status in watched.since_available():
            assert available(status) == "True"
            assert "CrashLoop" not in [condition["type"] for condition in status["conditions"]]
            for row in status["processes"]:
                assert row["state"] in {"Pending", "Starting", "Running"}
                assert (row["ready"], row["restarts"], row.get("failures", 0)) == (True, 0, 0)
        assert len(watched.since_available()) <= 60, "a storm of watch messages"
        assert table.splitlines()[-1].split()[-1] == "Available"
        # A run is a counter, no event: what was told is the beginning.
        assert [event["reason"] for event in daemon.events("send-mail")] == ["Accepted", *["Starting"] * 6]

    def test_every_run_is_counted_and_none_is_a_restart(self, daemon: Daemon) -> None:
        daemon.declare("send-mail", *daemon.worker("once"), replicas=3, run_once=True, min_restart_interval="0s")
        daemon.start()
        eventually(lambda: len(daemon.ledger("end")) >= 50, "50 runs")
        daemon.declare("send-mail", *daemon.worker("once"), replicas=3, run_once=True, suspend=True)
        daemon.until_at_rest("send-mail")
        daemon.declare("send-mail", *daemon.worker("steady"), replicas=3)
        daemon.until_running("send-mail", 3)
        rows = daemon.processes("send-mail")
        runs = sum(row["runs"] for row in rows)
        eventually(lambda: len(daemon.ledger("start")) >= runs, "the last ones have begun to write")
        assert len(daemon.ledger("start")) == runs
        assert [row["restarts"] for row in rows] == [0, 0, 0]
        assert len(daemon.ledger("start")) - 3 == len(daemon.ledger("end"))

    def test_the_floor_between_two_starts_holds(self, daemon: Daemon) -> None:
        daemon.declare("poll", *daemon.worker("once"), replicas=2, run_once=True, min_restart_interval="300ms")
        daemon.start()
        eventually(lambda: len(daemon.ledger("start")) >= 10, "10 runs")
        assert min(gaps(daemon.ledger("start"))) > 0.29 - 0.02  # a hundredth each: the ledger's clock is coarse
        daemon.until_available("poll")

    def test_a_success_code_of_its_own_is_no_failure(self, daemon: Daemon) -> None:
        daemon.declare("sync", *daemon.worker("once", 75), success_exit_codes=[75], min_restart_interval="20ms")
        daemon.start()
        eventually(lambda: len(daemon.ledger("end")) >= 10, "10 runs")
        daemon.until_available("sync")
        assert daemon.processes("sync")[0]["lastExit"]["outcome"] == "Succeeded"
        assert not daemon.condition("sync", "CrashLoop")

    def test_never_and_on_failure_repeat_no_success_but_a_new_revision_runs(self, daemon: Daemon) -> None:
        daemon.declare("migrate", *daemon.worker("once"), restart_policy="OnFailure")
        daemon.declare("seed", *daemon.worker("once", 3), restart_policy="Never")
        daemon.start()
        daemon.declare("other", *daemon.worker("once", 0, 0.3), restart_policy="Never")
        eventually(lambda: [r["state"] for r in daemon.client.processes()] == ["Succeeded", "Succeeded", "Failed"])
        assert [c["reason"] for c in daemon.status("migrate")["conditions"] if c["type"] == "Available"] == [
            "Completed"
        ]
        assert len(daemon.ledger("start")) == 3
        daemon.declare("migrate", *daemon.worker("once"), restart_policy="OnFailure", env={"VERSION": "2"})
        eventually(lambda: [e.more for e in daemon.ledger("start")][3:] == ["2"], "the new revision ran once")
        daemon.cli("stop", "migrate")
        daemon.cli("start", "migrate")
        assert len(daemon.ledger("start")) == 4


class TestFailure:
    def test_the_first_restart_is_at_once_and_then_the_delays_grow(self, daemon: Daemon) -> None:
        backoff = {"initial": "200ms", "factor": 2, "max": "800ms", "jitter": 0}
        daemon.declare("import", *daemon.worker("once", 1), restart_backoff=backoff, min_restart_interval="0s")
        daemon.start()
        starts = eventually(lambda: s if len(s := daemon.ledger("start")) >= 7 else None, "seven starts") or []
        found = list(gaps(starts))[:6]
        expected = [0.0, 0.2, 0.4, 0.8, 0.8, 0.8]
        for gap, delay in zip(found, expected, strict=True):
            assert delay - 0.02 <= gap <= delay + 0.35, found  # never too early; late by what a busy machine takes

    def test_status_get_and_describe_say_what_fails_why_and_when_it_is_tried_again(self, daemon: Daemon) -> None:
        daemon.declare("import", "/bin/sh", "-c", "echo the queue is gone; exit 3", replicas=2)
        daemon.start()
        eventually(lambda: daemon.holds("import", "CrashLoop"), "the back-off is seen")
        eventually(lambda: all("nextStartAt" in row for row in daemon.processes("import")), "both wait")

        status = daemon.cli("status", code=1)
        told = next(line for line in status.out.splitlines() if "program/import CrashLoop" in line)
        assert "2 of 2 replicas fail" in told
        assert "exit code 3" in told
        assert daemon.cli("get").out.splitlines()[1].split()[-1] == "CrashLoop"
        assert "code 3" in daemon.cli("get", "ps", "import").out
        described = daemon.cli("describe", "import").out
        for words in ("CrashLoop", "exit code 3", "next start in", "the queue is gone", "ProcessExited"):
            assert words in described
        row = daemon.processes("import")[0]
        assert (row["state"], row["lastExit"]["code"], row["failures"] >= 2) == ("BackOff", 3, True)

    def test_what_has_just_begun_is_starting_and_not_unavailable(self, daemon: Daemon) -> None:
        daemon.declare("web", *daemon.worker("steady"), min_ready="1h")
        daemon.start()
        daemon.until_running("web", 1)
        assert daemon.cli("get", "web").out.split()[-1] == "Starting"

    def test_a_failing_program_leaves_the_others_alone_and_is_well_after_its_first_success(
        self, daemon: Daemon
    ) -> None:
        cure = daemon.folder / "cure"
        script = f'[ -e "{cure}" ] || exit 1; exec sleep 1000'
        backoff = {"initial": "300ms", "max": "300ms"}
        daemon.declare("sick", "/bin/sh", "-c", script, restart_backoff=backoff)
        daemon.declare("well", *daemon.worker("steady"), replicas=2)
        daemon.start()
        well = daemon.until_running("well", 2)
        eventually(lambda: daemon.holds("sick", "CrashLoop"))
        cure.touch()
        daemon.until_available("sick")
        assert daemon.pids("well") == well
        daemon.until_available("well")

    def test_an_edit_ends_the_back_off(self, daemon: Daemon) -> None:
        daemon.declare("import", *daemon.worker("once", 1), restart_backoff={"initial": "1h", "max": "1h"})
        daemon.start()
        eventually(lambda: len(daemon.ledger("start")) == 2 and daemon.holds("import", "CrashLoop"))
        daemon.declare("import", *daemon.worker("steady"))
        daemon.until_available("import")
        eventually(lambda: not daemon.condition("import", "CrashLoop"))

    def test_reset_ends_the_back_off(self, daemon: Daemon) -> None:
        daemon.declare("import", *daemon.worker("once", 1), restart_backoff={"initial": "1h", "max": "1h"})
        daemon.start()
        eventually(lambda: len(daemon.ledger("start")) == 2 and daemon.holds("import", "CrashLoop"))
        daemon.cli("reset", "import")
        eventually(lambda: len(daemon.ledger("start")) == 4, "started anew, and once more at once")
