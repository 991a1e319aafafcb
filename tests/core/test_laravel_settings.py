"""From a Laravel application's configuration to the place of its queue, and refusals that say what to write instead."""

from collections.abc import Mapping
from typing import Any

import pytest

from reconciler.core.laravel import conventions
from reconciler.core.laravel.configuration import Configuration, merged
from reconciler.core.laravel.encryption import Encryption, Tls
from reconciler.core.laravel.phpvalues import Unknown
from reconciler.core.laravel.settings import BeanstalkdQueues, DatabaseQueues, RedisQueues, Wanted, queues_of
from reconciler.model.queues import QueueReadFailed

CONNECTIONS: dict[str, Any] = {
    "sync": {"driver": "sync"},
    "database": {"driver": "database", "table": "jobs", "queue": "default", "retry_after": 90},
    "redis": {"driver": "redis", "connection": "default", "queue": "default", "retry_after": 90},
    "beanstalkd": {"driver": "beanstalkd", "host": "localhost", "queue": "default", "retry_after": 90},
}
REDIS: dict[str, Any] = {
    "options": {"prefix": "shop_database_"},
    "default": {"host": "10.0.0.1", "port": "6380", "database": "2", "password": "secret"},
}
DATABASES: dict[str, Any] = {
    "sqlite": {"driver": "sqlite", "database": "/srv/shop/database.sqlite"},
    "mysql": {"driver": "mysql", "host": "db", "port": 3307, "database": "shop", "username": "u", "password": "p/w"},
    "pgsql": {"driver": "pgsql", "host": "db", "database": "shop", "username": "u", "sslmode": "prefer"},
}


NOTHING = Wanted()


def found(
    default: str,
    wanted: Wanted = NOTHING,
    *,
    connection: Mapping[str, Any] | None = None,
    redis: Mapping[str, Any] | None = None,
    database: Mapping[str, Any] | None = None,
    databases_default: str = "mysql",
) -> Any:
    """The queue of an application whose default connection is `default`, with some settings changed."""
    connections = {**CONNECTIONS, **({default: {**CONNECTIONS.get(default, {}), **connection}} if connection else {})}
    databases = {**DATABASES}
    if database:
        databases[databases_default] = {**databases.get(databases_default, {}), **database}
    configuration = Configuration(
        {"default": default, "connections": connections},
        {"default": databases_default, "connections": databases, "redis": {**REDIS, **(redis or {})}},
        "config",
        "in /srv/shop/.env",
    )
    return queues_of(configuration, wanted)


def refusal(*arguments: Any, **options: Any) -> str:
    with pytest.raises(QueueReadFailed) as failed:
        found(*arguments, **options)
    assert failed.value.reason == "BadMetadata"
    assert "secret" not in str(failed.value)
    return str(failed.value)


class TestRedis:
    def test_by_its_settings(self):
        assert found("redis") == RedisQueues(
            ("default",), "redis://10.0.0.1:6380", None, "secret", 2, "shop_database_", 90
        )

    def test_what_the_trigger_says_wins(self):
        wanted = Wanted(
            url="redis://u:p%40@other/5", prefix="", queues=("high", "mails"), retry_after_seconds=5, username="v"
        )
        assert found("redis", wanted) == RedisQueues(("high", "mails"), "redis://other:6380", "v", "p@", 5, "", 5)
        assert found("redis", Wanted(password="x")).password == "x"

    @pytest.mark.parametrize(
        ("default", "url", "username", "database"),
        [
            ({"url": "redis://ada:pw@cache:7000/3"}, "redis://cache:7000", "ada", 3),
            ({"url": "tls://cache"}, "rediss://cache:6379", None, None),
            ({"host": "tls://cache", "username": "ada"}, "rediss://cache:6379", "ada", None),
            ({"scheme": "tls", "host": "cache", "port": ""}, "rediss://cache:6379", None, None),
            ({"host": "::1"}, "redis://[::1]:6379", None, None),
            ({"host": "/run/redis.sock", "port": 0, "database": 1}, "unix:///run/redis.sock", None, 1),
            ({"scheme": "unix", "path": "/run/redis.sock", "database": "1"}, "unix:///run/redis.sock", None, 1),
            ({"url": "unix:///run/redis.sock?db=4"}, "unix:///run/redis.sock", None, 4),
            ({}, "redis://127.0.0.1:6379", None, None),
        ],
    )
    def test_ways_to_say_where(self, default, url, username, database):
        queues = found("redis", redis={"default": default})
        assert (queues.url, queues.username, queues.database) == (url, username, database)

    def test_the_prefix_of_the_connection_wins_over_that_of_all(self):
        assert found("redis", redis={"default": {"prefix": "own_"}}).prefix == "own_"
        assert found("redis", redis={"default": {"options": {"prefix": "own_"}}}).prefix == "own_"
        assert found("redis", redis={"options": {}}).prefix == ""

    def test_another_connection_and_a_queue_of_its_own(self):
        queues = found("redis", connection={"connection": "jobs", "queue": "mails"}, redis={"jobs": {"host": "h"}})
        assert (queues.url, queues.queues) == ("redis://h:6379", ("mails",))
        assert found("redis", connection={"retry_after": None}).retry_after_seconds == 60

    def test_refusals(self):
        assert "database.redis has no such connection" in refusal("redis", connection={"connection": "jobs"})
        cluster = {"clusters": {"jobs": [{"host": "h"}]}}
        assert "is a cluster; write in metadata the url" in refusal(
            "redis", connection={"connection": "jobs"}, redis=cluster
        )
        assert found("redis", Wanted(url="redis://h"), connection={"connection": "jobs"}).url == "redis://h:6379"
        assert "databases by number" in refusal("redis", redis={"default": {"database": "shop"}})
        assert "names no path" in refusal("redis", redis={"default": {"scheme": "unix"}})
        assert "cannot be taken apart" in refusal("redis", redis={"default": {"url": "redis://h:port/secret"}})


