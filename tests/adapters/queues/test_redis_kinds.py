"""What lives in redis: the plain types, and the layouts of other people's queues.

The layouts are as these versions were seen to write them: Celery 5.7.0, RQ 3.0.0, Sidekiq 6.4.1, BullMQ 3.4.4 (of
Python), arq 0.28.0.
"""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest

from reconciler.adapters.queues.meters import Threads
from reconciler.adapters.queues.registry import driver_for
from reconciler.model.queues import QueueReadFailed, QueueReading
from reconciler.ports import QueueAsked
from support.queue_fixtures import Start
from support.queue_rigs import failure, read, reader
from support.servers import Redis, until

pytestmark = pytest.mark.debian("redis-server")


class Database:
    """One database of the shared server, for one test."""

    def __init__(self, server: Redis, number: int) -> None:
        self.server = server
        self.url = f"redis://127.0.0.1:{server.port}/{number}"
        self._connected = socket.create_connection(("127.0.0.1", server.port), 5.0)
        self.say("SELECT", number)
        self.say("FLUSHDB")
        self.now = int(self.say("TIME").split(b"\r\n")[2])

    def say(self, *words: Any) -> bytes:
        parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        self._connected.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(p), p) for p in parts))
        return self._connected.recv(1 << 16)

    def read(self, kind: str = "redis", **metadata: Any) -> QueueReading:
        return read(kind, {"url": self.url, **metadata}, count_at_most=50)

    def fails(self, kind: str = "redis", **metadata: Any) -> tuple[str, str]:
        failed = failure(kind, {"url": self.url, **metadata})
        return failed.reason, str(failed)

    def close(self) -> None:
        self._connected.close()


@pytest.fixture
def db(shared: Start) -> Iterator[Database]:
    database = Database(shared(Redis), 5)
    yield database
    database.close()


def numbers(found: QueueReading) -> tuple[float | None, ...]:
    return found.waiting, found.reserved, found.delayed


# ---- one key --------------------------------------------------------------------------------------------------------


def test_each_type_is_counted_by_its_own_command(db: Database) -> None:
    db.say("RPUSH", "list", 1, 2, 3)
    db.say("SADD", "set", 1, 2)
    db.say("HSET", "hash", "a", 1)
    db.say("ZADD", "zset", 1, "a", 2, "b", 3, "c", 4, "d")
    db.say("XADD", "stream", "*", "a", 1)
    counts = [db.read(key=kind, type=kind).waiting for kind in ("list", "set", "hash", "zset", "stream")]
    assert counts == [3, 2, 1, 4, 1]


@pytest.mark.parametrize("kind", ["list", "set", "hash", "zset", "stream"])
def test_a_key_that_does_not_exist_is_an_empty_queue(db: Database, kind: str) -> None:
    assert db.read(key="nothing", type=kind).waiting == 0


def test_a_key_of_another_type_is_told_with_its_type(db: Database) -> None:
    db.say("HSET", "mails", "a", 1)
    reason, text = db.fails(key="mails")
    assert reason == "WrongType"
    assert text.endswith("mails is a hash; is the key right, and the type it is counted as?")


@pytest.mark.parametrize(("up_to", "unit"), [("now", 1), ("nowMs", 1000)])
def test_scores_may_be_times(db: Database, up_to: str, unit: int) -> None:
    for offset in (-100, -50, 0, 30, 60):
        db.say("ZADD", "z", (db.now + offset) * unit, offset)
    found = db.read(key="z", type="zset", upTo=up_to)
    assert numbers(found) == (3, None, 2)
    assert found.oldest_seconds == pytest.approx(100, abs=5)
    assert found.next_due_seconds == pytest.approx(30, abs=5)


def test_the_age_of_the_oldest_is_in_its_payload_where_one_says_so(db: Database) -> None:
    for offset in (-60, -30):
        db.say("RPUSH", "list", json.dumps({"meta": {"at": db.now + offset}}))
    assert db.read(key="list").oldest_seconds is None
    assert db.read(key="list", timeField="meta.at").oldest_seconds == pytest.approx(60, abs=5)
    assert db.read(key="list", timeField="meta.at", takenFrom="right").oldest_seconds == pytest.approx(30, abs=5)
    assert db.read(key="list", timeField="meta").oldest_seconds is None


