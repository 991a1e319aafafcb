"""Signals to who cannot have been replaced meanwhile: who is held by a pidfd, a group whose leader is ours."""

import os
import signal


def by_pidfd(pidfd: int, number: int) -> bool:
    """Signal this process. False when it is gone."""
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it took on another user: it is there, and out of our reach
    return True


def to_group(group: int, number: int) -> bool:
    """Signal this group. False when nobody is in it."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # the same
    return True


def group_of(pid: int) -> int:
    """The group of this process; -1 when it is gone."""
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return -1
