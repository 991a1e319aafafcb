"""Real servers for tests, on free loopback ports, in folders of their own; started late, ended by pid.

    server = Redis(folder); server.start(); ...; server.kill(); server.start(); ...; server.stop()

A server keeps its port and its data over `kill` and `start`. The fixtures that share one among tests are in
tests/adapters/queues/conftest.py.
"""

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

import psutil

from support import packages

START_SECONDS = 120.0
STOP_SECONDS = 60.0


def free_port() -> int:
    """A port of the loopback interface that nobody listens on, and that the kernel gives to no client.

    Who tries again and again to reach a server that is away may be given the server's port for its own end, reaches
    itself then, and keeps the port from the server that comes back.
    """
    while True:
        port = random.randint(20_000, 32_000)  # below net.ipv4.ip_local_port_range
        with socket.socket() as taken:
            try:
                taken.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for a condition, with a deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} within {seconds:g} s")
        time.sleep(0.01)


def private_folder(prefix: str) -> Path:
    """A folder that also other users can reach, unlike those of pytest. Short: sockets lie in it."""
    folder = Path(tempfile.mkdtemp(prefix=f"{prefix}-"))
    folder.chmod(0o755)
    return folder


class Server:
    """One server: what is common to all of them."""

    package: ClassVar[str]  # of Debian
    program: ClassVar[str]
    user: ClassVar[str | None] = None  # whose process it is, when we are root

    def __init__(self) -> None:
        packages.need(self.package)
        self.port = free_port()
        self.folder = private_folder(f"reconciler-{self.program}")
        self.process: subprocess.Popen[bytes] | None = None
        if self.user is not None and os.geteuid() == 0:
            shutil.chown(self.folder, self.user)
        self.prepare()

    def prepare(self) -> None:
        """What comes once, before the first start."""

    def command(self) -> list[str]:
        """How it is started, in the foreground."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Whether it is ready."""
        return accepts(self.port)

    def environment(self) -> Mapping[str, str]:
        """Variables beside our own."""
        return {}

    @property
    def pid(self) -> int:
        """Of the main process."""
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Start, and wait until it answers."""
        assert self.process is None
        with open(self.folder / "output.log", "ab") as output:
            self.process = self.run(self.command(), output)
        until(self._is_up, START_SECONDS, f"{self.program} answers")

    def run(self, command: list[str], output: object = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        """Start something as the server's user, in a session of its own."""
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env={**os.environ, **self.environment()},
            user=self.user if os.geteuid() == 0 else None,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=output,  # type: ignore[arg-type]
            stderr=subprocess.STDOUT,
        )

    def _is_up(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"{self.program} ended: {(self.folder / 'output.log').read_text()[-2000:]}")
        return self.answers()

    def kill(self) -> None:
        """SIGKILL for all of it."""
        if self.process is not None:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.process.wait(STOP_SECONDS)
            self.process = None
            until(lambda: not self.answers(), STOP_SECONDS, f"{self.program} is gone")  # not all of it is our own

    def pause(self) -> None:
        """Let all of it hang: the kernel still accepts connections for it."""
        self._signal_all(signal.SIGSTOP)
        until(lambda: self._all_are(psutil.STATUS_STOPPED), STOP_SECONDS, f"all of {self.program} stands still")

    def resume(self) -> None:
        """Let it go on."""
        self._signal_all(signal.SIGCONT)

    def _all_are(self, status: str) -> bool:
        return all(self._is(each, status) for each in self._processes())

    def _is(self, process: psutil.Process, status: str) -> bool:
        try:
            return bool(process.status() == status)
        except psutil.NoSuchProcess:
            return True  # one that served a connection that is over

    def _signal_all(self, number: signal.Signals) -> None:
        for each in self._processes():
            try:
                each.send_signal(number)
            except psutil.NoSuchProcess:
                pass

    def _processes(self) -> list[psutil.Process]:
        main = psutil.Process(self.pid)
        return [main, *main.children(recursive=True)]

    def stop(self) -> None:
        """End it and remove its folder."""
        self.kill()  # no data is worth a slow end
        shutil.rmtree(self.folder, ignore_errors=True)


