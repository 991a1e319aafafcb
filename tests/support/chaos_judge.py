"""Compares four witnesses of a chaos run: the processes' ledger, the journal, what the API says, and the kernel.

`disagreements` is asked again and again while everybody stands still, until it has nothing to say or the patience is
over: some things (a report, a drain, a poll) take their time. What is left then is a fault. What has ended and was
found right is forgotten, so that a run may be long.
"""

import errno
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from reconciler.model.state import Outcome
from support.chaos_absences import Absences
from support.chaos_fleet import Fleet
from support.chaos_house import House
from support.chaos_journal import Books, Run, Tail
from support.chaos_ledger import Ledger, Life, is_alive
from support.chaos_lives import Lives
from support.chaos_logs import Logs
from support.chaos_order import strangeness
from support.daemon import Json

TERM, KILL = 15, 9
UNKNOWN, STOPPED, NOT_STARTED = Outcome.UNKNOWN.value, Outcome.STOPPED.value, Outcome.NOT_STARTED.value


class Fault(NamedTuple):
    """What went wrong, in a class of the final table."""

    kind: str
    text: str


@dataclass(slots=True)
class Tally:
    """What was looked at."""

    starts: int = 0
    exact: int = 0  # ends, each with the code or signal that the process says
    unknown: int = 0  # ends that nobody saw, while no keeper lived
    unseen: int = 0  # starts that were never written down, for the same reason
    withdrawn: int = 0  # intents that came to nothing
    unheld_bytes: int = 0  # that went with the last who had the pipe open, keeper and pump being dead at once
    fast: int = 0  # processes that ended before they could write a word
    refused: int = 0  # that the host did not take, having no room for another one
    kinds: Counter[str] = field(default_factory=Counter)


class Judge:
    """Knows all witnesses of one run."""

    def __init__(self, house: House, fleet: Fleet, ledger: Ledger, tail: Tail, logs: Logs) -> None:
        self.house, self.fleet, self.ledger, self.tail, self.logs = house, fleet, ledger, tail, logs
        self.books = Books()
        self.lives = Lives()
        self.tally = Tally()
        self.faults: list[Fault] = []

    def add(self, kind: str, text: str) -> None:
        self.faults.append(Fault(kind, text))
        self.tally.kinds[kind] += 1

    def look(self) -> None:
        """Take in what the witnesses have written. The ledger first: what it knows was intended before."""
        self.ledger.read()
        self.books.take(self.tail.take())
        for text in self.ledger.doubled:
            self.add("processes doubled", text)
        for text in self.books.faults:
            self.add("journal", text)
        for text in self.fleet.refused:
            self.add("refused", text)
        self.ledger.doubled.clear()
        self.books.faults.clear()
        self.fleet.refused.clear()

    # ---- while everybody stands still ----

    def disagreements(self) -> list[Fault]:
        """All that does not fit together now."""
        self.look()
        objects = {o["metadata"]["name"]: o for o in self.house.client.programs()["items"]}
        found = [Fault("not converged", text) for text in self.fleet.unlike(objects)]
        found += seat_faults(objects, self.ledger.alive(), self.books.counts)
        found += self._ends()
        self.logs.read()
        logged = self.logs.faults(self.ledger, self.books.runs, self.house.absences)
        found += [Fault("log bytes", text) for text in logged]
        found += [Fault("left over", text) for text in strangeness(self.house, self.ledger, objects)]
        return found

    def _ends(self) -> list[Fault]:
        """Every process that is gone, and how the journal says that it ended."""
        gone = [life for life in self.ledger.lives.values() if not is_alive(life)]
        found = [end_fault(life, self.books.runs.get(life.spawn), self.house.absences) for life in gone]
        silent = [run for run in self.books.runs.values() if run.spawn not in self.ledger.lives]
        found += [silence_fault(run, self.house.absences) for run in silent]
        return [fault for fault in found if fault is not None]

    # ---- and when they agree ----

    def settle(self, faults: list[Fault]) -> None:
        """These are the faults of a round; all else is right, and what has ended is forgotten."""
        for fault in faults:
            self.add(*fault)
        for text in self.house.strangers_disturbed():
            self.add("strangers", text)
        gone = [life for life in self.ledger.lives.values() if not is_alive(life)]
        for kind, text in self.lives.take(gone, self.books):
            self.add(kind, text)
        for kind, text in self.lives.unfinished(self.fleet, self._unknown_seats()):
            self.add(kind, text)
        self._count(gone)
        silent = [run.spawn for run in self.books.runs.values() if run.spawn not in self.ledger.lives]
        self.tally.fast += len(silent)
        self.tally.unheld_bytes += self.logs.unheld(self.ledger, gone)
        self.books.forget([*silent, *(life.spawn for life in gone)])
        self.logs.forget(gone)
        self.ledger.forget(gone)
        for book in self.logs.books.values():
            book.faults.clear()

    def _unknown_seats(self) -> set[tuple[str, int]]:
        """Where nobody knows how the last one ended: work that counts as done then is not done again."""
        objects = self.house.client.programs()["items"]
        seats = [(o["metadata"], row["replica"]) for o in objects for row in o["status"]["processes"]]
        lasts = {(meta["name"], ordinal): self.books.last(meta["uid"], ordinal) for meta, ordinal in seats}
        return {seat for seat, run in lasts.items() if run is not None and run.outcome == UNKNOWN}

    def _count(self, gone: list[Life]) -> None:
        for life in gone:
            run = self.books.runs.get(life.spawn)
            if run is None:
                continue
            self.tally.unseen += not run.pid
            if run.code is None and run.signal is None:
                self.tally.unknown += 1
            else:
                self.tally.exact += 1
        self.tally.refused += sum(map(is_refused, self.books.runs.values()))
        self.tally.withdrawn += sum(run.withdrawn for run in self.books.runs.values())
        self.tally.starts = self.ledger.began


