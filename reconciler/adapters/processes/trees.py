"""Who descends from whom, whatever a process did to get away.

The main process of a spawn and all that comes from it carry the same birthmark (see procfs). So it is enough to look
once at every process that appears on the machine: it is a member of a tree from birth, and of none for life. The
kernel numbers processes in turn and says which number was the last, so a look costs no more than what was started
since the last one; with nothing left over, that is a few microseconds, whatever the size of the machine. Who looks
now and then although nothing ended (`keep_up`) has little to look at when something does.
"""

import os
import resource
import signal
from collections.abc import Callable, Container, Sequence
from itertools import chain

from reconciler.adapters.processes import procfs
from reconciler.adapters.processes.signals import by_pidfd
from reconciler.model.identity import ProcessId
from reconciler.ports import Clock

# To ask for one pid costs as much as to list so many processes. Where many come and go, most have gone already, and
# listing those that are there is cheaper than asking for all that were.
_LISTED_FOR_ONE_ASKED = 3
_NARROW_WINDOW, _WIDEST_WINDOW = 64, 4096  # in a container the kernel counts the tasks of its host
# No machine starts more than this in a second for long. Longer without a look, and the numbers may have gone round.
_PIDS_PER_SECOND = 10_000
# A process has its number a moment before anybody can see it. A number without a process is asked for again so long.
_UNBORN_SECONDS = 0.1
_UNBORN_INTERVAL_SECONDS = 0.01
_UNBORN_LIMIT = 256
_FIRST_PID_OF_A_ROUND = 300  # the kernel keeps the ones below for the time after boot

_PURSUIT_LOOKS = 16
_KILL_ROUNDS = 60
_KILL_SECONDS = 0.02  # the loop has other things to do
_FREEZE_AFTER_ROUNDS = 3
_PRUNE_AT = 128
_FEW_TREES = 64


