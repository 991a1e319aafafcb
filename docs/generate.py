"""Writes the reference pages that the code knows best: `make reference`. With --check: says which are out of date.

Names, types, defaults and options come from the code, one line of meaning for each from meanings.yaml. Neither can
have what the other has not.
"""

import sys
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent))

from reconciler.cli.main import CHAPTERS, cli  # noqa: E402
from reconciler.core.buckets import LIFE, RULES, STATES, ReplicaState  # noqa: E402
from reconciler.core.records import TAGS  # noqa: E402
from reconciler.core.scalewords import CONDITIONS as SCALE_CONDITIONS  # noqa: E402
from reconciler.core.scalewords import REASONS as SCALE_REASONS  # noqa: E402
from reconciler.engine.binding_verbs import CONDITIONS as OF_BINDINGS  # noqa: E402
from reconciler.engine.conditions import EXPLAINED  # noqa: E402
from reconciler.model.binding import QueueBindingSpec  # noqa: E402
from reconciler.model.contacts import Probe  # noqa: E402
from reconciler.model.fields import Reads  # noqa: E402
from reconciler.model.manifest import Config  # noqa: E402
from reconciler.model.program import ProgramFields, ProgramSpec  # noqa: E402
from reconciler.model.revision import ROLLING  # noqa: E402
from reconciler.model.state import NEVER, Cause, Outcome  # noqa: E402
from reconciler.model.support import SENTENCES  # noqa: E402
from reconciler.server.routes import BODY_LIMIT_BYTES, ROUTES, Route  # noqa: E402

NOTE = "<!-- Written by docs/generate.py; change meanings.yaml or the code, then `make reference`. -->\n"
MEANINGS: dict[str, dict[str, str]] = yaml.safe_load((DOCS / "meanings.yaml").read_text(encoding="utf-8"))


READERS = {
    "duration": "duration",
    "endless": "duration",
    "size": "size",
    "signal": "signal",
    "octal": "octal",
    "target": "number or duration",
}
FILLED_IN = {"workingDir": "the manifest's folder"}  # required of the model, not of who writes


class Row(NamedTuple):
    """One field of a manifest."""

    path: str
    values: str
    default: str


# ---- manifest.md ----


def manifest_page() -> str:
    """Every field of every kind."""
    parts = [
        NOTE,
        "# Manifest reference\n",
        "Every document has `apiVersion: reconciler/v1`, a `kind`, `metadata` with a `name` (and `labels` and"
        " `annotations`, if you like), and a `spec`.\n",
        "Durations are `500ms`, `30s`, `5m`, `1h30m` or a number of seconds. Sizes are `64Ki`, `50Mi`, `10MB` or a"
        " number of bytes. Dots in the tables stand for nesting, and for the elements of lists.\n",
        "## Program\n",
        "A field marked *rolls* is part of the revision: changing it replaces the processes, within `strategy`. All"
        " others take effect on running processes without a restart. A field marked *not yet* is accepted and checked"
        " but has no effect in this release; the condition `NotYetSupported` names it.\n",
        _table("program", rows(ProgramSpec, skip=Probe), _program_remark),
        "## Names in texts\n",
        "`$(NAME)` is put in when a process is started, in `command`, values of `env`, `workingDir`, `logs.path`,"
        " `logs.stderr` and `processName`. A name is a variable of the process's environment, `$(PROGRAM)`,"
        " `$(REPLICA)`, `$(REPLICA+3000)`, `$(REPLICA:02d)` or `$(REPLICAS)`; a text that uses the last one rolls when"
        " the count changes. `$$` is a dollar. A name that nobody knows stays as it is written, with a warning.\n",
        "## Warnings\n",
        "What is valid and hardly meant is told as a warning with file, line and column by `validate`, `diff`, `apply`"
        " and in the log, as far as the manifest alone tells: a name that nobody knows, a value from a file in the"
        " command line (every user of the host can read it in `ps`), a log path that does not come out absolute, a"
        " shell that stays between the stop signal and the program, a queue worker whose jobs may take longer than the"
        " grace period, a field without effect. What comes from `envFrom` is not known before the host is asked; the"
        " condition `Doubtful` (`describe`, `status`) tells what holds in the end. A controller that is root warns of"
        " each Program without `user`.\n",
        "## Probes\n",
        "`startupProbe`, `readinessProbe` and `livenessProbe` have the same fields.\n",
        _table("probe", rows(Probe)),
        "## QueueBinding\n",
        "Sets the count of a Program by what waits in queues. While it is there, it owns the Program's `replicas`."
        " Values in `metadata` are text; which keys there are depends on `type`, and each may be given as"
        " `<key>FromEnv`, the name of a variable of the Program's, or `<key>FromFile`, a path.\n",
        _table("binding", rows(QueueBindingSpec)),
        "## Config\n",
        "Settings of the controller, in `/etc/reconciler/config.yaml` or the file that `--config` names.\n",
        _table("config", rows(Config)),
    ]
    return "\n".join(parts)


