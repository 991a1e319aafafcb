"""Ages, exits, tables and one-word states: how the command line says what it was answered."""

import io
import sys
from typing import Any

import pytest
from click.shell_completion import BashComplete

from reconciler.cli import summary
from reconciler.cli.exits import guarded
from reconciler.cli.main import CHAPTERS, VERBS, cli
from reconciler.cli.tables import Table
from reconciler.cli.text import age, age_of, counted, duration, exit_text, has_colours, moment, plain, time_of_day
from support.fake_controller import condition, crashing, process, program

MINUTE, HOUR, DAY = 60, 3600, 86400


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0s"),
        (0, "0s"),
        (12.9, "12s"),
        (119, "119s"),
        (120, "2m"),
        (5 * MINUTE + 3, "5m3s"),
        (10 * MINUTE + 3, "10m"),
        (3 * HOUR, "3h"),
        (3 * HOUR + 20 * MINUTE, "3h20m"),
        (8 * HOUR + 20 * MINUTE, "8h"),
        (4 * DAY + 2 * HOUR, "4d2h"),
        (8 * DAY + 2 * HOUR, "8d"),
        (3 * 365 * DAY + 5 * DAY, "3y5d"),
    ],
)
def test_an_age_is_told_in_the_two_units_that_matter(seconds: float, text: str) -> None:
    assert age(seconds) == text


@pytest.mark.parametrize("unknown", [None, "", "yesterday", {}, []])
def test_an_unknown_time_is_a_dash_and_no_crash(unknown: Any) -> None:
    assert moment(unknown) is None
    assert age_of(unknown, 100.0) == "-"
    assert time_of_day(unknown) == "--:--:--"


def test_times_come_as_iso_text_or_as_seconds() -> None:
    assert moment("1970-01-01T00:01:40Z") == 100.0
    assert moment("1970-01-01T00:01:40.250+00:00") == 100.25
    assert moment(100) == 100.0


@pytest.mark.parametrize(("seconds", "text"), [(0.25, "250ms"), (30, "30s"), (90, "90s"), (300, "5m")])
def test_a_duration_is_told_as_it_would_be_written(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("last_exit", "text"),
    [
        (None, "-"),
        ({"code": 1, "signal": None}, "code 1"),
        ({"code": None, "signal": "SIGKILL"}, "SIGKILL"),
        ({"code": None, "signal": "TERM"}, "SIGTERM"),
        ({"code": None, "signal": "RTMIN+3"}, "RTMIN+3"),
        ({"code": None, "signal": None}, "unknown"),
        ({"code": None, "signal": None, "message": "php: command not found"}, "php: command not found"),
    ],
)
def test_an_exit_is_told_in_a_word(last_exit: Any, text: str) -> None:
    assert exit_text(last_exit) == text


def test_what_somebody_wrote_cannot_command_the_terminal() -> None:
    assert plain("a\x1b[31mred\x07\tb") == "a\N{REPLACEMENT CHARACTER}[31mred\N{REPLACEMENT CHARACTER} b"
    assert plain("grüße …") == "grüße …"


def test_counted_things_have_the_right_form() -> None:
    assert [counted(n, "process") for n in (0, 1, 2)] == ["0 processes", "1 process", "2 processes"]
    assert counted(3, "Program") == "3 Programs"


