"""`apply --wait`: watches until all is available at the generation that was answered, or will not be."""

import time
from collections.abc import Mapping
from typing import Any

from reconciler.cli import summary
from reconciler.cli.describe import last_lines
from reconciler.cli.exits import DONE, FAILED, TIMED_OUT
from reconciler.cli.output import error, note
from reconciler.cli.text import duration, exit_text
from reconciler.client import Client, ClientError, NoController, TimedOut

Json = dict[str, Any]

_RECONNECT_SECONDS = 0.2


class Waiting:
    """What is waited for, by name, and how far it was when last told."""

    def __init__(self, generations: Mapping[str, int]) -> None:
        self.open = dict(generations)
        self.failed: dict[str, str] = {}
        self.last: dict[str, Json] = {}
        self._told: dict[str, str] = {}

    def see(self, kind: str, thing: Json) -> None:
        """Take in one event of the watch."""
        name = summary.name_of(thing)
        if name not in self.open:
            return
        generation = self.open[name]
        self.last[name] = thing
        if kind == "DELETED":
            self._end(name, "it was deleted meanwhile")
        elif summary.generation_of(thing) > generation:
            self._end(name, f"somebody applied a newer generation ({summary.generation_of(thing)})")
        elif summary.is_rolled_out(thing, generation):
            del self.open[name]
            note(f"program/{name}: available")
        elif why := summary.failure_of(thing, generation):
            self._end(name, why)
        else:
            self._tell(name, progress(thing, generation))

    def _end(self, name: str, why: str) -> None:
        del self.open[name]
        self.failed[name] = why

    def _tell(self, name: str, text: str) -> None:
        if self._told.get(name) != text:
            self._told[name] = text
            note(f"program/{name}: {text}")


def progress(thing: Json, generation: int) -> str:
    """How far a rollout is, in one line that changes only when something happened."""
    status = thing.get("status", {})
    if int(status.get("observedGeneration") or 0) < generation:
        return "waiting for the controller to act on it"
    wanted = status.get("replicas") or 0
    text = (
        f"{status.get('updatedReplicas') or 0} of {wanted} up to date, {status.get('availableReplicas') or 0} available"
    )
    failing = [row for row in summary.processes_of(thing) if summary.is_failing(row)]
    if failing:
        text += f"; replica {failing[0].get('replica')} fails ({exit_text(failing[0].get('lastExit'))})"
    return text


def wait_until_available(client: Client, generations: Mapping[str, int], timeout_seconds: float) -> int:
    """Watch until nothing is open; the exit code."""
    waiting = Waiting(generations)
    until = time.monotonic() + timeout_seconds
    try:
        while waiting.open:
            _watch_once(client, waiting, until)
    except TimedOut:
        error(f"timed out after {duration(timeout_seconds)}")
        for name in waiting.open:
            _explain(client, name, "not available in time", _as_it_is_now(client, name) or waiting.last.get(name))
        _explain_failed(client, waiting)
        return TIMED_OUT
    _explain_failed(client, waiting)
    return FAILED if waiting.failed else DONE


def _watch_once(client: Client, waiting: Waiting, until: float) -> None:
    """One watch; it ends early when the controller is replaced, and the next one begins with all there is."""
    seen: set[str] = set()
    for event in client.watch_programs(until=until):
        kind, thing = str(event.get("type")), event.get("object") or {}
        if kind == "SYNCED":
            for name in set(waiting.open) - seen:
                waiting.see("DELETED", {"metadata": {"name": name}})
        else:
            seen.add(summary.name_of(thing))
            waiting.see(kind, thing)
        if not waiting.open:
            return
    if time.monotonic() >= until:
        raise TimedOut("not available in time")
    time.sleep(_RECONNECT_SECONDS)


def _as_it_is_now(client: Client, name: str) -> Json | None:
    """A watch tells once a second, and may have last seen the moment in which the one that fails was running."""
    try:
        return client.program(name)
    except ClientError:
        return None


def _explain_failed(client: Client, waiting: Waiting) -> None:
    for name, why in waiting.failed.items():
        _explain(client, name, why, waiting.last.get(name))


def _explain(client: Client, name: str, why: str, thing: Json | None) -> None:
    """The reason, and what the replica that fails said last."""
    error(f"program/{name}: {why}")
    if thing is None:
        return
    for finding in summary.findings(thing):
        if finding.text != why and not finding.is_remark:
            note(f"  {finding.type}: {finding.text}")
    failing = [row for row in summary.processes_of(thing) if summary.is_failing(row)]
    if not failing:
        return
    ordinal = failing[0].get("replica")
    note(f"  last lines of {name}/{ordinal}:")
    try:
        lines = last_lines(client, name, ordinal)
    except NoController:
        return
    for line in lines:
        note(f"  | {line}")
