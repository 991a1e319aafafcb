"""What is particular to databases: tables and queries, time-outs, files that change, channels that are notified."""

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from reconciler.adapters.queues.notifying import notifying
from reconciler.adapters.queues.sql import quoted
from reconciler.model.queues import QueueReadFailed
from support.queue_fixtures import Start
from support.queue_rigs import MysqlRig, PostgresqlRig, SqlRig, failure, read, reader
from support.servers import Mariadb, Postgresql, until


class Database:
    """One kind of database, asked by trigger and by hand."""

    def __init__(self, kind: str, base: dict[str, Any], run: Any) -> None:
        self.kind, self.base, self.run = kind, base, run

    def read(self, **metadata: Any) -> Any:
        return read(self.kind, {**self.base, **metadata}, count_at_most=10)

    def fails(self, **metadata: Any) -> QueueReadFailed:
        return failure(self.kind, {**self.base, **metadata})


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("postgresql", marks=pytest.mark.debian("postgresql")),
        pytest.param("mysql", marks=pytest.mark.debian("mariadb-server-core")),
    ]
)
def database(request: pytest.FixtureRequest, shared: Start, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        connected = sqlite3.connect(tmp_path / "q.db", isolation_level=None)
        yield Database("sqlite", {"path": str(tmp_path / "q.db")}, connected.execute)
        connected.close()
        return
    rig: SqlRig = PostgresqlRig(shared(Postgresql)) if request.param == "postgresql" else MysqlRig(shared(Mariadb))
    yield Database(rig.kind, {"url": rig.server.url, "password": rig.secret}, rig.run)


@pytest.fixture
def table(database: Database, name: str) -> str:
    """A table with 4 rows."""
    database.run(f"CREATE TABLE {name} (n int)")
    database.run(f"INSERT INTO {name} VALUES (1), (2), (3), (4)")
    return name


# ---- all of them ----------------------------------------------------------------------------------------------------


def test_the_rows_of_a_table_are_counted(database: Database, table: str) -> None:
    found = database.read(table=table)
    assert (found.waiting, found.at_least, found.found) == (4, False, f"table {table}: 4")
    assert database.read(table=table, where="n > 1 AND n < 4").waiting == 2


def test_counting_ends_where_it_changes_no_decision(database: Database, table: str) -> None:
    database.run(f"INSERT INTO {table} SELECT n FROM {table} UNION ALL SELECT n + 4 FROM {table}")
    found = database.read(table=table)
    assert (found.waiting, found.at_least, found.found) == (10, True, f"table {table}: 10 or more")


@pytest.mark.parametrize(
    ("query", "waiting"),
    [
        ("SELECT 3", 3), ("SELECT 3.5;", 3.5), ("SELECT count(*) FROM {t}", 4), ("SELECT sum(n) FROM {t}", 10),
        ("SELECT sum(n) FROM {t} WHERE n > 9", 0), ("SELECT n FROM {t} WHERE n > 9", 0), ("SELECT '7'", 7),
        ("SELECT count(*) FROM {t} WHERE 'a%sb' <> '100%'", 4), ("  SELECT 1 ; ", 1),
    ],
)  # fmt: skip
def test_a_query_gives_one_number(database: Database, table: str, query: str, waiting: float) -> None:
    assert database.read(query=query.format(t=table)).waiting == waiting


def test_or_columns_by_the_names_that_a_reading_has(database: Database, table: str) -> None:
    columns = "count(*) AS waiting, 2 AS reserved, NULL AS oldest_seconds, 5 AS NextDueSeconds"
    found = database.read(query=f"SELECT {columns} FROM {table}")
    assert (found.waiting, found.reserved, found.oldest_seconds, found.next_due_seconds) == (4, 2, None, 5)
    assert database.read(query=f"SELECT sum(n) AS waiting, 1 AS reserved FROM {table} WHERE n > 9").waiting == 0


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("SELECT n FROM {t}", "NotANumber"),
        ("SELECT 'three'", "NotANumber"),
        ("SELECT -1", "NotANumber"),
        ("SELECT n, n FROM {t} WHERE n = 1", "BadMetadata"),
        ("SELECT 1 AS waiting, 2 AS wating", "BadMetadata"),
        ("SELECT 1 AS reserved, 2 AS completed", "BadMetadata"),
        ("SELCT 1", "BadMetadata"),
        ("SELECT nothing FROM {t}", "BadMetadata"),
        ("SELECT count(*) FROM {t}_absent", "NotFound"),
        ("DELETE FROM {t}", "BadMetadata"),
        ("INSERT INTO {t} VALUES (5)", "BadMetadata"),
        ("CREATE TABLE {t}_other (n int)", "BadMetadata"),
        ("", "BadMetadata"),
        (";", "BadMetadata"),
    ],
)
def test_what_is_no_count_is_told_and_changes_nothing(database: Database, table: str, query: str, reason: str) -> None:
    assert database.fails(query=query.format(t=table)).reason == reason
    assert database.read(table=table).waiting == 4


