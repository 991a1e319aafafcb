"""What an answer of the controller means to a person: rows, one-word states, and what is not as wished. Pure.

Conditions follow Kubernetes: a few are good when True, all others report something abnormal. Types that this release
does not know are shown, never dropped.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from reconciler.cli.text import age, age_of, duration, exit_text, moment, plain

Json = dict[str, Any]

GOOD_WHEN_TRUE = frozenset({"Available", "Progressing", "DependenciesReady", "Ready"})
HARMLESS = frozenset({"Active", "Bound", "Limited", "Scaling"})
"""Neither good nor bad, whatever they are."""

REMARKS = frozenset({"Overridden", "RunsAsRoot", "NotYetSupported", "Doubtful", "RolledBack"})
"""Abnormal and wished, or not the Program's fault: told, but no reason for an exit code."""

PROGRAM_HEADER = ("NAME", "READY", "UP-TO-DATE", "AVAILABLE", "RESTARTS", "AGE", "STATE")
PROCESS_HEADER = ("NAME", "STATE", "READY", "PID", "RESTARTS", "AGE", "LAST EXIT")


class Finding(NamedTuple):
    """One condition that is not as wished."""

    subject: str
    type: str
    text: str
    is_remark: bool


def name_of(thing: Json) -> str:
    """The object's name."""
    return str(thing.get("metadata", {}).get("name", "?"))


def reference(thing: Json) -> str:
    """`program/web`."""
    return f"{str(thing.get('kind', 'Program')).lower()}/{name_of(thing)}"


def conditions_of(thing: Json) -> dict[str, Json]:
    """The object's conditions by type."""
    found = thing.get("status", {}).get("conditions") or ()
    return {str(condition.get("type")): condition for condition in found}


def processes_of(thing: Json) -> list[Json]:
    """The object's processes by ordinal."""
    return list(thing.get("status", {}).get("processes") or ())


def generation_of(thing: Json) -> int:
    """The counter of the object's spec."""
    return int(thing.get("metadata", {}).get("generation") or 0)


def is_available(thing: Json, generation: int = 0) -> bool:
    """Whether the object is Available, and that was seen of this generation or a later one."""
    condition = conditions_of(thing).get("Available", {})
    observed = condition.get("observedGeneration", thing.get("status", {}).get("observedGeneration"))
    return condition.get("status") == "True" and int(observed or 0) >= generation


def is_rolled_out(thing: Json, generation: int) -> bool:
    """Whether all that `generation` asks for is there: the object Available, and each replica replaced and available.

    Available alone is true while a rollout is under way, within maxUnavailable.
    """
    status = thing.get("status", {})
    if int(status.get("observedGeneration") or 0) < generation or not is_available(thing, generation):
        return False
    wanted = int(status.get("replicas") or 0)
    done = sum(row.get("state") == "Succeeded" for row in processes_of(thing))
    is_updated = int(status.get("updatedReplicas") or 0) >= wanted
    return is_updated and int(status.get("availableReplicas") or 0) + done >= wanted


def failure_of(thing: Json, generation: int) -> str:
    """Why the object will not become Available by waiting; empty while it may."""
    status = thing.get("status", {})
    if int(status.get("observedGeneration") or 0) < generation:
        return ""
    progressing = conditions_of(thing).get("Progressing", {})
    if progressing.get("status") == "False":
        return _because(progressing)
    failed = [row for row in processes_of(thing) if row.get("state") == "Failed"]
    if failed and not is_available(thing):
        first = failed[0]
        return f"replica {first.get('replica')} failed ({exit_text(first.get('lastExit'))}) and is not to be run again"
    return ""


def state_of(thing: Json) -> str:
    """One word for the object, and what else is remarkable behind commas."""
    conditions = conditions_of(thing)
    words = [_main_state(thing, conditions)]
    words += [
        kind
        for kind in ("Invalid", "Conflict", "SourceSuspect", "Overridden")
        if conditions.get(kind, {}).get("status") == "True"
    ]
    return ",".join(dict.fromkeys(words))


def _main_state(thing: Json, conditions: dict[str, Json]) -> str:
    status = thing.get("status", {})
    if not status:
        return "Pending"
    progressing = conditions.get("Progressing", {})
    states = {row.get("state") for row in processes_of(thing)}
    if conditions.get("CrashLoop", {}).get("status") == "True":
        return "CrashLoop"
    if progressing.get("status") == "False":
        return "Stalled" if progressing.get("reason") == "ProgressDeadlineExceeded" else "Failed"
    if "Stopping" in states and not status.get("replicas"):
        return "Stopping"
    if not status.get("replicas") and _is_idle(thing, conditions):
        return "Idle"
    if not status.get("replicas"):
        return "Suspended" if thing.get("spec", {}).get("suspend") else "Stopped"
    if states == {"Succeeded"}:
        return "Succeeded"
    is_updated = int(status.get("updatedReplicas") or 0) >= int(status.get("replicas") or 0)
    if conditions.get("Available", {}).get("status") == "True":
        return "Available" if is_updated else "Updating"
    if "Failed" in states:
        return "Failed"
    if not is_updated:
        return "Updating"
    # On its way and nothing has gone wrong: no reason to be alarmed.
    fails = any(row.get("failures") for row in processes_of(thing))
    return "Starting" if progressing.get("reason") == "RollingOut" and not fails else "Unavailable"


