"""What the `laravel` trigger makes of redis beyond the contract of drivers: ages, prefixes, what it asks how often."""

import json
import time
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from reconciler.adapters.queues.laravel import redislists
from reconciler.ports import QueueReader
from support.queue_fixtures import Start
from support.queue_rigs import LaravelRig, failure, read, reader
from support.servers import Redis

pytestmark = pytest.mark.debian("redis-server")


@pytest.fixture
def laravel(shared: Start) -> LaravelRig:
    return LaravelRig(shared(Redis))


@pytest.fixture
def looks(laravel: LaravelRig, name: str) -> Iterator[QueueReader]:
    """A reader of the queue."""
    opened = reader("laravel", laravel.metadata(name))
    yield opened
    opened.close()


def push(laravel: LaravelRig, name: str, payload: bytes | dict[str, Any]) -> None:
    text = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    laravel.server.say("RPUSH", laravel.key(name), text)


class TestAge:
    @pytest.mark.parametrize(
        "said",
        [{"createdAt": 100}, {"pushedAt": 100}, {"createdAt": 5, "pushedAt": 100}, {"createdAt": 100, "attempts": 0}],
    )
    def test_is_what_the_payload_says(self, laravel: LaravelRig, looks: QueueReader, name: str, said: Any) -> None:
        """`createdAt` of Laravel 12.11 and later; Horizon's `pushedAt` is a text with a fraction."""
        moments = {"createdAt": int, "pushedAt": lambda at: f"{at:.4f}"}
        payload = {key: moments[key](laravel.now() - ago) if key in moments else ago for key, ago in said.items()}
        push(laravel, name, {"uuid": "x", **payload})
        assert looks.read().oldest_seconds == pytest.approx(100, abs=5)

    @pytest.mark.parametrize(
        "payload",
        [
            {"createdAt": 1000, "attempts": 1},
            {"createdAt": 1000, "delay": 60},
            {"uuid": "x"},
            [1],
            "text",
            {"createdAt": "yesterday"},
            {"createdAt": 99999999999999},
            zlib.compress(b'{"createdAt": 1000}'),
            b"[" * 100_000,
        ],
    )
    def test_is_how_long_we_have_seen_it_where_the_payload_does_not_say(
        self, laravel: LaravelRig, looks: QueueReader, name: str, payload: Any
    ) -> None:
        """What was given back or delayed was created long before it began to wait."""
        push(laravel, name, payload if isinstance(payload, bytes) else json.dumps(payload).encode())
        before = time.monotonic()
        assert looks.read().oldest_seconds == 0.0
        while (seen := looks.read().oldest_seconds or 0.0) < 0.05:
            assert time.monotonic() < before + 30
        assert seen <= time.monotonic() - before

    def test_begins_anew_with_another_one_at_the_head(self, laravel: LaravelRig, looks: QueueReader, name: str) -> None:
        push(laravel, name, {"uuid": "1", "createdAt": laravel.now() - 100})
        push(laravel, name, {"uuid": "2"})
        assert (looks.read().oldest_seconds or 0) > 90
        laravel.server.say("LPOP", laravel.key(name))
        assert looks.read().oldest_seconds == pytest.approx(0, abs=5)
        laravel.server.say("LPOP", laravel.key(name))
        assert looks.read().oldest_seconds is None

    def test_of_what_is_due_and_of_what_was_not_finished(
        self, laravel: LaravelRig, looks: QueueReader, name: str
    ) -> None:
        laravel.server.say("ZADD", f"{laravel.key(name)}:delayed", laravel.now() - 50, "due")
        laravel.server.say("ZADD", f"{laravel.key(name)}:delayed", laravel.now() + 500, "to come")
        found = looks.read()
        assert (found.waiting, found.delayed) == (1, 1)
        assert found.oldest_seconds == pytest.approx(50, abs=5)
        assert found.next_due_seconds == pytest.approx(500, abs=5)
        laravel.server.say("ZADD", f"{laravel.key(name)}:reserved", laravel.now() - 80, "expired")
        laravel.server.say("ZADD", f"{laravel.key(name)}:reserved", laravel.now() + 80, "in work")
        found = looks.read()
        assert (found.waiting, found.reserved) == (2, 1)
        assert found.oldest_seconds == pytest.approx(80, abs=5)
        assert "2 waiting (1 of them due, still in :delayed) (1 taken more than 90 s ago, not finished)" in found.found


