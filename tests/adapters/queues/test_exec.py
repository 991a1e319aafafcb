"""Commands that count: what they print, how they fail, and that nothing of them is left."""

import getpass
import os
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from reconciler.model.queues import QueueReadFailed, QueueReading
from support.queue_rigs import failure, read, reader
from support.servers import until


def sh(script: str, **more: object) -> dict[str, object]:
    return {"command": ["sh", "-c", script], **more}


@pytest.mark.parametrize(
    ("printed", "json_path", "waiting"),
    [
        ("3", None, 3), ("  3.5\n\n", None, 3.5), ("1e3", None, 1000), ("0", None, 0),
        ('{"a": [1, {"b": 7}]}', "a[1].b", 7), ('{"a": "7"}', "a", 7), ("[1, 2, 3]", "$.length()", 3),
        ('{"waiting": 4}', None, 4),
    ],
)  # fmt: skip
def test_a_number_is_read(printed: str, json_path: str | None, waiting: float) -> None:
    way = {"jsonPath": json_path} if json_path else {}
    assert read("exec", {"command": ["printf", "%s", printed], **way}).waiting == waiting


def test_an_object_may_tell_all_that_a_reading_has() -> None:
    printed = (
        '{"waiting": 4, "reserved": 1, "delayed": null, "oldestSeconds": 9.5, "next_due_seconds": 3, "completed": 8}'
    )
    found = read("exec", {"command": ["echo", printed]})
    assert found._replace(found="") == QueueReading(
        4, reserved=1, oldest_seconds=9.5, next_due_seconds=3, completed=8, found=""
    )


@pytest.mark.parametrize(
    ("printed", "reason", "complaint"),
    [
        ("", "NotANumber", "is '', which is not a number"),
        ("three", "NotANumber", "is 'three', which is not a number"),
        ("nan", "NotANumber", "is 'nan'"),
        ("Infinity", "NotANumber", "is 'Infinity'"),
        ("-1", "NotANumber", "is -1; less than nothing"),
        ("1 2", "NotANumber", "is '1 2'"),
        ("9" * 500, "NotANumber", "which is not a number"),
        ("true", "NotANumber", "is 'true'"),
        ("{", "NotANumber", "which should be JSON"),
        ('{"waiting": true}', "NotANumber", "waiting of the output of printf is True"),
        ('{"waiting": NaN}', "NotANumber", "is nan"),
        ('{"reserved": 1}', "BadMetadata", "has no 'waiting'"),
        ('{"waiting": 1, "wating": 2}', "BadMetadata", "has 'wating'; known are waiting"),
        ("[" * 100_000, "NotANumber", "which is not a number"),
    ],
)
def test_what_is_no_number_is_told(printed: str, reason: str, complaint: str) -> None:
    failed = failure("exec", {"command": ["printf", "%s", printed]})
    assert (failed.reason, complaint in str(failed)) == (reason, True), str(failed)


@pytest.mark.parametrize(
    ("printed", "complaint"),
    [
        ('{"a": {}}', "a of the output of printf is no number; write a.length() to count"),
        ("{}", 'has no "a" in the answer'),
        ("[" * 100_000, "which should be JSON"),
        ('{"a": null}', "is None, which is not a number"),
    ],
)
def test_a_way_that_leads_nowhere_is_told(printed: str, complaint: str) -> None:
    failed = failure("exec", {"command": ["printf", "%s", printed], "jsonPath": "a"})
    assert (failed.reason, complaint in str(failed)) == ("NotANumber", True), str(failed)


