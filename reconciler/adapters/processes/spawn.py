"""Starts one process: the hot path of the whole, so nothing is computed here that need not be.

posix_spawn suspends us until the exec and copies no memory; what it cannot set (directory, umask, affinity, soft
limits) is set on ourselves around it and put back. That is why spawns come from one thread, and why the controller
uses absolute paths only. What is started again and again is kept in the form that posix_spawn takes (`prepared`).
Where a directory or a command is on a file system that may hang, the new process goes there by itself: then it is the
one that waits.
"""

import os
import resource
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace

from reconciler.adapters.processes import procfs, reasons, shim
from reconciler.adapters.processes.prepared import FileAction, PreparedLaunches, is_supported
from reconciler.adapters.processes.priority import nice_of_processes
from reconciler.hostmounts import SILENT, Mounts
from reconciler.model.launch import Credentials, Launch
from reconciler.model.state import NEVER
from reconciler.ports import SpawnFailed

# Python ignores SIGPIPE and SIGXFSZ, whoever started us may ignore SIGHUP or SIGINT, and an ignored signal stays so
# over exec. Handlers need no care, the kernel drops them.
_DEFAULT_SIGNALS = tuple(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
_RESOLVED_SECONDS = 1.0
_RESOLVED_LIMIT = 1024
_HOME = "/"  # where the controller is between spawns: it keeps nobody's file system busy

SoftLimit = tuple[int, tuple[int, int], tuple[int, int]]  # number, what a process gets, what we have


class Spawner:
    """Turns a Launch into a running process. Keeps what is the same for all."""

    def __init__(
        self, boot_limits: Mapping[str, tuple[int, int]], *, marked: bool, mounts: Mounts | None = None
    ) -> None:
        self._mounts, self._shares_mounts = mounts or Mounts(), mounts is not None
        _keep_descriptors_to_ourselves()
        self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self._umask = os.umask(0o022)
        os.umask(self._umask)
        self._soft_limits = _soft_limits(boot_limits)
        numbers = [theirs[0] for number, theirs, _ in self._soft_limits if number == resource.RLIMIT_NOFILE]
        # The C library takes no descriptor above the soft limit, and that one is lowered around the spawn.
        self._null_is_low = not numbers or not 0 <= numbers[0] <= self._null
        self._marked = marked
        self._powers = reasons.own_powers()
        self._resolved: dict[tuple[str, str], tuple[str, float]] = {}  # (name, PATH) -> file, until when
        self._nice = nice_of_processes()
        self._prepared = PreparedLaunches(_DEFAULT_SIGNALS) if is_supported() else None

    def close(self) -> None:
        """Let the descriptor go."""
        if self._null >= 0:
            os.close(self._null)
            self._null = -1
        if not self._shares_mounts:
            self._mounts.close()

    def spawn(self, launch: Launch, spawn_id: str, mark: int, now: float) -> int:
        """Start the process and return its pid. It is a session leader, and ours to reap. Raises SpawnFailed."""
        mark = mark if self._marked else 0
        all_solid = self._mounts.all_solid
        if all_solid and (pid := self._start_prepared(launch, spawn_id, mark, now)):
            return pid
        env = launch.env.copy()
        env[procfs.SPAWN_ID] = spawn_id
        if not all_solid and not self._is_solid(launch, env):
            return self._start_from_here(launch, env, mark)
        try:
            os.chdir(launch.cwd)
        except OSError as error:
            raise SpawnFailed(reasons.cannot_enter(launch.cwd, error)) from None
        except ValueError as error:
            raise SpawnFailed(f"cannot enter {launch.cwd!r}: {error}") from None
        try:
            return self._start(launch, env, mark, now)
        except ValueError as error:  # a NUL byte in an argument, an illegal name in the environment
            raise SpawnFailed(f"{launch.argv[0]!r}: {error}") from None
        finally:
            os.chdir(_HOME)

    def _start_prepared(self, launch: Launch, spawn_id: str, mark: int, now: float) -> int:
        """Start what is prepared. 0: it is not, or something is in the way, which the long way will find, too."""
        if self._prepared is None or (prepared := self._prepared.get(launch, now)) is None:
            return 0
        prepared.name(spawn_id)
        pid = self._spawn(launch, mark, prepared.start)
        if not pid:
            self._prepared.forget(launch)
            self._resolved.clear()
        return pid

    def _is_solid(self, launch: Launch, env: dict[str, str]) -> bool:
        """Whether we may go there and exec ourselves. Raises SpawnFailed where nobody should."""
        command = launch.argv[0]
        searched = [each for each in env.get("PATH", os.defpath).split(":") if each.startswith("/")]
        paths = [launch.cwd, *([os.path.join(launch.cwd, command)] if "/" in command else searched)]
        feared = [path for path in paths if self._mounts.place(path)]
        for path in feared:
            if not self._mounts.answers(path):
                raise SpawnFailed(f"{path}: {SILENT}")
        return not feared

    def _start_from_here(self, launch: Launch, env: dict[str, str], mark: int) -> int:
        """Start what goes there by itself. That it cannot be run is seen by its exit, then, and not foreseen."""
        launch, argv = self._without_change(launch), launch.argv
        if shim.is_needed(launch):
            argv, env = shim.command(launch, env, self._nice)
        argv = (*shim.entering(launch.cwd, argv[0]), *argv)
        actions = self._file_actions(launch.stdout, launch.stderr)
        try:
            return self._spawn(launch, mark, lambda: self._call(argv[0], argv, env, actions))
        except ValueError as error:
            raise SpawnFailed(f"{launch.argv[0]!r}: {error}") from None
        except OSError as error:
            raise SpawnFailed(reasons.explain(error, launch, argv[0])) from None

    def _without_change(self, launch: Launch) -> Launch:
        """Where the process is to be who we are, there is nothing to change, and only root could."""
        if launch.credentials is not None and same_user(launch.credentials, self._powers.own):
            return replace(launch, credentials=None)
        return launch

    def _start(self, launch: Launch, env: dict[str, str], mark: int, now: float) -> int:
        asked, launch, argv = launch, self._without_change(launch), launch.argv
        is_plain = not shim.is_needed(launch)
        if not is_plain:
            refusal = reasons.refusal(launch, self._powers, self._nice)
            if refusal is not None:
                raise SpawnFailed(refusal)
            argv, env = shim.command(launch, env, self._nice)
        path, until = (argv[0], NEVER) if "/" in argv[0] else self._resolve(argv[0], env, now)
        if path is None:
            raise SpawnFailed(reasons.not_found(argv[0], env))
        actions = self._file_actions(launch.stdout, launch.stderr)
        try:
            pid = self._spawn(launch, mark, lambda: self._call(path, argv, env, actions))
        except OSError as error:
            self._resolved.clear()
            raise SpawnFailed(reasons.explain(error, launch, path)) from None
        if is_plain and until > now and self._prepared is not None:
            self._prepared.started(asked, path, env, actions, until)
        return pid

    def _resolve(self, name: str, env: dict[str, str], now: float) -> tuple[str | None, float]:
        """What `name` means in that PATH, and until when that holds: for a moment, since most programs respawn."""
        directories = env.get("PATH", os.defpath)
        path, until = self._resolved.get((name, directories), ("", 0.0))
        if now < until:
            return path, until
        found, until = reasons.resolve(name, env), 0.0
        if found is not None and found.startswith("/"):  # otherwise it depends on the working directory
            if len(self._resolved) >= _RESOLVED_LIMIT:
                self._resolved.clear()
            until = now + _RESOLVED_SECONDS
            self._resolved[name, directories] = (found, until)
        return found, until

    def _call(self, path: str, argv: tuple[str, ...], env: dict[str, str], actions: tuple[FileAction, ...]) -> int:
        return os.posix_spawn(
            path, argv, env, file_actions=actions, setsid=True, setsigmask=(), setsigdef=_DEFAULT_SIGNALS
        )

    def _spawn(self, launch: Launch, mark: int, start: Callable[[], int]) -> int:
        """Be for a moment what the new process is to be, and start it."""
        affinity: set[int] | None = None
        umask = launch.umask
        try:
            if launch.cpu_affinity:
                affinity = os.sched_getaffinity(0)
                _set_affinity(launch.cpu_affinity)
            if umask != self._umask:
                os.umask(umask)
            if mark:
                resource.setrlimit(procfs.MARK, (mark, resource.RLIM_INFINITY))
            for number, theirs, _ in self._soft_limits:
                resource.setrlimit(number, theirs)
            return start()
        finally:
            for number, _, ours in self._soft_limits:
                resource.setrlimit(number, ours)
            if mark:
                resource.setrlimit(procfs.MARK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            if umask != self._umask:
                os.umask(self._umask)
            if affinity is not None:
                os.sched_setaffinity(0, affinity)

    def _file_actions(self, stdout: str | None, stderr: str | None) -> tuple[FileAction, ...]:
        """Standard input is empty. A FIFO is opened by the new process itself: an open description of its own,
        so that nobody's O_NONBLOCK is his, and for both ways, so that he never sees SIGPIPE."""
        return (
            self._stream(0, None),
            self._stream(1, stdout),
            (os.POSIX_SPAWN_DUP2, 1, 2) if stdout == stderr else self._stream(2, stderr),
        )

    def _stream(self, number: int, target: str | None) -> FileAction:
        if target is None:
            if self._null_is_low:
                return (os.POSIX_SPAWN_DUP2, self._null, number)
            target = os.devnull
        return (os.POSIX_SPAWN_OPEN, number, target, os.O_RDWR | os.O_NOCTTY, 0)


def same_user(one: Credentials, other: Credentials) -> bool:
    """Whether these ids give the same rights. The group may stand among the supplementary ones or not."""
    return one[:2] == other[:2] and {one.gid, *one.groups} == {other.gid, *other.groups}


def _keep_descriptors_to_ourselves() -> None:
    """What Python opens closes at an exec. What we were started with does not, and posix_spawn closes nothing."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            try:
                os.set_inheritable(int(name), False)
            except OSError:
                pass  # the descriptor of the listing itself


def _soft_limits(boot_limits: Mapping[str, tuple[int, int]]) -> tuple[SoftLimit, ...]:
    """The limits whose soft value the controller changed for itself since boot. The hard ones nobody gets back."""
    changed: list[SoftLimit] = []
    for name, (soft, _) in boot_limits.items():
        number = getattr(resource, f"RLIMIT_{name.upper()}")
        ours = resource.getrlimit(number)
        if soft != ours[0]:
            changed.append((number, (soft, ours[1]), ours))
    return tuple(changed)


def _set_affinity(cpus: tuple[int, ...]) -> None:
    try:
        os.sched_setaffinity(0, cpus)
    except (OSError, ValueError) as error:
        listed = ",".join(map(str, cpus))
        raise SpawnFailed(f"cpuAffinity {listed}: {error.strerror if isinstance(error, OSError) else error}") from None