def accepts(port: int) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True


class Redis(Server):
    """redis-server: append-only, so that a kill loses nothing."""

    package = program = "redis-server"
    password = "red:is/p@ss"

    def command(self) -> list[str]:
        """Loopback only; with a user whose password is known."""
        return [
            packages.program("redis-server") or "",
            *("--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", str(self.folder / "redis.sock")),
            *("--dir", str(self.folder), "--save", "", "--appendonly", "yes", "--appendfsync", "no"),
            *("--user", "guarded", "on", f">{self.password}", "~*", "&*", "+@all"),
        ]

    def answers(self) -> bool:
        """Also when it has read what it had written down."""
        try:
            return self.say("PING") == b"+PONG\r\n"
        except OSError:
            return False

    def say(self, *words: str | int | bytes) -> bytes:
        """One command by one connection, and the beginning of the reply as it comes."""
        parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        command = b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
        with socket.create_connection(("127.0.0.1", self.port), 5.0) as connected:
            connected.sendall(command)
            return connected.recv(1 << 20)

    @property
    def url(self) -> str:
        """Of its first database."""
        return f"redis://127.0.0.1:{self.port}/0"


class Beanstalkd(Server):
    """beanstalkd with its log, so that a kill loses nothing."""

    package = program = "beanstalkd"

    def command(self) -> list[str]:
        """Loopback only."""
        return [
            packages.program("beanstalkd") or "",
            *("-l", "127.0.0.1", "-p", str(self.port), "-b", str(self.folder), "-f0"),
        ]

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"beanstalk://127.0.0.1:{self.port}"


