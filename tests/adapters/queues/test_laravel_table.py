"""What the `laravel` trigger counts in a table. (That it is what Laravel counts is shown in tests/e2e.)"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from reconciler.adapters.queues.readings import wall_seconds
from reconciler.ports import QueueReader
from support.queue_rigs import failure, reader

COLUMNS = "id INTEGER PRIMARY KEY AUTOINCREMENT, queue, payload, attempts, reserved_at, available_at, created_at"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with closing(sqlite3.connect(tmp_path / "shop.sqlite")) as database:
        database.execute(f"CREATE TABLE jobs ({COLUMNS})")
    return tmp_path / "shop.sqlite"


@pytest.fixture
def looks(path: Path) -> Iterator[QueueReader]:
    """The queue `default`, given back after 90 s; nobody counts beyond 200."""
    metadata = {"url": f"sqlite:///{path}", "queues": ["default"], "retryAfter": 90}
    opened = reader("laravel", metadata, working_dir=str(path.parent), count_at_most=200)
    yield opened
    opened.close()


def put(path: Path, count: int = 1, *, queue: str = "default", due_in: int = 0, taken_ago: int | None = None) -> None:
    now = int(wall_seconds())
    taken = None if taken_ago is None else now - taken_ago
    row = (queue, "{}", 0, taken, now + due_in, now)
    with closing(sqlite3.connect(path)) as database, database:
        database.executemany(f"INSERT INTO jobs VALUES (NULL{', ?' * 6})", [row] * count)


def do(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(statement)


def test_every_state_of_a_row(path: Path, looks: QueueReader) -> None:
    put(path, 3, due_in=-40)
    put(path, 2, due_in=500)
    put(path, 4, taken_ago=30)
    put(path, 5, taken_ago=150)
    put(path, 6, queue="other")
    found = looks.read()
    assert (found.waiting, found.reserved, found.delayed) == (8, 4, 2)
    assert found.oldest_seconds == pytest.approx(60, abs=3), "that long ago somebody may have taken it again"
    assert found.next_due_seconds == pytest.approx(500, abs=3)
    assert found.found == (
        "table jobs, queue default: 8 waiting (5 taken more than 90 s ago, not finished), 4 reserved, 2 delayed"
    )


def test_counts_stop_at_a_bound(path: Path, looks: QueueReader) -> None:
    put(path, 300)
    found = looks.read()
    assert (found.waiting, found.at_least, found.arrived) == (200, True, None)
    assert "200 or more waiting" in found.found


def test_ids_count_what_arrives_while_no_other_queue_shares_the_table(path: Path, looks: QueueReader) -> None:
    assert looks.read().arrived is None
    put(path, 5)
    assert looks.read().arrived == 5
    do(path, "DELETE FROM jobs")
    assert looks.read().arrived == 5, "none is forgotten"
    put(path, 2)
    assert looks.read().arrived == 7
    put(path, queue="a")
    assert looks.read().arrived is None
    do(path, "DELETE FROM jobs WHERE queue = 'a'")
    put(path, queue="z")
    assert looks.read().arrived is None
    do(path, "DELETE FROM jobs WHERE queue = 'z'")
    assert looks.read().arrived == 9


@pytest.mark.parametrize("name", ["other's", 'a"b', "x' OR 1=1 --", "a\\", "%_", "ü"])
def test_names_are_no_sql(path: Path, name: str) -> None:
    put(path, 3, queue=name)
    put(path, 1)
    for queues, expected in (([name], 3), ([f"{name}x"], 0), (["default", name], 4)):
        metadata = {"url": f"sqlite:///{path}", "queues": queues}
        opened = reader("laravel", metadata, working_dir="/")
        assert opened.read().waiting == expected
        opened.close()


@pytest.mark.parametrize(
    ("metadata", "reason", "words"),
    [
        ({"table": "other"}, "NotFound", "no such table: other"),
        ({"queues": ["a\0b"]}, "BadMetadata", "NUL"),
        ({"url": "sqlite:////nowhere/x.sqlite"}, "NotFound", "/nowhere/x.sqlite"),
        ({"url": "mysql://127.0.0.1:1/x"}, "ConnectionRefused", "127.0.0.1:1"),
        ({"url": "postgres://127.0.0.1:1/x"}, "ConnectionRefused", "127.0.0.1:1"),
        ({"url": "sqlsrv://127.0.0.1/x"}, "BadMetadata", "url must begin with"),
    ],
)
def test_what_cannot_be_counted(path: Path, metadata: dict[str, Any], reason: str, words: str) -> None:
    failed = failure("laravel", {"url": f"sqlite:///{path}", **metadata}, working_dir=str(path.parent))
    assert (failed.reason, words in str(failed)) == (reason, True)
