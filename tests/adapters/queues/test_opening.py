"""From a trigger as written to a reader: values from elsewhere, secrets that stay secret, drivers that are not ours."""

import os
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.adapters.queues.opening import SafeDriver
from reconciler.adapters.queues.registry import driver_for
from reconciler.model.queues import QueueReadFailed, QueueReading
from reconciler.model.triggers import BUILT_IN
from reconciler.ports import QueueAsked
from support.http_servers import Answer, Asked, http_server
from support.queue_rigs import failure, read, reader

ASKED = QueueAsked("acme.io/x", {}, "/", {}, 100)


@pytest.fixture
def guarded() -> Iterator[str]:
    """The URL of a server that gives a number to who knows the word."""

    def answer(asked: Asked) -> Answer:
        return Answer(b"3") if asked.headers.get("X-Token") == "s3cret" else Answer(b"", 401)

    with http_server(answer) as server:
        yield server.url


def test_a_value_may_come_from_the_program_s_environment(guarded: str) -> None:
    metadata = {"urlFromEnv": "WHERE", "headers": {"X-TokenFromEnv": "WORD"}}
    assert read("http", metadata, environment={"WHERE": guarded, "WORD": "s3cret"}).waiting == 3


def test_or_from_a_file_without_its_last_newline(guarded: str, tmp_path: Path) -> None:
    (tmp_path / "word").write_text("s3cret\n")
    metadata = {"url": guarded, "headers": {"X-TokenFromFile": "word"}}
    assert read("http", metadata, working_dir=str(tmp_path)).waiting == 3


@pytest.mark.parametrize(
    ("metadata", "complaint"),
    [
        ({"urlFromEnv": "NOWHERE"}, "urlFromEnv: the Program has no variable NOWHERE"),
        ({"urlFromFile": "absent"}, "absent cannot be read: no such file"),
        ({"urlFromFile": "."}, "cannot be read: is a directory"),
        ({"urlFromFile": "pipe"}, "cannot be read: is not a regular file"),
        ({"urlFromFile": "binary"}, "is not UTF-8"),
        ({"urlFromFile": "large"}, "is larger than 64 KiB"),
        ({"urlFromFile": "a\0b"}, "cannot be read"),
        ({"urlFromEnv": "EMPTY"}, "url: must not be empty"),
        ({"url": "http://h", "verifyTlsFromEnv": "EMPTY"}, "verifyTls: must be true or false"),
        ({"urlFromEnv": "ODD"}, "url: 'ftp://u:***@h' must begin with http:// or https://"),
    ],
)
def test_what_is_not_there_is_told_with_its_key(metadata: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "large").write_bytes(b"x" * 100_000)
    failed = failure("http", metadata, working_dir=str(tmp_path), environment={"EMPTY": "", "ODD": "ftp://u:p@h"})
    assert failed.reason == "BadMetadata"
    assert complaint in str(failed)


def test_a_secret_that_is_written_anew_is_read_anew(guarded: str, tmp_path: Path) -> None:
    (tmp_path / "word").write_text("wrong")
    opened = reader("http", {"url": guarded, "headers": {"X-TokenFromFile": "word"}}, working_dir=str(tmp_path))
    with pytest.raises(QueueReadFailed, match="401"):
        opened.read()
    (tmp_path / "word").write_text("s3cret")
    assert opened.read().waiting == 3
    opened.close()


class Says:
    """A driver, and its reader, that raises or answers what it is told to."""

    polling_seconds = 0.5
    can_wait = True

    def __init__(self, said: Any) -> None:
        self.said = said
        self.opened = 0

    def open(self, asked: QueueAsked) -> "Says":
        self.opened += 1
        self.asked = asked
        return self

    def read(self) -> QueueReading:
        if isinstance(self.said, BaseException):
            raise self.said
        answer: QueueReading = self.said
        return answer

    def wait(self, seconds: float) -> bool:
        self.read()
        return True

    def close(self) -> None:
        if isinstance(self.said, BaseException):
            raise self.said


@pytest.mark.parametrize("call", ["read", "wait"])
def test_whatever_a_driver_raises_is_a_failure_to_read(call: str) -> None:
    says = Says(RuntimeError("no route to x://u:hunter2@h with 'hunter2'"))
    opened = SafeDriver(says).open(ASKED._replace(metadata={"token": "hunter2"}))
    for _ in range(2):
        with pytest.raises(QueueReadFailed) as raised:
            opened.read() if call == "read" else opened.wait(1)
        assert raised.value.reason == "DriverFailed"
        assert str(raised.value) == "the driver of acme.io/x failed: RuntimeError: no route to x://u:***@h with '***'"
        assert raised.value.__cause__ is None
        assert raised.value.__suppress_context__
    assert says.opened == 2  # a reader that broke is opened anew
    opened.close()


def test_a_secret_is_shown_by_no_failure_and_in_no_reading() -> None:
    says = Says(QueueReadFailed("ServerError", "hunter2 is wrong"))
    opened = SafeDriver(says).open(ASKED._replace(metadata={"passwordFromEnv": "P"}, environment={"P": "hunter2"}))
    with pytest.raises(QueueReadFailed, match=r"^\*\*\* is wrong$"):
        opened.read()
    says.said = QueueReading(1, found="hunter2: 1")
    assert opened.read().found == "***: 1"
    assert says.asked.metadata == {"password": "hunter2"}


