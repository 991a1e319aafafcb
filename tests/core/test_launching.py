"""From a spec and the facts of the host to what a process is started with."""

import weakref
from dataclasses import replace
from typing import Any

import pytest

from reconciler.core.launching import (
    CLEAN_PATH,
    Account,
    Environment,
    Facts,
    LaunchTemplate,
    SecretArguments,
    clean_environment,
    count_matters,
    launch,
    process_name,
    streams,
    template,
    working_directory,
)
from reconciler.core.outputs import AS_WRITTEN, LogTarget, Policy, follow_count, is_absolute
from reconciler.model.launch import Credentials, Launch
from reconciler.model.manifest import program_from_canonical
from reconciler.model.program import ProgramSpec
from reconciler.ports import Stream

MAIL = Account("mail", 8, "/var/mail", "/usr/sbin/nologin")
FACTS = Facts(MAIL, directory="/srv/app", outer=clean_environment(MAIL, (), {}))


def spec(**fields: Any) -> ProgramSpec:
    return program_from_canonical({"command": ["/bin/true"], "workingDir": "/srv/app", **fields})


def made(facts: Facts = FACTS, policy: Policy = AS_WRITTEN, **fields: Any) -> LaunchTemplate:
    return template(spec(**fields), facts, name="web", uid="u1", revision="r1", state_dir="/state", policy=policy)


def launched(ordinal: int = 3, replicas: int = 6, facts: Facts = FACTS, **fields: Any) -> Launch:
    return launch(made(facts, **fields), ordinal, replicas)


# ---- environment ---------------------------------------------------------------------------------------------------


def test_a_process_starts_from_a_clean_environment_and_gets_ours() -> None:
    assert launched().env == {
        "PATH": CLEAN_PATH,
        "LANG": "C.UTF-8",
        "HOME": "/var/mail",
        "USER": "mail",
        "LOGNAME": "mail",
        "SHELL": "/usr/sbin/nologin",
        "RECONCILER_PROGRAM": "web",
        "RECONCILER_REPLICA": "3",
        "RECONCILER_REVISION": "r1",
        "SUPERVISOR_ENABLED": "1",
        "SUPERVISOR_PROCESS_NAME": "web-3",
        "SUPERVISOR_GROUP_NAME": "web",
    }


def test_what_is_inherited_goes_above_the_clean_base_and_absent_names_are_left_out() -> None:
    controller = {"LANG": "de_DE.UTF-8", "TOKEN": "t", "OTHER": "o"}
    environment = clean_environment(MAIL, ("TOKEN", "LANG", "ABSENT"), controller)
    assert (environment["LANG"], environment["TOKEN"]) == ("de_DE.UTF-8", "t")
    assert environment.keys().isdisjoint({"OTHER", "ABSENT"})


def test_the_path_of_a_person_stands_in_for_the_usual_one_but_not_for_an_inherited_one() -> None:
    assert clean_environment(MAIL, (), {"PATH": "/x"}, "/home/ann/bin")["PATH"] == "/home/ann/bin"
    assert clean_environment(MAIL, ("PATH",), {"PATH": "/x"}, "/home/ann/bin")["PATH"] == "/x"


def test_later_layers_win_and_ours_are_the_last() -> None:
    facts = replace(
        FACTS,
        outer=Environment({"A": "outer", "B": "outer", "RECONCILER_REPLICA": "outer"}),
        values=Environment(B="file"),
    )
    env = launched(facts=facts, env={"A": "written", "B": {"fromFile": "/b"}, "RECONCILER_PROGRAM": "forged"}).env
    assert (env["A"], env["B"], env["RECONCILER_PROGRAM"], env["RECONCILER_REPLICA"]) == ("written", "file", "web", "3")


def test_values_are_expanded_but_not_those_from_files() -> None:
    facts = replace(FACTS, outer=Environment(HOST="$(REPLICA)$$"), values=Environment(SECRET="$(HOST)"))
    env = launched(
        facts=facts, env={"PORT": "$(REPLICA+3000)", "AT": "$(HOST):$(PORT)", "SECRET": {"fromFile": "/s"}}
    ).env
    assert (env["PORT"], env["AT"], env["SECRET"]) == ("3003", "$(REPLICA)$$:3003", "$(HOST)")


def test_a_path_may_be_added_to() -> None:
    assert launched(env={"PATH": "/opt/bin:$(PATH)"}).env["PATH"] == f"/opt/bin:{CLEAN_PATH}"


def test_our_variables_can_be_named() -> None:
    assert launched(command=["x", "$(RECONCILER_REVISION)", "$(SUPERVISOR_PROCESS_NAME)"]).argv == ("x", "r1", "web-3")


