"""Has the controller run ahead of what it starts, where the kernel lets it.

On a host that is busy a process that ended is replaced only when the controller gets a CPU, and it would wait for one
behind those that it supervises. It needs little, and they begin with the priority that it began with.
"""

import contextlib
import os

AHEAD = -5  # as of the kernel's scale from -20 to 19; from here on who wakes up does not wait for whoever runs


def run_ahead() -> None:
    """Rank this thread before others, and none of what is forked from it (sched(7), SCHED_RESET_ON_FORK).

    Left as it is where somebody chose a priority or a policy for us, and where we may not (CAP_SYS_NICE, RLIMIT_NICE).
    """
    if os.getpriority(os.PRIO_PROCESS, 0) != 0 or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return
    with contextlib.suppress(OSError):
        # In this order: nobody forked in between is ahead.
        os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))
        os.setpriority(os.PRIO_PROCESS, 0, AHEAD)


def nice_of_processes() -> int:
    """The niceness that a process begins with when this thread starts it."""
    own = os.getpriority(os.PRIO_PROCESS, 0)
    return max(0, own) if os.sched_getscheduler(0) & os.SCHED_RESET_ON_FORK else own
