"""Reading manifests: what is accepted, what it becomes, and what is said about the rest."""

import json
from pathlib import Path
from textwrap import dedent

import pytest

from reconciler.model.manifest import Config
from support.reading import complaints, manifest, program, program_text, read, refusals


def test_a_program_is_read_whole():
    found = manifest(
        """
        command: php artisan queue:work --once
        replicas: 6
        runOnce: true
        env: {APP_ENV: production}
        terminationGracePeriod: 1h30m
        """
    )
    assert (found.kind, found.name, found.file, found.line) == ("Program", "web", "F", 1)
    assert found.canonical == {
        "command": ["php", "artisan", "queue:work", "--once"],
        "replicas": 6,
        "runOnce": True,
        "env": {"APP_ENV": "production"},
        "terminationGracePeriod": 5400.0,
        "workingDir": "/base",
    }


def test_labels_and_annotations_come_along():
    (found,) = read(
        """
        apiVersion: reconciler/v1
        kind: Program
        metadata:
          name: web
          labels: {app: shop, example.org/tier: "1", empty: ""}
          annotations: {anything at all: "even\\nthis"}
        spec: {command: [a]}
        """
    ).manifests
    assert found.labels == {"app": "shop", "example.org/tier": "1", "empty": ""}
    assert found.annotations == {"anything at all": "even\nthis"}


def test_several_documents_and_empty_ones_in_between():
    text = f"---\n---\n{program_text('', 'a')}---\n# nothing\n---\n{program_text('', 'b')}...\n"
    reading = read(text)
    assert [(found.name, found.line) for found in reading.manifests] == [("a", 3), ("b", 12)]
    assert reading.problems == ()


def test_a_list_is_its_items():
    text = {
        "apiVersion": "v1",
        "kind": "List",
        "metadata": {},
        "items": [
            {"apiVersion": "reconciler/v1", "kind": "Program", "metadata": {"name": name}, "spec": {"command": ["a"]}}
            for name in ("a", "b")
        ],
    }
    assert [found.name for found in read(json.dumps(text)).manifests] == ["a", "b"]


@pytest.mark.parametrize(
    "typed", ["4", "no", "on", "1e3", "012", "12:30", "1.10", "0x1f", "2024-01-01", "true", "=", ".5"]
)
def test_a_plain_scalar_is_text_exactly_as_typed(typed):
    spec = program(f"command: [echo, {typed}]\nenv: {{A: {typed}}}\nuser: '{typed.replace(':', '')}'")
    assert spec.command == ("echo", typed)
    assert spec.env == {"A": typed}


def test_quoted_nulls_and_empty_texts_are_texts():
    spec = program("""env: {A: "null", B: "", C: '~', D: !!str null}""")
    assert spec.env == {"A": "null", "B": "", "C": "~", "D": "null"}


@pytest.mark.parametrize("typed", ["", "~", "null", "Null"])
def test_null_where_a_text_belongs_is_refused(typed):
    assert refusals(f"user: {typed}") == ['spec.user: must be text, not null (write "" for an empty text)']


def test_a_map_or_list_whose_content_is_commented_out_is_not_there():
    assert manifest("env:\nenvFrom:\nlogs:\nlimits:\nreadinessProbe:\n").canonical == {
        "command": ["run"],
        "workingDir": "/base",
    }


def test_env_is_also_read_as_kubernetes_writes_it():
    as_list = manifest("env: [{name: A, value: x}, {name: B, fromFile: secret}]")
    as_map = manifest("env: {A: x, B: {fromFile: secret}}")
    assert as_list.canonical == as_map.canonical
    assert as_list.canonical["env"] == {"A": "x", "B": {"fromFile": "/base/secret"}}


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ("[{name: A, value: x}, {name: A, value: y}]", 'spec.env[1].name: "A" stands in the list twice'),
        ("[{value: x}]", "spec.env[0]: needs a name"),
        ("[{name: A}]", "spec.env[0]: needs value or fromFile"),
        ("[{name: A, value: x, fromFile: y}]", "spec.env[0]: has value and fromFile"),
        ("[{name: A, valueFrom: x}]", "spec.env[0].valueFrom: is not a field here (did you mean value?)"),
        ("{A: {from: x}}", "spec.env.A.from: is not a field here (known are fromFile)"),
        ("{A: [x]}", "spec.env.A: must be text, not a list"),
    ],
)
def test_an_env_that_cannot_be_meant_is_refused(env, message):
    assert message in refusals(f"env: {env}")