def test_what_a_driver_says_of_itself_may_be_nonsense() -> None:
    class Nonsense:
        polling_seconds = "often"
        can_wait = property(lambda self: 1 / 0)

        def open(self, asked: QueueAsked) -> Any:
            return self

        def read(self) -> QueueReading:
            return QueueReading(0)

    driver = SafeDriver(Nonsense())  # type: ignore[arg-type]
    assert driver.polling_seconds == 1.0
    opened = driver.open(ASKED)
    opened.read()
    assert opened.can_wait is False
    opened.close()
    assert SafeDriver(Says(None)).polling_seconds == 0.5


# ---- which driver ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BUILT_IN)
def test_there_is_a_driver_for_each_built_in_kind(kind: str) -> None:
    assert 0.05 <= driver_for(kind).polling_seconds <= 10


@pytest.mark.parametrize(
    ("kind", "library", "extra"), [("postgresql", "psycopg", "postgres"), ("mysql", "pymysql", "mysql")]
)
def test_a_client_library_that_is_missing_is_told_with_the_line_that_installs_it(
    kind: str, library: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, f"reconciler.adapters.queues.{kind}", raising=False)
    monkeypatch.setattr("reconciler.adapters.queues." + kind, None, raising=False)
    for name in [name for name in sys.modules if name.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [_Without(library), *sys.meta_path])
    with pytest.raises(QueueReadFailed) as raised:
        driver_for(kind)
    assert raised.value.reason == "DriverMissing"
    assert f"pip install 'reconciler[{extra}]'" in str(raised.value)


class _Without:
    """An import system without one library."""

    def __init__(self, library: str) -> None:
        self._library = library

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] == self._library:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def plug_in(folder: Path, entry: str, code: str, name: str = "acme-queue") -> None:
    """Install a distribution into a folder, as pip would."""
    (folder / f"{name.replace('-', '_')}.py").write_text(textwrap.dedent(code))
    about = folder / f"{name.replace('-', '_')}-1.2.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (about / "entry_points.txt").write_text(f"[reconciler.queues]\n{entry}\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that Python looks into for packages."""
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("acme_")]:
        del sys.modules[name]


def test_an_installed_plug_in_is_asked_like_one_of_ours(site: Path) -> None:
    plug_in(
        site,
        "acme.io/fixed = acme_queue:DRIVER",
        """
        from reconciler.model.queues import QueueReading

        class Reader:
            can_wait = False
            def __init__(self, count): self.count = count
            def read(self): return QueueReading(self.count, found=f"fixed: {self.count}")
            def wait(self, seconds): return False
            def close(self): pass

        class Driver:
            polling_seconds = 2.0
            def open(self, asked): return Reader(int(asked.metadata["count"]))

        DRIVER = Driver()
        """,
    )
    assert driver_for("acme.io/fixed").polling_seconds == 2.0
    assert read("acme.io/fixed", {"countFromEnv": "N"}, environment={"N": "7"}) == QueueReading(7, found="fixed: 7")
    assert failure("acme.io/fixed", {}).reason == "DriverFailed"


@pytest.mark.parametrize(
    ("entry", "code", "complaint"),
    [
        ("acme.io/a = acme_queue:DRIVER", "raise RuntimeError('half done')", "RuntimeError: half done"),
        ("acme.io/a = acme_queue:DRIVER", "import sys; sys.exit(3)", "SystemExit: 3"),
        ("acme.io/a = acme_queue:DRIVER", "import acme_missing", "No module named 'acme_missing'"),
        ("acme.io/a = acme_queue:DRIVER", "", "has no attribute 'DRIVER'"),
        ("acme.io/a = acme_queue:DRIVER", "DRIVER = 3", "acme_queue:DRIVER has no open()"),
        ("acme.io/a = acme_other:DRIVER", "", "No module named 'acme_other'"),
        ("acme.io/b = acme_queue:DRIVER", "DRIVER = 3", "no installed package has the entry point acme.io/a"),
    ],
)
def test_a_broken_plug_in_is_told_and_harms_no_other(site: Path, entry: str, code: str, complaint: str) -> None:
    plug_in(site, entry, code)
    with pytest.raises(QueueReadFailed) as raised:
        driver_for("acme.io/a")
    assert raised.value.reason == "DriverMissing"
    assert complaint in str(raised.value)
    if "no installed" not in complaint:
        assert "acme-queue 1.2" in str(raised.value)
    assert driver_for("redis")


def test_a_plug_in_cannot_take_the_place_of_a_built_in_kind(site: Path) -> None:
    plug_in(site, "redis = acme_queue:DRIVER", "raise RuntimeError")
    assert driver_for("redis")


def test_a_kind_that_cannot_exist_is_told_with_what_may_have_been_meant() -> None:
    with pytest.raises(QueueReadFailed, match=r"did you mean redis\?"):
        driver_for("reddis")
