"""Queues through the whole product, on real servers: the count follows the work from 0 to 8 and back, and each piece is
done once, whoever is killed in between."""

import os
import random
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from reconciler.client import ClientError
from support.daemon import Daemon, eventually
from support.shops import SHOPS, Shop

PIECES = 1000
MOST = 8
QUICK = {
    "pollingInterval": "100ms",
    "cooldownPeriod": "500ms",
    "behavior": {
        "scaleDown": {"stabilizationWindow": "500ms", "policies": [{"type": "Percent", "value": 100, "period": 1}]}
    },
}
PACKAGES = {
    "redis": ["redis-server"],
    "beanstalkd": ["beanstalkd"],
    "postgresql": ["postgresql"],
    "mysql": ["mariadb-server-core"],
    "rabbitmq": ["rabbitmq-server"],
}
EACH = [pytest.param(kind, marks=[pytest.mark.debian(name) for name in PACKAGES.get(kind, ())]) for kind in SHOPS]


# Asked for before `daemon`, so that the server outlives those who work with it.
@pytest.fixture
def shop(request: pytest.FixtureRequest) -> Iterator[Shop]:
    shop = SHOPS[request.param]()
    try:
        shop.open()
        yield shop
    finally:
        shop.close()


def bind(daemon: Daemon, shop: Shop, **spec: Any) -> None:
    binding = {
        "apiVersion": "reconciler/v1",
        "kind": "QueueBinding",
        "metadata": {"name": "jobs"},
        "spec": {
            "scaleTargetRef": {"name": "taker"},
            "maxReplicaCount": MOST,
            "triggers": [shop.trigger()],
            **QUICK,
            **spec,
        },
    }
    daemon.write("binding.yaml", yaml.safe_dump(binding))


def condition(daemon: Daemon, kind: str) -> tuple[str, str]:
    try:
        status = daemon.client.queuebinding("jobs")["status"]
    except ClientError:
        return "absent", "not accepted yet"
    found = {c["type"]: (c["status"], c["reason"]) for c in status["conditions"]}
    return found.get(kind, ("absent", ""))


def running(daemon: Daemon) -> int:
    return int(daemon.status("taker").get("runningReplicas") or 0)


def history(daemon: Daemon, what: str) -> list[int]:
    """One column of the binding's history, which has a point a second."""
    return [int(sample[what]) for sample in daemon.client.queue_history("jobs")]


def kill_the_controller(daemon: Daemon) -> None:
    os.kill(daemon.controller, signal.SIGKILL)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("shop", EACH, indirect=True)
