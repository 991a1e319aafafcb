"""The operator's imperative wishes for one Program, as they stand in its override file: visible, and ending.

A wish ends by expiry, by its opposite (`start`), by `reset`, or (`scale`) when the written count changes. Requests for
a restart are no state but a counter: a process that was started under a lower one is outdated.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple


class Moment(NamedTuple):
    """Now, by both clocks. The wall clock may be set; CLOCK_BOOTTIME never jumps, and means nothing to another boot."""

    wall: float
    now: float = 0.0
    boot: str = ""


class Wish(NamedTuple):
    """Who asked, when, until when (both wall clock, seconds since the epoch; None: until it is taken back), and why.

    An hour is an hour, whatever somebody sets the clock to: in the boot that it was asked in, `ends_at` decides
    (CLOCK_BOOTTIME, time asleep included). Another boot has only the wall clock to know how long it was.
    """

    by: str
    at: float
    until: float | None = None
    reason: str = ""
    boot: str = ""
    ends_at: float = 0.0

    def is_over(self, moment: Moment) -> bool:
        """Whether its time has come."""
        if self.until is None:
            return False
        return moment.now >= self.ends_at if self.boot and self.boot == moment.boot else moment.wall >= self.until


class ScaleWish(NamedTuple):
    """A count instead of the written one."""

    replicas: int
    written: int  # spec.replicas then: once it differs, the manifest has the word again
    wish: Wish


class StopWish(NamedTuple):
    """Do not run: the whole Program (`ordinals` None) or some replicas. `now`: without waiting for the grace period."""

    ordinals: tuple[int, ...] | None
    now: bool
    wish: Wish


class RestartWish(NamedTuple):
    """The last restart asked for: the counter for all replicas, those for single ones, and whether at once."""

    epoch: int
    ordinals: tuple[tuple[int, int], ...]
    now: bool
    wish: Wish

    def highest(self) -> int:
        """The last number that was given out."""
        return max([self.epoch, *(epoch for _, epoch in self.ordinals)])


class Overrides(NamedTuple):
    """All wishes in force for one Program."""

    scale: ScaleWish | None = None
    stop: StopWish | None = None
    restart: RestartWish | None = None

    def in_force(self, moment: Moment, written_replicas: int) -> "Overrides":
        """What is left of it now: without what has expired or was answered by an edit."""
        scale, stop = self.scale, self.stop
        if scale is not None and (scale.wish.is_over(moment) or scale.written != written_replicas):
            scale = None
        if stop is not None and stop.wish.is_over(moment):
            stop = None
        return Overrides(scale, stop, self.restart)

    def is_over(self, moment: Moment) -> bool:
        """Whether the time of a wish has come."""
        if self.scale is None and self.stop is None:
            return False  # nearly all of thousands that are asked every second
        return any(w.wish.is_over(moment) for w in (self.scale, self.stop) if w is not None)

    def texts(self) -> list[str]:
        """What is overridden, as sentences for `status` and `apply`."""
        found = []
        if self.scale is not None:
            found.append(f"replicas is {self.scale.replicas} instead of {self.scale.written}{_signed(self.scale.wish)}")
        if self.stop is not None:
            which = "" if self.stop.ordinals is None else " " + ", ".join(map(str, self.stop.ordinals))
            found.append(f"stopped{which}{_signed(self.stop.wish)}")
        return found

    def as_document(self) -> dict[str, Any]:
        """The override file's content, JSON values only."""
        document: dict[str, Any] = {}
        for name, wish in self._asdict().items():
            if wish is not None:
                fields = wish._asdict()
                document[name] = {**{k: v for k, v in fields.items() if k != "wish"}, **fields["wish"]._asdict()}
        return document

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Overrides":
        """Read an override file's content. Raises KeyError, TypeError or ValueError when it is not one."""
        scale, stop, restart = (document.get(name) for name in cls._fields)
        return cls(
            ScaleWish(int(scale["replicas"]), int(scale["written"]), _wish(scale)) if scale else None,
            StopWish(_ordinals(stop["ordinals"]), bool(stop["now"]), _wish(stop)) if stop else None,
            RestartWish(
                int(restart["epoch"]),
                tuple((int(o), int(e)) for o, e in restart["ordinals"]),
                bool(restart["now"]),
                _wish(restart),
            )
            if restart
            else None,
        )


def _signed(wish: Wish) -> str:
    by = f" by {wish.by}" if wish.by else ""
    until = f" until {datetime.fromtimestamp(wish.until, UTC):%Y-%m-%dT%H:%M:%SZ}" if wish.until is not None else ""
    return by + until + (f": {wish.reason}" if wish.reason else "")


def _wish(fields: Mapping[str, Any]) -> Wish:
    until = fields.get("until")
    return Wish(
        str(fields["by"]),
        float(fields["at"]),
        None if until is None else float(until),
        str(fields["reason"]),
        str(fields.get("boot", "")),  # neither stands in the file of an earlier release
        float(fields.get("ends_at", 0.0)),
    )


def _ordinals(value: Any) -> tuple[int, ...] | None:
    return None if value is None else tuple(int(o) for o in value)


def pause_document(pause: Wish | None) -> dict[str, Any]:
    """The content of a binding's override file: `queue pause`, the one wish that there is for it."""
    return {"pause": pause._asdict()} if pause is not None else {}


def pause_from(document: Mapping[str, Any]) -> Wish | None:
    """Read one. Raises KeyError, TypeError or ValueError when it is not one."""
    return _wish(document["pause"]) if document.get("pause") else None


def pause_text(pause: Wish) -> str:
    """For `status` and `get`."""
    return f"paused{_signed(pause)}"
