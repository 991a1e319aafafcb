"""Implements ports.QueueReader over the reader of the kind of queue that the application uses now.

A changed `.env`, a changed file of `config`, or a `current` that points to another release is noticed within seconds:
the next processes will take their work from there, so that is where we count.
"""

import os
import ssl
import threading
import time
from urllib.parse import urlencode

from reconciler.adapters.queues import registry
from reconciler.adapters.queues.beanstalkd import BeanstalkdReader
from reconciler.adapters.queues.connections import tls_context
from reconciler.adapters.queues.laravel.application import Application
from reconciler.adapters.queues.laravel.redislists import RedisLists
from reconciler.adapters.queues.laravel.worktable import WorkTable
from reconciler.adapters.queues.redisreader import RedisReader
from reconciler.adapters.queues.sqlite import SqliteReader
from reconciler.core.laravel.encryption import SYSTEM, Encryption
from reconciler.core.laravel.settings import BeanstalkdQueues, DatabaseQueues, RedisQueues, Wanted, queues_of
from reconciler.model.masking import without
from reconciler.model.metadata import Mysql, Postgresql, RedisServer
from reconciler.model.queues import QueueReadFailed, QueueReading
from reconciler.ports import QueueReader

CHECK_SECONDS = 1.0
"""How often files are looked at: some calls of stat."""


class LaravelReader:
    """Counts what the processes of an application may take."""

    def __init__(self, application: Application, wanted: Wanted, count_at_most: int) -> None:
        self._application = application
        self._wanted = wanted
        self._count_at_most = count_at_most
        self._reader: QueueReader | None = None
        self._secrets: frozenset[str] = frozenset()
        self._check_at = 0.0
        self._lock = threading.Lock()

    def read(self) -> QueueReading:
        """Look once."""
        reader = self._reader
        now = time.monotonic()
        if reader is None or (now >= self._check_at and self._application.has_changed()):
            self._put(None)
            found = self._application.configuration(may_be_missing=self._wanted.url is not None)
            queues = queues_of(found, self._wanted)
            password = None if isinstance(queues, BeanstalkdQueues) else queues.password
            self._secrets = frozenset() if password is None else frozenset([password])
            reader = self._opened(queues)
            self._put(reader)
        if now >= self._check_at:
            self._check_at = now + CHECK_SECONDS
        try:
            return reader.read()
        except QueueReadFailed as failed:
            raise QueueReadFailed(failed.reason, without(str(failed), self._secrets)) from None

    def wait(self, seconds: float) -> bool:
        """Block until there may be something new."""
        reader = self._reader
        return reader is not None and reader.wait(seconds)

    @property
    def can_wait(self) -> bool:
        """As the kind of queue has it."""
        reader = self._reader
        return reader is not None and reader.can_wait

    def close(self) -> None:
        """Let the connection go."""
        with self._lock:
            if self._reader is not None:
                self._reader.close()

    def _put(self, reader: QueueReader | None) -> None:
        with self._lock:
            before, self._reader = self._reader, reader
        if before is not None:
            before.close()

    def _opened(self, queues: RedisQueues | DatabaseQueues | BeanstalkdQueues) -> QueueReader:
        match queues:
            case RedisQueues():
                server = RedisServer(
                    url=queues.url, username=queues.username, password=queues.password, database=queues.database
                )
                return RedisReader(server, RedisLists(queues).look, self._tls(queues.encryption))
            case DatabaseQueues():
                return self._opened_database(queues)
        return BeanstalkdReader(queues.url, queues.queues)

    def _opened_database(self, queues: DatabaseQueues) -> QueueReader:
        table = WorkTable(queues, self._count_at_most)
        if queues.engine == "sqlite":
            return SqliteReader(os.path.join(self._application.folder, queues.place), table)
        who = {"url": queues.place, "username": queues.username, "password": queues.password, "table": table.name}
        reader: QueueReader
        if queues.engine == "mysql":
            tls = self._tls(queues.encryption)
            reader = registry.module_of("mysql").READER(Mysql.model_validate(who), table, tls)
        else:
            who["url"] = self._with_files(queues)
            reader = registry.module_of("postgresql").READER(Postgresql.model_validate(who), table)
        return reader

    def _tls(self, encryption: Encryption | None) -> ssl.SSLContext | None:
        """How certificates are judged. Raises QueueReadFailed(BadMetadata)."""
        if encryption is None:
            return None
        ca_file = encryption.ca_file and self._application.certificates(encryption.ca_file, "the authority's file")
        return tls_context(ca_file, encryption.verify, verify_host=encryption.verify_host)

    def _with_files(self, queues: DatabaseQueues) -> str:
        """The URL with the files that libpq shall use. Raises QueueReadFailed(BadMetadata)."""
        files = {
            name: path if path == SYSTEM else self._application.certificates(path, name)
            for name, path in queues.files.items()
        }
        return f"{queues.place}{'&' if '?' in queues.place else '?'}{urlencode(files)}" if files else queues.place
