"""Users and groups: from the names in a spec to the ids that a process gets.

Asking can be slow (LDAP), so answers are remembered for a few seconds, refusals too. A user who cannot be found is
refused and nothing else: falling back to the controller's user would mean root.
"""

import difflib
import grp
import os
import pwd
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from reconciler.core.launching import Account
from reconciler.hostfiles import Refused, reason
from reconciler.model.launch import Credentials

REMEMBERED_SECONDS = 5.0
MOST_REMEMBERED = 1000
_HIGHEST_ID = 2**32 - 2  # the one above means "leave as it is" to the kernel: setuid(-1)
_CAP_SETGID, _CAP_SETUID = 6, 7


class Identity(NamedTuple):
    """Who a process is. Credentials None: the same ids as the controller's."""

    account: Account
    credentials: Credentials | None


class Accounts:
    """Answers who is who."""

    def __init__(self, *, now: Callable[[], float] = time.monotonic, may_become_others: bool | None = None) -> None:
        """`may_become_others`: whether the controller may change ids; read from its capabilities unless given."""
        self._now = now
        self._may_become_others = _has_capabilities() if may_become_others is None else may_become_others
        self.remembered: dict[object, tuple[float, Identity | Refused]] = {}

    def controller(self) -> Account:
        """The account that the controller itself runs as."""
        return _account(os.geteuid())

    def identity(self, user: str | None, group: str | None, supplementary: Sequence[str]) -> Identity:
        """The ids for what a spec says; whatever it leaves out is the user's own. Raises Refused."""
        key = (user, group, tuple(supplementary))
        until, answer = self.remembered.get(key, (0.0, None))
        if answer is None or self._now() >= until:
            try:
                answer = self._identity(user, group, supplementary)
            except Refused as refusal:
                answer = refusal
            if len(self.remembered) >= MOST_REMEMBERED:
                self.remembered.clear()
            self.remembered[key] = (self._now() + REMEMBERED_SECONDS, answer)
        if isinstance(answer, Refused):
            raise Refused(*answer.args)
        return answer

    def _identity(self, user: str | None, group: str | None, supplementary: Sequence[str]) -> Identity:
        entry = _user(user) if user else None
        account = _as_account(entry, user) if user else self.controller()
        if group:
            gid = _group(group)
        elif entry:
            gid = entry.pw_gid
        elif user:
            raise Refused(f"user {user} has no entry in passwd, so its group is not known: write `group` too")
        else:
            gid = os.getegid()
        groups = {_group(name) for name in supplementary}
        groups.update(_groups_of(account, gid, entry) if user else {*os.getgroups(), gid})
        wanted = Credentials(account.uid, gid, tuple(sorted(groups)))
        if self._is_own(wanted, strict_groups=bool(supplementary)):
            return Identity(account, None)
        if not self._may_become_others:
            own = self.controller()
            raise Refused(
                f'the controller runs as "{own.name}" without the right to change ids: '
                f'it cannot start processes as user "{account.name}" with group {gid}'
            )
        return Identity(account, wanted)

    def _is_own(self, wanted: Credentials, *, strict_groups: bool) -> bool:
        if (wanted.uid, wanted.gid) != (os.geteuid(), os.getegid()):
            return False
        # Who may not change ids keeps the groups of the login, even if the user was put into another one since.
        if not self._may_become_others and not strict_groups:
            return True
        return set(wanted.groups) == {*os.getgroups(), wanted.gid}


def _user(user: str) -> pwd.struct_passwd | None:
    """The passwd entry; None for a number without one."""
    try:
        if _is_number(user):
            return pwd.getpwuid(_checked_id("user", user))
        return pwd.getpwnam(user)
    except KeyError:
        if _is_number(user):
            return None
        raise Refused(f'user "{user}" does not exist{_nearest(user, "/etc/passwd")}') from None
    except (OSError, ValueError) as error:
        raise Refused(f'user "{user}" cannot be looked up: {reason(error)}') from None


def _group(group: str) -> int:
    if _is_number(group):
        return _checked_id("group", group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise Refused(f'group "{group}" does not exist{_nearest(group, "/etc/group")}') from None
    except (OSError, ValueError) as error:
        raise Refused(f'group "{group}" cannot be looked up: {reason(error)}') from None


def _groups_of(account: Account, gid: int, entry: pwd.struct_passwd | None) -> set[int]:
    if entry is None:
        return {gid}
    try:
        return set(os.getgrouplist(account.name, gid))
    except (OSError, ValueError) as error:
        raise Refused(f'the groups of user "{account.name}" cannot be looked up: {reason(error)}') from None


def _account(uid: int) -> Account:
    try:
        return _as_account(pwd.getpwuid(uid), str(uid))
    except (KeyError, OSError):  # a container may run as any number
        return _as_account(None, str(uid))


def _as_account(entry: pwd.struct_passwd | None, user: str) -> Account:
    if entry is None:
        return Account(user, int(user), "/", "/bin/sh")
    return Account(entry.pw_name, entry.pw_uid, entry.pw_dir or "/", entry.pw_shell or "/bin/sh")


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit()


def _checked_id(what: str, number: str) -> int:
    if int(number) > _HIGHEST_ID:
        raise Refused(f"{what} {number} is not an id: the highest is {_HIGHEST_ID}")
    return int(number)


def _nearest(name: str, database: str) -> str:
    """A hint for a mistyped name, from the local file only: listing a directory service could take minutes."""
    try:
        with open(database, encoding="utf-8", errors="replace") as lines:
            names = [line.partition(":")[0] for line in lines]
    except OSError:
        return ""
    nearest = difflib.get_close_matches(name, names, n=1)
    return f" (nearest: {nearest[0]})" if nearest else ""


def _has_capabilities() -> bool:
    """Whether this process may change its ids: root in a container often may not, and others may."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as lines:
            effective = next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return os.geteuid() == 0
    needed = 1 << _CAP_SETGID | 1 << _CAP_SETUID
    return effective & needed == needed
