"""What each built-in kind of trigger is told: the keys of its `metadata`, their defaults, and what fits together.

Judged by triggers.py, used by the drivers. Any key may be given as `<key>FromEnv` or `<key>FromFile` instead: then
its value is not known here, only that there is one. Texts with a notation (durations, lists) are read here, since
they may come from a variable as well as from YAML.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from reconciler.model import quantities
from reconciler.model.command import CommandError, split_command
from reconciler.model.cron import Schedule
from reconciler.model.fields import Filled, Spec, has_program
from reconciler.model.jsonpath import JsonPath


class Metadata(Spec):
    """The settings of one trigger."""

    model_config = ConfigDict(defer_build=True)

    @classmethod
    def faults(cls, given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """What does not fit together, as (key, message); `given` has all written keys, some without their value."""
        yield from ()


def _one_of(given: Mapping[str, Any], *keys: str) -> Iterator[tuple[str, str]]:
    there = [key for key in keys if key in given]
    if len(there) != 1:
        yield (there[1] if there else "", f"needs exactly one of {' and '.join(keys)}")


def _duration(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return quantities.seconds(value)
    except ValueError as error:
        raise ValueError(f"{value!r} {error}") from None


def _listed(value: Any) -> Any:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _command(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return split_command(value)
    except CommandError as error:
        raise ValueError(str(error)) from None


def _json_path(text: str) -> str:
    JsonPath.parse(text)
    return text


def _schedule(text: str) -> str:
    Schedule.parse(text)
    return text


Seconds = Annotated[float, BeforeValidator(_duration), Field(gt=0, allow_inf_nan=False)]
Texts = Annotated[tuple[Filled, ...], BeforeValidator(_listed), Field(min_length=1)]
Command = Annotated[tuple[str, ...], BeforeValidator(_command), AfterValidator(has_program)]
Way = Annotated[Filled, AfterValidator(_json_path)]
CronExpression = Annotated[Filled, AfterValidator(_schedule)]


# ---- redis, and what lives in it ------------------------------------------------------------------------------------


class RedisServer(Metadata):
    """Where a redis is, and who asks it."""

    url: Filled = "redis://127.0.0.1:6379/0"
    username: Filled | None = None
    password: str | None = None
    database: Annotated[int, Field(ge=0)] | None = None
    ca_file: Filled | None = None
    verify_tls: bool = True


class RedisPart(Spec):
    """One key that is counted."""

    key: Filled
    type: Literal["list", "stream", "zset", "set", "hash"] = "list"
    up_to: Literal["now", "nowMs"] | None = None  # zset: a score is when the piece is due
    group: Filled | None = None  # stream: what this consumer group has still to read waits, the rest is reserved
    counts_as: Literal["waiting", "reserved", "delayed"] = "waiting"

    @staticmethod
    def part_faults(given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """What does not fit together in one part."""
        if "upTo" in given and given.get("type") != "zset":
            yield "upTo", "goes with type: zset"
        if "group" in given and given.get("type") != "stream":
            yield "group", "goes with type: stream"


class Redis(RedisServer):
    """One key, or several."""

    key: Filled | None = None
    type: Literal["list", "stream", "zset", "set", "hash"] = "list"
    up_to: Literal["now", "nowMs"] | None = None
    group: Filled | None = None
    parts: tuple[RedisPart, ...] = ()
    time_field: Filled | None = None  # of the oldest list element, JSON: when it was put in
    taken_from: Literal["left", "right"] = "left"  # the end where the oldest element is

    @classmethod
    def faults(cls, given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        yield from _one_of(given, "key", "parts")
        if "parts" in given:
            for key in ("type", "upTo", "group"):
                if key in given:
                    yield key, "belongs into each of the parts"
            parts = given["parts"]
            for index, part in enumerate(parts if isinstance(parts, list | tuple) else ()):
                if isinstance(part, Mapping):
                    yield from ((f"parts.{index}.{key}", message) for key, message in RedisPart.part_faults(part))
        else:
            yield from RedisPart.part_faults(given)

    @property
    def counted(self) -> tuple[RedisPart, ...]:
        """All keys that are counted."""
        if self.parts:
            return self.parts
        return (RedisPart(key=self.key or "", type=self.type, up_to=self.up_to, group=self.group),)


class Celery(RedisServer):
    """Celery with redis as its broker."""

    queues: Texts = ("celery",)
    key_prefix: str = ""  # global_keyprefix of the transport's options
    priority_steps: tuple[Annotated[int, Field(ge=0)], ...] = (0, 3, 6, 9)
    unacked: Literal["queue", "all", "none"] = "queue"


class Rq(RedisServer):
    """RQ."""

    queues: Texts = ("default",)


class Sidekiq(RedisServer):
    """Sidekiq."""

    queues: Texts = ("default",)


class BullMq(RedisServer):
    """BullMQ."""

    queues: Texts
    prefix: Filled = "bull"


class Arq(RedisServer):
    """arq."""

    queues: Texts = ("arq:queue",)


# ---- databases ------------------------------------------------------------------------------------------------------


class Counting(Metadata):
    """What is counted in a database: the rows of a table, or what a query says."""

    table: Filled | None = None
    where: Filled | None = None
    query: Filled | None = None

    @classmethod
    def faults(cls, given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        yield from _one_of(given, "query", "table")
        if "where" in given and "query" in given:
            yield "where", "goes with table; a query has its own"


class Sqlite(Counting):
    """An SQLite database."""

    path: Filled


class Postgresql(Counting):
    """A PostgreSQL database."""

    url: Filled = "postgresql:///"
    username: Filled | None = None
    password: str | None = None
    listen: Filled | None = None  # a channel that is notified when there is something new


class Mysql(Counting):
    """A MySQL or MariaDB database."""

    url: Filled
    username: Filled | None = None
    password: str | None = None
    tls: bool = False
    ca_file: Filled | None = None
    verify_tls: bool = True


# ---- other servers --------------------------------------------------------------------------------------------------


class Beanstalkd(Metadata):
    """A tube of beanstalkd."""

    url: Filled = "beanstalk://127.0.0.1:11300"
    tube: Annotated[str, Field(pattern=r"^[A-Za-z0-9+/;.$_()][A-Za-z0-9+/;.$_()-]{0,199}$")] = "default"


class HttpServer(Metadata):
    """How an HTTP server is asked."""

    headers: dict[str, str] = Field(default_factory=dict)
    username: Filled | None = None
    password: str | None = None
    bearer_token: Filled | None = None
    ca_file: Filled | None = None
    verify_tls: bool = True

    @classmethod
    def faults(cls, given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        if "bearerToken" in given and "password" in given:
            yield "bearerToken", "and password exclude each other"


class Rabbitmq(HttpServer):
    """A queue of RabbitMQ, asked by its management plugin."""

    url: Filled = "http://127.0.0.1:15672"
    username: Filled | None = "guest"
    password: str | None = "guest"  # noqa: S105  what RabbitMQ ships, for loopback only
    vhost: Filled = "/"
    queue: Filled


class Prometheus(HttpServer):
    """What a PromQL query says now."""

    url: Filled = "http://127.0.0.1:9090"
    query: Filled
    empty_result: Literal["error", "zero"] = "error"


class Http(HttpServer):
    """A number in an HTTP answer."""

    url: Filled
    json_path: Way | None = None


class Exec(Metadata):
    """A number that a command prints."""

    command: Command
    json_path: Way | None = None
    timeout: Annotated[Seconds, Field(le=2)] = 2.0
    user: Filled | None = None  # None: the controller's


class Cron(Metadata):
    """A floor between two times of the clock."""

    timezone: Filled
    start: CronExpression
    end: CronExpression
    desired_replicas: Annotated[int, Field(ge=0)]

    @classmethod
    def faults(cls, given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        if given.get("start") is not None and given.get("start") == given.get("end"):
            yield "end", "is the same as start"


class Laravel(Metadata):
    """A queue of a Laravel application. What is not written here is read from the application's own files."""

    connection: Filled | None = None  # of config/queue.php; None: its default, QUEUE_CONNECTION
    queues: Texts | None = None  # None: the connection's own
    url: Filled | None = None
    username: Filled | None = None
    password: str | None = None
    prefix: str | None = None  # redis
    table: Filled | None = None  # database: with its prefix
    retry_after: Seconds | None = None
    env_file: Filled | None = None
    tls: bool | None = None
    ca_file: Filled | None = None  # with one, tls is true
    verify_tls: bool | None = None
