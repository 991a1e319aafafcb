"""One rig per kind of queue: a real server with a queue in it, filled by hand as its users would.

What is the same for all kinds of queues is tested through these, in tests/adapters/queues.
"""

import json
import socket
import sqlite3
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pika
import psycopg
import pymysql

from reconciler.adapters.queues.registry import driver_for
from reconciler.model.queues import QueueReadFailed, QueueReading
from reconciler.ports import QueueAsked, QueueReader
from support.http_servers import Answer, Asked, HttpServer
from support.servers import Beanstalkd, Mariadb, Postgresql, Rabbitmq, Redis, Server


def reader(kind: str, metadata: Mapping[str, Any], **about: Any) -> QueueReader:
    """A reader of a trigger as it is written."""
    defaults: dict[str, Any] = {"working_dir": "/", "environment": {}, "count_at_most": 10_000}
    return driver_for(kind).open(QueueAsked(kind, metadata, **{**defaults, **about}))


def read(kind: str, metadata: Mapping[str, Any], **about: Any) -> QueueReading:
    """One look by a reader of its own."""
    opened = reader(kind, metadata, **about)
    try:
        return opened.read()
    finally:
        opened.close()


def failure(kind: str, metadata: Mapping[str, Any], **about: Any) -> QueueReadFailed:
    """Why a look fails."""
    try:
        found = read(kind, metadata, **about)
    except QueueReadFailed as failed:
        return failed
    raise AssertionError(f"{kind} reads {found}")


class Rig:
    """A queue in a server. Names of queues are the test's, so that tests share a server."""

    kind: ClassVar[str]
    knows_reserved: ClassVar[bool] = True
    knows_delayed: ClassVar[bool] = True
    knows_age: ClassVar[bool] = True
    lag_seconds: ClassVar[float] = 0.0  # how old what the server says may be

    def metadata(self, name: str) -> dict[str, Any]:
        """The trigger for a queue, with the right password."""
        raise NotImplementedError

    def put(self, name: str, count: int = 1) -> None:
        """Put pieces of work in."""
        raise NotImplementedError

    def take(self, name: str) -> None:
        """Take one, and hold it as long as the rig lives."""
        raise NotImplementedError

    def delay(self, name: str, seconds: int) -> None:
        """Put one in that may be taken later."""
        raise NotImplementedError

    def state(self, name: str) -> object:
        """All of the queue, by a way of its own."""
        raise NotImplementedError

    def close(self) -> None:
        """Let connections go."""


def look(rig: Rig, name: str, expected: Callable[[QueueReading], bool] = bool) -> QueueReading:
    """One look; where the server's answers lag behind, looks until one is as expected, or the lag is over."""
    deadline = time.monotonic() + rig.lag_seconds
    opened = reader(rig.kind, rig.metadata(name))
    try:
        while True:
            try:
                found = opened.read()
            except QueueReadFailed:
                if time.monotonic() > deadline:
                    raise
            else:
                if expected(found) or time.monotonic() > deadline:
                    return found
            time.sleep(0.02)
    finally:
        opened.close()


class ServerRig(Rig):
    """A queue that somebody serves."""

    makes: ClassVar[type[Server]]
    secret: ClassVar[str] = ""

    def __init__(self, server: Any) -> None:
        self.server = server

    def at(self, url: str, name: str) -> dict[str, Any]:
        """The same trigger for a server elsewhere."""
        return {**self.metadata(name), "url": url}


class RedisRig(ServerRig):
    """A Laravel-like queue out of three keys."""

    kind = "redis"
    makes = Redis
    secret = Redis.password
    knows_age = False

    def metadata(self, name: str) -> dict[str, Any]:
        parts = [
            {"key": f"{name}:later", "type": "zset", "upTo": "now"},
            {"key": f"{name}:taken", "type": "zset", "countsAs": "reserved"},
            {"key": name},
        ]
        return {"url": self.server.url, "username": "guarded", "password": self.secret, "parts": parts}

    def put(self, name: str, count: int = 1) -> None:
        self.server.say("RPUSH", name, *(f"work {number}" for number in range(count)))

    def take(self, name: str) -> None:
        self.server.say("LPOP", name)
        self.server.say("ZADD", f"{name}:taken", 4_000_000_000, "work")

    def delay(self, name: str, seconds: int) -> None:
        seconds_now = int(self.server.say("TIME").split(b"\r\n")[2])
        self.server.say("ZADD", f"{name}:later", seconds_now + seconds, f"later {seconds}")

    def state(self, name: str) -> object:
        ways = (("LRANGE", name, 0, -1), *(("ZRANGE", f"{name}:{what}", 0, -1) for what in ("later", "taken")))
        return [self.server.say(*way) for way in ways], sorted(self.server.say("KEYS", f"*{name}*").split())