def test_every_duration_may_be_given_in_seconds_by_name():
    plain = manifest("terminationGracePeriod: 90s\nreadinessProbe: {notify: {}, period: 2s}\nmaxLifetime: 1h")
    named = manifest(
        "terminationGracePeriodSeconds: 90\nreadinessProbe: {notify: {}, periodSeconds: 2}\nmaxLifetimeSeconds: 3600"
    )
    assert plain.canonical == named.canonical


def test_infinity_is_allowed_where_it_makes_sense():
    found = manifest("terminationGracePeriod: infinity")
    assert found.canonical["terminationGracePeriod"] == "infinity"
    assert found.spec.termination_grace_period == float("inf")


def test_one_notation_for_what_can_be_written_in_many():
    found = manifest(
        """
        umask: 22
        stopSignal: SIGUSR1
        successExitCodes: [0, 3, SIGTERM, usr2]
        strategy: {maxUnavailable: 3}
        limits: {nofile: 1024, core: unlimited, memlock: 64Ki, nproc: {soft: 5, hard: infinity}}
        logs: {maxSize: 1Mi, mode: "640"}
        resources: {cpu: {max: 500m}, memory: {max: 1Gi}}
        """
    ).canonical
    assert found["umask"] == "0022"
    assert found["stopSignal"] == "USR1"
    assert found["successExitCodes"] == [0, 3, "TERM", "USR2"]
    assert found["strategy"] == {"maxUnavailable": 3}
    assert found["limits"] == {
        "nofile": 1024,
        "core": "unlimited",
        "memlock": 65536,
        "nproc": {"soft": 5, "hard": "unlimited"},
    }
    assert found["logs"] == {"maxSize": 1048576, "mode": "0640"}
    assert found["resources"] == {"cpu": {"max": 0.5}, "memory": {"max": 1 << 30}}


# ---- paths ----------------------------------------------------------------------------------------------------------


def test_relative_paths_mean_the_folder_of_the_manifest():
    found = manifest(
        """
        workingDir: ../app
        env: {KEY: {fromFile: ./key}}
        envFrom: [{file: .env}]
        rolloutOn: [{path: release}]
        logs: {path: "logs/$(REPLICA).log", stderr: /var/log/x}
        """,
        base_dir="/etc/reconciler/shop",
    ).canonical
    assert found["workingDir"] == "/etc/reconciler/app"
    assert found["env"] == {"KEY": {"fromFile": "/etc/reconciler/shop/key"}}
    assert found["envFrom"] == [{"file": "/etc/reconciler/shop/.env"}]
    assert found["rolloutOn"] == [{"path": "/etc/reconciler/shop/release"}]
    assert found["logs"] == {"path": "/etc/reconciler/shop/logs/$(REPLICA).log", "stderr": "/var/log/x"}


def test_words_that_are_no_paths_and_paths_that_begin_with_a_reference_stay():
    found = manifest("workingDir: $(ROOT)/x\nlogs: {path: none, stderr: merged}").canonical
    assert found["workingDir"] == "$(ROOT)/x"
    assert found["logs"] == {"path": "none", "stderr": "merged"}


def test_a_path_that_begins_with_a_name_or_a_number_is_relative():
    found = manifest('logs: {path: "$(PROGRAM)-$(REPLICA).log", stderr: "$(REPLICA:02d).err"}').canonical
    assert found["logs"] == {"path": "/base/$(PROGRAM)-$(REPLICA).log", "stderr": "/base/$(REPLICA:02d).err"}


def test_without_a_folder_a_relative_or_missing_path_names_the_way_out():
    assert refusals("logs: {path: x.log}", base_dir=None) == [
        "spec.workingDir: is required, because this input has no folder (write it, or give --base-dir)",
        'spec.logs.path: "x.log" is relative, and this input has no folder (write it absolute, or give --base-dir)',
    ]
    assert manifest("workingDir: /srv\nlogs: {path: /x.log}", base_dir=None).canonical["workingDir"] == "/srv"


def test_a_tilde_is_refused_rather_than_made_a_folder_of_that_name():
    assert refusals("workingDir: ~/app") == ["spec.workingDir: is not expanded by us (write the home directory out)"]


# ---- what is wrong, and where ---------------------------------------------------------------------------------------


