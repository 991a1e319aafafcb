"""Parses many inputs outside of the controller: a few helper processes, asked by turns, awaited without blocking.

A helper that dies or hangs costs the one input it was at; the rest goes on in a new one, and so that this input is
known, a second one is asked carefully (each answer at once) for what the first had not answered. Helpers live for one
bulk only: between bulks they would be memory for nothing. They are started from what is installed, which may be another
version by now, or half of one: a helper says first which it is, and one of another is done without.
"""

import asyncio
import os
import pickle
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from reconciler import __version__
from reconciler.model.objects import FileReading, Parse
from reconciler.model.problems import Problem

PROGRAM = """
from reconciler.interpreter import load_quickly, settle_memory
load_quickly()
from reconciler.adapters.documents.parsing import main
settle_memory(50_000)  # what it makes of one input is gone with the next
main()
"""
COMMAND = (sys.executable, "-c", PROGRAM)
HANG_SECONDS = 10.0  # for one input
START_SECONDS = 20.0  # for the interpreter and the imports, on a busy machine
LENGTH = struct.Struct("!I")
BATCH_FILES = 64
TURN_SECONDS = 0.0005  # the reader of files wants the interpreter back after each call of the kernel
BATCH_BYTES = 1 << 20
MAX_HELPERS = 4
# So little is done in a thread before a helper is even there: interpreter and imports take as long as 1,000 manifests.
FEW_FILES, FEW_BYTES = 200, 128 << 10


class Source(NamedTuple):
    """One input: what it contains, what it is called, and what relative paths in it are relative to."""

    content: bytes
    file: str
    base_dir: str | None


class Bulk:
    """Parses inputs in helper processes."""

    def __init__(self, parse: Parse, command: Sequence[str] = COMMAND, hang_seconds: float = HANG_SECONDS) -> None:
        self._parse = parse
        self._command = command
        self._hang_seconds = hang_seconds
        self._turns = 0  # how many bulks there are now
        self._usual_turn_seconds = sys.getswitchinterval()

    async def parse(self, batches: Iterable[Sequence[Source]], done: Callable[[Source, FileReading], None]) -> None:
        """Have all inputs parsed; `done` is called for each as it comes, in no particular order.

        `batches` is advanced in a thread: reading the files is its business.
        """
        remaining = iter(batches)
        turns = asyncio.Lock()
        with self._short_turns():
            async with asyncio.TaskGroup() as group:
                for _ in range(min(MAX_HELPERS, os.cpu_count() or 1)):
                    group.create_task(self._serve(remaining, turns, done))

    @contextmanager
    def _short_turns(self) -> Iterator[None]:
        """Or whoever reads waits for the loop for 5 ms at each call, and helpers for whoever reads."""
        self._turns += 1
        sys.setswitchinterval(TURN_SECONDS)
        try:
            yield
        finally:
            self._turns -= 1
            if not self._turns:
                sys.setswitchinterval(self._usual_turn_seconds)

    async def parse_all(self, sources: Sequence[tuple[bytes, str, str | None]]) -> list[FileReading]:
        """Have inputs that are in memory parsed, in their order."""
        asked = [Source(*source) for source in sources]
        if is_little(len(asked), sum(len(source.content) for source in asked)):
            return await asyncio.to_thread(lambda: [self._parse(*source) for source in asked])
        # Two inputs may have the same name and content: each is known by its place.
        places = {id(source): place for place, source in enumerate(asked)}
        readings: list[FileReading] = [FileReading()] * len(asked)

        def done(source: Source, reading: FileReading) -> None:
            readings[places[id(source)]] = reading

        await self.parse(batched(asked), done)
        return readings

    async def _serve(
        self, batches: Iterator[Sequence[Source]], turns: asyncio.Lock, done: Callable[[Source, FileReading], None]
    ) -> None:
        async def following() -> Sequence[Source] | None:
            async with turns:  # an iterator has one reader at a time
                return await asyncio.to_thread(next, batches, None)

        helper = _Helper(self._command, self._hang_seconds)
        ahead = asyncio.create_task(following())
        try:
            while (batch := await ahead) is not None:
                ahead = asyncio.create_task(following())  # read while this one is parsed
                waiting, helper.careful = list(batch), False
                while waiting:
                    waiting = await helper.parse(waiting, done)
                    if not helper.started:
                        await self._do_without(waiting, done)
                        waiting = []
        finally:
            ahead.cancel()
            helper.end()

    async def _do_without(self, batch: Sequence[Source], done: Callable[[Source, FileReading], None]) -> None:
        """No process is to be had (no memory, no descriptors): slower, and felt by the loop, but it gets done."""
        for source in batch:
            reading = await asyncio.to_thread(self._parse, *source)
            done(source, reading)


