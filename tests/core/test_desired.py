"""Desired: the spec, the operator's wishes and what lies over both, merged."""

from dataclasses import replace
from typing import Any

from reconciler.core.desired import Bound, Identity, Phase, desired_program
from reconciler.model.manifest import program_from_canonical
from reconciler.model.overrides import Overrides, RestartWish, ScaleWish, StopWish, Wish
from reconciler.model.state import NEVER, Cause, Desired, RestartPolicy

WISH = Wish("root", 0.0)


def desired(overrides: Overrides = Overrides(), phase: Phase = Phase(), **spec: Any) -> Desired:  # noqa: B008
    canonical = {"command": ["/bin/true"], "workingDir": "/", "replicas": 6, **spec}
    return desired_program(Identity("web", "u1", 3), program_from_canonical(canonical), "r2", ["r1"], overrides, phase)


def test_the_spec_alone() -> None:
    wanted = desired(restartPolicy="OnFailure", successExitCodes=[0, "TERM"], strategy={"maxUnavailable": "50%"})
    assert (wanted.replicas, wanted.kept, wanted.max_unavailable) == (6, 6, 3)
    assert (wanted.restart_policy, wanted.success_signals) == (RestartPolicy.ON_FAILURE, frozenset({15}))
    assert wanted.startable == {"r1", "r2"}
    assert wanted.grace_period == 30.0


def test_run_once_work_is_given_all_the_time_it_needs() -> None:
    assert desired().run_once_grace_period == NEVER
    assert desired(terminationGracePeriod=5).run_once_grace_period == 5
    assert desired(runOnce=True).grace_period == 30  # what was started before it became run-once work


def test_a_count_from_an_operator_goes_before_the_written_one() -> None:
    wanted = desired(Overrides(scale=ScaleWish(9, 6, WISH)))
    assert (wanted.replicas, wanted.kept) == (9, 9)


def test_a_count_from_a_binding_goes_before_the_written_one_and_behind_the_operators() -> None:
    def bound(overrides: Overrides) -> Desired:
        spec = program_from_canonical({"command": ["/bin/true"], "workingDir": "/", "replicas": 6})
        return desired_program(Identity("web", "u1", 3), spec, "r2", ["r1"], overrides, bound=Bound(2, 8))

    assert (bound(Overrides()).replicas, bound(Overrides()).kept) == (2, 8)
    assert bound(Overrides(scale=ScaleWish(9, 6, WISH))).replicas == 9


def test_a_count_may_stand_for_any_ordinals() -> None:
    wanted = replace(desired(Overrides(stop=StopWish((3,), False, WISH))), replicas=2, chosen=frozenset({3, 1}))
    assert list(wanted.ordinals()) == [1, 3]
    assert [wanted.counts(o) for o in (0, 1, 3)] == [False, True, True]
    assert [wanted.wants(o) for o in (0, 1, 3)] == [False, True, False]


def test_what_is_suspended_or_stopped_is_not_wanted_and_remembered() -> None:
    assert (desired(suspend=True).replicas, desired(suspend=True).stop_cause) == (0, Cause.SUSPENDED)
    stopped = desired(Overrides(stop=StopWish(None, True, WISH)))
    assert (stopped.replicas, stopped.kept, stopped.stop_cause) == (0, 6, Cause.STOPPED_BY_OPERATOR)
    assert stopped.kill_now


def test_single_replicas_that_are_stopped() -> None:
    wanted = desired(Overrides(stop=StopWish((2,), False, WISH)))
    assert (wanted.wants(1), wanted.wants(2), wanted.wants(6)) == (True, False, False)


def test_what_is_deleted_is_remembered_until_its_last_process_is_gone() -> None:
    wanted = desired(phase=Phase(deleted=True))
    assert (wanted.replicas, wanted.kept, wanted.stop_cause) == (0, 6, Cause.PROGRAM_DELETED)


def test_draining_wants_nothing_and_forgets_nothing() -> None:
    wanted = desired(Overrides(stop=StopWish(None, False, WISH)), Phase(draining=True, kill_now=True))
    assert (wanted.replicas, wanted.kept, wanted.stop_cause, wanted.kill_now) == (0, 6, Cause.SHUTTING_DOWN, True)


def test_restarts_are_counters_for_all_and_for_single_replicas() -> None:
    wanted = desired(Overrides(restart=RestartWish(2, ((1, 3),), True, WISH)))
    assert (wanted.epoch_of(0), wanted.epoch_of(1), wanted.restart_now) == (2, 3, True)


def test_recreate() -> None:
    assert desired(strategy={"type": "Recreate"}).recreate
