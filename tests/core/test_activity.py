"""From the lines that Laravel's processes print: whether one is in a piece of work."""

import pytest

from reconciler.core.activity import is_working

PROCESSING = r"[2026-11-25 17:26:07][1010] Processing: App\Mail\Welcome"
PROCESSED = r"[2026-11-25 17:26:07][1010] Processed:  App\Mail\Welcome"
FAILED = r"[2026-11-25 17:26:07][8Ln3] Failed:     App\Mail\Welcome"
RUNNING = r"  2026-11-25 17:26:07 App\Mail\Welcome .................... RUNNING"
DONE = r"  2026-11-25 17:26:08 App\Mail\Welcome ............... 871.45ms DONE"
LONG_DONE = r"  2026-11-25 17:26:08 App\Mail\Welcome ................. 1m 3s DONE"
FAIL = r"  2026-11-25 17:26:08 App\Mail\Welcome 12 .................. 2s FAIL"
STARTING = r'{"level":"info","id":"1","job":"App\\Mail\\Welcome","status":"starting","result":null}'
SUCCESS = r'{"level":"info","id":"1","job":"App\\Mail\\Welcome","status":"success","result":"deleted","duration":0.1}'
RELEASED = r'{"level":"warning","job":"App\\Mail\\Welcome","status":"released_after_exception"}'


@pytest.mark.parametrize("line", [PROCESSING, RUNNING, STARTING, f"\x1b[33m{PROCESSING}\x1b[39m"])
def test_one_that_has_begun(line):
    assert is_working([line]) is True
    assert is_working([DONE, line, "a line of the application"]) is True


@pytest.mark.parametrize("line", [PROCESSED, FAILED, DONE, LONG_DONE, FAIL, SUCCESS, RELEASED])
def test_one_that_has_finished(line):
    assert is_working([line]) is False
    assert is_working([PROCESSING, line]) is False
    assert is_working([line, RUNNING]) is True


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
        "{" * 1999,
        f"{PROCESSED} {'.' * 2000}",
    ],
)
def test_other_lines_tell_nothing(line):
    assert is_working([line]) is None
    assert is_working([PROCESSING, line]) is True
    assert is_working([]) is None