@pytest.mark.parametrize("access", ["read", "operate"])
def test_the_socket_is_told_to_those_who_have_access(access: str) -> None:
    env = launched(apiAccess=access).env
    assert env["RECONCILER_SOCKET"] == "/state/run/reconciler.sock"
    assert env["SUPERVISOR_SERVER_URL"] == "unix:///state/run/reconciler.sock"


# ---- command, directory, settings ----------------------------------------------------------------------------------


def test_a_command_is_expanded_after_splitting() -> None:
    assert launched(command=["serve", "$(A)", "--port=$(REPLICA+3000:05d)"], env={"A": "two words"}).argv == (
        "serve",
        "two words",
        "--port=03003",
    )


def test_the_directory_is_where_the_links_led() -> None:
    facts = replace(FACTS, directory="/srv/releases/7")
    assert launched(facts=facts, workingDir="/srv/current").cwd == "/srv/releases/7"


def test_a_directory_that_the_ordinal_decides_is_filled_in() -> None:
    facts = replace(FACTS, directory=None)
    assert launched(facts=facts, workingDir="/srv/$(PROGRAM)/$(REPLICA:02d)").cwd == "/srv/web/03"


def test_the_directory_before_links_knows_the_environment_but_no_ordinal() -> None:
    assert working_directory(spec(workingDir="$(ROOT)/x", env={"ROOT": "$(HOME)/r"}), "web", {"HOME": "/h"}) == "/h/r/x"
    assert not isinstance(working_directory(spec(workingDir="/x/$(REPLICA)"), "web", {}), str)


def test_whether_a_path_is_absolute_is_known_before_the_ordinal_is() -> None:
    answers = [is_absolute(working_directory(spec(workingDir=w), "web", {})) for w in ("/a/$(REPLICA)", "$(REPLICA)/a")]
    assert answers == [True, False]


def test_settings_are_handed_on() -> None:
    facts = replace(FACTS, credentials=Credentials(8, 9, (9, 10)))
    started = launched(
        facts=facts,
        umask="077",
        nice=5,
        limits={"nofile": {"soft": 10, "hard": "unlimited"}, "core": 0},
        cpuAffinity=[0, 1],
        oomScoreAdjust=-5,
        noNewPrivileges=True,
        stopSignal="QUIT",
        stopScope="tree",
    )
    assert (started.umask, started.nice, started.cpu_affinity, started.oom_score_adjust) == (0o77, 5, (0, 1), -5)
    assert started.limits == (("core", 0, 0), ("nofile", 10, -1))
    assert (started.credentials, started.no_new_privileges) == (Credentials(8, 9, (9, 10)), True)
    assert (started.stop_signal, started.stop_scope) == (3, "tree")


def test_without_a_user_the_controllers_ids_and_limits_stay() -> None:
    started = launched()
    assert (started.credentials, started.limits, started.oom_score_adjust, started.umask) == (None, (), None, 0o022)


def test_nothing_is_started_without_what_it_needs() -> None:
    """Above all not as root, because the user cannot be found."""
    facts = replace(FACTS, startable=False, problems=('user "nope" does not exist',))
    with pytest.raises(ValueError, match='web cannot be started: user "nope" does not exist'):
        made(facts)


# ---- logs ----------------------------------------------------------------------------------------------------------


def test_by_default_both_outputs_go_to_one_file_per_replica() -> None:
    program = made()
    assert streams(program, 3, 6) == (
        LogTarget(
            *("u1/3/out", "/state/run/fifos/u1-3-out", "/state/logs/web/3.log", 10 << 20, 5, "gzip", 0o640, None),
            *("raw", "web", 3, "out", False),
        ),
    )
    started = launch(program, 3, 6)
    assert (started.stdout, started.stderr) == ("/state/run/fifos/u1-3-out", "/state/run/fifos/u1-3-out")


def test_a_log_target_is_a_stream_of_the_ports() -> None:
    assert LogTarget._fields == Stream._fields
    assert Stream(*streams(made(), 0, 1)[0]).id == "u1/0/out"