class TestDatabase:
    def test_by_its_settings(self):
        expected = DatabaseQueues(("default",), "mysql", "mysql://db:3307/shop", "u", "p/w", "jobs", 90)
        assert found("database") == expected
        assert found("database", databases_default="sqlite").place == "/srv/shop/database.sqlite"
        assert found("database", databases_default="pgsql").place == "postgresql://db:5432/shop?sslmode=prefer"

    def test_what_the_trigger_says_wins(self):
        wanted = Wanted(url="postgresql://v:w@h:1/x?sslmode=require", table="a.b", queues=("q",), retry_after_seconds=5)
        assert found("database", wanted) == DatabaseQueues(
            ("q",), "pgsql", "postgresql://h:1/x?sslmode=require", "v", "w", "a.b", 5
        )
        assert found("database", Wanted(url="sqlite:////data/x.sqlite")).place == "/data/x.sqlite"
        assert found("database", Wanted(url="sqlite:///x.sqlite")).place == "x.sqlite"

    @pytest.mark.parametrize(
        ("engine", "database", "place"),
        [
            ("mysql", {"url": "mysql://a:b@h:1/s"}, "mysql://h:1/s"),
            ("mysql", {"unix_socket": "/run/my.sock"}, "mysql://db:3307/shop?unix_socket=%2Frun%2Fmy.sock"),
            ("mysql", {"host": {0: "one", 1: "two"}}, "mysql://one:3307/shop"),
            ("mysql", {"write": {"host": {0: "w1", 1: "w2"}}}, "mysql://w1:3307/shop"),
            ("mysql", {"driver": "mariadb"}, "mysql://db:3307/shop"),
            ("mysql", {"host": {}}, "mysql://127.0.0.1:3307/shop"),
            ("pgsql", {"url": "postgres://h/s"}, "postgresql://h:5432/s?sslmode=prefer"),
            ("pgsql", {"host": "/run/postgresql", "sslmode": None}, "postgresql://%2Frun%2Fpostgresql:5432/shop"),
            ("pgsql", {"host": "::1", "database": "a/b"}, "postgresql://[::1]:5432/a%2Fb?sslmode=prefer"),
        ],
    )
    def test_ways_to_say_where(self, engine, database, place):
        assert found("database", databases_default=engine, database=database).place == place

    @pytest.mark.parametrize(
        ("engine", "database", "table"),
        [
            ("mysql", {"prefix": "shop_"}, "shop_jobs"),
            ("pgsql", {"search_path": "queue,public"}, "queue.jobs"),
            ("pgsql", {"search_path": {0: "queue", 1: "public"}}, "queue.jobs"),
            ("pgsql", {"search_path": '"$user",public'}, "jobs"),
            ("pgsql", {"schema": "public"}, "jobs"),
        ],
    )
    def test_the_table(self, engine, database, table):
        assert found("database", databases_default=engine, database=database).table == table

    def test_a_connection_of_its_own(self):
        assert found("database", connection={"connection": "sqlite"}).engine == "sqlite"

    def test_refusals(self):
        assert "has no connection 'oracle'; it has: sqlite, mysql" in refusal("database", databases_default="oracle")
        assert "is of the driver 'sqlsrv'" in refusal("database", database={"driver": "sqlsrv"})
        assert "names no file" in refusal("database", databases_default="sqlite", database={"database": ":memory:"})
        assert "names no file" in refusal("database", databases_default="sqlite", database={"database": None})