def test_a_table_that_is_missing_is_told_until_it_is_made(database: Database, name: str) -> None:
    opened = reader(database.kind, {**database.base, "table": name})
    with pytest.raises(QueueReadFailed) as raised:
        opened.read()
    assert raised.value.reason == "NotFound"
    assert "has the application made its tables yet?" in str(raised.value)
    database.run(f"CREATE TABLE {name} (n int)")
    assert opened.read().waiting == 0
    opened.close()


SLOW = {
    "sqlite": "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r",
    "postgresql": "SELECT pg_sleep(30)",
    "mysql": "SELECT sleep(30)",
}


def test_a_query_that_takes_too_long_is_ended_and_told(database: Database, table: str) -> None:
    started = time.monotonic()
    failed = database.fails(query=SLOW[database.kind])
    assert (failed.reason, time.monotonic() - started < 20) == ("TimedOut", True)
    assert database.read(table=table).waiting == 4


def test_a_look_sees_what_was_committed_and_nothing_else(database: Database, table: str) -> None:
    """And blocks nobody: the writer goes on while a reader has its connection open."""
    opened = reader(database.kind, {**database.base, "table": table})
    assert opened.read().waiting == 4
    database.run(f"INSERT INTO {table} VALUES (5)")
    assert opened.read().waiting == 5
    database.run(f"DELETE FROM {table}")
    assert opened.read().waiting == 0
    database.run(f"DROP TABLE {table}")
    opened.close()


@pytest.mark.parametrize(
    ("written", "quote", "text"),
    [
        ("jobs", '"', '"jobs"'), ("app.jobs", '"', '"app"."jobs"'), ("my jobs", "`", "`my jobs`"),
        ('a"b', '"', '"a"."b"'), ('"App"."Jobs"', '"', '"App"."Jobs"'), ("`a.b`", "`", "`a.b`"),
        ("x; DROP TABLE y", '"', '"x; DROP TABLE y"'), ("a`b", "`", "`a`.`b`"),
    ],
)  # fmt: skip
def test_names_are_quoted_whatever_is_in_them(written: str, quote: str, text: str) -> None:
    assert quoted(written, quote) == text


# ---- SQLite ---------------------------------------------------------------------------------------------------------


def made(path: Path, mode: str = "delete") -> sqlite3.Connection:
    connected = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connected.execute(f"PRAGMA journal_mode={mode}")
    connected.execute("CREATE TABLE jobs (n int)")
    return connected


@pytest.mark.parametrize("mode", ["delete", "truncate", "wal"])
def test_a_writer_in_the_midst_of_a_transaction_is_read_around(mode: str, tmp_path: Path) -> None:
    writer = made(tmp_path / "q.db", mode)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("INSERT INTO jobs VALUES (1)")
    assert read("sqlite", {"path": str(tmp_path / "q.db"), "table": "jobs"}).waiting == 0
    writer.execute("COMMIT")
    assert read("sqlite", {"path": str(tmp_path / "q.db"), "table": "jobs"}).waiting == 1
    writer.close()


def test_a_lock_that_nobody_gives_back_is_told(tmp_path: Path) -> None:
    writer = made(tmp_path / "q.db")
    writer.execute("BEGIN EXCLUSIVE")
    failed = failure("sqlite", {"path": str(tmp_path / "q.db"), "table": "jobs"})
    assert (failed.reason, "in WAL mode" in str(failed)) == ("TimedOut", True)
    writer.close()


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_reading_leaves_no_files_and_changes_none(mode: str, tmp_path: Path) -> None:
    writer = made(tmp_path / "q.db", mode)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    for _ in range(3):
        read("sqlite", {"path": str(tmp_path / "q.db"), "table": "jobs"})
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir() if not path.name.endswith("-shm")} == {
        name: at for name, at in before.items() if not name.endswith("-shm")
    }
    writer.close()


