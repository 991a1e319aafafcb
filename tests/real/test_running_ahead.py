"""The controller gets a CPU before those that it starts, and they do not inherit that."""

import subprocess
import sys

import pytest

MAY = not subprocess.run(["nice", "-n", "-1", "true"], capture_output=True, check=True).stderr
needs_the_right = pytest.mark.skipif(not MAY, reason="needs CAP_SYS_NICE")
AHEAD = """
import os, subprocess, sys
from reconciler.adapters.processes.priority import nice_of_processes, run_ahead
run_ahead()
run_ahead()  # as after an exec
begun = int(subprocess.run(["nice"], capture_output=True, check=True).stdout)
assert begun == nice_of_processes(), (begun, nice_of_processes())
print(os.getpriority(os.PRIO_PROCESS, 0), begun)
"""


def ranks(*before: str) -> tuple[int, int]:
    """The niceness of one that wants to run ahead, and of what it starts, when it is started by these words."""
    done = subprocess.run([*before, sys.executable, "-c", AHEAD], capture_output=True, text=True, check=True)
    own, begun = done.stdout.split()
    return int(own), int(begun)


@needs_the_right
def test_it_runs_ahead_of_what_it_starts() -> None:
    assert ranks() == (-5, 0)


@needs_the_right
@pytest.mark.parametrize("nice", [-3, 4])
def test_a_priority_that_somebody_chose_stays_and_is_inherited(nice: int) -> None:
    assert ranks("nice", "-n", str(nice)) == (nice, nice)


def test_a_policy_that_somebody_chose_stays() -> None:
    assert ranks("chrt", "--batch", "0") == (0, 0)


@needs_the_right
def test_where_it_may_not_it_does_not() -> None:
    assert ranks("setpriv", "--bounding-set=-sys_nice", "--inh-caps=-sys_nice") == (0, 0)
