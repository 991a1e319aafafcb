"""What every driver does, whatever it asks: tells what waits, says why it cannot, is never late, disturbs nothing."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from reconciler.model.queues import QueueReadFailed, QueueReading
from support.bad_servers import GARBAGE, bad_server
from support.queue_rigs import Rig, ServerRig, failure, read, reader
from support.servers import free_port

REASONS = {
    "ConnectionRefused", "TimedOut", "AuthenticationFailed", "WrongType", "NotFound", "NotANumber", "DriverMissing",
    "BadMetadata", "ServerError",
}  # fmt: skip
LATEST_SECONDS = 3.0  # 2 s by contract, on a machine that has other things to do


class Stopwatch:
    """How long a block takes, for `with`."""

    def __enter__(self) -> "Stopwatch":
        self._start = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        assert time.monotonic() - self._start < LATEST_SECONDS


def refused(kind: str, metadata: dict[str, Any]) -> QueueReadFailed:
    with Stopwatch():
        failed = failure(kind, metadata)
    assert failed.reason in REASONS
    return failed


# ---- what waits -----------------------------------------------------------------------------------------------------


def test_an_empty_queue_is_no_work(rig: Rig, name: str) -> None:
    assert read(rig.kind, rig.metadata(name)).waiting == 0


def test_what_was_put_in_waits(rig: Rig, name: str) -> None:
    rig.put(name, 7)
    found = read(rig.kind, rig.metadata(name))
    assert (found.waiting, found.reserved or 0, found.delayed or 0) == (7, 0, 0)
    assert "7" in found.found


def test_what_was_taken_is_reserved_and_no_longer_waits(rig: Rig, name: str) -> None:
    rig.put(name, 3)
    rig.take(name)
    found = read(rig.kind, rig.metadata(name))
    assert (found.waiting, found.reserved) == (2, 1)


def test_what_comes_later_is_delayed_and_its_moment_known(rig: Rig, name: str) -> None:
    rig.delay(name, 100)
    rig.delay(name, 200)
    found = read(rig.kind, rig.metadata(name))
    assert (found.waiting, found.delayed) == (0, 2)
    assert found.next_due_seconds == pytest.approx(100, abs=5)


def test_what_has_become_due_waits(rig: Rig, name: str) -> None:
    """Nobody need be there to move it to where it is taken from."""
    rig.delay(name, 0)
    found = read(rig.kind, rig.metadata(name))
    assert (found.waiting, found.delayed) == (1, 0)


def test_the_oldest_has_an_age(rig: Rig, name: str) -> None:
    rig.put(name)
    found = read(rig.kind, rig.metadata(name))
    if rig.knows_age:
        assert found.oldest_seconds == pytest.approx(0, abs=5)
    else:
        assert found.oldest_seconds is None


def test_one_reader_sees_the_queue_change(rig: Rig, name: str) -> None:
    opened = reader(rig.kind, rig.metadata(name))
    seen = [opened.read().waiting]
    for _ in range(3):
        rig.put(name)
        seen.append(opened.read().waiting)
    opened.close()
    assert seen == [0, 1, 2, 3]


def test_looking_disturbs_nothing(rig: Rig, name: str) -> None:
    rig.put(name, 3)
    rig.take(name)
    rig.delay(name, 100)
    opened = reader(rig.kind, rig.metadata(name))
    before = rig.state(name)
    for _ in range(5):
        opened.read()
        assert rig.state(name) == before
    opened.close()
    assert rig.state(name) == before


def test_looking_at_an_empty_queue_does_not_make_one(rig: Rig, name: str) -> None:
    metadata = rig.metadata(name)
    before = rig.state(name)
    read(rig.kind, metadata)
    assert rig.state(name) == before


def test_a_reader_can_be_closed_at_any_time_and_used_again(rig: Rig, name: str) -> None:
    opened = reader(rig.kind, rig.metadata(name))
    opened.close()
    assert opened.read().waiting == 0
    opened.close()
    opened.close()
    assert opened.read().waiting == 0
    opened.close()


# ---- what goes wrong on the way -------------------------------------------------------------------------------------


def test_a_wrong_password_is_told_and_not_shown(served: ServerRig, name: str) -> None:
    if not served.secret:
        return  # it knows no passwords
    failed = refused(served.kind, {**served.metadata(name), "password": "wr0ng-secret"})
    assert failed.reason == "AuthenticationFailed"
    assert "wr0ng-secret" not in str(failed)


def test_nobody_listening_is_told(served: ServerRig, name: str) -> None:
    scheme = served.metadata(name)["url"].partition("://")[0]
    failed = refused(served.kind, served.at(f"{scheme}://user:s3cret@127.0.0.1:{free_port()}/0", name))
    assert failed.reason == "ConnectionRefused"
    assert "s3cret" not in str(failed)


def test_a_host_that_does_not_exist_is_told(served: ServerRig, name: str) -> None:
    scheme = served.metadata(name)["url"].partition("://")[0]
    failed = refused(served.kind, served.at(f"{scheme}://nowhere.invalid/0", name))
    assert failed.reason in {"ConnectionRefused", "TimedOut"}
    assert "nowhere.invalid" in str(failed)


def test_a_server_that_accepts_and_is_silent_is_late(served: ServerRig, name: str) -> None:
    scheme = served.metadata(name)["url"].partition("://")[0]
    with bad_server() as port:
        assert refused(served.kind, served.at(f"{scheme}://127.0.0.1:{port}/0", name)).reason == "TimedOut"


def test_a_byte_now_and_then_does_not_prolong_it(served: ServerRig, name: str) -> None:
    scheme = served.metadata(name)["url"].partition("://")[0]
    with bad_server(SLOWLY[served.kind], every_seconds=0.3) as port:
        assert refused(served.kind, served.at(f"{scheme}://127.0.0.1:{port}/0", name)).reason == "TimedOut"


SLOWLY = {
    "redis": b"+OK" + b" " * 1000,
    "beanstalkd": b"OK 1000\r\n" + b" " * 1000,
    "postgresql": b"NR" + b"\0\0\0\x7f" + b" " * 1000,
    "mysql": b"\x50\0\0\0\x0a5.5.5" + b" " * 1000,
}


@pytest.mark.parametrize("closes", [True, False], ids=["closing", "staying"])
def test_garbage_is_told(served: ServerRig, name: str, closes: bool) -> None:
    """All sorts of it at the same time, since some of it only shows by what does not follow."""
    metadata = served.metadata(name)
    scheme = metadata["url"].partition("://")[0]

    def told(said: bytes) -> str:
        with bad_server(said, closes=closes) as port:
            return refused(served.kind, {**metadata, "url": f"{scheme}://127.0.0.1:{port}/0"}).reason

    with ThreadPoolExecutor(len(GARBAGE)) as threads:
        reasons = dict(zip(GARBAGE, threads.map(told, GARBAGE.values()), strict=True))
    assert set(reasons.values()) <= {"ServerError", "ConnectionRefused", "TimedOut", "AuthenticationFailed"}, reasons


def test_a_server_that_is_away_at_first_is_found_when_it_comes(endangered: ServerRig, name: str) -> None:
    metadata = endangered.metadata(name)
    endangered.put(name, 2)
    endangered.server.kill()
    opened = reader(endangered.kind, metadata)
    for _ in range(2):
        with Stopwatch(), pytest.raises(QueueReadFailed) as raised:
            opened.read()
        assert raised.value.reason == "ConnectionRefused"
    endangered.server.start()
    assert opened.read().waiting == 2
    opened.close()


def test_a_server_that_was_killed_and_is_back_is_asked_as_if_nothing_had_been(endangered: ServerRig, name: str) -> None:
    endangered.put(name, 2)
    opened = reader(endangered.kind, endangered.metadata(name))
    assert opened.read().waiting == 2
    endangered.server.kill()
    endangered.server.start()
    assert opened.read().waiting == 2
    opened.close()


def test_a_server_that_hangs_is_late_until_it_goes_on(endangered: ServerRig, name: str) -> None:
    endangered.put(name, 2)
    opened = reader(endangered.kind, endangered.metadata(name))
    opened.read()
    endangered.server.pause()
    with Stopwatch(), pytest.raises(QueueReadFailed) as raised:
        opened.read()
    endangered.server.resume()
    assert raised.value.reason == "TimedOut"
    assert opened.read().waiting == 2
    opened.close()


def test_a_close_ends_a_look_at_a_server_that_hangs(endangered: ServerRig, name: str) -> None:
    opened = reader(endangered.kind, endangered.metadata(name))
    opened.read()
    endangered.server.pause()
    ended: list[float] = []

    def look() -> None:
        try:
            opened.read()
        except QueueReadFailed:
            ended.append(time.monotonic())

    thread = threading.Thread(target=look)
    thread.start()
    started = time.monotonic()
    while not ended and time.monotonic() < started + LATEST_SECONDS:
        opened.close()
        thread.join(0.02)
    thread.join()
    endangered.server.resume()
    assert ended[0] - started < 1.0


def test_what_a_reading_says_is_fit_for_scaling(rig: Rig, name: str) -> None:
    """Numbers or None; a NaN would win or lose every comparison."""
    rig.put(name, 2)
    rig.delay(name, 50)
    found = read(rig.kind, rig.metadata(name))
    for value in found[: QueueReading._fields.index("at_least")]:
        assert value is None or value >= 0