def test_all_errors_come_at_once_with_their_places():
    text = dedent(
        """\
        apiVersion: reconciler/v1
        kind: Program
        metadata: {name: Web}
        spec:
          replica: 3
          nice: 50
          env:
            PATH: [a]
        ---
        apiVersion: reconciler/v1
        kind: Program
        metadata: {name: b}
        spec: {command: "a | b"}
        """
    )
    assert [(p.line, p.column, p.field) for p in read(text).problems] == [
        (3, 18, "metadata.name"),
        (5, 3, "spec.replica"),
        (5, 3, "spec.command"),
        (6, 9, "spec.nice"),
        (8, 11, "spec.env.PATH"),
        (13, 17, "spec.command"),
    ]


def test_an_error_prints_as_editors_understand_it():
    assert complaints(program_text("replica: 3"), file="/etc/x/web.yaml") == [
        "/etc/x/web.yaml:6:3: spec.replica: is not a field here (did you mean replicas?)"
    ]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("cmmand: x", "did you mean command?"),
        ("working_dir: x", "did you mean workingDir?"),
        ("restartpolicy: x", "did you mean restartPolicy?"),
        ("terminationGracePeriodSecond: 1", "did you mean terminationGracePeriod?"),
        ("numprocs: 3", "here it is called replicas"),
        ("stopwaitsecs: 3", "here it is called terminationGracePeriod"),
        ("environment: {}", "here it is called env"),
    ],
)
def test_an_unknown_field_comes_with_the_nearest_known_one(written, meant):
    assert meant in refusals(f"command: [a]\n{written}")[0]


def test_what_follows_from_an_error_is_not_told_again():
    assert refusals("command: [a]\nreadinessProbe: {exec: {command: 'a | b'}}\nreplicas: x") == [
        "spec.readinessProbe.exec.command: has |, which only a shell understands and none is run "
        '(run a shell by the list ["sh", "-c", "a | b"])',
        'spec.replicas: must be a whole number, not "x"',
    ]


def test_an_error_in_a_field_given_in_seconds_is_at_that_field():
    assert refusals("maxLifetimeSeconds: 0") == ["spec.maxLifetimeSeconds: must be more than 0"]


def test_a_thousand_errors_are_not_all_worth_showing():
    lines = "\n".join(f"field{index}: x" for index in range(1000))
    problems = refusals(f"command: [a]\n{lines}")
    assert len(problems) == 101
    assert problems[-1] == "has more errors than are worth showing"


def test_what_the_controller_sets_is_ignored_with_a_hint():
    reading = read(
        """
        apiVersion: reconciler/v1
        kind: Program
        metadata: {name: web, uid: x, generation: 3, creationTimestamp: null, source: "dir:x"}
        spec: {command: [a]}
        status: {replicas: 3}
        """
    )
    assert [found.name for found in reading.manifests] == ["web"]
    (problem,) = reading.problems
    assert problem.severity == "warning"
    assert problem.message == (
        "status, metadata.uid, metadata.generation, metadata.creationTimestamp, metadata.source are ignored: "
        "the controller sets them"
    )
    assert reading.errors == ()


def test_a_name_that_stands_twice_is_nobodys():
    reading = read(program_text("", "a") + "---\n" + program_text("", "b") + "---\n" + program_text("replicas: 3", "a"))
    assert [found.name for found in reading.manifests] == ["b"]
    assert [problem.message for problem in reading.problems] == ["Program a stands in this file already, in line 1"]


