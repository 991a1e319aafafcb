"""Bound Laravel processes: as many as the work asks for, none for nothing, no piece cut short, whoever is killed."""

import statistics
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from reconciler.client import ClientError
from support.daemon import Daemon, always, eventually
from support.laravel import CONNECTIONS, PACKAGES, SERVERS, Application, application

PIECES = 1000
MOST = 8
STARTS = 60  # each costs a tenth of a second of CPU
ALL_DONE_SECONDS = 120.0
QUICK = {
    "cooldownPeriod": "500ms",
    "behavior": {
        "scaleDown": {"stabilizationWindow": "500ms", "policies": [{"type": "Percent", "value": 100, "period": 1}]}
    },
}

pytestmark = [pytest.mark.debian(*PACKAGES, *SERVERS), pytest.mark.timeout(240)]


@pytest.fixture(params=CONNECTIONS)
def shop(request: pytest.FixtureRequest, daemon: Daemon) -> Iterator[Application]:
    """The application, on each of the queue connections. A piece of kind Long takes no time to speak of."""
    settings = {"LONG_SECONDS": 0.02, "QUEUE_RETRY_AFTER": 8}
    with application(daemon.folder, request.param, ledger=daemon.ledger_path, ended=daemon.end, **settings) as app:
        yield app


def bind(daemon: Daemon, *, trigger: dict[str, Any] | None = None, **spec: Any) -> None:
    """A binding of the Program `mails` to its application's queue."""
    one = {"type": "laravel", **(trigger or {})}
    whole = {"scaleTargetRef": {"name": "mails"}, "maxReplicaCount": MOST, "triggers": [one], **QUICK, **spec}
    document = {"apiVersion": "reconciler/v1", "kind": "QueueBinding", "metadata": {"name": "mails"}, "spec": whole}
    daemon.write("binding.yaml", yaml.safe_dump(document))


def work(shop: Application, daemon: Daemon, *options: str, **spec: Any) -> None:
    spec = {"replicas": 0, "success_exit_codes": [0, 12], "termination_grace_period": "20s", "min_ready": 0, **spec}
    shop.declare(daemon, "mails", "queue:work", "--sleep=0.2", "--tries=5", "--timeout=15", *options, **spec)


def work_once(shop: Application, daemon: Daemon, *options: str, **spec: Any) -> None:
    shop.declare(
        daemon, "mails", "queue:work", "--once", "--sleep=1", "--tries=5", *options, run_once=True, replicas=0, **spec
    )


def running(daemon: Daemon) -> int:
    return int(daemon.status("mails").get("runningReplicas") or 0)


def condition(daemon: Daemon, kind: str) -> tuple[str, str]:
    """Status and reason of a condition of the binding."""
    try:
        rows = daemon.client.queuebinding("mails")["status"]["conditions"]
    except ClientError:  # not accepted yet
        rows = []
    return next(((row["status"], row["reason"]) for row in rows if row["type"] == kind), ("absent", ""))


def until_read(daemon: Daemon) -> None:
    eventually(lambda: condition(daemon, "Ready")[0] == "True", "the queue was read")


def is_calm(daemon: Daemon) -> bool:
    return not daemon.condition("mails", "CrashLoop") and daemon.events("mails", "Killing") == []


