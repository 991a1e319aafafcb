"""How many processes may be starting at a time, and whose turn it is when there are more.

A process counts from its spawn until it is available, but not for longer than LONGEST_START_SECONDS: until then it
loads its code, opens its connections and takes all the CPU it can get. A replica that has proved itself (its last run
succeeded, and another always follows) counts never: a fleet of quick run-once processes starts all the time.

Programs that have to wait stand in one line. A place that becomes free goes to the first of them, for one start; who
has more to start goes to the end of the line. So a Program of a thousand replicas does not keep one of two waiting.
"""

from collections.abc import Hashable, Sequence
from typing import Generic, TypeVar

from reconciler.core.health import available_at, is_proven
from reconciler.model.state import NEVER, Desired, History, Process

LONGEST_START_SECONDS = 10.0

P = TypeVar("P", bound=Hashable)


def counts(desired: Desired, history: History, revision: str) -> bool:
    """Whether a process that is started now at this revision will count as starting."""
    return desired.min_ready > 0 and not is_proven(desired, history, revision)


def starting_until(desired: Desired, process: Process, history: History) -> float:
    """Until when this process counts as starting; in the past when it does not."""
    return min(available_at(desired, process, history), process.started_at + LONGEST_START_SECONDS)


class Starts(Generic[P]):
    """Who is starting, and who stands in line. `most` 0: there is no bound, nobody waits, and nothing is kept."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._until: dict[tuple[P, int], float] = {}
        self._line: dict[P, int] = {}  # how many each would start, in the order of their turns
        self._granted: dict[P, int] = {}  # places that were given and are not taken yet

    def allowed(self, program: P, now: float) -> float:
        """How many more this Program may start now: what it was granted, or all that is free when nobody waits."""
        if not self.most:
            return NEVER
        granted = self._granted.get(program, 0)
        return granted if granted or self._line else self._free(now)

    def began(self, program: P, ordinal: int, until: float) -> None:
        """A process was started, or found: it takes a place until then."""
        if self.most:
            self._until[program, ordinal] = until
            self._take_grant(program)

    def ended(self, program: P, ordinal: int) -> None:
        """A process ended: it does not start any more."""
        self._until.pop((program, ordinal), None)

    def waits(self, program: P, count: int) -> None:
        """It would start so many more: it keeps its place in the line, or stands at the end. 0: it leaves the line.

        What it was granted and did not take is free again.
        """
        self._granted.pop(program, None)
        if count:
            self._line[program] = count
        else:
            self._line.pop(program, None)

    def turns(self, now: float) -> Sequence[P]:
        """Give what is free to those who wait, one by one; whose turn it is now, as often as they may start."""
        if not self._line:
            return ()
        self._forget_the_started(now)
        turns: list[P] = []
        while self._line and self._free(now):
            program, count = next(iter(self._line.items()))
            del self._line[program]
            if count > 1:
                self._line[program] = count - 1
            self._granted[program] = self._granted.get(program, 0) + 1
            turns.append(program)
        return turns

    def next_turn_at(self) -> float:
        """When a place becomes free if nothing happens; NEVER when nobody waits for one."""
        return min(self._until.values(), default=NEVER) if self._line else NEVER

    def starting(self, now: float) -> int:
        """How many count as starting."""
        return sum(until > now for until in self._until.values())

    def _free(self, now: float) -> int:
        given = sum(self._granted.values())
        if len(self._until) + given >= self.most:
            self._forget_the_started(now)
        return max(0, self.most - len(self._until) - given)

    def _forget_the_started(self, now: float) -> None:
        self._until = {seat: until for seat, until in self._until.items() if until > now}

    def _take_grant(self, program: P) -> None:
        left = self._granted.get(program, 0) - 1
        if left > 0:
            self._granted[program] = left
        else:
            self._granted.pop(program, None)