def test_colours_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert has_colours(terminal)
    assert not has_colours(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not has_colours(terminal)
    monkeypatch.setenv("NO_COLOR", "")
    assert has_colours(terminal)
    monkeypatch.setenv("TERM", "dumb")
    assert not has_colours(terminal)


class TestTables:
    def test_columns_are_aligned_and_lines_have_no_blank_ends(self) -> None:
        assert Table(("NAME", "X", "LAST")).render([["a", "1", ""], ["longer", "20", "b"]]) == (
            "NAME     X    LAST\n"
            "a        1\n"
            "longer   20   b"
        )  # fmt: skip

    def test_nothing_is_cut_where_no_terminal_is(self) -> None:
        assert "x" * 500 in Table(("A", "B")).render([["a", "x" * 500]])

    def test_a_terminal_gets_lines_that_fit_and_colours_that_do_not_count(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        monkeypatch.setenv("COLUMNS", "30")
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.delenv("NO_COLOR", raising=False)
        text = Table(("A", "B"), lambda column, _: "red" if column == 0 else "").render([["bad", "m" * 60]])
        assert text.splitlines()[1] == "\x1b[31mbad\x1b[0m  " + "m" * 24 + "…"

    def test_later_rows_keep_the_columns(self) -> None:
        table = Table(("NAME", "X"))
        table.render([["something", "1"]])
        assert table.render([["a", "2"]], headed=False) == "a           2"


ON_THE_WAY = [condition("Available", "False", "X"), condition("Progressing", "True", "RollingOut")]


class TestStates:
    def test_what_is_well_is_available(self) -> None:
        assert summary.state_of(program("web")) == "Available"
        assert list(summary.findings(program("web"))) == []

    def test_a_crash_loop_outweighs_all(self) -> None:
        thing = crashing("api")
        assert summary.state_of(thing) == "CrashLoop"
        (found,) = summary.findings(thing)
        assert (found.subject, found.type, found.is_remark) == ("program/api", "CrashLoop", False)

    @pytest.mark.parametrize(
        ("more", "state"),
        [
            ({"updatedReplicas": 1}, "Updating"),
            ({"conditions": [condition("Available", "False", "X")]}, "Unavailable"),
            ({"conditions": ON_THE_WAY}, "Starting"),
            ({"conditions": ON_THE_WAY, "processes": [process(0, failures=1)]}, "Unavailable"),
            ({"conditions": [condition("Progressing", "False", "ProgressDeadlineExceeded")]}, "Stalled"),
            ({"processes": [process(0, state="Succeeded"), process(1, state="Succeeded")]}, "Succeeded"),
            ({"replicas": 0, "processes": []}, "Stopped"),
            ({"replicas": 0, "processes": [], "spec": {"suspend": True}}, "Suspended"),
            ({"replicas": 0, "processes": [process(0, state="Stopping")]}, "Stopping"),
        ],
    )
    def test_one_word_says_how_it_is(self, more: dict[str, Any], state: str) -> None:
        assert summary.state_of(program("web", **more)) == state

    def test_an_invalid_file_is_told_beside_the_state_of_what_runs(self) -> None:
        thing = program("web")
        thing["status"]["conditions"].append(condition("Invalid", "True", "ParseError", "web.yaml:3:1: oops"))
        assert summary.state_of(thing) == "Available,Invalid"
        assert summary.colour_of("Available,Invalid") == "yellow"

    def test_an_override_is_a_remark_and_a_type_of_a_later_release_is_not_dropped(self) -> None:
        thing = program("web")
        thing["status"]["conditions"] += [
            condition("Overridden", "True", "OperatorOverride", "replicas 8"),
            condition("Haunted", "True", "Ghost", "boo"),
        ]
        assert [(f.type, f.text, f.is_remark) for f in summary.findings(thing)] == [
            ("Overridden", "replicas 8", True),
            ("Haunted", "boo", False),
        ]

    def test_an_object_without_status_is_pending_and_wrong(self) -> None:
        bare = {"kind": "Program", "metadata": {"name": "web"}}
        assert summary.state_of(bare) == "Pending"
        assert [f.text for f in summary.findings(bare)] == ["not known yet"]
        assert summary.program_row(bare, 0.0)[:2] == ["web", "0/1"]


class TestRollouts:
    def test_a_status_of_an_older_generation_counts_for_nothing(self) -> None:
        thing = program("web", generation=3)
        assert summary.is_rolled_out(thing, 3)
        assert not summary.is_rolled_out(thing, 4)
        assert summary.failure_of(program("web", conditions=[condition("Progressing", "False", "X")]), 2) == ""

    def test_available_within_max_unavailable_is_not_yet_rolled_out(self) -> None:
        assert not summary.is_rolled_out(program("web", 4, availableReplicas=3), 1)
        assert not summary.is_rolled_out(program("web", 4, updatedReplicas=3), 1)

    def test_replicas_that_succeeded_are_done(self) -> None:
        rows = [process(0, state="Succeeded"), process(1)]
        assert summary.is_rolled_out(program("once", 2, availableReplicas=1, processes=rows), 1)

    def test_a_replica_that_is_not_run_again_is_a_failure_at_once(self) -> None:
        rows = [process(0, state="Failed", lastExit={"code": 3, "signal": None})]
        thing = program("once", 1, processes=rows, conditions=[condition("Available", "False", "X")])
        assert summary.failure_of(thing, 1) == "replica 0 failed (code 3) and is not to be run again"


class TestTheFrontDoor:
    def test_every_verb_explains_itself_with_examples(self) -> None:
        context = cli.make_context("reconciler", [], resilient_parsing=True)
        for name, verb in VERBS.items():
            command = cli.get_command(context, name)
            assert command is not None
            assert command.name == name
            assert f"    reconciler {name}" in str(command.help).partition("\b\n")[2], name
            assert verb.help.endswith("."), name

    def test_every_verb_has_one_chapter(self) -> None:
        assert sum(map(len, CHAPTERS.values())) == len(VERBS)

    def test_what_changes_something_has_a_dry_run(self) -> None:
        context = cli.make_context("reconciler", [], resilient_parsing=True)
        for name in ("apply", "delete", "scale", "stop", "start", "restart", "reset", "shutdown"):
            command = cli.get_command(context, name)
            assert command is not None
            assert "dry_run" in {parameter.name for parameter in command.params}, name

    def test_a_shell_completes_verbs(self) -> None:
        completer = BashComplete(cli, {}, "reconciler", "_RECONCILER_COMPLETE")
        assert [item.value for item in completer.get_completions([], "st")] == ["status", "stop", "start"]


def test_an_interrupt_and_a_broken_pipe_end_quietly(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    assert guarded(interrupted) == 130
    assert capsys.readouterr() == ("", "")


def test_an_error_of_the_system_names_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    def denied() -> None:
        raise PermissionError(13, "Permission denied", "/srv/x")

    assert guarded(denied) == 7
    assert capsys.readouterr().err == "error: /srv/x: Permission denied\n"
