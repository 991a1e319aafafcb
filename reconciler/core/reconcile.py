"""The heart: what is wanted, what runs and what is remembered, to a plan.

Level, not edge: the plan depends on the state alone, never on what happened last, so a lost event costs latency only.
Each replica is put in its bucket first; then each bucket has one answer.
"""

from collections.abc import Iterable
from typing import NamedTuple

from reconciler.core import rollout
from reconciler.core.buckets import Bucket, Seat, bucket_of, is_outdated, next_revision, seat_of
from reconciler.core.health import available_at, is_proven
from reconciler.core.plan import Action, Forget, Kill, Plan, Rest, Start, Stop
from reconciler.core.restart import fails_until, next_start_at
from reconciler.core.starting import counts
from reconciler.model.state import NEVER, Cause, Desired, History, Memory, Observed, Outcome

LEFTOVERS_GRACE_SECONDS = 30.0
UNSETTLED = frozenset({Bucket.OUTDATED, Bucket.SURPLUS, Bucket.ABANDONED})
NO_STARTS = -1.0
"""`allowed` where nothing may be started at all, whether it counts as starting or not."""

NO_STEPS = rollout.Steps(frozenset(), frozenset(), start=True)

Answer = tuple[Action | None, float]
"""An action, if there is one, and when to look again although nothing has happened."""


class Pass(NamedTuple):
    """A plan, and whether the replicas are independent of each other now.

    While `settled`, a pass over the ordinals that changed gives the same actions as a full one (the simulator proves
    it): no rollout, no scaling is under way in which one replica's fate depends on the others.
    """

    plan: Plan
    settled: bool


def reconcile(desired: Desired, observed: Observed, memory: Memory, now: float, allowed: float = NEVER) -> Pass:
    """Plan for all replicas of one Program. So many starts are `allowed`, of those that count as starting."""
    ordinals = sorted({*observed.processes, *memory.histories, *desired.ordinals()})
    seats = {o: seat_of(desired, o, observed, memory, now) for o in ordinals}
    buckets = {o: bucket_of(seat) for o, seat in seats.items()}
    returning = [o for o, bucket in buckets.items() if bucket is Bucket.DUE and _is_returning(seats[o])]
    settled = not (
        returning
        or any(bucket in UNSETTLED for bucket in buckets.values())
        or (desired.recreate and any(is_outdated(desired, o, p) for o, p in observed.processes.items()))
    )
    steps = NO_STEPS if settled else rollout.steps(desired, observed, memory, buckets, returning, now)
    drawing = _Drawing(_deadline_ahead(desired, observed, memory, now), observed.work, allowed)
    for ordinal, bucket in buckets.items():
        drawing.add(seats[ordinal], _answer(seats[ordinal], bucket, steps))
    drawing.actions.sort(key=_order)
    return Pass(drawing.plan(), settled)


def reconcile_only(
    ordinals: Iterable[int],
    desired: Desired,
    observed: Observed,
    memory: Memory,
    now: float,
    allowed: float = NEVER,
) -> Plan | None:
    """Plan for some replicas of a Program whose last full pass was settled; None when a full pass is needed after all.

    `wake_at` is about these replicas only: the earlier one of it and the last full pass's holds.
    """
    drawing = _Drawing(_deadline_ahead(desired, observed, memory, now), observed.work, allowed)
    for ordinal in ordinals:
        seat = seat_of(desired, ordinal, observed, memory, now)
        bucket = bucket_of(seat)
        if bucket in UNSETTLED or (bucket is Bucket.DUE and _is_returning(seat)):
            return None
        drawing.add(seat, _answer(seat, bucket, NO_STEPS))
    return drawing.plan()


class _Drawing:
    """A plan that is being drawn up, answer by answer: with no more starts than there is work and room for."""

    __slots__ = ("_allowed", "_work", "actions", "held", "wake_at")

    def __init__(self, wake_at: float, work: int | None, allowed: float) -> None:
        self.actions: list[Action] = []
        self.held: list[int] = []
        self.wake_at = wake_at
        self._work = NEVER if work is None else work
        self._allowed = allowed

    def add(self, seat: Seat, answer: Answer) -> None:
        """Take what is to be done about one replica."""
        action, look_again_at = answer
        if isinstance(action, Start):
            if self._work <= 0 or (self._allowed != NEVER and self._is_held(seat, action)):
                return  # whoever counts the work, or the starts, will say when there is more
            self._work -= 1
        if action is not None:
            self.actions.append(action)
        self.wake_at = min(self.wake_at, look_again_at)

    def _is_held(self, seat: Seat, start: Start) -> bool:
        if self._allowed > NO_STARTS and not counts(seat.desired, seat.history, start.revision):
            return False
        if self._allowed <= 0:
            self.held.append(seat.ordinal)
            return True
        self._allowed -= 1
        return False

    def plan(self) -> Plan:
        """What was drawn up."""
        return Plan(tuple(self.actions), self.wake_at, tuple(self.held))


