"""What the server needs of the rest of the house: the engine, and somebody who reads logs. Types only."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from reconciler.server.answers import Json


class Operations(Protocol):
    """The engine, as far as requests reach it. What a user did wrong is raised as ApiError."""

    def objects(self) -> list[Json]: ...
    def object(self, name: str) -> Json | None: ...
    def effective_spec(self, name: str) -> Json: ...
    def processes(self) -> list[Json]: ...
    def daemon_status(self) -> Json: ...
    def problems(self) -> list[Json]: ...
    def sources(self) -> list[Json]: ...
    def events(self, name: str | None) -> list[Json]: ...
    def log_files(self, name: str) -> list[Json]: ...

    # Queues of what changes from now on. A full queue means that something was left out.
    def watch(self) -> AbstractContextManager["asyncio.Queue[tuple[str, Json]]"]: ...
    def watch_events(self) -> AbstractContextManager["asyncio.Queue[Json]"]: ...

    async def apply(self, body: Json, *, dry_run: bool) -> Json: ...
    async def diff(self, body: Json) -> Json: ...
    async def delete(self, name: str, *, dry_run: bool) -> Json: ...
    async def operate(self, name: str, verb: str, body: Json, *, dry_run: bool, by: str) -> Json: ...
    async def rescan(self) -> Json: ...

    @property
    def ready(self) -> bool: ...


class Lifecycle(Protocol):
    """The daemon's own end, and its renewal. What cannot be is raised as ApiError; what is begun goes on by itself."""

    def shutdown(self, *, keep: bool) -> None: ...  # keep: the processes are left running
    async def reexec(self, *, keeper: bool, dry_run: bool) -> Json: ...  # answers with what will be replaced


class LogOptions(NamedTuple):
    """What of the logs is wanted."""

    follow: bool = False
    tail: int | None = None  # lines
    since_seconds: float | None = None
    timestamps: bool = False
    prefix: bool = False
    previous: int | None = None  # how many runs back


LogFiles = Callable[[], list[Json]]
"""The files there are now, `{ordinal, stream, path}`; asked again while following, for new replicas."""

ReadLogs = Callable[[LogFiles, LogOptions, asyncio.Event], AsyncIterator[bytes]]
"""Reads logs; ends at the end of the files or, when following, once the event is set."""
