"""What all databases share: the counting query, and a row as a reading.

A query gives one row: a single number, or columns named as the fields of QueueReading (`waiting`, `reserved`,
`oldest_seconds`, ...). Readers run it in a transaction that may only read, with time-outs of the server's own.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from reconciler.adapters.queues import opening
from reconciler.adapters.queues.readings import number, reading_by_name
from reconciler.model.metadata import Counting
from reconciler.model.queues import QueueReadFailed, QueueReading
from reconciler.ports import QueueAsked, QueueReader

STATEMENT_MILLISECONDS = 1500
"""How long the server may work on a query: less than a call may last, so that the server ends it, not we."""

POLLING_SECONDS = 1.0

C = TypeVar("C", bound=Counting)

_NAME_PART = re.compile(r'"(?:[^"]|"")+"|`(?:[^`]|``)+`|[^."`]+')


class Asking(Protocol):
    """What readers of databases need: a query for the moment, and what its answer means."""

    what: str

    @property
    def text(self) -> str:
        """The query."""
        ...

    def answered(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> QueueReading:
        """The reading. `rows` are the first two at most. Raises QueueReadFailed."""
        ...


class Question:
    """What is asked, in one dialect, and what the answer means."""

    def __init__(self, settings: Counting, count_at_most: int, quote: str) -> None:
        """`quote` is the character around names."""
        self._at_most = count_at_most if settings.query is None else None
        self.what = f"table {settings.table}" if settings.query is None else "the query"
        if settings.query is not None:
            self.text = settings.query.strip().rstrip(";").rstrip()
            return
        where = f" WHERE {settings.where}" if settings.where else ""
        name = quoted(settings.table or "", quote)
        self.text = f"SELECT count(*) FROM (SELECT 1 FROM {name}{where} LIMIT {count_at_most}) AS counted"  # noqa: S608

    def answered(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> QueueReading:
        """The reading. `rows` are the first two at most. Raises QueueReadFailed."""
        if len(rows) > 1:
            raise QueueReadFailed("NotANumber", f"{self.what} gives more than one row; count or sum them up")
        if len(columns) != 1:
            return reading_by_name(
                dict(zip(columns, rows[0] if rows else [None] * len(columns), strict=True)), self.what
            )
        value = rows[0][0] if rows else None
        waiting = 0.0 if value is None else number(value, self.what)  # the sum of no rows is null
        at_least = self._at_most is not None and waiting >= self._at_most
        return QueueReading(waiting, at_least=at_least, found=f"{self.what}: {waiting:g}{' or more' * at_least}")


class SqlDriver(Generic[C]):
    """Implements ports.QueueDriver for a server of databases: its settings, its reader, and its dialect's quote."""

    polling_seconds = POLLING_SECONDS

    def __init__(self, model: type[C], reader: Callable[[C, Asking], QueueReader], quote: str) -> None:
        self._model, self._reader, self._quote = model, reader, quote

    def open(self, asked: QueueAsked) -> QueueReader:
        """Make a reader."""
        settings = opening.settings(asked, self._model)
        return self._reader(settings, Question(settings, asked.count_at_most, self._quote))


def quoted(name: str, quote: str) -> str:
    """`schema.table` as the dialect wants it, whatever characters are in it; what is quoted already stays."""
    parts = _NAME_PART.findall(name)
    return ".".join(part if part[0] in '"`' else f"{quote}{part.replace(quote, quote * 2)}{quote}" for part in parts)


def too_slow(what: str) -> QueueReadFailed:
    """The database gave up on the query."""
    limit = STATEMENT_MILLISECONDS / 1000
    return QueueReadFailed("TimedOut", f"{what} takes longer than {limit:g} s; give it an index, or count less")
