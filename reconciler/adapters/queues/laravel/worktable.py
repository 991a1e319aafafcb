"""What is counted in the table that Laravel's `database` connection keeps its work in: one SELECT, no lock.

    reserved_at null, available_at past      may be taken                     waiting
    reserved_at older than retry_after       may be taken again               waiting
    reserved_at                              somebody works on it             reserved
    reserved_at null, available_at to come   not yet                          delayed

The clock is ours, which is that of the processes, not the database's: they write and compare their own. Each count
stops at a bound. As long as the table holds no other queue's work, its ids count what arrives.
"""

# ruff: noqa: S608 - names are quoted, values are numbers and literals of our own making

import itertools
from collections.abc import Sequence
from typing import Any

from reconciler.adapters.queues.readings import age, number, oldest, wall_seconds
from reconciler.adapters.queues.sql import quoted
from reconciler.core.laravel.settings import DatabaseQueues
from reconciler.model.queues import QueueReadFailed, QueueReading

LEAST_AT_MOST = 100


class WorkTable:
    """The question, and what the answer means; see sql.Question."""

    def __init__(self, queues: DatabaseQueues, count_at_most: int) -> None:
        self.name = queues.table
        self.what = f"table {queues.table}"
        self._where = f"{self.what}, queue{'s' * (len(queues.queues) > 1)} {', '.join(queues.queues)}"
        self._queues = queues
        self._at_most = max(count_at_most, LEAST_AT_MOST)
        quote = "`" if queues.engine == "mysql" else '"'
        self._table = quoted(queues.table, quote)
        self._names = ", ".join(_literal(name, queues.engine) for name in queues.queues)
        self._others = _others(queues.queues, queues.engine)
        self._now = 0
        self._highest = 0.0

    @property
    def text(self) -> str:
        """The query for this moment."""
        self._now = now = int(wall_seconds())
        given_back = now - int(self._queues.retry_after_seconds)
        pending = f"reserved_at IS NULL AND available_at <= {now}"
        expired = f"reserved_at <= {given_back}"
        to_come = f"reserved_at IS NULL AND available_at > {now}"
        asked = (
            *map(self._count, (pending, expired, f"reserved_at > {given_back}", to_come)),
            self._least("available_at", pending),
            self._least("reserved_at", expired),
            self._least("available_at", to_come),
            f"(SELECT max(id) FROM {self._table})",
            f"(SELECT 1 FROM {self._table} WHERE {self._others} LIMIT 1)",
        )
        return f"SELECT {', '.join(asked)}"

    def _count(self, condition: str) -> str:
        return f"(SELECT count(*) FROM ({self._rows('1 AS one', condition)}) AS counted)"

    def _least(self, column: str, condition: str) -> str:
        return f"(SELECT min({column}) FROM ({self._rows(column, condition)}) AS looked_at)"

    def _rows(self, columns: str, condition: str) -> str:
        where = f"queue IN ({self._names}) AND {condition}"
        return f"SELECT {columns} FROM {self._table} WHERE {where} LIMIT {self._at_most}"

    def answered(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> QueueReading:
        """The reading."""
        if len(rows) != 1:
            raise QueueReadFailed("ServerError", f"{self.what}: {len(rows)} rows where one was asked for")
        pending, expired, reserved, delayed = (number(value, self.what) for value in rows[0][:4])
        since, taken, comes, highest, others = rows[0][4:]
        self._highest = max(self._highest, 0.0 if highest is None else number(highest, self.what))
        given_back = None if taken is None else float(taken) + self._queues.retry_after_seconds
        waiting = pending + expired
        at_least = pending >= self._at_most
        inside_is_known = max(pending, expired, reserved, delayed) < self._at_most
        told = f"{' or more' * at_least} waiting{shown_expired(expired, self._queues.retry_after_seconds)}"
        return QueueReading(
            waiting,
            reserved=reserved,
            delayed=delayed,
            oldest_seconds=oldest(age(since, self._now), age(given_back, self._now)),
            next_due_seconds=None if comes is None else max(float(comes) - self._now, 0.0),
            arrived=self._highest if others is None and self._highest and inside_is_known else None,
            at_least=at_least,
            found=f"{self._where}: {waiting:g}{told}, {reserved:g} reserved, {delayed:g} delayed",
        )


def _others(names: Sequence[str], engine: str) -> str:
    """The condition for rows of all other queues, as ranges that an index on `queue` answers at once."""
    ordered = [_literal(name, engine) for name in sorted(set(names))]
    between = [f"(queue > {one} AND queue < {other})" for one, other in itertools.pairwise(ordered)]
    return " OR ".join([f"queue < {ordered[0]}", *between, f"queue > {ordered[-1]}"])


def shown_expired(count: float, retry_after_seconds: float) -> str:
    """What is among the waiting and may surprise."""
    return f" ({count:g} taken more than {retry_after_seconds:g} s ago, not finished)" if count else ""


def _literal(text: str, engine: str) -> str:
    if "\0" in text:
        raise QueueReadFailed("BadMetadata", "queues: a name holds a NUL character")
    text = text.replace("\\", "\\\\") if engine == "mysql" else text
    return "'" + text.replace("'", "''") + "'"
