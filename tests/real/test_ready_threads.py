"""The threads of the event loop are there from the start: a host that gives no more later refuses nobody's work."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from reconciler.startup import THREADS, ready_threads


class Host:
    """Where so many threads may yet be started."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 1000
        self._start = threading._start_new_thread  # type: ignore[attr-defined]
        monkeypatch.setattr(threading, "_start_new_thread", self._give)

    def _give(self, run: Callable[[], object], *arguments: Any, **named: Any) -> Any:
        if self.left <= 0:
            raise RuntimeError("can't start new thread")
        self.left -= 1

        def run_and_give_back() -> None:
            try:
                run()
            finally:
                self.left += 1

        return self._start(run_and_give_back, *arguments, **named)


@pytest.fixture
def host() -> Iterator[Host]:
    with pytest.MonkeyPatch.context() as patch:
        yield Host(patch)


async def done_side_by_side(count: int) -> list[int]:
    """What so many calls answer, each in a thread, when all are asked for at once."""
    return await asyncio.gather(*(asyncio.to_thread(lambda number=number: number) for number in range(count)))


async def test_work_is_done_when_no_thread_can_be_had_any_more(host: Host) -> None:
    pool = ready_threads()
    asyncio.get_running_loop().set_default_executor(pool)
    host.left = 0
    assert await done_side_by_side(100) == list(range(100))
    host.left = 1  # the test's event loop ends with one


async def test_all_of_them_are_there(host: Host) -> None:
    pool, together = ready_threads(), threading.Barrier(THREADS)
    host.left = 0
    places = {task.result(20) for task in [pool.submit(together.wait, 10) for _ in range(THREADS)]}
    assert places == set(range(THREADS)), "they wait for each other"
    pool.shutdown()


async def test_it_makes_do_with_those_that_the_host_gives(host: Host) -> None:
    host.left = 2
    pool = ready_threads()
    host.left = 0
    asyncio.get_running_loop().set_default_executor(pool)
    assert await done_side_by_side(20) == list(range(20))
    host.left = 1


def test_without_a_single_one_it_says_so(host: Host) -> None:
    host.left = 0
    with pytest.raises(RuntimeError, match="can't start new thread"):
        ready_threads()