def rows(model: type[BaseModel], prefix: str = "", skip: type[BaseModel] | None = None) -> Iterator[Row]:
    """The fields of a model, those of its parts included."""
    # What must be written comes first.
    for name, field in sorted(model.model_fields.items(), key=lambda item: not item[1].is_required()):
        path = prefix + (field.alias or name)
        parts = list(dict.fromkeys(_models(field.annotation)))
        yield Row(path, _values(field, parts), FILLED_IN.get(path) or _default(field))
        for part in parts:
            if part not in (skip, ProgramFields):
                yield from rows(part, f"{path}.", skip)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from _models(part)


def _readers(annotation: Any, metadata: list[Any]) -> set[str]:
    found = {each.reader for each in metadata if isinstance(each, Reads)}
    for part in typing.get_args(annotation):
        found |= _readers(part, list(getattr(part, "__metadata__", ())))
    return found


def _values(field: FieldInfo, parts: list[type[BaseModel]]) -> str:
    choices = _literals(field.annotation)
    if choices:
        return ", ".join(f"`{choice}`" for choice in choices)
    readers = _readers(field.annotation, field.metadata)
    for reader in readers & READERS.keys():
        return READERS[reader]
    if parts:
        return "map" if typing.get_origin(field.annotation) is not tuple else "list of maps"
    text = str(field.annotation)
    if text.startswith("dict"):
        return "map"
    if "tuple[" in text:
        return "list"
    for kind, word in (("bool", "true, false"), ("str", "string"), ("int", "number"), ("float", "number")):
        if kind in text:
            return word
    return "number or share"


