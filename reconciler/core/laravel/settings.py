"""Where the queue of a Laravel application is and what it is called there, told from its configuration.

    configuration, and what the trigger's metadata says otherwise -> RedisQueues | DatabaseQueues | BeanstalkdQueues

Names of settings are Laravel's; each refusal says which one, in which file, and what to write instead. Pure.
"""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from reconciler.core.laravel import encryption
from reconciler.core.laravel.configuration import Configuration, Part, bad
from reconciler.core.laravel.encryption import Encryption, Tls

RETRY_AFTER_SECONDS = 60  # the framework's own, where the connection does not say
_KINDS = {
    "redis": "redis", "rediss": "redis", "unix": "redis", "tcp": "redis", "tls": "redis",
    "beanstalk": "beanstalkd", "beanstalkd": "beanstalkd",
    "sqlite": "database", "mysql": "database", "mariadb": "database", "postgresql": "database", "postgres": "database",
}  # fmt: skip
_ENGINES = {
    "sqlite": "sqlite", "sqlite3": "sqlite", "mysql": "mysql", "mysql2": "mysql", "mariadb": "mysql",
    "pgsql": "pgsql", "postgres": "pgsql", "postgresql": "pgsql",
}  # fmt: skip
_TUBE = re.compile(r"[A-Za-z0-9+/;.$_()][A-Za-z0-9+/;.$_()-]{0,199}")
_INSIDE = frozenset({"sync", "deferred", "background"})


class Wanted(NamedTuple):
    """What the trigger says itself; None leaves it to the application."""

    connection: str | None = None
    url: str | None = None
    username: str | None = None
    password: str | None = None
    prefix: str | None = None
    table: str | None = None  # with its prefix
    queues: tuple[str, ...] = ()
    retry_after_seconds: float | None = None
    tls: Tls = Tls()


class RedisQueues(NamedTuple):
    """Lists in redis. `url` has no password."""

    queues: tuple[str, ...]
    url: str
    username: str | None
    password: str | None
    database: int | None
    prefix: str
    retry_after_seconds: float
    encryption: Encryption | None = None  # of a rediss:// url


class DatabaseQueues(NamedTuple):
    """Rows of a table. `place`: a path for sqlite, else a URL without a password."""

    queues: tuple[str, ...]
    engine: str  # sqlite, mysql or pgsql
    place: str
    username: str | None
    password: str | None
    table: str
    retry_after_seconds: float
    encryption: Encryption | None = None  # of mysql
    files: Mapping[str, str] = MappingProxyType({})  # of pgsql: parameters of libpq that name files


class BeanstalkdQueues(NamedTuple):
    """Tubes."""

    queues: tuple[str, ...]
    url: str


Queues = RedisQueues | DatabaseQueues | BeanstalkdQueues


def queues_of(configuration: Configuration, wanted: Wanted) -> Queues:
    """Where to look. Raises QueueReadFailed(BadMetadata)."""
    queue = Part("queue", configuration.queue, configuration.source)
    name = wanted.connection or queue.text("default", "sync")
    connection = queue.part("connections").part(name)
    driver = connection.text("driver", "") if connection.values is not None else ""
    if wanted.url is not None:
        kind = _kind_of(wanted.url)
        if driver != kind and wanted.connection is not None:
            said = f"is of the driver {driver}" if driver else "is unknown"
            raise bad(f"url is for {kind}, but the connection {name!r} of {configuration.source} {said}")
        if driver != kind:  # the one that Laravel itself calls so
            connection, driver = queue.part("connections").part(kind), kind
    if not driver:
        known = ", ".join(queue.part("connections").keys()) or "none"
        raise bad(f"{configuration.source} has no queue connection {name!r}; it has: {known}")
    make = _MAKERS.get(driver)
    if make is None:
        raise bad(_why_not(driver, name, connection, configuration))
    return make(connection, Part("database", configuration.database, configuration.source), wanted)


def _why_not(driver: str, name: str, connection: Part, configuration: Configuration) -> str:
    """What to say of a connection that cannot be counted."""
    if driver in _INSIDE:
        return (
            f"the queue connection is {name!r}, which does its work inside the process that dispatches it: nothing "
            f"waits anywhere. Set QUEUE_CONNECTION ({configuration.environment}), or name the connection in metadata"
        )
    match driver:
        case "null":
            return f"the queue connection {name!r} throws all work away: there is nothing to count"
        case "failover":
            to = ", ".join(connection.part("connections").texts()) or "others"
            return (
                f"the queue connection {name!r} passes work on to {to}: write one trigger for each of these, "
                "with metadata.connection"
            )
        case "sqs":
            return f"the queue connection {name!r} is of the driver sqs, which is not counted by this release"
    return (
        f"the queue connection {name!r} is of the driver {driver!r}, which is not Laravel's own; "
        "use the trigger type of that server (rabbitmq, redis, postgresql, exec, ...)"
    )


