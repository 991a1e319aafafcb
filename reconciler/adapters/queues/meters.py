"""Threads that ask queues: one per binding, and one more for each server that can be waited on.

Drivers block, and a server may hang: neither may cost the event loop a moment. A thread reads all triggers of its
binding, hands the answers to the loop, and sleeps until the interval is over or somebody wakes it. Once that has taken
long, all are read at the same time, so that several servers that hang take no longer than one. While a queue is
empty a second connection waits on its server, where that is possible, so that the first piece of work is noticed in
milliseconds. Waiting only advances the next look: when it fails, polling goes on.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence

from reconciler.model.queues import QueueReadFailed, QueueReading
from reconciler.ports import QueueAnswer, QueueAsked, QueueDriver, QueueReader

DEFAULT_POLLING_SECONDS = 1.0
WAIT_SECONDS = 5.0
END_SECONDS = 0.05
BREATH_SECONDS = 0.01
"""Least time between two looks, however often somebody wakes the thread."""

SLOW_SECONDS = 0.5
"""After a look that took longer, the next one is at all triggers at the same time."""

log = logging.getLogger("reconciler")

FindDriver = Callable[[str], QueueDriver]
"""The driver of a type of trigger. Raises QueueReadFailed: no such driver, or its client library is missing."""

CallInLoop = Callable[[Callable[[], None]], object]
"""asyncio's call_soon_threadsafe."""


class Threads:
    """Makes a meter per binding."""

    def __init__(self, find: FindDriver, call_in_loop: CallInLoop) -> None:
        self._find, self._call_in_loop = find, call_in_loop

    def open(
        self,
        name: str,
        asked: Sequence[QueueAsked],
        polling_seconds: float | None,
        told: Callable[[Sequence[QueueAnswer]], None],
    ) -> "Meter":
        """Begin to ask."""
        return Meter(name, [Asking(each, self._find) for each in asked], polling_seconds, told, self._call_in_loop)


class Asking:
    """One trigger: opened when it is first read, and again after it could not be."""

    def __init__(self, asked: QueueAsked, find: FindDriver) -> None:
        self._asked, self._find = asked, find
        self._driver: QueueDriver | None = None
        self.reader: QueueReader | None = None

    @property
    def polling_seconds(self) -> float:
        """What its driver proposes."""
        return self._driver.polling_seconds if self._driver else DEFAULT_POLLING_SECONDS

    def read(self) -> QueueAnswer:
        """Never raises: a fault of a driver is a failure to read."""
        try:
            if self.reader is None:
                self.reader = self.open()
            return self.reader.read()
        except QueueReadFailed as failure:
            return failure
        except Exception as fault:
            log.exception("trigger %s: its driver failed", self._asked.type)
            return QueueReadFailed("DriverFailed", f"the driver of {self._asked.type} failed: {type(fault).__name__}")

    def open(self) -> QueueReader:
        """A connection of its own. Raises what the driver raises."""
        if self._driver is None:
            self._driver = self._find(self._asked.type)
        return self._driver.open(self._asked)

    def can_wait(self) -> bool:
        """Whether its server can be waited on."""
        return self.reader is not None and self.reader.can_wait


