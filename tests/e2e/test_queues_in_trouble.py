"""Queues that cannot be read, one beside the other: each is a condition within 3 s that says what to do, and no count
moves for it."""

from collections.abc import Collection, Iterator
from contextlib import ExitStack, closing
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from support.bad_servers import bad_server
from support.daemon import Daemon, always, eventually
from support.http_servers import Answer, http_server
from support.queue_taker import Redis as RedisWords
from support.servers import Mariadb, Postgresql, Redis, Server, free_port

LATEST_SECONDS = 20.0  # 2 s by contract; the machine may be busy, and what has no bound is told much later or never
AT_ONCE = 5  # asked for the first time: the machine has two cores, and other things to do
PACKAGES = ("redis-server", "postgresql", "mariadb-server-core")


class Case(NamedTuple):
    """What is wrong, and what has to be said of it."""

    kind: str
    metadata: dict[str, Any]
    reason: str
    says: str


class Places(NamedTuple):
    """Servers that are there, and some that are not, or might as well be."""

    redis: Redis
    postgresql: Postgresql
    mariadb: Mariadb
    silent: int  # accepts, and never answers
    web: str  # answers what is no number
    folder: Path

    def silently(self, scheme: str) -> str:
        return f"{scheme}://127.0.0.1:{self.silent}/x" if scheme != "redis" else f"redis://127.0.0.1:{self.silent}/0"


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Places]:
    servers: list[Server] = [Redis(), Postgresql(), Mariadb()]
    with ExitStack() as stack:
        for server in servers:
            server.start()
            stack.callback(server.stop)
        silent = stack.enter_context(bad_server())
        web = stack.enter_context(http_server(lambda asked: Answer(b"many")))
        (tmp_path / "empty.sqlite").touch()
        yield Places(*servers, silent, web.url, tmp_path)  # type: ignore[arg-type]


def cases(at: Places) -> dict[str, Case]:
    redis, postgresql, mariadb = ({"url": s.url, "password": s.password} for s in at[:3])
    away, rows = f"127.0.0.1:{free_port()}", {"table": "jobs"}
    hangs, nobody, who = "hangs, or is overloaded", "is the server running?", "password"
    return {
        "redis-password": Case(
            "redis", {**redis, "username": "guarded", "password": "wrong", "key": "q"}, "AuthenticationFailed", who
        ),
        "redis-type": Case("redis", {"url": at.redis.url, "key": "hash"}, "WrongType", "is the key right"),
        "redis-away": Case("redis", {"url": f"redis://{away}", "key": "q"}, "ConnectionRefused", nobody),
        "redis-silent": Case("redis", {"url": at.silently("redis"), "key": "q"}, "TimedOut", hangs),
        "celery-type": Case("celery", {"url": at.redis.url, "queues": "hash"}, "WrongType", "is the key right"),
        "sidekiq-away": Case("sidekiq", {"url": f"redis://{away}"}, "ConnectionRefused", nobody),
        "postgresql-password": Case(
            "postgresql", {**postgresql, "password": "wrong", **rows}, "AuthenticationFailed", who
        ),
        "postgresql-table": Case("postgresql", {**postgresql, **rows}, "NotFound", "made its tables yet?"),
        "postgresql-away": Case("postgresql", {"url": f"postgresql://{away}/x", **rows}, "ConnectionRefused", nobody),
        "postgresql-silent": Case(
            "postgresql", {"url": at.silently("postgresql"), **rows}, "TimedOut", "did not answer within"
        ),
        "postgresql-number": Case(
            "postgresql", {**postgresql, "query": "SELECT 'many'"}, "NotANumber", "is not a number"
        ),
        "mysql-password": Case("mysql", {**mariadb, "password": "wrong", **rows}, "AuthenticationFailed", who),
        "mysql-table": Case("mysql", {**mariadb, **rows}, "NotFound", "made its tables yet?"),
        "mysql-away": Case("mysql", {"url": f"mysql://u@{away}/x", **rows}, "ConnectionRefused", "127.0.0.1"),
        "mysql-silent": Case("mysql", {"url": at.silently("mysql"), **rows}, "TimedOut", hangs),
        "sqlite-file": Case("sqlite", {"path": str(at.folder / "none.sqlite"), **rows}, "NotFound", "none.sqlite"),
        "sqlite-table": Case("sqlite", {"path": str(at.folder / "empty.sqlite"), **rows}, "NotFound", "tables yet?"),
        "beanstalkd-away": Case("beanstalkd", {"url": f"beanstalk://{away}"}, "ConnectionRefused", nobody),
        "beanstalkd-silent": Case("beanstalkd", {"url": at.silently("beanstalk")}, "TimedOut", hangs),
        "rabbitmq-away": Case("rabbitmq", {"url": f"http://{away}", "queue": "q"}, "ConnectionRefused", nobody),
        "rabbitmq-silent": Case("rabbitmq", {"url": at.silently("http"), "queue": "q"}, "TimedOut", hangs),
        "prometheus-silent": Case("prometheus", {"url": at.silently("http"), "query": "up"}, "TimedOut", hangs),
        "http-number": Case("http", {"url": at.web}, "NotANumber", "is not a number"),
        "http-silent": Case("http", {"url": at.silently("http")}, "TimedOut", hangs),
        "exec-number": Case("exec", {"command": ["echo", "many"]}, "NotANumber", "is 'many', which is not a number"),
        "exec-slow": Case("exec", {"command": ["sleep", "60"]}, "TimedOut", "was killed"),
        "laravel-none": Case("laravel", {}, "BadMetadata", "config"),
        "laravel-silent": Case("laravel", {"url": at.silently("redis"), "queues": "q"}, "TimedOut", hangs),
        "no-driver": Case("acme.io/none", {}, "DriverMissing", "acme.io/none"),
        "no-variable": Case("redis", {"urlFromEnv": "NOT_SET", "key": "q"}, "BadMetadata", "NOT_SET"),
    }


