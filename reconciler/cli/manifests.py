"""`apply`, `diff` and `delete`: handing in manifests, and asking beforehand what that would do."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from reconciler.cli.exits import DONE, FAILED, USAGE, Failure, said
from reconciler.cli.output import hint, note, problem_lines, say
from reconciler.cli.session import (
    DURATION,
    PROGRAM_TARGET,
    Session,
    binding_names,
    dry_run_option,
    pass_session,
    with_nearest,
)
from reconciler.cli.sources import Source, base_dir_option, directories, filename_option, read_sources
from reconciler.cli.tables import Table
from reconciler.cli.text import counted, paint, plain
from reconciler.client import ApiFailure, ClientError, NoController

Json = dict[str, Any]
F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_WAIT_SECONDS = 300.0


def _input_options(verb: F) -> F:
    """What is handed in, and on which terms."""
    for option in reversed(
        (
            filename_option(),
            click.option("--applyset", default="default", show_default=True, help="The set that owns the objects."),
            click.option("--prune", is_flag=True, help="Delete what the set holds and the input does not."),
            click.option(
                "--prune-limit", default="50%", show_default=True, metavar="N|N%", help="Refuse to prune more."
            ),
            click.option("--allow-empty", is_flag=True, help="Let the set or directory become empty."),
            click.option("--take-over", is_flag=True, help="Take names from the directory or set that has them."),
            base_dir_option(),
        )
    ):
        verb = option(verb)
    return verb


@click.command()
@_input_options
@click.option("--wait", is_flag=True, help="Return when all is available, or will not be.")
@click.option("--timeout", type=DURATION, help="With --wait: for how long. [default: 5m]")
@click.option("--offline", is_flag=True, help="Without a controller: store for its next start.")
@dry_run_option
@pass_session
def apply(session: Session, /, wait: bool, timeout: float | None, offline: bool, dry_run: bool, **terms: Any) -> int:
    """Hand in manifests. All are checked first; all are taken, or none.

    Files of a watched directory are not copied: to apply them is to have them read now.

    \b
    reconciler apply -f web.yaml -f mail.yaml
    reconciler apply -f deploy/ --prune --wait --timeout 2m
    generate | reconciler apply -f - --base-dir /srv/shop --applyset shop
    reconciler apply -f deploy/ --dry-run
    """
    if timeout is not None and not wait:
        raise click.UsageError("--timeout is for --wait")
    sources = _sound_sources(terms)
    body = _body(sources, terms, dry_run=dry_run)
    client = session.client()
    try:
        answer = client.apply(body)
    except NoController as failure:
        if not offline:
            raise NoController(failure.tried) from None
        from reconciler.cli.offline import store

        return store(session.state_dir, sources, terms, dry_run=dry_run)
    if offline:
        hint("a controller runs, so the manifests were handed to it")
    results = list(answer.get("results") or ())
    _print_results(results, dry_run=dry_run)
    _print_advice(answer)
    if not wait or dry_run:
        return DONE
    from reconciler.cli.waiting import wait_until_available

    stay = [r for r in results if r.get("kind") == "Program" and r.get("verb") not in ("pruned", "deleted")]
    wanted = {result["name"]: int(result.get("generation") or 0) for result in stay}
    return wait_until_available(client, wanted, DEFAULT_WAIT_SECONDS if timeout is None else timeout)


@click.command()
@_input_options
@click.option("-o", "--output", type=click.Choice(["json"]), help="Print the answer as JSON.")
@pass_session
def diff(session: Session, /, output: str | None, **terms: Any) -> int:
    """Show what apply would do to which process, in the words that the log will use.

    Ends with 0 if nothing would change, 1 if something would, 2 or more if that cannot be told.

    \b
    reconciler diff -f deploy/
    reconciler diff -f deploy/ --prune
    reconciler diff -f copy/ --take-over --base-dir /etc/shop/manifests    (an edit of a watched directory)
    """
    try:
        answer = session.client().diff(_body(_sound_sources(terms), terms))
    except (ClientError, Failure) as failure:
        code = said(failure)
        if isinstance(failure, ApiFailure) and failure.reason == "Conflict" and not terms["take_over"]:
            hint("of a copy of a watched DIR, `diff --take-over --base-dir DIR -f COPY` tells what an edit would do")
        return USAGE if code == FAILED else code
    results = list(answer.get("results") or ())
    if output:
        say(json.dumps(answer, indent=2, ensure_ascii=False))
    elif results:
        rows = [[_subject(result), plain(_foretold(result))] for result in results]
        table = Table(("OBJECT", "EFFECT"), lambda column, cell: _effect_colour(cell) if column else "")
        say(table.render(rows, headed=False))
    _print_advice(answer)
    return FAILED if any(result.get("change") for result in results) else DONE


@click.command()
@click.argument("words", nargs=-1, metavar="[NAME...]", shell_complete=PROGRAM_TARGET.shell_complete)
@filename_option("Delete what these manifests declare.", required=False)
@dry_run_option
@pass_session
def delete(session: Session, words: tuple[str, ...], paths: tuple[str, ...], dry_run: bool) -> int:
    """Delete Programs and QueueBindings that were applied; processes are drained.

    An object of a watched directory is deleted by deleting its file: it is refused here, and the file is named.

    \b
    reconciler delete web
    reconciler delete qb/mails
    reconciler delete -f old.yaml
    """
    if bool(words) == bool(paths):
        raise click.UsageError("say what to delete: NAME, or -f PATH")
    client = session.client()
    keys = _named(words) if words else _declared(paths)
    code = DONE
    # Bindings first: a Program whose binding is deleted with it is not given another count before.
    for kind, name in sorted(dict.fromkeys(keys), key=lambda key: key[0] != "QueueBinding"):
        try:
            erase = client.delete_queuebinding if kind == "QueueBinding" else client.delete
            answer = erase(name, dry_run=dry_run)
        except ApiFailure as failure:
            code = said(with_nearest(client, name, failure) if kind == "Program" else failure)
            continue
        from reconciler.cli.operate import print_result

        print_result(answer, dry_run=dry_run)
    return code


def _named(words: Sequence[str]) -> list[tuple[str, str]]:
    bound = binding_names(words, required=True)
    if bound is not None:
        return [("QueueBinding", name) for name in bound]
    return [("Program", PROGRAM_TARGET.convert(word, None, None).name) for word in words]


def _declared(paths: tuple[str, ...]) -> list[tuple[str, str]]:
    """The objects that manifests declare; only their names are read."""
    from reconciler.cli.validate import decoded

    reading = decoded(_readable(read_sources(paths, "/")))
    if reading.errors:
        problem_lines(reading.errors)
        raise Failure("nothing was deleted: the manifests cannot be read")
    return [(kind, name) for kind, name in reading.names if kind in ("Program", "QueueBinding")]


def _sound_sources(terms: Json) -> list[Source]:
    gone = directories(terms["paths"], gone=True) if terms["allow_empty"] else []
    there = [path for path in terms["paths"] if os.path.abspath(path) not in gone or os.path.lexists(path)]
    sources = _readable(read_sources(there, terms["base_dir"]))
    if not sources and not terms["allow_empty"]:
        what = ", ".join(terms["paths"])
        raise Failure(f"no manifests in {what} (read are *.yaml, *.yml and *.json); --allow-empty if that is meant")
    return sources


def _readable(sources: list[Source]) -> list[Source]:
    problems = [source.problem for source in sources if source.problem]
    if problems:
        problem_lines(problems)
        raise Failure(f"{counted(len(problems), 'file')} cannot be read; nothing was done")
    return sources


def _body(sources: list[Source], terms: Json, *, dry_run: bool = False) -> Json:
    body: Json = {
        "documents": [source.as_document() for source in sources],
        "applyset": terms["applyset"],
        "prune": terms["prune"],
        "pruneLimit": terms["prune_limit"],
        "allowEmpty": terms["allow_empty"],
        "takeOver": terms["take_over"],
        "dryRun": dry_run,
    }
    # An empty directory has no document to stand for it; one that is gone is meant to be with --allow-empty only.
    body["directories"] = directories(terms["paths"], gone=terms["allow_empty"])
    return body


def _subject(result: Json) -> str:
    return plain(f"{str(result.get('kind', 'Program')).lower()}/{result.get('name', '?')}")


def _foretold(result: Json) -> str:
    """What would be done, and what an operator's wish makes of it."""
    effect = str(result.get("effect") or "none")
    return f"{effect}; overridden: {result['overridden']}" if result.get("overridden") else effect


def _print_results(results: list[Json], *, dry_run: bool) -> None:
    """`program/web configured` for scripts; what that does to processes, for people."""
    for result in results:
        say(f"{_subject(result)} {result.get('verb', 'done')}{' (dry run)' if dry_run else ''}")
        effect = str(result.get("effect") or "none")
        if effect != "none":
            note(paint(f"  {plain(effect)}", "dim", sys.stderr))
        if result.get("overridden"):
            end = f"`reconciler reset {result['name']}` ends it"
            hint(f"{_subject(result)} is overridden: {result['overridden']} ({end})")


def _print_advice(answer: Json) -> None:
    problem_lines(answer.get("warnings") or ())
    for text in answer.get("hints") or ():
        hint(str(text))


def _effect_colour(effect: str) -> str:
    word = effect.partition(" ")[0].strip(",:;")
    return {"create": "green", "start": "green", "delete": "red", "stop": "red", "none": "dim"}.get(word, "yellow")
