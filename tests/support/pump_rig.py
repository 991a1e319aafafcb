"""A pump on the bench: FIFOs with a held end, conduits, a pump whose turns the test makes, and its controller."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reconciler import wire
from reconciler.pump import Pump
from reconciler.pumping.conduit import Conduit
from reconciler.pumping.console import Console
from reconciler.pumping.logfile import LogFile
from reconciler.pumping.plumbing import Plumbing, Settings
from reconciler.segments import Tidier


class Pipe:
    """A FIFO that is held open, as the keeper does, and written to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)

    def write(self, data: bytes) -> None:
        assert os.write(self.fd, data) == len(data)

    def fill(self) -> bytes:
        """Write until no more fits."""
        written = b""
        while True:
            try:
                line = b"%011d\n" % len(written)
                written += line[: os.write(self.fd, line)]
            except BlockingIOError:
                return written

    def close(self) -> None:
        os.close(self.fd)


class NotedRequests(Tidier):
    """A tidier that nobody drives: it only notes what it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[tuple[str, int, bool]] = []

    def request(self, log_path: str, max_files: int, compress: bool) -> None:
        self.noted.append((log_path, max_files, compress))


class StillConsole(Console):
    """One whose thread is the test: `step` does its work."""

    def __init__(self, path: str, fd: int) -> None:
        super().__init__(path, fd)
        self.fd = fd
        self._thread = threading.current_thread()

    def close(self) -> None:
        self._thread = None
        super().close()
        os.close(self.fd)


class Bench:
    """A folder with one stream in it, `a` unless said otherwise: FIFO `a.fifo`, log `log/a.log`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tidier = NotedRequests()
        self.console_reader, console_writer = os.pipe2(os.O_NONBLOCK)
        os.set_blocking(console_writer, True)
        self.console = StillConsole("/dev/stdout", console_writer)
        self.plumbing = Plumbing(str(folder), self.tidier, (self.console,))
        self.pipes: dict[str, Pipe] = {}
        self.conduits: list[Conduit] = []

    def log(self, name: str = "a") -> Path:
        return self.folder / "log" / f"{name}.log"

    def pipe(self, name: str = "a") -> Pipe:
        if name not in self.pipes:
            self.pipes[name] = Pipe(self.fifo(name))
        return self.pipes[name]

    def fifo(self, name: str) -> Path:
        return self.folder / f"{name.replace('/', '-')}.fifo"

    def message(self, name: str = "a", **changes: Any) -> dict[str, Any]:
        """What a controller says to have the stream opened."""
        standard = {
            "type": "open", "id": name, "fifo": str(self.fifo(name)), "path": str(self.log(name)),
            "max_size": 0, "max_files": 5, "compress": "none", "mode": 0o640, "uid": os.geteuid(), "format": "raw",
            "program": name.partition("/")[0], "replica": 0, "stream": "out", "shared": False,
        }  # fmt: skip
        return {**standard, **changes}

    def conduit(self, name: str = "a", **changes: Any) -> Conduit:
        """An open conduit. Its FIFO is made if it is not there."""
        self.pipe(name)
        conduit = Conduit(Settings(self.message(name, **changes)), self.plumbing)
        self.conduits.append(conduit)
        conduit.open()
        return conduit

    def log_of(self, conduit: Conduit) -> LogFile:
        log = conduit._output
        assert isinstance(log, LogFile)
        return log

    def read(self, name: str = "a") -> bytes:
        return self.log(name).read_bytes()

    def segments(self, name: str = "a") -> list[bytes]:
        """What the closed segments hold, oldest first, and then the open file."""
        closed = sorted(p for p in self.log(name).parent.glob(f"{name}.log.*") if p.suffix[1:].isdigit())
        return [path.read_bytes() for path in (*closed, self.log(name))]

    def index(self, file: str = "a.log") -> list[str]:
        """The records of an index, with W for the times."""
        lines = (self.folder / "log" / f"{file}.idx").read_text().splitlines()
        return [" ".join([fields[0], "W", *fields[2:]]) if (fields := line.split()) else "" for line in lines]

    def close(self) -> None:
        for conduit in self.conduits:
            conduit.close()
        for pipe in self.pipes.values():
            pipe.close()
        self.plumbing.close()
        os.close(self.console_reader)


class PumpBench(Bench):
    """The same with a whole pump, whose turns the test makes."""

    def __init__(self, folder: Path, mounts: Any = None) -> None:
        super().__init__(folder)
        self.life_reader, self.life_writer = os.pipe()
        self.signals_reader, self.signals_writer = os.pipe()
        self.pump = Pump(str(folder), self.life_reader, self.signals_reader, self.plumbing, mounts)
        self.controllers: list[socket.socket] = []

    def connect(self) -> socket.socket:
        """A controller that the pump has accepted."""
        controller = wire.connect_unix(str(self.folder / "pump.sock"), socket.SOCK_SEQPACKET)
        self.controllers.append(controller)
        self.turns()
        return controller

    def turns(self, count: int = 3) -> None:
        """Enough turns for what was said and written."""
        for _ in range(count):
            self.pump.streams.rest_until = 0.0
            self.pump.turn(0.0)

    def say(self, *messages: dict[str, Any]) -> None:
        for message in messages:
            assert wire.send(self.controllers[-1], message)
        self.turns()

    def heard(self) -> list[dict[str, Any]]:
        return list(wire.waiting(self.controllers[-1]))

    def close(self) -> None:
        self.pump.close()
        for each in (*self.controllers, *self.pipes.values()):
            each.close()
        for fd in (self.life_reader, self.life_writer, self.signals_reader, self.signals_writer, self.console_reader):
            try:
                os.close(fd)
            except OSError:  # closed by the test
                pass


@contextmanager
def closing(bench: Any) -> Iterator[Any]:
    try:
        yield bench
    finally:
        bench.close()
