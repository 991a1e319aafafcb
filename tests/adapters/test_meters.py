"""Threads that ask queues: every answer reaches the loop, a failure is an answer, a hang costs nobody else anything."""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from reconciler.adapters.queues import meters
from reconciler.adapters.queues.meters import WAIT_SECONDS, Threads
from reconciler.model.queues import QueueReadFailed, QueueReading
from reconciler.ports import QueueAnswer, QueueAsked, QueueMeter, QueueReader
from support.servers import until

SOON = 30.0  # a deadline, not a pause
NEVER_POLLED = 3600.0


class Server:
    """A queue server in memory; also the driver that opens readers of it."""

    polling_seconds = 0.001

    def __init__(self, waiting: float = 0.0, *, can_wait: bool = False) -> None:
        self.waiting, self.can_wait = waiting, can_wait
        self.fault: Exception | None = None
        self.came = threading.Event()
        self.let_go = threading.Event()  # set: a hanging read ends
        self.let_go.set()
        self.opened: list[Reader] = []
        self.waited_for = threading.Semaphore(0)

    def open(self, asked: QueueAsked) -> "Reader":
        if self.fault is not None:
            raise self.fault
        reader = Reader(self)
        self.opened.append(reader)
        return reader

    def put(self, waiting: float) -> None:
        self.waiting = waiting
        self.came.set()


class Reader:
    def __init__(self, server: Server) -> None:
        self.server = server
        self.closed = threading.Event()

    @property
    def can_wait(self) -> bool:
        return self.server.can_wait

    def read(self) -> QueueReading:
        self.server.let_go.wait(SOON)
        if self.server.fault is not None:
            raise self.server.fault
        return QueueReading(self.server.waiting)

    def wait(self, seconds: float) -> bool:
        self.server.waited_for.release()
        self.server.came.wait(SOON)
        return not self.closed.is_set()

    def close(self) -> None:
        self.closed.set()
        self.server.came.set()


class Loop:
    """Stands for the event loop: what is to be called in it waits here until the test runs it."""

    def __init__(self) -> None:
        self.calls: queue.Queue[Callable[[], None]] = queue.Queue()

    def run_one(self) -> None:
        self.calls.get(timeout=SOON)()


class Rig:
    def __init__(self) -> None:
        self.loop = Loop()
        self.answers: list[Sequence[QueueAnswer]] = []
        self.meters: list[QueueMeter] = []

    def open(self, *servers: Server, polling: float | None = NEVER_POLLED, find: Any = None) -> QueueMeter:
        byname = {f"s{index}": server for index, server in enumerate(servers)}
        threads = Threads(find or byname.__getitem__, self.loop.calls.put)
        asked = [QueueAsked(name, {}, "/", {}, 100) for name in byname]
        meter = threads.open("mails", asked, polling, self.answers.append)
        self.meters.append(meter)
        return meter

    def next(self) -> Sequence[QueueAnswer]:
        """The next answers that reach the loop."""
        before = len(self.answers)
        while len(self.answers) == before:
            self.loop.run_one()
        return self.answers[-1]


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    for meter in rig.meters:
        meter.close()


def test_all_triggers_are_asked_and_told_together(rig: Rig) -> None:
    rig.open(Server(3), Server(5))
    assert rig.next() == [QueueReading(3), QueueReading(5)]


def test_it_goes_on_asking_as_often_as_the_driver_proposes(rig: Rig) -> None:
    server = Server(3)
    rig.open(server, polling=None)
    rig.next()
    server.waiting = 4
    while rig.next() != [QueueReading(4)]:
        pass


def test_how_often_it_asks_is_the_bindings_business_else_the_most_eager_drivers(rig: Rig) -> None:
    eager, lazy = Server(0), Server(0)
    lazy.polling_seconds = 30.0
    meter = rig.open(lazy, eager, polling=None)
    rig.next()
    assert meter.polling_seconds == eager.polling_seconds
    assert rig.open(lazy, polling=7.0).polling_seconds == 7.0
    alone = rig.open(lazy, polling=None)
    rig.next()
    assert alone.polling_seconds == 30.0


