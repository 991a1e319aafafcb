"""When nobody was there: the moments for which a chaos run excuses something, and nothing beyond them.

    blind    no controller looks. A process that ends then is reaped by its keeper, which tells the next controller. If
             that keeper has died, too, or dies before it has told, nobody knows how the process ended: Unknown.
    spilt    neither keeper nor pump has the pipes open. What is in a pipe is lost when its last writer ends.

A moment begins when the test acts, and ends when a controller that was started later is ready. Times are those of the
ledger (CLOCK_BOOTTIME). Nothing here looks at anything: it is told.
"""

from collections.abc import Mapping
from dataclasses import dataclass

LAG_SECONDS = 2.0  # an end that nobody has written down after this long, although a controller was there, is a fault
PIPE_BYTES = 1 << 20  # the most that a pipe of the product holds
FOREVER = float("inf")


@dataclass(slots=True)
class Blind:
    """From when to when no controller looked."""

    began: float
    ended: float = FOREVER


@dataclass(slots=True)
class Spill:
    """From when to when neither keeper nor pump had the pipes open, and what waited in each of them before."""

    began: float
    waiting: Mapping[str, int]  # by the name of the FIFO
    ended: float = FOREVER


class Absences:
    """`orphans_tell`: whether this kernel says how a process ended to who watches it and is not its parent."""

    def __init__(self, *, orphans_tell: bool = True) -> None:
        self._orphans_tell = orphans_tell
        self._deaths: list[float] = []  # of keepers
        self._blind: list[Blind] = []
        self._spilt: list[Spill] = []
        self._gone: set[int] = set()  # controllers; a word of theirs that comes late says nothing

    # ---- what happens ----

    def keeper_goes(self, at: float, controller: int) -> None:
        """From now on nobody keeps the ends of processes that it was the parent of."""
        self._deaths.append(at)
        self.controller_goes(at, controller)

    def controller_goes(self, at: float, pid: int) -> None:
        """0: nobody knows which, or whether."""
        self._gone.add(pid)
        if not self._blind or self._blind[-1].ended < FOREVER:
            self._blind.append(Blind(at))

    def pipes_let_go(self, at: float, waiting: Mapping[str, int]) -> None:
        """Whoever held them last is about to go."""
        if not self._spilt or self._spilt[-1].ended < FOREVER:
            self._spilt.append(Spill(at, dict(waiting)))

    def ready(self, at: float, controller: int) -> None:
        """A controller has taken over all there is, from a keeper that holds all pipes."""
        if controller in self._gone:
            return
        for moment in self._blind[-1:] + self._spilt[-1:]:
            moment.ended = min(moment.ended, at)

    # ---- what that excuses ----

    def may_be_unknown(self, began: float, ended: float | None, told: float) -> bool:
        """Whether nobody may know how a process ended. `ended`: None when it did not say; `told`: written down then."""
        first, last = (began, told) if ended is None else (ended, ended)
        return any(self._is_unseen(death, began, first, last) for death in self._deaths)

    def _is_unseen(self, death: float, began: float, first: float, last: float) -> bool:
        """Whether that keeper took the end along, or would have been the one to see it.

        Its controller goes on for up to a second, and may start some more. The next one starts nothing before it is
        ready.
        """
        taken_over = next(blind.ended for blind in self._blind if death <= blind.ended)
        if began >= taken_over:
            return False
        if not self._orphans_tell and last >= death:
            return True
        return any(
            blind.ended >= death and first <= blind.ended and last >= blind.began - LAG_SECONDS for blind in self._blind
        )

    def spill_after(self, ended: float) -> Spill | None:
        """The first moment at which what this process left in its pipe may have gone. None: there was none."""
        return next((spill for spill in self._spilt if ended <= spill.ended), None)

    @property
    def spills(self) -> int:
        return len(self._spilt)
