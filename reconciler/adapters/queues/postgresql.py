"""The `postgresql` trigger, by psycopg: one short transaction that may only read, per look.

Waiting needs a channel that somebody notifies (`listen`): an application, or a trigger of the table (notifying.py).
"""

from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from reconciler.adapters.queues import sql
from reconciler.adapters.queues.connections import Hold, Kept, Leash, Lost
from reconciler.adapters.queues.limits import CALL_SECONDS
from reconciler.model.masking import masked
from reconciler.model.metadata import Postgresql
from reconciler.model.queues import QueueReadFailed, QueueReading

_CONNECT_SECONDS = 2  # the least that the library allows
_LIMITS = "SELECT set_config('statement_timeout', %s, true), set_config('lock_timeout', %s, true)"


class PostgresqlReader:
    """Implements ports.QueueReader."""

    def __init__(self, settings: Postgresql, question: sql.Asking) -> None:
        """Raises QueueReadFailed(BadMetadata)."""
        self._channel = settings.listen
        self._question = question
        self._conninfo, self._what = _conninfo(settings)
        self._kept = Kept(self._what, self._connect)

    def read(self) -> QueueReading:
        """Look once."""
        return self._kept.call(self._count)

    @property
    def can_wait(self) -> bool:
        """Whether a channel was named."""
        return self._channel is not None

    def wait(self, seconds: float) -> bool:
        """Block until the channel is notified. Raises QueueReadFailed."""
        if self.read().waiting > 0:
            return True
        return self._kept.call(lambda connection: self._listen(connection, seconds), seconds + CALL_SECONDS)

    def close(self) -> None:
        """Let the connection go; a wait in another thread ends."""
        self._kept.close()

    def _connect(self, hold: Hold) -> "psycopg.Connection[Any]":
        try:
            connection = psycopg.connect(self._conninfo, prepare_threshold=None)
        except psycopg.Error as error:
            raise _refused(self._what, error) from None
        try:
            hold(Leash(connection.pgconn.socket))
            if self._channel is not None:
                connection.execute(psycopg.sql.SQL("LISTEN {}").format(psycopg.sql.Identifier(self._channel)))
                connection.commit()
            connection.read_only = True
        except BaseException:
            connection.close()
            raise
        return connection

    def _count(self, connection: "psycopg.Connection[Any]") -> QueueReading:
        try:
            with connection.transaction():
                limit = str(sql.STATEMENT_MILLISECONDS)
                connection.execute(_LIMITS, (limit, limit))
                with connection.execute(self._question.text.encode()) as cursor:
                    rows = cursor.fetchmany(2) if cursor.description else []
                    columns = [column.name for column in cursor.description or ()]
        except psycopg.Error as error:
            raise self._failed(error) from None
        return self._question.answered(columns, rows)

    def _listen(self, connection: "psycopg.Connection[Any]", seconds: float) -> bool:
        """Also true for what came while the last look was under way: it may have come too late for that."""
        try:
            return any(connection.notifies(timeout=seconds, stop_after=1))
        except psycopg.Error as error:
            raise self._failed(error) from None

    def _failed(self, error: psycopg.Error) -> QueueReadFailed:
        state, text = error.sqlstate or "", _first_line(error)
        if state == "57014":
            return sql.too_slow(self._question.what)
        if state == "55P03":
            return QueueReadFailed("TimedOut", f"{self._question.what} is locked by somebody: {text}")
        if state in {"42P01", "3F000"}:
            return QueueReadFailed("NotFound", f"{self._what}: {text}; has the application made its tables yet?")
        if state == "42501":
            return QueueReadFailed("AuthenticationFailed", f"{self._what}: {text}; GRANT SELECT to this user")
        if state[:2] in {"42", "25", "22"}:
            return QueueReadFailed("BadMetadata", f"{self._question.what} is refused: {text}")
        if not state or state[:2] in {"08", "57"}:
            return Lost("ConnectionRefused", f"{self._what}: {text or 'the connection was lost'}")
        return QueueReadFailed("ServerError", f"{self._what}: {text}")


def _conninfo(settings: Postgresql) -> tuple[str, str]:
    """What psycopg is told, and how the server is called in messages."""
    given = {"user": settings.username, "password": settings.password}
    try:
        parts = conninfo_to_dict(settings.url, **{key: value for key, value in given.items() if value is not None})
    except psycopg.Error as error:
        raise QueueReadFailed("BadMetadata", f"url: {masked(str(error)).strip()}") from None
    parts.setdefault("application_name", "reconciler")
    parts.setdefault("client_encoding", "utf-8")
    parts["connect_timeout"] = _CONNECT_SECONDS
    where = parts.get("host") or parts.get("hostaddr") or "its default place"
    port = "" if str(where).startswith("/") else f":{parts.get('port') or 5432}"
    return make_conninfo("", **parts), f"postgresql at {where}{port}"


def _refused(what: str, error: psycopg.Error) -> QueueReadFailed:
    """Why there is no connection. The library gives a text only."""
    text = _first_line(error)
    if isinstance(error, psycopg.errors.ConnectionTimeout) or "timeout expired" in text:
        return QueueReadFailed("TimedOut", f"{what} did not answer within {_CONNECT_SECONDS} s")
    if "certificate" in text:
        return QueueReadFailed("AuthenticationFailed", f"{what}: {text}; name its authority in sslrootcert")
    if "SSL" in text:
        return QueueReadFailed("ServerError", f"{what}: {text}; see sslmode")
    if "authentication failed" in text or "no password" in text or "pg_hba.conf" in text or "role" in text:
        return QueueReadFailed("AuthenticationFailed", f"{what}: {text}")
    if "database" in text and "does not exist" in text:
        return QueueReadFailed("NotFound", f"{what}: {text}")
    if "starting up" in text or "too many" in text or "invalid response" in text or "shutting down" in text:
        return QueueReadFailed("ServerError", f"{what}: {text}")
    return QueueReadFailed("ConnectionRefused", f"{what}: {text}; is the server running?")


def _first_line(error: psycopg.Error) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].removeprefix("connection failed: ") if lines else ""


DRIVER = sql.SqlDriver(Postgresql, PostgresqlReader, '"')
READER = PostgresqlReader
"""For who asks a question of its own: laravel."""
