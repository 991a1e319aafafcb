"""Who is at the other end of a socket, and what that user may do."""

import os
import socket

import pytest

from reconciler.server.access import AccessRules, Level, Peer, peer_of

RULES = AccessRules(owner_uid=987100, groups={987050: Level.READ, 987060: Level.OPERATE})


@pytest.mark.parametrize(
    ("peer", "level"),
    [
        (Peer(1, 0, frozenset({0})), Level.OPERATE),
        (Peer(1, 987100, frozenset({987100})), Level.OPERATE),
        (Peer(1, 987101, frozenset({987101})), Level.NONE),
        (Peer(1, 987101, frozenset({987101, 987050})), Level.READ),
        (Peer(1, 987101, frozenset({987050, 987060})), Level.OPERATE),
        (None, Level.NONE),
    ],
)
def test_root_and_the_owner_may_everything_and_groups_what_they_are_granted(peer: Peer | None, level: Level) -> None:
    assert RULES.level(peer) is level


def test_a_refusal_says_who_you_are_and_who_may() -> None:
    said = RULES.refusal(Peer(1, 987471, frozenset({987472})), Level.OPERATE)
    assert "you are 987471 (uid 987471, groups 987472)" in said
    assert "root, 987100, members of 987060" in said
    assert "987050" not in said.rpartition("here:")[2]


def test_the_refusal_of_a_socket_that_tells_nothing_says_so() -> None:
    assert "does not tell who you are" in RULES.refusal(None, Level.READ)


def test_the_kernel_tells_who_connected_with_all_groups() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert peer_of(ours) == Peer(os.getpid(), os.geteuid(), frozenset({os.getegid(), *os.getgroups()}))


class Stubborn:
    """A socket of a kernel that does not tell the groups."""

    family = socket.AF_UNIX

    def __init__(self, credentials: bytes) -> None:
        self._credentials = credentials

    def getsockopt(self, level: int, option: int, length: int, /) -> bytes:
        if option == socket.SO_PEERCRED:
            return self._credentials
        raise OSError("no such option")


def test_groups_come_from_the_user_database_when_the_kernel_does_not_tell() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        credentials = ours.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    peer = peer_of(Stubborn(credentials))
    assert peer is not None
    assert os.getegid() in peer.gids


def test_a_user_without_a_name_has_the_group_it_connected_with() -> None:
    nobody_known = (4711).to_bytes(4, "little") + (987654).to_bytes(4, "little") + (987655).to_bytes(4, "little")
    assert peer_of(Stubborn(nobody_known)) == Peer(4711, 987654, frozenset({987655}))


def test_nobody_is_known_at_the_end_of_a_network_socket() -> None:
    with socket.socket(socket.AF_INET) as sock:
        assert peer_of(sock) is None
