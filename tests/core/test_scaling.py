"""What one decision owes to the one before: looks count once, memories find their queue, a restart forgets nothing."""

import pytest

from reconciler.core.demand import counted_at_most
from reconciler.core.scalewords import CONDITIONS, REASONS
from reconciler.core.scaling import decide
from reconciler.model.binding import QueueBindingSpec
from reconciler.model.queues import QueueReadFailed, QueueReading
from reconciler.model.scaling import Counts, Look, ScaleReason, ScalingMemory
from reconciler.model.state import NEVER, ConditionStatus
from support.scales import REFUSED, Bound, spec_of, waiting


def two_queues(**fields: object) -> QueueBindingSpec:
    triggers = [{"type": "rq", "name": name, "metadata": {"queues": name}} for name in ("mails", "invoices")]
    return spec_of(triggers=triggers, **fields)


def test_a_look_that_is_handed_in_again_counts_once() -> None:
    bound = Bound(spec_of(fallback={"failureThreshold": 2}))
    look = Look(1.0, REFUSED)
    bound.now = 1.0
    for _ in range(5):
        decision = bound.decide([look])
    assert decision.memory.triggers[0].failures == 1
    bound.now = 2.0
    assert bound.decide([Look(2.0, REFUSED)]).memory.triggers[0].failures == 2


def test_what_was_read_stays_known_until_the_next_look() -> None:
    bound = Bound(spec_of())
    bound.at(1.0, waiting(3))
    bound.now = 50.0
    decision = bound.decide([None])
    assert (decision.replicas, decision.active, decision.reason) == (3, True, ScaleReason.FOLLOWS)


def test_a_look_from_before_the_latest_one_is_not_news() -> None:
    bound = Bound(spec_of())
    bound.at(5.0, waiting(3))
    assert bound.decide([Look(4.0, waiting(9))]).replicas == 3


def test_one_queue_that_cannot_be_read_is_enough_to_fall_back() -> None:
    bound = Bound(two_queues(fallback={"failureThreshold": 1, "replicas": 3}))
    decision = bound.at(1.0, waiting(1), REFUSED)
    assert (decision.replicas, decision.reason) == (3, ScaleReason.FELL_BACK)


def test_the_highest_of_those_that_can_be_read_counts_while_another_cannot() -> None:
    triggers = [{"type": "beanstalkd", "name": name, "metadata": {"tube": name}} for name in ("a", "b", "c")]
    assert Bound(spec_of(triggers=triggers)).at(1.0, waiting(1), REFUSED, waiting(4)).replicas == 4


def test_below_all_activation_targets_a_minimum_still_follows_the_highest() -> None:
    idle = {"activationTarget": 9, "type": "beanstalkd"}
    triggers = [{**idle, "name": name, "metadata": {"tube": name}} for name in ("a", "b")]
    bound = Bound(spec_of(triggers=triggers, minReplicaCount=1, cooldownPeriod=0))
    assert bound.at(1.0, waiting(2), waiting(4)).replicas == 4


def test_a_stalled_queue_beside_one_that_asks_for_as_much_is_not_the_reason() -> None:
    bound = Bound(two_queues(stallTimeout=1.0))
    for now in (1.0, 2.0, 3.0):
        decision = bound.at(now, waiting(1, 0), waiting(1), ready=1, follow=False)
    assert [view.replicas for view in decision.triggers] == [1, 1]
    assert decision.reason is ScaleReason.FOLLOWS


def test_a_process_that_was_asked_to_end_a_moment_after_its_start_is_still_on_its_way() -> None:
    bound = Bound(spec_of(), run_once=True)
    bound.at(1.0, waiting(1), started=7)
    assert bound.at(1.2, waiting(1), started=8, running=0, ready=0, draining=1).starts == 0


def test_one_success_ends_the_count_of_failures() -> None:
    bound = Bound(spec_of(fallback={"failureThreshold": 3}))
    for now in (1.0, 2.0):
        bound.at(now, REFUSED)
    bound.at(3.0, waiting(1))
    decision = bound.at(4.0, REFUSED)
    assert (decision.reason, decision.memory.triggers[0].failures) == (ScaleReason.READ_FAILED, 1)