@pytest.mark.parametrize(
    ("logs", "paths", "stdout", "stderr"),
    [
        ({"path": "/l/$(REPLICA)"}, ["/l/3"], "out", "out"),
        ({"path": "/l/$(DIR)"}, ["/l/d"], "out", "out"),
        ({"path": "/l/o", "stderr": "/l/e"}, ["/l/o", "/l/e"], "out", "err"),
        ({"path": "/l/o", "stderr": "/l/$(O)"}, ["/l/o"], "out", "out"),
        ({"stderr": "/l/e-$(REPLICA)"}, ["/state/logs/web/3.log", "/l/e-3"], "out", "err"),
        ({"stderr": "none"}, ["/state/logs/web/3.log"], "out", None),
        ({"path": "none"}, [], None, None),
        ({"path": "none", "stderr": "/l/e"}, ["/l/e"], None, "err"),
        ({"path": "none", "stderr": "inherit"}, ["/dev/stderr"], None, "err"),
        ({"path": "inherit"}, ["/dev/stdout"], "out", "out"),
        ({"path": "inherit", "stderr": "inherit"}, ["/dev/stdout", "/dev/stderr"], "out", "err"),
        ({"path": "inherit", "stderr": "/l/e"}, ["/dev/stdout", "/l/e"], "out", "err"),
        ({"path": "/dev/stdout", "stderr": "/dev/stdout"}, ["/dev/stdout"], "out", "out"),
        ({"path": "/l/o", "stderr": "/l/o"}, ["/l/o"], "out", "out"),
        ({"path": "/l/o", "stderr": "/l/o", "format": "json"}, ["/l/o", "/l/o"], "out", "err"),
        ({"path": "/l/o", "format": "json"}, ["/l/o"], "out", "out"),
    ],
)
def test_where_outputs_go(logs: dict[str, str], paths: list[str], stdout: str | None, stderr: str | None) -> None:
    program = made(logs=logs, env={"DIR": "d", "O": "o"})

    def end(stream: str | None) -> str | None:
        return f"/state/run/fifos/u1-3-{stream}" if stream in {"out", "err"} else stream

    assert [target.path for target in streams(program, 3, 6)] == paths
    started = launch(program, 3, 6)
    assert (started.stdout, started.stderr) == (end(stdout), end(stderr))


@pytest.mark.parametrize(
    ("logs", "paths"),
    [
        ({}, ["/dev/stdout"]),
        ({"path": "/l/o", "stderr": "/l/e", "format": "raw"}, ["/dev/stdout", "/dev/stdout"]),
        ({"path": "none"}, []),
        ({"path": "inherit", "stderr": "inherit"}, ["/dev/stdout", "/dev/stdout"]),
    ],
)
def test_run_may_take_all_output_to_its_own(logs: dict[str, str], paths: list[str]) -> None:
    program = made(policy=Policy(console="json"), logs=logs)
    assert [target.path for target in streams(program, 3, 6)] == paths
    assert {target.format for target in streams(program, 3, 6)} <= {"json"}


def test_under_up_nothing_goes_where_nobody_would_see_it() -> None:
    program = made(policy=Policy(captured=True), logs={"path": "inherit", "stderr": "/dev/stderr"})
    assert [target.path for target in streams(program, 3, 6)] == ["/state/logs/web/3.log", "/state/logs/web/3.err.log"]


@pytest.mark.parametrize(
    ("path", "replicas", "shared", "follows"),
    [
        ("/l/$(REPLICA)", 6, False, False),
        ("/l/$(PROGRAM)", 6, True, True),
        ("/l/$(PROGRAM)", 1, False, True),
        ("/l/$(REPLICAS)", 6, True, True),
        ("/l/$(REPLICA)-of-$(REPLICAS)", 6, False, True),
        ("inherit", 6, True, True),
    ],
)
def test_a_path_without_the_ordinal_is_one_log_for_all(path: str, replicas: int, shared: bool, follows: bool) -> None:
    program = made(logs={"path": path})
    assert [target.shared for target in streams(program, 0, replicas)] == [shared]
    assert follow_count(program.outputs) is follows


def test_lines_are_called_after_what_wrote_them() -> None:
    out, err = streams(made(logs={"stderr": "/l/e", "format": "prefix"}), 3, 6)
    assert (out.format, out.program, out.replica, out.stream) == ("prefix", "web", 3, "out")
    assert (err.format, err.program, err.replica, err.stream) == ("prefix", "web", 3, "err")


def test_the_fifo_belongs_to_the_user_of_the_process() -> None:
    facts = replace(FACTS, credentials=Credentials(8, 9, ()))
    assert streams(made(facts), 0, 1)[0].owner == (8, 9)


def test_bounds_of_a_log_are_handed_on() -> None:
    logs = {"maxSize": 1024, "maxFiles": 0, "compress": "none", "mode": "0600"}
    assert streams(made(logs=logs), 0, 1)[0][3:7] == (1024, 0, "none", 0o600)