class LaravelRig(ServerRig):
    """A queue in redis as Laravel keeps it, for an application that is elsewhere. (Real ones are in tests/e2e.)"""

    kind = "laravel"
    makes = Redis
    secret = Redis.password

    def metadata(self, name: str) -> dict[str, Any]:
        who = {"url": self.server.url, "username": "guarded", "password": self.secret}
        return {**who, "prefix": "shop_database_", "queues": [name]}

    def key(self, name: str) -> str:
        """Of the list."""
        return f"shop_database_queues:{name}"

    def put(self, name: str, count: int = 1) -> None:
        self.server.say("RPUSH", self.key(name), *(json.dumps({"uuid": number}) for number in range(count)))

    def take(self, name: str) -> None:
        self.server.say("LPOP", self.key(name))
        self.server.say("ZADD", f"{self.key(name)}:reserved", self.now() + 90, "work")

    def delay(self, name: str, seconds: int) -> None:
        self.server.say("ZADD", f"{self.key(name)}:delayed", self.now() + seconds, f"later {seconds}")

    def now(self) -> int:
        """The server's time, in seconds since the epoch."""
        return int(self.server.say("TIME").split(b"\r\n")[2])

    def state(self, name: str) -> object:
        key = self.key(name)
        ways = (("LRANGE", key, 0, -1), *(("ZRANGE", f"{key}:{what}", 0, -1) for what in ("delayed", "reserved")))
        return [self.server.say(*way) for way in ways], sorted(self.server.say("KEYS", f"*{name}*").split())


class BeanstalkdRig(ServerRig):
    """A tube."""

    kind = "beanstalkd"
    makes = Beanstalkd

    def __init__(self, server: Any) -> None:
        super().__init__(server)
        self._holding: list[socket.socket] = []

    def metadata(self, name: str) -> dict[str, Any]:
        return {"url": self.server.url, "tube": name}

    def say(self, *lines: str, hold: bool = False) -> bytes:
        """Commands on a connection of its own, one after the other."""
        connected = socket.create_connection(("127.0.0.1", self.server.port), 5.0)
        answers = b""
        for line in lines:
            connected.sendall(line.encode() + b"\r\n")
            answers += connected.recv(1 << 16)
        if hold:
            self._holding.append(connected)  # what a closed connection had taken would be ready again
        else:
            connected.close()
        return answers

    def put(self, name: str, count: int = 1) -> None:
        self.say(f"use {name}", *["put 10 0 120 4\r\nwork"] * count)

    def take(self, name: str) -> None:
        assert b"RESERVED" in self.say(f"watch {name}", "reserve-with-timeout 5", hold=True)

    def delay(self, name: str, seconds: int) -> None:
        self.say(f"use {name}", f"put 10 {seconds} 120 4\r\nwork")

    def state(self, name: str) -> object:
        lines = self.say(f"stats-tube {name}").decode().splitlines()
        return [line for line in lines if "current-jobs" in line or "total-jobs" in line], self.say("list-tubes")

    def close(self) -> None:
        for each in self._holding:
            each.close()


QUERY = """
    SELECT count(CASE WHEN taken = 0 AND due <= {now} THEN 1 END) AS {q}waiting{q},
           count(CASE WHEN taken = 1 THEN 1 END) AS {q}reserved{q},
           count(CASE WHEN taken = 0 AND due > {now} THEN 1 END) AS {q}delayed{q},
           {now} - min(CASE WHEN taken = 0 AND due <= {now} THEN due END) AS {q}oldest_seconds{q},
           min(CASE WHEN taken = 0 AND due > {now} THEN due END) - {now} AS {q}nextDueSeconds{q}
    FROM {table}
"""


