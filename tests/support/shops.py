"""Queues of the kinds that there are drivers for, each on a real server, with all that a story about one needs."""

import json
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, ClassVar

from support import servers
from support.queue_taker import Redis as RedisWords

TAKER = str(Path(__file__).parent / "queue_taker.py")

TABLE = "CREATE TABLE jobs (id INTEGER PRIMARY KEY, claimed_by VARCHAR(20))"
NOTIFY = """
CREATE FUNCTION tell_jobs() RETURNS trigger LANGUAGE plpgsql
AS $$ BEGIN PERFORM pg_notify('jobs', ''); RETURN NULL; END $$;
CREATE TRIGGER jobs_are_there AFTER INSERT ON jobs FOR EACH STATEMENT EXECUTE FUNCTION tell_jobs();
"""
BY_CLAIM = (
    "SELECT coalesce(sum(CASE WHEN claimed_by IS NULL THEN 1 ELSE 0 END), 0) AS waiting, "
    "coalesce(sum(CASE WHEN claimed_by IS NULL THEN 0 ELSE 1 END), 0) AS reserved FROM jobs"
)


class Shop:
    """One queue called `jobs`."""

    kind: ClassVar[str]
    server: servers.Server | None = None

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="reconciler-shop-"))
        (self.folder / "done").mkdir()

    def open(self) -> None:
        """Make the queue, empty."""

    def put(self, pieces: Iterable[int]) -> None:
        """Put work in, all at once."""
        raise NotImplementedError

    @contextmanager
    def dispatching(self) -> Iterator[Callable[[int], object]]:
        """Put single pieces in, as an application does that has its connection already."""
        yield lambda piece: self.put([piece])

    def trigger(self) -> dict[str, Any]:
        """How a binding reads it."""
        raise NotImplementedError

    def url(self) -> str:
        """How queue_taker.py reaches it."""
        raise NotImplementedError

    def command(self, mode: str, seconds: float = 0.005) -> list[str]:
        """What a Program runs."""
        return [sys.executable, TAKER, mode, self.kind, self.url(), str(self.folder), str(seconds)]

    def allow(self, pieces: int) -> None:
        """No more than about so many are done until more are allowed: the story goes on when the test does."""
        aside = self.folder / "allowed.new"
        aside.write_text(str(pieces))
        aside.replace(self.folder / "allowed")

    def done(self) -> int:
        """Pieces done."""
        return len(list((self.folder / "done").iterdir()))

    def lines(self, name: str) -> list[list[str]]:
        """The lines that takers noted."""
        path = self.folder / name
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def close(self) -> None:
        """End its server, and forget what was noted."""
        if self.server is not None:
            self.server.stop()
        shutil.rmtree(self.folder)


class Sqlite(Shop):
    kind = "sqlite"

    def open(self) -> None:
        self._do("PRAGMA journal_mode=WAL")
        self._do(TABLE)

    def _do(self, text: str, rows: Iterable[tuple[Any, ...]] | None = None) -> None:
        database = sqlite3.connect(self.url(), timeout=30)
        try:
            if rows is None:
                database.execute(text)
            else:
                database.executemany(text, rows)
            database.commit()
        finally:
            database.close()

    def put(self, pieces: Iterable[int]) -> None:
        self._do("INSERT INTO jobs (id) VALUES (?)", [(piece,) for piece in pieces])

    @contextmanager
    def dispatching(self) -> Iterator[Callable[[int], object]]:
        with closing(sqlite3.connect(self.url(), timeout=10, isolation_level=None)) as database:
            yield lambda piece: database.execute("INSERT INTO jobs (id) VALUES (?)", (piece,))

    def trigger(self) -> dict[str, Any]:
        return {"type": "sqlite", "metadata": {"path": self.url(), "query": BY_CLAIM}}

    def url(self) -> str:
        return str(self.folder / "jobs.sqlite")


class Redis(Shop):
    kind = "redis"

    def open(self) -> None:
        self.server = servers.Redis()
        self.server.start()

    def put(self, pieces: Iterable[int]) -> None:
        words = RedisWords(self.url(), "test")
        words.ask("RPUSH", "jobs", *pieces)
        words.socket.close()

    def trigger(self) -> dict[str, Any]:
        hands = [{"key": f"hand:{ordinal}", "countsAs": "reserved"} for ordinal in range(8)]
        return {"type": "redis", "metadata": {"url": self.url(), "parts": [{"key": "jobs"}, *hands]}}

    def url(self) -> str:
        assert isinstance(self.server, servers.Redis)
        return self.server.url