def test_triggers_in_another_order_keep_what_is_known_of_their_queues() -> None:
    spec = two_queues()
    bound = Bound(spec)
    bound.at(1.0, waiting(2), waiting(5))
    bound.spec = spec.model_copy(update={"triggers": spec.triggers[::-1]})
    bound.now = 2.0
    decision = bound.decide([None, None])
    assert [view.reading.waiting for view in decision.triggers if view.reading] == [5, 2]


def test_a_trigger_with_another_target_keeps_its_queue_and_one_at_another_queue_begins_anew() -> None:
    bound = Bound(spec_of())
    bound.at(1.0, waiting(4))
    bound.spec = spec_of(trigger={"target": 2})
    bound.now = 2.0
    assert (
        bound.decide([None]).message == "mails: 4 waiting; 2 for each replica -> 2; held at 4 by a stabilizationWindow"
    )
    bound.spec = spec_of(trigger={"metadata": {"queues": "other"}})
    assert bound.decide([None]).reason is ScaleReason.NOT_READ_YET


def test_one_queue_may_be_looked_at_for_two_reasons() -> None:
    queue = {"type": "beanstalkd", "metadata": {"tube": "mails"}}
    old = {**queue, "name": "old", "metric": "age", "target": 30}
    bound = Bound(spec_of(triggers=[{**queue, "name": "many"}, old]), written=2)
    found = waiting(3, oldest_seconds=60)
    assert [view.replicas for view in bound.at(1.0, found, found).triggers] == [3, 4]


def test_a_lower_maximum_is_kept_at_once_and_a_higher_minimum_too() -> None:
    bound = Bound(spec_of())
    for now in (1.0, 2.0):
        bound.at(now, waiting(6))
    bound.spec = spec_of(maxReplicaCount=3)
    assert bound.at(3.0, waiting(6)).replicas == 3
    bound.spec = spec_of(minReplicaCount=5)
    assert bound.at(4.0, REFUSED).replicas == 5


def test_after_a_restart_the_count_and_the_cool_down_go_on() -> None:
    spec = spec_of(behavior={"scaleDown": {"stabilizationWindow": 5}})
    bound = Bound(spec, memory=ScalingMemory.restored(4, -50.0, 0.0))
    assert bound.at(0.1, None).replicas == 4
    bound = Bound(spec, memory=ScalingMemory.restored(1, -50.0, 0.0))
    assert bound.at(1.0, waiting(0)).wake_at == 10.0
    assert bound.at(10.0, waiting(0)).replicas == 0


@pytest.mark.parametrize(("active_at", "remembered"), [(None, 7.0), (3.0, 3.0), (99.0, 7.0)])
def test_a_last_activity_that_is_not_known_or_lies_ahead_is_now(active_at: float | None, remembered: float) -> None:
    assert ScalingMemory.restored(1, active_at, 7.0).active_at == remembered


def test_a_number_of_started_processes_that_begins_anew_is_no_start() -> None:
    bound = Bound(spec_of(), run_once=True)
    bound.at(1.0, waiting(1), started=50)
    decision = bound.at(1.1, waiting(1), started=2)
    assert decision.starts == 1
    assert decision.memory.starts == ((1.1, 2),)


def test_the_moment_when_work_falls_due_is_told_apart_from_other_reasons_to_wake() -> None:
    bound = Bound(two_queues(), written=1)
    decision = bound.at(10.0, waiting(0, next_due_seconds=7.0), waiting(0, next_due_seconds=3.0))
    assert (decision.due_at, decision.wake_at) == (13.0, 13.0)
    bound.now = 13.05
    assert bound.decide([None, None]).due_at == 13.0  # whatever else was decided just then: look at the queue
    bound.now = 14.0
    decision = bound.decide([None, None])
    assert decision.due_at == 17.0  # that look is on its way; here is the next
    bound.now = 18.0
    assert bound.decide([None, None]).due_at == NEVER


def test_what_a_queue_said_of_due_work_is_forgotten_while_it_cannot_be_read() -> None:
    bound = Bound(spec_of(), written=1)
    bound.at(10.0, waiting(0, next_due_seconds=7.0))
    decision = bound.at(11.0, REFUSED)
    assert (decision.due_at, decision.wake_at) == (NEVER, NEVER)


