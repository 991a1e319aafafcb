"""What needs no controller: validate, apply --offline, version, completion, and machines that will not do."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler import __version__
from reconciler.__main__ import unfit
from reconciler.adapters.statefiles import StateFiles
from reconciler.model.identity import Key
from support.calling import Call

WEB = "apiVersion: reconciler/v1\nkind: Program\nmetadata: {name: web}\nspec: {command: [sleep, inf]}\n"


@pytest.fixture
def web(tmp_path: Path) -> Path:
    """A manifest that is sound."""
    path = tmp_path / "web.yaml"
    path.write_text(WEB)
    return path


class TestValidate:
    def test_what_is_sound_is_named(self, call: Call, web: Path) -> None:
        web.write_text(WEB + "---\n" + WEB.replace("web", "mail"))
        assert call("validate", "-f", web) == (0, "program/web valid\nprogram/mail valid\n", "")

    def test_every_error_comes_with_its_place(self, call: Call, web: Path) -> None:
        web.write_text(WEB.replace("{command:", "{replicaz: 3, comand:"))
        code, out, err = call("validate", "-f", web)
        assert (code, out) == (1, "")
        *lines, last = err.splitlines()
        (unknown,) = (line for line in lines if line.startswith(f"{web}:4:8: error: spec.replicaz: "))
        assert "replicas" in unknown, "the nearest known name"
        assert last == f"error: {len(lines)} errors in 1 file"

    def test_a_syntax_error_has_line_and_column(self, call: Call, web: Path) -> None:
        web.write_text("a: [1, 2\nb: c\n")
        code, _, err = call("validate", "-f", web)
        assert code == 1
        assert err.startswith(f"{web}:2:")

    def test_a_name_in_two_files_is_an_error_that_names_both(self, call: Call, web: Path) -> None:
        other = web.with_name("other.yaml")
        other.write_text(WEB)
        code, _, err = call("validate", "-f", web.parent)
        assert code == 1
        assert f"{web}:1:1: error: metadata.name: program/web is declared in {other}:1 already" in err

    def test_what_cannot_be_read_does_not_hide_the_rest(self, call: Call, web: Path) -> None:
        (web.parent / "b.yaml").write_bytes(b"\xff")
        os.mkfifo(web.parent / "c.yaml")
        code, out, err = call("validate", "-f", web.parent)
        assert (code, out) == (1, "program/web valid\n")
        assert "b.yaml" in err
        assert "c.yaml" in err

    def test_stdin_needs_a_base_dir_where_a_path_is_relative(self, web: Path) -> None:
        text = WEB.replace("{command", "{workingDir: app, command")
        command = [sys.executable, "-m", "reconciler", "validate", "-f", "-"]
        refused = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        assert refused.returncode == 1
        assert refused.stderr.startswith("<stdin>:4:")
        taken = subprocess.run(
            [*command, "--base-dir", "/srv"], input=text, capture_output=True, text=True, check=False
        )
        assert (taken.returncode, taken.stdout) == (0, "program/web valid\n")

    def test_nothing_is_no_input(self, call: Call, tmp_path: Path) -> None:
        assert call("validate", "-f", tmp_path).code == 1
        assert call("validate").code == 2


class TestApplyOffline:
    def apply(self, call: Call, state: Path, *arguments: object) -> tuple[int, str, str]:
        return call("--state-dir", state, "apply", "--offline", *arguments)

    def test_it_stores_for_the_next_start(self, call: Call, web: Path, tmp_path: Path) -> None:
        state = tmp_path / "state"
        assert self.apply(call, state, "-f", web) == (
            0,
            "program/web created\n",
            f"hint: stored in {state}; the next `reconciler run` takes it in\n",
        )
        inventories, stored, problems = StateFiles(str(state)).load_applied()
        assert not problems
        assert inventories["default"].members == (Key("Program", "web"),)
        assert inventories["default"].origin == (str(web),)
        assert stored["default"][Key("Program", "web")].canonical["command"] == ["sleep", "inf"]
        assert self.apply(call, state, "-f", web)[1] == "program/web unchanged\n"
        web.write_text(WEB.replace("inf", "9"))
        assert self.apply(call, state, "-f", web)[1] == "program/web configured\n"

    def test_without_the_option_nothing_is_stored(self, call: Call, web: Path, tmp_path: Path) -> None:
        state = tmp_path / "state"
        assert call("--state-dir", state, "apply", "-f", web).code == 5
        assert not state.exists()

    def test_a_dry_run_stores_nothing(self, call: Call, web: Path, tmp_path: Path) -> None:
        state = tmp_path / "state"
        assert self.apply(call, state, "-f", web, "--dry-run") == (0, "program/web created (dry run)\n", "")
        assert not state.exists()

    def test_one_error_and_nothing_is_stored(self, call: Call, web: Path, tmp_path: Path) -> None:
        (tmp_path / "bad.yaml").write_text(WEB.replace("command", "comand"))
        code, out, err = self.apply(call, tmp_path / "state", "-f", web, "-f", tmp_path / "bad.yaml")
        assert (code, out) == (1, "")
        assert err.endswith("error: nothing was stored\n")
        assert not (tmp_path / "state").exists()

    def test_a_name_of_another_set_is_a_conflict_that_can_be_taken_over(
        self, call: Call, web: Path, tmp_path: Path
    ) -> None:
        state = tmp_path / "state"
        self.apply(call, state, "-f", web)
        code, _, err = self.apply(call, state, "-f", web, "--applyset", "shop")
        assert (code, "belongs to applyset default" in err) == (6, True)
        assert self.apply(call, state, "-f", web, "--applyset", "shop", "--take-over")[0] == 0
        inventories, stored, _ = StateFiles(str(state)).load_applied()
        assert {name: len(inventory.members) for name, inventory in inventories.items()} == {"default": 0, "shop": 1}
        assert list(stored) == ["shop"]

    def test_a_keeper_that_holds_the_lock_is_not_gone_around(self, call: Call, web: Path, tmp_path: Path) -> None:
        (tmp_path / "state" / "run").mkdir(parents=True)
        with (tmp_path / "state" / "run" / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            code, out, err = self.apply(call, tmp_path / "state", "-f", web)
        assert (code, out) == (6, "")
        assert "a keeper runs on" in err

    def test_pruning_needs_a_controller(self, call: Call, web: Path, tmp_path: Path) -> None:
        code, _, err = self.apply(call, tmp_path / "state", "-f", web, "--prune")
        assert (code, "needs a controller" in err) == (1, True)


class TestAboutItself:
    def test_the_version(self, call: Call) -> None:
        assert call("version").out.startswith(f"reconciler {__version__} (Python 3.")
        assert json.loads(call("version", "-o", "json").out)["version"] == __version__

    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
    def test_completion_scripts_name_the_command(self, call: Call, shell: str) -> None:
        code, out, err = call("completion", shell)
        assert (code, err) == (0, "")
        assert "_RECONCILER_COMPLETE" in out
        assert call("completion", "tcsh").code == 2

    def test_a_script_completes_through_the_command_itself(self) -> None:
        asked = {"_RECONCILER_COMPLETE": "bash_complete", "COMP_WORDS": "reconciler sc", "COMP_CWORD": "1"}
        done = subprocess.run(
            [sys.executable, "-c", "from reconciler.__main__ import main; main()"],
            env={**os.environ, **asked},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout == "plain,scale\n"

    def test_help_comes_without_importing_a_verb(self) -> None:
        code = (
            "import sys; from reconciler.cli.main import run; run(['--help']);"
            "print(sorted(m for m in sys.modules if m in ('yaml', 'pydantic', 'asyncio', 'aiohttp', 'socket', "
            "'http.client') or m.startswith('reconciler.cli.')))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.startswith("Usage: reconciler [OPTIONS] COMMAND")
        assert done.stdout.splitlines()[-1] == str(
            [f"reconciler.cli.{name}" for name in ("exits", "lazy", "main", "output", "session", "text")]
        )

    def test_asking_needs_no_parser_no_model_and_no_event_loop(self) -> None:
        code = (
            "import sys; from reconciler.cli.main import run; run(['--socket', '/nowhere', 'get', 'ps']);"
            "print(sorted({'yaml', 'pydantic', 'asyncio', 'aiohttp', 'http.client', 'email'} & set(sys.modules)))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout == "[]\n"

    def test_an_unknown_verb_is_answered_with_the_nearest(self, call: Call) -> None:
        code, out, err = call("lgos")
        assert (code, out) == (2, "")
        assert err.endswith("Error: there is no verb 'lgos' (did you mean logs?)\n")

    def test_other_systems_and_old_pythons_are_told_why(self) -> None:
        assert unfit("linux", (3, 11)) == ""
        assert unfit("linux", (3, 13)) == ""
        assert "Linux only (this is darwin)" in unfit("darwin", (3, 12))
        assert unfit("linux", (3, 9)) == "reconciler needs Python 3.11 or newer, this is 3.9"