class Beanstalkd(Shop):
    kind = "beanstalkd"

    def open(self) -> None:
        self.server = servers.Beanstalkd()
        self.server.start()

    def put(self, pieces: Iterable[int]) -> None:
        from support.queue_taker import Lines

        words = Lines(self.url())
        words.socket.sendall(b"use jobs\r\n")
        words.line()
        for piece in pieces:
            body = str(piece).encode()
            words.socket.sendall(b"put 100 0 60 %d\r\n%b\r\n" % (len(body), body))
            assert words.line().startswith(b"INSERTED")
        words.socket.close()

    def trigger(self) -> dict[str, Any]:
        return {"type": "beanstalkd", "metadata": {"url": self.url(), "tube": "jobs"}}

    def url(self) -> str:
        assert isinstance(self.server, servers.Beanstalkd)
        return self.server.url


class Postgresql(Shop):
    kind = "postgresql"

    def open(self) -> None:
        self.server = servers.Postgresql()
        self.server.start()
        self._do(TABLE)
        self._do(NOTIFY)

    def _do(self, text: str, rows: Iterable[tuple[Any, ...]] | None = None) -> None:
        import psycopg

        with psycopg.connect(self.url()) as database, database.cursor() as cursor:
            if rows is None:
                cursor.execute(text)
            else:
                cursor.executemany(text, rows)

    def put(self, pieces: Iterable[int]) -> None:
        self._do("INSERT INTO jobs (id) VALUES (%s)", [(piece,) for piece in pieces])

    @contextmanager
    def dispatching(self) -> Iterator[Callable[[int], object]]:
        import psycopg

        with psycopg.connect(self.url(), autocommit=True) as database:
            yield lambda piece: database.execute("INSERT INTO jobs (id) VALUES (%s)", (piece,))

    def trigger(self) -> dict[str, Any]:
        assert isinstance(self.server, servers.Postgresql)
        metadata = {"url": self.server.url, "password": self.server.password, "query": BY_CLAIM, "listen": "jobs"}
        return {"type": "postgresql", "metadata": metadata}

    def url(self) -> str:
        from urllib.parse import quote

        assert isinstance(self.server, servers.Postgresql)
        return self.server.url.replace("postgres@", f"postgres:{quote(self.server.password, safe='')}@")


class Mysql(Shop):
    kind = "mysql"

    def open(self) -> None:
        self.server = servers.Mariadb()
        self.server.start()
        self._do(TABLE)

    def _do(self, text: str, rows: Iterable[tuple[Any, ...]] | None = None) -> None:
        import pymysql

        with pymysql.connect(**json.loads(self.url())) as database, database.cursor() as cursor:
            if rows is None:
                cursor.execute(text)
            else:
                cursor.executemany(text, list(rows))
            database.commit()

    def put(self, pieces: Iterable[int]) -> None:
        self._do("INSERT INTO jobs (id) VALUES (%s)", [(piece,) for piece in pieces])

    @contextmanager
    def dispatching(self) -> Iterator[Callable[[int], object]]:
        import pymysql

        with pymysql.connect(**json.loads(self.url()), autocommit=True) as database, database.cursor() as cursor:
            yield lambda piece: cursor.execute("INSERT INTO jobs (id) VALUES (%s)", (piece,))

    def trigger(self) -> dict[str, Any]:
        assert isinstance(self.server, servers.Mariadb)
        metadata = {"url": self.server.url, "password": self.server.password, "query": BY_CLAIM}
        return {"type": "mysql", "metadata": metadata}

    def url(self) -> str:
        server = self.server
        assert isinstance(server, servers.Mariadb)
        login = {"host": "127.0.0.1", "port": server.port, "user": "tester", "password": server.password}
        return json.dumps({**login, "database": "test"})


class Rabbitmq(Shop):
    kind = "rabbitmq"

    def open(self) -> None:
        self.server = servers.Rabbitmq()
        self.server.start()
        self._with_channel(lambda channel: channel.queue_declare("jobs", durable=True))

    def _with_channel(self, do: Any) -> None:
        import pika

        connection = pika.BlockingConnection(pika.URLParameters(self.url()))
        do(connection.channel())
        connection.close()

    def put(self, pieces: Iterable[int]) -> None:
        import pika

        stays = pika.BasicProperties(delivery_mode=2)

        def publish(channel: Any) -> None:
            channel.confirm_delivery()
            for piece in pieces:
                channel.basic_publish("", "jobs", str(piece).encode(), stays)

        self._with_channel(publish)

    def trigger(self) -> dict[str, Any]:
        assert isinstance(self.server, servers.Rabbitmq)
        url = f"http://127.0.0.1:{self.server.http_port}"
        return {"type": "rabbitmq", "metadata": {"url": url, "queue": "jobs"}}

    def url(self) -> str:
        assert self.server is not None
        return f"amqp://guest:guest@127.0.0.1:{self.server.port}/%2F?blocked_connection_timeout=5&connection_attempts=1"


SHOPS: dict[str, type[Shop]] = {shop.kind: shop for shop in (Sqlite, Redis, Beanstalkd, Postgresql, Mysql, Rabbitmq)}
