"""The controller's composition root: picks adapters, wires loop and servers, starts and stops them in order.

Started by the keeper, which hands in the control socket and the API's listening socket. May be killed at any instant;
there is one way to start (take over what is there) and one way to stop (leave what is there, or drain it first).
"""

from reconciler.interpreter import end, load_quickly, loaded, settle_memory, sparing

if __name__ == "__main__":
    load_quickly()

import argparse
import asyncio
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Any

from reconciler import __version__, wire
from reconciler.adapters import selfview
from reconciler.adapters.clock import BootClock
from reconciler.adapters.console import start_logging
from reconciler.adapters.documents import parse
from reconciler.adapters.journal import SegmentJournal
from reconciler.adapters.keeper import KeeperLink
from reconciler.adapters.logfiles import LogFile, WorkLogThreads, log_files, read_logs
from reconciler.adapters.logfiles import LogOptions as ReadOptions
from reconciler.adapters.logs import PumpSink
from reconciler.adapters.manifests import Bulk, ManifestDirectory
from reconciler.adapters.processes import LinuxProcessTable, run_ahead
from reconciler.adapters.queues.meters import Threads
from reconciler.adapters.queues.registry import driver_for
from reconciler.adapters.rehearsal import RehearsalFailed, command, rehearse
from reconciler.adapters.statefiles import StateFiles, SuspectFiles
from reconciler.adapters.surroundings import Surroundings
from reconciler.core.homes import Change
from reconciler.engine.bindings import Bindings
from reconciler.engine.building import Builder
from reconciler.engine.choosing import Choosing
from reconciler.engine.chores import Chores
from reconciler.engine.conditions import Conditions
from reconciler.engine.engine import Engine, Settings
from reconciler.engine.intake import Intake
from reconciler.engine.loop import Loop, Ports
from reconciler.engine.observe import open_ledgers
from reconciler.engine.programs import Programs
from reconciler.engine.publish import Publisher
from reconciler.engine.takeover import Takeover
from reconciler.hostmounts import Mounts
from reconciler.model.manifest import Config
from reconciler.model.objects import Accepted
from reconciler.model.overrides import Overrides, pause_from
from reconciler.model.problems import ApiError
from reconciler.ports import ExitReport, Scheduling
from reconciler.server.rest import LogFiles, LogOptions, RestServer
from reconciler.startup import (
    ABOUT,
    UsageError,
    access_rules,
    arguments,
    claim,
    most_connections,
    most_processes,
    most_starting,
    output_policy,
    raise_limits,
    read_config,
    ready_threads,
    rehearsal,
    tell_faults,
)

log = logging.getLogger("reconciler")

WELCOME_SECONDS = 10.0
JOURNAL_BYTES = 16 << 20  # at the fastest respawns a checkpoint every few seconds
REPEAT_SECONDS = 1.0
FAREWELL_SECONDS = 0.5  # to write what nobody waits for, when another controller follows or the keeper is gone
LAST_WORDS_SECONDS = 5.0  # the same at the end of all


