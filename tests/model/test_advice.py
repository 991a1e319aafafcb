"""Warnings about what is valid and yet hardly meant, and about what has no effect yet."""

import pytest

from reconciler.model.advice import advice, doubtful, root_warning
from reconciler.model.support import NOT_YET, not_yet_supported
from support.reading import binding_text, manifest, program, read


def advised(spec: str) -> list[str]:
    """The warnings, as `field: message`, without the hints."""
    found = advice(manifest(spec))
    assert all(problem.severity == "warning" and problem.file == "F" for problem in found)
    return [f"{problem.field}: {problem.message}" for problem in found]


@pytest.mark.parametrize(
    "command", ["[sh, -c, run x]", "[/bin/bash, -lc, 'cd /x && run']", "[bash, -e, -c, run execute]"]
)
def test_a_shell_that_stays_in_between_is_told(command):
    (found,) = advised(f"command: {command}")
    assert found.startswith("spec.command: runs a shell that may stay in between")


@pytest.mark.parametrize(
    "command",
    [
        "[sh, -c, exec run]",
        "[bash, -c, 'cd /x && exec run']",
        "[sh, script.sh]",
        "[bash, script, -c, x]",
        "[run, -c, x]",
        "[bash]",
        "[sh, -c]",
        "[sh, -c, 'trap \"kill $p\" TERM; run & p=$!; wait']",
    ],
)
def test_a_shell_that_gives_way_is_not(command):
    assert advised(f"command: {command}") == []


@pytest.mark.parametrize("otherwise", ["runOnce: true", "stopScope: group", "stopScope: tree"])
def test_a_shell_does_not_matter_where_no_signal_is_sent_or_all_get_it(otherwise):
    assert advised(f"command: [sh, -c, run x]\n{otherwise}") == []


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("command: php artisan queue:work", "is 30s, but queue:work lets jobs run for 60s"),
        ("command: php artisan queue:work --timeout=90\nterminationGracePeriod: 60s", "jobs run for 90s"),
        ("command: php artisan queue:listen --timeout 0", "jobs run for as long as they like"),
        ("command: php artisan horizon", "Horizon by its own default lets jobs run for 60s"),
        ("command: celery -A shop worker", "Celery lets tasks run for as long as they like"),
        ("command: celery -A shop worker --time-limit=300\nterminationGracePeriod: 2m", "tasks run for 300s"),
        ("command: bundle exec sidekiq -t 60", "Sidekiq lets jobs finish for 61s"),
    ],
)
def test_work_that_may_take_longer_than_the_grace_period_is_told(spec, told):
    (found,) = advised(spec)
    assert found.startswith("spec.terminationGracePeriod: is ")
    assert told in found


@pytest.mark.parametrize(
    "spec",
    [
        "command: php artisan queue:work\nrunOnce: true",
        "command: php artisan queue:work\nterminationGracePeriod: 65s",
        "command: php artisan queue:work --timeout=10",
        "command: php artisan queue:work --timeout=0\nterminationGracePeriod: infinity",
        "command: php artisan horizon\nterminationGracePeriod: 10s",
        "command: celery -A shop worker\nterminationGracePeriod: 10s",
        "command: celery -A shop beat",
        "command: bundle exec sidekiq",
        "command: bundle exec sidekiq -t20 -C config.yml",
        "command: celery worker --time-limit=soon\nterminationGracePeriod: 10s",
        "command: php artisan schedule:work",
    ],
)
def test_work_that_ends_in_time_is_not(spec):
    assert advised(spec) == []


def test_one_job_at_a_time_without_run_once_is_told():
    written = "command: php artisan queue:work --once\nterminationGracePeriod: 65s"
    (found,) = advised(written)
    assert found.startswith("spec.runOnce: queue:work --once ends after one job")
    assert advised(f"{written}\nrunOnce: true") == []


def test_a_warning_stands_where_its_field_does():
    (found,) = advice(manifest("replicas: 2\nstrategy:\n  onFailure: Rollback"))
    assert str(found).startswith("F:8:16: spec.strategy.onFailure: has no effect"), "the lines below spec begin at 5"


