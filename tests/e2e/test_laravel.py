"""Real Laravel processes under real Programs: each piece of work done once, none cut short, and no false alarm."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.daemon import Daemon, always, eventually, is_alive, process
from support.laravel import CONNECTIONS, PACKAGES, SERVERS, Application, application

PIECES = 1000
STARTS = 60  # each costs a tenth of a second of CPU
ALL_DONE_SECONDS = 100.0

pytestmark = [pytest.mark.debian(*PACKAGES, *SERVERS), pytest.mark.timeout(150)]


@pytest.fixture(params=CONNECTIONS)
def shop(request: pytest.FixtureRequest, daemon: Daemon) -> Iterator[Application]:
    """The application, on each of the queue connections."""
    with application(daemon.folder, request.param, ledger=daemon.ledger_path, ended=daemon.end) as app:
        yield app


@pytest.fixture
def small_shop(daemon: Daemon) -> Iterator[Application]:
    """The application on SQLite."""
    with application(daemon.folder, "database", ledger=daemon.ledger_path, ended=daemon.end) as app:
        yield app


def work(shop: Application, daemon: Daemon, *options: str, **spec: Any) -> Path:
    """The daemon as the documentation tells to run it: 3 s of work at the longest."""
    spec = {"success_exit_codes": [0, 12], "termination_grace_period": "20s", **spec}
    return shop.declare(daemon, "mails", "queue:work", "--sleep=0.2", "--tries=3", "--timeout=15", *options, **spec)


def work_once(shop: Application, daemon: Daemon, *options: str, **spec: Any) -> Path:
    return shop.declare(daemon, "mails", "queue:work", "--once", "--tries=3", *options, run_once=True, **spec)


def is_calm(daemon: Daemon) -> bool:
    """No failure was seen, and nobody was killed."""
    rows = daemon.processes("mails")
    return (
        not daemon.condition("mails", "CrashLoop")
        and all(row.get("failures", 0) == 0 for row in rows)
        and daemon.events("mails", "Killing") == []
    )


class TestEachPieceOnce:
    def test_by_daemons(self, daemon: Daemon, shop: Application) -> None:
        shop.dispatch("Quick", PIECES)
        work(shop, daemon, replicas=4)
        daemon.start()
        shop.until("done", PIECES, within=ALL_DONE_SECONDS)
        shop.assert_each_once(PIECES)
        assert len({entry.pid for entry in shop.entries("done")}) == 4, "all four had their share"
        assert is_calm(daemon)

    def test_by_processes_that_take_one_and_exit(self, daemon: Daemon, shop: Application) -> None:
        shop.dispatch("Quick", STARTS)
        work_once(shop, daemon, "--sleep=1", replicas=4, min_restart_interval="0s")
        daemon.start()
        shop.until("done", STARTS, within=ALL_DONE_SECONDS)
        shop.assert_each_once(STARTS)
        assert len({entry.pid for entry in shop.entries("done")}) == STARTS
        assert is_calm(daemon)

    def test_while_controller_and_pump_are_killed(self, daemon: Daemon, shop: Application) -> None:
        work(shop, daemon, replicas=3)
        daemon.start()
        daemon.until_running("mails", 3)
        for before, kill in ((0, daemon.kill_controller), (100, daemon.kill_pump), (200, daemon.kill_controller)):
            shop.dispatch("Quick", 100, first=before)
            kill()
            shop.until("done", before + 100, within=ALL_DONE_SECONDS)
        shop.assert_each_once(300)
        assert len(shop.entries("boot")) == 3, "nobody was started anew"


class TestNoPieceIsCutShort:
    """Each with one piece of 3 s that has begun, and more that wait."""

    def begun(self, daemon: Daemon, shop: Application) -> None:
        shop.dispatch("Long", 3)
        work(shop, daemon, env={"VERSION": "1"})
        daemon.start()
        shop.until("begin", 1, within=30)

    def finished(self, daemon: Daemon, shop: Application, *, begun: int = 1) -> None:
        """What was begun was done, once, and nothing else was begun by who was told to end."""
        eventually(lambda: len(shop.entries("done")) >= begun, "the piece is done")
        assert shop.numbers("begin") == shop.numbers("done")
        assert max(shop.numbers("begin").values()) == 1

    def test_by_scaling_down(self, daemon: Daemon, shop: Application) -> None:
        self.begun(daemon, shop)
        work(shop, daemon, env={"VERSION": "1"}, replicas=0)
        daemon.until_at_rest("mails")
        self.finished(daemon, shop)
        assert is_calm(daemon)
        assert shop.size() == 2

    def test_by_a_rollout(self, daemon: Daemon, small_shop: Application) -> None:
        self.begun(daemon, small_shop)
        first = daemon.pids("mails")[0]
        work(small_shop, daemon, env={"VERSION": "2"})
        eventually(lambda: not is_alive(first), "the old process has ended")
        self.finished(daemon, small_shop)
        small_shop.until("done", 3, within=30)
        small_shop.assert_each_once(3)
        assert [entry.pid == first for entry in small_shop.entries("done")] == [True, False, False]
        assert is_calm(daemon)

    def test_by_deleting_the_manifest(self, daemon: Daemon, small_shop: Application) -> None:
        daemon.declare("other", *daemon.worker("steady"))
        self.begun(daemon, small_shop)
        (daemon.manifests / "mails.yaml").unlink()
        eventually(lambda: len(daemon.client.programs()["items"]) == 1, "it is gone")
        self.finished(daemon, small_shop)

    def test_by_a_shutdown(self, daemon: Daemon, small_shop: Application) -> None:
        self.begun(daemon, small_shop)
        assert daemon.quit() == 0
        self.finished(daemon, small_shop)

    def test_of_run_once_by_any_of_these(self, daemon: Daemon, small_shop: Application) -> None:
        """`queue:work --once` dies of any signal: it gets none."""
        small_shop.dispatch("Long", 3)
        work_once(small_shop, daemon, env={"VERSION": "1"}, replicas=2)
        daemon.start()
        small_shop.until("begin", 2, within=30)
        work_once(small_shop, daemon, env={"VERSION": "2"}, replicas=1)
        small_shop.until("begin", 3, within=30)
        assert daemon.quit() == 0
        small_shop.assert_each_once(3)

    def test_of_a_listener_whose_process_outlives_it(self, daemon: Daemon, small_shop: Application) -> None:
        """`queue:listen` dies of TERM at once; what it had started goes on, and is waited for."""
        small_shop.dispatch("Long", 2)
        spec: dict[str, Any] = {"termination_grace_period": "20s"}
        small_shop.declare(daemon, "mails", "queue:listen", "--sleep=1", "--timeout=15", env={"VERSION": "1"}, **spec)
        daemon.start()
        small_shop.until("begin", 1, within=30)
        listener = daemon.pids("mails")[0]
        worker = small_shop.entries("begin")[0].pid
        small_shop.declare(daemon, "mails", "queue:listen", "--sleep=1", "--timeout=15", env={"VERSION": "2"}, **spec)
        eventually(lambda: not is_alive(listener))
        assert is_alive(worker)
        small_shop.until("done", 2, within=30)
        small_shop.assert_each_once(2)
        # The successor began when all of the old one was gone.
        first_done, second_begun = small_shop.entries("done")[0].at, small_shop.entries("begin")[1].at
        assert first_done <= second_begun
        assert daemon.events("mails", "Killing") == []


class TestNoFalseAlarm:
    def test_queue_restart_is_followed_at_once(self, daemon: Daemon, small_shop: Application) -> None:
        work(small_shop, daemon, replicas=3)
        daemon.start()
        before = daemon.until_running("mails", 3)
        small_shop.until("loop", 3, within=30)
        small_shop.artisan("queue:restart")
        eventually(
            lambda: not set(before.values()) & set(daemon.pids("mails").values()) and len(daemon.pids("mails")) == 3
        )
        daemon.until_available("mails")
        small_shop.dispatch("Quick", 30)
        small_shop.until("done", 30, within=30)
        small_shop.assert_each_once(30)
        assert is_calm(daemon)
        assert [row["lastExit"]["outcome"] for row in daemon.processes("mails")] == ["Succeeded"] * 3

    def test_a_process_that_leaks_is_recycled(self, daemon: Daemon, small_shop: Application) -> None:
        """At its memory limit Laravel exits with 12, between two pieces of work."""
        small_shop.dispatch("Leaking", 30)
        work(small_shop, daemon, "--memory=32")
        daemon.start()
        small_shop.until("done", 30, within=60)
        small_shop.assert_each_once(30)
        assert len(small_shop.entries("boot")) > 3
        assert is_calm(daemon)
        last = daemon.processes("mails")[0]["lastExit"]
        assert (last["code"], last["outcome"]) == (12, "Succeeded")

    def test_exit_12_is_a_failure_where_nobody_says_otherwise(self, daemon: Daemon, small_shop: Application) -> None:
        small_shop.dispatch("Leaking", 30)
        backoff = {"initial": "1h", "max": "1h"}
        work(small_shop, daemon, "--memory=32", success_exit_codes=[0], restart_backoff=backoff)
        daemon.start()
        eventually(lambda: daemon.holds("mails", "CrashLoop"))
        assert "exit code 12" in daemon.cli("describe", "mails").out
        assert len(small_shop.entries("boot")) == 2

    def test_work_that_throws_is_no_failure_of_the_process(self, daemon: Daemon, small_shop: Application) -> None:
        small_shop.dispatch("Failing", 3)
        work(small_shop, daemon)
        daemon.start()
        small_shop.until("begin", 9, within=30)  # --tries=3
        eventually(lambda: small_shop.size() == 0)
        assert is_calm(daemon)
        assert len(small_shop.entries("boot")) == 1

    def test_a_time_out_of_its_own_is_a_death_by_signal_and_is_followed_at_once(
        self, daemon: Daemon, small_shop: Application
    ) -> None:
        """A piece beyond `--timeout`: Laravel kills its own process. The next one is there at once, and goes on."""
        small_shop.dispatch("Long", 1)
        small_shop.dispatch("Quick", 1, first=1)
        work(small_shop, daemon, "--timeout=1", "--tries=1")
        daemon.start()
        small_shop.until("done", 1, within=30)
        assert small_shop.numbers("done") == {1: 1}
        assert len(small_shop.entries("boot")) == 2
        assert not daemon.condition("mails", "CrashLoop")
        eventually(lambda: daemon.processes("mails")[0]["lastExit"]["signal"] is not None)


class TestIdle:
    SECONDS = 4.0

    def test_an_empty_queue_is_asked_no_more_often_than_sleep_says(self, daemon: Daemon, shop: Application) -> None:
        work_once(shop, daemon, "--sleep=1", replicas=2)
        daemon.start()
        daemon.until_running("mails", 2)
        before = len(shop.entries("boot"))
        always(lambda: is_calm(daemon), self.SECONDS)
        assert 1 <= len(shop.entries("boot")) - before <= 2 * (self.SECONDS + 1)
        assert daemon.holds("mails", "Available")

    def test_without_a_sleep_the_floor_between_two_starts_holds(self, daemon: Daemon, small_shop: Application) -> None:
        work_once(small_shop, daemon, "--sleep=0", min_restart_interval="1s")
        daemon.start()
        small_shop.until("boot", 1, within=30)
        before = len(small_shop.entries("boot"))
        always(lambda: is_calm(daemon), self.SECONDS)
        assert len(small_shop.entries("boot")) - before <= self.SECONDS + 1

    @pytest.mark.parametrize("way", ["daemon", "once"])
    def test_in_maintenance_nothing_runs_hot_and_nothing_is_taken(
        self, daemon: Daemon, small_shop: Application, way: str
    ) -> None:
        small_shop.artisan("down")
        small_shop.dispatch("Quick", 5)
        if way == "daemon":
            work(small_shop, daemon, replicas=2)
        else:
            work_once(small_shop, daemon, "--sleep=1", replicas=2)
        daemon.start()
        small_shop.until("boot", 2, within=30)
        before = len(small_shop.entries("boot"))
        always(lambda: is_calm(daemon) and not small_shop.entries("begin"), self.SECONDS)
        most = 0 if way == "daemon" else 2 * (self.SECONDS + 1)
        assert len(small_shop.entries("boot")) - before <= most
        small_shop.artisan("up")
        small_shop.until("done", 5, within=30)
        small_shop.assert_each_once(5)

    def test_an_idle_daemon_costs_nearly_nothing(self, daemon: Daemon, small_shop: Application) -> None:
        work(small_shop, daemon)
        daemon.start()
        pid = daemon.until_running("mails", 1)[0]
        small_shop.until("boot", 1, within=30)
        always(lambda: is_alive(pid), 1.0)
        assert process(pid) is not None
        os.kill(pid, signal.SIGTERM)
        eventually(lambda: not is_alive(pid))
        small_shop.until("boot", 2, within=30)
        assert is_calm(daemon), "TERM from elsewhere: it left with 0, and is back"