def test_a_thousand_pieces_are_done_once_under_kills_of_server_and_controller(shop: Shop, daemon: Daemon) -> None:
    daemon.declare("taker", *shop.command("daemon", 0.02), terminationGracePeriod="60s", minReady=0)
    bind(daemon, shop)
    daemon.start()
    eventually(lambda: condition(daemon, "Ready")[0] == "True", "the queue was read")
    eventually(lambda: running(daemon) == 0, "with nothing to do nobody runs")
    told = daemon.cli("queue", "test", "jobs").out
    assert f"{shop.kind}: asks for 0\n" in told
    assert "0 waiting, 0 in work" in told
    shop.allow(0)
    shop.put(range(PIECES))
    eventually(lambda: running(daemon) == MOST, "as many run as may", within=60)
    shop.allow(PIECES * 2 // 3)
    eventually(lambda: shop.done() > 50, "the first pieces are done", within=60)
    kill_the_controller(daemon)
    eventually(lambda: shop.done() > PIECES // 3, "a third is done", within=120)
    if shop.server is not None:
        shop.server.kill()
        before = daemon.client.status()["daemon"]["pid"]
        eventually(lambda: condition(daemon, "Ready")[0] == "False", "it is told that the queue cannot be read")
        assert running(daemon) == MOST, "and the count is kept"
        assert daemon.client.status()["daemon"]["pid"] == before
        shop.server.start()
    eventually(lambda: shop.done() > PIECES // 2, "half of it is done", within=120)
    kill_the_controller(daemon)
    shop.allow(2 * PIECES)
    eventually(lambda: shop.done() == PIECES, "all is done", within=120)
    eventually(lambda: running(daemon) == 0, "and nobody is left", within=60)
    assert sorted(int(path.name) for path in (shop.folder / "done").iterdir()) == list(range(PIECES))
    assert condition(daemon, "Ready")[0] == "True"
    outcomes = [row.get("lastExit", {}).get("code") for row in daemon.status("taker")["processes"]]
    assert set(outcomes) <= {0, None}, "each ended when it was asked to, after its piece"
    shop.put(range(PIECES, PIECES + 20))
    eventually(lambda: shop.done() == PIECES + 20, "from nothing it begins again", within=60)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("shop", [p for p in EACH if p.values[0] in ("sqlite", "redis", "beanstalkd")], indirect=True)
def test_a_process_for_each_piece_and_none_for_nothing(shop: Shop, daemon: Daemon) -> None:
    daemon.declare("taker", *shop.command("once"), runOnce=True, minRestartInterval=0)
    bind(daemon, shop)
    daemon.start()
    eventually(lambda: condition(daemon, "Ready")[0] == "True", "the queue was read")
    shop.put(range(60))
    eventually(lambda: shop.done() == 60, "each piece is done", within=60)
    eventually(lambda: running(daemon) == 0)
    starts = len(shop.lines("starts"))
    assert 60 <= starts <= 75, f"{starts} processes for 60 pieces: nearly none has come for nothing"
    assert not shop.lines("again")
    assert {row["restarts"] for row in daemon.status("taker")["processes"]} == {0}


@pytest.mark.debian("redis-server")
@pytest.mark.parametrize("shop", ["redis"], indirect=True)
def test_a_scale_down_never_cuts_a_piece(shop: Shop, daemon: Daemon) -> None:
    daemon.declare("taker", *shop.command("daemon", 1.5), terminationGracePeriod="30s", minReady=0)
    bind(daemon, shop)
    daemon.start()
    eventually(lambda: condition(daemon, "Ready")[0] == "True")
    shop.put(range(12))
    eventually(lambda: running(daemon) >= 4, "several are at work")
    daemon.write("other.yaml", daemon.manifest("other", "sleep", "1000"))
    eventually(lambda: shop.done() == 12, "all is done", within=60)
    eventually(lambda: running(daemon) == 0)
    assert not shop.lines("again")
    assert {row.get("lastExit", {}).get("code") for row in daemon.status("taker")["processes"]} <= {0, None}
    eventually(lambda: history(daemon, "running")[-1] == 0, "the end is a point of the history, too")
    assert max(history(daemon, "running")) >= 4
    assert max(history(daemon, "reserved")) >= 4
    assert max(history(daemon, "waiting")) <= 12


SAYS_WHAT_IT_DOES = """
say() { echo "[2026-11-25 17:2$1:0$RECONCILER_REPLICA][1] $2: App\\\\Mail"; }
trap 'exit 0' TERM
say 0 Processing
while [ ! -e "$0/finished-$RECONCILER_REPLICA" ]; do sleep 0.02; done
say 1 Processed
while :; do sleep 0.02; done
"""


@pytest.mark.parametrize("form", ["raw", "json"])
def test_of_four_the_one_that_works_stays_though_it_is_the_youngest(daemon: Daemon, form: str) -> None:
    asked = daemon.folder / "asked"
    asked.write_text("4")
    trigger = {"type": "exec", "metadata": {"command": ["cat", str(asked)]}}
    spec = {"scaleTargetRef": {"name": "taker"}, "maxReplicaCount": MOST, "triggers": [trigger], **QUICK}
    document = {"apiVersion": "reconciler/v1", "kind": "QueueBinding", "metadata": {"name": "jobs"}, "spec": spec}
    daemon.write("binding.yaml", yaml.safe_dump(document))
    command = ["/bin/sh", "-c", SAYS_WHAT_IT_DOES, str(daemon.folder)]
    daemon.declare("taker", *command, minReady=0, logs={"format": form})
    daemon.start()
    pids = daemon.until_running("taker", 4)
    for ordinal in range(3):
        (daemon.folder / f"finished-{ordinal}").touch()
        eventually(lambda ordinal=ordinal: b"Processed" in daemon.log("taker", ordinal), "it is idle")
    asked.write_text("1")
    assert daemon.until_running("taker", 1) == {3: pids[3]}
    assert b"Processed" not in daemon.log("taker", 3)


@pytest.mark.debian("redis-server")
@pytest.mark.parametrize("shop", ["redis"], indirect=True)
def test_pausing_freezes_and_poking_wakes(shop: Shop, daemon: Daemon) -> None:
    daemon.declare("taker", *shop.command("daemon"), minReady=0)
    bind(daemon, shop, pollingInterval="1h")
    daemon.start()
    eventually(lambda: condition(daemon, "Ready")[0] == "True")
    eventually(lambda: running(daemon) == 0)
    assert daemon.cli("queue", "pause", "jobs").code == 0
    shop.put(range(5))
    daemon.cli("queue", "poke", "jobs")
    told = daemon.cli("queue", "test", "jobs").out
    assert "paused at 0" in told or "Paused" in told
    assert running(daemon) == 0
    daemon.cli("queue", "resume", "jobs")
    daemon.cli("queue", "poke", "jobs")
    eventually(lambda: shop.done() == 5)


@pytest.mark.debian("redis-server")
@pytest.mark.parametrize("shop", ["redis"], indirect=True)
def test_a_server_that_hangs_is_told_within_seconds_and_delays_no_restart(shop: Shop, daemon: Daemon) -> None:
    daemon.declare("taker", *shop.command("daemon"), minReady=0)
    daemon.declare("other", *daemon.worker("steady"), replicas=3)
    bind(daemon, shop)
    daemon.start()
    eventually(lambda: condition(daemon, "Ready")[0] == "True")
    pids = daemon.until_running("other", 3)
    assert shop.server is not None
    shop.server.pause()
    try:
        eventually(lambda: condition(daemon, "Ready") == ("False", "TimedOut"), "it is told")
        os.kill(random.choice(list(pids.values())), signal.SIGKILL)
        eventually(lambda: len(daemon.ledger("start")) >= 4, "the other Program's process is replaced")
    finally:
        shop.server.resume()
    eventually(lambda: condition(daemon, "Ready")[0] == "True")
