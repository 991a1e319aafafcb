"""From a spec, its revision and the operator's wishes to what is wanted now."""

from collections.abc import Iterable
from typing import NamedTuple

from reconciler.model.overrides import Overrides
from reconciler.model.program import DEFAULT_GRACE_SECONDS, ProgramSpec
from reconciler.model.state import NEVER, Backoff, Cause, Desired, RestartPolicy


class Identity(NamedTuple):
    """Which object, and which of its spec edits."""

    name: str
    uid: str
    generation: int


class Phase(NamedTuple):
    """What lies over all specs: the object is being deleted, the controller is draining, nobody waits any longer."""

    deleted: bool = False
    draining: bool = False
    kill_now: bool = False


STANDING = Phase()


class Bound(NamedTuple):
    """What a binding asks for: a count, and the most it may ever ask for; and which binding it is, for messages."""

    replicas: int
    most: int
    by: str = ""


def desired_program(
    identity: Identity,
    spec: ProgramSpec,
    revision: str,
    startable: Iterable[str],
    overrides: Overrides,
    phase: Phase = STANDING,
    bound: Bound | None = None,
) -> Desired:
    """Merge everything that has a say. `overrides` are those in force now, `bound` what a binding asks for."""
    asked = _asked(spec, overrides, bound)
    replicas, stop_cause = _count(spec, overrides, phase, asked)
    stop, restart = overrides.stop, overrides.restart
    written_grace = spec.termination_grace_period
    return Desired(
        name=identity.name,
        uid=identity.uid,
        generation=identity.generation,
        revision=revision,
        startable=frozenset((*startable, revision)),
        replicas=replicas,
        kept=max(asked, replicas, bound.most if bound else 0),
        stop_cause=stop_cause,
        stopped_ordinals=frozenset(stop.ordinals or ()) if stop else frozenset(),
        kill_now=phase.kill_now or (stop is not None and stop.now),
        run_once=spec.run_once,
        restart_policy=RestartPolicy(spec.restart_policy),
        success_exit_codes=spec.success_codes,
        success_signals=spec.success_signals,
        backoff=_backoff(spec),
        min_restart_interval=spec.min_restart_interval,
        grace_period=DEFAULT_GRACE_SECONDS if written_grace is None else written_grace,
        run_once_grace_period=NEVER if written_grace is None else written_grace,
        min_ready=spec.min_ready_seconds,
        recreate=spec.strategy.type == "Recreate",
        max_unavailable=spec.max_unavailable(replicas),
        progress_deadline=spec.progress_deadline,
        epoch=restart.epoch if restart else 0,
        replica_epochs=dict(restart.ordinals) if restart else {},
        restart_now=restart.now if restart else False,
    )


def _asked(spec: ProgramSpec, overrides: Overrides, bound: Bound | None) -> int:
    """An operator's count, else the binding's, else the written one."""
    if overrides.scale is not None:
        return overrides.scale.replicas
    return spec.replicas if bound is None else bound.replicas


def _count(spec: ProgramSpec, overrides: Overrides, phase: Phase, asked: int) -> tuple[int, Cause]:
    """How many are wanted, and what a process that is one too many is told."""
    if phase.deleted:
        return 0, Cause.PROGRAM_DELETED
    if phase.draining:
        return 0, Cause.SHUTTING_DOWN
    if overrides.stop is not None and overrides.stop.ordinals is None:
        return 0, Cause.STOPPED_BY_OPERATOR
    if spec.suspend:
        return 0, Cause.SUSPENDED
    return asked, Cause.SCALED_DOWN


def _backoff(spec: ProgramSpec) -> Backoff:
    written = spec.restart_backoff
    return Backoff(written.initial, written.factor, written.max, written.jitter, written.reset_after)
