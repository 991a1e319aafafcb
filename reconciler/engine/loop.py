"""The loop: whatever happens marks a Program dirty; a pass looks at what is dirty, asks the core, carries out the plan.

    exit, timer, manifest, wish, report  ->  mark  ->  pass: reconcile -> actuate -> publish

Cost is O(what changed): while the replicas of a Program are independent of each other (`settled`), only those that were
marked are looked at. A pass takes at most 20 actions or 10 ms, round robin over Programs; then the world is looked at
again.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from reconciler.core import rollout
from reconciler.core.memory import Ledger, snapshot
from reconciler.core.plan import Action, Plan, Start
from reconciler.core.reconcile import NO_STARTS, reconcile, reconcile_only
from reconciler.core.records import encode
from reconciler.core.starting import Starts, starting_until
from reconciler.engine.actuate import Actuator
from reconciler.engine.aside import NoSuspects, Suspects
from reconciler.engine.building import Builder
from reconciler.engine.controlled import Controlled
from reconciler.engine.observe import Observer
from reconciler.engine.publish import Publisher
from reconciler.model.state import NEVER, NO_HISTORY
from reconciler.ports import Clock, Journal, LogSink, ProcessTable, Scheduling, Timer

ACTIONS_PER_PASS = 20
PASS_SECONDS = 0.010
RETRY_SECONDS = 5.0
CHECKPOINT_SECONDS = 1.0
UNWRITABLE_RETRY_SECONDS = 1.0

log = logging.getLogger("reconciler")


@dataclass(frozen=True)
class Ports:
    """The world, as the composition root hands it in."""

    clock: Clock
    journal: Journal
    table: ProcessTable
    sink: LogSink


class Loop:
    """The work queue and the passes over it."""

    def __init__(
        self, ports: Ports, scheduling: Scheduling, builder: Builder, spawn_prefix: str, *, most_starting: int = 0
    ) -> None:
        self._clock, self._journal = ports.clock, ports.journal
        self._scheduling = scheduling
        self.programs: dict[str, Controlled] = {}
        self.departed: dict[str, Ledger] = {}  # by name: deleted and gone, still remembered for a namesake
        self._queue: dict[Controlled, None] = {}  # an ordered set
        self._scheduled = False
        self._observing = False
        self.held = True  # nothing is decided before everything that runs is known
        self.passes = 0
        self._checkpoint_at = 0.0  # not before: a disk that refuses is not asked at every pass
        self._writable = True  # the journal, as far as everybody was told
        self._asks_again = False
        self.observer = Observer(ports.clock, ports.journal, ports.table, ports.sink, self.mark, scheduling.later)
        self.actuator = Actuator(ports.clock, ports.table, ports.sink, self.observer, builder, spawn_prefix, self.mark)
        self.starts: Starts[Controlled] = Starts(most_starting)
        self._turn: Timer | None = None
        self.observer.ended = self.starts.ended
        self.publisher: Publisher
        self.suspects: Suspects = NoSuspects()
        self.emptied: Callable[[Controlled], None] = lambda controlled: None

    # --- marks --------------------------------------------------------------------------------------------------------

    def mark(self, controlled: Controlled, ordinal: int | None = None) -> None:
        """Something happened to this replica (None: to the Program): look at it soon."""
        if self.programs.get(controlled.name) is not controlled:
            return  # a timer that outlived its Program; a namesake is none of its business
        if ordinal is None:
            controlled.dirty = True
        else:
            controlled.dirty_ordinals.add(ordinal)
        self._queue[controlled] = None
        self._schedule()

    def release(self) -> None:
        """Begin to decide."""
        self.held = False
        for controlled in self.programs.values():
            for ordinal in controlled.ledger.observed.processes:
                self._count_start(controlled, ordinal)
            self.mark(controlled)
        self._look_at_journal()

    def hold(self) -> None:
        """Decide nothing any more: somebody else will. What ends is still written down."""
        self.held = True

    def soon(self, call: Callable[[], None]) -> None:
        """In another turn: what would take too long in one."""
        self._scheduling.soon(call)

    def is_busy(self) -> bool:
        """Whether a pass is waited for."""
        return self._scheduled

    def _schedule(self) -> None:
        if self._queue and not (self._scheduled or self._observing or self.held):
            self._scheduled = True
            self._scheduling.soon(self._pass)

    # --- a pass -------------------------------------------------------------------------------------------------------

    def after(self, observe: Callable[[], object]) -> None:
        """Let things be observed, and look at what they made dirty in the same turn: another one would be felt."""
        self._observing = True
        try:
            observe()
        finally:
            self._observing = False
        if self._queue and not self.held:
            self._pass()

    def _pass(self) -> None:
        self._scheduled = False
        if self.held:
            return
        self.passes += 1
        budget, until = ACTIONS_PER_PASS, self._clock.now() + PASS_SECONDS
        while self._queue and budget > 0:
            controlled = next(iter(self._queue))
            del self._queue[controlled]
            self.suspects.at(controlled.accepted)
            try:
                budget -= self._look_at(controlled, budget)
                controlled.fault = ""
            except Exception as fault:
                # A fault of ours over one Program is a condition of that Program; the rest goes on.
                self._fail(controlled, fault)
            self.suspects.over()
            if self._clock.now() >= until:
                break
        self._look_at_journal()
        self._call_turns()
        self._schedule()

    def _look_at(self, controlled: Controlled, budget: int) -> int:
        """Reconcile one Program with at most `budget` actions; how many were carried out."""
        if controlled.aside and controlled.desired.replicas:
            controlled.dirty_ordinals.clear()
            self.publisher.changed(controlled)
            return 0
        now, ledger = self._clock.now(), controlled.ledger
        controlled.blocked = not self._journal.writable and controlled.must_not_repeat
        allowed = NO_STARTS if controlled.blocked else self.starts.allowed(controlled, now)
        plan: Plan | None = None
        if controlled.settled and not controlled.dirty:
            marked = controlled.dirty_ordinals
            batch = [marked.pop() for _ in range(min(budget, len(marked)))]
            plan = reconcile_only(batch, controlled.desired, ledger.observed, ledger.memory, now, allowed)
            if plan is not None:
                controlled.held.difference_update(batch)
                self._wake(controlled, min(plan.wake_at, controlled.wake_at))
        if plan is None:
            controlled.held.clear()
            plan = self._full(controlled, now, allowed)
        controlled.held.update(plan.held)
        if self.starts.most:
            self.starts.waits(controlled, 0 if controlled.blocked else len(controlled.held))
        todo, rest = plan.actions[:budget], plan.actions[budget:]
        for action in todo:
            self._carry_out(controlled, action)
        if rest:
            controlled.dirty = controlled.dirty or not controlled.settled
            controlled.dirty_ordinals.update(action.ordinal for action in rest)
        if rest or controlled.dirty_ordinals:
            self._queue[controlled] = None
        self.publisher.changed(controlled)
        if controlled.deleted and not ledger.observed.processes:
            self.emptied(controlled)
        return len(todo)

    def _full(self, controlled: Controlled, now: float, allowed: float) -> Plan:
        desired, ledger = controlled.desired, controlled.ledger
        controlled.dirty = False
        controlled.dirty_ordinals.clear()
        step = rollout.progress(desired, ledger.observed, ledger.memory, now)
        if step is not None and not controlled.deleted:
            self.observer.record(controlled, step)
        plan, controlled.settled = reconcile(desired, ledger.observed, ledger.memory, now, allowed)
        self._wake(controlled, plan.wake_at)
        return plan

    def _carry_out(self, controlled: Controlled, action: Action) -> None:
        self.publisher.acts(controlled, action)
        self.actuator.carry_out(controlled, action)
        if isinstance(action, Start):
            self._count_start(controlled, action.ordinal)

    def _fail(self, controlled: Controlled, fault: Exception) -> None:
        controlled.fault = repr(fault)
        self.starts.waits(controlled, 0)
        self.publisher.changed(controlled)
        log.exception("program/%s: a pass failed; it is tried again in %g s", controlled.name, RETRY_SECONDS)
        self._scheduling.later(RETRY_SECONDS, lambda: self.mark(controlled))

    # --- who may start ------------------------------------------------------------------------------------------------

    def _count_start(self, controlled: Controlled, ordinal: int) -> None:
        process = controlled.ledger.observed.processes.get(ordinal)
        if process is not None:
            history = controlled.ledger.memory.histories.get(ordinal, NO_HISTORY)
            until = starting_until(controlled.desired, process, history)
            if self._clock.now() < until < NEVER:
                self.starts.began(controlled, ordinal, until)

    def _call_turns(self) -> None:
        """Have those looked at whose turn it is; come back when the next place becomes free."""
        for controlled in self.starts.turns(self._clock.now()):
            ordinal = min(controlled.held)
            controlled.held.discard(ordinal)
            self.mark(controlled, ordinal)
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        at = self.starts.next_turn_at()
        if at != NEVER:
            self._turn = self._scheduling.later(max(0.0, at - self._clock.now()), self._call_turns)

    # --- time ---------------------------------------------------------------------------------------------------------

    def _wake(self, controlled: Controlled, wake_at: float) -> None:
        if wake_at == controlled.wake_at:
            return
        if controlled.timer is not None:
            controlled.timer.cancel()
            controlled.timer = None
        controlled.wake_at = wake_at
        if wake_at != NEVER:
            seconds = max(0.0, wake_at - self._clock.now())
            controlled.timer = self._scheduling.later(seconds, lambda: self._woken(controlled))

    def _woken(self, controlled: Controlled) -> None:
        controlled.timer = None
        controlled.wake_at = NEVER
        self.mark(controlled)

    def forget(self, controlled: Controlled) -> None:
        """The Program is gone: no timer, no place in the queue."""
        self._wake(controlled, NEVER)
        self._queue.pop(controlled, None)
        self.starts.waits(controlled, 0)

    def remember(self, name: str, ledger: Ledger) -> None:
        """A namesake may come soon. Who left longest ago is forgotten first, as soon as nothing of it counts."""
        self.departed.pop(name, None)
        self.departed[name] = ledger  # the last one now
        now = self._clock.now()
        while self.departed and _is_over(self.departed[first := next(iter(self.departed))], now):
            del self.departed[first]

    def _look_at_journal(self) -> None:
        """Begin it anew when that is due. A disk that takes nothing is asked again each second, and all are told."""
        journal = self._journal
        if journal.full and self._clock.now() >= self._checkpoint_at:
            self.checkpoint()
        if journal.writable is not self._writable:
            self._writable = journal.writable
            log.warning("the journal takes %s", "records again" if journal.writable else "no more records")
            for controlled in self.programs.values():
                self.publisher.changed(controlled)
                if controlled.blocked:
                    self.mark(controlled)
        if not journal.writable and not self._asks_again:
            self._asks_again = True
            self._scheduling.later(UNWRITABLE_RETRY_SECONDS, self._ask_again)

    def _ask_again(self) -> None:
        self._asks_again = False
        self._look_at_journal()

    def checkpoint(self) -> None:
        """Let the journal begin anew with what is known."""
        now = self._clock.now()
        self._checkpoint_at = now + CHECKPOINT_SECONDS
        self.departed = {name: ledger for name, ledger in self.departed.items() if not _is_over(ledger, now)}
        known = [(controlled.uid, controlled.ledger) for controlled in self.programs.values()]
        known += [(ledger.departed.uid, ledger) for ledger in self.departed.values() if ledger.departed is not None]
        self._journal.checkpoint(encode(record) for uid, ledger in known for record in snapshot(uid, ledger))


def _is_over(ledger: Ledger, now: float) -> bool:
    """Whether a namesake that comes now takes over nothing of what departed."""
    return ledger.departed is None or ledger.departed.until <= now