def test_a_warning_about_what_is_not_written_stands_at_the_spec():
    (found,) = advice(manifest("command: php artisan queue:work --once\nterminationGracePeriod: 65s"))
    assert (found.line, found.column, found.field) == (5, 3, "spec.runOnce")


def test_the_same_is_said_in_one_line_each_where_there_is_no_file():
    written = "command: [sh, -c, 'queue:work x']\nreadinessProbe: {notify: {}}"
    (found,) = doubtful(program(written))
    assert found.startswith("command: runs a shell that may stay in between"), (
        "fields without effect are told elsewhere"
    )
    assert found.endswith("(begin the last command of the script with exec, or use stopScope: group)")


def test_who_knows_that_it_would_run_as_root_says_so():
    assert str(root_warning("/a.yaml", 4)).startswith("/a.yaml:4:1: spec.user: is not written, so this runs as root")


def test_a_config_needs_no_advice():
    (found,) = read("{apiVersion: reconciler/v1, kind: Config, metadata: {name: a}, spec: {}}").manifests
    assert advice(found) == []


AGE = "{type: beanstalkd, name: a, metadata: {tube: a}, metric: age, target: 30}"
DEPTH = "{type: beanstalkd, metadata: {tube: a}}"


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (f"triggers: [{AGE}]", ["F:7:13: spec.triggers: ask for more by the age of work only"]),
        (f"triggers: [{AGE}, {DEPTH}]", []),
        (
            f"triggers: [{DEPTH}]\nbehavior: {{scaleUp: {{selectPolicy: Disabled}}}}",
            ["F:8:38: spec.behavior.scaleUp.selectPolicy: Disabled keeps the count from ever rising"],
        ),
        (f"triggers: [{DEPTH}]\nminReplicaCount: 1\nbehavior: {{scaleUp: {{selectPolicy: Disabled}}}}", []),
        (f"triggers: [{DEPTH}]\nbehavior: {{scaleDown: {{selectPolicy: Disabled}}}}", []),
    ],
)
def test_a_binding_that_hardly_does_what_is_meant_is_told(spec, told):
    (found,) = read(binding_text(spec)).manifests
    said = [str(problem) for problem in advice(found)]
    assert len(said) == len(told)
    assert all(line.startswith(begin) for line, begin in zip(said, told, strict=True)), said


USED = {
    "startupProbe": "startupProbe: {notify: {}}",
    "readinessProbe": "readinessProbe: {notify: {}}",
    "livenessProbe": "livenessProbe: {notify: {}}",
    "sockets": "sockets: [{name: a, listen: 'tcp://:80'}]",
    "dependsOn": "dependsOn: [{name: db}]",
    "resources": "resources: {pids: {max: 3}}",
    "maxLifetime": "maxLifetime: 1h",
    "rolloutOn": "rolloutOn: [{path: /x}]",
    "preStop": "preStop: {signal: QUIT, wait: 1s}",
    "strategy.maxSurge": "strategy: {maxSurge: 1}",
    "strategy.onFailure": "strategy: {onFailure: Rollback}",
    "stdin": "stdin: pipe",
    "apiAccess": "apiAccess: read",
}


@pytest.mark.parametrize("row", NOT_YET, ids=lambda row: row.field)
def test_a_field_without_effect_is_told_as_long_as_it_has_none(row):
    assert not_yet_supported(program(USED[row.field])) == (row.field,)
    assert advised(USED[row.field]) == [f"spec.{row.field}: has no effect in this release: {row.sentence}"]


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "strategy: {maxSurge: 0, maxUnavailable: 1, onFailure: Pause}",
        "sockets: []\ndependsOn: []",
        "stdin: none\napiAccess: none",
        "replicas: 2\nlogs: {path: /var/log/x.log, format: json}",
        "logs: {path: none, stderr: inherit}",
    ],
)
def test_writing_what_is_the_case_anyway_is_fine(spec):
    assert not_yet_supported(program(spec)) == ()
