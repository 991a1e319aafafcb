"""`describe` and `events`: all there is to know about a Program, and what happened. For people; not to be parsed."""

import sys
import time
from collections.abc import Iterator
from typing import Any

import click

from reconciler.cli import summary
from reconciler.cli.details import event_line, event_table, show_conditions, show_events, yaml_text
from reconciler.cli.exits import DONE, NOT_FOUND
from reconciler.cli.output import note, say
from reconciler.cli.session import (
    REPLICA_TARGET,
    Session,
    Target,
    binding_names,
    not_found,
    pass_session,
    with_nearest,
)
from reconciler.cli.text import age_of, exit_text, now, paint, plain, time_of_day
from reconciler.client import ApiFailure, Client, ClientError

Json = dict[str, Any]

FAILING_SHOWN = 3  # replicas whose last lines are printed: they mostly say the same
LAST_LINES = 10
_RECONNECT_SECONDS = 0.2


@click.command()
@click.argument(
    "names", nargs=-1, required=True, metavar="NAME[/REPLICA]...", shell_complete=REPLICA_TARGET.shell_complete
)
@pass_session
def describe(session: Session, names: tuple[str, ...]) -> int:
    """Show all there is to know about a Program, one of its replicas, or a QueueBinding.

    Spec, conditions, why each process was started, how the last runs ended, the last log lines of what fails, events.

    \b
    reconciler describe web
    reconciler describe web/3
    reconciler describe qb/mails
    """
    client = session.client()
    bound = binding_names(names, required=True)
    if bound is not None:
        from reconciler.cli import bindings

        for name in bound:
            bindings.described(client, name)
        return DONE
    targets = [REPLICA_TARGET.convert(name, None, None) for name in names]
    for index, target in enumerate(targets):
        if index:
            say("\n")
        try:
            thing = client.program(target.name)
        except ApiFailure as failure:
            raise with_nearest(client, target.name, failure) from None
        _describe(client, thing, target.ordinal)
    return DONE


def _describe(client: Client, thing: Json, ordinal: int | None) -> None:
    at = now()
    rows = [row for row in summary.processes_of(thing) if ordinal in (None, row.get("replica"))]
    if ordinal is not None and not rows:
        message = f"program/{summary.name_of(thing)} has no replica {ordinal}"
        raise ApiFailure(NOT_FOUND, "NotFound", message)
    if ordinal is None:
        _head(thing, at)
        _spec(thing)
        show_conditions(thing, at)
    _processes(thing, rows, at)
    _last_lines(client, summary.name_of(thing), [row for row in rows if summary.is_failing(row)])
    _events(client, summary.name_of(thing), ordinal, at)


def _head(thing: Json, at: float) -> None:
    metadata, status = thing.get("metadata", {}), thing.get("status", {})
    counts = ", ".join(
        f"{status.get(key) or 0} {word}"
        for key, word in (
            ("replicas", "wanted"),
            ("runningReplicas", "running"),
            ("readyReplicas", "ready"),
            ("availableReplicas", "available"),
            ("updatedReplicas", "up to date"),
        )
    )
    generation, observed = metadata.get("generation", "-"), status.get("observedGeneration", "-")
    state = summary.state_of(thing)
    facts = {
        "Name": summary.name_of(thing),
        "Kind": thing.get("kind", "Program"),
        "Source": metadata.get("source") or "-",
        "Labels": _pairs(metadata.get("labels")),
        "Annotations": _pairs(metadata.get("annotations")),
        "Generation": f"{generation}" if generation == observed else f"{generation} (acted on: {observed})",
        "Revision": status.get("revision") or "-",
        "Age": age_of(metadata.get("creationTimestamp"), at),
        "State": state,
        "Replicas": counts,
    }
    for key, value in facts.items():
        if value not in ("", "-"):
            text = plain(str(value))
            say(f"{key + ':':<13}{paint(text, summary.colour_of(text)) if key == 'State' else text}")


def _pairs(values: Any) -> str:
    return ", ".join(f"{key}={value}" for key, value in values.items()) if isinstance(values, dict) else ""


def _spec(thing: Json) -> None:
    say("Spec:")
    for line in yaml_text(thing.get("spec") or {}).splitlines():
        say(f"  {plain(line)}")


def _processes(thing: Json, rows: list[Json], at: float) -> None:
    say("Processes:" if rows else "Processes:   none")
    for row in rows:
        is_alive = row.get("pid") is not None
        state = str(row.get("state", "-"))
        head = [
            paint(state, summary.colour_of(state)),
            f"pid {row['pid']}" if is_alive else "",
            "ready" if row.get("ready") else "not ready",
            f"for {age_of(row.get('startedAt'), at)}" if is_alive and row.get("startedAt") else "",
        ]
        say(f"  {summary.name_of(thing)}/{row.get('replica')}: {', '.join(part for part in head if part)}")
        for key, text in _process_facts(row, at):
            say(f"    {key + ':':<12}{text}")


