"""Why the client has no answer to work with: each with the exit code of the command line, and words that help."""

import os
from collections.abc import Sequence
from typing import Any

Json = dict[str, Any]


class ClientError(Exception):
    """Why there is no answer to work with; the command line ends with `exit_code`."""

    exit_code = 1


class NoController(ClientError):
    """Nobody listens at any of the places where a controller is looked for."""

    exit_code = 5

    def __init__(self, tried: Sequence[tuple[str, str]]) -> None:
        self.tried = tuple(tried)
        places = "".join(f"\n  {path}: {why}" for path, why in tried)
        super().__init__(
            f"no controller is running; looked for it at{places}\n"
            "start one with `reconciler run -f DIR` (or try one out with `reconciler up -f DIR`), or name its socket"
            " with --socket"
        )


class PermissionRefused(ClientError):
    """A controller's socket is there, and this user may not use it."""

    exit_code = 7

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(f"permission denied at {_visible_part(path)}: you are {_who_am_i()}")


class TimedOut(ClientError):
    """No whole answer came in time."""

    exit_code = 4


class ApiFailure(ClientError):
    """The controller refused, failed, or answered what cannot be read."""

    def __init__(self, exit_code: int, reason: str, message: str, problems: Sequence[Json] = ()) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.reason = reason
        self.message = message
        self.problems = tuple(problems)


def _visible_part(path: str) -> str:
    """The socket with mode and owner, or the folder on the way to it that is closed to us."""
    try:
        found = os.stat(path)
    except OSError:
        folder = os.path.dirname(path)
        if folder == path:
            return path
        try:
            found = os.stat(folder)
        except OSError:
            return _visible_part(folder)
        path = folder
    return f"{path} (mode {found.st_mode & 0o7777:04o}, owner {_user(found.st_uid)}:{_group(found.st_gid)})"


def _who_am_i() -> str:
    groups = ", ".join(_group(gid) for gid in sorted({os.getegid(), *os.getgroups()}))
    return f"{_user(os.geteuid())} (uid {os.geteuid()}, groups {groups})"


def _user(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group(gid: int) -> str:
    import grp

    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
