"""A program of a user that takes work from a queue, the way careful ones do: take, do, acknowledge, whatever fails.

    queue_taker.py once|daemon KIND URL FOLDER SECONDS

Each piece is "done" by creating FOLDER/done/PIECE, which succeeds once only; a second delivery of a piece that is done
already (as every queue may make one when it dies) is noted in FOLDER/again. TERM ends it between two pieces.

Where FOLDER/allowed says a number, a piece that is in hand when so many are done waits until that says more, or TERM.
"""

import contextlib
import json
import os
import signal
import sqlite3
import sys
import time
from typing import Any

RETRY_SECONDS = 0.05
IDLE_SECONDS = 0.02


class Sqlite:
    def __init__(self, url: str, me: str) -> None:
        self.database = sqlite3.connect(url, timeout=30, isolation_level=None)
        self.me = me

    def take(self) -> Any:
        mine = self.database.execute("SELECT id FROM jobs WHERE claimed_by = ?", (self.me,)).fetchone()
        if mine is None:
            mine = self.database.execute(
                "UPDATE jobs SET claimed_by = ? WHERE id = (SELECT id FROM jobs WHERE claimed_by IS NULL LIMIT 1) "
                "RETURNING id",
                (self.me,),
            ).fetchone()
        return mine and mine[0]

    def done(self, piece: Any) -> None:
        self.database.execute("DELETE FROM jobs WHERE id = ?", (piece,))


class Postgresql:
    def __init__(self, url: str, me: str) -> None:
        import psycopg

        self.database = psycopg.connect(url, autocommit=True, connect_timeout=30)
        self.me = me

    def take(self) -> Any:
        mine = self.database.execute("SELECT id FROM jobs WHERE claimed_by = %s", (self.me,)).fetchone()
        if mine is None:
            mine = self.database.execute(
                "UPDATE jobs SET claimed_by = %s WHERE id = (SELECT id FROM jobs WHERE claimed_by IS NULL "
                "ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id",
                (self.me,),
            ).fetchone()
        return mine and mine[0]

    def done(self, piece: Any) -> None:
        self.database.execute("DELETE FROM jobs WHERE id = %s", (piece,))


class Mysql:
    def __init__(self, url: str, me: str) -> None:
        import pymysql

        self.database = pymysql.connect(**json.loads(url), autocommit=True, connect_timeout=30)
        self.me = me

    def ask(self, text: str, *values: Any) -> Any:
        with self.database.cursor() as cursor:
            cursor.execute(text, values)
            return cursor.fetchone()

    def take(self) -> Any:
        mine = self.ask("SELECT id FROM jobs WHERE claimed_by = %s", self.me)
        if mine is None:
            self.ask("UPDATE jobs SET claimed_by = %s WHERE claimed_by IS NULL ORDER BY id LIMIT 1", self.me)
            mine = self.ask("SELECT id FROM jobs WHERE claimed_by = %s", self.me)
        return mine and mine[0]

    def done(self, piece: Any) -> None:
        self.ask("DELETE FROM jobs WHERE id = %s", piece)


class Lines:
    """A connection that speaks in lines and counted bytes."""

    def __init__(self, url: str) -> None:
        import socket

        host, _, port = url.rpartition(":")
        self.socket = socket.create_connection((host.rpartition("/")[2], int(port.split("/")[0])), 2.0)
        self.socket.settimeout(30.0)
        self.file = self.socket.makefile("rb")

    def line(self) -> bytes:
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the server left")
        return line[:-2]


class Redis(Lines):
    def __init__(self, url: str, me: str) -> None:
        super().__init__(url)
        self.hand = f"hand:{me}"

    def ask(self, *words: Any) -> Any:
        parts = [str(word).encode() for word in words]
        self.socket.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(p), p) for p in parts))
        head = self.line()
        if head[:1] == b"-":
            raise ConnectionError(head.decode())
        if head[:1] != b"$":
            return int(head[1:])
        size = int(head[1:])
        return None if size < 0 else self.file.read(size + 2)[:-2].decode()

    def take(self) -> Any:
        mine = self.ask("LINDEX", self.hand, 0)
        return mine if mine is not None else self.ask("LMOVE", "jobs", self.hand, "LEFT", "RIGHT")

    def done(self, piece: Any) -> None:
        self.ask("LREM", self.hand, 1, piece)


class Beanstalkd(Lines):
    def __init__(self, url: str, me: str) -> None:
        super().__init__(url)
        self.said(b"watch jobs")
        self.said(b"ignore default")

    def said(self, command: bytes) -> list[bytes]:
        self.socket.sendall(command + b"\r\n")
        return self.line().split()

    def take(self) -> Any:
        said = self.said(b"reserve-with-timeout 0")
        if said[0] != b"RESERVED":
            return None
        self.number = int(said[1])
        return self.file.read(int(said[2]) + 2)[:-2].decode()

    def done(self, piece: Any) -> None:
        self.said(b"delete %d" % self.number)


class Rabbitmq:
    def __init__(self, url: str, me: str) -> None:
        import pika

        self.connection = pika.BlockingConnection(pika.URLParameters(url))
        self.channel = self.connection.channel()

    def take(self) -> Any:
        method, _, body = self.channel.basic_get("jobs")
        self.tag = method and method.delivery_tag
        return body and body.decode()

    def done(self, piece: Any) -> None:
        self.channel.basic_ack(self.tag)
        self.connection.process_data_events()


KINDS = {kind.__name__.lower(): kind for kind in (Sqlite, Postgresql, Mysql, Redis, Beanstalkd, Rabbitmq)}


class Taker:
    def __init__(self, mode: str, kind: str, url: str, folder: str, seconds: str) -> None:
        self.mode, self.kind, self.url, self.folder, self.seconds = mode, kind, url, folder, float(seconds)
        self.me = os.environ["RECONCILER_REPLICA"]
        self.queue: Any = None
        self.ended = False
        signal.signal(signal.SIGTERM, self.end)

    def end(self, *_: object) -> None:
        self.ended = True

    def note(self, name: str, text: str) -> None:
        with open(os.path.join(self.folder, name), "a", encoding="utf-8") as file:
            file.write(f"{text}\n")

    def run(self) -> None:
        self.note("starts", f"{time.clock_gettime(time.CLOCK_BOOTTIME):.4f} {self.me} {os.getpid()}")
        while not self.ended:
            try:
                if self.queue is None:
                    self.queue = KINDS[self.kind](self.url, self.me)
                piece = self.queue.take()
                if piece is not None:
                    self.work(str(piece))
                    self.queue.done(piece)
            except Exception as fault:  # the server is away: what was begun is acknowledged when it is back
                if isinstance(fault, KeyError | ImportError):
                    raise
                self.queue = None
                time.sleep(RETRY_SECONDS)
                continue
            if self.mode == "once":
                return
            if piece is None:
                time.sleep(IDLE_SECONDS)

    def work(self, piece: str) -> None:
        time.sleep(self.seconds)
        while not self.ended and not self.is_allowed():
            time.sleep(IDLE_SECONDS)
        with contextlib.suppress(FileExistsError):
            os.close(os.open(os.path.join(self.folder, "done", piece), os.O_CREAT | os.O_EXCL))
            return
        self.note("again", piece)

    def is_allowed(self) -> bool:
        try:
            with open(os.path.join(self.folder, "allowed"), encoding="utf-8") as file:
                allowed = int(file.read())
        except FileNotFoundError:
            return True
        return len(os.listdir(os.path.join(self.folder, "done"))) < allowed


if __name__ == "__main__":
    Taker(*sys.argv[1:]).run()
