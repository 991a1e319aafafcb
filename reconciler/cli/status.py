"""`status`: what one types first. How things are, what is wrong, and why; the exit code says it too."""

import sys
from collections.abc import Iterator
from typing import Any

import click

from reconciler import __version__
from reconciler.cli import summary
from reconciler.cli.exits import DONE, FAILED
from reconciler.cli.output import hint, problem_text, say, warning
from reconciler.cli.session import PROGRAM_TARGET, Session, Target, not_found, pass_session
from reconciler.cli.tables import Table
from reconciler.cli.text import age, age_of, counted, now, paint, plain, wrapped

Json = dict[str, Any]


@click.command()
@click.argument("name", required=False, type=PROGRAM_TARGET)
@click.option("--daemon", is_flag=True, help="Show the daemon's own health instead.")
@pass_session
def status(session: Session, name: Target | None, daemon: bool) -> int:
    """Show how things are, what is wrong, and why.

    Ends with 0 if every Program is Available and every manifest is valid, else with 1.

    \b
    reconciler status                  everything
    reconciler status web              one Program and its processes
    reconciler status --daemon         the daemon itself
    """
    if daemon:
        return _daemon(session.client().daemon())
    answer = session.client().status()
    at = now()
    things = list(answer.get("items") or ())
    problems = list(answer.get("problems") or ())
    sources = [source for source in answer.get("sources") or () if source.get("suspect")]
    if name is not None:
        things = [thing for thing in things if summary.name_of(thing) == name.name] or _missing(name.name, things)
        problems, sources = [], []
    else:
        say(_daemon_line(answer.get("daemon") or {}, things, at))
    if things:
        say("\n" * (name is None) + _program_table(things, at))
    if name is not None and summary.processes_of(things[0]):
        say("\n" + _process_table(things[0], at))
    bound = _bindings_of(answer, name)
    if bound:
        from reconciler.cli import bindings

        say("\n" + bindings.table(bound))
    findings = [finding for thing in (*things, *bound) for finding in summary.findings(thing)]
    wrong = [finding for finding in findings if not finding.is_remark]
    errors = [problem for problem in problems if problem.get("severity") != "warning"]
    _section("Wrong", [*_source_lines(sources), *_problem_lines(errors), *_finding_lines(wrong)])
    warnings = [problem for problem in problems if problem.get("severity") == "warning"]
    remarks = [finding for finding in findings if finding.is_remark]
    daemon_remarks = [] if name is not None else list((answer.get("daemon") or {}).get("warnings") or ())
    told = (wrapped(plain(f"daemon: {text}")) for text in daemon_remarks)
    _section("To know", [*told, *_problem_lines(warnings), *_finding_lines(remarks)])
    return FAILED if wrong or errors or sources else DONE


def _bindings_of(answer: Json, name: Target | None) -> list[Json]:
    """All QueueBindings, or those of the Program that is asked for."""
    found = answer.get("queueBindings") or ()
    return [each for each in found if name is None or each.get("status", {}).get("program") == name.name]


def _missing(name: str, things: list[Json]) -> list[Json]:
    raise not_found(name, sorted(map(summary.name_of, things)))


def _daemon_line(daemon: Json, things: list[Json], at: float) -> str:
    statuses = [thing.get("status") or {} for thing in things]
    ready, wanted = (sum(int(s.get(key) or 0) for s in statuses) for key in ("readyReplicas", "replicas"))
    parts = [f"reconciler {plain(str(daemon.get('version', '')))}".rstrip()]
    if uptime := _uptime(daemon, at):
        parts.append(f"up {uptime}")
    if daemon.get("pid"):
        parts.append(f"controller {daemon['pid']}")
    if daemon.get("safeMode"):
        parts.append(paint("SAFE MODE (it died again and again; only accepted specs are run)", "red"))
    counts = f"{counted(len(things), 'Program')}, {ready} of {counted(wanted, 'process')} ready"
    return f"{', '.join(parts)}: {counts}"


def _uptime(daemon: Json, at: float) -> str:
    if isinstance(daemon.get("upSeconds"), int | float):
        return age(daemon["upSeconds"])
    return age_of(daemon.get("startedAt"), at).strip("-")


def _program_table(things: list[Json], at: float) -> str:
    table = Table(summary.PROGRAM_HEADER, lambda column, cell: summary.colour_of(cell) if column == 6 else "")
    return table.render([summary.program_row(thing, at) for thing in things])


def _process_table(thing: Json, at: float) -> str:
    rows: list[Json] = [{"program": summary.name_of(thing), **row} for row in summary.processes_of(thing)]
    table = Table(summary.PROCESS_HEADER, lambda column, cell: summary.colour_of(cell) if column == 1 else "")
    return table.render([summary.process_row(row, at) for row in rows])


def _section(title: str, lines: list[str]) -> None:
    if lines:
        say("\n" + paint(f"{title}:", "bold"))
        for line in lines:
            say(line)


def _source_lines(sources: list[Json]) -> Iterator[str]:
    for source in sources:
        message = source.get("message") or "is suspect; nothing of it is stopped"
        yield wrapped(plain(f"{source.get('home', '?')}: {message}"))


def _problem_lines(problems: list[Json]) -> Iterator[str]:
    for problem in problems:
        yield f"  {problem_text(problem, sys.stdout)}"  # in one line: editors jump to its place


def _finding_lines(findings: list[summary.Finding]) -> Iterator[str]:
    for finding in findings:
        colour = "yellow" if finding.is_remark else "red"
        subject = plain(finding.subject)
        text = wrapped(f"{subject} {finding.type}: {finding.text}")
        yield text.replace(f"{subject} {finding.type}:", f"{subject} {paint(finding.type, colour)}:", 1)


def _daemon(daemon: Json) -> int:
    """All that the controller tells about itself, as it names it."""
    width = max((len(key) for key in daemon), default=0)
    for key, value in daemon.items():
        if key == "warnings":
            continue
        shown = "-" if value is None else str(value).lower() if isinstance(value, bool) else _flat(value)
        say(f"{plain(key):<{width}}  {plain(shown)}")
    for text in daemon.get("warnings") or ():
        warning(str(text))
    if daemon.get("safeMode"):
        hint("`reconciler reexec` ends safe mode, once what kills the controller is mended")
    if daemon.get("version") not in (None, __version__):
        hint(f"version {__version__} is installed here: `reconciler reexec` replaces what runs, `--keeper` all of it")
    is_well = not daemon.get("safeMode") and daemon.get("ready", True) and not daemon.get("conditions")
    return DONE if is_well else FAILED


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={_flat(inner)}" for key, inner in value.items()) or "-"
    if isinstance(value, list):
        return ", ".join(map(_flat, value)) or "-"
    return str(value)
