"""The one place where the time is read.

Everything that decides is given `now` as an argument, so that a test can be any moment it likes.
"""

import time

from reconciler.model.overrides import Moment


class BootClock:
    """The machine's clocks: CLOCK_BOOTTIME for decisions, wall time for people."""

    def __init__(self) -> None:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            self._boot = file.read().strip()

    def moment(self) -> Moment:
        """Now by both clocks, and in which boot: for what was asked for in one and may end in another."""
        return Moment(self.wall(), self.now(), self._boot)

    def now(self) -> float:
        """Seconds of CLOCK_BOOTTIME: it never jumps, and it counts while the machine is suspended."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def wall(self) -> float:
        """Seconds since the epoch. It may jump either way, so nothing is ever decided by it."""
        return time.clock_gettime(time.CLOCK_REALTIME)
