"""Why a command cannot be started, in the words of a shell.

`explain` reads an error that the kernel gave. `refusal` foresees the errors of a launch that goes through the exec
shim, where the kernel would only tell the shim: it looks at the files as the target user would be allowed to. Where
that cannot be known without being that user (access control lists, network file systems), it refuses nothing.
"""

import errno
import os
import resource
import stat
from collections.abc import Iterator
from typing import NamedTuple

from reconciler.model.launch import Credentials, Launch

_FORK_ERRORS = {
    errno.EAGAIN: "Resource temporarily unavailable",
    errno.ENOMEM: "Cannot allocate memory",
    errno.EMFILE: "Too many open files",
    errno.ENFILE: "Too many open files in system",
}
_READ, _EXECUTE = 4, 1


class Powers(NamedTuple):
    """What the controller itself may do."""

    own: Credentials
    set_user: bool  # CAP_SETUID and CAP_SETGID
    raise_limits: bool  # CAP_SYS_RESOURCE
    raise_priority: bool  # CAP_SYS_NICE


def own_powers() -> Powers:
    """The capabilities that this process has in effect."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        bits = next((int(line.split()[1], 16) for line in file if line.startswith("CapEff:")), 0)
    return Powers(
        own=Credentials(os.geteuid(), os.getegid(), tuple(os.getgroups())),
        set_user=bool(bits >> 6 & bits >> 7 & 1),
        raise_limits=bool(bits >> 24 & 1),
        raise_priority=bool(bits >> 23 & 1),
    )


# ---- after the fact ----


def cannot_enter(directory: str, error: OSError) -> str:
    """The working directory is refused."""
    return f"cannot enter {directory}: {os.strerror(error.errno or 0)}"


def explain(error: OSError, launch: Launch, path: str | None) -> str:
    """What posix_spawn's error means. `path` is what the command was resolved to; runs in the working directory."""
    number = error.errno or 0
    if number in _FORK_ERRORS:
        return f"cannot fork: {_FORK_ERRORS[number]}"
    for stream in (launch.stdout, launch.stderr):
        if stream is not None and not os.path.exists(stream):
            return f"cannot open the log pipe {stream}: No such file or directory"
    name = launch.argv[0]
    if path is None:
        return not_found(name, launch.env)
    if number == errno.ENOENT:
        return _missing(name, path)
    if number == errno.EACCES and os.path.isdir(path):
        return f"{name}: Is a directory"
    if number == errno.ENOEXEC:
        return f"{name}: Exec format error (no interpreter line `#!` and no binary of this machine)"
    return f"{name}: {os.strerror(number)}"


def not_found(name: str, env: dict[str, str]) -> str:
    """No executable of this name was found: what a shell says when nothing, or something else, has the name."""
    if "/" in name:
        return f"{name}: No such file or directory"
    return (
        f"{name}: Permission denied"
        if any(map(os.path.isfile, candidates(name, env)))
        else f"{name}: command not found"
    )


def candidates(name: str, env: dict[str, str]) -> Iterator[str]:
    """Where a command of this name is looked for, in order."""
    if "/" in name:
        yield name
        return
    for directory in env.get("PATH", os.defpath).split(":"):
        yield f"{directory or '.'}/{name}"


def resolve(name: str, env: dict[str, str]) -> str | None:
    """The file that a shell would run. Relative ones mean the working directory, which must be the current one."""
    if "/" in name:
        return name
    for path in candidates(name, env):
        if os.access(path, os.X_OK) and not os.path.isdir(path):
            return path
    return None


def interpreter(path: str) -> str | None:
    """The program in the `#!` line of a script. None for anything else."""
    try:
        with open(path, "rb") as file:
            line = file.read(256)
    except OSError:
        return None
    words = line[2:].split(b"\n", 1)[0].split() if line.startswith(b"#!") else []
    return os.fsdecode(words[0]) if words else None


