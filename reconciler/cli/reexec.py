"""`reexec`: has the daemon replaced by the code that is installed now, and waits until that code answers.

All that is done here is to ask and to look: the controller tries the new code out first, the keeper changes over. What
goes wrong afterwards has to be said here, because there is nobody else left to ask.
"""

import os
import time
from collections.abc import Iterable
from typing import Any

import click

from reconciler.cli.exits import DONE, FAILED, TIMED_OUT, Failure
from reconciler.cli.output import error, note, say, warning
from reconciler.cli.session import DURATION, Session, dry_run_option, pass_session
from reconciler.cli.text import counted, duration, plain
from reconciler.client import Client, ClientError, NoController

Json = dict[str, Any]

_TIMEOUT_SECONDS = 60.0
_LOOK_SECONDS = 0.05
_ASK_SECONDS = 2.0  # for one answer, while there may be nobody to give it


@click.command()
@click.option("--keeper", is_flag=True, help="Replace the keeper, too. It keeps its pid and all it holds.")
@click.option(
    "--timeout", type=DURATION, default=_TIMEOUT_SECONDS, show_default="1m", help="How long to wait for the new ones."
)
@dry_run_option
@pass_session
def reexec(session: Session, keeper: bool, timeout: float, dry_run: bool) -> int:
    """Replace controller and pump by the code that is installed now. All processes are kept.

    The installed code is tried out first; when it would not start, nothing is replaced. Ends when the new controller
    answers, with 4 when it does not in time: processes run on, and it is started again until it works. Also the way
    out of safe mode.

    \b
    reconciler reexec                  after an upgrade
    reconciler reexec --keeper         the whole daemon, in place
    reconciler reexec --dry-run        try out what is installed
    """
    client = session.client()
    before, rows = client.daemon(), client.processes()
    answer = client.reexec(keeper=keeper, dry_run=dry_run)
    versions = f"version {plain(str(before.get('version')))} -> {plain(str(answer.get('newVersion')))}"
    if dry_run:
        also = f", keeper {before.get('keeperPid')}" if keeper else ""
        what = f"controller {before.get('pid')}, pump {before.get('pumpPid')}{also}"
        say(f"reexec: {what} would be replaced, {versions}, {counted(_running(rows), 'process')} kept (dry run)")
        return DONE
    note(f"{versions}: tried out, changing over")
    after = _Wait(session, before, timeout).until_replaced()
    told = [f"controller {before.get('pid')} -> {after.get('pid')}", f"pump {_change(before, after, 'pumpPid')}"]
    told += [f"keeper {after.get('keeperPid')} in place"] * keeper
    say(f"reexec: {', '.join(told)}, {_kept(rows, session.client().processes())}")
    return _verdict(before, after, keeper=keeper)


class _Wait:
    """Looks for the successors of a controller and a pump."""

    def __init__(self, session: Session, before: Json, timeout_seconds: float) -> None:
        self._session, self._before = session, before
        self._timeout_seconds = timeout_seconds
        self._until = time.monotonic() + timeout_seconds
        self._seen: dict[str, None] = {}  # controllers that were started, by pid

    def until_replaced(self) -> Json:
        """What the new controller says about itself. Raises Failure when none does in time, or the keeper is gone."""
        while True:
            self._count()
            try:
                daemon = self._client().daemon()
                if self._is_new(daemon):
                    return daemon
            except NoController:
                if not self._is_keeper_there():
                    raise Failure(self._lost()) from None
            except ClientError:  # nobody answers yet, or hung up on us on its way out
                pass
            if time.monotonic() > self._until:
                raise Failure(self._late(), TIMED_OUT)
            time.sleep(_LOOK_SECONDS)

    def _client(self) -> Client:
        client = self._session.client()
        client.timeout_seconds = max(0.1, min(_ASK_SECONDS, self._until - time.monotonic()))
        return client

    def _is_new(self, daemon: Json) -> bool:
        old = self._before
        pump = daemon.get("pumpPid")
        return bool(daemon.get("ready") and daemon.get("pid") != old.get("pid") and pump and pump != old.get("pumpPid"))

    def _is_keeper_there(self) -> bool:
        return os.path.exists(f"/proc/{self._before.get('keeperPid')}")

    def _count(self) -> None:
        """The keeper notes whom it started: who died before it could answer is seen there."""
        pid = _noted_controller(str(self._before.get("stateDir", "")))
        if pid and pid != str(self._before.get("pid")) and pid not in self._seen:
            if self._seen:
                note(f"controller {next(reversed(self._seen))} did not live; {pid} is tried")
            self._seen[pid] = None

    def _late(self) -> str:
        tried = f"{counted(len(self._seen), 'controller')} started and none answered" if self._seen else "none answered"
        return (
            f"no new controller after {duration(self._timeout_seconds)}: {tried}\n"
            f"the processes run on, and keeper {self._before.get('keeperPid')} tries again every few seconds\n"
            "its log (standard error of `run`) says what is wrong: mend or reinstall the code, that is all to be done"
        )

    def _lost(self) -> str:
        return (
            f"keeper {self._before.get('keeperPid')} is gone; the processes run on without a daemon\n"
            "start it again with the same `reconciler run` (a service manager does so by itself): it takes them over"
        )


def _noted_controller(state_dir: str) -> str:
    """The pid of the controller that was started last, when we may read that."""
    try:
        with open(os.path.join(state_dir, "run", "lock"), encoding="ascii", errors="replace") as file:
            words = [line.split() for line in file]
    except OSError:
        return ""
    return next((line[1] for line in words if len(line) == 3 and line[0] == "controller"), "")


def _running(rows: Iterable[Json]) -> int:
    return sum(row.get("pid") is not None for row in rows)


def _change(before: Json, after: Json, field: str) -> str:
    return f"{before.get(field) or '-'} -> {after.get(field) or '-'}"


def _kept(before: Iterable[Json], after: Iterable[Json]) -> str:
    """How many processes are still the same. Those that ended meanwhile did so by themselves."""
    # Not by startedAt: each controller works it out from the clocks of its own, and may be a millisecond off.
    old, new = (
        {(row.get("program"), row.get("replica"), row["pid"]) for row in rows if row.get("pid")}
        for rows in (before, after)
    )
    ended = len(old - new)
    return f"{counted(len(old & new), 'process')} kept" + (f" ({ended} ended meanwhile)" if ended else "")


def _verdict(before: Json, after: Json, *, keeper: bool) -> int:
    code = DONE
    if keeper and after.get("keeperReplaced") == before.get("keeperReplaced"):
        error(f"keeper {after.get('keeperPid')} is still the old one: its log (standard error of `run`) says why")
        code = FAILED
    if after.get("safeMode"):
        deaths = after.get("controllerDeaths")
        error(f"the new controller runs in safe mode, {deaths} died before it: mend what kills it, then reexec again")
        code = FAILED
    for text in after.get("warnings") or ():
        warning(str(text))
    return code
