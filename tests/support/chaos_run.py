"""A chaos run: rounds of steps, each round ended by a pause in which all books are compared.

    load and mishaps, deaths ... -> what is written is what runs -> everybody stands still -> judged -> on it goes

The state directory lives through the whole run. The first fault of a round is told with what was done before it.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from io import StringIO
from pathlib import Path
from random import Random

from reconciler.adapters.journal import SEGMENT
from reconciler.client import ClientError
from support.chaos_acts import Acts, Step
from support.chaos_fleet import PRINTING, Fleet
from support.chaos_house import House
from support.chaos_journal import Tail
from support.chaos_judge import Fault, Judge
from support.chaos_keeper import KEPT
from support.chaos_ledger import Ledger
from support.chaos_logs import Logs

CONVERGE_SECONDS = 60.0
STAND_STILL_SECONDS = 30.0
LOOK_SECONDS = 0.1


class Chaos:
    """One run on one folder, from one seed."""

    def __init__(self, folder: Path, seed: int, *, tell: Callable[[str], None] = print) -> None:
        self.seed, self.tell = seed, tell
        self.house = House(folder)
        self.ledger = Ledger(folder)
        self.fleet = Fleet(self.house)
        self.tail = Tail(self.house.state / "run" / "journal" / SEGMENT, folder / KEPT)
        logs = Logs(self.house.state / "logs", PRINTING)
        self.judge = Judge(self.house, self.fleet, self.ledger, self.tail, logs)
        self.acts = Acts(self.house, self.fleet, self.ledger, lambda text: self.judge.add("not converged", text))
        self.rounds = self.steps = 0

    @property
    def kills(self) -> int:
        return sum(self.house.kills.values())

    def begin(self) -> None:
        self.fleet.write_all()
        self.house.add_stranger()
        self.house.start()

    def round(self, kills: int) -> bool:
        """Steps until there were so many kills, then the verdict. True: nothing is wrong."""
        self.rounds += 1
        before, faults = self.kills, len(self.judge.faults)
        done: list[Step] = []
        while self.kills < before + kills:
            self.steps += 1
            step = Step(self.steps, Random(f"{self.seed}/{self.steps}"))
            done.append(step)
            self.acts.carry_out(step)
            self.judge.look()
        self._end()
        if new := self.judge.faults[faults:]:
            self._tell_faults(new, done)
        return not new

    def _end(self) -> None:
        """Let it come to rest, compare the books, and let it go on."""
        if not self.house.until_up():
            self.judge.add("not converged", "the daemon does not answer")
            return
        self.acts.settle()
        self._converge()
        self.ledger.pause()
        left = self._agreement()
        self.judge.settle(left)
        self.ledger.go_on()

    def _converge(self) -> None:
        """Wait until what is written is what runs. What is left of it then is found again by the judge."""
        deadline = time.monotonic() + CONVERGE_SECONDS
        while time.monotonic() < deadline:
            try:
                objects = {o["metadata"]["name"]: o for o in self.house.client.programs()["items"]}
                if not self.fleet.unlike(objects):
                    return
            except ClientError:
                pass
            self.judge.look()
            time.sleep(LOOK_SECONDS)

    def _agreement(self) -> list[Fault]:
        """What the witnesses disagree about when patience is over; mostly nothing."""
        deadline = time.monotonic() + STAND_STILL_SECONDS
        while True:
            found = self.judge.disagreements()
            if not found or time.monotonic() > deadline:
                return found
            time.sleep(LOOK_SECONDS)

    def _tell_faults(self, faults: list[Fault], steps: list[Step]) -> None:
        self.tell(f"round {self.rounds} (seed {self.seed}) is wrong:")
        for fault in faults[:20]:
            self.tell(f"  {fault.kind}: {fault.text}")
        if len(faults) > 20:
            self.tell(f"  and {len(faults) - 20} more")
        for step in steps:
            self.tell(f"    step {step.number}: {'; '.join(step.told)}")

    def end(self) -> None:
        self.acts.settle()
        self.ledger.go_on()
        self.house.clear_strangers()
        with nullcontext() if self.judge.faults else redirect_stdout(StringIO()):  # its portrait
            self.house.end()


@contextmanager
def chaos_in(folder: Path, seed: int, *, tell: Callable[[str], None] = print) -> Iterator[Chaos]:
    """A chaos run that has begun, and is ended whatever happens."""
    chaos = Chaos(folder, seed, tell=tell)
    try:
        chaos.begin()
        yield chaos
    finally:
        chaos.end()


def table(chaos: Chaos) -> str:
    """All that was done and found, in words and figures."""
    judge, kills = chaos.judge, chaos.house.kills
    tally = judge.tally
    ended = tally.exact + tally.unknown
    rows = [
        ("kills", f"{chaos.kills}: " + ", ".join(f"{name} {count}" for name, count in kills.items())),
        ("replaced in good order", ", ".join(f"{name} {count}" for name, count in chaos.house.replaced.items())),
        ("rounds, steps", f"{chaos.rounds}, {chaos.steps}"),
        ("processes started", f"{tally.starts}"),
        ("ends compared", f"{ended}: {tally.exact} exact, {tally.unknown} unknown (their keeper was killed)"),
        ("starts that a death interrupted", f"{tally.withdrawn} withdrawn, {tally.unseen} unseen, {tally.fast} silent"),
        ("starts that the host refused", f"{tally.refused} (cannot fork)"),
        ("log bytes compared", f"{judge.logs.bytes:,}"),
        (
            "log bytes in pipes that nobody held",
            f"{tally.unheld_bytes:,}, in {chaos.house.absences.spills} deaths of both",
        ),
        ("back-offs measured", f"{judge.lives.waits}"),
        ("checkpoints of the journal", f"{chaos.tail.segments - 1}"),
        ("strangers with a number of ours", f"{chaos.house.reused}"),
    ]
    kinds = ("processes lost", "processes doubled", "log bytes", "exit codes", "runs", "journal", "back-off",
             "work lost", "work repeated", "refused", "not converged", "strangers", "left over")  # fmt: skip
    rows += [(f"wrong: {kind}", str(tally.kinds[kind])) for kind in kinds]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in rows)