def test_another_file_in_its_place_is_noticed(tmp_path: Path) -> None:
    made(tmp_path / "q.db").close()
    other = made(tmp_path / "new.db")
    other.execute("INSERT INTO jobs VALUES (1), (2)")
    other.close()
    opened = reader("sqlite", {"path": "q.db", "table": "jobs"}, working_dir=str(tmp_path))
    assert opened.read().waiting == 0
    os.replace(tmp_path / "new.db", tmp_path / "q.db")
    assert opened.read().waiting == 2
    (tmp_path / "q.db").unlink()
    with pytest.raises(QueueReadFailed, match="No such file"):
        opened.read()
    opened.close()


@pytest.mark.parametrize(
    ("make", "reason", "complaint"),
    [
        (lambda path: None, "NotFound", "cannot be opened: No such file or directory"),
        (lambda path: path.mkdir(), "WrongType", "is not a file"),
        (os.mkfifo, "WrongType", "is not a file"),
        (lambda path: path.write_bytes(b"x" * 5000), "WrongType", "is not an SQLite database"),
        (
            lambda path: path.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000),
            "WrongType",
            "is not an SQLite database",
        ),
        (lambda path: path.write_bytes(b""), "NotFound", "no such table: jobs"),
        (lambda path: path.symlink_to(path), "NotFound", "Too many levels of symbolic links"),
    ],
)
def test_what_is_no_database_is_told(make: Any, reason: str, complaint: str, tmp_path: Path) -> None:
    make(tmp_path / "q.db")
    failed = failure("sqlite", {"path": str(tmp_path / "q.db"), "table": "jobs"})
    assert (failed.reason, complaint in str(failed)) == (reason, True), str(failed)


def test_a_path_may_hold_what_means_something_in_a_url(tmp_path: Path) -> None:
    path = tmp_path / "a?mode=rwc#%41 b"
    made(path).close()
    assert read("sqlite", {"path": str(path), "table": "jobs"}).waiting == 0
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("mode", ["delete", "truncate", "persist", "memory", "wal"])
def test_a_write_ends_a_wait(mode: str, tmp_path: Path) -> None:
    writer = made(tmp_path / "q.db", mode)
    opened = reader("sqlite", {"path": str(tmp_path / "q.db"), "table": "jobs"})
    opened.read()
    assert opened.can_wait
    assert opened.wait(0.1) is False
    ended: list[bool] = []
    for _ in range(3):
        thread = threading.Thread(target=lambda: ended.append(opened.wait(60)))
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
        writer.execute("INSERT INTO jobs VALUES (1)")
        thread.join(30)
        assert ended.pop() is True
        writer.execute("DELETE FROM jobs")
    opened.close()
    writer.close()


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_wait_is_not_ended_by_what_is_not_committed_or_elsewhere(mode: str, tmp_path: Path) -> None:
    writer, other = made(tmp_path / "q.db", mode), made(tmp_path / "q.db-other", mode)
    opened = reader("sqlite", {"path": str(tmp_path / "q.db"), "table": "jobs"})
    ended: list[bool] = []
    thread = threading.Thread(target=lambda: ended.append(opened.wait(0.6)))
    thread.start()
    writer.execute("BEGIN IMMEDIATE")
    for number in range(50):
        writer.execute("INSERT INTO jobs VALUES (1)")
        other.execute("INSERT INTO jobs VALUES (1)")
        (tmp_path / f"file{number}").write_text("x")
    thread.join(30)
    assert ended == [False]
    writer.execute("ROLLBACK")
    for each in (writer, other, opened):
        each.close()


def test_another_file_in_its_place_ends_a_wait(tmp_path: Path) -> None:
    made(tmp_path / "q.db").close()
    made(tmp_path / "new.db").close()
    opened = reader("sqlite", {"path": str(tmp_path / "q.db"), "table": "jobs"})
    ended: list[bool] = []
    thread = threading.Thread(target=lambda: ended.append(opened.wait(60)))
    thread.start()
    thread.join(0.2)
    os.replace(tmp_path / "new.db", tmp_path / "q.db")
    thread.join(30)
    assert ended == [True]
    opened.close()


def test_one_watch_serves_all_waits_for_the_kernel_takes_its_time_to_end_one(tmp_path: Path) -> None:
    before = watches()
    made(tmp_path / "q.db").close()
    opened = reader("sqlite", {"path": str(tmp_path / "q.db"), "table": "jobs"})
    assert opened.wait(0.01) is False
    (first,) = watches() - before
    assert opened.wait(0.01) is False
    assert watches() - before == {first}
    opened.close()
    until(lambda: watches() <= before, 5, "nothing is watched any more")
    assert opened.wait(0.01) is False  # a reader that was closed between two calls
    assert len(watches() - before) == 1
    opened.close()
    until(lambda: watches() <= before, 5, "nothing is watched any more")