def can_mark() -> bool:
    """Whether our own limits leave room for a birthmark: it is the soft value of one that nobody else has set."""
    return resource.getrlimit(procfs.MARK) == (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


class Trees:
    """All living processes that descend from a spawn, by birthmark; the unmarked by session.

    `mains` are the pids of main processes that are watched: they are nobody's leftovers. `ours`: the birthmarks of all
    whose trees we are asked about, until we are told to `forget` them.
    """

    def __init__(
        self, clock: Clock, mains: Container[int], ours: Callable[[], Container[int]], *, marked: bool
    ) -> None:
        self._clock = clock
        self._mains = mains
        self._ours = ours
        self._marked = marked
        self._kin: dict[int, dict[int, int]] = {}  # birthmark -> pid -> start ticks
        self._many = _FEW_TREES  # from so many on it is looked which of them are left of others
        self._sessions: dict[int, dict[int, int]] = {}  # pid of a main process -> pid -> start ticks
        self._unborn: dict[int, float] = {}  # pid -> until when to ask again
        self._unborn_at = 0.0
        self._started: set[int] = set()  # main processes since the last look
        self._newest = 0  # the youngest pid at the last look; 0: there was none
        self._looked_at = 0.0
        self._loadavg_fd = _open_loadavg()
        self._pid_max = int(_first_word("/proc/sys/kernel/pid_max") or 0)
        self._round: bool | None = None  # of exits, if one is on: whether all who came before it have been met

    def __len__(self) -> int:
        """How many trees are known, those of others included."""
        return len(self._kin) + len(self._sessions)

    def close(self) -> None:
        """Let the descriptor go."""
        if self._loadavg_fd >= 0:
            os.close(self._loadavg_fd)
            self._loadavg_fd = -1

    def started(self, pid: int) -> None:
        """A main process was started: its number is accounted for."""
        self._started.add(pid)

    def keep_up(self) -> None:
        """Learn of those that appeared, at a moment when nobody waits for it; once a second is enough."""
        self.look(thorough=False)

    def begin_round(self) -> None:
        """From now on until `end_round` main processes are asked about that have ended already: one look may do."""
        self._round = False

    def end_round(self) -> None:
        """Who is asked about may have ended this very moment."""
        self._round = None

    def members(self, process: ProcessId, mark: int) -> list[ProcessId]:
        """What lives of this tree beside its main process."""
        if not self._count(process, mark) and self._all_met() and not self._count(process, mark):
            return []  # nobody of it was ever seen: the usual end, and on the way of every restart
        # The known ones first, then a look: what they started before they were seen dead is there to be seen. Should
        # they all end meanwhile, only the next look is sure to know whether they left somebody.
        known = self._living(process, mark)
        return self._seek(process, mark) or known

    def kill(self, process: ProcessId, mark: int) -> None:
        """KILL all members, and those that they start meanwhile. Bounded: a tree that outruns us is killed again later.

        Who has KILL pending cannot fork any more, so a look that finds nobody new is the last. A tree that keeps
        forking is frozen first: as long as nobody ends, no slot of its pid limit becomes free for another.
        """
        hit: set[ProcessId] = set()
        frozen: list[ProcessId] = []
        until = self._clock.now() + _KILL_SECONDS
        for attempt in range(_KILL_ROUNDS):
            fresh = self._seek(process, mark, but=hit)
            if not fresh or self._clock.now() > until:
                break
            freeze = attempt >= _FREEZE_AFTER_ROUNDS
            for member in fresh:
                send(member, signal.SIGSTOP if freeze else signal.SIGKILL)
            hit.update(fresh)
            if freeze:
                frozen += fresh
        for member in frozen:
            send(member, signal.SIGKILL)

    def forget(self, process: ProcessId, mark: int) -> None:
        """The tree is empty."""
        self._kin.pop(mark, None)
        self._sessions.pop(process.pid, None)

    def look(self, *, thorough: bool = True) -> bool:
        """Learn of all processes that appeared since the last look; not `thorough`: of late ones a moment later.

        True when some had ended already: they may have started others, which are too young for this look.
        """
        now = self._clock.now()
        newest, tasks = self._last_given()
        if self._unborn and (thorough or now >= self._unborn_at):
            self._unborn_at = now + _UNBORN_INTERVAL_SECONDS
            for pid in self._still_unborn(now):
                self._meet(pid, now)
        missed = False
        numbers = self._given_since(newest, now)
        widest = min(max(tasks // _LISTED_FOR_ONE_ASKED, _NARROW_WINDOW), _WIDEST_WINDOW)
        if numbers is None or sum(map(len, numbers)) - len(self._started) > widest:
            missed = self._meet_listed(newest, now, numbers)
        else:
            mains, started = self._mains, self._started
            for pid in chain(*numbers):
                if pid not in mains and pid not in started and not self._meet(pid, now):
                    missed = True
        self._started.clear()
        self._newest, self._looked_at = newest, now
        return missed

    # ---- who is there ----

    def _all_met(self) -> bool:
        """Look, unless a look of this round met everybody: what ended before the round can have left nobody since."""
        if self._round:
            return True
        missed = self.look(thorough=False)
        if self._round is not None:
            self._round = not missed
        return not missed

    def _living(self, process: ProcessId, mark: int) -> list[ProcessId]:
        kin = self._kin.get(mark)
        mates = self._session(process)
        if not kin and not mates:
            return []
        found = {**mates, **(kin or {})}
        found.pop(process.pid, None)
        return [ProcessId(pid, start) for pid, start in found.items() if _lives(pid, start)]

    def _seek(self, process: ProcessId, mark: int, but: Container[ProcessId] = ()) -> list[ProcessId]:
        """Look for members other than these. A tree may run ahead of us, each member gone before it is met."""
        found: list[ProcessId] = []
        for _ in range(_PURSUIT_LOOKS):
            # What is not to be seen yet has a parent that was: where none was seen, there is no late one to wait for.
            before = self._count(process, mark)
            missed = self.look(thorough=before > 0)
            found = [member for member in self._living(process, mark) if member not in but]
            if found or not (missed or self._count(process, mark) > before):
                break  # met, or there was nobody to meet: not one that was met and is gone
        return found

    def _count(self, process: ProcessId, mark: int) -> int:
        return len(self._kin.get(mark, ())) + len(self._sessions.get(process.pid, ()))

    def _session(self, process: ProcessId) -> dict[int, int]:
        mates = self._sessions.get(process.pid)
        if not mates:
            return {}
        # While a session lives, its number is not given away. Has the leader's pid a new owner, these are his.
        leader = procfs.start_ticks(process.pid)
        return mates if leader in (None, process.start_ticks) else {}

    # ---- who is new ----

    def _last_given(self) -> tuple[int, int]:
        """The last number that the kernel gave away (0 when it does not say), and how many tasks there are."""
        if self._loadavg_fd < 0:
            return 0, 0
        try:
            *_, tasks, newest = os.pread(self._loadavg_fd, 128, 0).split()  # 0.10 0.12 0.09 1/139 31904
            return int(newest), int(tasks.split(b"/")[1])
        except (OSError, ValueError, IndexError):
            return 0, 0

    def _given_since(self, newest: int, now: float) -> Sequence[range] | None:
        """The numbers given away since the last look. None when that cannot be said."""
        before = self._newest
        if not before or not newest or not self._pid_max:
            return None
        if now - self._looked_at > self._pid_max / _PIDS_PER_SECOND:
            return None
        first, *more = numbers = [range(before + 1, newest + 1)]
        if newest < before:
            first, *more = numbers = [range(before + 1, self._pid_max), range(_FIRST_PID_OF_A_ROUND, newest + 1)]
        for pid in self._started:
            if pid not in first and not any(pid in part for part in more):
                return None
        return numbers

    def _meet_listed(self, newest: int, now: float, numbers: Sequence[range] | None) -> bool:
        """Ask those that are there; of them only who has one of these numbers, if that can be said."""
        present = procfs.pids()
        missed = False
        for pid in present:
            is_new = numbers is None or any(pid in part for part in numbers)
            if is_new and pid not in self._mains and not self._meet(pid, now):
                missed = True
        for pid in set(range(max(newest - 64, 1), newest + 1)) - set(present):
            self._unborn[pid] = now + _UNBORN_SECONDS
        for tree in (*self._kin.values(), *self._sessions.values()):
            _prune(tree)
        self._kin = {mark: tree for mark, tree in self._kin.items() if tree}
        self._sessions = {pid: tree for pid, tree in self._sessions.items() if tree}
        return missed

    def _still_unborn(self, now: float) -> list[int]:
        waiting = [pid for pid, until in self._unborn.items() if until > now]
        self._unborn = {pid: self._unborn[pid] for pid in waiting[-_UNBORN_LIMIT:]}
        return list(self._unborn)

    def _meet(self, pid: int, now: float) -> bool:
        """Ask a process for its birthmark, and write it down as a member of that tree. False when there is none."""
        mark = procfs.birthmark_of(pid)
        if mark is None:
            self._unborn.setdefault(pid, now + _UNBORN_SECONDS)
            return False
        self._unborn.pop(pid, None)
        if not mark and not self._marked:
            spawn_id = procfs.spawn_id_of(pid)
            mark = procfs.birthmark(spawn_id) if spawn_id else 0
        leader = 0 if mark else self._leader_of(pid)
        if not (mark or leader) or pid in self._mains or procfs.is_thread(pid):
            return True
        stat = procfs.read_stat(pid)
        if stat is None or not stat.alive:
            return False
        if mark and mark not in self._kin and len(self._kin) >= self._many:
            self._forget_others()
        tree = self._kin.setdefault(mark, {}) if mark else self._sessions.setdefault(leader, {})
        tree[pid] = stat.start_ticks
        if len(tree) % _PRUNE_AT == 0:
            _prune(tree)
        return True

    def _forget_others(self) -> None:
        """Of another controller's trees nobody says when they are empty. Asked again when there are twice as many."""
        ours = self._ours()
        for mark, tree in list(self._kin.items()):
            if mark not in ours:
                _prune(tree)
                if not tree:
                    del self._kin[mark]
        self._many = max(_FEW_TREES, 2 * len(self._kin))

    def _leader_of(self, pid: int) -> int:
        """The main process in whose session this one is, or 0."""
        try:
            leader = os.getsid(pid)
        except OSError:  # it went, or a security module does not let us see
            return 0
        return leader if leader in self._mains else 0


def send(process: ProcessId, number: int) -> bool:
    """Signal exactly this process. False when it is gone; one that we may not signal counts as there."""
    try:
        pidfd = os.pidfd_open(process.pid)
    except OSError:  # gone, or the pid is a thread of another now
        return False
    try:
        # Read after the open: if the start time fits now, the descriptor is of this process and of no later one.
        return _lives(process.pid, process.start_ticks) and by_pidfd(pidfd, number)
    finally:
        os.close(pidfd)


def _lives(pid: int, start: int) -> bool:
    stat = procfs.read_stat(pid)
    return stat is not None and stat.start_ticks == start and stat.alive


def _prune(tree: dict[int, int]) -> None:
    for pid, start in list(tree.items()):
        if not _lives(pid, start):
            del tree[pid]


def _open_loadavg() -> int:
    """Its last word is the last pid. -1 when a container shows another file in its place, with numbers of its host."""
    try:
        fd = os.open("/proc/loadavg", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1
    if os.fstat(fd).st_dev == os.stat("/proc").st_dev:
        return fd
    os.close(fd)
    return -1


def _first_word(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().split()[0]
    except (OSError, IndexError):
        return ""
