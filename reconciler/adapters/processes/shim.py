"""The exec shim: the command line that takes on another user, other limits, niceness or privileges, then becomes the
program.

It is a chain of small tools of every distribution, each of which changes one thing and execs the next: pid and start
time stay. What needs privileges comes first, giving them up comes last. Pure but for looking the tools up.
"""

import os

from reconciler.model.launch import Launch
from reconciler.ports import SpawnFailed

# The tools run before the user is changed, so they are not looked up where a manifest says.
_TOOL_DIRECTORIES = ("/usr/bin", "/bin", "/usr/sbin", "/sbin")
_PACKAGES = {"choom": "util-linux", "prlimit": "util-linux", "setpriv": "util-linux", "nice": "coreutils"}
_PACKAGES["env"] = "coreutils"

# What the dynamic loader and the C library obey would be obeyed by the tools too, with the controller's privileges:
# code of the user's choice would run as root. It is held back until the user is changed.
_LOADER_PREFIX = "LD_"
_LOADER_NAMES = frozenset({
    "GLIBC_TUNABLES", "GCONV_PATH", "GETCONF_DIR", "HOSTALIASES", "LOCALDOMAIN", "LOCPATH", "MALLOC_TRACE",
    "NIS_PATH", "NLSPATH", "RESOLV_HOST_CONF", "RES_OPTIONS",
})  # fmt: skip


def is_needed(launch: Launch) -> bool:
    """Whether this launch asks for anything that a plain spawn cannot give."""
    return bool(
        launch.credentials is not None
        or launch.limits
        or launch.nice
        or launch.oom_score_adjust is not None
        or launch.no_new_privileges
    )


def command(launch: Launch, env: dict[str, str], own_nice: int) -> tuple[tuple[str, ...], dict[str, str]]:
    """The arguments and the environment to spawn instead of the launch's own. Raises SpawnFailed without the tools.

    `own_nice` is the niceness of the controller: the tool adds, the launch says what shall come out.
    """
    stages: list[str] = []
    if launch.oom_score_adjust is not None:
        stages += [tool("choom", "oomScoreAdjust"), "-n", str(launch.oom_score_adjust), "--"]
    if launch.limits:
        stages += [tool("prlimit", "limits"), *map(_limit, launch.limits), "--"]
    if launch.nice and launch.nice != own_nice:
        stages += [tool("nice", "nice"), "-n", str(launch.nice - own_nice), "--"]
    held_back: list[str] = []
    if launch.credentials is not None:
        held_back = [f"{name}={value}" for name, value in env.items() if is_loader_variable(name)]
        env = {name: value for name, value in env.items() if not is_loader_variable(name)} if held_back else env
    if launch.credentials is not None or launch.no_new_privileges:
        stages += [tool("setpriv", "user" if launch.credentials else "noNewPrivileges"), *_privileges(launch), "--"]
    if held_back:
        stages += [tool("env", "user"), *held_back]
    return (*stages, *launch.argv), env


def entering(directory: str, command: str) -> tuple[str, ...]:
    """What to put before the arguments so that the new process enters its directory itself, and we need not."""
    env = tool("env", "workingDir")
    # It takes a command with a `=` for a variable, and as a part of busybox it enters no directory.
    if "=" in command or os.path.basename(os.path.realpath(env)) != "env":
        return ("/bin/sh", "-c", 'cd -- "$0" && exec "$@"', directory)
    return (env, "-C", directory)


def is_loader_variable(name: str) -> bool:
    """Whether this variable makes a program load or read what it names, before its first line runs."""
    return name.startswith(_LOADER_PREFIX) or name in _LOADER_NAMES


def tool(name: str, field: str) -> str:
    """Where a tool is. `field` of the manifest needs it."""
    for directory in _TOOL_DIRECTORIES:
        path = f"{directory}/{name}"
        if os.access(path, os.X_OK):
            return path
    raise SpawnFailed(f"{field}: needs the command `{name}` (Debian: apt install {_PACKAGES[name]})")


def _limit(limit: tuple[str, int, int]) -> str:
    name, soft, hard = limit
    return f"--{name.lower()}={_bound(soft)}:{_bound(hard)}"


def _bound(value: int) -> str:
    return "unlimited" if value < 0 else str(value)


def _privileges(launch: Launch) -> list[str]:
    options: list[str] = []
    if launch.credentials is not None:
        uid, gid, groups = launch.credentials
        options += [f"--reuid={uid}", f"--regid={gid}"]
        options += [f"--groups={','.join(map(str, groups))}"] if groups else ["--clear-groups"]
    if launch.no_new_privileges:
        options.append("--no-new-privs")
    return options
