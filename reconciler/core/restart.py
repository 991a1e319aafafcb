"""Restarts: how a run ended, whether another one follows, and not before when.

Back-off is of consecutive failures of one revision: the first restart is immediate, then `initial`, growing by
`factor` to `max`; a success, `resetAfter` of running or another revision sets the count to zero. Nothing is ever given
up. Every start keeps `minRestartInterval` from the one before.
"""

from typing import NamedTuple
from zlib import crc32

from reconciler.model.state import NEVER, Desired, History, Outcome, Process, RestartPolicy


class Verdict(NamedTuple):
    """What an exit means: its outcome, the consecutive failures it makes, and whether the replica is done."""

    outcome: Outcome
    failures: int
    done: bool


def verdict(
    desired: Desired, process: Process, history: History, code: int | None, signal: int | None, now: float
) -> Verdict:
    """Judge the end of a process. `code` and `signal` both None: nobody can say how it ended."""
    # Failures are those of one revision: the end of another one says nothing about them.
    last = history.last_exit
    so_far = history.failures if last is None or last.revision == process.revision else 0
    if process.stopping is not None:
        return Verdict(Outcome.STOPPED, so_far, done=False)
    if code is None and signal is None:
        # Not a success, no back-off growth; and what may have been done is not done twice.
        done = desired.restart_policy is RestartPolicy.NEVER or (
            desired.run_once and desired.restart_policy is not RestartPolicy.ALWAYS
        )
        return Verdict(Outcome.UNKNOWN, so_far, done)
    if code in desired.success_exit_codes or signal in desired.success_signals:
        return Verdict(Outcome.SUCCEEDED, 0, done=desired.restart_policy is not RestartPolicy.ALWAYS)
    failures = failures_after(desired, history, process.revision, now - process.started_at)
    return Verdict(Outcome.FAILED, failures, done=desired.restart_policy is RestartPolicy.NEVER)


def failures_after(desired: Desired, history: History, revision: str, ran_seconds: float) -> int:
    """Consecutive failures once one more run of this revision has failed after so many seconds."""
    last = history.last_exit
    fresh = ran_seconds >= desired.backoff.reset_after or last is None or last.revision != revision
    return 1 if fresh else history.failures + 1


def backoff_seconds(desired: Desired, ordinal: int, failures: int) -> float:
    """The delay after that many consecutive failures. Jitter is a function of its arguments: a pass can be repeated."""
    backoff = desired.backoff
    if failures <= 1 or backoff.initial <= 0:
        return 0.0
    # The exponent is bounded because 2.0 ** 2000 is an OverflowError, and a program may fail for years.
    delay = min(backoff.max, backoff.initial * backoff.factor ** min(failures - 2, 64))
    spread = crc32(f"{desired.uid}/{ordinal}/{failures}".encode()) / 0xFFFFFFFF
    return float(delay * (1 + backoff.jitter * spread))


def next_start_at(desired: Desired, ordinal: int, history: History, revision: str) -> float:
    """The earliest moment at which this ordinal may be started at this revision."""
    floor = history.last_started_at + desired.min_restart_interval
    last = history.last_exit
    if last is None or not in_backoff(history, revision, desired.epoch_of(ordinal)):
        return floor
    return max(floor, last.at + backoff_seconds(desired, ordinal, history.failures))


def in_backoff(history: History, revision: str, epoch: int) -> bool:
    """Whether the failures so far are about this revision; a new one, or an operator's restart, starts at once."""
    last = history.last_exit
    return history.failures > 1 and last is not None and last.revision == revision and last.epoch >= epoch


def fails_until(desired: Desired, ordinal: int, process: Process | None, history: History) -> float:
    """Until when this replica counts as crashing: a streak of failures of this revision that no long run has ended."""
    if not in_backoff(history, desired.revision, desired.epoch_of(ordinal)):
        return -NEVER
    return NEVER if process is None else process.started_at + desired.backoff.reset_after


def is_done(desired: Desired, ordinal: int, history: History) -> bool:
    """Whether the restart policy wants no further run: a success (OnFailure) or any exit (Never), once per revision."""
    return (
        history.done_outcome is not None
        and history.done_revision == desired.revision
        and history.done_epoch >= desired.epoch_of(ordinal)
        and desired.restart_policy is not RestartPolicy.ALWAYS
        and not (desired.restart_policy is RestartPolicy.ON_FAILURE and history.done_outcome is Outcome.FAILED)
    )
