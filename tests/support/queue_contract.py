"""What every driver does, whatever it asks: tells what waits, says why it cannot, is never late, disturbs nothing."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from reconciler.model.queues import QueueReadFailed, QueueReading
from reconciler.ports import QueueReader
from support.bad_servers import GARBAGE, bad_server
from support.queue_rigs import Rig, ServerRig, failure, look, reader
from support.servers import free_port, until

REASONS = {
    "ConnectionRefused", "TimedOut", "AuthenticationFailed", "WrongType", "NotFound", "NotANumber", "DriverMissing",
    "BadMetadata", "ServerError",
}  # fmt: skip
LATEST_SECONDS = 20.0  # 2 s by contract; what is late for want of a bound would take for ever
PATIENCE_SECONDS = 30.0  # the machine may be busy; nothing waits this long unless it is broken


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


def seen(opened: QueueReader) -> float | None:
    """What waits; None while a server has no statistics yet."""
    try:
        return opened.read().waiting
    except QueueReadFailed:
        return None


SLOWLY = {
    "redis": b"+OK" + b" " * 1000,
    "laravel": b"+OK" + b" " * 1000,
    "beanstalkd": b"OK 1000\r\n" + b" " * 1000,
    "postgresql": b"NR" + b"\0\0\0\x7f" + b" " * 1000,
    "rabbitmq": b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{" + b" " * 1000,
    "http": b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n" + b" " * 1000,
    "prometheus": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 1000,
    "mysql": b"\x50\0\0\0\x0a5.5.5" + b" " * 1000,
}


class QueueContract:
    """The tests. The fixtures `rig`, `served`, `endangered` and `name` say on which kinds of queues."""

    # ---- what waits ----

    def test_an_empty_queue_is_no_work(self, rig: Rig, name: str) -> None:
        assert look(rig, name).waiting == 0

    def test_what_was_put_in_waits(self, rig: Rig, name: str) -> None:
        rig.put(name, 7)
        found = look(rig, name, lambda found: found.waiting == 7)
        assert (found.waiting, found.reserved or 0, found.delayed or 0) == (7, 0, 0)
        assert "7" in found.found

    def test_what_was_taken_no_longer_waits_and_is_reserved(self, rig: Rig, name: str) -> None:
        rig.put(name, 3)
        rig.take(name)
        found = look(rig, name, lambda found: found.waiting == 2)
        assert (found.waiting, found.reserved) == (2, 1 if rig.knows_reserved else None)

    def test_what_comes_later_is_delayed_and_its_moment_known(self, rig: Rig, name: str) -> None:
        if rig.knows_delayed:
            rig.delay(name, 100)
            rig.delay(name, 200)
            found = look(rig, name)
            assert (found.waiting, found.delayed) == (0, 2)
            assert found.next_due_seconds == pytest.approx(100, abs=5)
        else:
            assert look(rig, name)[2:5] == (None, None, None)

    def test_what_has_become_due_waits(self, rig: Rig, name: str) -> None:
        """Nobody need be there to move it to where it is taken from."""
        if rig.knows_delayed:
            rig.delay(name, 0)
            found = look(rig, name)
            assert (found.waiting, found.delayed) == (1, 0)

    def test_the_oldest_has_an_age_where_somebody_knows_it(self, rig: Rig, name: str) -> None:
        rig.put(name)
        found = look(rig, name, lambda found: found.waiting == 1)
        if rig.knows_age:
            assert found.oldest_seconds == pytest.approx(0, abs=5)
        else:
            assert found.oldest_seconds is None

    def test_one_reader_sees_the_queue_change(self, rig: Rig, name: str) -> None:
        opened = reader(rig.kind, rig.metadata(name))
        for count in range(4):
            until(lambda count=count: seen(opened) == count, PATIENCE_SECONDS, f"{rig.kind} tells of {count}")
            rig.put(name)
        opened.close()

    def test_looking_disturbs_nothing(self, rig: Rig, name: str) -> None:
        rig.put(name, 3)
        rig.take(name)
        if rig.knows_delayed:
            rig.delay(name, 100)
        look(rig, name, lambda found: found.waiting == 2)
        opened = reader(rig.kind, rig.metadata(name))
        before = rig.state(name)
        for _ in range(5):
            opened.read()
            assert rig.state(name) == before
        opened.close()
        assert rig.state(name) == before

    def test_looking_at_an_empty_queue_does_not_make_one(self, rig: Rig, name: str) -> None:
        metadata = rig.metadata(name)
        before = rig.state(name)
        opened = reader(rig.kind, metadata)
        seen(opened)
        assert rig.state(name) == before
        opened.close()
        assert rig.state(name) == before

    def test_a_reader_can_be_closed_at_any_time_and_used_again(self, rig: Rig, name: str) -> None:
        look(rig, name)
        opened = reader(rig.kind, rig.metadata(name))
        for _ in range(2):
            opened.close()
            opened.close()
            assert opened.read().waiting == 0
        opened.close()

    def test_what_a_reading_says_is_fit_for_scaling(self, rig: Rig, name: str) -> None:
        """Numbers or None; a NaN would win or lose every comparison."""
        rig.put(name, 2)
        if rig.knows_delayed:
            rig.delay(name, 50)
        for value in look(rig, name)[: QueueReading._fields.index("at_least")]:
            assert value is None or value >= 0

    # ---- what goes wrong on the way ----

    def test_a_wrong_password_is_told_and_not_shown(self, served: ServerRig, name: str) -> None:
        if not served.secret:
            return  # it knows no passwords
        metadata = served.metadata(name)
        key = "bearerToken" if "bearerToken" in metadata else "password"
        failed = refused(served.kind, {**metadata, key: "wr0ng-secret"})
        assert failed.reason == "AuthenticationFailed"
        assert "wr0ng-secret" not in str(failed)

    def test_nobody_listening_is_told(self, served: ServerRig, name: str) -> None:
        scheme = served.metadata(name)["url"].partition("://")[0]
        failed = refused(served.kind, served.at(f"{scheme}://user:s3cret@127.0.0.1:{free_port()}/0", name))
        assert failed.reason == "ConnectionRefused"
        assert "s3cret" not in str(failed)

    def test_a_host_that_does_not_exist_is_told(self, served: ServerRig, name: str) -> None:
        scheme = served.metadata(name)["url"].partition("://")[0]
        failed = refused(served.kind, served.at(f"{scheme}://nowhere.invalid/0", name))
        assert failed.reason in {"ConnectionRefused", "TimedOut"}
        assert "nowhere.invalid" in str(failed)

    def test_a_server_that_accepts_and_is_silent_is_late(self, served: ServerRig, name: str) -> None:
        scheme = served.metadata(name)["url"].partition("://")[0]
        with bad_server() as port:
            assert refused(served.kind, served.at(f"{scheme}://127.0.0.1:{port}/0", name)).reason == "TimedOut"

    def test_a_byte_now_and_then_does_not_prolong_it(self, served: ServerRig, name: str) -> None:
        scheme = served.metadata(name)["url"].partition("://")[0]
        with bad_server(SLOWLY[served.kind], every_seconds=0.3) as port:
            assert refused(served.kind, served.at(f"{scheme}://127.0.0.1:{port}/0", name)).reason == "TimedOut"

    @pytest.mark.parametrize("closes", [True, False], ids=["closing", "staying"])
    def test_garbage_is_told(self, served: ServerRig, name: str, closes: bool) -> None:
        """All sorts of it at the same time, since some of it only shows by what does not follow."""
        metadata = served.metadata(name)
        scheme = metadata["url"].partition("://")[0]

        def told(said: bytes) -> str:
            with bad_server(said, closes=closes) as port:
                there = {**metadata, "url": f"{scheme}://127.0.0.1:{port}/0"}
                return refused(served.kind, there).reason

        with ThreadPoolExecutor(len(GARBAGE)) as threads:
            reasons = dict(zip(GARBAGE, threads.map(told, GARBAGE.values()), strict=True))
        # BadMetadata: of numbers in JSON it may be that one was only not told where to look.
        expected = {"ServerError", "ConnectionRefused", "TimedOut", "NotANumber", "BadMetadata"}
        assert set(reasons.values()) <= expected, reasons

    def test_a_server_that_is_away_is_found_when_it_comes_by_who_knew_it_and_by_who_did_not(
        self, endangered: ServerRig, name: str
    ) -> None:
        """One who asks it afterwards as if nothing had been, and one who sees nothing of it at first."""
        metadata = endangered.metadata(name)
        endangered.put(name, 2)
        knew = reader(endangered.kind, metadata)
        until(lambda: seen(knew) == 2, PATIENCE_SECONDS, "it tells of both")
        endangered.server.kill()
        new = reader(endangered.kind, metadata)
        for _ in range(2):
            with Stopwatch(), pytest.raises(QueueReadFailed) as raised:
                new.read()
            assert raised.value.reason == "ConnectionRefused"
        endangered.server.start()
        for opened in (knew, new):
            until(lambda opened=opened: seen(opened) == 2, PATIENCE_SECONDS, "it tells of both again")
            opened.close()

    def test_a_server_that_hangs_is_late_until_it_goes_on(self, endangered: ServerRig, name: str) -> None:
        endangered.put(name, 2)
        look(endangered, name, lambda found: found.waiting == 2)
        opened = reader(endangered.kind, endangered.metadata(name))
        opened.read()
        endangered.server.pause()
        with Stopwatch(), pytest.raises(QueueReadFailed) as raised:
            opened.read()
        endangered.server.resume()
        assert raised.value.reason == "TimedOut"
        assert opened.read().waiting == 2
        opened.close()

    def test_a_close_ends_a_look_at_a_server_that_hangs(self, endangered: ServerRig, name: str) -> None:
        look(endangered, name)
        opened = reader(endangered.kind, endangered.metadata(name))
        opened.read()
        endangered.server.pause()
        reasons: list[str] = []

        def ask() -> None:
            try:
                opened.read()
            except QueueReadFailed as failed:
                reasons.append(failed.reason)

        thread = threading.Thread(target=ask)
        thread.start()
        while thread.is_alive():
            opened.close()
            thread.join(0.02)
        endangered.server.resume()
        assert reasons == ["ConnectionRefused"], "by the close, not by the time that a look has: that were TimedOut"
