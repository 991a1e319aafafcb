"""The table of docs/scaling.md: loads through bindings, KEDA, Horizon and fixed counts, as `queue simulate` has them.

Not a measurement but a model: it says the same on every machine. The mean of three loads of each kind.
"""

import time
from collections.abc import Callable
from statistics import mean
from typing import Any, NamedTuple

from reconciler.model.binding import QueueBindingSpec
from reconciler.model.manifest import binding_from_canonical
from reconciler.simulation.loads import pieces
from reconciler.simulation.machine import Scaler
from reconciler.simulation.results import simulate
from reconciler.simulation.scalers import Bound, Fixed, Horizon, Keda, KedaOnce

MOST = 20
DURATION, BOOT, SERVICE = 900.0, 0.15, "1s"
SEEDS = (1, 2, 3)
LOADS = ("burst:300", "steady:4", "step:2,12,2", "wave:1,9,5m", "every:1m")
SHORT_WINDOW = {"behavior": {"scaleDown": {"stabilizationWindow": 10.0}}}


def binding(trigger: dict[str, Any], **fields: Any) -> QueueBindingSpec:
    """A binding with this trigger, all else by default."""
    triggers = [{"type": "redis", "metadata": {"key": "mails"}, **trigger}]
    target = {"scaleTargetRef": {"name": "mails"}, "maxReplicaCount": MOST}
    return binding_from_canonical({**target, "triggers": triggers, **fields})


class Row(NamedTuple):
    """Of the table."""

    name: str
    make: Callable[[], Scaler]
    run_once: bool = False


def bound(name: str, trigger: dict[str, Any], *, run_once: bool = False, **fields: Any) -> Row:
    """A binding's row."""
    spec = binding(trigger, **fields)
    return Row(name, lambda: Bound(name, spec, run_once=run_once), run_once)


ROWS = [
    Row("6 all the time", lambda: Fixed(6)),
    Row("20 all the time", lambda: Fixed(MOST)),
    Row("KEDA and HPA, target 5", lambda: Keda(MOST, 5)),
    Row("KEDA ScaledJob, run-once", lambda: KedaOnce(MOST), run_once=True),
    Row("Horizon auto, 1 to 20", lambda: Horizon(MOST)),
    bound("`depth`, target 1 (all by default)", {}),
    bound("`depth`, target 3", {"target": 3}),
    bound("`depth`, target 3, window 10s", {"target": 3}, **SHORT_WINDOW),
    bound("`depth`, target 5", {"target": 5}),
    bound("`latency`, target 5s", {"metric": "latency", "target": 5}),
    bound("`latency`, target 5s, window 10s", {"metric": "latency", "target": 5}, **SHORT_WINDOW),
    bound("`depth` of a `runOnce` Program", {}, run_once=True),
]


def line(row: Row, load: str) -> str:
    """One line of markdown."""
    results = [
        simulate(
            pieces(load, SERVICE, DURATION, seed),
            row.make(),
            boot_seconds=BOOT,
            duration=DURATION,
            run_once=row.run_once,
        )
        for seed in SEEDS
    ]
    p95, longest = mean(each.wait_p95 for each in results), mean(each.wait_max for each in results)
    seconds, changes = mean(each.process_seconds for each in results), mean(each.changes for each in results)
    return f"| {row.name} | {p95:.1f} | {longest:.1f} | {seconds:,.0f} | {changes:.0f} |"


if __name__ == "__main__":
    for load in LOADS:
        began = time.process_time()
        print(f"\n`{load}`\n\n| | p95 wait, s | longest, s | process seconds | changes |\n|---|---|---|---|---|")
        for row in ROWS:
            print(line(row, load))
        print(f"({time.process_time() - began:.1f} s of CPU)")
