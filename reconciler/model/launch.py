"""How one process is started: everything the process table needs to know, nothing that it would have to decide."""

from dataclasses import dataclass
from typing import NamedTuple


class Credentials(NamedTuple):
    """The ids a process gets. `None` in `Launch.credentials` means: those of the controller."""

    uid: int
    gid: int
    groups: tuple[int, ...]


NOBODY = Credentials(65534, 65534, ())


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Launch:
    """One process to be, fully expanded: no `$(NAME)`, no relative path, no name of a user is left in it."""

    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: str
    umask: int = 0o022
    credentials: Credentials | None = None
    nice: int = 0
    limits: tuple[tuple[str, int, int], ...] = ()  # (name as in setrlimit without RLIMIT_, soft, hard); -1: unlimited
    cpu_affinity: tuple[int, ...] = ()
    oom_score_adjust: int | None = None
    no_new_privileges: bool = False
    stop_signal: int = 15
    stop_scope: str = "process"  # process, group or tree
    stdout: str | None = None  # path of a FIFO (opened for this spawn); None: /dev/null
    stderr: str | None = None  # the same; equal to stdout: merged