@pytest.mark.parametrize(
    "payload", [b"", b"\xff\x00", b"[]", b'"x"', b"[" * 50_000, b'{"at": "soon"}', b'{"at": -5}', b'{"at": true}']
)
def test_a_payload_without_a_time_has_no_age(db: Database, payload: bytes) -> None:
    db.say("RPUSH", "list", payload)
    found = db.read(key="list", timeField="at")
    assert (found.waiting, found.oldest_seconds) == (1, None)


@pytest.mark.parametrize(
    "written", ["2026-01-02T03:04:05Z", "2026-01-02T03:04:05", 1767323045, 1767323045000, "1767323045.0"]
)
def test_times_are_read_as_they_are_written(db: Database, written: object) -> None:
    db.say("RPUSH", "list", json.dumps({"at": written}))
    assert db.read(key="list", timeField="at").oldest_seconds == pytest.approx(db.now - 1767323045, abs=5)


def test_parts_are_summed_by_what_they_count_as(db: Database) -> None:
    db.say("RPUSH", "q", 1, 2)
    db.say("HSET", "working", "a", 1)
    db.say("SADD", "paused", 1, 2, 3)
    db.say("ZADD", "later", db.now - 1, "a", db.now + 100, "b")
    parts = [
        {"key": "q"},
        {"key": "working", "type": "hash", "countsAs": "reserved"},
        {"key": "paused", "type": "set", "countsAs": "delayed"},
        {"key": "later", "type": "zset", "upTo": "now"},
    ]
    assert numbers(db.read(parts=parts)) == (3, 1, 4)


# ---- streams --------------------------------------------------------------------------------------------------------


def test_a_group_of_a_stream_has_a_lag_and_what_is_pending(db: Database) -> None:
    db.say("XGROUP", "CREATE", "s", "g", "$", "MKSTREAM")
    for number in range(5):
        db.say("XADD", "s", "*", "n", number)
    db.say("XREADGROUP", "GROUP", "g", "me", "COUNT", 2, "STREAMS", "s", ">")
    found = db.read(key="s", type="stream", group="g")
    assert numbers(found) == (3, 2, None)
    assert found.oldest_seconds == pytest.approx(0, abs=5)
    assert found.at_least is False


def test_where_the_server_does_not_know_the_lag_entries_are_counted_up_to_a_bound(db: Database) -> None:
    db.say("XGROUP", "CREATE", "s", "g", "0", "MKSTREAM")
    for number in range(1, 81):
        db.say("XADD", "s", f"{number}-1", "n", number)
    db.say("XDEL", "s", "40-1")  # from the middle: redis gives up
    assert b"lag\r\n$-1" in db.say("XINFO", "GROUPS", "s")
    found = db.read(key="s", type="stream", group="g")
    assert (found.waiting, found.at_least) == (50, True)


def test_a_stream_that_does_not_exist_is_empty_but_a_group_must_exist(db: Database) -> None:
    assert numbers(db.read(key="s", type="stream", group="g")) == (0, 0, None)
    db.say("XADD", "s", "*", "a", 1)
    db.say("XGROUP", "CREATE", "s", "other", "0")
    assert db.fails(key="s", type="stream", group="g") == ("NotFound", "stream s has no group g; it has other")


# ---- other people's queues ------------------------------------------------------------------------------------------


def celery_message(queue: str) -> str:
    delivery = {"exchange": "", "routing_key": queue}
    properties = {"delivery_mode": 2, "delivery_info": delivery, "priority": 0, "body_encoding": "base64"}
    return json.dumps({"body": "W10=", "headers": {"task": "t"}, "properties": properties})