WANTED = Wanted(tls=Tls(wanted=True))
NOT_WANTED = Wanted(tls=Tls(wanted=False))
WITH_FILE = Wanted(tls=Tls(ca_file="mine.pem"))
CARELESS = Wanted(tls=Tls(verify=False))


class TestTlsOfRedis:
    """It is the URL's scheme that says whether; the rest says who is trusted."""

    @pytest.mark.parametrize(
        ("settings", "wanted", "expected"),
        [
            ({}, NOTHING, None),
            ({"context": {"stream": {"cafile": "ca.pem"}}}, NOTHING, None),
            ({"scheme": "tls"}, NOTHING, Encryption()),
            ({"scheme": "tls"}, WITH_FILE, Encryption("mine.pem")),
            ({"scheme": "tls"}, CARELESS, Encryption(None, verify=False, verify_host=False)),
            ({"scheme": "tls"}, NOT_WANTED, None),
            ({}, WANTED, Encryption()),
            ({}, WITH_FILE, Encryption("mine.pem")),
            ({}, CARELESS, None),
            ({"scheme": "tls", "context": {"stream": {"cafile": "ca.pem"}}}, NOTHING, Encryption("ca.pem")),
            ({"scheme": "tls", "context": {"ssl": {"cafile": "ca.pem"}}}, NOTHING, Encryption("ca.pem")),
            ({"scheme": "tls", "context": {"cafile": "ca.pem"}}, NOTHING, Encryption("ca.pem")),
            ({"scheme": "tls", "ssl": {"cafile": "ca.pem"}}, WITH_FILE, Encryption("mine.pem")),
            (
                {"scheme": "tls", "context": {"stream": {"verify_peer": False}}},
                NOTHING,
                Encryption(None, verify=False, verify_host=False),
            ),
            (
                {"scheme": "tls", "ssl": {"cafile": "ca.pem", "verify_peer_name": False}},
                NOTHING,
                Encryption("ca.pem", verify=True, verify_host=False),
            ),
            (
                {"scheme": "tls", "ssl": {"verify_peer_name": False, "verify_peer": False}},
                Wanted(tls=Tls(verify=True)),
                Encryption(),
            ),
        ],
    )
    def test_by_its_settings_and_the_trigger(self, settings, wanted, expected):
        queues = found("redis", wanted, redis={"default": {"host": "h", **settings}})
        assert queues.encryption == expected
        assert queues.url == ("redis://h:6379" if expected is None else "rediss://h:6379")

    def test_not_over_a_unix_socket(self):
        redis = {"default": {"host": "/run/redis.sock"}}
        assert found("redis", NOT_WANTED, redis=redis).encryption is None
        assert "does not speak TLS" in refusal("redis", WITH_FILE, redis=redis)
        assert "does not speak TLS" in refusal("beanstalkd", WANTED)