def _is_idle(thing: Json, conditions: dict[str, Json]) -> bool:
    """Whether its queues have nothing to do for it; otherwise somebody stopped it."""
    bound = conditions.get("Bound", {}).get("status") == "True"
    return (
        bound and conditions.get("Overridden", {}).get("status") != "True" and not thing.get("spec", {}).get("suspend")
    )


def findings(thing: Json) -> Iterator[Finding]:
    """Every condition that is not as wished."""
    subject = reference(thing)
    conditions = conditions_of(thing)
    is_crash_loop = conditions.get("CrashLoop", {}).get("status") == "True"
    if "Available" not in conditions and thing.get("kind", "Program") == "Program":
        yield Finding(subject, "Available", "not known yet", False)
    for kind, condition in conditions.items():
        status = condition.get("status")
        if kind in HARMLESS:
            continue
        if kind in GOOD_WHEN_TRUE:
            if status == "True" or (kind == "Available" and is_crash_loop):  # the crash loop says why
                continue
            if kind != "Available" and status == "Unknown":
                continue
            label = f"not {kind}"
        elif status != "True":
            continue
        else:
            label = kind
        yield Finding(subject, label, _because(condition), kind in REMARKS)


def program_header(*, wide: bool = False) -> tuple[str, ...]:
    """What stands above the cells of `program_row`."""
    return (*PROGRAM_HEADER, "REVISION", "SOURCE", "COMMAND") if wide else PROGRAM_HEADER


def program_row(thing: Json, at: float, *, wide: bool = False) -> list[str]:
    """One Program as cells."""
    status, metadata = thing.get("status", {}), thing.get("metadata", {})
    restarts = sum(int(row.get("restarts") or 0) for row in processes_of(thing))
    row = [
        plain(name_of(thing)),
        f"{status.get('readyReplicas') or 0}/{_wanted(thing)}",
        str(status.get("updatedReplicas") or 0),
        str(status.get("availableReplicas") or 0),
        str(restarts),
        age_of(metadata.get("creationTimestamp"), at),
        state_of(thing),
    ]
    if wide:
        row += [plain(str(status.get("revision") or "-")), plain(str(metadata.get("source") or "-")), command_of(thing)]
    return row


def process_header(*, wide: bool = False) -> tuple[str, ...]:
    """What stands above the cells of `process_row`."""
    if not wide:
        return PROCESS_HEADER
    return (*PROCESS_HEADER[:-1], "REVISION", "RUNS", "CAUSE", "PROCESS", PROCESS_HEADER[-1])


def process_row(row: Json, at: float, *, wide: bool = False) -> list[str]:
    """One process as cells."""
    is_alive = row.get("pid") is not None and row.get("state") in ("Starting", "Running", "Stopping")
    cells = [
        f"{row.get('program', '?')}/{row.get('replica', '?')}",
        str(row.get("state", "-")),
        "yes" if row.get("ready") else "no",
        str(row["pid"]) if is_alive else "-",
        str(row.get("restarts") or 0),
        age_of(row.get("startedAt"), at) if is_alive else "-",
    ]
    if wide:
        cells += [str(row.get(key) or "-") for key in ("revision", "runs", "cause", "name")]
    cells.append(last_exit_text(row, at))
    return cells


def last_exit_text(row: Json, at: float) -> str:
    """`code 1, 5s ago; next start in 12s`."""
    last_exit = row.get("lastExit")
    parts = []
    if isinstance(last_exit, dict):
        ended = moment(last_exit.get("at"))
        parts.append(exit_text(last_exit) + (f", {age(at - ended)} ago" if ended else ""))
    waits_for = next_start_text(row, at)
    if waits_for:
        parts.append(waits_for)
    return "; ".join(parts) or "-"


def next_start_text(row: Json, at: float) -> str:
    """When a replica in back-off is started again; empty when it is not."""
    next_start = moment(row.get("nextStartAt"))
    if next_start is None or row.get("state") not in ("BackOff", "Pending"):
        return ""
    return f"next start in {duration(next_start - at)}" if next_start > at else "next start now"


def is_failing(row: Json) -> bool:
    """Whether a replica's last log lines are worth showing."""
    if row.get("state") in ("BackOff", "Failed"):
        return True
    return bool(row.get("failures")) and not row.get("ready")


def command_of(thing: Json) -> str:
    """The command as one would type it."""
    command = thing.get("spec", {}).get("command") or "-"
    if isinstance(command, str):
        return plain(command)
    from shlex import join

    return plain(join(str(word) for word in command))


def colour_of(state: str) -> str:
    """Green is well, yellow is on its way, red wants somebody."""
    word, _, remark = state.partition(",")
    if word in ("CrashLoop", "Stalled", "Failed", "BackOff", "Unavailable", "Unknown"):
        return "red"
    if word in ("Updating", "Pending", "Starting", "Stopping") or remark:
        return "yellow"
    return "green" if word in ("Available", "Running", "Succeeded") else ""


def _wanted(thing: Json) -> int:
    status = thing.get("status", {})
    return int(status["replicas"] if status.get("replicas") is not None else thing.get("spec", {}).get("replicas", 1))


def _because(condition: Json) -> str:
    return plain(str(condition.get("message") or condition.get("reason") or "no reason given"))
