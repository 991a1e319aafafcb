"""A mail queue in SQLite, as small as it can be: what the example Programs of this folder share.

A message is claimed and deleted in one transaction each; a process that dies in between leaves its claim, and the
message is taken again after CLAIM_SECONDS: at least once, as queues are.
"""

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator

PATH = os.environ.get("MAIL_QUEUE", os.path.join(os.path.dirname(os.path.abspath(__file__)), "queue.sqlite"))
CLAIM_SECONDS = 60


@contextlib.contextmanager
def opened() -> Iterator[sqlite3.Connection]:
    """The queue's database; made when it is not there."""
    database = sqlite3.connect(PATH, timeout=10, isolation_level=None)
    try:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute(
            "CREATE TABLE IF NOT EXISTS mails "
            "(id INTEGER PRIMARY KEY AUTOINCREMENT, address TEXT NOT NULL, claimed_at REAL)"
        )
        yield database
    finally:
        database.close()


def put(database: sqlite3.Connection, addresses: list[str]) -> None:
    """Add messages."""
    database.executemany("INSERT INTO mails (address) VALUES (?)", [(address,) for address in addresses])


def take(database: sqlite3.Connection) -> tuple[int, str] | None:
    """Claim the oldest message that nobody works on."""
    now = time.time()
    row = database.execute(
        "UPDATE mails SET claimed_at = ? WHERE id = (SELECT id FROM mails WHERE claimed_at IS NULL OR claimed_at < ? "
        "ORDER BY id LIMIT 1) RETURNING id, address",
        (now, now - CLAIM_SECONDS),
    ).fetchone()
    return None if row is None else (row[0], row[1])


def done(database: sqlite3.Connection, mail: int) -> None:
    """The message was sent."""
    database.execute("DELETE FROM mails WHERE id = ?", (mail,))


def waiting(database: sqlite3.Connection) -> int:
    """How many messages wait."""
    count: int = database.execute("SELECT count(*) FROM mails").fetchone()[0]
    return count
