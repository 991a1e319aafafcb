"""Trying out installed code in processes of its own: what it printed, or why it would not work."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from reconciler import __version__, wire
from reconciler.adapters.rehearsal import RehearsalFailed, command, rehearse, why
from reconciler.keeping import handover


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


async def test_all_are_tried_out_and_what_they_print_is_told() -> None:
    assert await rehearse(python("print(1)"), python("print('two')")) == ["1\n", "two\n"]


async def test_one_that_fails_is_enough() -> None:
    with pytest.raises(RehearsalFailed, match="no such thing"):
        await rehearse(python("print(1)"), python("import sys; sys.exit('no such thing')"))


async def test_a_file_with_an_error_in_it_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("a = 1\ndef b(:\n")
    with pytest.raises(RehearsalFailed, match=r"SyntaxError: .*broken\.py, line 2\)"):
        await rehearse([sys.executable, str(path)])


async def test_an_exception_is_told_with_where_it_came_from() -> None:
    with pytest.raises(RehearsalFailed, match=r"ModuleNotFoundError: .*nonesuch.* \(<string>, line 1\)"):
        await rehearse(python("import nonesuch"))


async def test_who_fails_without_a_word_is_told_by_its_exit_code() -> None:
    with pytest.raises(RehearsalFailed, match="it ended with 3"):
        await rehearse(python("import os; os._exit(3)"))


async def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(RehearsalFailed, match="/none: No such file or directory"):
        await rehearse(python("import time; time.sleep(60)"), ["/none"])


async def test_a_program_that_hangs_is_ended() -> None:
    with pytest.raises(RehearsalFailed, match=r"did not start within 0\.05 seconds"):
        await rehearse(python("import time; time.sleep(60)"), seconds=0.05)


async def test_words_that_are_no_text_are_words() -> None:
    with pytest.raises(RehearsalFailed, match="�"):
        await rehearse(python("import os; os.write(2, b'\\xff'); os._exit(1)"))


async def test_they_are_started_by_the_thread_that_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one could fork just when this one has put on the limits of a Program's process, which mark its tree."""
    threads: list[int] = []
    start = subprocess.Popen.__init__

    def note(self: Any, *arguments: Any, **options: Any) -> None:
        threads.append(threading.get_ident())
        start(self, *arguments, **options)

    monkeypatch.setattr(subprocess.Popen, "__init__", note)
    await rehearse(python(""), python(""))
    assert threads == [threading.get_ident()] * 2


def test_reasons_of_several_lines_are_one_and_have_an_end() -> None:
    assert why("a.yaml:1: wrong\na.yaml:2: wrong, too\n") == "a.yaml:1: wrong; a.yaml:2: wrong, too"
    assert len(why("x" * 10_000)) == 500
    assert why("") == ""


def test_it_is_started_as_we_were(monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ["-P"] if sys.flags.safe_path else []
    assert command("reconciler.app", "--x") == [sys.executable, *flags, "-m", "reconciler.app", "--x"]


# ---- our own programs ----

ARGUMENTS = ("--state-dir", "/x", "--control-fd", "98", "--listen-fd", "99")


async def test_the_controller_says_who_it_is_and_touches_nothing() -> None:
    (told,) = await rehearse(command("reconciler.app", *ARGUMENTS, "--rehearse"))
    assert json.loads(told) == {"version": __version__, "python": sys.version.split()[0], "wire": wire.VERSION}


async def test_the_controller_refuses_arguments_and_configuration_that_it_could_not_work_with(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("apiVersion: reconciler/v1\nkind: Config\nmetadata: {name: x}\nspec: {logLevle: info}\n")
    with pytest.raises(RehearsalFailed, match=r"config\.yaml:4.*logLevel"):
        await rehearse(command("reconciler.app", *ARGUMENTS, "--config", str(config), "--rehearse"))
    with pytest.raises(RehearsalFailed, match="unrecognized arguments: --of-later"):
        await rehearse(command("reconciler.app", *ARGUMENTS, "--of-later", "--rehearse"))


async def test_keeper_and_pump_are_tried_out_together() -> None:
    assert await rehearse(command("reconciler.keeper", "--rehearse", str(handover.VERSION))) == [""]
    with pytest.raises(RehearsalFailed, match="hands over version 99"):
        await rehearse(command("reconciler.keeper", "--rehearse", "99"))


SMALL = ("keeper", "keeping/decisions", "pump", "pumping/conduit", "folders", "wire")


@pytest.mark.parametrize("module", [*SMALL, "app", "startup", "engine/loop", "server/rest"])
def test_an_error_in_any_module_is_found(module: str, tmp_path: Path) -> None:
    """A copy of the package, half of an upgrade: one of its files cannot be read."""
    source = Path(wire.__file__).parent
    subprocess.run(["cp", "-r", str(source), str(tmp_path)], check=True)
    (tmp_path / "reconciler" / f"{module}.py").write_text("def half(:\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    program, words = ("keeper", ["--rehearse", "1"]) if module in SMALL else ("app", [*ARGUMENTS, "--rehearse"])
    done = subprocess.run(
        [sys.executable, "-P", "-m", f"reconciler.{program}", *words],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert f"{module}.py, line 1)" in why(done.stderr)