def _literals(annotation: Any) -> tuple[Any, ...]:
    if typing.get_origin(annotation) is typing.Literal:
        return typing.get_args(annotation)
    return next((found for part in typing.get_args(annotation) if (found := _literals(part))), ())


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    readers = _readers(field.annotation, field.metadata)
    if "octal" in readers and value is not None:
        return f'`"{value:04o}"`'
    if "size" in readers and value is not None:
        return f"`{value // 2**20}Mi`"
    if readers & {"duration", "endless"} and value is not None:
        return "`infinity`" if value == NEVER else f"`{_duration(value)}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple) and value and type(value) is tuple:
        return f"`[{', '.join(map(str, value))}]`"
    plain = isinstance(value, int | float | str) or (isinstance(value, tuple) and type(value) is not tuple)
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`" if plain and value != "" else ""


def _duration(seconds: float) -> str:
    if 0 < seconds < 1:
        return f"{seconds * 1000:g}ms"
    return f"{seconds / 60:g}m" if seconds and seconds % 60 == 0 else f"{seconds:g}s"


def _program_remark(path: str) -> str:
    rolls = "*rolls*. " if path.partition(".")[0] in ROLLING else ""
    return rolls + (f"*Not yet*: {SENTENCES[path]}. " if path in SENTENCES else "")


def _table(section: str, found: Iterator[Row], remark: Callable[[str], str] = lambda path: "") -> str:
    meanings = dict(MEANINGS[section])
    lines = ["| field | values | default | meaning |", "|---|---|---|---|"]
    for row in found:
        meaning = meanings.pop(row.path, None)
        if meaning is None:
            raise SystemExit(f"docs/meanings.yaml has no {section}: {row.path}")
        lines.append(f"| `{row.path}` | {row.values} | {row.default} | {remark(row.path)}{meaning} |")
    if meanings:
        raise SystemExit(f"docs/meanings.yaml has {section} that the code has not: {', '.join(meanings)}")
    return "\n".join(lines) + "\n"


# ---- status.md ----


def status_page() -> str:
    """Every word that status and events use."""
    conditions = {**MEANINGS["conditions"], **EXPLAINED}
    parts = [NOTE, "# Status reference\n", "The words of `status`, `get`, `describe`, `events` and of the log.\n"]
    parts += ["## Conditions\n", "Observations about an object, each with `status`, `reason` and `message`.\n"]
    parts += [_words(conditions)]
    parts += ["## Conditions of a QueueBinding\n", "Fallback, Stalled and Limited are there only while they hold.\n"]
    parts += [_words({name: f"{meaning[0].upper()}{meaning[1:]}." for name, meaning in SCALE_CONDITIONS.items()})]
    parts += ["What others say of it:\n", _words(OF_BINDINGS)]
    parts += ["## Reasons for a count\n", "Why a QueueBinding sets the count that it sets.\n"]
    parts += [_words({str(reason): meaning for reason, meaning in SCALE_REASONS.items()})]
    parts += ["## Causes\n", "Why a process was started, stopped or killed.\n"]
    parts += [_words(_complete("causes", [str(cause) for cause in Cause]))]
    parts += ["## States\n", "What a replica is doing.\n"]
    parts += [_words(_complete("states", [str(state) for state in ReplicaState]))]
    parts += ["## Outcomes\n", "How a run ended.\n"]
    parts += [_words(_complete("outcomes", [str(outcome) for outcome in Outcome]))]
    parts += ["## The daemon\n", "What `status --daemon` shows.\n", _words(MEANINGS["daemon"])]
    return "\n".join(parts)


def _complete(section: str, names: list[str]) -> dict[str, str]:
    if set(names) != set(MEANINGS[section]):
        raise SystemExit(f"docs/meanings.yaml, {section}: {sorted(set(names) ^ set(MEANINGS[section]))}")
    return {name: MEANINGS[section][name] for name in names}


def _words(words: dict[str, str]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| `{name}` | {meaning} |" for name, meaning in words.items())]) + "\n"


# ---- cli.md ----


def cli_page() -> str:
    """Every verb as `--help` shows it."""
    parts = [NOTE, "# Command line reference\n", _help(cli, "reconciler")]
    root = click.Context(cli, info_name="reconciler", **cli.context_settings)
    for chapter, verbs in CHAPTERS.items():
        parts.append(f"## {chapter}\n")
        for verb in verbs:
            command = cli.get_command(root, verb)
            assert command is not None
            parts += [f"### {verb}\n", _help(command, verb, root)]
            if isinstance(command, click.Group):
                context = click.Context(command, root, info_name=verb)
                for name in command.list_commands(context):
                    inner = command.get_command(context, name)
                    assert inner is not None
                    parts += [f"#### {verb} {name}\n", _help(inner, name, context)]
    return "\n".join(parts)


def _help(command: click.Command, name: str, parent: click.Context | None = None) -> str:
    settings = {**command.context_settings, "terminal_width": 100, "max_content_width": 100}
    context = click.Context(command, parent, info_name=name, **settings)
    return f"```text\n{command.get_help(context).rstrip()}\n```\n"


# ---- api.md ----


def api_page() -> str:
    """Every route."""
    parts = [
        NOTE,
        "# API reference\n",
        "HTTP over the Unix socket `run/reconciler.sock` below the state directory; the same as an OpenAPI document at"
        " `/v1/openapi.json`. The kernel tells the controller who connects: root and its own user may do everything,"
        " members of the groups in Config's `access` what it grants them.\n",
        "```shell\ncurl --unix-socket /var/lib/reconciler/run/reconciler.sock http://localhost/v1/programs\n```\n",
        "A refusal is an HTTP status of 400 or more with"
        " `{error: {exitCode, reason, message, problems}}`, each problem with"
        " `{file, line, column, field, message, hint, severity}`. `exitCode` is what the command line ends with."
        f" A body may have {BODY_LIMIT_BYTES // 1024 // 1024} MiB.\n",
        "Watched lists answer with one JSON object per line: `{type, object}` with type ADDED, MODIFIED, DELETED or,"
        " once after all that there was, SYNCED. A client that reads too slowly gets a last line of type ERROR.\n",
    ]
    return "\n".join(parts + [_route(route) for route in ROUTES])