class TestFromNoneToEightAndBack:
    def test_each_piece_once_while_the_controller_is_killed(self, daemon: Daemon, shop: Application) -> None:
        work(shop, daemon)
        bind(daemon)
        daemon.start()
        until_read(daemon)
        eventually(lambda: running(daemon) == 0, "with nothing to do nobody runs")
        assert shop.entries("boot") == []
        shop.dispatch("Long", PIECES)
        eventually(lambda: running(daemon) == MOST, "as many run as may", within=60)
        daemon.kill_controller()
        shop.until("done", PIECES // 2, within=ALL_DONE_SECONDS)
        daemon.kill_controller()
        shop.until("done", PIECES, within=ALL_DONE_SECONDS)
        eventually(lambda: running(daemon) == 0, "and nobody is left", within=60)
        shop.assert_each_once(PIECES)
        assert is_calm(daemon)
        assert len({entry.pid for entry in shop.entries("boot")}) <= 2 * MOST

    @pytest.mark.parametrize("shop", ["redis", "beanstalkd"], indirect=True)
    def test_no_piece_is_lost_when_the_server_is_killed(self, daemon: Daemon, shop: Application) -> None:
        """What was in work at that moment comes back: Laravel promises at least once, and we start who takes it."""
        assert shop.server is not None
        work(shop, daemon)
        bind(daemon)
        daemon.start()
        until_read(daemon)
        shop.dispatch("Long", PIECES)
        shop.until("done", PIECES // 10, within=ALL_DONE_SECONDS)
        shop.server.kill()
        eventually(lambda: condition(daemon, "Ready")[0] == "False", "it is told that the queue cannot be read")
        shop.server.start()
        until_read(daemon)
        eventually(lambda: len(shop.numbers("done")) == PIECES, "all is done", within=ALL_DONE_SECONDS)
        eventually(lambda: running(daemon) == 0, "and nobody is left", within=60)
        assert shop.size() == 0
        again = [number for number, times in shop.numbers("done").items() if times > 1]
        assert len(again) <= MOST, "no more than were in work"
        assert not daemon.condition("mails", "CrashLoop")


class TestScaleDown:
    @pytest.mark.parametrize("shop", ["redis"], indirect=True)
    def test_never_cuts_a_piece_of_three_seconds(self, daemon: Daemon, shop: Application) -> None:
        """With includeReserved: false all are told to end while all are in work."""
        shop.add_env(LONG_SECONDS=3, QUEUE_RETRY_AFTER=90)
        work(shop, daemon)
        bind(daemon, trigger={"includeReserved": False})
        daemon.start()
        until_read(daemon)
        shop.dispatch("Long", 6)
        shop.until("begin", 6, within=30)
        eventually(lambda: any(row["state"] == "Stopping" for row in daemon.processes("mails")), "they are told to end")
        assert len(shop.entries("done")) < 6, "in the middle of it"
        shop.until("done", 6, within=30)
        eventually(lambda: running(daemon) == 0)
        shop.assert_each_once(6)
        assert is_calm(daemon)

    @pytest.mark.parametrize("shop", ["redis"], indirect=True)
    def test_takes_the_idle_and_leaves_the_one_that_works(self, daemon: Daemon, shop: Application) -> None:
        shop.add_env(LONG_SECONDS=8, QUEUE_RETRY_AFTER=90)
        work(shop, daemon)
        bind(daemon, minReplicaCount=4, idleReplicaCount=3)
        daemon.start()
        until_read(daemon)
        shop.dispatch("Long", 1)
        shop.until("begin", 1, within=30)
        daemon.until_running("mails", 4)
        (begun,) = shop.entries("begin")
        bind(daemon, minReplicaCount=1)
        assert list(daemon.until_running("mails", 1).values()) == [begun.pid]
        assert shop.entries("done") == [], "in the middle of it"
        shop.until("done", 1, within=30)
        shop.assert_each_once(1)


class TestRunOnce:
    def test_a_process_for_each_piece_and_none_for_nothing(self, daemon: Daemon, shop: Application) -> None:
        work_once(shop, daemon, min_restart_interval=0)
        bind(daemon)
        daemon.start()
        until_read(daemon)
        shop.dispatch("Quick", STARTS)
        shop.until("done", STARTS, within=ALL_DONE_SECONDS)
        eventually(lambda: running(daemon) == 0)
        shop.assert_each_once(STARTS)
        boots = len(shop.entries("boot"))
        assert STARTS <= boots <= STARTS * 1.25, f"{boots} starts of PHP for {STARTS} pieces"
        always(lambda: len(shop.entries("boot")) == boots, 3.0, "an empty queue costs no start of PHP")
        assert is_calm(daemon)

    @pytest.mark.parametrize("shop", ["database"], indirect=True)
    def test_a_piece_of_three_seconds_is_never_cut(self, daemon: Daemon, shop: Application) -> None:
        shop.add_env(LONG_SECONDS=3, QUEUE_RETRY_AFTER=90)
        work_once(shop, daemon)
        bind(daemon)
        daemon.start()
        until_read(daemon)
        shop.dispatch("Long", 3)
        shop.until("begin", 3, within=30)
        daemon.cli("queue", "pause", "mails")
        daemon.cli("scale", "mails", "0", "--for", "1m", code=None)
        shop.until("done", 3, within=30)
        shop.assert_each_once(3)


class TestPaused:
    """Work waits, processes run, nothing gets done: more of them would not help."""

    @pytest.mark.parametrize("shop", ["redis"], indirect=True)
    def test_in_maintenance_daemons_are_held_at_few(self, daemon: Daemon, shop: Application) -> None:
        shop.artisan("down")
        shop.dispatch("Quick", 50)
        work(shop, daemon)
        bind(daemon, stallTimeout="2s")
        daemon.start()
        eventually(lambda: condition(daemon, "Stalled")[0] == "True", "it is told that nothing gets done")
        eventually(lambda: running(daemon) <= 1, "no more than one stays")
        boots = len(shop.entries("boot"))
        assert boots <= MOST
        always(lambda: len(shop.entries("boot")) <= boots + 1, 3.0, "nothing runs hot")
        shop.artisan("up")
        shop.until("done", 50, within=ALL_DONE_SECONDS)
        eventually(lambda: running(daemon) == 0)
        shop.assert_each_once(50)

    @pytest.mark.parametrize("cache", ["file", "redis"])
    @pytest.mark.parametrize("shop", ["redis"], indirect=True)
    def test_while_the_queue_is_paused_few_stay_and_they_go_on_when_it_is_resumed(
        self, daemon: Daemon, shop: Application, cache: str
    ) -> None:
        """As queue:pause has it: daemons live on and take nothing, whatever keeps the application's cache."""
        shop.add_env(CACHE_DRIVER=cache)
        shop.artisan("app:pause", "default")
        shop.dispatch("Quick", 50)
        work(shop, daemon)
        bind(daemon, stallTimeout="2s")
        daemon.start()
        eventually(lambda: condition(daemon, "Stalled")[0] == "True", "it is told that nothing gets done")
        eventually(lambda: running(daemon) == 1, "one stays")
        always(lambda: not shop.entries("begin"), 2.0)
        shop.artisan("app:pause", "default", "--resume")
        shop.until("done", 50, within=ALL_DONE_SECONDS)
        eventually(lambda: running(daemon) == 0)
        shop.assert_each_once(50)

    @pytest.mark.parametrize("shop", ["redis"], indirect=True)
    def test_in_maintenance_run_once_does_not_run_hot(self, daemon: Daemon, shop: Application) -> None:
        shop.artisan("down")
        shop.dispatch("Quick", 50)
        work_once(shop, daemon)
        bind(daemon, stallTimeout="2s")
        daemon.start()
        eventually(lambda: condition(daemon, "Stalled")[0] == "True", "it is told that nothing gets done")
        eventually(lambda: running(daemon) <= 1, "no more than one stays")
        boots = len(shop.entries("boot"))
        before = time.monotonic()
        always(lambda: not shop.entries("begin"), 4.0)
        assert len(shop.entries("boot")) - boots <= time.monotonic() - before + 2, "one a second, which is its --sleep"
        shop.artisan("up")
        shop.until("done", 50, within=ALL_DONE_SECONDS)
        shop.assert_each_once(50)


class TestReaction:
    ROUNDS = 12

    def test_from_dispatch_to_a_process(self, daemon: Daemon, shop: Application) -> None:
        """The figures are for the documentation; the bound is one that a busy machine keeps."""
        work_once(shop, daemon, min_restart_interval=0)
        bind(daemon)
        daemon.start()
        until_read(daemon)
        reactions = []
        for number in range(self.ROUNDS):
            eventually(lambda: running(daemon) == 0)
            dispatched = shop.dispatch("Quick", 1, first=number)
            shop.until("done", number + 1, within=30)
            reactions.append(float(shop.entries("boot")[-1].more) - dispatched)
        p50, p95 = statistics.median(reactions), sorted(reactions)[int(len(reactions) * 0.95)]
        print(f"reaction on {shop.connection}: p50 {p50 * 1000:.0f} ms, p95 {p95 * 1000:.0f} ms")
        assert p50 < 2.0