class TestTlsOfMysql:
    """Options of PDO by their numbers: any of the five that are about files and ciphers has it encrypt."""

    @pytest.mark.parametrize(
        ("options", "wanted", "expected"),
        [
            (None, NOTHING, None),
            ({}, NOTHING, None),
            ({3: 2, 1014: False}, NOTHING, None),
            ({1009: ""}, NOTHING, None),
            ({1009: "ca.pem"}, NOTHING, Encryption("ca.pem")),
            ({1009: "ca.pem", 1014: True}, NOTHING, Encryption("ca.pem")),
            ({1009: "ca.pem", 1014: False}, NOTHING, Encryption("ca.pem", verify=False, verify_host=False)),
            ({1007: "key.pem", 1008: "cert.pem"}, NOTHING, Encryption()),
            ({1010: "/etc/ssl/certs"}, NOTHING, Encryption()),
            ({1011: "HIGH"}, NOTHING, Encryption()),
            ({1009: "ca.pem"}, WITH_FILE, Encryption("mine.pem")),
            ({1009: "ca.pem"}, CARELESS, Encryption("ca.pem", verify=False, verify_host=False)),
            ({1009: "ca.pem", 1014: False}, Wanted(tls=Tls(verify=True)), Encryption("ca.pem")),
            ({1009: "ca.pem"}, NOT_WANTED, None),
            ({}, WANTED, Encryption()),
            ({}, WITH_FILE, Encryption("mine.pem")),
            ({}, CARELESS, None),
            (Unknown("a call of foo() in line 7"), NOT_WANTED, None),
        ],
    )
    def test_by_its_settings_and_the_trigger(self, options, wanted, expected):
        assert found("database", wanted, database={"options": options}).encryption == expected

    def test_what_only_php_could_tell_is_asked_of_the_trigger(self):
        options = {"options": Unknown("a call of foo() in line 7")}
        assert "database.connections.mysql.options.1007 is made of a call of foo()" in refusal(
            "database", database=options
        )
        assert "options.1009 is not a text" in refusal("database", database={"options": {1009: {}}})

    def test_where_there_is_only_an_env(self):
        env = {"MYSQL_ATTR_SSL_CA": "/etc/ca.pem", "DB_QUEUE_CONNECTION": "mariadb", "QUEUE_CONNECTION": "database"}
        shipped = Configuration(conventions.queue(env, "/srv"), conventions.database(env, "/srv"), "config", "")
        assert queues_of(shipped, NOTHING).encryption == Encryption("/etc/ca.pem")


class TestTlsOfPostgresql:
    """In libpq's words."""

    @pytest.mark.parametrize(
        ("settings", "wanted", "mode", "files"),
        [
            ({}, NOTHING, "prefer", {}),
            ({"sslmode": "verify-full"}, NOTHING, "verify-full", {}),
            (
                {"sslmode": "verify-ca", "sslrootcert": "ca.pem", "sslcert": "c.pem", "sslkey": "k.pem"},
                NOTHING,
                "verify-ca",
                {"sslrootcert": "ca.pem", "sslcert": "c.pem", "sslkey": "k.pem"},
            ),
            (
                {"url": "pgsql://h/s?sslmode=verify-full&sslrootcert=a.pem"},
                NOTHING,
                "verify-full",
                {"sslrootcert": "a.pem"},
            ),
            ({}, WANTED, "verify-full", {"sslrootcert": "system"}),
            ({"sslrootcert": "ca.pem"}, WANTED, "verify-full", {"sslrootcert": "ca.pem"}),
            ({"sslrootcert": "ca.pem"}, WITH_FILE, "verify-full", {"sslrootcert": "mine.pem"}),
            ({}, Wanted(tls=Tls(verify=True)), "verify-full", {"sslrootcert": "system"}),
            ({}, CARELESS, "prefer", {}),
            ({"sslmode": "verify-full", "sslrootcert": "ca.pem"}, CARELESS, "require", {}),
            ({}, Wanted(tls=Tls(wanted=True, verify=False)), "require", {}),
            ({"sslmode": "verify-full", "sslrootcert": "ca.pem"}, NOT_WANTED, "disable", {}),
        ],
    )
    def test_by_its_settings_and_the_trigger(self, settings, wanted, mode, files):
        queues = found("database", wanted, databases_default="pgsql", database=settings)
        assert queues.place.partition("?sslmode=")[2] == mode
        assert queues.files == files


class TestBeanstalkd:
    def test_by_its_settings(self):
        assert found("beanstalkd") == BeanstalkdQueues(("default",), "beanstalk://localhost:11300")
        assert found("beanstalkd", connection={"host": "b", "port": 1}).url == "beanstalk://b:1"
        assert found("beanstalkd", Wanted(url="beanstalk://c", queues=("x",))) == BeanstalkdQueues(
            ("x",), "beanstalk://c:11300"
        )

    def test_a_name_cannot_smuggle_a_command_in(self):
        for name in ("a\r\ndelete 1", "two words", "-x", ""):
            assert "no tube of the name" in refusal("beanstalkd", Wanted(queues=(name,)))
        assert "no tube of the name" in refusal("beanstalkd", connection={"queue": "a\nb"})


