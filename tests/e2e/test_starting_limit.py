"""`maxStarting`: no more processes are starting at a time, whatever is to be started, and nobody is kept waiting."""

import bisect
from datetime import datetime

from support.daemon import Daemon, eventually

MOST = 2
MIN_READY_SECONDS = 0.5
ROUNDED_SECONDS = 0.002  # times are shown in milliseconds


def start(daemon: Daemon, most: int = MOST) -> None:
    config = daemon.folder / "config.yaml"
    config.write_text(
        f"apiVersion: reconciler/v1\nkind: Config\nmetadata: {{name: config}}\nspec: {{maxStarting: {most}}}\n"
    )
    daemon.start(options=["--config", str(config)])


def declare(daemon: Daemon, name: str, replicas: int) -> None:
    daemon.declare(name, *daemon.worker("steady"), replicas=replicas, min_ready=f"{MIN_READY_SECONDS}s")


def test_a_fleet_starts_by_and_by_and_a_small_program_need_not_wait_for_a_big_one(daemon: Daemon) -> None:
    declare(daemon, "a-big-one", 8)
    declare(daemon, "small", 1)
    start(daemon)
    said = eventually(lambda: daemon.condition("a-big-one", "WaitingToStart"), "it is said what is waited for")
    assert said["message"].endswith("wait until other processes have started")
    assert daemon.client.status()["daemon"]["maxStarting"] == MOST
    daemon.until_available("small")
    assert len(daemon.pids("a-big-one")) < 8, "the small one had its turn"
    daemon.until_available("a-big-one")
    assert not daemon.condition("a-big-one", "WaitingToStart")
    rows = daemon.processes("a-big-one") + daemon.processes("small")
    starts = sorted(datetime.fromisoformat(row["startedAt"]).timestamp() for row in rows)
    for at in starts:
        until = bisect.bisect_left(starts, at + MIN_READY_SECONDS - ROUNDED_SECONDS)
        assert until - bisect.bisect_left(starts, at) <= MOST, f"more were starting at a time: {starts}"


def test_the_next_controller_keeps_to_it(daemon: Daemon) -> None:
    declare(daemon, "web", 6)
    start(daemon)
    eventually(lambda: daemon.ledger("start"), "the first have started")
    daemon.kill_controller()
    daemon.until_available("web")
    assert len(daemon.ledger("start")) == 6, "none was started twice"


def test_0_is_no_bound(daemon: Daemon) -> None:
    daemon.declare("web", *daemon.worker("steady"), replicas=20, min_ready="1h")
    start(daemon, most=0)
    daemon.until_running("web", 20)
