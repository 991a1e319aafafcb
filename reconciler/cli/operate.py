"""The operator's wishes: scale, stop, start, restart, reset; and the end of it all, shutdown.

Each becomes a visible override in the controller; `--for` lets it end by itself.
"""

import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import click

from reconciler.cli.exits import DONE, TIMED_OUT, Failure, said
from reconciler.cli.output import note, say
from reconciler.cli.session import (
    DURATION,
    PROGRAM_TARGET,
    REPLICA_TARGET,
    Session,
    Target,
    dry_run_option,
    override_options,
    pass_session,
    with_nearest,
)
from reconciler.cli.text import counted, paint, plain
from reconciler.client import ApiFailure, Client, ClientError, NoController

Json = dict[str, Any]

_POLL_SECONDS = 0.1

targets_argument = click.argument("targets", nargs=-1, required=True, type=REPLICA_TARGET, metavar="NAME[/REPLICA]...")
names_argument = click.argument("targets", nargs=-1, required=True, type=PROGRAM_TARGET, metavar="NAME...")


@click.command()
@names_argument
@click.option("--replicas", type=click.IntRange(min=0), required=True, help="How many there shall be.")
@override_options
@dry_run_option
@pass_session
def scale(
    session: Session,
    targets: tuple[Target, ...],
    replicas: int,
    for_seconds: float | None,
    reason: str,
    dry_run: bool,
) -> int:
    """Override the number of replicas. Ends by `reset`, --for, or when the manifest's replicas change.

    \b
    reconciler scale web --replicas=8
    reconciler scale web --replicas=0 --for 1h --reason "database upgrade"
    """
    body = {"replicas": replicas, "for": for_seconds, "reason": reason}
    return _each(session, "scale", targets, lambda _: body, dry_run=dry_run)


@click.command()
@targets_argument
@click.option("--now", is_flag=True, help="Kill instead of waiting for the grace period.")
@override_options
@dry_run_option
@pass_session
def stop(
    session: Session, targets: tuple[Target, ...], now: bool, for_seconds: float | None, reason: str, dry_run: bool
) -> int:
    """Stop a Program or single replicas until they are started again.

    \b
    reconciler stop web
    reconciler stop web/3 --for 10m --reason "looking into a leak"
    reconciler stop web --now
    """
    return _each(
        session,
        "stop",
        targets,
        lambda ordinals: {"ordinals": ordinals, "now": now, "for": for_seconds, "reason": reason},
        dry_run=dry_run,
    )


@click.command()
@targets_argument
@dry_run_option
@pass_session
def start(session: Session, targets: tuple[Target, ...], dry_run: bool) -> int:
    """Start what `stop` stopped.

    \b
    reconciler start web
    reconciler start web/3
    """
    return _each(session, "start", targets, lambda ordinals: {"ordinals": ordinals}, dry_run=dry_run)


@click.command()
@targets_argument
@click.option("--now", is_flag=True, help="All at once, whatever the strategy allows.")
@dry_run_option
@pass_session
def restart(session: Session, targets: tuple[Target, ...], now: bool, dry_run: bool) -> int:
    """Replace all processes of a Program, or single ones, within its strategy.

    \b
    reconciler restart web
    reconciler restart web/3
    reconciler restart web --now
    """
    return _each(session, "restart", targets, lambda ordinals: {"ordinals": ordinals, "now": now}, dry_run=dry_run)


@click.command()
@names_argument
@dry_run_option
@pass_session
def reset(session: Session, targets: tuple[Target, ...], dry_run: bool) -> int:
    """End all overrides of a Program and forget its failures: it starts anew as its manifest says.

    \b
    reconciler reset web
    """
    return _each(session, "reset", targets, lambda _: {}, dry_run=dry_run)


def _each(
    session: Session,
    verb: str,
    targets: Iterable[Target],
    body: Callable[[list[int] | None], Json],
    *,
    dry_run: bool,
) -> int:
    """Ask for the verb once per Program. One that fails does not keep the others from it."""
    client = session.client()
    code = DONE
    for name, ordinals in _by_program(targets).items():
        try:
            answer = client.operate(name, verb, body(ordinals), dry_run=dry_run)
        except ApiFailure as failure:
            code = said(with_nearest(client, name, failure))
            continue
        print_result(answer, ordinals, dry_run=dry_run)
    return code


def _by_program(targets: Iterable[Target]) -> dict[str, list[int] | None]:
    """The ordinals by name; None is all of them, and outweighs single ones."""
    chosen: dict[str, list[int] | None] = {}
    for target in targets:
        before = chosen.setdefault(target.name, [])
        if target.ordinal is None or before is None:
            chosen[target.name] = None
        elif target.ordinal not in before:
            before.append(target.ordinal)
    return chosen


def print_result(answer: Json, ordinals: list[int] | None = None, *, dry_run: bool = False) -> None:
    """`program/web stopped`; what else there is to say goes to stderr."""
    subject = f"{str(answer.get('kind', 'Program')).lower()}/{answer.get('name', '?')}"
    replicas = f" (replica {', '.join(map(str, ordinals))})" if ordinals else ""
    say(f"{subject} {answer.get('verb', 'done')}{replicas}{' (dry run)' if dry_run else ''}")
    if answer.get("message"):
        note(paint(f"  {plain(str(answer['message']))}", "dim", sys.stderr))


# -- shutdown ----------------------------------------------------------------------------------------------------------


@click.command()
@click.option("--keep", is_flag=True, help="Leave the processes running; the next `run` takes them over.")
@click.option("--wait", is_flag=True, help="Return when the daemon is gone.")
@click.option("--timeout", type=DURATION, help="With --wait: for how long; the end goes on anyway.")
@dry_run_option
@pass_session
def shutdown(session: Session, keep: bool, wait: bool, timeout: float | None, dry_run: bool) -> int:
    """End the daemon in good order: all processes are drained, in order, within its shutdownTimeout.

    With --keep they run on, and so does the process that writes their logs, as long as one of them may write. The next
    `run` on the same state directory takes all of it over.

    \b
    reconciler shutdown
    reconciler shutdown --wait --timeout 2m
    reconciler shutdown --keep --wait
    """
    if timeout is not None and not wait:
        raise click.UsageError("--timeout is for --wait")
    client = session.client()
    running = _running(client.processes())
    if dry_run:
        say(f"reconciler would be shut down, {counted(running, 'process')} {'kept' if keep else 'drained'} (dry run)")
        return DONE
    client.shutdown(keep=keep)
    fate = f", {counted(running, 'process')} kept" if keep else f", draining {running}" if wait else ""
    say(f"reconciler is shutting down{fate}")
    return _wait_for_the_end(client, timeout) if wait else DONE


def _wait_for_the_end(client: Client, timeout_seconds: float | None) -> int:
    until = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    told = -1
    while True:
        try:
            running = _running(client.processes())
        except NoController:
            note("it is gone")
            return DONE
        except ClientError:  # on its way out it may hang up on us
            running = told
        if running != told and running >= 0:
            note(f"waiting for {counted(running, 'process') if running else 'the daemon'} to end")
            told = running
        if until is not None and time.monotonic() > until:
            raise Failure("it is still draining; the end goes on without us", TIMED_OUT)
        time.sleep(_POLL_SECONDS)


def _running(rows: Iterable[Json]) -> int:
    return sum(row.get("pid") is not None for row in rows)