class SqlRig(ServerRig):
    """A table of work, asked by a query that tells all there is."""

    now: ClassVar[str]
    quote: ClassVar[str] = '"'

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        """A statement by a connection of its own."""
        raise NotImplementedError

    def query(self, name: str) -> str:
        return QUERY.format(now=self.now, q=self.quote, table=f"{self.quote}{name}{self.quote}")

    def metadata(self, name: str) -> dict[str, Any]:
        self._table(name)
        return {"url": self.server.url, "password": self.secret, "query": self.query(name)}

    def _table(self, name: str) -> str:
        table = f"{self.quote}{name}{self.quote}"
        self.run(f"CREATE TABLE IF NOT EXISTS {table} (id int, taken int, due bigint)")
        return table

    def put(self, name: str, count: int = 1) -> None:
        rows = ", ".join([f"(1, 0, {self.now})"] * count)
        self.run(f"INSERT INTO {self._table(name)} VALUES {rows}")

    def take(self, name: str) -> None:
        self.run(f"DELETE FROM {self._one(name)}")
        self.run(f"INSERT INTO {self._table(name)} VALUES (1, 1, 0)")

    def _one(self, name: str) -> str:
        raise NotImplementedError

    def delay(self, name: str, seconds: int) -> None:
        self.run(f"INSERT INTO {self._table(name)} VALUES (1, 0, {self.now} + {seconds})")

    def state(self, name: str) -> object:
        return sorted(self.run(f"SELECT * FROM {self._table(name)}"))


class PostgresqlRig(SqlRig):
    """A table of PostgreSQL."""

    kind = "postgresql"
    makes = Postgresql
    secret = Postgresql.password
    now = "cast(extract(epoch FROM now()) AS bigint)"

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.server.url, password=self.secret, autocommit=True) as connected:
            answer = connected.execute(statement.encode())
            return answer.fetchall() if answer.description else []

    def _one(self, name: str) -> str:
        return f'"{name}" WHERE ctid = (SELECT ctid FROM "{name}" WHERE taken = 0 LIMIT 1)'


class MysqlRig(SqlRig):
    """A table of MariaDB."""

    kind = "mysql"
    makes = Mariadb
    secret = Mariadb.password
    now = "unix_timestamp()"
    quote = "`"

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        connected: pymysql.Connection[Any] = pymysql.connect(
            host="127.0.0.1",
            port=self.server.port,
            user="tester",
            password=self.secret,
            database="test",
            autocommit=True,
        )
        with connected, connected.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    def _one(self, name: str) -> str:
        return f"`{name}` WHERE taken = 0 LIMIT 1"


class SqliteRig(Rig):
    """A table of a file."""

    kind = "sqlite"

    def __init__(self, folder: Path) -> None:
        self.path = folder / "queue.db"
        self._sql = _SqliteSql(self.path)

    def metadata(self, name: str) -> dict[str, Any]:
        asked = self._sql.metadata(name)
        return {"path": str(self.path), "query": asked["query"]}

    def put(self, name: str, count: int = 1) -> None:
        self._sql.put(name, count)

    def take(self, name: str) -> None:
        self._sql.take(name)

    def delay(self, name: str, seconds: int) -> None:
        self._sql.delay(name, seconds)

    def state(self, name: str) -> object:
        return self._sql.state(name)


class _SqliteSql(SqlRig):
    now = "CAST(strftime('%s') AS INTEGER)"

    def __init__(self, path: Path) -> None:
        self.path = path

    def metadata(self, name: str) -> dict[str, Any]:
        self._table(name)
        return {"query": self.query(name)}

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        connected = sqlite3.connect(self.path, isolation_level=None)
        try:
            return list(connected.execute(statement))
        finally:
            connected.close()

    def _one(self, name: str) -> str:
        return f'"{name}" WHERE rowid = (SELECT rowid FROM "{name}" WHERE taken = 0 LIMIT 1)'