def test_celery(db: Database) -> None:
    for _ in range(3):
        db.say("LPUSH", "celery", celery_message("celery"))
    db.say("LPUSH", "celery\x06\x163", celery_message("celery"))
    db.say("LPUSH", "images", celery_message("images"))
    for tag, queue in enumerate(["celery", "celery", "images"]):
        db.say("HSET", "unacked", tag, json.dumps([json.loads(celery_message(queue)), "", queue]))
    assert numbers(db.read("celery")) == (4, 2, None)
    assert numbers(db.read("celery", queues="images")) == (1, 1, None)
    assert numbers(db.read("celery", queues=["celery", "images"])) == (5, 3, None)
    assert numbers(db.read("celery", queues="images", unacked="all")) == (1, 3, None)
    assert numbers(db.read("celery", queues="images", unacked="none")) == (1, None, None)
    assert numbers(db.read("celery", keyPrefix="other:")) == (0, 0, None)
    db.say("HSET", "unacked", *[word for tag in range(300) for word in (tag, "strange")])
    assert numbers(db.read("celery")) == (4, None, None)


def test_rq(db: Database) -> None:
    for number, enqueued in enumerate(("2026-01-02T03:04:05.678901Z", "2026-01-02T04:04:05.678901Z")):
        db.say("RPUSH", "rq:queue:mails", f"id{number}")
        db.say("HSET", f"rq:job:id{number}", "enqueued_at", enqueued)
    db.say("ZADD", "rq:scheduled:mails", db.now - 5, "due", db.now + 50, "later")
    db.say("ZADD", "rq:wip:mails", db.now + 240, "id7:exec", db.now - 100, "given up", "+inf", "endless")
    found = db.read("rq", queues="mails")
    assert numbers(found) == (3, 2, 1)
    assert found.oldest_seconds == pytest.approx(db.now - 1767323045, abs=5)
    assert found.next_due_seconds == pytest.approx(50, abs=5)
    assert numbers(db.read("rq", queues="mails, none")) == (3, 2, 1)
    assert numbers(db.read("rq")) == (0, 0, 0)


def test_sidekiq(db: Database) -> None:
    def job(queue: str, enqueued: float | None = None) -> str:
        return json.dumps({"class": "Mail", "args": [1], "queue": queue, "jid": f"{enqueued}", "enqueued_at": enqueued})

    for offset in (-90, -60, -30):
        db.say("LPUSH", "queue:mails", job("mails", db.now + offset + 0.4277036))
    db.say("ZADD", "schedule", db.now - 5.5, job("mails"), db.now - 4, job("images"), db.now + 40, job("mails", 1))
    db.say("ZADD", "retry", db.now - 3, job("mails", 2))
    for process, key in (("vm:1:a", "vm:1:a:workers"), ("vm:2:b", "vm:2:b:work")):
        db.say("SADD", "processes", process)
        db.say(
            "HSET", key, "t1", json.dumps({"queue": "mails", "run_at": db.now}), "t2", json.dumps({"queue": "images"})
        )
    found = db.read("sidekiq", queues="mails")
    assert numbers(found) == (5, 2, None)
    assert found.oldest_seconds == pytest.approx(90, abs=5)
    assert found.next_due_seconds == pytest.approx(40, abs=5)
    assert numbers(db.read("sidekiq", queues="images")) == (1, 2, None)
    assert numbers(db.read("sidekiq", queues=["images", "mails"])) == (6, 4, None)