def test_what_is_ambiguous_is_judged_but_not_used():
    reading = read(program_text("replicas: 1\nreplicas: 2\nnice: x"))
    assert reading.manifests == ()
    assert len(reading.problems) == 2


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("env: {A: {}}", "spec.env.A: must be text or {fromFile: PATH}"),
        ("env: {A: {fromFile: ''}}", "spec.env.A.fromFile: must not be empty"),
        ("envFrom: [{file: x, prefix: 'a b'}]", 'spec.envFrom[0].prefix: "a b" does not match ^[A-Za-z0-9_.-]*$'),
        ("limits: {nofile: -5}", 'spec.limits.nofile: "-5" is below zero'),
        ("limits: {nofile: {soft: 5}}", "spec.limits.nofile: needs both soft and hard"),
        ("limits: {nofile: {soft: 5, hard: x}}", 'spec.limits.nofile.hard: "x" is not a whole number'),
        ("limits: {nofile: {soft: 1, hard: 2, max: 3}}", "spec.limits.nofile.max: is not a field here"),
        ("restartBackoff: {initial: 6m}", "spec.restartBackoff.initial: max (300s) must not be below initial (360s)"),
        ("restartBackoff: {factor: '2'}", "spec.restartBackoff.factor: must be a number, not a text"),
        ("restartBackoff: {factor: two}", 'spec.restartBackoff.factor: must be a number, not "two"'),
        ("command: [a, ~]", "spec.command[1]: must not be null"),
        ("command: ['', b]", "spec.command: must name a program to run"),
        ("preStop: {exec: {command: x}, wait: 1s}", "spec.preStop.wait: goes with signal"),
        ("readinessProbe: {tcpSocket: {port: 0}}", 'spec.readinessProbe.tcpSocket.port: "0" is not a port, 1 to 65535'),
        ("readinessProbe: {tcpSocket: {port: 1, host: ''}}", "spec.readinessProbe.tcpSocket.host: must not be empty"),
        ("readinessProbe: {httpGet: {url: 'http://:80'}}", "spec.readinessProbe.httpGet.url: is not a URL"),
        ("readinessProbe: {httpGet: {url: 'http://a:b'}}", "spec.readinessProbe.httpGet.url: is not a URL"),
        (
            "readinessProbe: {httpGet: {url: 'http://a', path: /}}",
            "spec.readinessProbe.httpGet.path: belongs into the url",
        ),
        (
            "readinessProbe: {httpGet: {port: 1, headers: [x]}}",
            'spec.readinessProbe.httpGet.headers[0]: must be a map of name and value, not "x"',
        ),
    ],
)
def test_each_field_says_what_it_takes(written, message):
    assert any(told.startswith(message) for told in refusals(written)), refusals(written)


def test_a_document_whose_halves_are_no_maps_is_refused():
    assert complaints("{apiVersion: reconciler/v1, kind: Program, metadata: web, spec: [a]}") == [
        'F:1:54: metadata: must be a map, not "web"',
        "F:1:65: spec: must be a map, not a list",
    ]
    assert complaints("{apiVersion: [], kind: {}}") == ["F:1:14: apiVersion: must be text, not a list"]


# ---- Config ---------------------------------------------------------------------------------------------------------


def test_a_config_keeps_its_defaults_for_programs_as_written():
    (found,) = read(
        """
        apiVersion: reconciler/v1
        kind: Config
        metadata: {name: this-host}
        spec:
          manifests: [manifests, /srv/shop]
          access: {groups: [ops]}
          logLevel: debug
          shutdownTimeout: 5m
          maxStarting: 0
          defaults:
            program:
              user: www-data
              terminationGracePeriodSeconds: 90
              logs: {maxSize: 1Mi}
        """,
        base_dir="/etc/reconciler",
    ).manifests
    assert isinstance(found.spec, Config)
    assert found.spec.manifests == ("/etc/reconciler/manifests", "/srv/shop")
    assert found.spec.access.groups == ("ops",)
    assert (found.spec.log_level, found.spec.shutdown_timeout, found.spec.max_starting) == ("debug", 300.0, 0)
    assert found.spec.defaults.program == {
        "user": "www-data",
        "terminationGracePeriod": 90.0,
        "logs": {"maxSize": 1048576},
    }


def test_the_defaults_of_a_config_are_judged_like_a_program():
    text = """
        apiVersion: reconciler/v1
        kind: Config
        metadata: {name: this-host}
        spec:
          logLevel: loud
          defaults: {program: {command: [a], nice: 50, replicas: x}}
        """
    assert complaints(text) == [
        'F:6:13: spec.logLevel: "loud" is not one of debug, info, warning, error',
        "F:7:24: spec.defaults.program.command: is not a field here",
        "F:7:44: spec.defaults.program.nice: must be at most 19",
        'F:7:58: spec.defaults.program.replicas: must be a whole number, not "x"',
    ]


# ---- the corpus -----------------------------------------------------------------------------------------------------

HOSTILE = Path(__file__).parent.parent / "hostile"


def expected() -> dict[str, list[str]]:
    """`expected.txt`: the name of each file, then what is said about it, indented."""
    sections = (HOSTILE / "expected.txt").read_text().strip().split("\n\n")
    blocks = [[line.strip() for line in section.splitlines()] for section in sections]
    return {block[0]: block[1:] for block in blocks}


@pytest.mark.parametrize("name", sorted(path.name for path in HOSTILE.glob("*.yaml")))
def test_a_hostile_file_is_refused_with_these_words(name):
    reading = read((HOSTILE / name).read_bytes(), file="F")
    assert [str(problem).removeprefix("F:") for problem in reading.problems] == expected()[name]
    assert reading.manifests == ()
