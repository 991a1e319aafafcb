"""Who is at the other end of a Unix socket, and what that user may do.

The kernel says who connected; nothing that a client sends is believed. Root and the controller's own user may do
everything, members of the groups named in `access` of the Config what it grants them, all others nothing. Knows
nothing of HTTP.
"""

import grp
import os
import pwd
import socket
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple, Protocol

_SO_PEERGROUPS = 59  # asm-generic/socket.h; the interpreter has no name for it
_MOST_BYTES = 1024  # what getsockopt takes at most: 256 groups


class Level(IntEnum):
    """What a request needs, and what a user has. The higher includes the lower."""

    NONE = 0
    READ = 1
    OPERATE = 2


class Peer(NamedTuple):
    """The user at the other end, as they were when they connected."""

    pid: int
    uid: int
    gids: frozenset[int]

    def __str__(self) -> str:
        return (
            f"{user_name(self.uid)} (uid {self.uid}, groups {', '.join(group_name(gid) for gid in sorted(self.gids))})"
        )


class Socket(Protocol):
    """The part of a socket that tells about its other end."""

    @property
    def family(self) -> int: ...
    def getsockopt(self, level: int, option: int, length: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class AccessRules:
    """What whom is granted."""

    owner_uid: int = field(default_factory=os.geteuid)  # the controller's
    groups: Mapping[int, Level] = field(default_factory=dict)

    def level(self, peer: Peer | None) -> Level:
        """What this user may do. None: nobody knows who it is."""
        if peer is None:
            return Level.NONE
        if peer.uid in (0, self.owner_uid):
            return Level.OPERATE
        return max((self.groups.get(gid, Level.NONE) for gid in peer.gids), default=Level.NONE)

    def refusal(self, peer: Peer | None, needed: Level) -> str:
        """Why a request was refused: who you are, what it takes, and who has that."""
        you = f"you are {peer}" if peer else "the socket does not tell who you are"
        able = [user_name(0)] if self.owner_uid == 0 else [user_name(0), user_name(self.owner_uid)]
        able += [f"members of {group_name(gid)}" for gid, level in sorted(self.groups.items()) if level >= needed]
        wish = "change anything" if needed == Level.OPERATE else "read"
        return f"permission denied: {you}; who may {wish} here: {', '.join(able)}"


def peer_of(sock: Socket) -> Peer | None:
    """Who connected, or None when this is no Unix socket."""
    if sock.family != socket.AF_UNIX:
        return None
    pid, uid, gid = struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("iII")))
    return Peer(pid, uid, frozenset({gid, *_supplementary_groups(sock, uid, gid)}))


def _supplementary_groups(sock: Socket, uid: int, gid: int) -> Iterable[int]:
    try:
        data = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MOST_BYTES)
    except OSError:  # more groups than fit, or a kernel that does not tell
        try:
            return os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)
        except (KeyError, OSError):
            return ()
    return struct.unpack(f"{len(data) // 4}I", data)


def user_name(uid: int) -> str:
    """The user's name, or the number of one without."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_name(gid: int) -> str:
    """The group's name, or the number of one without."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
