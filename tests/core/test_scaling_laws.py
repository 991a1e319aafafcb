"""What always holds of scale decisions, whatever the binding, the queues and the history."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.core.scaling import decide
from reconciler.model.binding import QueueBindingSpec
from reconciler.model.manifest import binding_from_canonical
from reconciler.model.queues import QueueReading
from reconciler.model.scaling import Counts, Decision, Look, ScaleReason, ScalingMemory
from support.scales import REFUSED, Found

# Each example is a history of decisions, so that a quarter of them says as much.
SOME = settings(max_examples=settings.default.max_examples // 4)

SECONDS = st.sampled_from([0.0, 1.0, 5.0, 30.0])
POLICIES = st.lists(
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(["Percent", "Replicas"]),
            "value": st.integers(1, 150),
            "period": st.sampled_from([1.0, 7.0]),
        }
    ),
    min_size=1,
    max_size=2,
)


def rules(selects: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            "stabilizationWindow": SECONDS,
            "policies": POLICIES,
            "selectPolicy": st.sampled_from(selects),
            "tolerance": st.sampled_from([0.0, 0.1, 0.5]),
        }
    )


TRIGGERS = st.fixed_dictionaries(
    {
        "type": st.just("rq"),
        "metric": st.sampled_from(["depth", "depth", "latency", "age"]),
        "target": st.sampled_from([1.0, 2.0, 5.0, 30.0]),
        "activationTarget": st.sampled_from([0.0, 0.0, 3.0]),
        "includeReserved": st.booleans(),
        "includeDelayed": st.booleans(),
    }
)


@st.composite
def specs(draw: st.DrawFn, selects: tuple[str, ...] = ("Max", "Min", "Disabled"), **fixed: Any) -> QueueBindingSpec:
    least = draw(st.integers(0, 3))
    triggers = draw(st.lists(TRIGGERS, min_size=1, max_size=3))
    return binding_from_canonical(
        {
            "scaleTargetRef": {"name": "web"},
            "minReplicaCount": least,
            "maxReplicaCount": draw(st.integers(max(1, least), 12)),
            **({"idleReplicaCount": 0} if least and draw(st.booleans()) else {}),
            "cooldownPeriod": draw(SECONDS),
            "stallTimeout": draw(st.sampled_from([3.0, 60.0])),
            "triggers": [{**each, "name": f"q{n}", "metadata": {"queues": str(n)}} for n, each in enumerate(triggers)],
            "behavior": {"scaleUp": draw(rules(list(selects))), "scaleDown": draw(rules(list(selects)))},
            "fallback": draw(st.sampled_from([{}, {"failureThreshold": 1}, {"failureThreshold": 2, "replicas": 1}])),
            **fixed,
        }
    )


NUMBERS = st.integers(0, 20).map(float)
READINGS = st.builds(
    QueueReading,
    waiting=NUMBERS,
    reserved=st.none() | NUMBERS,
    delayed=st.none() | NUMBERS,
    oldest_seconds=st.sampled_from([0.0, 4.0, 40.0]),
    next_due_seconds=st.none() | st.just(3.0),
    arrived=st.none() | NUMBERS,
    completed=st.none() | NUMBERS,
)
FOUND = st.none() | st.just(REFUSED) | READINGS


class Step(NamedTuple):
    """One moment of a history."""

    now: float
    looks: list[Look | None]
    counts: Counts


class Told(NamedTuple):
    """One decision with what came before it."""

    step: Step
    before: ScalingMemory
    decision: Decision


@st.composite
def histories(draw: st.DrawFn, spec: QueueBindingSpec, found: st.SearchStrategy[Found] = FOUND) -> list[Step]:
    now, steps, started = 0.0, [], 0
    for _ in range(draw(st.integers(1, 12))):
        now += draw(st.sampled_from([0.2, 1.0, 10.0, 40.0]))
        started += draw(st.integers(0, 2))
        looks = [None if (each := draw(found)) is None else Look(now, each) for _ in spec.triggers]
        running = draw(st.integers(0, 6))
        counts = Counts(
            draw(st.integers(0, 6)), running, draw(st.integers(0, running)), draw(st.integers(0, 2)), started
        )
        steps.append(Step(now, looks, counts))
    return steps


def told(spec: QueueBindingSpec, steps: list[Step], *, run_once: bool = False) -> Iterator[Told]:
    memory = ScalingMemory()
    for step in steps:
        decision = decide(spec, step.looks, step.counts, memory, step.now, run_once=run_once)
        yield Told(step, memory, decision)
        memory = decision.memory


@SOME
@given(specs(), st.booleans(), st.data())
def test_bounds_always_hold(spec, run_once, data):
    for _, _, decision in told(spec, data.draw(histories(spec)), run_once=run_once):
        assert spec.rest_count <= decision.replicas <= spec.max_replica_count
        if decision.active:
            assert decision.replicas >= spec.min_replica_count
        assert decision.memory.replicas == decision.replicas


@SOME
@given(specs(), st.booleans(), st.data())
def test_nothing_is_lowered_while_a_queue_cannot_be_read(spec, run_once, data):
    for _, before, decision in told(spec, data.draw(histories(spec)), run_once=run_once):
        unread = any(view.reading is None or view.failure for view in decision.triggers)
        if unread and before.replicas is not None:
            assert decision.replicas >= before.replicas


@SOME
@given(specs(), st.booleans(), st.data())
def test_the_order_of_triggers_does_not_matter(spec, run_once, data):
    order = data.draw(st.permutations(range(len(spec.triggers))))
    shuffled = spec.model_copy(update={"triggers": tuple(spec.triggers[at] for at in order)})
    steps = data.draw(histories(spec))
    others = [step._replace(looks=[step.looks[at] for at in order]) for step in steps]
    for one, other in zip(told(spec, steps, run_once=run_once), told(shuffled, others, run_once=run_once), strict=True):
        assert one.decision.render() == other.decision.render()
        assert one.decision.starts == other.decision.starts


@SOME
@given(specs(), st.data())
def test_the_count_never_goes_beyond_what_is_asked_for(spec, data):
    for _, before, decision in told(spec, data.draw(histories(spec))):
        if before.replicas is None or decision.reason in {ScaleReason.FELL_BACK, ScaleReason.RATE_LIMITED}:
            continue
        asked = [view.replicas for view in decision.triggers if view.replicas is not None]
        most = max([*asked, spec.min_replica_count, 1])
        assert decision.replicas <= max(before.replicas, most)


@SOME
@given(specs(), st.data())
def test_on_the_way_down_everything_that_was_asked_for_within_the_window_is_kept(spec, data):
    said: list[tuple[float, int]] = []
    window = spec.behavior.scale_down.stabilization_window
    for step, before, decision in told(spec, data.draw(histories(spec))):
        asked = max([view.replicas for view in decision.triggers if view.replicas is not None], default=0)
        above_rest = before.replicas is not None and before.replicas > max(1, spec.min_replica_count)
        if above_rest and decision.replicas < before.replicas:
            within = [count for at, count in said if step.now < at + window]
            assert decision.replicas >= min(before.replicas, max(within, default=0), spec.max_replica_count)
        if decision.active:
            said.append((step.now, asked))


@SOME
@given(specs(stallTimeout="infinity"), st.booleans(), st.data())
def test_more_work_never_asks_for_fewer_replicas(spec, run_once, data):
    steps = data.draw(histories(spec))
    last = list(told(spec, steps, run_once=run_once))[-1]
    more = data.draw(NUMBERS)
    looks = [
        look._replace(found=look.found._replace(waiting=look.found.waiting + more))
        if look is not None and isinstance(look.found, QueueReading)
        else look
        for look in last.step.looks
    ]
    counts, now = last.step.counts, last.step.now
    raised = decide(spec, looks, counts, last.before, now, run_once=run_once)
    if any(trigger.metric == "latency" for trigger in spec.triggers):
        return  # its rates are read from the same numbers: more that waits now is fewer that were done before
    assert raised.replicas >= last.decision.replicas
    assert (raised.starts or 0) >= (last.decision.starts or 0)


@SOME
@given(specs(), st.booleans(), st.data())
def test_a_steady_world_comes_to_rest(spec, run_once, data):
    readings = [data.draw(READINGS)._replace(next_due_seconds=None) for _ in spec.triggers]
    memory, now, seen = ScalingMemory(), 0.0, []
    counts = Counts(2, 3, 3)
    for _ in range(120):
        now += 1.0
        decision = decide(spec, [Look(now, each) for each in readings], counts, memory, now, run_once=run_once)
        memory = decision.memory
        counts = counts._replace(running=decision.replicas, ready=decision.replicas) if not run_once else counts
        seen.append((decision.replicas, decision.reason, decision.starts, decision.conditions))
    # Age raises by the replicas that are there, so it ends at the maximum; percentages take their steps. But it ends.
    assert len(set(seen[-20:])) == 1
    assert len(memory.highest) + len(memory.lowest) + len(memory.changes) + len(memory.starts) <= 40


@SOME
@given(specs(), st.booleans(), st.data())
def test_asking_again_changes_nothing(spec, run_once, data):
    for step, _, decision in told(spec, data.draw(histories(spec)), run_once=run_once):
        again = decide(spec, step.looks, step.counts, decision.memory, step.now, run_once=run_once)
        assert (again.replicas, again.starts, again.active) == (decision.replicas, decision.starts, decision.active)


@SOME
@given(specs(), st.booleans(), st.data())
def test_nothing_changes_before_the_moment_to_wake(spec, run_once, data):
    last = list(told(spec, data.draw(histories(spec)), run_once=run_once))[-1]
    decision, now = last.decision, last.step.now
    assert decision.wake_at > now
    until = min(decision.wake_at, now + 1000.0)
    moment = now + (until - now) * data.draw(st.sampled_from([0.1, 0.5, 0.99]))
    later = decide(spec, last.step.looks, last.step.counts, decision.memory, moment, run_once=run_once)
    assert (later.replicas, later.starts) == (decision.replicas, decision.starts)


@SOME
@given(specs(("Max",)), st.integers(0, 9), st.data())
def test_after_a_restart_nothing_is_lowered_for_a_window(spec, replicas, data):
    memory = ScalingMemory.restored(replicas, None, 0.0)
    kept = min(replicas, spec.max_replica_count)
    window = min(spec.behavior.scale_down.stabilization_window, spec.cooldown_period)
    for step in data.draw(histories(spec)):
        if step.now >= window:
            return
        decision = decide(spec, step.looks, step.counts, memory, step.now)
        memory = decision.memory
        assert decision.replicas >= kept