def _route(route: Route) -> str:
    lines = [f"## {route.method} {route.path}\n", f"{route.meaning[0].upper()}{route.meaning[1:]}."]
    lines.append(f"Needs the right to {route.level.name.lower()}.\n")
    fields = [(part.name, part.schema, part.meaning, "query") for part in route.query]
    if route.body:
        required = route.body.get("required", ())
        for name, schema in route.body["properties"].items():
            where = "body, required" if name in required else "body"
            fields.append((name, schema, schema.get("description", ""), where))
    if fields:
        lines += ["| parameter | where | type | meaning |", "|---|---|---|---|"]
        lines += [f"| `{name}` | {where} | {_kind(schema)} | {meaning} |" for name, schema, meaning, where in fields]
        lines.append("")
    return "\n".join(lines)


def _kind(schema: Any) -> str:
    kinds = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    if "enum" in schema:
        return ", ".join(f"`{choice}`" for choice in schema["enum"])
    return " or ".join(kinds)


REFERENCE: dict[str, Callable[[], str]] = {
    "manifest.md": manifest_page,
    "status.md": status_page,
    "cli.md": cli_page,
    "api.md": api_page,
}


# ---- architecture.md: the parts between `<!-- generated: NAME -->` and `<!-- end -->` ----


def bucket_table() -> str:
    """The rules, in their order."""
    lines = ["| bucket | why | users see |", "|---|---|---|"]
    lines += [f"| {rule.bucket} | {rule.why} | {STATES[rule.bucket]} |" for rule in RULES]
    return "\n".join(lines)


def life_picture() -> str:
    """From bucket to bucket, as transitions of the table of answers."""
    lines = ["stateDiagram-v2", "  [*] --> due"]
    lines += [f"  {before} --> {after}: {what}" for before, what, after in LIFE]
    return "\n".join(lines)


def record_table() -> str:
    """What the journal holds."""
    lines = ["| record | says |", "|---|---|"]
    for kind, tag in TAGS.items():
        lines.append(f"| `{tag}` | {(kind.__doc__ or '').splitlines()[0]} |")
    return "\n".join(lines)


def cause_list() -> str:
    """The closed set."""
    return ", ".join(f"`{cause}`" for cause in Cause) + ": [what they mean](reference/status.md#causes)."


PARTS: dict[str, Callable[[], str]] = {
    "buckets": bucket_table,
    "life": lambda: f"```mermaid\n{life_picture()}\n```",
    "records": record_table,
    "causes": cause_list,
}


def architecture_page() -> str:
    """The page as it is, with its generated parts made anew."""
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    for name, part in PARTS.items():
        begin, end = f"<!-- generated: {name} -->\n", "<!-- end -->"
        before, rest = page.split(begin, 1)
        page = f"{before}{begin}\n{part()}\n\n{rest[rest.index(end) :]}"
    return page


PAGES = {DOCS / "reference" / name: page for name, page in REFERENCE.items()}
PAGES[DOCS / "architecture.md"] = architecture_page


def outdated() -> list[Path]:
    """The pages that the code has left behind."""
    return [path for path, page in PAGES.items() if not path.exists() or path.read_text(encoding="utf-8") != page()]


def main() -> None:
    """Write the pages, or only look."""
    paths = outdated()
    if "--check" in sys.argv[1:]:
        if paths:
            names = ", ".join(str(path.relative_to(DOCS.parent)) for path in paths)
            raise SystemExit(f"out of date: {names}; run `make reference`")
        return
    for path in paths:
        path.write_text(PAGES[path](), encoding="utf-8")
        print(path.relative_to(DOCS.parent))


if __name__ == "__main__":
    main()
