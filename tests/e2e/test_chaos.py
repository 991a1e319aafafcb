"""Kills, edits and operators in random order; then quiet. The ledger judges: as wished, once each, nobody else."""

import os
import random
import signal
import time

import pytest

from support.daemon import Daemon, Entry, eventually, is_alive

STEPS = 10
SEEDS = range(int(os.environ.get("CHAOS_SEEDS", "3")))  # CHAOS_SEEDS=200 hunts


class Chaos:
    """One history. `web` is long-running and `mail` run-once; both change, and everything that may die does."""

    def __init__(self, daemon: Daemon, seed: int) -> None:
        self.daemon, self.random = daemon, random.Random(seed)
        self.replicas, self.version = 3, 1
        self.controller_deaths = 0
        self.write()

    def write(self) -> None:
        # Of the run-once ones a killed one leaves no `end` behind: they are not killed, and overlaps can be seen.
        mail = {"replicas": self.replicas, "run_once": True, "min_restart_interval": "20ms"}
        self.daemon.declare("mail", *self.daemon.worker("once", 0, 0.02), **mail)
        web = {"replicas": self.replicas, "env": {"VERSION": str(self.version)}, "min_ready": "50ms"}
        backoff = {"initial": "50ms", "max": "100ms"}
        self.daemon.declare("web", *self.daemon.worker("steady"), restart_backoff=backoff, **web)

    def step(self) -> None:
        act = self.random.choice(
            [self.scale, self.roll, self.kill_controller, self.kill_pump, self.kill_web, self.wish]
        )
        act()
        time.sleep(self.random.uniform(0, 0.3))

    def scale(self) -> None:
        self.replicas = self.random.randint(1, 5)
        self.write()

    def roll(self) -> None:
        self.version += 1
        self.write()

    def kill_controller(self) -> None:
        if self.controller_deaths < 2:  # with the third one within a minute no manifests are read any more
            self.controller_deaths += 1
            self.daemon.kill_controller()

    def kill_pump(self) -> None:
        self.daemon.kill_pump()

    def kill_web(self) -> None:
        pids = list(self.daemon.pids("web").values())
        if pids:
            pid = self.random.choice(pids)
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)

    def wish(self) -> None:
        verb = self.random.choice([("restart", "web"), ("stop", "web/0", "--for", "500ms"), ("reset", "web")])
        self.daemon.cli(*verb, code=None)


def alive(daemon: Daemon) -> list[Entry]:
    return [entry for entry in daemon.ledger("start") if entry.more and is_alive(entry.pid)]


@pytest.mark.parametrize("seed", SEEDS)
def test_in_the_end_everything_is_as_written(daemon: Daemon, seed: int) -> None:
    chaos = Chaos(daemon, seed)
    daemon.start()
    for _ in range(STEPS):
        chaos.step()
    daemon.cli("reset", "web")
    daemon.until_available("web")

    def is_as_written() -> bool:
        versions = [entry.more for entry in alive(daemon)]
        return versions == [str(chaos.version)] * chaos.replicas

    eventually(is_as_written, "as many as written, all of the last version, and nobody beside them")
    assert sorted(entry.replica for entry in alive(daemon)) == list(range(chaos.replicas))
    daemon.until_available("mail")
    daemon.cli("stop", "mail")
    daemon.until_at_rest("mail")
    for replica in range(5):
        words = [e for e in daemon.ledger() if e.replica == replica and e.more in {"", "0"}]
        assert [e.what for e in words] == ["start", "end"] * (len(words) // 2), f"seed {seed}, replica {replica}"