def test_views_show_what_was_measured() -> None:
    bound = Bound(two_queues())
    bound.at(0.0, waiting(1, 1, arrived=10, completed=5), None)
    decision = bound.at(10.0, waiting(1, 1, arrived=60, completed=55), REFUSED)
    first, second = decision.triggers
    assert (first.arrival_rate, first.service_seconds, first.replicas, first.active) == (5.0, 0.2, 2, True)
    assert (second.reading, second.failure, second.replicas) == (None, "ConnectionRefused", None)
    assert second.message.startswith("127.0.0.1:6379 refuses connections")


def test_the_first_failing_trigger_gives_ready_its_reason() -> None:
    decision = Bound(two_queues()).at(1.0, QueueReadFailed("WrongType", "a string"), REFUSED)
    ready = decision.conditions[0]
    assert (ready.type, ready.status, ready.reason) == ("Ready", ConditionStatus.FALSE, "ConnectionRefused")
    assert "mails: a string" in ready.message


def test_scaling_is_false_while_the_count_is_frozen() -> None:
    scaling = {each.type: each for each in Bound(spec_of(suspend=True)).at(1.0, waiting(1)).conditions}["Scaling"]
    assert (scaling.status, scaling.reason) == (ConditionStatus.FALSE, ScaleReason.SUSPENDED)


def test_a_look_is_asked_for_each_trigger() -> None:
    with pytest.raises(ValueError, match="shorter"):
        decide(two_queues(), [None], Counts(0, 0, 0), ScalingMemory(), 0.0)


def test_an_absurd_number_is_as_much_as_is_allowed() -> None:
    assert (
        Bound(spec_of(behavior={"scaleUp": {"policies": [{"type": "Replicas", "value": 100, "period": 1}]}}))
        .at(1.0, QueueReading(1e300))
        .replicas
        == 10
    )


def test_work_that_has_just_come_is_something_to_do_whatever_its_age() -> None:
    bound = Bound(spec_of(trigger={"metric": "age", "target": 30}))
    assert bound.at(1.0, waiting(1, oldest_seconds=0.0)).replicas == 1
    assert bound.at(2.0, waiting(1, oldest_seconds=30.0)).triggers[0].replicas is None


@pytest.mark.parametrize(("found", "replicas"), [(13, 13), (12, 10), (11, 10), (9, 9), (10, 10)])
def test_each_direction_has_its_own_tolerance(found: int, replicas: int) -> None:
    rules = {
        "scaleUp": {"tolerance": 0.25, "policies": [{"type": "Replicas", "value": 99, "period": 1}]},
        "scaleDown": {"tolerance": 0.05, "stabilizationWindow": 0},
    }
    assert Bound(spec_of(behavior=rules, maxReplicaCount=20), written=10).at(1.0, waiting(found)).replicas == replicas


@pytest.mark.parametrize(("run_once", "replicas"), [(False, 6), (True, 4)])
def test_age_starts_no_more_run_once_processes_than_there_are_pieces(run_once: bool, replicas: int) -> None:
    bound = Bound(spec_of(trigger={"metric": "age", "target": 10}), written=3, run_once=run_once)
    assert bound.at(1.0, waiting(2, 2, oldest_seconds=90)).replicas == replicas


@pytest.mark.parametrize(
    ("trigger", "most"),
    [
        ({"target": 1}, 1000),
        ({"target": 5000}, 100_001),
        ({"target": 1, "activationTarget": 70_000}, 70_001),
        ({"target": 1e9}, 1_000_001),
        ({"metric": "latency", "target": 5}, 1_000_000),
        ({"metric": "age", "target": 5}, 1_000_000),
    ],
)
def test_drivers_need_not_count_further_than_decisions_look(trigger: dict[str, object], most: int) -> None:
    spec = spec_of(trigger=trigger)
    assert counted_at_most(spec, spec.triggers[0]) == most


def test_what_never_comes_is_no_reason_to_wake() -> None:
    assert Bound(spec_of(stallTimeout="infinity")).at(1.0, waiting(3, 0)).wake_at == NEVER


def test_every_reason_and_every_condition_has_its_meaning() -> None:
    assert set(REASONS) == set(ScaleReason)
    spec = spec_of(stallTimeout=1.0, fallback={"failureThreshold": 1}, maxReplicaCount=1)
    bound = Bound(spec.model_copy(update={"triggers": (spec.triggers[0], *two_queues().triggers)}))
    for now in (1.0, 2.0, 4.0):
        decision = bound.at(now, waiting(9, 0), REFUSED, waiting(9), ready=1, follow=False)
    assert {each.type for each in decision.conditions} == set(CONDITIONS)