def test_somebody_who_knows_of_something_new_need_not_wait_for_the_interval(rig: Rig) -> None:
    server = Server(0)
    meter = rig.open(server)
    rig.next()
    server.waiting = 1
    meter.look()
    assert rig.next() == [QueueReading(1)]


def test_an_empty_queue_is_waited_for_on_its_server(rig: Rig) -> None:
    server = Server(0, can_wait=True)
    rig.open(server)
    assert rig.next() == [QueueReading(0)]
    server.waited_for.acquire(timeout=SOON)
    server.put(7)
    assert rig.next() == [QueueReading(7)]


def test_a_queue_that_holds_something_is_not_waited_for(rig: Rig) -> None:
    server = Server(2, can_wait=True)
    meter = rig.open(server)
    rig.next()
    meter.look()
    rig.next()
    assert len(server.opened) == 1  # a waiter would have a connection of its own


@pytest.mark.parametrize("failure", [QueueReadFailed("TimedOut", "no answer"), QueueReadFailed("WrongType", "a set")])
def test_a_failure_to_read_is_an_answer(rig: Rig, failure: QueueReadFailed) -> None:
    server = Server(1)
    server.fault = failure
    meter = rig.open(server, Server(2))
    assert rig.next() == [failure, QueueReading(2)]
    server.fault = None
    meter.look()
    assert rig.next() == [QueueReading(1), QueueReading(2)]


def test_a_fault_of_a_driver_is_a_failure_of_that_trigger_only(rig: Rig) -> None:
    server = Server(1)
    server.fault = ZeroDivisionError("oops")
    rig.open(server, Server(2))
    failed, read = rig.next()
    assert isinstance(failed, QueueReadFailed)
    assert (failed.reason, str(failed), read) == (
        "DriverFailed",
        "the driver of s0 failed: ZeroDivisionError",
        QueueReading(2),
    )


def test_a_type_that_nobody_knows_fails_its_trigger(rig: Rig) -> None:
    def find(kind: str) -> Any:
        raise QueueReadFailed("DriverMissing", f"no driver for {kind}")

    rig.open(Server(), find=find)
    (failed,) = rig.next()
    assert isinstance(failed, QueueReadFailed)
    assert failed.reason == "DriverMissing"


def test_a_server_that_hangs_holds_up_its_own_binding_only(rig: Rig) -> None:
    hung = Server(1)
    hung.let_go.clear()
    rig.open(hung)
    rig.open(Server(9))
    assert rig.next() == [QueueReading(9)]
    hung.let_go.set()
    assert rig.next() == [QueueReading(1)]


