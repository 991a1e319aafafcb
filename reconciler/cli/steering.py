"""`queue test`, `pause`, `resume` and `poke`: the verbs about living bindings. Parsing and printing only."""

from collections.abc import Iterable
from typing import Any

import click

from reconciler.cli import bindings, summary
from reconciler.cli.exits import DONE, FAILED, said
from reconciler.cli.operate import print_result
from reconciler.cli.output import say
from reconciler.cli.session import Session, binding_names, dry_run_option, override_options, pass_session
from reconciler.cli.sources import base_dir_option, filename_option
from reconciler.client import ApiFailure, Client

Json = dict[str, Any]


names_argument = click.argument("words", nargs=-1, required=True, metavar="NAME...")


@click.command()
@click.argument("words", nargs=-1, metavar="[NAME...]")
@filename_option("Ask for what these manifests declare.", required=False)
@base_dir_option("With -f: what relative paths in the manifests are relative to.")
@pass_session
def test(session: Session, words: tuple[str, ...], paths: tuple[str, ...], base_dir: str | None) -> int:
    """Ask the queues of a binding now; show what they say, and what count follows.

    With -f no controller is needed, and nothing is applied. Ends with 1 if a queue cannot be read.

    \b
    reconciler queue test mails
    reconciler queue test -f manifests/
    """
    if paths:
        from reconciler.cli.queuetest import test_files

        return test_files(paths, base_dir, _names(words) if words else [])
    if not words:
        raise click.UsageError("say which: NAME, or -f PATH")
    client = session.client()
    code = DONE
    for index, name in enumerate(_names(words)):
        try:
            thing = client.queue(name, "test", {})
        except ApiFailure as failure:
            code = said(_with_nearest(client, name, failure))
            continue
        say(("\n" if index else "") + summary.reference(thing))
        bindings.show_triggers(thing)
        status = thing.get("status", {})
        if "desiredReplicas" in status:
            running = status.get("runningReplicas") or 0
            say(f"Count:       {status['desiredReplicas']} ({status.get('reason')}), {running} running")
        wrong = [f"{finding.type}: {finding.text}" for finding in summary.findings(thing) if not finding.is_remark]
        for line in wrong:
            say(f"Wrong:       {line}")
        if wrong or any(each.get("failure") for each in status.get("triggers") or ()):
            code = FAILED
    return code


@click.command()
@names_argument
@override_options
@dry_run_option
@pass_session
def pause(session: Session, words: tuple[str, ...], for_seconds: float | None, reason: str, dry_run: bool) -> int:
    """Freeze the count of the bound Program. Ends by `queue resume` or --for.

    \b
    reconciler queue pause mails
    reconciler queue pause mails --for 1h --reason "mail server is being replaced"
    """
    return _each(session, "pause", words, {"for": for_seconds, "reason": reason}, dry_run=dry_run)


@click.command()
@names_argument
@dry_run_option
@pass_session
def resume(session: Session, words: tuple[str, ...], dry_run: bool) -> int:
    """Let the count follow its queues again.

    \b
    reconciler queue resume mails
    """
    return _each(session, "resume", words, {}, dry_run=dry_run)


@click.command()
@names_argument
@dry_run_option
@pass_session
def poke(session: Session, words: tuple[str, ...], dry_run: bool) -> int:
    """Have the queues looked at now, for whoever has just put something in.

    \b
    reconciler queue poke mails
    """
    return _each(session, "poke", words, {}, dry_run=dry_run)


def _each(session: Session, verb: str, words: Iterable[str], body: Json, *, dry_run: bool) -> int:
    client = session.client()
    code = DONE
    for name in _names(words):
        try:
            answer = client.queue(name, verb, body, dry_run=dry_run)
        except ApiFailure as failure:
            code = said(_with_nearest(client, name, failure))
            continue
        print_result(answer, dry_run=dry_run)
    return code


def _names(words: Iterable[str]) -> list[str]:
    """`mails`, `qb/mails`, `queuebinding/mails`."""
    return binding_names(["qb", *words], required=True) or []


def _with_nearest(client: Client, name: str, failure: ApiFailure) -> ApiFailure:
    if failure.exit_code != 3:
        return failure
    return bindings.not_found(name, sorted(map(summary.name_of, client.queuebindings())))
