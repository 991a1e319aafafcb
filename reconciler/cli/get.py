"""`get`: Programs and processes as a table, JSON, YAML or names; once, or as they change."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import click

from reconciler.cli import summary
from reconciler.cli.details import document, yaml_text
from reconciler.cli.exits import DONE, NOT_FOUND
from reconciler.cli.output import note, problem_lines, say, warning
from reconciler.cli.session import (
    PROCESS_WORDS,
    PROGRAM_WORDS,
    REPLICA_TARGET,
    Session,
    Target,
    binding_names,
    not_found,
    pass_session,
)
from reconciler.cli.tables import Table
from reconciler.cli.text import now, plain
from reconciler.cli.watching import Form, watch
from reconciler.client import ApiFailure, Client

Json = dict[str, Any]

FORMATS = ("json", "yaml", "wide", "name")


class Wish(NamedTuple):
    """What is to be listed: which kinds, and of which names (none: all)."""

    programs: bool
    processes: bool
    targets: tuple[Target, ...]


@click.command()
@click.argument("what", nargs=-1, metavar="[KIND] [NAME...]", shell_complete=REPLICA_TARGET.shell_complete)
@click.option("-o", "--output", type=click.Choice(FORMATS), help="Print in another form than a table.")
@click.option("-w", "--watch", is_flag=True, help="Go on printing what changes.")
@click.option("-l", "--selector", default="", help="Only objects with these labels: app=shop,tier!=web")
@click.option("--effective", is_flag=True, help="With -o yaml or json: show defaults and overrides merged in.")
@pass_session
def get(
    session: Session, what: tuple[str, ...], output: str | None, watch: bool, selector: str, effective: bool
) -> int:
    """List Programs, processes or QueueBindings.

    KIND is programs (prog), processes (ps), queuebindings (qb) or all; without one it is programs.

    \b
    reconciler get                     all Programs
    reconciler get ps                  all processes
    reconciler get web -o yaml         one Program, spec and status
    reconciler get ps web web/3        processes of web, and one of them
    reconciler get qb -o wide          QueueBindings: what waits, how many run, and why
    reconciler get -w -l app=shop      what changes, by label
    """
    client = session.client()
    names = binding_names(what)
    if names is not None:
        from reconciler.cli import bindings

        show = bindings.watched if watch else bindings.listed
        return show(client, names, selector, output)
    wish = wished(what)
    if watch:
        if effective:
            raise click.UsageError("--effective shows one moment; it does not go with --watch")
        return _watch(client, wish, output, selector)
    if output in (None, "wide"):
        return _tables(client, wish, selector, wide=output == "wide")
    return _documents(client, wish, selector, str(output), effective=effective)


def wished(what: Sequence[str]) -> Wish:
    """Read `KIND NAME...`, `NAME...`, `KIND/NAME` and `NAME/REPLICA`."""
    words = list(what)
    programs, processes = True, False
    if words and words[0].lower() in {"all"} | PROGRAM_WORDS | PROCESS_WORDS:
        kind = words.pop(0).lower()
        programs, processes = kind not in PROCESS_WORDS, kind not in PROGRAM_WORDS
    elif words:
        kinds = {word.partition("/")[0] for word in words if "/" in word}
        if kinds and kinds <= PROCESS_WORDS:
            programs, processes = False, True
    targets = tuple(REPLICA_TARGET.convert(word, None, None) for word in words)
    if any(target.ordinal is not None for target in targets):
        programs, processes = False, True  # `web/3` is a process
    return Wish(programs, processes, targets)


def _tables(client: Client, wish: Wish, selector: str, *, wide: bool) -> int:
    at = now()
    blocks: list[str] = []
    things: list[Json] = []
    problems: list[Json] = []
    if wish.programs:
        answer = client.programs(selector)
        things = _named(answer.get("items", []), wish.targets, selector)
        table = Table(summary.program_header(wide=wide), _paint_programs, cut=not wide)
        if things:
            blocks.append(table.render([summary.program_row(thing, at, wide=wide) for thing in things]))
        problems = answer.get("problems", []) if not wish.targets else []
    if wish.processes:
        rows = _rows(client, wish.targets, selector)
        if rows:
            table = Table(summary.process_header(wide=wide), _paint_processes, cut=not wide)
            blocks.append(table.render([summary.process_row(row, at, wide=wide) for row in rows]))
    if wish.programs and wish.processes and (found := client.queuebindings(selector)):
        from reconciler.cli import bindings

        blocks.append(bindings.table(found, wide=wide))
    if blocks:
        say("\n\n".join(blocks))
    else:
        what = "programs" if wish.programs else "processes"
        note(f"no {what} found" + (f" with labels {plain(selector)}" if selector else ""))
    _trouble(things, problems)
    return DONE


def _documents(client: Client, wish: Wish, selector: str, output: str, *, effective: bool) -> int:
    things: list[Json] = []
    if wish.programs:
        if len(wish.targets) == 1 and not selector:
            things.append(_one(client, wish.targets[0].name, effective=effective))
        else:
            answer = client.programs(selector, effective=effective)
            things += _named(answer.get("items", []), wish.targets, selector)
    if wish.programs and wish.processes:
        things += client.queuebindings(selector)
    if wish.processes:
        things += [{"kind": "Process", **row} for row in _rows(client, wish.targets, selector)]
    if output == "name":
        for thing in things:
            say(_name_line(thing))
    elif len(things) == 1 and len(wish.targets) == 1:
        say(document(things[0], output))
    else:
        say(document({"apiVersion": "reconciler/v1", "kind": "List", "items": things}, output))
    return DONE


def _one(client: Client, name: str, *, effective: bool) -> Json:
    try:
        return client.program(name, effective=effective)
    except ApiFailure as failure:
        from reconciler.cli.session import with_nearest

        raise with_nearest(client, name, failure) from None


def _name_line(thing: Json) -> str:
    if thing.get("kind") == "Process":
        return f"process/{thing.get('program')}/{thing.get('replica')}"
    return summary.reference(thing)


def _named(things: list[Json], targets: Iterable[Target], selector: str) -> list[Json]:
    """The things that were asked for by name, in that order; all of them when none was."""
    names = list(dict.fromkeys(target.name for target in targets))
    if not names:
        return things
    by_name = {summary.name_of(thing): thing for thing in things}
    for name in names:
        if name not in by_name and not selector:
            raise not_found(name, sorted(by_name))
    return [by_name[name] for name in names if name in by_name]


def _rows(client: Client, targets: Sequence[Target], selector: str) -> list[Json]:
    """The processes that were asked for."""
    if not targets and not selector:
        return client.processes()
    things = _named(client.programs(selector).get("items", []), targets, selector)
    rows = [{"program": summary.name_of(thing), **row} for thing in things for row in summary.processes_of(thing)]
    if not targets:
        return rows
    chosen = [row for row in rows if _is_chosen(row, targets)]
    there = {(row["program"], row.get("replica")) for row in rows}
    for target in targets:
        if target.ordinal is not None and (target.name, target.ordinal) not in there and not selector:
            raise ApiFailure(NOT_FOUND, "NotFound", f"program/{target.name} has no replica {target.ordinal}")
    return chosen


def _is_chosen(row: Json, targets: Iterable[Target]) -> bool:
    return not targets or any(
        target.name == row["program"] and target.ordinal in (None, row.get("replica")) for target in targets
    )


def _trouble(things: Iterable[Json], problems: Iterable[Json]) -> None:
    """Invalid files, and objects whose file is: on stderr, below the table."""
    for thing in things:
        for finding in summary.findings(thing):
            if finding.type in ("Invalid", "Conflict", "SourceSuspect"):
                warning(f"{finding.subject} {finding.type}: {finding.text}")
    problem_lines(problems)


def _paint_programs(column: int, cell: str) -> str:
    return summary.colour_of(cell) if column == len(summary.PROGRAM_HEADER) - 1 else ""


def _paint_processes(column: int, cell: str) -> str:
    return summary.colour_of(cell) if column == 1 else ""


# -- watching ----------------------------------------------------------------------------------------------------------


def _watch(client: Client, wish: Wish, output: str | None, selector: str) -> int:
    """Print what there is, then every change, over restarts of the controller too."""
    if wish.programs and wish.processes:
        raise click.UsageError("watch one kind: `get -w` or `get ps -w`")
    if wish.targets:  # a wrong name shall not wait for ever
        _named(client.programs(selector).get("items", []), wish.targets, selector)
    named = {target.name for target in wish.targets}
    return watch(
        lambda: client.watch_programs(selector),
        lambda thing: not named or summary.name_of(thing) in named,
        _form(wish, output),
    )


def _form(wish: Wish, output: str | None) -> Form:
    wide, table = output == "wide", None
    if output in (None, "wide"):
        header = summary.program_header(wide=wide) if wish.programs else summary.process_header(wide=wide)
        table = Table(header, _paint_programs if wish.programs else _paint_processes, cut=not wide)
    return Form(
        lambda thing: _parts(wish, thing),
        table,
        lambda part, gone: _cells(wish, part, wide=wide, gone=gone),
        lambda part: _line(part, str(output)),
    )


def _parts(wish: Wish, thing: Json) -> Iterator[tuple[str, Json]]:
    if wish.programs:
        yield summary.name_of(thing), thing
        return
    for row in summary.processes_of(thing):
        part: Json = {"kind": "Process", "program": summary.name_of(thing), **row}
        if _is_chosen(part, wish.targets):
            yield f"{part['program']}/{row.get('replica')}", part


def _cells(wish: Wish, part: Json, *, wide: bool, gone: bool) -> list[str]:
    if not wish.programs:
        return summary.process_row(part, now(), wide=wide)
    cells = summary.program_row(part, now(), wide=wide)
    if gone:
        cells[len(summary.PROGRAM_HEADER) - 1] = "Deleted"
    return cells


def _line(part: Json, output: str) -> str:
    if output == "name":
        return _name_line(part)
    return json.dumps(part, ensure_ascii=False) if output == "json" else f"---\n{yaml_text(part)}"