class Postgresql(Server):
    """postgres with one superuser, `postgres`, and a password."""

    package = "postgresql"
    program = "postgres"
    user = "postgres"  # it refuses to run as root
    password = "p@ss:w/rd"

    def prepare(self) -> None:
        """A cluster of its own."""
        secret = self.folder / "secret"
        secret.write_text(self.password, encoding="utf-8")
        secret.chmod(0o644)
        options = ("-U", "postgres", "-A", "scram-sha-256", f"--pwfile={secret}", "-E", "UTF8", "--no-sync")
        made = self.run([packages.program("initdb") or "", "-D", str(self.folder / "data"), *options])
        assert made.wait(START_SECONDS) == 0

    def command(self) -> list[str]:
        """Loopback only, and not for eternity."""
        settings = {
            "port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": self.folder,
            "fsync": "off", "shared_buffers": "16MB", "max_connections": 40, "autovacuum": "off",
        }  # fmt: skip
        options = [option for name, value in settings.items() for option in ("-c", f"{name}={value}")]
        return [packages.program("postgres") or "", "-D", str(self.folder / "data"), *options]

    def answers(self) -> bool:
        """Ready only when it says so: before that it accepts and refuses."""
        asked = [packages.program("pg_isready") or "", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(asked, check=False).returncode == 0

    @property
    def url(self) -> str:
        """Of its first database, without the password."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"


class Mariadb(Server):
    """mariadbd with one user, `tester`, who may do all over TCP with a password."""

    package = "mariadb-server-core"
    program = "mariadbd"
    password = "m@ria:d/b"

    def prepare(self) -> None:
        """The system tables, and the user at the first start."""
        tables = self.folder / "tables.sql"
        shipped = ("mysql_system_tables", "mysql_performance_tables", "mysql_system_tables_data")
        parts = [Path(f"/usr/share/mysql/{name}.sql").read_text(encoding="utf-8") for name in shipped]
        beginning = "CREATE DATABASE IF NOT EXISTS mysql;\nUSE mysql;\nSET @auth_root_socket = NULL;\n"
        tables.write_text(beginning + "".join(parts), encoding="utf-8")
        (self.folder / "data" / "mysql").mkdir(parents=True)
        with open(tables, "rb") as statements_in, open(self.folder / "output.log", "ab") as output:
            options = [f"--datadir={self.folder}/data", "--innodb-log-file-size=8M", "--innodb-use-native-aio=0"]
            options += self._as_root()
            made = [packages.program("mariadbd") or "", "--no-defaults", "--bootstrap", *options]
            subprocess.run(made, check=True, stdin=statements_in, stdout=output, stderr=output, timeout=START_SECONDS)
        statements = (
            "CREATE DATABASE IF NOT EXISTS test;",
            f"CREATE USER IF NOT EXISTS tester@'127.0.0.1' IDENTIFIED BY '{self.password}';",
            "GRANT ALL ON *.* TO tester@'127.0.0.1' WITH GRANT OPTION;",
        )
        (self.folder / "init.sql").write_text("\n".join(statements), encoding="utf-8")

    def _as_root(self) -> list[str]:
        return ["--user=root"] if os.geteuid() == 0 else []

    def command(self) -> list[str]:
        """Loopback only, small, and without any file of /etc."""
        return [
            packages.program("mariadbd") or "",
            *("--no-defaults", f"--datadir={self.folder}/data", f"--port={self.port}", "--bind-address=127.0.0.1"),
            *(f"--socket={self.folder}/mariadb.sock", f"--pid-file={self.folder}/mariadb.pid"),
            *(f"--init-file={self.folder}/init.sql", "--skip-name-resolve", "--innodb-buffer-pool-size=16M"),
            *("--innodb-flush-log-at-trx-commit=2", "--innodb-log-file-size=8M", "--innodb-use-native-aio=0"),
            *self._as_root(),
        ]

    @property
    def url(self) -> str:
        """Of its database, without the password."""
        return f"mysql://tester@127.0.0.1:{self.port}/test"


class Rabbitmq(Server):
    """rabbitmq-server with its management plugin; slow to start, so share one."""

    package = program = "rabbitmq-server"
    password = "guest"

    def prepare(self) -> None:
        """Ports of its own for everything, and a port mapper that ends with it."""
        self.http_port = free_port()
        self.mapper_port = free_port()
        settings = (
            f"listeners.tcp.1 = 127.0.0.1:{self.port}",
            "management.tcp.ip = 127.0.0.1",
            f"management.tcp.port = {self.http_port}",
            "log.console.level = warning",
            "collect_statistics_interval = 100",  # milliseconds; as shipped: 5000
            # What it collected is to be seen as often as its finest history has a sample; as shipped: each 5 s.
            *(f"management.sample_retention_policies.{of}.minute = 1" for of in ("global", "basic", "detailed")),
        )
        (self.folder / "rabbitmq.conf").write_text("\n".join(settings) + "\n", encoding="utf-8")
        (self.folder / "enabled_plugins").write_text("[rabbitmq_management].\n", encoding="utf-8")

    def command(self) -> list[str]:
        """The server itself, not Debian's wrapper, which changes the user."""
        (script,) = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server"))[-1:]
        # The port mapper is a process of the same session: Erlang would start one that stays.
        return ["/bin/sh", "-c", 'epmd -port "$ERL_EPMD_PORT" & exec "$0"', str(script)]

    def environment(self) -> Mapping[str, str]:
        """All of its places."""
        return {
            "HOME": str(self.folder),
            "ERL_EPMD_PORT": str(self.mapper_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"test{self.port}@localhost",
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": str(self.folder / "rabbitmq.pid"),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none",
        }

    def answers(self) -> bool:
        """Both of its doors."""
        return accepts(self.port) and accepts(self.http_port)

    @property
    def amqp_url(self) -> str:
        """Where work is put in and taken."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/%2F"

    @property
    def url(self) -> str:
        """Of its management API, without the password."""
        return f"http://guest@127.0.0.1:{self.http_port}"