def binding(name: str, case: Case) -> str:
    spec = {
        "scaleTargetRef": {"name": name},
        "maxReplicaCount": 8,
        "triggers": [{"type": case.kind, "metadata": case.metadata}],
    }
    document = {"apiVersion": "reconciler/v1", "kind": "QueueBinding", "metadata": {"name": name}, "spec": spec}
    return yaml.safe_dump(document)


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def ready(thing: dict[str, Any]) -> dict[str, Any]:
    return next((c for c in thing["status"]["conditions"] if c["type"] == "Ready"), {"status": "Unknown"})


@pytest.mark.debian(*PACKAGES)
@pytest.mark.timeout(180)
def test_each_is_told_in_time_with_what_to_do_and_no_count_moves(places: Places, daemon: Daemon) -> None:
    with closing(RedisWords(places.redis.url, "test").socket) as words:
        words.sendall(b"HSET hash a 1\r\n")
        assert words.recv(10) == b":1\r\n"
    expected = cases(places)
    for name in expected:
        daemon.declare(name, "sleep", "1000", replicas=2, minReady=0)
    daemon.start()
    pids = {name: daemon.until_running(name, 2) for name in expected}

    def bindings() -> dict[str, dict[str, Any]]:
        return {thing["metadata"]["name"]: thing for thing in daemon.client.queuebindings()}

    def all_told(names: Collection[str]) -> bool:
        found = bindings()
        return all(name in found and ready(found[name])["status"] == "False" for name in names)

    some = iter(expected)
    while names := list(islice(some, AT_ONCE)):
        daemon.write(f"bindings-from-{names[0]}.yaml", "---\n".join(binding(name, expected[name]) for name in names))
        eventually(lambda names=names: all_told(names), "all of these are told")
    found = bindings()
    told = {
        name: (ready(found[name])["reason"], case.says in ready(found[name])["message"])
        for name, case in expected.items()
    }
    assert told == {name: (case.reason, True) for name, case in expected.items()}
    seconds = {
        name: moment(ready(thing)["lastTransitionTime"]) - moment(thing["metadata"]["creationTimestamp"])
        for name, thing in found.items()
    }
    assert max(seconds.values()) < LATEST_SECONDS, seconds
    print(f"the last is told after {max(seconds.values()):.2f} s")
    always(lambda: {name: daemon.pids(name) for name in expected} == pids, 0.5, "every count is kept")
    shown = " ".join(daemon.cli("status", code=1).out.split())
    assert all(case.says.split()[0] in shown for case in expected.values())
    assert "p@ss" not in shown
    one = daemon.cli("queue", "test", "redis-type", code=1).out
    assert "cannot be read" in one
    assert "hash is a hash; is the key right" in " ".join(one.split())
