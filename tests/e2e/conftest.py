"""A controller to ask, and the command line to ask it with; or the whole product."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.cli.main import run
from support.calling import Call, Result
from support.daemon import Daemon, daemon_in
from support.fake_controller import FakeController, fake_controller


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeController]:
    """A controller, found through $RECONCILER_SOCKET. At the end: every request was one that the real one takes."""
    with fake_controller(tmp_path / "reconciler.sock") as controller:
        monkeypatch.setenv("RECONCILER_SOCKET", str(controller.path))
        yield controller
        assert not controller.faults


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs one call of the command line in this process."""

    def calling(*arguments: object) -> Result:
        code = run([str(argument) for argument in arguments])
        return Result(code, *capsys.readouterr())

    return calling


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """The whole product. Not started yet: what it shall find is declared first."""
    with daemon_in(tmp_path) as house:
        yield house
