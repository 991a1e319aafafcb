"""Batches of what was accepted are taken apart by portions, after those who wait, and by one writer at a time."""

import asyncio
import logging

import pytest

from reconciler.engine import tidying
from reconciler.engine.tidying import PORTION, Tidying
from reconciler.model.objects import StateWriteFailed


class Store:
    """So many objects in batches."""

    def __init__(self, left: int) -> None:
        self.left, self.portions = left, list[int]()
        self.refuses: list[StateWriteFailed] = []
        self.lock = asyncio.Lock()

    @property
    def has_unsettled(self) -> bool:
        return self.left > 0

    def settle(self, most: int) -> bool:
        assert self.lock.locked(), "nobody else writes meanwhile"
        if self.refuses:
            raise self.refuses.pop()
        self.portions.append(min(most, self.left))
        self.left -= self.portions[-1]
        return self.left > 0


@pytest.fixture(autouse=True)
def _no_time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PAUSE_SECONDS", "LOOK_SECONDS", "REFUSED_SECONDS"):
        monkeypatch.setattr(tidying, name, 0)


async def until_done(tidying: Tidying) -> None:
    assert tidying._task is not None
    await asyncio.wait_for(tidying._task, 30)


async def turns(count: int = 50) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_by_portions_until_nothing_is_left() -> None:
    store = Store(2 * PORTION + 1)
    work = Tidying(store, store.lock)
    work.begin()
    work.begin()
    await until_done(work)
    assert store.portions == [PORTION, PORTION, 1]


async def test_where_there_is_no_batch_nothing_is_begun() -> None:
    store = Store(0)
    work = Tidying(store, store.lock)
    work.begin()
    assert work._task is None
    await work.close()


async def test_others_go_first_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(1)
    work = Tidying(store, store.lock)
    work.is_busy = lambda: True
    work.begin()
    await turns()
    assert store.portions == []
    work.is_busy = lambda: False
    await until_done(work)
    assert store.portions == [1]
    monkeypatch.setattr(tidying, "BUSY_SECONDS", 0)
    store.left, work.is_busy = 1, lambda: True
    work.begin()
    await until_done(work)
    assert store.portions == [1, 1]


async def test_it_waits_for_whoever_accepts() -> None:
    store = Store(1)
    work = Tidying(store, store.lock)
    async with store.lock:
        work.begin()
        await turns()
        assert (store.portions, work.holds_lock) == ([], False)
    await until_done(work)
    assert store.portions == [1]


async def test_a_disk_that_refuses_is_told_once_and_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    store = Store(1)
    store.refuses = [StateWriteFailed("/s/a.yaml", "full"), StateWriteFailed("/s/a.yaml", "full")]
    work = Tidying(store, store.lock)
    with caplog.at_level(logging.WARNING):
        work.begin()
        await until_done(work)
    assert store.portions == [1]
    assert [record.message for record in caplog.records] == [
        "what came at once has no files of its own yet: cannot write /s/a.yaml: full"
    ]


async def test_who_leaves_finishes_the_portion_that_was_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(3 * PORTION)
    work = Tidying(store, store.lock)
    loop, begun, go_on = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    real = store.settle

    def slowly(most: int) -> bool:
        loop.call_soon_threadsafe(begun.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(30)
        return real(most)

    monkeypatch.setattr(store, "settle", slowly)
    work.begin()
    await begun.wait()
    assert work.holds_lock
    leaving = asyncio.create_task(work.close())
    await turns()
    assert not leaving.done()
    go_on.set()
    await asyncio.wait_for(leaving, 30)
    assert store.portions == [PORTION]


async def test_who_leaves_does_not_wait_for_what_was_not_begun() -> None:
    store = Store(1)
    work = Tidying(store, store.lock)
    work.is_busy = lambda: True
    work.begin()
    await turns()
    await asyncio.wait_for(work.close(), 30)
    assert store.portions == []
