"""apply, diff, delete and the operator's verbs: what is asked for, what is printed, how they end."""

import io
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from support.calling import Call
from support.fake_controller import FakeController, Reply, condition, crashing, process, program

WEB = "apiVersion: reconciler/v1\nkind: Program\nmetadata: {name: web}\nspec: {command: [sleep, inf]}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two manifests, and what is none."""
    folder = tmp_path / "manifests"
    (folder / "deep").mkdir(parents=True)
    (folder / "web.yaml").write_text(WEB)
    (folder / "deep" / "mail.yml").write_text(WEB.replace("web", "mail"))
    (folder / "README.md").write_text("not a manifest")
    (folder / ".hidden.yaml").write_text("not read")
    return folder


def result(name: str, verb: str, **more: Any) -> dict[str, Any]:
    """One result of an apply."""
    return {"kind": "Program", "name": name, "verb": verb, "generation": 1, "effect": "none", "overridden": "", **more}


class TestApply:
    def test_results_go_to_stdout_and_what_they_mean_to_stderr(
        self, fake: FakeController, call: Call, folder: Path
    ) -> None:
        warning = {"file": "w.yaml", "line": 2, "column": 1, "message": "a shell", "severity": "warning"}
        results = [
            result("web", "created", effect="create, start 6"),
            result("mail", "unchanged", overridden="replicas 8 by ann"),
            result("old", "pruned", effect="delete, stop 2"),
        ]
        answer = {"results": results, "warnings": [warning], "hints": ["3 more are in the set"]}
        fake.answers("POST", "/v1/apply", answer)
        code, out, err = call("apply", "-f", folder)
        assert (code, out) == (0, "program/web created\nprogram/mail unchanged\nprogram/old pruned\n")
        assert err == (
            "  create, start 6\n"
            "hint: program/mail is overridden: replicas 8 by ann (`reconciler reset mail` ends it)\n"
            "  delete, stop 2\n"
            "w.yaml:2:1: warning: a shell\n"
            "hint: 3 more are in the set\n"
        )

    def test_a_directory_is_read_as_a_watched_one_would_be(
        self, fake: FakeController, call: Call, folder: Path
    ) -> None:
        assert call("apply", "-f", folder).code == 0
        (request,) = fake.asked("POST", "/v1/apply")
        assert request.body == {
            "documents": [
                {
                    "file": str(folder / "deep/mail.yml"),
                    "text": WEB.replace("web", "mail"),
                    "baseDir": str(folder / "deep"),
                },
                {"file": str(folder / "web.yaml"), "text": WEB, "baseDir": str(folder)},
            ],
            "directories": [str(folder)],
            "applyset": "default",
            "prune": False,
            "pruneLimit": "50%",
            "allowEmpty": False,
            "takeOver": False,
            "dryRun": False,
        }

    def test_terms_are_handed_on_and_paths_are_absolute(
        self, fake: FakeController, call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(folder)
        options = ["--applyset", "shop", "--prune", "--prune-limit", "100%", "--take-over", "--base-dir", "deep"]
        call("apply", "-f", "web.yaml", "-f", "./web.yaml", *options, "--dry-run")
        body = fake.requests[-1].body
        assert body["documents"] == [{"file": f"{folder}/web.yaml", "text": WEB, "baseDir": f"{folder}/deep"}]
        assert [body[key] for key in ("applyset", "prune", "pruneLimit", "takeOver", "dryRun")] == [
            "shop",
            True,
            "100%",
            True,
            True,
        ]

    def test_stdin_has_no_folder_of_its_own(
        self, fake: FakeController, call: Call, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(WEB.encode())))
        call("apply", "-f", "-")
        assert fake.requests[-1].body["documents"] == [{"file": "-", "text": WEB, "baseDir": None}]

    def test_a_dry_run_says_so(self, fake: FakeController, call: Call, folder: Path) -> None:
        fake.answers("POST", "/v1/apply", {"results": [result("web", "created")]})
        assert call("apply", "-f", folder, "--dry-run").out == "program/web created (dry run)\n"

    def test_all_errors_come_at_once_and_nothing_is_half_done(
        self, fake: FakeController, call: Call, folder: Path
    ) -> None:
        problems = [
            {"file": "a.yaml", "line": 1, "column": 2, "field": "spec.env", "message": "is no map", "hint": ""},
            {"file": "b.yaml", "line": 0, "column": 0, "field": "", "message": "is empty", "hint": "delete it"},
        ]
        error = {"exitCode": 1, "reason": "Invalid", "message": "2 errors; nothing was applied", "problems": problems}
        fake.answers("POST", "/v1/apply", {"error": error}, 422)
        assert call("apply", "-f", folder) == (
            1,
            "",
            "error: 2 errors; nothing was applied\n"
            "a.yaml:1:2: error: spec.env: is no map\n"
            "b.yaml: error: is empty (delete it)\n",
        )

    def test_a_conflict_ends_with_6(self, fake: FakeController, call: Call, folder: Path) -> None:
        fake.refuses("POST", "/v1/apply", 409, 6, "Conflict", "program/web belongs to dir:manifests/web.yaml")
        assert call("apply", "-f", folder) == (6, "", "error: program/web belongs to dir:manifests/web.yaml\n")

    def test_what_cannot_be_read_is_refused_before_anything_is_asked(
        self, fake: FakeController, call: Call, folder: Path
    ) -> None:
        (folder / "bad.yaml").write_bytes(b"a: \xff")
        (folder / "large.yaml").write_bytes(b"#" * (1 << 20) + b"##")
        (folder / "gone.yaml").symlink_to("nowhere")
        code, out, err = call("apply", "-f", folder)
        assert (code, out) == (1, "")
        for name in ("bad.yaml", "large.yaml", "gone.yaml"):
            assert f"{folder}/{name}" in err
        assert err.endswith("error: 3 files cannot be read; nothing was done\n")
        assert not fake.requests

    @pytest.mark.parametrize("path", ["nowhere.yaml", "https://example.org/web.yaml"])
    def test_what_is_no_path_is_a_usage_error(self, fake: FakeController, call: Call, path: str) -> None:
        assert call("apply", "-f", path).code == 2

    def test_an_empty_directory_must_be_meant(self, fake: FakeController, call: Call, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        code, _, err = call("apply", "-f", tmp_path / "empty")
        assert code == 1
        assert "no manifests in" in err
        assert call("apply", "-f", tmp_path / "empty", "--allow-empty").code == 0
        body = fake.requests[-1].body
        assert (body["documents"], body["directories"]) == ([], [str(tmp_path / "empty")])

    def test_a_timeout_is_for_waiting(self, fake: FakeController, call: Call, folder: Path) -> None:
        assert call("apply", "-f", folder, "--timeout", "1m").code == 2


class TestApplyAndWait:
    def apply(self, fake: FakeController, *changes: dict[str, Any], stays: bool = False) -> None:
        """Have an apply of `web` answered with generation 2, and these objects come after it."""
        fake.answers("POST", "/v1/apply", {"results": [result("web", "configured", generation=2)]})
        fake.programs = {"web": program("web", generation=1)}
        fake.changes = [{"type": "MODIFIED", "object": change} for change in changes]
        fake.stays = stays

    def test_it_ends_when_the_answered_generation_is_available(
        self, fake: FakeController, call: Call, folder: Path
    ) -> None:
        under_way = program("web", generation=2, updatedReplicas=1, availableReplicas=1)
        self.apply(fake, under_way, under_way, program("web", generation=2), stays=True)
        assert call("apply", "-f", folder, "--wait") == (
            0,
            "program/web configured\n",
            "program/web: waiting for the controller to act on it\n"
            "program/web: 1 of 2 up to date, 1 available\n"
            "program/web: available\n",
        )

    def test_a_failure_comes_with_its_reason_and_the_last_lines(
        self, fake: FakeController, call: Call, folder: Path
    ) -> None:
        stalled = crashing("web")
        stalled["metadata"]["generation"] = stalled["status"]["observedGeneration"] = 2
        stalled["status"]["conditions"][1] = condition(
            "Progressing", "False", "ProgressDeadlineExceeded", "no step for more than 600 s", 2
        )
        self.apply(fake, stalled, stays=True)
        fake.log = b"cannot connect\n"
        code, _, err = call("apply", "-f", folder, "--wait")
        assert code == 1
        assert err.endswith(
            "error: program/web: no step for more than 600 s\n"
            "  CrashLoop: 1 of 2 replicas fail; replica 1 failed 7 times in a row.\n"
            "  last lines of web/1:\n"
            "  | cannot connect\n"
        )

    def test_out_of_time_is_4_and_says_how_far_it_was(self, fake: FakeController, call: Call, folder: Path) -> None:
        self.apply(fake, program("web", generation=2, availableReplicas=0, updatedReplicas=0), stays=True)
        code, _, err = call("apply", "-f", folder, "--wait", "--timeout", "300ms")
        assert code == 4
        assert "error: timed out after 300ms\nerror: program/web: not available in time\n" in err

    def test_somebody_elses_newer_apply_ends_it(self, fake: FakeController, call: Call, folder: Path) -> None:
        self.apply(fake, program("web", generation=3), stays=True)
        code, _, err = call("apply", "-f", folder, "--wait")
        assert (code, "somebody applied a newer generation (3)" in err) == (1, True)

    def test_an_object_that_vanished_between_two_watches_is_noticed(
        self, fake: FakeController, call: Call, folder: Path
    ) -> None:
        self.apply(fake)

        def forget(_: Any) -> Reply:
            things = [{"type": "ADDED", "object": thing} for thing in fake.programs.values()]
            fake.programs = {}
            return Reply(lines=(*things, {"type": "SYNCED", "object": {}}))

        fake.scripted["GET", "/v1/programs"] = forget
        code, _, err = call("apply", "-f", folder, "--wait")
        assert (code, "program/web: it was deleted meanwhile" in err) == (1, True)


class TestDiff:
    def test_each_effect_and_1_when_there_is_any(self, fake: FakeController, call: Call, folder: Path) -> None:
        effects = {"web": "scale 6 -> 8, start 2", "long-name": "none"}
        results = [
            {"kind": "Program", "name": name, "effect": effect, "change": effect != "none", "fields": []}
            for name, effect in effects.items()
        ]
        fake.answers("POST", "/v1/diff", {"results": results, "warnings": [], "hints": []})
        assert call("diff", "-f", folder) == (
            1,
            "program/web         scale 6 -> 8, start 2\nprogram/long-name   none\n",
            "",
        )
        results[0]["change"] = False
        assert call("diff", "-f", folder).code == 0

    def test_a_wish_of_an_operator_stands_beside_the_effect_and_is_no_difference(
        self, fake: FakeController, call: Call, folder: Path
    ) -> None:
        results = [
            {"kind": "Program", "name": "web", "effect": "none", "change": False, "overridden": "stopped by ann"}
        ]
        fake.answers("POST", "/v1/diff", {"results": results, "warnings": [], "hints": []})
        assert call("diff", "-f", folder) == (0, "program/web   none; overridden: stopped by ann\n", "")

    def test_a_diff_that_fails_ends_with_2_or_more(self, fake: FakeController, call: Call, folder: Path) -> None:
        fake.refuses("POST", "/v1/diff", 422, 1, "Invalid", "1 error")
        assert call("diff", "-f", folder) == (2, "", "error: 1 error\n")
        fake.refuses("POST", "/v1/diff", 409, 6, "Conflict", "taken")
        refused = call("diff", "-f", folder)
        assert (refused.code, refused.out) == (6, "")
        assert "hint: of a copy of a watched DIR, `diff --take-over --base-dir DIR" in refused.err
        assert "hint" not in call("diff", "-f", folder, "--take-over").err
        (folder / "bad.yaml").write_bytes(b"\xff")
        assert call("diff", "-f", folder).code == 2


class TestDelete:
    def test_by_name_each_for_itself(self, fake: FakeController, call: Call) -> None:
        fake.programs = {"web": program("web"), "mail": program("mail")}
        assert call("delete", "web", "mial", "program/mail") == (
            3,
            "program/web deleted\nprogram/mail deleted\n",
            "error: program/mial not found (did you mean mail?)\n",
        )

    def test_by_manifest(self, fake: FakeController, call: Call, folder: Path) -> None:
        fake.programs = {"web": program("web"), "mail": program("mail")}
        assert call("delete", "-f", folder, "--dry-run").out == (
            "program/mail deleted (dry run)\nprogram/web deleted (dry run)\n"
        )
        assert all(request.query == {"dryRun": "1"} for request in fake.requests if request.method == "DELETE")

    def test_a_watched_file_is_named_and_6_is_the_end(self, fake: FakeController, call: Call) -> None:
        message = "program/web comes from /srv/manifests/web.yaml; delete the file"
        fake.refuses("DELETE", "/v1/programs/web", 409, 6, "Conflict", message)
        assert call("delete", "web") == (6, "", f"error: {message}\n")

    @pytest.mark.parametrize("words", [[], ["web", "-f", "x"], ["web/3"]])
    def test_what_to_delete_must_be_clear(self, fake: FakeController, call: Call, words: list[str]) -> None:
        assert call("delete", *words).code == 2


class TestOperating:
    @pytest.mark.parametrize(
        ("words", "path", "body", "out"),
        [
            (
                ["scale", "web", "--replicas=8", "--for", "1h30m", "--reason", "sale"],
                "scale",
                {"replicas": 8, "for": 5400.0, "reason": "sale"},
                "program/web scaled\n",
            ),
            (
                ["stop", "web"],
                "stop",
                {"ordinals": None, "now": False, "for": None, "reason": ""},
                "program/web stopped\n",
            ),
            (
                ["stop", "web/1", "web/0", "web/1", "--now"],
                "stop",
                {"ordinals": [1, 0], "now": True, "for": None, "reason": ""},
                "program/web stopped (replica 1, 0)\n",
            ),
            (["start", "web/1", "web"], "start", {"ordinals": None}, "program/web started\n"),
            (["restart", "web", "--now"], "restart", {"ordinals": None, "now": True}, "program/web restarted\n"),
            (["reset", "program/web"], "reset", {}, "program/web reset\n"),
        ],
    )
    def test_each_wish_is_asked_for_once_and_printed(
        self, fake: FakeController, call: Call, words: list[str], path: str, body: Any, out: str
    ) -> None:
        fake.programs = {"web": program("web")}
        assert call(*words) == (0, out, "")
        (request,) = fake.asked("POST", f"/v1/programs/web/{path}")
        assert (request.body, request.query) == (body, {})

    def test_a_dry_run_is_asked_for_and_said(self, fake: FakeController, call: Call) -> None:
        fake.programs = {"web": program("web")}
        assert call("restart", "web", "--dry-run").out == "program/web restarted (dry run)\n"
        assert fake.requests[-1].query == {"dryRun": "1"}

    def test_what_the_controller_adds_goes_to_stderr(self, fake: FakeController, call: Call) -> None:
        answer = {"kind": "Program", "name": "web", "verb": "unchanged", "message": "it has 8 already"}
        fake.answers("POST", "/v1/programs/web/scale", answer)
        assert call("scale", "web", "--replicas", 8) == (0, "program/web unchanged\n", "  it has 8 already\n")

    @pytest.mark.parametrize(
        "words",
        [
            ["scale", "web"],
            ["scale", "web", "--replicas=-1"],
            ["stop", "web", "--for", "x"],
            ["reset", "web/1"],
            ["stop"],
        ],
    )
    def test_what_makes_no_sense_is_asked_of_nobody(self, fake: FakeController, call: Call, words: list[str]) -> None:
        code, out, err = call(*words)
        assert (code, out) == (2, "")
        assert err.startswith("Usage: reconciler ")
        assert not fake.requests


class TestShutdown:
    def test_it_is_asked_for(self, fake: FakeController, call: Call) -> None:
        fake.answers("POST", "/v1/shutdown", {}, 202)
        assert call("shutdown") == (0, "reconciler is shutting down\n", "")
        assert fake.requests[-1].body == {"keep": False}

    def test_a_dry_run_counts_and_asks_for_nothing(self, fake: FakeController, call: Call) -> None:
        fake.programs = {"web": program("web", processes=[process(0), process(1, pid=None, state="BackOff")])}
        assert call("shutdown", "--dry-run").out == "reconciler would be shut down, 1 process drained (dry run)\n"
        assert not fake.asked("POST", "/v1/shutdown")

    def test_processes_may_be_kept(self, fake: FakeController, call: Call) -> None:
        fake.programs = {"web": program("web")}
        fake.answers("POST", "/v1/shutdown", {}, 202)
        assert call("shutdown", "--keep", "--dry-run").out.endswith("2 processes kept (dry run)\n")
        assert call("shutdown", "--keep") == (0, "reconciler is shutting down, 2 processes kept\n", "")
        assert [request.body for request in fake.asked("POST", "/v1/shutdown")] == [{"keep": True}]

    def test_waiting_for_the_end_has_an_end(self, fake: FakeController, call: Call) -> None:
        fake.programs = {"web": program("web")}
        fake.answers("POST", "/v1/shutdown", {}, 202)
        code, out, err = call("shutdown", "--wait", "--timeout", "200ms")
        assert (code, out) == (4, "reconciler is shutting down, draining 2\n")
        assert err == "waiting for 2 processes to end\nerror: it is still draining; the end goes on without us\n"

    def test_it_waits_until_the_socket_is_gone(self, fake: FakeController) -> None:
        fake.answers("POST", "/v1/shutdown", {}, 202)
        waiting = subprocess.Popen([sys.executable, "-m", "reconciler", "shutdown", "--wait"], stderr=subprocess.PIPE)
        deadline = time.monotonic() + 30
        while not fake.asked("POST", "/v1/shutdown") and time.monotonic() < deadline:
            time.sleep(0.01)
        fake.path.unlink()
        _, err = waiting.communicate(timeout=30)
        assert (waiting.returncode, err.splitlines()[-1]) == (0, b"it is gone")