def test_dollars_of_the_state_directory_are_its_own() -> None:
    program = template(spec(), FACTS, name="web", uid="u1", revision="r1", state_dir="/s/$(PROGRAM)$$")
    assert streams(program, 0, 1)[0].path == "/s/$(PROGRAM)$$/logs/web/0.log"
    assert streams(program, 0, 1)[0].fifo == "/s/$(PROGRAM)$$/run/fifos/u1-0-out"


def test_a_log_path_that_is_not_absolute_after_all_gives_way_to_the_usual_one() -> None:
    program = made(logs={"path": "$(REPLICA)/x.log", "stderr": "$(NOPE)/x.log"})
    assert [target.path for target in streams(program, 0, 1)] == ["/state/logs/web/0.log", "/state/logs/web/0.err.log"]
    assert "logs.path: $(REPLICA)/x.log does not expand to an absolute path; the usual one is used" in map(
        str, program.warnings
    )


# ---- names, count, memory, warnings --------------------------------------------------------------------------------


def test_the_name_of_a_process_is_expanded() -> None:
    program = made(processName="$(PROGRAM):$(REPLICA:02d)/$(REPLICAS)-$(A)", env={"A": "$(REPLICA+1)"})
    assert process_name(program, 3, 6) == "web:03/6-4"
    assert launch(program, 3, 6).env["SUPERVISOR_PROCESS_NAME"] == "web:03/6-4"


def test_the_same_launch_is_handed_out_until_something_of_it_changes() -> None:
    program = made(command=["x", "$(REPLICA)"])
    first, fourth = launch(program, 3, 6), launch(program, 4, 6)
    again = launch(program, 3, 6)
    assert again == first
    assert launch(program, 3, 9) is again, "it comes again, and so it may come often"
    assert launch(program, 4, 6) == fourth != again


def test_of_what_is_started_once_nothing_is_kept() -> None:
    program = made(command=["x", "$(REPLICA)"])
    gone = weakref.ref(launch(program, 3, 6))
    assert gone() is None


def test_a_launch_that_is_told_the_count_follows_it() -> None:
    program = made(command=["x", "$(A)"], env={"A": "of $(REPLICAS)"})
    assert [launch(program, 0, count).argv[1] for count in (6, 9, 6)] == ["of 6", "of 9", "of 6"]


def test_replicas_that_differ_in_nothing_share_what_they_can() -> None:
    program = made(command=["x", "a long argument"])
    assert launch(program, 0, 6).argv[1] is launch(program, 1, 6).argv[1]
    assert launch(program, 0, 6).env is not launch(program, 1, 6).env


@pytest.mark.parametrize(
    ("fields", "answer"),
    [
        ({}, False),
        ({"command": ["x", "$(REPLICAS)"]}, True),
        ({"env": {"A": "$(REPLICAS)"}}, True),
        ({"env": {"A": {"fromFile": "/$(REPLICAS)"}}}, False),
        ({"workingDir": "/x/$(REPLICAS)"}, True),
        ({"logs": {"path": "/x/$(REPLICAS)"}}, False),
        ({"processName": "$(REPLICAS)"}, False),
    ],
)
def test_whether_a_change_of_the_count_rolls(fields: dict[str, Any], answer: bool) -> None:
    assert count_matters(spec(**fields)) is answer


def test_warnings_name_the_field_and_come_once() -> None:
    program = made(command=["x", "$(NOPE)", "$(NOPE)$(NOPE)"], env={"A": "$(NOPE)", "B": "$(A)"}, workingDir="/$(NOPE)")
    assert [str(warning).partition(" is not")[0] for warning in program.warnings] == [
        "env.A: $(NOPE)",
        "command[1]: $(NOPE)",
        "command[2]: $(NOPE)",
        "workingDir: $(NOPE)",
    ]


def test_a_secret_on_a_command_line_is_warned_of_and_not_printed() -> None:
    facts = replace(FACTS, outer=Environment(PASSWORD="hunter2"), secrets=frozenset({"PASSWORD"}))
    program = made(facts, command=["x", "--url=$(URL)"], env={"URL": "db://$(PASSWORD)"})
    started = launch(program, 0, 1)
    assert started.argv == ("x", "--url=db://hunter2")
    assert isinstance(started.argv, SecretArguments)
    (warning,) = program.warnings
    assert str(warning) == "command: holds a value from a file, and every user of this host can see it in `ps`"
    for shown in (repr(started), str(started), repr(program), repr(facts), f"{facts.outer}"):
        assert "hunter2" not in shown


def test_an_environment_never_prints_its_values() -> None:
    assert repr(Environment(A="s3cret", B="x")) == "Environment(A, B)"
    assert "s3cret" not in repr(launched(env={"A": "s3cret"}))