@pytest.mark.parametrize("lacking", ["-", "queue look"])
def test_after_a_look_that_took_long_all_are_asked_at_the_same_time(
    rig: Rig, full: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    """Several servers that hang take no longer than one, and the others are still heard of."""
    monkeypatch.setattr(meters, "SLOW_SECONDS", 0.0)
    full(lacking)
    together = threading.Barrier(3 if lacking == "-" else 1, timeout=SOON)

    class Hanging(Reader):
        def read(self) -> QueueReading:
            if self.asked:
                together.wait()
            self.asked = True
            return super().read()

        asked = False

    class Slow(Server):
        def open(self, asked: QueueAsked) -> Reader:
            return Hanging(self)

    meter = rig.open(Slow(1), Slow(2), Slow(3))
    for _ in range(3):
        assert rig.next() == [QueueReading(1), QueueReading(2), QueueReading(3)]
        meter.look()


def test_nothing_is_told_after_the_end_and_connections_are_let_go(rig: Rig) -> None:
    server = Server(0, can_wait=True)
    meter = rig.open(server)
    rig.next()
    server.waited_for.acquire(timeout=SOON)
    meter.look()
    late = rig.loop.calls.get(timeout=SOON)
    meter.close()
    late()
    assert len(rig.answers) == 1
    assert all(reader.closed.wait(SOON) for reader in server.opened)


def test_a_wait_that_begins_while_the_meter_is_closed_ends(rig: Rig) -> None:
    class Closing(Reader):
        @property
        def can_wait(self) -> bool:
            rig.meters[0].close()  # between the question whether it is closed and the wait
            return True

    class Sly(Server):
        def open(self, asked: QueueAsked) -> Reader:
            reader = Closing(self)
            self.opened.append(reader)
            return reader

    begun = threading.Semaphore(0)
    server = Sly(0)
    rig.open(server, find=lambda kind: begun.acquire(timeout=SOON) and server)
    begun.release()
    until(lambda: "queue mails" not in thread_names(), SOON, "its thread ends")
    until(lambda: "queue wait mails" not in thread_names(), SOON, "and so does the one that would wait")
    assert all(reader.closed.is_set() for reader in server.opened)


def test_a_close_between_two_calls_of_who_waits_ends_it_too(rig: Rig) -> None:
    ready, closings = threading.Event(), threading.Semaphore(0)

    class Anew(Reader):
        """As readers do: what was closed is opened again by the next call."""

        def read(self) -> QueueReading:
            if threading.current_thread().name.startswith("queue wait"):
                ready.wait(SOON)
                rig.meters[0].close()
                for _ in range(2):  # by that, and by the thread of the meter, which ends
                    assert closings.acquire(timeout=SOON)
            return super().read()

        def wait(self, seconds: float) -> bool:
            self.closed.clear()
            self.server.waited_for.release()
            return not self.closed.wait(seconds)

        def close(self) -> None:
            super().close()
            if self is server.opened[-1]:
                closings.release()

    class Reopening(Server):
        def open(self, asked: QueueAsked) -> Reader:
            reader = Anew(self)
            self.opened.append(reader)
            return reader

    server = Reopening(0, can_wait=True)
    rig.open(server)
    ready.set()
    assert server.waited_for.acquire(timeout=SOON)
    until(lambda: "queue wait mails" not in thread_names(), WAIT_SECONDS / 2, "it ends before its wait is over")


def thread_names() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A host on which no thread can be started whose name begins so, until it is told another beginning."""
    start, refused = threading.Thread.start, ["-"]

    def start_or_refuse(thread: threading.Thread) -> None:
        if thread.name.startswith(refused[0]):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_or_refuse)
    return lambda name: refused.__setitem__(0, name)


def test_a_host_without_room_for_its_thread_is_told_and_it_begins_when_it_is_asked_to_look(
    rig: Rig, full: Callable[[str], None]
) -> None:
    full("queue mails")
    meter = rig.open(Server(3))
    (failed,) = rig.next()
    assert isinstance(failed, QueueReadFailed)
    assert "limit of processes" in str(failed)
    full("-")
    meter.look()
    assert rig.next() == [QueueReading(3)]


def test_a_host_without_room_for_a_thread_that_waits_is_polled(rig: Rig, full: Callable[[str], None]) -> None:
    full("queue wait")
    server = Server(0, can_wait=True)
    meter = rig.open(server)
    rig.next()
    meter.look()
    assert rig.next() == [QueueReading(0)]
    full("-")
    meter.look()
    rig.next()
    assert server.waited_for.acquire(timeout=SOON)


def test_a_server_that_cannot_be_waited_on_after_all_is_polled(rig: Rig) -> None:
    class Broken(Reader):
        def wait(self, seconds: float) -> bool:
            self.server.waited_for.release()
            raise QueueReadFailed("ServerError", "BLMOVE is unknown")

    class Old(Server):
        def open(self, asked: QueueAsked) -> Reader:
            return Broken(self)

    server = Old(0, can_wait=True)
    meter = rig.open(server)
    rig.next()
    server.waited_for.acquire(timeout=SOON)
    server.waiting = 3
    meter.look()
    assert rig.next() == [QueueReading(3)]


def _is_a_reader(reader: Reader) -> QueueReader:
    return reader  # mypy: the fake has the port's shape