def watches() -> set[str]:
    """The watches of the kernel that this process has, by their descriptors."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if "inotify" in os.readlink(f"/proc/self/fd/{number}"):
                found.add(number)
    return found


def test_what_was_written_between_two_waits_does_not_end_the_second(tmp_path: Path) -> None:
    writer = made(tmp_path / "q.db")
    opened = reader("sqlite", {"path": str(tmp_path / "q.db"), "table": "jobs"})
    assert opened.wait(0.01) is False
    writer.execute("INSERT INTO jobs VALUES (1)")
    writer.execute("DELETE FROM jobs")
    assert opened.wait(0.05) is False
    opened.close()
    writer.close()


def test_a_link_that_turns_between_two_waits_is_followed(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        made(tmp_path / name / "q.db").close()
    link, turned = tmp_path / "current", tmp_path / "current.new"
    link.symlink_to("old")
    opened = reader("sqlite", {"path": str(link / "q.db"), "table": "jobs"})
    assert opened.wait(0.01) is False
    turned.symlink_to("new")
    turned.replace(link)
    ended: list[bool] = []
    thread = threading.Thread(target=lambda: ended.append(opened.wait(20)))
    thread.start()
    thread.join(0.2)
    with contextlib.closing(sqlite3.connect(tmp_path / "new" / "q.db", isolation_level=None)) as writer:
        writer.execute("INSERT INTO jobs VALUES (1)")
    thread.join(5)
    assert ended == [True]
    opened.close()


def test_a_folder_that_is_made_anew_between_two_waits_is_watched(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    made(folder / "q.db").close()
    opened = reader("sqlite", {"path": str(folder / "q.db"), "table": "jobs"})
    assert opened.wait(0.01) is False
    folder.rename(tmp_path / "aside")
    folder.mkdir()
    writer = made(folder / "q.db")
    ended: list[bool] = []
    thread = threading.Thread(target=lambda: ended.append(opened.wait(20)))
    thread.start()
    thread.join(0.2)
    writer.execute("INSERT INTO jobs VALUES (1)")
    thread.join(5)
    assert ended == [True]
    opened.close()
    writer.close()


def test_a_wait_on_a_queue_that_is_not_empty_is_no_wait(tmp_path: Path) -> None:
    writer = made(tmp_path / "q.db")
    writer.execute("INSERT INTO jobs VALUES (1)")
    opened = reader("sqlite", {"path": str(tmp_path / "q.db"), "table": "jobs"})
    assert opened.wait(30) is True
    opened.close()
    writer.close()


def test_a_close_ends_a_wait_on_a_file(tmp_path: Path) -> None:
    made(tmp_path / "q.db").close()
    opened = reader("sqlite", {"path": str(tmp_path / "q.db"), "table": "jobs"})
    ended: list[bool] = []
    thread = threading.Thread(target=lambda: ended.append(opened.wait(60)))
    thread.start()
    thread.join(0.2)
    opened.close()
    thread.join(30)
    assert ended == [False]


# ---- PostgreSQL -----------------------------------------------------------------------------------------------------


@pytest.fixture
def postgresql(shared: Start) -> Iterator[tuple[psycopg.Connection[Any], dict[str, Any]]]:
    server = shared(Postgresql)
    with psycopg.connect(server.url, password=server.password, autocommit=True) as connected:
        yield connected, {"url": server.url, "password": server.password}


@pytest.mark.debian("postgresql")
def test_a_notified_channel_ends_a_wait(postgresql: Any, name: str) -> None:
    connected, base = postgresql
    connected.execute(f"CREATE TABLE {name} (n int)")
    connected.execute(notifying(name, "Work is here"))
    opened = reader("postgresql", {**base, "table": name, "listen": "Work is here"})
    opened.read()
    assert opened.can_wait
    assert opened.wait(0.05) is False
    ended: list[bool] = []
    thread = threading.Thread(target=lambda: ended.append(opened.wait(60)))
    thread.start()
    thread.join(0.3)
    assert thread.is_alive()
    connected.execute(f"INSERT INTO {name} VALUES (1), (2)")
    thread.join(30)
    assert ended == [True]
    assert opened.read().waiting == 2
    opened.close()


@pytest.mark.debian("postgresql")
def test_a_close_ends_a_wait_on_a_channel(postgresql: Any, name: str) -> None:
    connected, base = postgresql
    opened = reader("postgresql", {**base, "query": "SELECT 0", "listen": name})
    ended = threading.Event()

    def wait() -> None:
        try:
            opened.wait(60)
        except QueueReadFailed:
            pass
        ended.set()

    thread = threading.Thread(target=wait)
    thread.start()
    asked = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'reconciler' AND query LIKE '%COMMIT%'"
    until(lambda: connected.execute(asked).fetchone() == (1,), 30, "it listens")
    opened.close()
    assert ended.wait(30)
    thread.join()


@pytest.mark.debian("postgresql")
def test_between_looks_nothing_is_held(postgresql: Any, name: str) -> None:
    """No transaction, no lock: a table that is counted can be dropped."""
    connected, base = postgresql
    connected.execute(f"CREATE TABLE {name} (n int)")
    opened = reader("postgresql", {**base, "table": name})
    opened.read()
    states = connected.execute("SELECT DISTINCT state FROM pg_stat_activity WHERE application_name = 'reconciler'")
    assert states.fetchall() == [("idle",)]
    connected.execute(f"DROP TABLE {name}")
    with pytest.raises(QueueReadFailed, match="does not exist"):
        opened.read()
    opened.close()


@pytest.mark.debian("postgresql")
def test_a_locked_table_is_told(postgresql: Any, name: str) -> None:
    connected, base = postgresql
    connected.execute(f"CREATE TABLE {name} (n int)")
    with connected.transaction():
        connected.execute(f"LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE")
        failed = failure("postgresql", {**base, "table": name})
    assert (failed.reason, "is locked by somebody" in str(failed) or "takes longer" in str(failed)) == (
        "TimedOut",
        True,
    )


@pytest.mark.debian("postgresql")
@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql://postgres@127.0.0.1:{port}/nowhere", "NotFound"),
        ("postgresql://nobody@127.0.0.1:{port}/postgres", "AuthenticationFailed"),
        ("postgresql://postgres@127.0.0.1:{port}/postgres?sslmode=require", "ServerError"),
        ("host=127.0.0.1 port={port} user=postgres nonsense=1", "BadMetadata"),
        ("postgresql://[", "BadMetadata"),
    ],
)
def test_a_connection_that_is_refused_is_told(postgresql: Any, shared: Start, url: str, reason: str) -> None:
    _, base = postgresql
    failed = failure("postgresql", {**base, "url": url.format(port=shared(Postgresql).port), "query": "SELECT 1"})
    assert failed.reason == reason, str(failed)


@pytest.mark.debian("postgresql")
def test_a_user_needs_nothing_but_select(postgresql: Any, shared: Start, name: str) -> None:
    connected, _ = postgresql
    connected.execute(f"CREATE TABLE {name} (n int)")
    connected.execute(f"CREATE ROLE r{name} LOGIN PASSWORD 'x'")
    server = shared(Postgresql)
    mine = {"url": server.url, "username": f"r{name}", "password": "x", "table": name}
    failed = failure("postgresql", mine)
    assert (failed.reason, "GRANT SELECT" in str(failed)) == ("AuthenticationFailed", True)
    connected.execute(f"GRANT SELECT ON {name} TO r{name}")
    assert read("postgresql", mine).waiting == 0


# ---- MySQL ----------------------------------------------------------------------------------------------------------


@pytest.mark.debian("mariadb-server-core")
def test_a_user_of_mysql_needs_nothing_but_select(shared: Start, name: str) -> None:
    rig = MysqlRig(shared(Mariadb))
    rig.run(f"CREATE TABLE {name} (n int)")
    rig.run(f"CREATE USER r{name[:20]}@'127.0.0.1' IDENTIFIED BY 'x'")
    mine = {"url": rig.server.url, "username": f"r{name[:20]}", "password": "x", "table": name}
    assert failure("mysql", mine).reason == "AuthenticationFailed"
    rig.run(f"GRANT SELECT ON test.{name} TO r{name[:20]}@'127.0.0.1'")
    assert read("mysql", mine).waiting == 0
    assert failure("mysql", {**mine, "url": rig.server.url.replace("/test", "/nowhere")}).reason in {
        "NotFound",
        "AuthenticationFailed",
    }
    socket = f"mysql://tester@localhost/test?unix_socket={rig.server.folder}/mariadb.sock"
    assert failure("mysql", {**mine, "url": socket}).reason == "AuthenticationFailed"  # another host, to MariaDB


@pytest.mark.debian("mariadb-server-core")
def test_tls_that_mysql_does_not_speak_is_told(shared: Start) -> None:
    server = shared(Mariadb)
    failed = failure("mysql", {"url": server.url, "password": server.password, "query": "SELECT 1", "tls": "true"})
    assert failed.reason in {"ConnectionRefused", "ServerError"}
    assert "SSL" in str(failed) or "TLS" in str(failed)
