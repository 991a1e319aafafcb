"""QueueBindings for people: rows of `get qb`, `describe qb/NAME`, their part of `status`."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from reconciler.cli import summary
from reconciler.cli.details import document, show_conditions, show_events
from reconciler.cli.exits import DONE, NOT_FOUND
from reconciler.cli.output import note, say
from reconciler.cli.session import nearest
from reconciler.cli.tables import Table
from reconciler.cli.text import age_of, duration, now, plain, wrapped
from reconciler.cli.watching import Form, watch
from reconciler.client import ApiFailure, Client

Json = dict[str, Any]

HEADER = ("NAME", "PROGRAM", "WAITING", "IN WORK", "RUNNING", "DESIRED", "STATE")
WIDE_HEADER = (*HEADER[:-1], "MIN", "MAX", "OLDEST", "RATE/S", "SECONDS EACH", "STATE", "REASON", "MESSAGE")
_STATE_COLUMN = len(HEADER) - 1


def listed(client: Client, names: Sequence[str], selector: str, output: str | None) -> int:
    """`get qb` in any of its forms."""
    things = chosen(client, names, selector)
    if output in (None, "wide"):
        if things:
            say(table(things, wide=output == "wide"))
        else:
            note("no queuebindings found" + (f" with labels {plain(selector)}" if selector else ""))
    elif output == "name":
        for thing in things:
            say(summary.reference(thing))
    elif len(things) == 1 and len(names) == 1:
        say(document(things[0], str(output)))
    else:
        say(document({"apiVersion": "reconciler/v1", "kind": "List", "items": things}, str(output)))
    return DONE


def chosen(client: Client, names: Sequence[str], selector: str = "") -> list[Json]:
    """The bindings that were asked for by name, in that order; all of them when none was."""
    things = client.queuebindings(selector)
    by_name = {summary.name_of(thing): thing for thing in things}
    for name in names:
        if name not in by_name and not selector:
            raise not_found(name, sorted(by_name))
    return [by_name[name] for name in dict.fromkeys(names) if name in by_name] if names else things


def not_found(name: str, known: Sequence[str]) -> ApiFailure:
    """With the name that was probably meant."""
    return ApiFailure(NOT_FOUND, "NotFound", f"queuebinding/{name} not found{nearest(name, known)}")


def table(things: Iterable[Json], *, wide: bool = False) -> str:
    """One row per binding."""
    column = WIDE_HEADER.index("STATE") if wide else _STATE_COLUMN
    shown = Table(
        WIDE_HEADER if wide else HEADER, lambda index, cell: _colour(cell) if index == column else "", cut=not wide
    )
    return shown.render([row(thing, wide=wide) for thing in things])


def row(thing: Json, *, wide: bool = False) -> list[str]:
    """One binding as cells."""
    status, spec = thing.get("status", {}), thing.get("spec", {})
    triggers = status.get("triggers") or []
    cells = [
        plain(summary.name_of(thing)),
        plain(str(status.get("program") or "-")),
        _sum(triggers, "waiting"),
        _sum(triggers, "reserved"),
        str(status.get("runningReplicas") or 0),
        str(status.get("desiredReplicas", "-")),
    ]
    if not wide:
        return [*cells, state_of(thing)]
    oldest = [each["oldestSeconds"] for each in triggers if each.get("oldestSeconds") is not None]
    served = [each["serviceSeconds"] for each in triggers if each.get("serviceSeconds") is not None]
    return [
        *cells,
        str(spec.get("minReplicaCount", 0)),
        str(spec.get("maxReplicaCount", "-")),
        duration(max(oldest)) if oldest else "-",
        _sum(triggers, "arrivalsPerSecond"),
        f"{max(served):g}" if served else "-",
        state_of(thing),
        plain(str(status.get("reason") or "-")),
        plain(str(status.get("message") or "-")),
    ]


def _sum(triggers: Iterable[Json], key: str) -> str:
    known = [each[key] for each in triggers if each.get(key) is not None]
    more = "+" if any(each.get("atLeast") for each in triggers) and key == "waiting" else ""
    return f"{sum(known):g}{more}" if known else "-"


def state_of(thing: Json) -> str:
    """One word, and what else is remarkable behind commas."""
    conditions = {kind: c.get("status") for kind, c in summary.conditions_of(thing).items()}
    status = thing.get("status", {})
    words = [kind for kind in ("TargetNotFound", "Conflict", "Invalid") if conditions.get(kind) == "True"]
    if not words and "reason" not in status:
        words = ["Asking"]
    elif conditions.get("Ready") == "False":
        words.append("Fallback" if conditions.get("Fallback") == "True" else "Unreadable")
    elif conditions.get("Stalled") == "True":
        words.append("Stalled")
    elif not words:
        words.append({True: "Active", False: "Idle"}.get(status.get("active"), "Unknown"))
    if conditions.get("Overridden") == "True":
        words.append("Overridden")
    return ",".join(words)


def _colour(state: str) -> str:
    word, _, remark = state.partition(",")
    if word in ("TargetNotFound", "Conflict", "Invalid", "Unreadable", "Fallback", "Stalled"):
        return "red"
    return "yellow" if remark or word in ("Asking", "Unknown") else "green" if word == "Active" else ""


def described(client: Client, name: str) -> None:
    """`describe qb/NAME`."""
    at = now()
    (thing,) = chosen(client, [name])
    say(f"{'Name:':<13}{summary.name_of(thing)}")
    for key, text in _facts(thing, at):
        say(f"{key + ':':<13}{text}")
    show_triggers(thing)
    show_conditions(thing, at)
    show_events(client, name, "QueueBinding", at)


def _facts(thing: Json, at: float) -> Iterator[tuple[str, str]]:
    metadata, spec, status = thing.get("metadata", {}), thing.get("spec", {}), thing.get("status", {})
    yield "Kind", "QueueBinding"
    yield "Program", plain(str(status.get("program") or "-"))
    yield "Source", plain(str(metadata.get("source") or "-"))
    yield "Age", age_of(metadata.get("creationTimestamp"), at)
    yield "State", state_of(thing)
    bounds = f"{spec.get('minReplicaCount', 0)} to {spec.get('maxReplicaCount', '-')}"
    counts = f"{status.get('desiredReplicas', '-')} desired of {bounds}, {status.get('runningReplicas') or 0} running"
    yield "Replicas", counts
    if status.get("reason"):
        yield "Reason", plain(f"{status['reason']}: {status.get('message', '')}")
    if status.get("lastActiveTime"):
        yield "Last active", f"{age_of(status['lastActiveTime'], at)} ago"


def show_triggers(thing: Json) -> None:
    """What each queue said, and what follows from it."""
    triggers = thing.get("status", {}).get("triggers") or []
    say("Triggers:" if triggers else "Triggers:    have not answered yet")
    for each in triggers:
        asks = each.get("asksFor")
        asked = "no opinion" if asks is None else f"asks for {asks}"
        say(f"  {plain(str(each.get('name', '?')))}: {'cannot be read' if each.get('failure') else asked}")
        say(wrapped(plain(str(each.get("message") or "")), "    "))
        if each.get("found"):
            say(wrapped(plain(str(each["found"])), "    "))


def watched(client: Client, names: Sequence[str], selector: str, output: str | None) -> int:
    """`get qb -w`: what there is, then every change, over restarts of the controller too."""
    chosen(client, names, selector)  # a wrong name shall not wait for ever
    return watch(
        lambda: client.watch_queuebindings(selector),
        lambda thing: not names or summary.name_of(thing) in names,
        _form(output),
    )


def _form(output: str | None) -> Form:
    wide = output == "wide"
    header = WIDE_HEADER if wide else HEADER

    def cells(thing: Json, gone: bool) -> list[str]:
        shown = row(thing, wide=wide)
        if gone:
            shown[header.index("STATE")] = "Deleted"
        return shown

    return Form(
        lambda thing: [(summary.name_of(thing), thing)],
        Table(header, cut=not wide) if output in (None, "wide") else None,
        cells,
        lambda thing: _line(thing, str(output)),
        face=lambda thing: row(thing, wide=wide) if output in (None, "wide") else thing,
    )


def _line(thing: Json, output: str) -> str:
    if output == "name":
        return summary.reference(thing)
    return json.dumps(thing, ensure_ascii=False) if output == "json" else f"---\n{document(thing, 'yaml')}"
