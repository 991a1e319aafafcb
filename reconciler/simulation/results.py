"""What came of a run: how long work waited, what the processes cost, how restless the count was."""

from collections.abc import Sequence
from math import ceil
from typing import Any, NamedTuple

from reconciler.simulation.loads import Piece
from reconciler.simulation.machine import History, Machine, Sample, Scaler


class Result(NamedTuple):
    """One scaler on one load. Times in seconds."""

    name: str
    pieces: int
    untaken: int  # still waiting at the end
    wait_median: float
    wait_p95: float
    wait_p99: float
    wait_max: float
    process_seconds: float
    changes: int
    most: int
    samples: Sequence[Sample]

    def as_dict(self) -> dict[str, Any]:
        """For scripts; without the samples."""
        values = self._asdict()
        del values["samples"]
        return values


def simulate(
    load: Sequence[Piece], scaler: Scaler, *, boot_seconds: float, duration: float, run_once: bool = False
) -> Result:
    """Run it."""
    return _result(scaler.name, Machine(load, scaler, boot_seconds=boot_seconds, run_once=run_once).run(duration))


def percentile(sorted_values: Sequence[float], share: float) -> float:
    """The least value that so many are not above; 0 of none."""
    return sorted_values[max(0, ceil(share * len(sorted_values)) - 1)] if sorted_values else 0.0


def _result(name: str, history: History) -> Result:
    waits = sorted(history.waits)
    return Result(
        name,
        len(waits),
        history.untaken,
        percentile(waits, 0.5),
        percentile(waits, 0.95),
        percentile(waits, 0.99),
        percentile(waits, 1.0),
        history.process_seconds,
        history.changes,
        history.most,
        history.samples,
    )
