"""LinuxProcessTable: one pidfd per process, one epoll over all of them, one callback for what ends.

An exit of our own process is peeked at, told, and only then reaped: what the callback writes down happens before the
kernel forgets. An adopted process is somebody else's to reap; its pidfd only says that a report of the keeper is due,
or, if it is not the keeper's either, that the kernel is to be asked now.
A signal goes through a pidfd or to a group whose leader cannot have been replaced, never to a bare pid.
"""

import asyncio
import errno
import os
import select
import signal
from collections.abc import Callable, Container, Mapping, Sequence

from reconciler.adapters.processes import procfs
from reconciler.adapters.processes.foundlings import TICKS_PER_SECOND, foundlings
from reconciler.adapters.processes.signals import by_pidfd, group_of, to_group
from reconciler.adapters.processes.spawn import Spawner
from reconciler.adapters.processes.trees import Trees, can_mark, send
from reconciler.hostmounts import Mounts
from reconciler.model.identity import ProcessId
from reconciler.model.launch import Launch
from reconciler.ports import Clock, ExitReport, Foundling, SpawnFailed, Trace

EXITS_PER_WAKE = 64  # the loop has other things to do, and what is left wakes it again
_OUT_OF_FILES = (errno.EMFILE, errno.ENFILE)
_PEEK = os.WEXITED | os.WNOHANG | os.WNOWAIT


class _Watch:
    """One main process that is watched. `own`: ours to reap, not the keeper's. `ended`: seen as a zombie.

    `kept`: where it is not ours, the keeper is its parent and will report how it ended.
    """

    __slots__ = ("ended", "kept", "mark", "own", "pidfd", "process")

    def __init__(self, process: ProcessId, pidfd: int, mark: int, *, own: bool, kept: bool = True) -> None:
        self.process = process
        self.pidfd = pidfd
        self.mark = mark
        self.own = own
        self.kept = kept
        self.ended = False


