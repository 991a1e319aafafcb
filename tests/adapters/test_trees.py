"""What is remembered of the processes of others on the same machine: no more than of those that live."""

from collections.abc import Iterator

import pytest

from reconciler.adapters.processes import procfs
from reconciler.adapters.processes.trees import Trees
from reconciler.model.identity import ProcessId
from support.fakes import FakeClock

OURS = 1
FIRST_PID = 1000


class Machine:
    """Processes by number, each with a birthmark, and the last number that was given away."""

    def __init__(self) -> None:
        self.marks: dict[int, int] = {}
        self.newest = FIRST_PID

    def start(self, mark: int) -> int:
        self.newest += 1
        self.marks[self.newest] = mark
        return self.newest

    def end(self, pid: int) -> None:
        del self.marks[pid]

    def stat(self, pid: int) -> procfs.Stat | None:
        return procfs.Stat("S", 1, pid, pid, 1, pid, 0) if pid in self.marks else None


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr(procfs, "birthmark_of", machine.marks.get)
    monkeypatch.setattr(procfs, "read_stat", machine.stat)
    monkeypatch.setattr(procfs, "is_thread", lambda pid: False)
    monkeypatch.setattr(procfs, "pids", lambda: list(machine.marks))
    monkeypatch.setattr(Trees, "_last_given", lambda self: (machine.newest, len(machine.marks)))
    return machine


@pytest.fixture
def trees(machine: Machine) -> Iterator[Trees]:
    trees = Trees(FakeClock(), (), lambda: {OURS}, marked=True)
    trees.look()
    yield trees
    trees.close()


def test_of_another_controllers_processes_only_those_that_live_are_remembered(machine: Machine, trees: Trees) -> None:
    alive = [machine.start(mark) for mark in range(100, 110)]
    most = 0
    for mark in range(1000, 4000):
        pid = machine.start(mark)
        trees.look()
        machine.end(pid)
        most = max(most, len(trees))
    assert most <= 64
    found = [member for mark in range(100, 110) for member in trees.members(ProcessId(1, 1), mark)]
    assert found == [ProcessId(pid, pid) for pid in alive]


def test_many_that_live_are_not_asked_again_for_each_that_comes(
    machine: Machine, trees: Trees, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(procfs, "read_stat", lambda pid: asked.append(pid) or machine.stat(pid))
    for mark in range(1000, 4000):
        machine.start(mark)
        trees.look()
    assert len(trees) == 3000
    assert len(asked) < 4 * 3000


def test_our_own_are_remembered_until_it_is_known_that_their_tree_is_empty(machine: Machine, trees: Trees) -> None:
    ours = machine.start(OURS)
    trees.look()
    machine.end(ours)  # what it may have started a moment before is still to be waited for
    for mark in range(1000, 2000):
        machine.end(machine.start(mark))
        machine.start(mark)
        trees.look()
    assert len(trees) == 1001
    trees.forget(ProcessId(1, 1), OURS)
    assert len(trees) == 1000
