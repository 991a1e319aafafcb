"""What `up` shows of the processes' output."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from reconciler.cli import following
from reconciler.cli.following import WAITING_LINES, Following
from reconciler.client import ClientError


class Logs:
    """Stands in for the client: what each Program's log stream yields, one list of chunks per time it is asked."""

    streams: dict[str, list[list[bytes]]]

    def __init__(self, sockets: list[str], timeout_seconds: float) -> None:
        pass

    def logs(self, name: str, **asked: Any) -> Iterator[bytes]:
        if not self.streams[name]:
            raise ClientError("the controller is away")
        yield from self.streams[name].pop(0)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(following, "Client", Logs)
    monkeypatch.setattr(following, "AGAIN_SECONDS", 0.01)
    watched = Following(["/nowhere"])

    def shown(streams: dict[str, list[list[bytes]]], count: int) -> list[str]:
        Logs.streams = streams
        watched.programs(streams)
        watched.programs(streams)  # asked again and again while they are there
        lines: list[str] = []
        until = time.monotonic() + 10
        while len(lines) < count and time.monotonic() < until:
            lines += watched.lines()
            time.sleep(0.01)
        return lines

    yield shown
    watched.stop()


def test_lines_are_told_apart_by_program_and_replica(shown: Any) -> None:
    lines = shown({"web": [[b"[web/0] hello\n[web/1] good"], []], "mail": [[b"[mail/0] sent\n"]]}, 2)
    assert sorted(lines) == ["mail/0 | sent", "web/0 | hello"]


def test_a_line_that_comes_in_pieces_is_one_line(shown: Any) -> None:
    assert shown({"web": [[b"[web/0] he", b"llo\n"]]}, 1) == ["web/0 | hello"]


def test_a_controller_that_was_replaced_is_asked_again(shown: Any) -> None:
    assert shown({"web": [[b"[web/0] one\n"], [b"[web/0] two\n"]]}, 2) == ["web/0 | one", "web/0 | two"]


def test_output_cannot_play_with_the_terminal(shown: Any) -> None:
    (line,) = shown({"web": [[b"[web/0] \x1b[2Jgone\xff\n"]]}, 1)
    assert "\x1b" not in line


def test_a_flood_is_cut_and_never_piles_up(shown: Any) -> None:
    flood = b"[web/0] x\n" * (WAITING_LINES * 2)
    assert WAITING_LINES // 2 <= len(shown({"web": [[flood]]}, WAITING_LINES // 2)) <= WAITING_LINES * 2