def _process_facts(row: Json, at: float) -> Iterator[tuple[str, str]]:
    """What is known of one replica, the unusual first."""
    if row.get("message"):
        yield "Message", plain(str(row["message"]))
    last_exit = row.get("lastExit")
    if isinstance(last_exit, dict):
        outcome = f"{last_exit['outcome']}, " if last_exit.get("outcome") else ""
        ran = f", ran {last_exit['ran']}" if last_exit.get("ran") else ""
        yield "Last exit", plain(f"{outcome}{exit_text(last_exit)}{ran}, {age_of(last_exit.get('at'), at)} ago")
    if row.get("failures"):
        yield "Failures", f"{row['failures']} in a row"
    if waits_for := summary.next_start_text(row, at):
        yield "Back-off", waits_for
    if row.get("stoppingSince"):
        kill_at = row.get("killAt")
        until = f", killed at {time_of_day(kill_at)}" if kill_at else ", no kill: it may end in its own time"
        yield "Stopping", f"for {age_of(row['stoppingSince'], at)}{until}"
    if row.get("cause"):
        yield "Cause", plain(str(row["cause"]))
    revision = f"{row.get('revision') or '-'}" + (f", restart {row['epoch']}" if row.get("epoch") else "")
    yield "Revision", plain(revision)
    yield "Runs", f"{row.get('runs') or 0}, {row.get('restarts') or 0} restarts"


def _last_lines(client: Client, name: str, rows: list[Json]) -> None:
    for row in rows[:FAILING_SHOWN]:
        say(f"Last lines of {name}/{row.get('replica')}:")
        for line in last_lines(client, name, row.get("replica")):
            say(f"  {paint('|', 'dim')} {line}")
    if len(rows) > FAILING_SHOWN:
        say(f"  {len(rows) - FAILING_SHOWN} more fail; see `reconciler logs {name}/REPLICA`")


def last_lines(client: Client, name: str, ordinal: int | None) -> list[str]:
    """The last lines that a replica wrote, or why there are none."""
    try:
        text = b"".join(client.logs(name, replica=ordinal, tail=LAST_LINES)).decode(errors="replace")
    except ClientError as failure:
        return [f"(no log: {plain(str(failure))})"]
    return [plain(line) for line in text.splitlines()[-LAST_LINES:]] or ["(it wrote nothing)"]


def _events(client: Client, name: str, ordinal: int | None, at: float) -> None:
    show_events(client, name, "Program", at, ordinal)


# -- events ------------------------------------------------------------------------------------------------------------


@click.command()
@click.argument("target", required=False, type=REPLICA_TARGET, metavar="[NAME[/REPLICA]]")
@click.option("-w", "--watch", is_flag=True, help="Go on printing what happens.")
@click.option("-o", "--output", type=click.Choice(["json"]), help="One JSON object per line.")
@pass_session
def events(session: Session, target: Target | None, watch: bool, output: str | None) -> int:
    """Show what happened: starts, ends, edits, refusals, and why.

    \b
    reconciler events                  everything that is remembered
    reconciler events web -w           web's, and what follows
    """
    client = session.client()
    name = target.name if target else ""
    found = [event for event in client.events(name) if _concerns(event, target)]
    if target and not found:
        _must_exist(client, target.name)
    if output:
        for event in found:
            say(_json_line(event))
    elif found:
        say(event_table(found, now()))
    elif not watch:
        note("no events found")
    if watch:
        _follow(client, name, target, output)
    return DONE


def _follow(client: Client, name: str, target: Target | None, output: str | None) -> None:
    while True:
        sys.stdout.flush()
        for event in client.watch_events(name):
            if _concerns(event, target):
                say(_json_line(event) if output else event_line(event))
                sys.stdout.flush()
        note("the controller ended the stream; listening again")
        time.sleep(_RECONNECT_SECONDS)


def _concerns(event: Json, target: Target | None) -> bool:
    return target is None or target.ordinal is None or event.get("ordinal") == target.ordinal


def _must_exist(client: Client, name: str) -> None:
    from reconciler.cli.session import known_names

    names = known_names(client)
    if name not in names:
        raise not_found(name, names)


def _json_line(event: Json) -> str:
    import json

    return json.dumps(event, ensure_ascii=False)