@pytest.mark.parametrize(
    ("metadata", "reason", "complaint"),
    [
        ({"command": ["/nowhere/count"]}, "NotFound", "/nowhere/count cannot be run in /: No such file"),
        ({"command": ["/etc/passwd"]}, "NotFound", "Permission denied"),
        (sh("echo no; echo 'it broke' >&2; exit 3"), "ServerError", "sh failed with exit code 3: it broke"),
        (sh("kill -9 $$"), "ServerError", "sh failed with signal 9"),
        (sh("yes"), "NotANumber", "is longer than 1 MiB"),
        ({"command": ["true"], "user": "nobody-by-this-name"}, "BadMetadata", "no user nobody-by-this-name"),
    ],
)
def test_a_command_that_fails_is_told(metadata: dict[str, object], reason: str, complaint: str) -> None:
    failed = failure("exec", metadata)
    assert (failed.reason, complaint in str(failed)) == (reason, True), str(failed)


def test_complaints_without_end_block_nobody() -> None:
    assert read("exec", sh("head -c 1000000 /dev/zero >&2; echo 3")).waiting == 3


def processes_in(folder: Path) -> list[psutil.Process]:
    """What runs with this folder as its own."""
    return [each for each in psutil.process_iter() if _cwd(each) == str(folder)]


def _cwd(process: psutil.Process) -> str:
    try:
        return process.cwd()
    except psutil.Error:
        return ""


@pytest.mark.parametrize(
    "script",
    [
        "sleep 60",
        "sleep 60 & sleep 60; echo 3",
        "trap '' TERM; sleep 60 & wait",
        "echo 3; sleep 60 & exec >&-; wait",
        "setsid sleep 60 & sleep 60",
        "(setsid sleep 60 &); sleep 60",
        "setsid sh -c 'setsid sleep 60 & sleep 60 & wait' & wait",
    ],
)
def test_what_is_too_slow_is_killed_with_all_that_it_started(script: str, tmp_path: Path) -> None:
    started = time.monotonic()
    failed = failure("exec", sh(script, timeout="300ms"), working_dir=str(tmp_path))
    assert failed.reason == "TimedOut"
    assert "0.3 s" in str(failed)
    assert time.monotonic() - started < 30
    until(lambda: not processes_in(tmp_path), 30, "all is gone")


def test_what_goes_on_behind_its_back_is_ended_too(tmp_path: Path) -> None:
    assert read("exec", sh("sleep 60 >/dev/null 2>&1 & echo 3"), working_dir=str(tmp_path)).waiting == 3
    until(lambda: not processes_in(tmp_path), 30, "all is gone")


def test_a_close_ends_it(tmp_path: Path) -> None:
    opened = reader("exec", sh("sleep 60"), working_dir=str(tmp_path))
    failures: list[QueueReadFailed] = []

    def look() -> None:
        try:
            opened.read()
        except QueueReadFailed as failed:
            failures.append(failed)

    thread = threading.Thread(target=look)
    thread.start()
    until(lambda: bool(processes_in(tmp_path)), 30, "it runs")
    opened.close()
    thread.join(30)
    assert [failed.reason for failed in failures] == ["ServerError"]


def test_it_runs_where_the_program_does_with_its_variables(tmp_path: Path) -> None:
    (tmp_path / "count").write_text("4")
    script = 'test -z "$RECONCILER_TEST_RUN" && expr $(cat count) + $MORE'
    assert read("exec", sh(script), working_dir=str(tmp_path), environment={"MORE": "3"}).waiting == 7


def test_it_reads_nothing_and_leads_a_session() -> None:
    assert read("exec", sh("cat | wc -c")).waiting == 0
    script = "import os; print(int(os.getsid(0) == os.getpid()))"
    assert read("exec", {"command": [sys.executable, "-c", script]}).waiting == 1


@pytest.mark.parametrize("user", ["nobody", "65534"])
def test_it_may_run_as_somebody_else(user: str) -> None:
    if os.geteuid() == 0:
        assert read("exec", sh('test "$(id -u)-$(id -G)" = 65534-65534 && echo 3', user=user)).waiting == 3
    else:
        assert "only a controller that runs as root" in str(failure("exec", sh("echo 3", user=user)))
    assert read("exec", sh("id -u", user=getpass.getuser())).waiting == os.geteuid()