def _kind_of(url: str) -> str:
    kind = _KINDS.get(url.partition("://")[0].lower())
    if kind is None:
        raise bad(f"url must begin with one of {', '.join(f'{scheme}://' for scheme in _KINDS)}")
    return kind


class _Server(NamedTuple):
    """A server as Laravel's settings say it: the parts of its URL, if there is one, before the others."""

    scheme: str | None
    host: str | None
    port: int | None
    username: str | None
    password: str | None
    database: str | None
    options: dict[str, str]


def _server(part: Part, url: str | None, username: str | None, password: str | None) -> _Server:
    """What is in effect of a connection's settings, a URL, and a user who was named beside it."""
    text = url or part.optional("url")
    by_url = _parsed(text) if text is not None else _Server(None, None, None, None, None, None, {})
    port = by_url.port or part.number("port", 0) or None
    return _Server(
        by_url.scheme or part.optional("scheme"),
        by_url.host or part.part("write").first("host") or part.first("host"),
        port,
        username or by_url.username or part.optional("username"),
        password if password is not None else by_url.password or part.optional("password"),
        by_url.database or part.optional("database"),
        by_url.options,
    )


def _parsed(url: str) -> _Server:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise bad("url cannot be taken apart; in a password write % : / @ ? # as %25 %3A %2F %40 %3F %23") from None
    return _Server(
        parts.scheme or None,
        unquote(parts.hostname or "") or None,
        port,
        unquote(parts.username or "") or None,
        unquote(parts.password or "") or None,
        _database_of(parts.scheme, unquote(parts.path)) or None,
        dict(parse_qsl(parts.query)),
    )


def _database_of(scheme: str, path: str) -> str:
    """For a socket of redis it is the socket; of SQLite it is absolute after four slashes, as Laravel has it."""
    if scheme == "unix":
        return path
    return path.removeprefix("/") if scheme == "sqlite" else path.strip("/")


def _place(scheme: str, server: _Server, port: int, host: str) -> str:
    """scheme://host:port of a server."""
    name = server.host or host
    shown = f"[{name}]" if ":" in name else quote(name)
    return f"{scheme}://{shown}:{server.port or port}"


# ---- the three drivers ----------------------------------------------------------------------------------------------


def _redis(connection: Part, database: Part, wanted: Wanted) -> Queues:
    redis = database.part("redis")
    name = connection.text("connection", "default")
    part = redis.part(name)
    if part.values is None and wanted.url is None:
        if redis.part("clusters").part(name).values is not None:
            raise bad(
                f"the redis connection {name!r} is a cluster; write in metadata the url of the node with the keys"
            )
        raise bad(f"{connection.path}.connection is {name!r}, and {redis.path} has no such connection")
    server = _server(part, wanted.url, wanted.username, wanted.password)
    url, encrypted = _redis_url(part, server, wanted.tls)
    prefix = wanted.prefix
    if prefix is None:
        own = part.part("options").optional("prefix") or part.optional("prefix")
        prefix = own or redis.part("options").text("prefix", "")
    return RedisQueues(
        wanted.queues or (connection.text("queue", "default"),),
        url,
        server.username,
        server.password,
        _index(server),
        prefix,
        _retry_after(connection, wanted),
        encrypted,
    )


def _redis_url(part: Part, server: _Server, tls: Tls) -> tuple[str, Encryption | None]:
    host = server.host or "127.0.0.1"
    scheme, separator, rest = host.partition("://")  # phpredis takes tls://host for a host
    if separator:
        server = server._replace(scheme=scheme, host=rest)
    if server.scheme == "unix" or host.startswith("/"):
        if tls.decided:
            raise bad(f"{part.path} is a Unix socket, where redis does not speak TLS: leave tls and caFile out")
        return f"unix://{quote(_socket(part, server, host))}", None
    encrypted = encryption.of_redis(part, server.scheme in {"tls", "rediss", "ssl"}, tls)
    return _place("redis" if encrypted is None else "rediss", server, 6379, "127.0.0.1"), encrypted