class RabbitmqRig(ServerRig):
    """A queue of RabbitMQ."""

    kind = "rabbitmq"
    makes = Rabbitmq
    secret = Rabbitmq.password
    knows_delayed = False
    knows_age = False
    lag_seconds = 20.0

    def __init__(self, server: Any) -> None:
        super().__init__(server)
        self._holding: list[pika.BlockingConnection] = []

    def metadata(self, name: str) -> dict[str, Any]:
        self._declare(name)
        return {"url": self.server.url, "password": self.secret, "queue": name}

    def _channel(self) -> tuple[pika.BlockingConnection, Any]:
        connection = pika.BlockingConnection(pika.URLParameters(self.server.amqp_url))
        return connection, connection.channel()

    def _declare(self, name: str) -> Any:
        connection, channel = self._channel()
        try:
            return channel.queue_declare(name, durable=True).method
        finally:
            connection.close()

    def put(self, name: str, count: int = 1) -> None:
        self._declare(name)
        connection, channel = self._channel()
        channel.confirm_delivery()
        for number in range(count):
            channel.basic_publish("", name, f"work {number}", pika.BasicProperties(delivery_mode=2))
        connection.close()

    def take(self, name: str) -> None:
        connection, channel = self._channel()
        assert channel.basic_get(name)[0] is not None
        self._holding.append(connection)

    def state(self, name: str) -> object:
        """By AMQP: what is ready, and who consumes."""
        found = self._declare(name)
        return found.message_count, found.consumer_count

    def close(self) -> None:
        for each in self._holding:
            each.close()


class OverHttpRig(ServerRig):
    """What a small server of the test's own says."""

    def __init__(self, server: HttpServer) -> None:
        super().__init__(server)
        self.numbers: dict[str, dict[str, float]] = {}
        server.answer = self.answer

    def answer(self, asked: Asked) -> Answer:
        raise NotImplementedError

    def _of(self, name: str) -> dict[str, float]:
        return self.numbers.setdefault(name, {"waiting": 0, "reserved": 0})

    def put(self, name: str, count: int = 1) -> None:
        self._of(name)["waiting"] += count

    def take(self, name: str) -> None:
        self._of(name)["waiting"] -= 1
        self._of(name)["reserved"] += 1

    def state(self, name: str) -> object:
        return dict(self._of(name))


class HttpRig(OverHttpRig):
    """A JSON document with all numbers of a queue, behind a password."""

    kind = "http"
    secret = "tok3n-of-http"
    knows_delayed = False
    knows_age = False

    def metadata(self, name: str) -> dict[str, Any]:
        return {"url": f"{self.server.url}/{name}", "username": "reader", "password": self.secret}

    def answer(self, asked: Asked) -> Answer:
        if asked.headers.get("Authorization") != "Basic cmVhZGVyOnRvazNuLW9mLWh0dHA=":
            return Answer(b"who are you?", 401)
        return Answer.json(self._of(asked.path.strip("/")))


class PrometheusRig(OverHttpRig):
    """Speaks the part of Prometheus' API that is documented for instant queries."""

    kind = "prometheus"
    secret = "tok3n-of-prometheus"
    knows_reserved = False
    knows_delayed = False
    knows_age = False

    def metadata(self, name: str) -> dict[str, Any]:
        return {"url": self.server.url, "query": f'sum(waiting{{queue="{name}"}})', "bearerToken": self.secret}

    def answer(self, asked: Asked) -> Answer:
        if asked.headers.get("Authorization") != f"Bearer {self.secret}":
            return Answer(b"who are you?", 401)
        value = [1795630000.123, f"{self._of(asked.query['query'].split(chr(34))[1])['waiting']:g}"]
        result = {"resultType": "vector", "result": [{"metric": {}, "value": value}]}
        return Answer.json({"status": "success", "data": result})


class ExecRig(Rig):
    """A command that prints a file."""

    kind = "exec"
    knows_delayed = False
    knows_age = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def metadata(self, name: str) -> dict[str, Any]:
        self._write(name, 0, 0)
        return {"command": ["cat", str(self.folder / name)]}

    def _numbers(self, name: str) -> dict[str, int]:
        path = self.folder / name
        numbers: dict[str, int] = json.loads(path.read_text()) if path.exists() else {"waiting": 0, "reserved": 0}
        return numbers

    def _write(self, name: str, waiting: int, reserved: int) -> None:
        before = self._numbers(name)
        after = {"waiting": before["waiting"] + waiting, "reserved": before["reserved"] + reserved}
        (self.folder / name).write_text(json.dumps(after))

    def put(self, name: str, count: int = 1) -> None:
        self._write(name, count, 0)

    def take(self, name: str) -> None:
        self._write(name, -1, 1)

    def state(self, name: str) -> object:
        return (self.folder / name).read_text(), sorted(path.name for path in self.folder.iterdir())
