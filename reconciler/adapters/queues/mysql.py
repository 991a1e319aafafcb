"""The `mysql` trigger, for MySQL and MariaDB, by PyMySQL: one plain SELECT per look, in a session that only reads."""

import ssl
from typing import Any

import pymysql
from pymysql.err import MySQLError

from reconciler.adapters.queues import sql
from reconciler.adapters.queues.connections import Hold, Kept, Lost, dial, tls_context, untrusted
from reconciler.adapters.queues.limits import SOCKET_SECONDS
from reconciler.adapters.queues.polling import Polled
from reconciler.adapters.queues.urls import Url
from reconciler.model.metadata import Mysql
from reconciler.model.queues import QueueReadFailed, QueueReading

_LOCK_SECONDS = 1
_REASONS = {
    1040: "ServerError",  # too many connections
    1044: "AuthenticationFailed",
    1045: "AuthenticationFailed",
    1049: "NotFound",
    1129: "AuthenticationFailed",  # the host is blocked
    1130: "AuthenticationFailed",
    1142: "AuthenticationFailed",
    1143: "AuthenticationFailed",
    1146: "NotFound",
    1205: "TimedOut",
    1698: "AuthenticationFailed",
}
_TOO_SLOW = frozenset({1969, 3024})
_LOST = frozenset({0, 1053, 1927, 2003, 2006, 2013, 2014})
_QUERY_REFUSED = frozenset({1054, 1064, 1065, 1305, 1792})


class MysqlReader(Polled):
    """Implements ports.QueueReader."""

    def __init__(self, settings: Mysql, question: sql.Asking, tls: ssl.SSLContext | None = None) -> None:
        """`tls` instead of what the settings say of it. Raises QueueReadFailed(BadMetadata)."""
        self._url = Url(settings.url, ("mysql", "mariadb"), 3306)
        self._user = settings.username or self._url.username
        self._password = settings.password if settings.password is not None else self._url.password
        if tls is None and (settings.tls or settings.ca_file is not None):
            tls = tls_context(settings.ca_file, settings.verify_tls)
        self._tls = tls
        place = self._url.query.get("unix_socket") or self._url.place
        self._what = f"mysql at {place}" + (" over TLS" if tls is not None else "")
        self._question = question
        self._kept = Kept(self._what, self._connect)

    def read(self) -> QueueReading:
        """Look once."""
        return self._kept.call(self._count)

    def close(self) -> None:
        """Let the connection go."""
        self._kept.close()

    def _connect(self, hold: Hold) -> "pymysql.Connection[Any]":
        path = self._url.query.get("unix_socket")
        connected = dial(path or self._url.host, 0 if path else self._url.port, hold)
        connection = pymysql.Connection(
            host=self._url.host, user=self._user, password=self._password or "",
            database=self._url.path.strip("/") or None, charset="utf8mb4", ssl=self._tls, autocommit=True,
            read_timeout=SOCKET_SECONDS, write_timeout=SOCKET_SECONDS, program_name="reconciler", defer_connect=True,
        )  # fmt: skip
        try:
            connection.connect(connected)
            self._limit(connection)
        except BaseException as error:
            connected.close()
            if isinstance(error, MySQLError):
                raise self._failed(error) from None
            if isinstance(error, OSError) or not isinstance(error, Exception):
                raise
            raise Lost("ServerError", f"{self._what} does not answer as a MySQL server does") from None
        return connection

    def _limit(self, connection: "pymysql.Connection[Any]") -> None:
        """Read only, and an end to everything."""
        is_mariadb = "mariadb" in str(connection.get_server_info()).lower()  # type: ignore[no-untyped-call]
        seconds = sql.STATEMENT_MILLISECONDS / 1000
        limit = (
            f"max_statement_time = {seconds}" if is_mariadb else f"max_execution_time = {sql.STATEMENT_MILLISECONDS}"
        )
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION TRANSACTION READ ONLY")
            cursor.execute(f"SET SESSION {limit}, SESSION lock_wait_timeout = {_LOCK_SECONDS}")

    def _count(self, connection: "pymysql.Connection[Any]") -> QueueReading:
        try:
            with connection.cursor() as cursor:
                cursor.execute(self._question.text)
                rows = cursor.fetchmany(2)
                columns = [column[0] for column in cursor.description or ()]
        except MySQLError as error:
            raise self._failed(error) from None
        return self._question.answered(columns, rows)

    def _failed(self, error: MySQLError) -> QueueReadFailed:
        cause = getattr(error, "original_exception", None)
        if isinstance(cause, ssl.SSLCertVerificationError):
            return untrusted(self._url.host, cause)
        number = error.args[0] if error.args and isinstance(error.args[0], int) else 0
        text = str(error.args[1]) if len(error.args) > 1 else str(error)
        if number in _TOO_SLOW:
            return sql.too_slow(self._question.what)
        if number in _QUERY_REFUSED:
            return QueueReadFailed("BadMetadata", f"{self._question.what} is refused: {text}")
        if number in _REASONS:
            hint = "; has the application made its tables yet?" if number == 1146 else ""
            return QueueReadFailed(_REASONS[number], f"{self._what}: {text}{hint}")
        if number in _LOST:
            return Lost("ConnectionRefused", f"{self._what}: {text or 'the connection was lost'}")
        return QueueReadFailed("ServerError", f"{self._what}: {text}")


DRIVER = sql.SqlDriver(Mysql, MysqlReader, "`")
READER = MysqlReader
"""For who asks a question of its own: laravel."""
