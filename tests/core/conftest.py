"""What tests of the keeper share: its log to look at, and its signals, taken back afterwards."""

import os
import signal
from collections.abc import Iterator

import pytest

from reconciler.keeping import footing
from support.keeper_rig import Lines


@pytest.fixture
def log() -> Lines:
    return Lines()


@pytest.fixture
def signals() -> Iterator[footing.Signals]:
    """The real thing, taken back afterwards."""
    numbers = [getattr(signal, f"SIG{name}") for name in (*footing.PASSED_ON, "CHLD", "PIPE")]
    before = {number: signal.getsignal(number) for number in numbers}
    wakeup_fd = signal.set_wakeup_fd(-1)
    found = footing.Signals()
    yield found
    os.close(signal.set_wakeup_fd(wakeup_fd))
    os.close(found.fd)
    for number, handler in before.items():
        signal.signal(number, handler)