def test_bullmq(db: Database) -> None:
    for number in (1, 2):
        db.say("LPUSH", "bull:mails:wait", number)
        db.say("HSET", f"bull:mails:{number}", "timestamp", (db.now - 60 // number) * 1000)
    db.say("ZADD", "bull:mails:prioritized", 5 * 2**32, "p")
    db.say("ZADD", "bull:mails:delayed", (db.now * 1000 - 100) * 4096 + 7, "due", (db.now + 80) * 1000 * 4096 + 7, "d")
    db.say("LPUSH", "bull:mails:active", "a")
    found = db.read("bullmq", queues="mails")
    assert numbers(found) == (4, 1, 1)
    assert found.oldest_seconds == pytest.approx(60, abs=5)
    assert found.next_due_seconds == pytest.approx(80, abs=5)
    db.say("HSET", "bull:mails:meta", "paused", 1)
    assert numbers(db.read("bullmq", queues="mails")) == (0, 1, 5)
    assert numbers(db.read("bullmq", queues="mails", prefix="other")) == (0, 0, 0)


def test_arq(db: Database) -> None:
    for number in range(3):
        db.say("ZADD", "arq:queue", (db.now - 30 + number * 10) * 1000, f"id{number}")
    db.say("ZADD", "arq:queue", (db.now + 70) * 1000, "later")
    db.say("SET", "arq:in-progress:id0", 1)
    found = db.read("arq")
    assert numbers(found) == (2, 1, 1)
    assert found.oldest_seconds == pytest.approx(20, abs=5)
    assert found.next_due_seconds == pytest.approx(70, abs=5)
    assert numbers(db.read("arq", queues="other")) == (0, 0, 0)


@pytest.mark.parametrize(
    ("kind", "key"),
    [("celery", "unacked"), ("rq", "rq:queue:q"), ("sidekiq", "queue:q"), ("bullmq", "bull:q:delayed"), ("arq", "q")],
)
def test_a_key_of_another_type_is_told_of_any_kind(db: Database, kind: str, key: str) -> None:
    db.say("SET", key, "x")
    reason, text = db.fails(kind, queues="q")
    assert (reason, f"{key} is a string" in text) == ("WrongType", True)


# ---- who asks -------------------------------------------------------------------------------------------------------


def test_a_database_may_be_named_in_the_url_or_beside_it(db: Database) -> None:
    db.say("RPUSH", "q", 1)
    base = db.url.rpartition("/")[0]
    assert read("redis", {"url": f"{base}/5", "key": "q"}).waiting == 1
    assert read("redis", {"url": base, "key": "q", "database": "5"}).waiting == 1
    assert read("redis", {"url": base, "key": "q"}).waiting == 0
    assert read("redis", {"url": f"unix://{db.server.folder}/redis.sock?db=5", "key": "q"}).waiting == 1
    assert "has no database 99" in str(failure("redis", {"url": f"{base}/99", "key": "q"}))
    assert "is not the number of a database" in str(failure("redis", {"url": f"{base}/x", "key": "q"}))


def test_users_passwords_and_what_they_may_do(db: Database) -> None:
    db.say("ACL", "SETUSER", "counter", "on", ">s3cret", "~q*", "+llen", "+type")
    url = db.url.rpartition("/")[0]
    who = {"url": url, "key": "q", "username": "counter", "password": "s3cret"}
    assert read("redis", who).waiting == 0
    assert read("redis", {"url": url.replace("//", "//counter:s3cret@"), "key": "q"}).waiting == 0
    failed = failure("redis", {**who, "key": "other"})
    assert (failed.reason, "the user may not do this" in str(failed)) == ("AuthenticationFailed", True)
    assert failure("redis", {**who, "password": "wrong"}).reason == "AuthenticationFailed"
    db.say("ACL", "DELUSER", "counter")


# ---- waiting --------------------------------------------------------------------------------------------------------


def test_an_empty_list_can_be_waited_on_and_a_full_one_need_not_be(db: Database) -> None:
    opened = reader("redis", {"url": db.url, "key": "q"})
    opened.read()
    assert opened.can_wait
    assert opened.wait(0.05) is False
    db.say("RPUSH", "q", 1)
    assert opened.wait(5) is True
    opened.read()
    assert not opened.can_wait
    opened.close()


def test_what_comes_while_one_waits_is_noticed_and_stays_where_it_is(db: Database) -> None:
    opened = reader("redis", {"url": db.url, "key": "q"})
    for number in range(20):
        woken: list[bool] = []
        thread = threading.Thread(target=lambda woken=woken: woken.append(opened.wait(10)))
        thread.start()
        until(lambda: b"blocked_clients:1" in db.say("INFO", "clients"), 30, "it waits")
        db.say("RPUSH", "q", f"a{number}", "b", "c")
        thread.join(30)
        assert woken == [True]
        assert db.say("LRANGE", "q", 0, -1).split(b"\r\n")[2::2] == [b"a%d" % number, b"b", b"c"]
        db.say("DEL", "q")
    opened.close()


def test_who_takes_work_gets_all_of_it_once_whoever_else_waits(db: Database) -> None:
    """Takers block on the same list, some before us and some after."""
    taken: list[bytes] = []
    pieces = 400

    def take() -> None:
        with (
            socket.create_connection(("127.0.0.1", db.server.port), 10.0) as connected,
            connected.makefile("rb") as replies,
        ):
            connected.sendall(b"SELECT 5\r\n")
            replies.readline()
            while True:
                connected.sendall(b"BLPOP q 2\r\n")
                if replies.readline() != b"*2\r\n":
                    return
                _, _, _, piece = (replies.readline() for _ in range(4))
                taken.append(piece)
                if len(taken) >= pieces:
                    return

    waiters = [reader("redis", {"url": db.url, "key": "q"}) for _ in range(2)]
    stop = threading.Event()

    def wait(opened: Any) -> None:
        with closing(opened):  # a close from outside may come between two waits, and the second connects anew
            while not stop.is_set():
                try:
                    opened.wait(1)
                except QueueReadFailed:
                    pass  # closed

    threads = [threading.Thread(target=take), threading.Thread(target=wait, args=(waiters[0],)),
               threading.Thread(target=take), threading.Thread(target=wait, args=(waiters[1],))]  # fmt: skip
    for thread in threads:
        thread.start()
    for number in range(pieces):
        db.say("RPUSH", "q", number)
    until(lambda: len(taken) >= pieces, 60, "all is taken")
    stop.set()
    for opened in waiters:
        opened.close()
    for thread in threads:
        thread.join(30)
    assert sorted(int(piece) for piece in taken) == list(range(pieces))


def test_a_close_ends_a_wait(db: Database) -> None:
    opened = reader("redis", {"url": db.url, "key": "q"})
    ended = threading.Event()

    def wait() -> None:
        with ExitStack() as stack:
            stack.callback(ended.set)
            try:
                opened.wait(60)
            except QueueReadFailed:
                pass

    thread = threading.Thread(target=wait)
    thread.start()
    until(lambda: b"blocked_clients:1" in db.say("INFO", "clients"), 30, "it waits")
    opened.close()
    assert ended.wait(30)
    thread.join()


def test_meters_that_come_and_go_leave_no_connection_whatever_they_wait_for(db: Database) -> None:
    """As when somebody edits a binding again and again: some are closed while they look, some while they wait."""

    def connections() -> int:
        return db.say("CLIENT", "LIST").count(b"addr=")

    before = connections()
    threads = Threads(driver_for, lambda call: call())
    for waits in [False, True] * 10:
        told = threading.Event()
        asked = QueueAsked("redis", {"url": db.url, "key": "q"}, "/", {}, 10)
        meter = threads.open("q", [asked], 0.05, lambda answers, told=told: told.set())
        assert told.wait(30)
        if waits:
            until(lambda: b"blocked_clients:0" not in db.say("INFO", "clients"), 30, "it waits")
        meter.close()
    until(lambda: connections() == before, 30, "all connections are closed")
    until(lambda: not [t for t in threading.enumerate() if t.name.startswith("queue ")], 30, "and all threads are over")


def test_who_may_not_write_cannot_wait_and_is_told(db: Database) -> None:
    db.say("ACL", "SETUSER", "watcher", "on", ">x", "~*", "+@read", "+select")
    opened = reader("redis", {"url": db.url, "key": "q", "username": "watcher", "password": "x"})
    assert opened.read().waiting == 0
    with pytest.raises(QueueReadFailed, match="may not do this"):
        opened.wait(5)
    assert opened.read().waiting == 0
    opened.close()
    db.say("ACL", "DELUSER", "watcher")


def test_a_wait_that_outlives_its_server_ends(db: Database) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with listener.accept()[0] as connected:
                connected.recv(1000)
                connected.sendall(b":0\r\n")
                connected.recv(1000)  # BLMOVE, and never an answer

                stop.wait()

        stop = threading.Event()
        thread = threading.Thread(target=serve)
        thread.start()
        opened = reader("redis", {"url": f"redis://127.0.0.1:{listener.getsockname()[1]}", "key": "q"})
        started = time.monotonic()
        with pytest.raises(QueueReadFailed) as raised:
            opened.wait(0.2)
        assert raised.value.reason == "TimedOut"
        assert time.monotonic() - started < 30
        stop.set()
        thread.join()
        opened.close()
