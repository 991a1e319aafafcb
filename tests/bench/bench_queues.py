"""What one look at a queue costs: CPU time of ours, and of the server that is asked.

The server's is read from /proc in hundredths of a second, so each kind is looked at often enough for that.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import psutil
from measuring import Result, show

from support.queue_rigs import (
    BeanstalkdRig,
    MysqlRig,
    PostgresqlRig,
    RabbitmqRig,
    RedisRig,
    Rig,
    ServerRig,
    SqliteRig,
    look,
    reader,
)

SECONDS = 3.0


def server_cpu(pid: int) -> float:
    """Seconds of CPU time of a process and all that it started."""
    main = psutil.Process(pid)
    return sum(sum(each.cpu_times()[:2]) for each in (main, *main.children(recursive=True)))


def measure(title: str, kind: str, metadata: dict[str, Any], pid: int | None) -> None:
    """Look for some seconds, and print what one look cost."""
    opened = reader(kind, metadata)
    opened.read()
    server = server_cpu(pid) if pid else 0.0
    start, wall, looks = time.process_time(), time.monotonic(), 0
    while time.monotonic() < wall + SECONDS:
        opened.read()
        looks += 1
    ours = (time.process_time() - start) / looks * 1e6
    show([Result(f"{title}: a look", ours)])
    if pid:
        show([Result(f"{title}: the server's share of it", (server_cpu(pid) - server) / looks * 1e6)])
    opened.close()


def rows(rig: Any, name: str, count: int) -> dict[str, Any]:
    """A table with so many rows, counted."""
    rig.put(name, count)
    asked = rig.metadata(name)
    asked.pop("query")
    return {**asked, "table": name}


def servers() -> None:
    """Each kind of queue that somebody serves."""
    kinds: list[tuple[type[ServerRig], Callable[[Any], None]]] = [
        (RedisRig, redis), (BeanstalkdRig, plain), (PostgresqlRig, database), (MysqlRig, database), (RabbitmqRig, plain)
    ]  # fmt: skip
    for kind, run in kinds:
        server = kind.makes()
        try:
            server.start()
            rig = kind(server)
            run(rig)
            rig.close()
        finally:
            server.stop()


def plain(rig: ServerRig) -> None:
    """Empty, and with a hundred pieces."""
    rig.metadata("empty")
    look(rig, "empty")
    measure(f"{rig.kind}, empty", rig.kind, rig.metadata("empty"), rig.server.pid)
    rig.put("some", 100)
    look(rig, "some", lambda found: found.waiting == 100)
    measure(f"{rig.kind}, 100 waiting", rig.kind, rig.metadata("some"), rig.server.pid)


def redis(rig: ServerRig) -> None:
    """The kinds that live in redis, with a thousand pieces in the list."""
    url = {"url": rig.server.url}
    for key in ("q", "celery", "rq:queue:default", "queue:default", "bull:default:wait"):
        rig.put(key, 1000)
    measure("redis, one list of 1000", "redis", {**url, "key": "q"}, rig.server.pid)
    measure("redis, three parts", "redis", rig.metadata("q"), rig.server.pid)
    for kind in ("celery", "rq", "sidekiq", "bullmq", "arq"):
        queues = {"queues": "default"} if kind == "bullmq" else {}
        measure(f"{kind}, 1000 waiting", kind, {**url, **queues}, rig.server.pid)


def database(rig: Any) -> None:
    """A table that is empty, and one that is counted up to the default bound."""
    measure(f"{rig.kind}, table with no rows", rig.kind, rows(rig, "none", 1), rig.server.pid)
    measure(f"{rig.kind}, table with 10000 rows", rig.kind, rows(rig, "many", 10_000), rig.server.pid)


def files(folder: Path) -> None:
    """What is asked of nobody."""
    rig: Rig = SqliteRig(folder)
    for name, count in (("none", 1), ("many", 10_000)):
        rig.put(name, count)
        measure(f"sqlite, table with {count} rows", "sqlite", {"path": str(folder / "queue.db"), "table": name}, None)
    measure("exec, /bin/echo", "exec", {"command": ["/bin/echo", "3"]}, None)
    clock = {"timezone": "Europe/Berlin", "start": "0 8 * * *", "end": "0 18 * * *", "desiredReplicas": "3"}
    measure("cron", "cron", clock, None)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        files(Path(made))
    servers()