class TestWhichConnection:
    def test_the_default_one_or_the_one_that_is_named(self):
        assert isinstance(found("sync", Wanted(connection="redis")), RedisQueues)
        assert isinstance(found("redis", Wanted(connection="beanstalkd")), BeanstalkdQueues)

    def test_a_url_says_what_kind_it_is_for(self):
        queues = found("sync", Wanted(url="redis://h"))
        assert (queues.url, queues.prefix) == ("redis://h:6380", "shop_database_")
        assert isinstance(found("redis", Wanted(url="mysql://h/x")), DatabaseQueues)
        assert "but the connection 'redis' of config is of the driver redis" in refusal(
            "sync", Wanted(connection="redis", url="mysql://h/x")
        )
        assert "but the connection 'nope' of config is unknown" in refusal(
            "sync", Wanted(connection="nope", url="mysql://h/x")
        )
        assert "url must begin with one of redis://" in refusal("sync", Wanted(url="amqp://h"))

    def test_without_any_configuration_a_url_is_enough(self):
        queues = queues_of(Configuration(None, None, "config", ""), Wanted(url="redis://h/1", prefix="x_"))
        assert queues == RedisQueues(("default",), "redis://h:6379", None, None, 1, "x_", 60)

    def test_refusals(self):
        assert "inside the process that dispatches it" in refusal("sync")
        assert "Set QUEUE_CONNECTION (in /srv/shop/.env)" in refusal("sync")
        assert "throws all work away" in refusal("null", connection={"driver": "null"})
        failover = {"driver": "failover", "connections": {0: "redis", 1: "database"}}
        assert "passes work on to redis, database: write one trigger for each" in refusal("f", connection=failover)
        assert "passes work on to others" in refusal("f", connection={"driver": "failover", "connections": "x"})
        assert "of the driver sqs" in refusal("sqs", connection={"driver": "sqs"})
        assert "is not Laravel's own" in refusal("amqp", connection={"driver": "rabbitmq"})
        assert "config has no queue connection 'nope'; it has: sync, database" in refusal("nope")
        with pytest.raises(QueueReadFailed, match="it has: none"):
            queues_of(Configuration(None, None, "config", ""), Wanted())


def test_a_file_lies_over_the_framework_s_own():
    below = {"default": "a", "other": 1, "connections": {"x": {"driver": "x", "y": 1}, "z": 2}}
    above = {"default": "b", "connections": {"x": {"driver": "q"}}}
    expected = {"default": "b", "other": 1, "connections": {"x": {"driver": "q"}, "z": 2}}
    assert merged([below, above]) == expected
    assert merged([below, {"default": "b"}]) == {**below, "default": "b"}
    assert merged([below, Unknown("x")]) == Unknown("x")
    assert merged([Unknown("x"), above]) == above
    assert merged([]) is None


def test_what_the_framework_ships():
    env = {"QUEUE_DRIVER": "redis", "APP_NAME": "A B", "DATABASE_URL": "mysql://h/x"}
    shipped = Configuration(conventions.queue(env, "/srv"), conventions.database(env, "/srv"), "config", "")
    assert queues_of(shipped, NOTHING) == RedisQueues(
        ("default",), "redis://127.0.0.1:6379", None, None, 0, "a_b_database_", 90
    )
    assert queues_of(shipped, Wanted(connection="database")).place == "mysql://h:3306/x"
    assert queues_of(shipped, Wanted(connection="beanstalkd")).url == "beanstalk://localhost:11300"


class TestWhatIsNotRead:
    WHY = "a call of foo() in line 7"

    def test_matters_only_when_it_is_needed(self):
        assert found("redis", connection={"other": Unknown(self.WHY)})
        told = refusal("redis", connection={"queue": Unknown(self.WHY)})
        assert f"config: queue.connections.redis.queue is made of {self.WHY}" in told
        assert "php artisan config:cache" in told
        assert found("redis", Wanted(queues=("x",)), connection={"queue": Unknown(self.WHY)})

    def test_of_a_whole_part_too(self):
        with pytest.raises(QueueReadFailed, match=r"queue\.default is made of"):
            queues_of(Configuration(Unknown("x"), None, "config", ""), Wanted())

    def test_values_of_the_wrong_kind(self):
        assert "queue.connections.redis.queue is not a text" in refusal("redis", connection={"queue": {"a": 1}})
        assert "queue.connections.redis.retry_after is not a number" in refusal("redis", connection={"retry_after": {}})