class _Helper:
    """One helper process; started when first asked, and again after it failed."""

    def __init__(self, command: Sequence[str], hang_seconds: float) -> None:
        self._command = command
        self._hang_seconds = hang_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self.started = False
        self.careful = False
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def parse(self, batch: list[Source], done: Callable[[Source, FileReading], None]) -> list[Source]:
        """Ask for a batch. Returns what is left of it when the helper failed over one of them.

        Asked carefully, it was the first one without an answer; else all that have none are left.
        """
        at = 0
        try:
            if self._process is None:
                await self._start()
        except (OSError, ValueError):
            self.started = False
            return batch
        try:
            async with asyncio.timeout(self._hang_seconds) as patience:
                self._ask(batch)
                asked = asyncio.get_running_loop().time()
                while at < len(batch):
                    done(batch[at], await self._answer())
                    at += 1
                    moment = asyncio.get_running_loop().time()
                    if moment > asked + self._hang_seconds / 20:  # a timer for each would cost more than the answer
                        patience.reschedule(moment + self._hang_seconds)
                        asked = moment
        except TimeoutError:
            reason = f"was not parsed within {self._hang_seconds:g} seconds"
        except (OSError, EOFError):
            reason = f"the parser died of it{self._how()}"
        else:
            return []
        self.end()
        if not self.careful:
            self.careful = True
            return batch[at:]
        if at < len(batch):
            done(batch[at], FileReading((), (Problem(batch[at].file, 0, 1, "", reason),)))
        return batch[at + 1 :]

    async def _start(self) -> None:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                end = theirs.fileno()
                self._process = subprocess.Popen(self._command, stdin=end, stdout=end, env=_environment())
        except OSError:
            ours.close()
            raise
        self._reader, self._writer = await asyncio.open_unix_connection(sock=ours)
        try:
            async with asyncio.timeout(START_SECONDS):
                version = (await self._reader.readline()).decode().strip()
        except TimeoutError:
            version = ""
        if version != __version__:
            self.end()
            raise OSError(f"the installed code is of version {version or 'unknown'}, not {__version__}")
        self.started = True

    def _ask(self, batch: list[Source]) -> None:
        data = pickle.dumps((self.careful, [tuple(source) for source in batch]), protocol=pickle.HIGHEST_PROTOCOL)
        self._writer.write(LENGTH.pack(len(data)) + data)

    async def _answer(self) -> FileReading:
        head = await self._reader.readexactly(LENGTH.size)
        reading: FileReading = pickle.loads(  # noqa: S301 - our own helper
            await self._reader.readexactly(LENGTH.unpack(head)[0])
        )
        return reading

    def _how(self) -> str:
        try:
            status = self._process.wait(timeout=0.2) if self._process is not None else None
        except subprocess.TimeoutExpired:
            return ""
        return f" (exit status {status})" if status is not None else ""

    def end(self) -> None:
        """Let the process go; it holds nothing that would be worth a farewell."""
        if self._process is None:
            return
        self._writer.close()
        self._process.kill()
        self._process.wait()
        self._process = None


def _environment() -> dict[str, str]:
    """The helper has to find this package, however it was found here."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def is_little(files: int, size: int) -> bool:
    """Whether so many inputs of so many bytes are not worth a helper."""
    return files <= FEW_FILES and size <= FEW_BYTES


def batched(sources: Iterable[Source]) -> Iterator[list[Source]]:
    """Portions small enough to be read, sent and answered without anybody noticing."""
    batch: list[Source] = []
    size = 0
    for source in sources:
        batch.append(source)
        size += len(source.content)
        if len(batch) >= BATCH_FILES or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
