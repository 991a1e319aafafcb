"""A real Laravel application, one copy per test: its `.env`, its tables, and pieces of work dispatched into its queue.

What its pieces of work do stands in the ledger that the application writes (`begin`, `done`, `boot`), in the form that
`Daemon.ledger` reads. The application itself is tests/e2e/laravel; PHP and the framework come from Debian's packages.
"""

import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from reconciler.adapters.queues.registry import driver_for
from reconciler.ports import QueueAsked, QueueReader
from support import packages
from support.daemon import Daemon, Entry, eventually
from support.servers import Beanstalkd, Redis, Server

SOURCE = Path(__file__).parent.parent / "e2e" / "laravel"
PACKAGES = ("php-laravel-framework", "php-cli", "php-sqlite3", "php-redis", "php-pda-pheanstalk")
SERVERS = ("redis-server", "beanstalkd")
CONNECTIONS = ("database", "redis", "beanstalkd")
ARTISAN_SECONDS = 60.0
FOLDERS = ("bootstrap/cache", "storage/framework/cache/data", "storage/framework/views", "storage/logs")

_MADE: dict[frozenset[tuple[str, str]], bytes] = {}  # SQLite files with tables, by settings of databases


class Application:
    """A copy of the application in a folder of its own, with a queue connection that is there."""

    def __init__(
        self, folder: Path, ledger: Path, environment: Mapping[str, object], server: Server | None = None
    ) -> None:
        self.folder = folder
        self.server = server  # None: SQLite
        self.connection = str(environment["QUEUE_CONNECTION"])
        self.ledger_path = ledger
        self.environment = {"LEDGER": ledger, **environment}
        shutil.copytree(SOURCE, folder)
        for name in FOLDERS:
            (folder / name).mkdir(parents=True)
        self.write_env(self.environment)
        self._make_tables()

    def _make_tables(self) -> None:
        """As `artisan migrate` does. In SQLite they are made once for all applications of the same settings."""
        file = self.folder / "database" / "database.sqlite"
        settings = frozenset((name, str(value)) for name, value in self.environment.items() if name.startswith("DB_"))
        file.write_bytes(_MADE.get(settings, b""))
        if settings not in _MADE:
            self.artisan("migrate", "--force", "-q")
        if self.environment.get("DB_CONNECTION") == "sqlite":
            _MADE[settings] = file.read_bytes()

    def write_env(self, environment: Mapping[str, object]) -> None:
        """Write `.env`, all of it."""
        lines = (f'{name}="{value}"\n' for name, value in environment.items())
        (self.folder / ".env").write_text("".join(lines))

    def add_env(self, **environment: object) -> None:
        """Add to `.env`, or change what stands there."""
        self.environment = {**self.environment, **environment}
        self.write_env(self.environment)

    # ---- commands ----

    def command(self, *arguments: object) -> list[str]:
        """A command of the application, to be run in its folder."""
        return ["php", "artisan", *map(str, arguments)]

    def artisan(self, *arguments: object) -> str:
        """Run one command of the application; its output."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=ARTISAN_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, f"artisan {arguments} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def declare(self, daemon: Daemon, name: str, *arguments: object, **spec: Any) -> Path:
        """A manifest of a Program that runs a command of the application in its folder."""
        return daemon.declare(name, *self.command(*arguments), working_dir=str(self.folder), **spec)

    def dispatch(self, kind: str, count: int = 1, *, first: int = 0, delay: int = 0, queue: str = "") -> float:
        """Put so many pieces of work into the queue; when that began, by CLOCK_MONOTONIC."""
        words = [kind, count, f"--from={first}", f"--delay={delay}", *([f"--queue={queue}"] if queue else [])]
        return float(self.artisan("app:dispatch", *words))

    @contextmanager
    def holding(self, count: int | None = None, *, queue: str = "") -> Iterator[int]:
        """Take so many pieces (all that may be taken) as a process of the queue would, unfinished while one is here."""
        words = [*([count] if count is not None else []), *([f"--queue={queue}"] if queue else [])]
        with subprocess.Popen(
            self.command("app:hold", *words),
            cwd=self.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as holder:
            try:
                yield int(_line(holder.stdout))
            finally:
                holder.communicate(timeout=ARTISAN_SECONDS)

    def may_take(self, *, queue: str = "") -> int:
        """How many pieces may be taken now. They are: beanstalkd gets them back at once, others after retry_after."""
        with self.holding(queue=queue) as count:
            return count

    def size(self, *, queue: str = "") -> int:
        """What the framework says is the size of the queue."""
        return int(self.artisan("app:sees", *([f"--queue={queue}"] if queue else [])))

    # ---- what was done ----

    def entries(self, what: str) -> list[Entry]:
        """The lines of the ledger about one thing."""
        if not self.ledger_path.exists():
            return []
        lines = self.ledger_path.read_text().rpartition("\n")[0].splitlines()
        rows = (line.split(" ", 4) for line in lines)
        return [Entry(float(row[0]), int(row[1]), int(row[2]), *row[3:]) for row in rows if row[3] == what]

    def numbers(self, what: str) -> Counter[int]:
        """How often each piece of work begun, or was done."""
        return Counter(int(entry.more) for entry in self.entries(what))

    def until(self, what: str, count: int, *, within: float) -> None:
        """Wait until so many lines say so."""
        eventually(lambda: len(self.entries(what)) >= count, f"{count} are {what}", within=within)

    def assert_each_once(self, count: int, *, first: int = 0) -> None:
        """Each piece was begun once and done once; none is left."""
        expected = Counter(dict.fromkeys(range(first, first + count), 1))
        assert self.numbers("begin") == expected
        assert self.numbers("done") == expected
        assert self.size() == 0


@contextmanager
def application(
    folder: Path,
    connection: str,
    *,
    ledger: Path | None = None,
    ended: Callable[[], None] = lambda: None,
    **env: object,
) -> Iterator[Application]:
    """An application whose queue is `connection`, and the server that it needs.

    `ended` is called before the server ends, so that who asks it can leave in peace.
    """
    for package in PACKAGES:
        packages.need(package)
    with queue_server(connection) as server:
        settings = {
            "APP_NAME": "My Shop",
            "QUEUE_CONNECTION": connection,
            "DB_CONNECTION": "sqlite",
            **_place(connection, server),
            **env,
        }
        try:
            yield Application(folder / "shop", ledger or folder / "ledger", settings, server)
        finally:
            ended()


def reader(
    working_dir: Path, environment: Mapping[str, str] | None = None, *, at_most: int = 1000, **metadata: object
) -> QueueReader:
    """The trigger `laravel` on the application in a folder, as a binding has it."""
    asked = QueueAsked("laravel", metadata, str(working_dir), environment or {}, at_most)
    return driver_for("laravel").open(asked)


@contextmanager
def counting(app: Application, **options: Any) -> Iterator[QueueReader]:
    """The same, closed at the end."""
    opened = reader(app.folder, **options)
    try:
        yield opened
    finally:
        opened.close()


@contextmanager
def queue_server(connection: str) -> Iterator[Server | None]:
    """The server behind a queue connection; none for SQLite."""
    server = {"redis": Redis, "beanstalkd": Beanstalkd}[connection]() if connection != "database" else None
    if server is None:
        yield None
        return
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _place(connection: str, server: Server | None) -> dict[str, object]:
    if server is None:
        return {}
    name = connection.upper()
    return {f"{name}_HOST": "127.0.0.1", f"{name}_PORT": server.port}


def _line(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.readline()