def seat_faults(
    objects: Mapping[str, Json], alive: Iterable[Life], counts: Mapping[tuple[str, int], int]
) -> list[Fault]:
    """What the API says runs, beside who says he runs."""
    found = []
    living: dict[tuple[str, int], Life] = {}
    for life in alive:
        if (other := living.setdefault(life.seat, life)) is not life:
            found.append(Fault("processes doubled", f"{life} runs beside {other}"))
    shown = set()
    for name, found_object in objects.items():
        uid = found_object["metadata"]["uid"]
        for row in found_object["status"]["processes"]:
            seat = name, row["replica"]
            there = living.get(seat)
            if row["pid"] is not None:
                shown.add(seat)
            if (there.pid if there else None) != row["pid"]:
                kind = "processes lost" if there else "not converged"
                found.append(Fault(kind, f"{name}/{row['replica']}: shown is pid {row['pid']}, there is {there}"))
            counted = counts.get((uid, row["replica"]), 0)
            if row["runs"] != counted:
                found.append(Fault("runs", f"{seat}: {row['runs']} runs are shown, {counted} were started"))
    return found + [Fault("processes lost", f"nobody knows {life}") for s, life in living.items() if s not in shown]


def end_fault(life: Life, run: Run | None, absences: Absences) -> Fault | None:
    """What is wrong with how the journal says that a process ended which wrote that it began."""
    who = f"{life.program}/{life.ordinal} {life.spawn} (pid {life.pid})"
    if run is None:
        return Fault("journal", f"{who} was never intended")
    if run.withdrawn:
        return Fault("journal", f"{who} ran, the journal says it never began")
    if run.ended is None:
        return Fault("exit codes", f"the end of {who} is not known")
    if run.code is None and run.signal is None:
        if run.outcome in (UNKNOWN, STOPPED) and absences.may_be_unknown(run.at, life.gone or None, run.ended):
            return None
        return Fault("exit codes", f"how {who} ended is Unknown, and somebody saw it: {life}, {run}")
    if not run.pid:
        return Fault("exit codes", f"{who} was never written down as started: {run}")
    if (run.code, run.signal) == (life.code, life.signal) and life.ended is not None:
        return None
    # It was killed, perhaps between its last words and its end; or asked to end while it could not answer yet.
    by_kill = run.signal == KILL and (life.killed or run.killed)
    by_term = run.signal == TERM and run.stopped and life.ended is None
    if run.code is None and (by_kill or by_term):
        return None
    return Fault("exit codes", f"{who} ended otherwise than the journal says: {life}, {run}")


def silence_fault(run: Run, absences: Absences) -> Fault | None:
    """What is wrong with a run that no process wrote about. It was ended before it could, by a signal that is known."""
    by_signal = (run.signal == TERM and run.stopped) or (run.signal == KILL and run.killed)
    if run.withdrawn or is_refused(run) or (run.pid and run.code is None and by_signal):
        return None
    if run.ended is None:
        return Fault("processes lost", f"{run} never wrote a word, and nobody knows its end")
    unknown = run.code is None and run.signal is None and run.outcome in (UNKNOWN, STOPPED)
    if unknown and absences.may_be_unknown(run.at, None, run.ended):
        return None
    return Fault("exit codes", f"{run} never wrote a word")


def is_refused(run: Run) -> bool:
    """Whether the host had no room for another process, as the journal says: then there was none."""
    return not run.pid and run.outcome == NOT_STARTED and run.message == f"cannot fork: {os.strerror(errno.EAGAIN)}"
