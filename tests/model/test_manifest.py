"""Canonical specs: stored, read again, merged with defaults."""

import json

import pytest
import yaml
from pydantic import ValidationError

from reconciler.model.manifest import effective, merged, program_from_canonical
from reconciler.model.program import ProgramSpec
from support.reading import manifest, program_text, read

EVERYTHING = """
command: php artisan queue:work
workingDir: app
followLinks: false
runOnce: true
env: {A: "4", B: {fromFile: key}}
envFrom: [{file: .env, prefix: P_, optional: true, rollOnChange: false}]
inheritEnv: [HOME]
user: www-data
group: "33"
supplementaryGroups: [adm]
umask: "027"
nice: -5
limits: {nofile: 1024, core: unlimited, as: {soft: 1Gi, hard: unlimited}}
cpuAffinity: [0, 1]
oomScoreAdjust: -500
noNewPrivileges: true
rolloutOn: [{path: release}, {path: /etc/x, action: Signal, signal: USR2}]
sockets: [{name: http, listen: "tcp://:8080"}, {name: f, listen: "unix:///run/f", as: stdin, mode: "0660", owner: a}]
stdin: none
replicas: 2
suspend: true
restartPolicy: OnFailure
successExitCodes: [0, 3, TERM]
restartBackoff: {initial: 100ms, factor: 1.5, max: 1m, jitter: 0, resetAfter: 5s}
minRestartInterval: 0s
maxLifetime: 1h
stopSignal: QUIT
terminationGracePeriod: infinity
stopScope: tree
preStop: {exec: {command: "bye $(RECONCILER_PID)"}, timeout: 3s}
startupProbe: {exec: {command: [check]}, timeout: 2s}
readinessProbe: {httpGet: {port: "$(REPLICA+3000)", path: /up, headers: {Host: x}}, successThreshold: 2}
livenessProbe: {tcpSocket: {host: 10.0.0.9, port: 80}, initialDelay: 5s, period: 3s, failureThreshold: 9}
minReady: 2s
strategy: {maxUnavailable: 50%, maxSurge: 0, onFailure: Rollback}
progressDeadline: 5m
revisionHistoryLimit: 3
dependsOn: [{name: db, condition: Started}]
logs: {path: x.log, stderr: y.log, maxSize: 1Mi, maxFiles: 1, compress: none, format: json, mode: "0600"}
resources: {memory: {restartAbove: 1Gi, max: 2Gi}, cpu: {max: 1500m}, pids: {max: 100}}
processName: x-$(REPLICA)
apiAccess: read
"""


def test_the_example_writes_every_field():
    assert {field.alias for field in ProgramSpec.model_fields.values()} == set(manifest(EVERYTHING).canonical)


@pytest.mark.parametrize("spec", ["", EVERYTHING])
def test_a_stored_spec_is_read_again_as_the_same(spec):
    found = manifest(spec)
    for copy in (json.loads(json.dumps(found.canonical)), yaml.safe_load(yaml.safe_dump(found.canonical))):
        assert copy == found.canonical
        assert program_from_canonical(copy) == found.spec
        assert program_from_canonical(copy).model_fields_set == found.spec.model_fields_set


@pytest.mark.parametrize("spec", ["", EVERYTHING])
def test_a_canonical_spec_is_also_a_manifest_and_stays_the_same(spec):
    found = manifest(spec)
    document = yaml.safe_load(program_text(spec)) | {"spec": found.canonical}
    for text in (yaml.safe_dump(document), json.dumps(document)):
        (again,) = read(text, base_dir=None).manifests
        assert again.canonical == found.canonical
        assert again.spec == found.spec


def test_only_what_was_written_is_canonical():
    assert manifest("logs: {maxFiles: 3}").canonical == {
        "command": ["run"],
        "logs": {"maxFiles": 3},
        "workingDir": "/base",
    }


def test_a_spec_of_a_newer_release_is_refused_rather_than_run_without_what_it_says():
    with pytest.raises(ValidationError):
        program_from_canonical({"command": ["a"], "workingDir": "/", "hologram": True})


WRITTEN = {"command": ["a"], "workingDir": "/"}


@pytest.mark.parametrize(
    ("written", "defaults", "expected"),
    [
        ({}, {}, {}),
        ({}, {"user": "x"}, {"user": "x"}),
        ({"user": "y"}, {"user": "x"}, {"user": "y"}),
        ({"env": {"A": "1"}}, {"env": {"A": "0", "B": "2"}}, {"env": {"A": "1", "B": "2"}}),
        ({"env": {"A": "1"}}, {"env": {"A": {"fromFile": "/x"}}}, {"env": {"A": "1"}}),
        ({"logs": {"maxFiles": 1}}, {"logs": {"path": "none"}}, {"logs": {"path": "none", "maxFiles": 1}}),
        ({"successExitCodes": [1]}, {"successExitCodes": [0, 2]}, {"successExitCodes": [1]}),
        (
            {"livenessProbe": {"exec": {"command": ["a"]}}},
            {"livenessProbe": {"notify": {}, "period": 3.0}},
            {"livenessProbe": {"exec": {"command": ["a"]}}},
        ),
        ({"strategy": {"type": "Recreate"}}, {"strategy": {"maxSurge": 2}}, {"strategy": {"type": "Recreate"}}),
        ({"strategy": {"maxSurge": 2}}, {"strategy": {"type": "Recreate"}}, {"strategy": {"maxSurge": 2}}),
    ],
)
def test_defaults_fill_in_what_was_not_written(written, defaults, expected):
    before = json.dumps([written, defaults])
    assert merged({**WRITTEN, **written}, defaults) == {**WRITTEN, **expected}
    assert json.dumps([written, defaults]) == before
    assert effective({**WRITTEN, **written}, defaults) == program_from_canonical({**WRITTEN, **expected})
