"""The plan: what a pass decided, as a value that prints as text.

The one rendering serves `diff`, the log, the audit trail and the golden tests. Actions carry all that the actuator
needs, so that it decides nothing.
"""

from typing import NamedTuple

from reconciler.model.identity import ProcessId
from reconciler.model.state import NEVER, Cause


class Start(NamedTuple):
    """Spawn a process at a free ordinal."""

    ordinal: int
    revision: str
    epoch: int
    cause: Cause

    def __str__(self) -> str:
        return f"start  {self.ordinal}  revision {self.revision or '-'}  {self.cause}"


class Stop(NamedTuple):
    """Begin a drain: the stop signal now (unless `silent`), KILL to the tree at `kill_at`."""

    ordinal: int
    process: ProcessId
    kill_at: float
    silent: bool  # runOnce: not starting it again is how it is stopped
    rest: bool  # the main process is gone: the signal is for what it left behind
    cause: Cause

    def __str__(self) -> str:
        how = "await its end" if self.silent else "signal the rest" if self.rest else "signal"
        until = "no kill" if self.kill_at == NEVER else f"kill at {self.kill_at:.3f}"
        return f"stop   {self.ordinal}  pid {self.process.pid}  {how}, {until}  {self.cause}"


class Kill(NamedTuple):
    """KILL to the whole tree."""

    ordinal: int
    process: ProcessId
    cause: Cause

    def __str__(self) -> str:
        return f"kill   {self.ordinal}  pid {self.process.pid}  {self.cause}"


class Forget(NamedTuple):
    """Drop what is remembered of an ordinal that is no longer wanted, and release its log streams."""

    ordinal: int
    cause: Cause

    def __str__(self) -> str:
        return f"forget {self.ordinal}  {self.cause}"


class Rest(NamedTuple):
    """Note that a free ordinal is not wanted for now: what it ran last says nothing about how it comes back."""

    ordinal: int
    cause: Cause

    def __str__(self) -> str:
        return f"rest   {self.ordinal}  {self.cause}"


Action = Start | Stop | Kill | Forget | Rest


class Plan(NamedTuple):
    """What to do now for one Program, and when to look again although nothing has happened."""

    actions: tuple[Action, ...] = ()
    wake_at: float = NEVER
    held: tuple[int, ...] = ()  # due, and may not be started yet: whoever forbids it will say when

    def render(self) -> str:
        """One line per action in the order they are carried out, then who is held back, then when to look again."""
        lines = [str(action) for action in self.actions] or ["nothing to do"]
        lines += [f"hold   {ordinal}  may not start yet" for ordinal in self.held]
        lines.append("wake   on events only" if self.wake_at == NEVER else f"wake   at {self.wake_at:.3f}")
        return "\n".join(lines)


NOTHING = Plan()