class App:
    """One controller, from taking over to leaving."""

    def __init__(self, options: argparse.Namespace, loop: asyncio.AbstractEventLoop) -> None:
        self._options, self._loop = options, loop
        # It came over an exec; processes of ours must not have it.
        os.set_inheritable(options.listen_fd, False)
        self._link = KeeperLink(options.control_fd, loop)
        self._left: asyncio.Future[int | None] = loop.create_future()  # the exit code; None: the keeper is gone
        self._welcome: asyncio.Future[wire.Message] = loop.create_future()
        self._told: asyncio.Future[None] = loop.create_future()
        self._interrupts: list[float] = []
        self._keeps = False  # leave all processes to the next `run`
        self._keeper: dict[str, Any] = {"keeper": os.getppid()}

    async def run(self) -> int | None:
        """Serve until drained (the exit code) or until the keeper is gone (None)."""
        self._link.on_welcome, self._link.on_lost = self._welcomed, self._lost
        self._link.on_pump = lambda pid: self._keeper.update(pump=pid)
        self._link.on_leave = self._make_room
        config = read_config(self._options.config)
        logging.getLogger().setLevel(config.log_level.upper())
        self._build(config, raise_limits())
        self._take_over()
        self._link.on_exits, self._link.on_signal, self._link.on_told = self._exits, self._signalled, self._told_all
        self._link.hello()
        if not await self._hears_all():
            self._leave(None)
            return None
        server = RestServer(
            self._engine,
            self._read_logs,
            self,
            about=ABOUT,
            rules=access_rules(config),
            most_connections=most_connections(),
        )
        await server.start(socket.socket(fileno=self._options.listen_fd))
        self._engine.begin()
        self._link.ready()
        settle_memory()
        reading = asyncio.create_task(self._read_manifests())
        code = await self._left
        self._engine.hold()
        reading.cancel()
        await asyncio.gather(reading, self._intake.close(), server.close(1.0), return_exceptions=True)
        self._leave(code)
        return code

    async def _hears_all(self) -> bool:
        """Hear what the keeper knows of the time before us: nothing is decided before. False: it is gone already."""
        told = asyncio.gather(self._welcome, self._told)
        awaited: set[asyncio.Future[Any]] = {told, self._left}
        await asyncio.wait(awaited, timeout=WELCOME_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if self._left.done():
            told.cancel()
            return False
        if not told.done():
            raise TimeoutError(f"the keeper says nothing for {WELCOME_SECONDS:g} s")
        self._keeper.update(self._welcome.result())
        return True

    # --- starting -----------------------------------------------------------------------------------------------------

    def _build(self, config: Config, boot_limits: dict[str, tuple[int, int]]) -> None:
        state_dir, safe_mode, link = self._options.state_dir, self._options.safe_mode, self._link
        self._clock = clock = BootClock()
        self._store = store = StateFiles(state_dir)
        self._journal = journal = SegmentJournal(os.path.join(state_dir, "run", "journal"), JOURNAL_BYTES)
        mounts = Mounts()  # one for all who ask: what hangs is waited for once
        self._table = table = LinuxProcessTable(
            clock, subreaper_pid=os.getppid(), boot_limits=boot_limits, most=most_processes(), mounts=mounts
        )
        self._sink = sink = PumpSink(os.path.join(state_dir, "run"), link.hold, link.release, link.sync)
        scheduling = Scheduling(self._loop.call_soon, self._loop.call_later)
        surroundings = Surroundings(base_path=self._options.base_path, mounts=mounts)
        builder = Builder(surroundings, state_dir, config.defaults.program, output_policy(self._options))
        ports, prefix = Ports(clock, journal, table, sink), os.urandom(4).hex() + "-"
        loop = Loop(ports, scheduling, builder, prefix, most_starting=most_starting(config))
        bulk = Bulk(parse)
        directories = [ManifestDirectory(path, parse, bulk) for path in (*self._options.directories, *config.manifests)]
        self._intake = Intake(
            store,
            self._changed,
            directories,
            bulk.parse_all,
            lambda key: os.urandom(8).hex(),
            wall=clock.wall,
            read=not safe_mode,
            is_busy=loop.is_busy,
            sparing=sparing,
        )
        conditions = Conditions(
            self._intake,
            journal,
            sink.trouble,
            running_as_root=os.geteuid() == 0,
            safe_mode=safe_mode,
            daemon=self._daemon,
        )
        chores = Chores(clock, scheduling.later, lambda: loop.is_busy() or self._intake.is_settling)
        publisher = Publisher(clock, store, builder, conditions.of, scheduling.later, chores)
        loop.publisher = self._publisher = publisher
        in_loop = self._loop.call_soon_threadsafe
        choosing = Choosing(scheduling, builder, WorkLogThreads(in_loop))
        loop.suspects = suspects = SuspectFiles(os.path.join(state_dir, "run"), careful=safe_mode)
        self._programs = Programs(clock, store, builder, loop, publisher, choosing, suspects)
        self._takeover = Takeover(self._programs, loop, builder)
        meters = Threads(driver_for, in_loop)
        self._bindings = Bindings(clock, store, meters, scheduling, self._programs, publisher, self._intake)
        self._observer = loop.observer
        self._loop.add_reader(table.fileno(), loop.after, table.drain)
        settings = Settings(state_dir, __version__, os.getpid(), config.shutdown_timeout, safe_mode=safe_mode)
        self._engine = Engine(
            settings, clock, scheduling, self._intake, loop, self._programs, publisher, conditions, self._bindings
        )

    def _take_over(self) -> None:
        """Bring under control what an earlier controller left: accepted specs, overrides, journal, processes."""
        ledgers = open_ledgers(self._journal)
        overrides, problems = self._store.load_overrides("Program", Overrides.from_document)
        pauses, more = self._store.load_overrides("QueueBinding", pause_from)
        for problem in (*problems, *more):
            log.warning("%s", problem)
        self._publisher.recall(self._store.load_events())
        accepted, leaving = self._intake.restore(), list(self._store.load_leaving().values())
        programs = _of_kind("Program", accepted), _of_kind("Program", leaving)
        self._takeover.restore(*programs, overrides, ledgers)
        self._bindings.restore(_of_kind("QueueBinding", accepted), _of_kind("QueueBinding", leaving), pauses)
        self._takeover.adopt(same_boot=not self._journal.boot_changed)
        if self._journal.damage:
            log.warning("the journal was damaged: %s", self._journal.damage)

    async def _read_manifests(self) -> None:
        await self._intake.start()
        if not any(each.aside for each in self._programs.by_name.values()):  # nobody knows which streams are theirs
            self._sink.sweep()

    def _changed(self, changes: Sequence[Change]) -> None:
        self._engine.settled(changes)

    # --- what the keeper says -----------------------------------------------------------------------------------------

    def _welcomed(self, message: wire.Message) -> None:
        if not self._welcome.done():
            self._welcome.set_result(message)

    def _exits(self, reports: Sequence[ExitReport]) -> None:
        # Strangers (daemonised grandchildren) are acknowledged too: nobody else will ask for them.
        self._link.ack(self._observer.reported(reports))

    def _told_all(self, reaps_since: float) -> None:
        settled = self._takeover.told(reaps_since)
        if settled is None:
            self._link.hello()  # to be told once more
            return
        self._link.ack(settled)
        if not self._told.done():
            self._told.set_result(None)

    def _lost(self) -> None:
        """The keeper is gone: leave within a second; processes live on, the next `run` adopts them."""
        self._finish(None)

    def _signalled(self, name: str) -> None:
        if name == "HUP" and not self._options.up:
            log.info("HUP: reading all manifests")
            self._rescanning = self._loop.create_task(self._rescan())
            return
        moment = self._clock.now()
        if not self._interrupts:
            self._drain()
        elif name == "INT" and moment - self._interrupts[-1] > REPEAT_SECONDS:
            self._engine.kill_all()
        self._interrupts.append(moment)

    def _drain(self) -> None:
        self._engine.drain(lambda: self._finish(0))

    async def _rescan(self) -> None:
        await self._engine.rescan()
        self._link.ready()

    def _make_room(self) -> None:
        log.info("leaving; the next controller takes over what runs")
        self._finish(None)

    # --- what the API asks (server.operations.Lifecycle) --------------------------------------------------------------

    def shutdown(self, *, keep: bool) -> None:
        """Drain, then end; or (keep) end and leave all processes to the next `run`."""
        if not keep:
            self._interrupts.append(self._clock.now())
            self._link.stop()
            self._loop.call_soon(self._drain)
            return
        if selfview.ends_all(self._keeper["keeper"]):
            message = (
                "the keeper is pid 1 here, or what pid 1 waits for: the kernel ends this container's processes with it"
            )
            raise ApiError(409, 6, "KeeperIsInit", f"{message}; `reconciler shutdown` drains them")
        log.info("leaving; all processes are kept")
        self._keeps = True
        self._loop.call_soon(self._finish, 0)

    async def reexec(self, *, keeper: bool, dry_run: bool) -> dict[str, Any]:
        """Have this controller and the pump replaced, and the keeper; nothing happens unless a rehearsal goes well."""
        ours, theirs = (
            command("reconciler.app", *sys.argv[1:], "--rehearse"),
            ("--rehearse", str(self._keeper["handover"])),
        )
        try:
            told, _ = await rehearse(ours, command("reconciler.keeper", *theirs))
            about = json.loads(told)
            version, speaks = str(about["version"]), about["wire"]
        except (RehearsalFailed, ValueError, LookupError, TypeError) as error:
            message = f"the installed code would not work: {error}. Nothing was replaced"
            raise ApiError(409, 1, "RehearsalFailed", message) from None
        if speaks != self._keeper["wire"] and not keeper:
            message = f"version {version} speaks wire {speaks} with its keeper, this one wire {self._keeper['wire']}"
            raise ApiError(409, 6, "KeeperTooOld", f"{message}: replace it, too (`reconciler reexec --keeper`)")
        if not dry_run:
            self._loop.call_soon(lambda: self._link.replace(keeper=keeper))
        return {**ABOUT, "newVersion": version, "keeper": keeper, **self._daemon_pids()}

    # --- leaving ------------------------------------------------------------------------------------------------------

    def _finish(self, code: int | None) -> None:
        if not self._left.done():
            self._left.set_result(code)

    def _leave(self, code: int | None) -> None:
        self._loop.remove_reader(self._table.fileno())
        self._engine.leave(LAST_WORDS_SECONDS if code is not None else FAREWELL_SECONDS)
        self._sink.disconnect()
        self._table.close()
        self._store.close()
        if code is not None:
            self._link.quit(code, keep=self._keeps)

    def refuse(self, code: int) -> None:
        """There is nothing to serve with these arguments. Of a first start this is the end, of the keeper, too."""
        self._link.refuse(code)

    # --- small things -------------------------------------------------------------------------------------------------

    def _read_logs(self, files: LogFiles, options: LogOptions, stop: asyncio.Event) -> AsyncIterator[bytes]:
        def current() -> list[LogFile]:
            return log_files(files(), of_runs=options.previous is not None)

        wall = self._clock.wall()
        since = None if options.since_seconds is None else wall - options.since_seconds
        asked = ReadOptions(
            options.follow, options.tail, since, options.timestamps, options.prefix, options.previous, began=wall
        )
        lines: AsyncIterator[bytes] = read_logs(current, asked, stop)
        return lines

    def _daemon_pids(self) -> dict[str, Any]:
        return {"keeperPid": self._keeper["keeper"], "pumpPid": self._keeper.get("pump"), "pid": os.getpid()}

    def _daemon(self) -> dict[str, Any]:
        keeper, pipe_bytes = self._keeper, selfview.new_pipe_bytes()
        warnings = [selfview.pipe_warning(pipe_bytes)]
        if keeper.get("wire", wire.VERSION) != wire.VERSION:
            message = f"the keeper speaks wire {keeper['wire']}, this controller wire {wire.VERSION}"
            warnings.append(f"{message}: replace it, too (`reconciler reexec --keeper`)")
        return {
            **self._daemon_pids(),
            "keeperVersion": keeper.get("version"),
            "keeperReplaced": keeper.get("handovers"),
            "controllerDeaths": keeper.get("deaths", 0),
            **selfview.figures(),
            "logStreams": self._sink.count,
            "treesKnownBy": self._table.trees_known_by,
            "newPipeBytes": pipe_bytes,
            "journalDamage": self._journal.damage,
            "warnings": [warning for warning in warnings if warning],
        }


def _of_kind(kind: str, items: Sequence[Accepted]) -> list[Accepted]:
    return [item for item in items if item.kind == kind]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one controller."""
    options = arguments(sys.argv[1:] if argv is None else argv)
    if options.rehearse:
        return rehearsal(options)
    if not claim(os.path.join(options.state_dir, "run", "controller.lock")):
        return 0
    # Exits come through pidfds. Not blocked, a SIGCHLD during a spawn (which blocks all) would wake another thread.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    run_ahead()
    listener = start_logging("info")
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.set_exception_handler(tell_faults)
    loop.set_default_executor(ready_threads())
    app = App(options, loop)
    try:
        code = loop.run_until_complete(app.run())
    except UsageError as error:
        sys.stderr.write(f"reconciler: {error}\n")
        app.refuse(2)
        code = 2
    finally:
        listener.stop()
    return code or 0


if __name__ == "__main__":
    loaded()
    end(main())
