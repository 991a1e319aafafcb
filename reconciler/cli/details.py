"""What the pages of Programs and of QueueBindings share: whole objects as text, conditions, events."""

import json
from typing import Any

from reconciler.cli import summary
from reconciler.cli.output import say
from reconciler.cli.tables import Table
from reconciler.cli.text import age_of, paint, plain, time_of_day, wrapped
from reconciler.client import Client

Json = dict[str, Any]

EVENTS_SHOWN = 15


def document(thing: Json, output: str) -> str:
    """An object, or a list of them, as JSON or YAML."""
    if output == "json":
        return json.dumps(thing, indent=2, ensure_ascii=False)
    return yaml_text(thing)


def yaml_text(thing: Json) -> str:
    """As YAML, keys in the order of the answer; the same text as in the state directory."""
    from reconciler.model.emit import to_yaml

    return to_yaml(thing).rstrip("\n")


def show_conditions(thing: Json, at: float) -> None:
    """All conditions with their messages."""
    conditions = summary.conditions_of(thing)
    rows = [
        [
            plain(kind),
            str(condition.get("status", "-")),
            plain(str(condition.get("reason") or "-")),
            age_of(condition.get("lastTransitionTime"), at),
        ]
        for kind, condition in conditions.items()
    ]
    if not rows:
        return
    say("Conditions:")
    header, *lines = Table(("TYPE", "STATUS", "REASON", "SINCE")).render(rows, indent="  ").splitlines()
    say(header)
    for line, condition in zip(lines, conditions.values(), strict=True):
        say(line)
        if condition.get("message"):
            say(wrapped(plain(str(condition["message"])), "    "))


def show_events(client: Client, name: str, kind: str, at: float, ordinal: int | None = None) -> None:
    """The last events of an object."""
    found = [
        event
        for event in client.events(name)
        if event.get("kind", kind) == kind and (ordinal is None or event.get("ordinal") in (None, ordinal))
    ]
    say("Events:" if found else "Events:      none")
    if found:
        say(event_table(found[-EVENTS_SHOWN:], at, indent="  "))


def event_line(event: Json) -> str:
    """One event in a stream, with its time of day."""
    is_warning = event.get("type") == "Warning"
    reason = paint(plain(str(event.get("reason", ""))), "yellow" if is_warning else "green")
    moment = paint(time_of_day(event.get("at")), "dim")
    return f"{moment} {_subject(event)} {reason} {_message(event)}".rstrip()


def event_table(found: list[Json], at: float, *, indent: str = "") -> str:
    """Events in columns, all of each message."""
    rows = [
        [
            age_of(event.get("at"), at),
            plain(str(event.get("type", ""))),
            _subject(event),
            plain(str(event.get("reason", ""))),
            _message(event),
        ]
        for event in found
    ]
    table = Table(
        ("LAST SEEN", "TYPE", "OBJECT", "REASON", "MESSAGE"),
        lambda _, cell: "yellow" if cell == "Warning" else "",
        cut=False,
    )
    return table.render(rows, indent=indent)


def _subject(event: Json) -> str:
    ordinal = event.get("ordinal")
    name = str(event.get("name") or "-")
    if event.get("kind", "Program") != "Program":
        name = f"{str(event['kind']).lower()}/{name}"
    return plain(name if ordinal is None else f"{name}/{ordinal}")


def _message(event: Json) -> str:
    count = event.get("count") or 1
    text = str(event.get("message") or "")
    cause = event.get("cause")
    if cause and str(cause) not in text:
        text += f" [{cause}]"
    return plain(text + (f" (x{count})" if count > 1 else ""))