def _socket(part: Part, server: _Server, host: str) -> str:
    for path in (host, server.database, part.optional("path")):
        if path is not None and path.startswith("/"):
            return path
    raise bad(f"{part.path} is a Unix socket, but names no path")


def _index(server: _Server) -> int | None:
    """The number of the database. In a URL of a socket it stands behind `?db=`, since the path is the socket's."""
    database = server.options.get("db") or server.database
    if database is None or database.startswith("/"):
        return None
    if not (database.isascii() and database.isdigit()):
        raise bad(f"redis has databases by number, and {database!r} is none")
    return int(database)


def _database(connection: Part, database: Part, wanted: Wanted) -> Queues:
    name = connection.optional("connection") or database.text("default", "sqlite")
    part = database.part("connections").part(name)
    if part.values is None and wanted.url is None:
        known = ", ".join(database.part("connections").keys()) or "none"
        raise bad(f"{database.path} has no connection {name!r}; it has: {known}")
    server = _server(part, wanted.url, wanted.username, wanted.password)
    driver = (server.scheme if server.scheme in _ENGINES else None) or part.text("driver", name)
    engine = _ENGINES.get(driver)
    if engine is None:
        raise bad(f"{part.path} is of the driver {driver!r}; sqlite, mysql, mariadb and pgsql are counted")
    table = wanted.table or part.text("prefix", "") + connection.text("table", "jobs")
    if engine == "pgsql" and "." not in table and wanted.table is None:
        schema = (part.first("search_path") or part.first("schema") or "public").split(",")[0].strip(" \"'")
        table = table if schema == "public" or schema.startswith("$") else f"{schema}.{table}"
    place, encrypted, files = _DATABASES[engine](part, server, wanted.tls)
    return DatabaseQueues(
        wanted.queues or (connection.text("queue", "default"),),
        engine,
        place,
        server.username,
        server.password,
        table,
        _retry_after(connection, wanted),
        encrypted,
        files,
    )


_Way = tuple[str, Encryption | None, Mapping[str, str]]


def _sqlite(part: Part, server: _Server, _: Tls) -> _Way:
    path = server.database or ""
    if not path or path == ":memory:":
        raise bad(f"{part.path}.database names no file: a queue in memory belongs to one process")
    return path, None, {}


def _mysql(part: Part, server: _Server, tls: Tls) -> _Way:
    socket = part.optional("unix_socket")
    query = f"?{urlencode({'unix_socket': socket})}" if socket else ""
    place = f"{_place('mysql', server, 3306, '127.0.0.1')}/{quote(server.database or '', safe='')}{query}"
    return place, encryption.of_mysql(part, tls), {}


def _pgsql(part: Part, server: _Server, tls: Tls) -> _Way:
    mode, files = encryption.of_postgresql(part, server.options, tls)
    place = _place("postgresql", server, 5432, "127.0.0.1")
    if server.host and server.host.startswith("/"):
        place = f"postgresql://{quote(server.host, safe='')}:{server.port or 5432}"
    query = f"?{urlencode({'sslmode': mode})}" if mode else ""
    return f"{place}/{quote(server.database or '', safe='')}{query}", None, files


_DATABASES: dict[str, Callable[[Part, _Server, Tls], _Way]] = {"sqlite": _sqlite, "mysql": _mysql, "pgsql": _pgsql}


def _beanstalkd(connection: Part, _: Part, wanted: Wanted) -> Queues:
    queues = wanted.queues or (connection.text("queue", "default"),)
    for name in queues:
        if not _TUBE.fullmatch(name):
            raise bad(f"beanstalkd has no tube of the name {name!r}: letters, digits and + / ; . $ _ ( ) - are allowed")
    server = _server(connection, wanted.url, None, None)
    if wanted.tls.decided:
        raise bad("beanstalkd does not speak TLS: leave tls and caFile out")
    return BeanstalkdQueues(queues, _place("beanstalk", server, 11300, "127.0.0.1"))


def _retry_after(connection: Part, wanted: Wanted) -> float:
    if wanted.retry_after_seconds is not None:
        return wanted.retry_after_seconds
    return connection.number("retry_after", RETRY_AFTER_SECONDS)


_MAKERS: dict[str, Callable[[Part, Part, Wanted], Queues]] = {
    "redis": _redis,
    "database": _database,
    "beanstalkd": _beanstalkd,
}
