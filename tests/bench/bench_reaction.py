"""From a piece put into an empty queue to the start of the process that it asks for, on real servers.

    make bench           all of them
    python tests/bench/bench_reaction.py redis 50

The process notes the time first thing (a shell, so that its own start is small). p50 and p95 in milliseconds; a
machine that does other things shows in p95.
"""

import contextlib
import io
import shlex
import statistics
import sys
import tempfile
import time
from pathlib import Path

import yaml
from measuring import Result, show

from reconciler.adapters.queues.registry import driver_for

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.daemon import daemon_in, eventually
from support.shops import SHOPS, Shop

TRIALS = 30
GOAL_MS = 20.0  # and the polling interval, where nobody can be waited on
WAITED_ON = ("redis", "sqlite", "postgresql")
STALE_MS = {"rabbitmq": 5000.0}  # so old may the numbers be that its server gives


def reactions(shop: Shop, trials: int) -> tuple[list[float], float]:
    """Seconds, one for each trial, and how many of them it takes to put a piece in over a connection that is there.

    Where there is none to keep (redis, beanstalkd, RabbitMQ), connecting is part of it.
    """
    with tempfile.TemporaryDirectory() as folder, daemon_in(Path(folder)) as daemon, shop.dispatching() as put:
        starts = Path(folder) / "starts"
        starts.touch()
        take = shlex.join(shop.command("once", 0))
        command = ["/bin/sh", "-c", f"date +%s.%N >> {shlex.quote(str(starts))}; exec {take}"]
        daemon.declare("taker", *command, runOnce=True, minRestartInterval=0)
        spec = {"scaleTargetRef": {"name": "taker"}, "maxReplicaCount": 1, "triggers": [shop.trigger()]}
        binding = {"apiVersion": "reconciler/v1", "kind": "QueueBinding", "metadata": {"name": "jobs"}, "spec": spec}
        daemon.write("binding.yaml", yaml.safe_dump(binding))
        daemon.start()
        found, putting = [], []
        for trial in range(trials):
            eventually(lambda: "Idle" in daemon.cli("get", "qb").out)
            eventually(lambda: not daemon.status("taker")["runningReplicas"])
            time.sleep(0.5)
            put_at = time.clock_gettime(time.CLOCK_REALTIME)
            put(trial)
            putting.append(time.clock_gettime(time.CLOCK_REALTIME) - put_at)
            found.append(eventually(lambda put_at=put_at: _first_after(starts, put_at)) - put_at)  # type: ignore[misc]
            eventually(lambda trial=trial: shop.done() == trial + 1)  # type: ignore[misc]
        return found, statistics.median(putting)


def _first_after(starts: Path, moment: float) -> float:
    """When the first process after this moment started; 0.0: none has."""
    return min((at for line in starts.read_text().split() if (at := float(line)) >= moment), default=0.0)


def goal_ms(kind: str) -> float:
    """What is promised of the median."""
    polling = 0.0 if kind in WAITED_ON else driver_for(kind).polling_seconds * 1000
    return GOAL_MS + polling + STALE_MS.get(kind, 0.0)


def main() -> None:
    """One line per server."""
    kinds = [name for name in sys.argv[1:] if not name.isdigit()] or list(SHOPS)
    trials = next((int(word) for word in sys.argv[1:] if word.isdigit()), TRIALS)
    for kind in kinds:
        shop = SHOPS[kind]()
        try:
            shop.open()
            with contextlib.redirect_stdout(io.StringIO()):  # what the daemon would tell a test that failed
                seconds, putting = reactions(shop, trials)
            found = sorted(each * 1000 for each in seconds)
        finally:
            shop.close()
        p95 = found[min(len(found) - 1, int(len(found) * 0.95))]
        how = f"{trials} trials, {putting * 1000:.0f} ms of it to put it in"
        show([Result(f"{kind}, p50 ({how})", statistics.median(found), goal_ms(kind), "ms")])
        show([Result(f"{kind}, p95", p95, None, "ms"), Result(f"{kind}, max", found[-1], None, "ms")])


main()