class Meter:
    """The threads of one binding."""

    def __init__(
        self,
        name: str,
        asking: Sequence[Asking],
        polling_seconds: float | None,
        told: Callable[[Sequence[QueueAnswer]], None],
        call_in_loop: CallInLoop,
    ) -> None:
        self._name, self._asking, self._polling_seconds = name, asking, polling_seconds
        self._told, self._call_in_loop = told, call_in_loop
        self._closed = False
        self._is_slow = False
        self._wake = threading.Event()
        self._breath = threading.Event()  # set when closed: a pause that ends then
        self._waiters: dict[int, Waiter] = {}
        self._begun = False
        self._begin()

    def look(self) -> None:
        """Ask now."""
        if not self._begun and not self._closed:
            self._begin()
        self._wake.set()

    def close(self) -> None:
        """Ask no more. Connections are let go by the thread that uses them; one that hangs is left to its time-out."""
        self._closed = True
        self._breath.set()
        self._wake.set()
        for waiter in list(self._waiters.values()):
            waiter.close()

    def _begin(self) -> None:
        thread = threading.Thread(target=self._run, name=f"queue {self._name}", daemon=True)
        try:
            thread.start()
            self._begun = True
        except RuntimeError:
            text = "nobody can ask: no thread can be started; the limit of processes is reached, or memory is short"
            self._tell([QueueReadFailed("TimedOut", text)] * len(self._asking))

    def _run(self) -> None:
        while not self._closed:
            self._wake.clear()
            answers = self._read_all()
            self._tell(answers)
            self._let_wait(answers)
            self._breath.wait(BREATH_SECONDS)
            self._wake.wait(self.polling_seconds)
        for each in self._asking:
            if each.reader is not None:
                each.reader.close()
        for waiter in self._waiters.values():
            waiter.end()  # it may have begun to wait while this was being closed

    def _read_all(self) -> Sequence[QueueAnswer]:
        began = time.monotonic()
        answers = _at_the_same_time(self._asking) if self._is_slow else [each.read() for each in self._asking]
        self._is_slow = time.monotonic() - began > SLOW_SECONDS
        return answers

    @property
    def polling_seconds(self) -> float:
        """As the binding says, else as the most eager of its drivers proposes."""
        if self._polling_seconds is not None:
            return self._polling_seconds
        return min(each.polling_seconds for each in self._asking)

    def _tell(self, answers: Sequence[QueueAnswer]) -> None:
        def tell() -> None:
            if not self._closed:
                self._told(answers)

        try:
            self._call_in_loop(tell)
        except RuntimeError:
            self._closed = True  # the loop is gone

    def _let_wait(self, answers: Sequence[QueueAnswer]) -> None:
        """Wait on empty queues only: the server of any other would answer at once, again and again."""
        for index, (each, answer) in enumerate(zip(self._asking, answers, strict=True)):
            if self._closed or not (isinstance(answer, QueueReading) and answer.waiting <= 0 and each.can_wait()):
                continue
            if index not in self._waiters:
                try:
                    self._waiters[index] = Waiter(self._name, each, self.look)
                except RuntimeError:
                    continue  # no thread can be started: it is looked at as often as ever
            self._waiters[index].arm()


def _at_the_same_time(asking: Sequence[Asking]) -> Sequence[QueueAnswer]:
    """The last one in this thread, each of the others in one of its own."""
    answers: dict[int, QueueAnswer] = {}

    def read(index: int) -> None:
        answers[index] = asking[index].read()

    last = len(asking) - 1
    threads = [threading.Thread(target=read, args=(index,), name="queue look", daemon=True) for index in range(last)]
    started: list[threading.Thread] = []
    for index, thread in enumerate(threads):
        try:
            thread.start()
            started.append(thread)
        except RuntimeError:  # the host has no room for another
            read(index)
    read(last)
    for thread in started:
        thread.join()
    return [answers[index] for index in range(len(asking))]


class Waiter:
    """A thread with a connection of its own that sleeps in the server until something comes."""

    def __init__(self, name: str, asking: Asking, look: Callable[[], None]) -> None:
        """Raises RuntimeError when no thread can be started."""
        self._asking, self._look = asking, look
        self._armed = threading.Event()
        self._closed = threading.Event()
        self._reader: QueueReader | None = None
        self._thread = threading.Thread(target=self._run, name=f"queue wait {name}", daemon=True)
        self._thread.start()

    def arm(self) -> None:
        """The queue is empty: wait."""
        self._armed.set()

    def close(self) -> None:
        """Wait no more."""
        self._closed.set()
        self._armed.set()
        reader = self._reader
        if reader is not None:
            reader.close()

    def end(self) -> None:
        """Close it until it is over: a reader that is closed between two calls connects anew for the second."""
        deadline = time.monotonic() + 2 * WAIT_SECONDS
        while self._thread.is_alive() and time.monotonic() < deadline:
            self.close()
            self._thread.join(END_SECONDS)

    def _run(self) -> None:
        while not self._closed.is_set():
            self._armed.wait()
            if self._closed.is_set():
                break
            try:
                if self._reader is None:
                    self._reader = self._asking.open()
                # What came since the look that found nothing would not wake it: a wait begins with a look of its own.
                came = self._reader.read().waiting > 0 or self._reader.wait(WAIT_SECONDS)
            except Exception:  # whatever it is, the reads will say so; here it only means not to try again at once
                self._closed.wait(WAIT_SECONDS)
                continue
            if came:
                self._armed.clear()
                self._look()
            else:
                self._closed.wait(BREATH_SECONDS)
        if self._reader is not None:
            self._reader.close()
