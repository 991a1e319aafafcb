"""Compares four witnesses of a chaos run: the processes' ledger, the journal, what the API says, and the kernel.

`disagreements` is asked again and again while everybody stands still, until it has nothing to say or the patience is
over: some things (a report, a drain, a poll) take their time. What is left then is a fault. What has ended and was
found right is forgotten, so that a run may be long.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from support.chaos_fleet import Fleet
from support.chaos_house import House
from support.chaos_journal import Books, Run, Tail
from support.chaos_ledger import Ledger, Life, is_alive
from support.chaos_lives import Lives
from support.chaos_logs import Logs
from support.chaos_order import strangeness
from support.daemon import Json

SLACK_SECONDS = 2.0  # an end may be unseen if a keeper died so soon after it


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
    kinds: Counter[str] = field(default_factory=Counter)


class Judge:
    """Knows all witnesses of one run."""

    def __init__(self, house: House, fleet: Fleet, ledger: Ledger, tail: Tail, logs: Logs) -> None:
        self.house, self.fleet, self.ledger, self.tail, self.logs = house, fleet, ledger, tail, logs
        self.books = Books()
        self.lives = Lives()
        self.tally = Tally()
        self.faults: list[Fault] = []
        self._keeper_deaths = 0  # at the end of the round before

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
        found += self._rows(objects)
        found += self._ends()
        self.logs.read()
        lives = self.ledger.lives.values()
        found += [Fault("log bytes", text) for text in self.logs.faults(self.ledger, lives, self.house.was_unheld)]
        found += [Fault("left over", text) for text in strangeness(self.house, self.ledger, objects)]
        return found

    def _rows(self, objects: dict[str, Json]) -> list[Fault]:
        """What the API says runs, beside who says he runs."""
        found = []
        living = {life.seat: life for life in self.ledger.alive()}
        shown = set()
        for name, found_object in objects.items():
            uid = found_object["metadata"]["uid"]
            for row in found_object["status"]["processes"]:
                seat = name, row["replica"]
                life = living.get(seat)
                if row["pid"] is not None:
                    shown.add(seat)
                if (life.pid if life else None) != row["pid"]:
                    kind = "processes lost" if life else "not converged"
                    found.append(Fault(kind, f"{name}/{row['replica']}: shown is pid {row['pid']}, there is {life}"))
                counted = self.books.counts.get((uid, row["replica"]), 0)
                if row["runs"] != counted:
                    found.append(Fault("runs", f"{seat}: {row['runs']} runs are shown, {counted} were started"))
        found += [Fault("processes lost", f"nobody knows {life}") for s, life in living.items() if s not in shown]
        return found

    def _ends(self) -> list[Fault]:
        """Every process that is gone, and how the journal says that it ended."""
        found = []
        for life in self.ledger.lives.values():
            if not is_alive(life):
                fault = self._end(life, self.books.runs.get(life.spawn))
                if fault is not None:
                    found.append(fault)
        for run in self.books.runs.values():
            if run.spawn not in self.ledger.lives and (text := self._silent(run)):
                found.append(Fault("exit codes", text))
        return found

    def _end(self, life: Life, run: Run | None) -> Fault | None:
        who = f"{life.program}/{life.ordinal} {life.spawn} (pid {life.pid})"
        if run is None:
            return Fault("journal", f"{who} was never intended")
        unseen = self._keeper_died(run)
        if run.withdrawn:
            return Fault("journal", f"{who} ran, the journal says it never began")
        if run.ended is None:
            return Fault("exit codes", f"the end of {who} is not known")
        if not run.pid and not unseen:
            return Fault("exit codes", f"{who} was never written down as started: {run.outcome}")
        if run.code is None and run.signal is None:
            return None if unseen else Fault("exit codes", f"how {who} ended is Unknown, and the keeper lived")
        said = (life.code, None) if life.code is not None else (None, life.signal)
        if life.ended is None:
            # It did not say: it was killed, by the test or by a KILL or TERM of the product.
            right = run.code is None and run.signal in ((9,) if life.killed else (9, 15))
        else:
            right = (run.code, run.signal) == said
        return None if right else Fault("exit codes", f"{who} ended with {said}, the journal says {run}")

    def _silent(self, run: Run) -> str:
        """A run that no process wrote about: it ended before it could, and then by a signal."""
        unseen = self._keeper_died(run)
        if run.withdrawn or (run.code is None and run.signal in (9, 15)) or (unseen and run.outcome == "Unknown"):
            return ""
        if run.ended is None:
            return f"{run} never wrote a word, and nobody knows its end"
        return f"{run} never wrote a word"

    def _keeper_died(self, run: Run) -> bool:
        """Whether a keeper died during the life of this process, or so soon after it that its end died with him."""
        end = float("inf") if run.ended is None else run.ended
        return any(run.at - SLACK_SECONDS <= at <= end for at in self.house.keeper_deaths)

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
        deaths = self.house.kills["keeper"]
        for kind, text in self.lives.unfinished(self.fleet, keeper_died=deaths > self._keeper_deaths):
            self.add(kind, text)
        self._keeper_deaths = deaths
        self._count(gone)
        silent = [run.spawn for run in self.books.runs.values() if run.spawn not in self.ledger.lives]
        self.tally.fast += len(silent)
        self.tally.unheld_bytes += self.logs.unheld(self.ledger, gone)
        self.books.forget([*silent, *(life.spawn for life in gone)])
        self.logs.forget(gone)
        self.ledger.forget(gone)
        for book in self.logs.books.values():
            book.faults.clear()

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
        self.tally.withdrawn += sum(run.withdrawn for run in self.books.runs.values())
        self.tally.starts = self.ledger.began
