"""The controller's own log: every line in order, never in anybody's way."""

import io
import logging
import re
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from reconciler.adapters.console import Lines


class Reader(io.StringIO):
    """Counts what it is given, and reads nothing while it is `closed_for_now`."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0
        self.fails = 0
        self.open = threading.Event()
        self.asked = threading.Event()
        self.open.set()

    def write(self, text: str) -> int:
        self.asked.set()
        assert self.open.wait(30)
        self.writes += 1
        if self.fails:
            self.fails -= 1
            raise BrokenPipeError
        return super().write(text)

    def messages(self) -> list[str]:
        """What stands behind time and level."""
        return [line.split(" ", 2)[2] for line in self.getvalue().splitlines()]


@pytest.fixture
def reader() -> Reader:
    return Reader()


@pytest.fixture
def log(reader: Reader) -> Iterator[logging.Logger]:
    """A logger of ten lines' patience. `log.lines.stop()` has all of it written."""
    logger = logging.Logger("somebody", logging.INFO)
    logger.addHandler(Lines(reader, length=10))
    yield logger
    reader.open.set()
    stop(logger)


def stop(log: logging.Logger) -> None:
    lines = log.handlers[0]
    assert isinstance(lines, Lines)
    lines.stop()


def held_up(log: logging.Logger, reader: Reader) -> None:
    """The writer has the first line and cannot get rid of it."""
    reader.open.clear()
    log.info("first")
    assert reader.asked.wait(30)


def test_a_line_says_when_how_grave_and_what(log: logging.Logger, reader: Reader) -> None:
    record = logging.makeLogRecord({"msg": "%s: %d", "args": ("web", 3), "levelname": "WARNING", "levelno": 30})
    record.created, record.msecs = 1_763_892_000.5, 500.0
    log.handle(record)
    stop(log)
    assert reader.getvalue() == "2025-11-23T10:00:00.500Z WARNING web: 3\n"


def test_each_line_has_the_time_of_its_own(log: logging.Logger, reader: Reader) -> None:
    for created, msecs in ((0.25, 250.0), (59.0, 0.0), (60.999, 999.0), (59.5, 500.0)):
        record = logging.makeLogRecord({"msg": "now", "levelname": "INFO", "levelno": 20})
        record.created, record.msecs = created, msecs
        log.handle(record)
    stop(log)
    seconds = [line.split(" ")[0].removeprefix("1970-01-01T") for line in reader.getvalue().splitlines()]
    assert seconds == ["00:00:00.250Z", "00:00:59.000Z", "00:01:00.999Z", "00:00:59.500Z"]


def test_what_comes_while_nobody_reads_is_one_write(log: logging.Logger, reader: Reader) -> None:
    held_up(log, reader)
    for number in range(9):
        log.info("%d", number)
    reader.open.set()
    stop(log)
    assert reader.messages() == ["first", *map(str, range(9))]
    assert reader.writes == 2


def test_what_finds_the_queue_full_is_left_out_and_counted(log: logging.Logger, reader: Reader) -> None:
    held_up(log, reader)
    for number in range(13):
        log.info("%d", number)
    reader.open.set()
    while len(reader.messages()) < 11:  # the ten that fitted are written
        reader.asked.wait(0.01)
    log.info("last")
    stop(log)
    assert reader.messages() == ["first", *map(str, range(10)), "3 lines were left out", "last"]


def test_who_does_not_read_is_not_waited_for_at_the_end(log: logging.Logger, reader: Reader) -> None:
    held_up(log, reader)
    for number in range(10):
        log.info("%d", number)
    stop(log)  # or the test hangs
    assert reader.messages() == []


def test_a_write_that_fails_costs_its_lines_only(log: logging.Logger, reader: Reader) -> None:
    reader.fails = 1
    held_up(log, reader)
    log.info("second")
    reader.open.set()
    stop(log)
    assert reader.messages() == ["second"]


def test_an_exception_stands_below_its_line(log: logging.Logger, reader: Reader) -> None:
    try:
        raise RuntimeError("no")
    except RuntimeError:
        log.exception("it failed")
    stop(log)
    first, *_, last = reader.getvalue().splitlines()
    assert first.endswith("ERROR it failed")
    assert last == "RuntimeError: no"


def test_a_line_that_cannot_be_put_together_harms_no_other(
    log: logging.Logger, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    log.info("%d", "no number")
    log.info("next")
    stop(log)
    assert reader.messages() == ["next"]


def test_whatever_logs_in_a_controller_is_on_standard_error() -> None:
    script = """
import logging
from reconciler.adapters.console import start_logging
lines = start_logging("info")
logging.getLogger("reconciler.api").info("heard")
logging.getLogger("asyncio").debug("not heard")
lines.stop()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO heard\n", done.stderr)
