"""What must hold of passes as such: the short one is the full one, and a plan is a function of its input."""

from reconciler.core.reconcile import NO_STARTS, reconcile, reconcile_only
from reconciler.engine.controlled import Controlled
from reconciler.model.state import NEVER, Memory, Observed


def short_pass_is_the_full_one(controlled: Controlled, now: float, *, bounded: bool) -> None:
    """It decides for the replicas that are marked what the full one would, and misses nothing.

    Where starts are `bounded`, which of two gets the last place depends on who is asked; so none gets one here.
    """
    allowed = NO_STARTS if controlled.blocked else 0 if bounded else NEVER
    desired, ledger, marked = controlled.desired, controlled.ledger, controlled.dirty_ordinals
    if not controlled.settled or controlled.dirty or not marked:
        return
    short = reconcile_only(sorted(marked), desired, ledger.observed, ledger.memory, now, allowed)
    if short is None:
        return
    full = reconcile(desired, ledger.observed, ledger.memory, now, allowed).plan
    ours = [str(action) for action in full.actions if action.ordinal in marked]
    assert sorted(map(str, short.actions)) == sorted(ours), f"{controlled.name}: short pass differs: {ours}"
    # Starts that are held back are not missed: their turn comes.
    others = [action for action in full.actions if action.ordinal not in marked | controlled.held]
    assert not others or controlled.wake_at <= now, f"{controlled.name}: the short pass misses {others}"
    if controlled.held:
        # A start that is held back asks for no time: what it will ask for is known when it is made.
        none = min(allowed, 0)  # where nothing at all may be started, not even what does not count as starting
        short = reconcile_only(sorted(marked), desired, ledger.observed, ledger.memory, now, none) or short
        full = reconcile(desired, ledger.observed, ledger.memory, now, none).plan
    assert min(short.wake_at, controlled.wake_at) <= full.wake_at, f"{controlled.name}: wakes too late"


def a_pass_can_be_repeated(controlled: Controlled, now: float, *, done: bool, bounded: bool) -> None:
    """The plan does not depend on the order in which a dict was filled, nor on the last call.

    `done`: the engine has nothing left to do, so nothing is planned, and a timer is set for what is due later. Where
    starts are `bounded`, those that are due are held back, each of them.
    """
    desired, ledger = controlled.desired, controlled.ledger
    allowed = 0 if bounded else NEVER
    result = reconcile(desired, ledger.observed, ledger.memory, now, allowed)
    again = reconcile(desired, _backwards(ledger.observed), _backwards_memory(ledger.memory), now, allowed)
    assert result == again, f"{controlled.name}: the plan depends on the order: {result} {again}"
    assert result.plan.render() == again.plan.render()
    if not done:
        return
    assert not result.plan.actions, f"{controlled.name}: left undone at {now:.3f}:\n{result.plan.render()}"
    # Of those that were held back some may have no work any more.
    assert set(result.plan.held) <= controlled.held, f"{controlled.name}: held back are {controlled.held} only"
    set_for = NEVER if controlled.timer is None else controlled.wake_at
    assert set_for <= result.plan.wake_at, f"{controlled.name}: no timer for {result.plan.wake_at:.3f}"


def _backwards(observed: Observed) -> Observed:
    """The same, filled in another order."""
    return Observed(dict(reversed(observed.processes.items())), observed.work)


def _backwards_memory(memory: Memory) -> Memory:
    histories = dict(reversed(memory.histories.items()))
    return Memory(
        histories,
        memory.progress_at,
        memory.progress_revision,
        memory.progress_epoch,
        memory.progress_score,
        memory.complete,
        memory.available_revision,
    )