class LinuxProcessTable:
    """The ProcessTable of a real machine.

    `clock` must be the one of the machine: start times are compared with the kernel's.
    To be made after the controller raised its own soft limits: `boot_limits` (name as in setrlimit, lower case, to
    soft and hard value) are those from before, which processes get. `subreaper_pid` is the keeper, to whom orphans go.
    Each process takes a descriptor: no more than `most` are started, for whoever else needs one.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        subreaper_pid: int | None = None,
        boot_limits: Mapping[str, tuple[int, int]] | None = None,
        most: int | None = None,
        mounts: Mounts | None = None,
    ) -> None:
        self._clock = clock
        self._most = most
        self._watches: dict[int, _Watch] = {}  # by pid
        self._by_pidfd: dict[int, _Watch] = {}
        self._unreported: dict[ProcessId, _Watch] = {}  # adopted and ended; the pid may have a new owner already
        self._exited: Callable[[ExitReport], None] = lambda _: None
        self._subreaper_pid = subreaper_pid
        self._marked = can_mark()
        self._trees = Trees(clock, self._watches, self._marks, marked=self._marked)
        self.keep_up = self._trees.keep_up
        self._remains: dict[ProcessId, int] = {}  # trees without a main process, and their birthmarks
        self._condemned: set[ProcessId] = set()  # trees that have been killed and may not be empty yet
        self._epoll = select.epoll()
        self._spawner = Spawner(boot_limits or {}, marked=self._marked, mounts=mounts)
        self._spare_fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def trees_known_by(self) -> str:
        """What tells who belongs to whom: for the daemon's own status."""
        return "birthmark" if self._marked else "session and environment"

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Drain exits whenever the loop sees that there are some. One descriptor stands for all processes."""
        self._loop = loop
        loop.add_reader(self._epoll.fileno(), self.drain)

    def fileno(self) -> int:
        """Readable while there is something to drain."""
        return self._epoll.fileno()

    def close(self) -> None:
        """Stop watching. The processes live on."""
        if self._epoll.closed:
            return
        if self._loop is not None:
            self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
        for watch in (*self._watches.values(), *self._unreported.values()):
            os.close(watch.pidfd)
        self._watches.clear()
        self._unreported.clear()
        self._by_pidfd.clear()
        self._spawner.close()
        self._trees.close()
        if self._spare_fd >= 0:
            os.close(self._spare_fd)
            self._spare_fd = -1

    # ---- beginning ----

    def spawn(self, launch: Launch, spawn_id: str) -> ProcessId:
        """Start a process as leader of a session of its own and watch it. Raises SpawnFailed."""
        if self._most is not None and len(self._watches) + len(self._unreported) >= self._most:
            raise SpawnFailed(f"cannot watch more than {self._most} processes: raise the limit of open files (nofile)")
        self._keep_spare_fd()
        mark = procfs.birthmark(spawn_id)
        before = self._clock.now()
        pid = self._spawner.spawn(launch, spawn_id, mark, before)
        try:
            start, pidfd = self._identify(pid, before)
        except OSError as error:
            # It runs and cannot be watched. A process that nobody watches is worse than none.
            os.kill(pid, signal.SIGKILL)  # ours and not reaped: the pid is still its own
            os.waitpid(pid, 0)
            raise SpawnFailed(f"cannot watch the process: {os.strerror(error.errno or 0)}") from None
        process = ProcessId(pid, start)
        self._trees.started(pid)
        self._watch(_Watch(process, pidfd, mark, own=True))
        return process

    def adopt(self, process: ProcessId) -> bool:
        """Watch a process that an earlier controller started. False when it is gone; a zombie still awaits its report.

        Raises OSError without a descriptor for it: False would have it started twice.
        """
        if process in self._unreported or self._by_process(process) is not None:
            return True
        try:
            pidfd = os.pidfd_open(process.pid)
        except OSError as error:
            if error.errno in _OUT_OF_FILES:
                raise
            return False  # gone, or a thread of another process has the number now
        stat = procfs.read_stat(process.pid)
        if stat is None or stat.start_ticks != process.start_ticks:
            os.close(pidfd)
            return False
        mark = procfs.birthmark_of(process.pid) or procfs.birthmark(procfs.spawn_id_of(process.pid) or "")
        # What outlived its keeper is another's by now (init's), and no keeper will report its end.
        kept = self._subreaper_pid in (None, stat.parent)
        self._watch(_Watch(process, pidfd, mark, own=stat.parent == os.getpid(), kept=kept))
        return True

    def trace(self, spawn_id: str, since: float, reports: Sequence[ExitReport]) -> Trace:
        """What became of this spawn: its main process is the oldest of all that carry its mark.

        A controller that dies while it spawns carries it, too, for that moment. But it is older than the intent.
        """
        mark = procfs.birthmark(spawn_id) if self._marked else 0
        began_ticks = int(since * TICKS_PER_SECOND)
        ended = [report for report in reports if report.process.start_ticks >= began_ticks]
        found = [report.process for report in ended if mark and report.mark == mark]
        for pid in procfs.pids():
            carried = procfs.birthmark_of(pid)
            if carried not in (mark, 0):
                continue  # also when it is gone
            stat = procfs.read_stat(pid)
            if stat is None or stat.session != pid or stat.start_ticks < began_ticks:
                continue
            if carried or self._says_so(pid, stat, spawn_id):
                found.append(ProcessId(pid, stat.start_ticks))
        # A program that set the limit itself which is our mark is among those without one.
        certain = bool(mark) and all(report.mark for report in ended)
        return Trace(min(found, key=lambda process: (process.start_ticks, process.pid), default=None), certain)

    def _says_so(self, pid: int, stat: procfs.Stat, spawn_id: str) -> bool:
        """Without a mark its environment has to tell, and only that of our process, or the keeper's, is believed."""
        ours = stat.parent in (os.getpid(), self._subreaper_pid) and os.geteuid() in (0, procfs.owner_of(pid))
        return ours and procfs.spawn_id_of(pid) == spawn_id

    def foundlings(self, known: Container[str]) -> Sequence[Foundling]:
        """Living main processes of earlier controllers that are not watched, with a spawn id that is not `known`."""
        return foundlings(self._subreaper_pid, known, self._watches, marked=self._marked)

    # ---- end ----

    def on_exit(self, exited: Callable[[ExitReport], None]) -> None:
        """Whom to tell when a watched main process ends."""
        self._exited = exited

    def drain(self) -> int:
        """Tell of processes that ended, at most EXITS_PER_WAKE of them. How many there were."""
        events = self._epoll.poll(0, EXITS_PER_WAKE)
        self._trees.begin_round()
        try:
            for pidfd, _ in events:
                watch = self._by_pidfd.get(pidfd)
                if watch is None:
                    continue  # a callback of this round ended the wait, or a fork holds on to it for a moment
                if watch.own:
                    self._reap(watch)
                else:
                    self._await_report(watch)
                    if not watch.kept:
                        self._exited(self.resolve_unreported(watch.process))
        finally:
            self._trees.end_round()
        return len(events)

    def report(self, process: ProcessId, code: int | None, signal: int | None) -> None:
        """The keeper reaped an adopted process. Strangers, and what was told before, are ignored."""
        watch = self._unreported.pop(process, None)
        if watch is not None:
            os.close(watch.pidfd)
        else:
            watch = self._by_process(process)  # the report was quicker than the pidfd
            if watch is None or watch.own:
                return
            self._unwatch(watch)
        self._exited(ExitReport(process, code, signal))

    def unreported(self) -> tuple[ProcessId, ...]:
        """Adopted processes that ended and whose report is due."""
        return tuple(self._unreported)

    def resolve_unreported(self, process: ProcessId) -> ExitReport:
        """No report came and none is awaited any more: how it ended, as far as the kernel knows. Told here only."""
        watch = self._unreported.pop(process, None)
        if watch is None:
            return ExitReport(process, None, None)
        # A zombie first: it may be reaped between the two questions, and then the second one is answered.
        status = procfs.zombie_status_of(process)
        if status is None:
            status = procfs.exit_status_of(watch.pidfd)
        os.close(watch.pidfd)
        if status is None:
            return ExitReport(process, None, None)
        result = os.waitstatus_to_exitcode(status)
        return ExitReport(process, result, None) if result >= 0 else ExitReport(process, None, -result)

    def _reap(self, watch: _Watch) -> None:
        try:
            result = os.waitid(os.P_PIDFD, watch.pidfd, _PEEK)
        except ChildProcessError:  # something in this process waited for any child
            self._unwatch(watch)
            self._exited(ExitReport(watch.process, None, None))
            return
        if result is None:
            return
        watch.ended = True
        status = result.si_status
        exited = result.si_code == os.CLD_EXITED
        try:
            self._exited(ExitReport(watch.process, status, None) if exited else ExitReport(watch.process, None, status))
        finally:
            # Also when the callback failed: told again it would fail again, and the rest has to go on.
            if self._by_pidfd.get(watch.pidfd) is watch:  # it may have closed the table
                os.waitpid(watch.process.pid, 0)  # ours and not reaped: the pid is still its own
                self._unwatch(watch)

    # ---- signals ----

    def signal(self, process: ProcessId, signal: int, scope: str) -> bool:
        """Send a signal to the process, its group or its tree. False when there is nobody left."""
        watch = self._living(process)
        if watch is not None and watch.own and scope == "group":
            return to_group(process.pid, signal)
        reached = send(process, signal) if watch is None else by_pidfd(watch.pidfd, signal)
        if scope == "process":
            return reached
        members = self._trees.members(process, watch.mark if watch is not None else self._remains.get(process, 0))
        if scope == "group":
            members = [member for member in members if group_of(member.pid) == process.pid]
        for member in members:
            reached = send(member, signal) or reached
        return reached

    def kill_tree(self, process: ProcessId, spawn_id: str) -> None:
        """KILL the process and all that belongs to it. What outran this is killed by the `leftovers` that finds it."""
        self._condemned.add(process)
        watch = self._living(process)
        if watch is not None:
            by_pidfd(watch.pidfd, signal.SIGKILL)
            if watch.own:
                to_group(process.pid, signal.SIGKILL)  # at one stroke: nobody forks away from it
        try:
            self._trees.kill(process, procfs.birthmark(spawn_id))
        except OSError:
            pass  # no descriptor to look with: the next `leftovers` finds them

    def leftovers(self, process: ProcessId, spawn_id: str) -> Sequence[ProcessId]:
        """What of its tree lives although the main process ended."""
        watch = self._by_process(process)
        mark = watch.mark if watch is not None and watch.own else procfs.birthmark(spawn_id)
        try:
            members = self._trees.members(process, mark)
            if members and process in self._condemned:
                self._trees.kill(process, mark)
        except OSError:
            # Nobody can look now. The tree counts as alive until somebody could: the exit itself must not be lost.
            members = [process]
        if members:
            self._remains[process] = mark
        elif self._living(process) is None:
            self._trees.forget(process, mark)
            self._remains.pop(process, None)
            self._condemned.discard(process)
        return members

    # ---- inside ----

    def _watch(self, watch: _Watch) -> None:
        previous = self._watches.get(watch.process.pid)
        if previous is not None:  # adopted, ended and reaped before we looked, and the number was given away again
            self._await_report(previous)
        self._watches[watch.process.pid] = watch
        self._by_pidfd[watch.pidfd] = watch
        self._epoll.register(watch.pidfd, select.EPOLLIN)

    def _unwatch(self, watch: _Watch) -> None:
        self._drop(watch)
        os.close(watch.pidfd)  # which takes it out of the epoll set, too

    def _await_report(self, watch: _Watch) -> None:
        """An adopted process ended. Its pidfd stays open: the kernel answers how only to who held one."""
        self._epoll.unregister(watch.pidfd)
        self._drop(watch)
        self._unreported[watch.process] = watch

    def _drop(self, watch: _Watch) -> None:
        del self._by_pidfd[watch.pidfd]
        del self._watches[watch.process.pid]

    def _marks(self) -> set[int]:
        """The birthmarks of all whose trees we may still be asked about."""
        watched = (*self._watches.values(), *self._unreported.values())
        return {*(watch.mark for watch in watched), *self._remains.values()}

    def _by_process(self, process: ProcessId) -> _Watch | None:
        watch = self._watches.get(process.pid)
        return watch if watch is not None and watch.process == process else None

    def _living(self, process: ProcessId) -> _Watch | None:
        """The watch of a main process that has not ended."""
        watch = self._by_process(process)
        if watch is None or watch.ended:
            return None
        if watch.own:
            return watch if os.waitid(os.P_PIDFD, watch.pidfd, _PEEK) is None else None
        stat = procfs.read_stat(process.pid)
        return watch if stat is not None and stat.start_ticks == process.start_ticks and stat.alive else None

    def _identify(self, pid: int, before: float) -> tuple[int, int]:
        """Start time and pidfd of a process that was started since `before`."""
        # The start time is CLOCK_BOOTTIME in ticks: when both ends of the spawn lie within one, it is that one. To read
        # it costs 30 us, and waits until the exec is through.
        start: int | None = int(before * TICKS_PER_SECOND)
        if start != int(self._clock.now() * TICKS_PER_SECOND):
            start = None
        try:
            return start or _start_ticks(pid), os.pidfd_open(pid)
        except OSError as error:
            if error.errno not in _OUT_OF_FILES:
                raise
            os.close(self._spare_fd)  # this is what it was kept for
            self._spare_fd = -1
            return start or _start_ticks(pid), os.pidfd_open(pid)

    def _keep_spare_fd(self) -> None:
        """Without a descriptor to watch it with, a process is better not started."""
        if self._spare_fd < 0:
            try:
                self._spare_fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                raise SpawnFailed(f"cannot fork: {os.strerror(error.errno or 0)}") from None


def _start_ticks(pid: int) -> int:
    start = procfs.start_ticks(pid)
    assert start is not None, "a process that is ours and not reaped is there to be read"
    return start
