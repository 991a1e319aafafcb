"""From the lines that Laravel's processes print: whether one is in a piece of work."""

from collections.abc import Iterator
from time import process_time

import pytest

from reconciler.core.activity import Activity, last_activity

PROCESSING = r"[2026-11-25 17:26:07][1010] Processing: App\Mail\Welcome"
PROCESSED = r"[2026-11-25 17:26:07][1010] Processed:  App\Mail\Welcome"
FAILED = r"[2026-11-25 17:26:07][8Ln3] Failed:     App\Mail\Welcome"
RUNNING = r"  2026-11-25 17:26:07 App\Mail\Welcome .................... RUNNING"
DONE = r"  2026-11-25 17:26:08 App\Mail\Welcome ............... 871.45ms DONE"
LONG_DONE = r"  2026-11-25 17:26:08 App\Mail\Welcome ................. 1m 3s DONE"
FAIL = r"  2026-11-25 17:26:08 App\Mail\Welcome 12 .................. 2s FAIL"
LONG_NAME = r"Illuminate\Notifications\SendQueuedNotifications"  # which leaves no room for dots in 80 columns
LONG_RUNNING = rf"  2026-11-25 17:26:07 {LONG_NAME}  RUNNING"
LONG_NAME_DONE = rf"  2026-11-25 17:26:08 {LONG_NAME}  871.45ms DONE"
LONG_NAME_FAIL = rf"  2026-11-25 17:26:08 {LONG_NAME}  1s FAIL"
ONE_DOT = r"  2026-11-25 17:26:07 App\Mail\WelcomeWithAVeryLongNameThatLeavesFewOf80 . RUNNING"
VERBOSE = rf"  2026-11-25 17:26:07 {LONG_NAME} 9f8e redis mails  RUNNING"
VERBOSE_DONE = rf"  2026-11-25 17:26:08 {LONG_NAME} 9f8e redis mails  12.30ms 40.5MB DONE"
STARTING = (
    r'{"level":"info","id":"1","job":"App\\Mail\\Welcome","status":"starting","result":null,'
    '"timestamp":"2026-11-25T17:26:07.123456+00:00"}'
)
SUCCESS = r'{"level":"info","id":"1","job":"App\\Mail\\Welcome","status":"success","result":"deleted","duration":0.1}'
RELEASED = r'{"level":"warning","job":"App\\Mail\\Welcome","status":"released_after_exception"}'


def working(*lines: str) -> bool | None:
    """Whether a process is in a piece of work that printed these lines, the newest last."""
    told = last_activity(reversed(lines))
    return told and told.working


@pytest.mark.parametrize(
    "line", [PROCESSING, RUNNING, LONG_RUNNING, ONE_DOT, VERBOSE, STARTING, f"\x1b[33m{PROCESSING}\x1b[39m"]
)
def test_one_that_has_begun(line: str) -> None:
    assert working(line) is True
    assert working(DONE, line, "a line of the application") is True


@pytest.mark.parametrize(
    "line",
    [PROCESSED, FAILED, DONE, LONG_DONE, FAIL, LONG_NAME_DONE, LONG_NAME_FAIL, VERBOSE_DONE, SUCCESS, RELEASED],
)
def test_one_that_has_finished(line: str) -> None:
    assert working(line) is False
    assert working(PROCESSING, line) is False
    assert working(line, RUNNING) is True


@pytest.mark.parametrize(
    ("line", "since"),
    [
        (PROCESSING, "2026-11-25 17:26:07"),
        (RUNNING, "2026-11-25 17:26:07"),
        (STARTING, "2026-11-25T17:26:07.123456+00:00"),
        (RELEASED, ""),
    ],
)
def test_since_when_is_told_in_its_own_words(line: str, since: str) -> None:
    told = last_activity([line])
    assert told is not None
    assert told.since == since


def test_the_newest_line_that_tells_is_enough() -> None:
    def lines() -> Iterator[str]:
        yield "something else"
        yield PROCESSED
        raise AssertionError("older ones are not asked for")

    assert last_activity(lines()) == Activity(False, "2026-11-25 17:26:07")


@pytest.mark.parametrize(
    "line",
    [
        "",
        "DONE",
        "the mail is RUNNING",
        "{",
        '{"status": "starting"}',
        '{"status": 5, "job": "x"}',
        "[2026-11-25 17:26:07] production.ERROR: Processing: x",
        "2026-11-25 17:26:07 RUNNING",
        "  2026-11-25 17:26:07 Queue mails PAUSED",
        "2026-11-25 17:26:07 the mail is RUNNING",
        "2026-11-25 17:26:07 importing catalogue: 12 of 12 DONE",
        "{" * 1999,
        f"{PROCESSED} {'.' * 2000}",
    ],
)
def test_other_lines_tell_nothing(line: str) -> None:
    assert working(line) is None
    assert working(PROCESSING, line) is True
    assert working() is None


@pytest.mark.parametrize(
    "line",
    [
        "2026-11-25 17:26:07 X .." + "1ms " * 400,
        "2026-11-25 17:26:07 X .. " + "." * 900 + "1" * 900 + "Q",
        "2026-11-25 17:26:07 X .." + " RUNNING" * 240 + "x",
        " " * 1990 + "..",
        "2026-11-25 17:26:07 X .. RUNNING" + " " * 1900 + "x",
        "2026-11-25 17:26:07 X" + "  " * 900 + "x",
        "2026-11-25 17:26:07 X" + " . RUNNING " * 170 + "x",
        "\x1b[" + "1;" * 900,
    ],
)
def test_no_line_takes_long_to_look_at(line: str) -> None:
    """While a pattern is matched nobody else gets a turn, not even the loop that restarts processes."""
    began = process_time()
    for _ in range(100):
        assert working(line) is None
    assert process_time() - began < 0.5
