"""Builds the three inputs of a decision from a few words: the language of tests/plans/*.yaml and of the core's tests.

replicas:
  0: {runs: r1, since: 90}                        a process of revision r1, started at 90
  1: {runs: r1, since: 90, proven: true}          the run before it succeeded
  2: {runs: r1, stopping: ScaledDown, kill_at: 130, killed: true, ended: true}
  3: {exited: Failed, at: 99, failures: 2}        nothing runs; how the last run ended
  4: {exited: Succeeded, done: true}              and is not to be repeated
"""

from collections.abc import Mapping
from typing import Any

from reconciler.model.identity import ProcessId
from reconciler.model.state import (
    NEVER,
    Backoff,
    Cause,
    Desired,
    Exit,
    History,
    Memory,
    Observed,
    Outcome,
    Process,
    RestartPolicy,
    Stopping,
)

REVISION = "r1"


def desired(**words: Any) -> Desired:
    """A Desired of three replicas at revision r1 unless the words say otherwise."""
    fields: dict[str, Any] = {"name": "web", "uid": "u1", "generation": 1, "revision": REVISION, "replicas": 3}
    fields.update(words)
    fields["startable"] = frozenset({*fields.get("startable", ()), fields["revision"]})
    fields.setdefault("kept", fields["replicas"])
    if "backoff" in fields and not isinstance(fields["backoff"], Backoff):
        fields["backoff"] = Backoff(**fields["backoff"])
    for name, make in MAKERS.items():
        if name in fields:
            fields[name] = make(fields[name])
    return Desired(**fields)


MAKERS: dict[str, Any] = {
    "stop_cause": Cause,
    "restart_policy": RestartPolicy,
    "stopped_ordinals": frozenset,
    "chosen": frozenset,
    "success_exit_codes": frozenset,
    "success_signals": frozenset,
    "grace_period": float,
}


def world(replicas: Mapping[int, Mapping[str, Any]], work: int | None = None, **memory: Any) -> tuple[Observed, Memory]:
    """Observed and Memory from the words above; `work`: pieces of work that wait, where somebody counts them."""
    observed, remembered = Observed(work=work), Memory(**memory)
    for ordinal, words in replicas.items():
        if "runs" in words:
            observed.processes[ordinal] = _process(ordinal, words)
        remembered.histories[ordinal] = _history(words)
    return observed, remembered


def _process(ordinal: int, words: Mapping[str, Any]) -> Process:
    stopping = None
    if "stopping" in words:
        kill_at = float(words.get("kill_at", NEVER))
        stopping = Stopping(Cause(words["stopping"]), float(words.get("asked", 0)), kill_at, bool(words.get("killed")))
    return Process(
        id=ProcessId(1000 + ordinal, 7),
        spawn_id=f"s{ordinal}",
        revision=words["runs"],
        epoch=int(words.get("epoch", 0)),
        started_at=float(words.get("since", 0)),
        cause=Cause.NEW_REPLICA,
        stopping=stopping,
        ended=bool(words.get("ended")),
        run_once=bool(words.get("once")),
    )


def _history(words: Mapping[str, Any]) -> History:
    outcome = words.get("exited") or ("Succeeded" if words.get("proven") else None)
    revision = words.get("revision", words.get("runs", REVISION))
    at, epoch = float(words.get("at", words.get("since", 0))), int(words.get("epoch", 0))
    last = None
    if outcome is not None:
        code = None if outcome == "Unknown" else int(outcome == "Failed")
        last = Exit(Outcome(outcome), code, None, at, float(words.get("ran", 1)), revision, epoch)
    done = bool(words.get("done"))
    return History(
        failures=int(words.get("failures", 0)),
        last_exit=last,
        last_started_at=float(words.get("since", at - 1)),
        done_revision=revision if done else "",
        done_epoch=epoch if done else 0,
        done_outcome=Outcome(outcome) if done else None,
        runs=1,
        rested=bool(words.get("rested")),
    )