def _deadline_ahead(desired: Desired, observed: Observed, memory: Memory, now: float) -> float:
    """When the rollout will have taken too long. Once that is over status says so, and no time changes anything."""
    at = rollout.deadline_at(desired, observed, memory)
    return at if at > now else NEVER


def _is_returning(seat: Seat) -> bool:
    """Whether this free ordinal would come back at an old revision if the rollout does not carry it over."""
    return next_revision(seat.desired, seat.history) != seat.desired.revision


def _order(action: Action) -> tuple[int, int]:
    """Ends before starts, so that what a start needs (memory, connections) is free; then by ordinal."""
    return (1 if isinstance(action, Start) else 0, action.ordinal)


def _answer(seat: Seat, bucket: Bucket, steps: rollout.Steps) -> Answer:
    """What a bucket asks for now, and when to look at it again."""
    return _answer_running(seat, bucket, steps) if seat.process is not None else _answer_free(seat, bucket, steps)


def _answer_running(seat: Seat, bucket: Bucket, steps: rollout.Steps) -> Answer:
    desired, ordinal, process, history, now, _ = seat
    assert process is not None
    match bucket:
        case Bucket.OVERDUE:
            return Kill(ordinal, process.id, _kill_cause(seat)), NEVER
        case Bucket.DRAINING:
            assert process.stopping is not None
            return None, process.stopping.kill_at
        case Bucket.LEFTOVERS:
            return _stop(seat, Cause.LEFTOVERS)
        case Bucket.SURPLUS:
            return _stop(seat, _unwanted_cause(desired, ordinal))
        case Bucket.OUTDATED if ordinal in steps.stop:
            changed = process.revision != desired.revision
            return _stop(seat, Cause.REVISION_CHANGED if changed else Cause.RESTART_REQUESTED)
        case Bucket.OUTDATED | Bucket.FRESH:
            at = available_at(desired, process, history)
            return None, at if at > now else NEVER
        case Bucket.STEADY:
            at = fails_until(desired, ordinal, process, history)
            return None, at if at > now else NEVER  # nothing is due then, but it is no CrashLoop any more
    return None, NEVER  # KILLED


def _answer_free(seat: Seat, bucket: Bucket, steps: rollout.Steps) -> Answer:
    desired, ordinal, _, history, _, _ = seat
    match bucket:
        case Bucket.ABANDONED:
            return Forget(ordinal, desired.stop_cause), NEVER
        case Bucket.RESTING if history.last_exit is not None and not history.rested:
            return Rest(ordinal, _unwanted_cause(desired, ordinal)), NEVER
        case Bucket.WAITING:
            return None, next_start_at(desired, ordinal, history, next_revision(desired, history))
        case Bucket.DUE if steps.start:
            return _start(seat, steps)
    return None, NEVER  # RESTING, DONE, IDLE, DUE while a Recreate waits


def _start(seat: Seat, steps: rollout.Steps) -> Answer:
    desired, ordinal, _, history, now, _ = seat
    revision = desired.revision if ordinal in steps.carry_over else next_revision(desired, history)
    epoch = desired.epoch_of(ordinal)
    start = Start(ordinal, revision, epoch, start_cause(desired, history, revision, epoch))
    # A replica that has proved itself stays available; any other is to be looked at when it has run for minReady.
    return start, NEVER if is_proven(desired, history, revision) else now + desired.min_ready


def start_cause(desired: Desired, history: History, revision: str, epoch: int) -> Cause:
    """Why this start: the words that log, events and describe use."""
    last = history.last_exit
    if last is None or history.rested:
        return Cause.NEW_REPLICA
    if last.revision != revision:
        return Cause.REVISION_CHANGED
    if last.epoch < epoch:
        return Cause.RESTART_REQUESTED
    if last.outcome is Outcome.STOPPED:
        return Cause.NEW_REPLICA
    if desired.run_once and last.outcome is Outcome.SUCCEEDED:
        return Cause.NEXT_RUN
    return Cause.PROCESS_EXITED


def _unwanted_cause(desired: Desired, ordinal: int) -> Cause:
    return Cause.STOPPED_BY_OPERATOR if desired.counts(ordinal) else desired.stop_cause


def _stop(seat: Seat, cause: Cause) -> Answer:
    desired, ordinal, process, _, now, _ = seat
    assert process is not None
    rest = cause is Cause.LEFTOVERS
    # Whether it is run-once work is a matter of how it was started: the spec may have been edited since.
    grace_seconds = desired.run_once_grace_period if process.run_once else desired.grace_period
    if desired.kill_now:
        grace_seconds = 0.0
    if rest and grace_seconds == NEVER:
        # `infinity` is a promise to the main process and its work; what it left behind is not waited for without end.
        grace_seconds = LEFTOVERS_GRACE_SECONDS
    silent = process.run_once and not rest and not desired.kill_now
    return Stop(ordinal, process.id, now + grace_seconds, silent, rest, cause), now + grace_seconds


def _kill_cause(seat: Seat) -> Cause:
    assert seat.process is not None
    assert seat.process.stopping is not None
    return Cause.GRACE_PERIOD_OVER if seat.now >= seat.process.stopping.kill_at else Cause.KILL_REQUESTED