def _missing(name: str, path: str) -> str:
    if not os.path.exists(path):
        return f"{name}: No such file or directory"
    program = interpreter(path)
    if program is not None:
        return f"{name}: bad interpreter {program}: No such file or directory"
    return f"{name}: cannot execute: the loader that it needs is missing"


# ---- before the fact ----


def refusal(launch: Launch, powers: Powers, own_nice: int) -> str | None:
    """Why the exec shim would fail, or None. Runs in the working directory."""
    credentials = launch.credentials
    if credentials is not None and not powers.set_user:
        return f"user: cannot become uid {credentials.uid}, gid {credentials.gid}: not started as root"
    if launch.nice < own_nice and launch.nice and not powers.raise_priority and launch.nice < _best_nice():
        return f"nice {launch.nice}: Permission denied"
    return (
        _limits_refusal(launch, powers)
        or _oom_refusal(launch, powers)
        or _file_refusal(launch, credentials or powers.own)
    )


def _best_nice() -> int:
    limit = resource.getrlimit(resource.RLIMIT_NICE)[0]
    return 20 - limit if 0 <= limit <= 40 else -20


def _limits_refusal(launch: Launch, powers: Powers) -> str | None:
    for name, soft, hard in launch.limits:
        number = getattr(resource, f"RLIMIT_{name.upper()}", None)
        if number is None:
            return f"limits.{name}: no such limit"
        if hard != -1 and (soft == -1 or soft > hard):
            return f"limits.{name}: the soft limit is above the hard one"
        ours = resource.getrlimit(number)[1]
        if ours != resource.RLIM_INFINITY and (hard == -1 or hard > ours) and not powers.raise_limits:
            return f"limits.{name}: above the hard limit {ours} that reconciler has itself: Operation not permitted"
    return None


def _oom_refusal(launch: Launch, powers: Powers) -> str | None:
    wanted = launch.oom_score_adjust
    if wanted is None or powers.raise_limits:
        return None
    with open("/proc/self/oom_score_adj", encoding="ascii") as file:
        own = int(file.read())
    return f"oomScoreAdjust {wanted}: Permission denied (it is {own} for reconciler itself)" if wanted < own else None


def _file_refusal(launch: Launch, who: Credentials) -> str | None:
    if not may(launch.cwd, _EXECUTE, who):
        return f"cannot enter {launch.cwd}: Permission denied"
    name = launch.argv[0]
    if "/" in name and not os.path.exists(name):
        return f"{name}: No such file or directory"
    found = [path for path in candidates(name, launch.env) if os.path.isfile(path)]
    if not found:
        return f"{name}: Is a directory" if "/" in name and os.path.isdir(name) else not_found(name, launch.env)
    path = next((path for path in found if may(path, _EXECUTE, who)), None)
    if path is None:
        return f"{name}: Permission denied"
    program = interpreter(path)
    if program is None:
        return None
    if not os.path.exists(program):
        return f"{name}: bad interpreter {program}: No such file or directory"
    if not may(path, _READ, who):  # the interpreter has to read it
        return f"{name}: Permission denied"
    return None if may(program, _EXECUTE, who) else f"{name}: bad interpreter {program}: Permission denied"


def may(path: str, wanted: int, who: Credentials) -> bool:
    """Whether this user may do this with the file, and pass all directories before it. True when it cannot be told."""
    real = os.path.realpath(path)
    parts = real.split("/")
    directories = ["/".join(parts[:count]) or "/" for count in range(1, len(parts))]
    return all(_bits_allow(directory, _EXECUTE, who) for directory in directories) and _bits_allow(real, wanted, who)


def _bits_allow(path: str, wanted: int, who: Credentials) -> bool:
    try:
        info = os.stat(path)
        if "system.posix_acl_access" in os.listxattr(path):
            return True
    except OSError:  # the file system knows better than we do
        return True
    if who.uid == 0:
        return wanted == _READ or stat.S_ISDIR(info.st_mode) or bool(info.st_mode & 0o111)
    shift = 6 if info.st_uid == who.uid else 3 if info.st_gid in (who.gid, *who.groups) else 0
    return bool(info.st_mode >> shift & wanted)
