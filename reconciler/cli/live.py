"""The live side of `up`: a keeper beside us, its events as they come, one line on how things are, and an end in order.

Asks like any other client, so what is shown is what the controller says. The keeper has a session of its own: Ctrl-C
reaches us alone, and we pass on what is meant.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Any, NoReturn

from reconciler.cli import summary
from reconciler.cli.details import event_line
from reconciler.cli.exits import DONE, FAILED
from reconciler.cli.following import Following
from reconciler.cli.output import error, hint, note, problem_text
from reconciler.cli.text import age, counted, is_terminal, moment, now, paint, plain, terminal_columns
from reconciler.client import Client, ClientError, socket_in

Json = dict[str, Any]

IDLE_SECONDS = 0.25
START_SECONDS = 30.0
SAME_PRESS_SECONDS = 1.0  # a second Ctrl-C within this time is the first one, pressed long
LOG_LINES = 20
_WAITING_SHOWN = 6
_BAR_CELLS = 12
_KEPT_EVENTS = 5_000


class Live:
    """One `up`, from start to end."""

    def __init__(
        self,
        state_dir: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        paths: Sequence[str],
        *,
        output: bool = True,
    ) -> None:
        self._state_dir, self._command, self._environment = state_dir, command, environment
        self._paths = paths
        self._client = Client([socket_in(state_dir)], timeout_seconds=5.0)
        self._log_path = os.path.join(state_dir, "up.log")
        self._screen = Screen()
        self._following = Following([socket_in(state_dir)]) if output else None
        self._seen: dict[tuple[Any, ...], None] = {}  # events that were printed, oldest first
        self._problems: list[Json] = []
        self._things: list[Json] = []
        self._look_after = 0.0

    def run(self) -> int:
        """Start, show, and end; the exit code."""
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _as_interrupt)
        with open(self._log_path, "wb") as log:
            keeper = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(self._environment),
                start_new_session=True,
            )
        try:
            if self._has_started(keeper):
                self._show(keeper)
        except KeyboardInterrupt:
            return self._end(keeper)
        return self._gone(keeper)

    # -- showing -------------------------------------------------------------------------------------------------------

    def _has_started(self, keeper: "subprocess.Popen[bytes]") -> bool:
        note(f"{paint('up', 'bold', sys.stderr)} {', '.join(self._paths)}")
        note(f"  in another terminal: reconciler --state-dir {self._state_dir} status")
        note(f"  the daemon's own log: {self._log_path}")
        until = time.monotonic() + START_SECONDS
        while keeper.poll() is None:
            try:
                if self._client.is_ready():
                    return True
            except ClientError:  # not yet listening
                pass
            if time.monotonic() > until:
                hint(f"the controller takes long to start; see {self._log_path}")
                until = float("inf")
            time.sleep(0.05)
        return False

    def _show(self, keeper: "subprocess.Popen[bytes]") -> None:
        """Until the keeper is gone. The controller may be replaced meanwhile: then we listen again."""
        while keeper.poll() is None:
            try:
                is_new = True
                for event in self._client.watch_events(idle_seconds=IDLE_SECONDS):
                    if is_new:  # from here on nothing is missed; what was before is asked for
                        self._print_events(self._client.events())
                        is_new = False
                    self._print_events([event] if event else [])
                    self._look()
                    self._print_output()
                    if keeper.poll() is not None:
                        return
            except ClientError:
                pass
            time.sleep(0.1)

    def _print_events(self, events: Sequence[Json]) -> None:
        for event in events:
            key = tuple(event.get(part) for part in ("at", "name", "ordinal", "reason", "message"))
            if key in self._seen:
                continue
            self._seen[key] = None
            if len(self._seen) > _KEPT_EVENTS:
                del self._seen[next(iter(self._seen))]
            self._screen.print(event_line(event))

    def _print_output(self) -> None:
        if self._following is not None:
            for line in self._following.lines():
                self._screen.print(line)

    def _look(self) -> None:
        """How things are. The more there is to look at, the more seldom."""
        began = time.monotonic()
        if began < self._look_after:
            return
        answer = self._client.programs()
        self._things = list(answer.get("items") or ())
        if self._following is not None:
            self._following.programs(summary.name_of(thing) for thing in self._things)
        problems = list(answer.get("problems") or ())
        for problem in problems:
            if problem not in self._problems:
                self._screen.print(problem_text(problem, sys.stdout))
        for problem in self._problems:
            if problem not in problems:
                where = plain(f"{problem.get('file')}:{problem.get('line')}")
                self._screen.print(paint(f"no longer a problem: {where}", "dim"))
        self._problems = problems
        bound = any("Bound" in summary.conditions_of(thing) for thing in self._things)
        self._screen.live(live_line(self._things, problems, self._client.queuebindings() if bound else ()))
        self._look_after = time.monotonic() + max(IDLE_SECONDS, 10 * (time.monotonic() - began))

    # -- ending --------------------------------------------------------------------------------------------------------

    def _gone(self, keeper: "subprocess.Popen[bytes]") -> int:
        """The keeper ended although nobody asked us."""
        self._screen.live("")
        code = keeper.wait()
        if code == 0:
            note("the daemon was shut down")
            return DONE
        error(f"the daemon ended with {code}; the end of {self._log_path}:")
        with open(self._log_path, encoding="utf-8", errors="replace") as log:
            for line in log.read().splitlines()[-LOG_LINES:]:
                note(f"  {plain(line)}")
        return code if 0 < code < 8 else FAILED

    def _end(self, keeper: "subprocess.Popen[bytes]") -> int:
        """Drain, and say what is waited for; on a further Ctrl-C ask, then kill."""
        keeper.send_signal(signal.SIGTERM)
        self._screen.live("")
        wrong = unwell(self._things, self._problems)
        pressed = time.monotonic()
        self._screen.print("draining; Ctrl-C again to kill")
        while True:
            try:
                self._await_end(keeper)
                break
            except KeyboardInterrupt:
                is_same = time.monotonic() - pressed < SAME_PRESS_SECONDS
                pressed = time.monotonic()
                if not is_same and self._is_to_be_killed():
                    keeper.send_signal(signal.SIGINT)
        if keeper.returncode:
            return self._gone(keeper)
        self._screen.print("all processes have ended")
        for line in wrong:
            error(line)
        return FAILED if wrong else DONE

    def _await_end(self, keeper: "subprocess.Popen[bytes]") -> None:
        told = ""
        client = Client([socket_in(self._state_dir)], timeout_seconds=1.0)
        while keeper.poll() is None:
            self._print_output()
            try:
                text = waiting_text(client.processes(), now())
            except ClientError:  # it answers no more
                text = "waiting for the daemon to end"
            if self._screen.is_live:
                self._screen.live(text)
            elif text.partition(" (")[0] != told:
                told = text.partition(" (")[0]
                self._screen.print(told)
            time.sleep(0.1)
        self._screen.live("")

    def _is_to_be_killed(self) -> bool:
        self._screen.live("")
        if not is_terminal(sys.stdin):
            return True
        try:
            return input("kill what is left? [y/N] ").strip().lower() in ("y", "yes")
        except KeyboardInterrupt:
            return True
        except EOFError:
            return False


class Screen:
    """Lines that stay, and below them one that is rewritten; without a terminal only the former."""

    def __init__(self) -> None:
        self.is_live = is_terminal(sys.stdout) and os.environ.get("TERM") != "dumb"
        self._line = ""

    def print(self, text: str) -> None:
        """A line that stays."""
        shown = self._line
        self.live("")
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
        self.live(shown)

    def live(self, text: str) -> None:
        """The line at the bottom; empty takes it away."""
        if not self.is_live or text == self._line:
            return
        self._line = text
        cut = text[: terminal_columns() - 1]
        sys.stdout.write(f"\r\x1b[K{paint(cut, 'dim') if cut else ''}")
        sys.stdout.flush()


def live_line(things: Sequence[Json], problems: Sequence[Json], bindings: Sequence[Json] = ()) -> str:
    """How things are: `7 of 8 processes ready in 2 Programs | mails ■■■□□□ 12 waiting | api 1/2 CrashLoop`."""
    statuses = [thing.get("status") or {} for thing in things]
    ready, wanted = (sum(int(s.get(key) or 0) for s in statuses) for key in ("readyReplicas", "replicas"))
    parts = [f"{ready} of {counted(wanted, 'process')} ready in {counted(len(things), 'Program')}"]
    parts += [queue_text(binding) for binding in bindings]
    for thing in things:
        state = summary.state_of(thing)
        if state not in ("Available", "Succeeded", "Idle"):
            status = thing.get("status", {})
            count = f"{status.get('readyReplicas') or 0}/{status.get('replicas') or 0}"
            parts.append(f"{plain(summary.name_of(thing))} {count} {state}")
    if problems:
        parts.append(counted(len(problems), "problem"))
    return " | ".join([*parts, "Ctrl-C ends"])


def queue_text(binding: Json) -> str:
    """A binding in a few characters: who runs of how many there may be, and what waits."""
    status, most = binding.get("status") or {}, int(binding.get("spec", {}).get("maxReplicaCount") or 0)
    running = min(int(status.get("runningReplicas") or 0), most)
    bar = "■" * running + "□" * (most - running) if most <= _BAR_CELLS else f"{running}/{most}"
    triggers = status.get("triggers") or ()
    known = [each["waiting"] for each in triggers if each.get("waiting") is not None]
    waiting = f"{sum(known):g} waiting" if known else "not read"
    return plain(f"{summary.name_of(binding)} {bar} {waiting}")


def unwell(things: Sequence[Json], problems: Sequence[Json]) -> list[str]:
    """What had not become as it was wished."""
    lines = [f"{problem.get('file')}: {problem.get('message')}" for problem in problems if _is_error(problem)]
    for thing in things:
        if not summary.is_available(thing):
            found = [finding for finding in summary.findings(thing) if not finding.is_remark]
            reasons = "; ".join(f"{finding.type}: {finding.text}" for finding in found) or summary.state_of(thing)
            lines.append(f"{summary.reference(thing)} was not available: {reasons}")
    return lines


def waiting_text(rows: Sequence[Json], at: float) -> str:
    """Whom the drain waits for, and for how long at most."""
    alive = [row for row in rows if row.get("pid") is not None]
    if not alive:
        return "waiting for the daemon to end"
    names = [f"{row.get('program')}/{row.get('replica')}" for row in alive[:_WAITING_SHOWN]]
    more = f" and {len(alive) - len(names)} more" if len(alive) > len(names) else ""
    ends = [killed for row in alive if (killed := moment(row.get("killAt"))) is not None]
    left = f" ({age(max(ends) - at)} left)" if ends and len(ends) == len(alive) else ""
    return plain(f"waiting for {', '.join(names)}{more}{left}")


def _is_error(problem: Json) -> bool:
    return problem.get("severity") != "warning"


def _as_interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """TERM and HUP (the terminal was closed) mean the same as Ctrl-C."""
    raise KeyboardInterrupt