def calls(laravel: LaravelRig, command: str) -> int:
    """How often the server was told so."""
    lines = laravel.server.say("INFO", "commandstats").decode().splitlines()
    found = [line for line in lines if line.startswith(f"cmdstat_{command}:")]
    return int(found[0].split("calls=")[1].split(",")[0]) if found else 0


class TestCost:
    def test_a_large_head_is_not_fetched_again_and_again(
        self, laravel: LaravelRig, looks: QueueReader, name: str
    ) -> None:
        push(laravel, name, b"x" * (redislists.LARGE_BYTES + 1))
        before = calls(laravel, "lindex")
        for _ in range(10):
            assert looks.read().waiting == 1
        assert calls(laravel, "lindex") == before + 1

    def test_an_empty_queue_is_asked_for_its_counts_only(self, laravel: LaravelRig, looks: QueueReader) -> None:
        looks.read()
        before = {
            command: calls(laravel, command) for command in ("llen", "zcount", "lindex", "zrange", "zrangebyscore")
        }
        looks.read()
        after = {command: calls(laravel, command) for command in before}
        assert {command: after[command] - before[command] for command in before} == {
            "llen": 1, "zcount": 4, "lindex": 0, "zrange": 0, "zrangebyscore": 0,
        }  # fmt: skip


class TestPrefix:
    def test_another_one_that_has_the_queue_is_named(self, laravel: LaravelRig, name: str) -> None:
        laravel.server.say("ZADD", f"laravel-database-queues:{name}:delayed", 1, "x")
        laravel.server.say("RPUSH", f"other_queues:{name}2", "x")
        found = read("laravel", laravel.metadata(name)).found
        assert found.endswith("another prefix has such a queue: did you mean 'laravel-database-'?")
        laravel.put(name)
        assert "did you mean" not in read("laravel", laravel.metadata(name)).found

    def test_no_prefix_at_all_is_one(self, laravel: LaravelRig, name: str) -> None:
        laravel.server.say("RPUSH", f"queues:{name}", "x")
        assert "did you mean ''?" in read("laravel", laravel.metadata(name)).found
        assert read("laravel", {**laravel.metadata(name), "prefix": ""}).waiting == 1

    def test_names_are_no_patterns(self, laravel: LaravelRig, name: str) -> None:
        laravel.server.say("RPUSH", f"other_queues:{name}xx", "x")
        assert (
            "did you mean" not in read("laravel", {**laravel.metadata(name), "queues": [f"{name}*", f"{name}??"]}).found
        )
        laravel.server.say("RPUSH", f"other_queues:{name}[a]*", "x")
        assert "did you mean 'other_'?" in read("laravel", {**laravel.metadata(name), "queues": [f"{name}[a]*"]}).found

    def test_who_may_not_search_does_without(self, laravel: LaravelRig, name: str) -> None:
        laravel.server.say("ACL", "SETUSER", name, "on", ">pw", f"~{laravel.key(name)}*", "+@read", "-scan", "+lmove")
        laravel.server.say("RPUSH", f"other_queues:{name}", "x")
        found = read("laravel", {**laravel.metadata(name), "username": name, "password": "pw"})
        assert (found.waiting, "did you mean" in found.found) == (0, False)

    def test_a_large_database_is_searched_a_bit_at_a_time(
        self, laravel: LaravelRig, looks: QueueReader, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(redislists, "SEARCH_KEYS", 10)
        for number in range(200):
            laravel.server.say("SET", f"filler:{name}:{number}", "x")
        laravel.server.say("RPUSH", f"other_queues:{name}", "x")
        before = calls(laravel, "scan")
        looks.read()
        assert calls(laravel, "scan") - before <= redislists.SEARCH_STEPS
        for _ in range(200):
            if "did you mean 'other_'?" in looks.read().found:
                break
        else:
            pytest.fail("it is never found")


def test_a_key_of_another_type_is_told(laravel: LaravelRig, name: str) -> None:
    laravel.server.say("SET", laravel.key(name), "x")
    failed = failure("laravel", laravel.metadata(name))
    assert (failed.reason, laravel.key(name) in str(failed)) == ("WrongType", True)
