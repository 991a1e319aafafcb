"""QueueBindings: what is accepted, what it becomes, what has to fit together."""

import json

import pytest
import yaml

from reconciler.model.binding import Policy, QueueBindingSpec, Target
from reconciler.model.manifest import binding_from_canonical
from reconciler.model.triggers import BUILT_IN
from support.reading import binding, binding_text, complaints, read

EVERYTHING = """
scaleTargetRef: {kind: Program, name: mail-worker}
minReplicaCount: 2
maxReplicaCount: 20
idleReplicaCount: 1
pollingInterval: 50ms
cooldownPeriod: 5m
triggers:
- type: laravel
  name: mails
  metadata: {connection: redis, queues: [high, mails], retryAfter: 90, urlFromEnv: REDIS_URL, passwordFromFile: secret}
  metric: latency
  target: 1m30s
  activationTarget: 3
  includeReserved: false
  includeDelayed: true
- {type: rq, metric: age, target: 30}
- {type: acme.io/sqs}
behavior:
  scaleUp:
    stabilizationWindow: 500ms
    policies: [{type: Pods, value: 3, periodSeconds: 15}, {type: Percent, value: 50, period: 1m}]
    selectPolicy: Min
    tolerance: 0
  scaleDown:
    stabilizationWindowSeconds: 300
    policies: [{type: Replicas, value: 1, period: 1s}]
    selectPolicy: Disabled
    tolerance: 0.5
fallback: {failureThreshold: 5, behavior: currentReplicasIfHigher, replicas: 4}
stallTimeout: infinity
onDelete: keep
suspend: true
"""


def canonical(spec: str) -> dict[str, object]:
    (found,) = read(binding_text(spec)).manifests
    return found.canonical


def refusals(spec: str) -> list[str]:
    """`field: message` for all that is wrong with these lines below `spec`."""
    return [line.split(": ", 1)[1].removeprefix("spec.") for line in complaints(binding_text(spec))]


def test_the_example_writes_every_field():
    assert {field.alias for field in QueueBindingSpec.model_fields.values()} == set(canonical(EVERYTHING))


def test_a_binding_is_read_whole():
    spec = binding(EVERYTHING)
    first, second, third = spec.triggers
    assert (spec.scale_target_ref.kind, spec.scale_target_ref.name) == ("Program", "mail-worker")
    assert (spec.min_replica_count, spec.max_replica_count, spec.rest_count) == (2, 20, 1)
    assert (spec.polling_interval, spec.cooldown_period, spec.stall_timeout) == (0.05, 300.0, float("inf"))
    assert (first.target, first.activation_target, second.target, third.target) == (90.0, 3.0, 30.0, 1.0)
    assert first.metadata == {
        "connection": "redis",
        "queues": ["high", "mails"],
        "retryAfter": "90",
        "urlFromEnv": "REDIS_URL",
        "passwordFromFile": "/base/secret",
    }
    assert spec.behavior.scale_up.policies[0] == Policy(type="Replicas", value=3, period=15.0)
    assert spec.behavior.scale_down.stabilization_window == 300.0
    assert spec.fallback.behavior == "currentReplicasIfHigher"


def test_what_is_not_written_is_this():
    spec = binding("")
    assert (spec.min_replica_count, spec.rest_count, spec.polling_interval, spec.cooldown_period) == (0, 0, None, 60.0)
    assert (spec.triggers[0].metric, spec.triggers[0].target, spec.triggers[0].activation_target) == ("depth", 1.0, 0.0)
    assert (spec.triggers[0].include_reserved, spec.triggers[0].include_delayed) == (True, False)
    up, down = spec.behavior.scale_up, spec.behavior.scale_down
    assert (up.stabilization_window, down.stabilization_window, up.tolerance, down.tolerance) == (0.0, 30.0, 0.1, 0.1)
    assert [(each.type, each.value, each.period) for each in up.policies] == [("Percent", 100, 1), ("Replicas", 4, 1)]
    assert [(each.type, each.value, each.period) for each in down.policies] == [("Percent", 100, 5)]
    assert (spec.fallback.failure_threshold, spec.fallback.behavior) == (3, "currentReplicas")
    assert (spec.stall_timeout, spec.on_delete, spec.suspend) == (60.0, "restore", False)


@pytest.mark.parametrize("spec", ["", EVERYTHING])
def test_a_stored_spec_is_read_again_as_the_same(spec):
    written = canonical(spec)
    for copy in (json.loads(json.dumps(written)), yaml.safe_load(yaml.safe_dump(written))):
        assert binding_from_canonical(copy) == binding(spec)
        again = yaml.safe_dump(yaml.safe_load(binding_text("")) | {"spec": copy})
        assert read(again, base_dir=None).manifests[0].canonical == written


def test_only_what_was_written_is_canonical_and_in_one_notation():
    assert canonical(
        "cooldownPeriodSeconds: 90\nbehavior: {scaleDown: {policies: [{type: Workers, value: 1, period: 1m}]}}"
    ) == {
        "scaleTargetRef": {"name": "web"},
        "maxReplicaCount": 6,
        "triggers": [{"type": "rq"}],
        "cooldownPeriod": 90.0,
        "behavior": {"scaleDown": {"policies": [{"type": "Replicas", "value": 1, "period": 60.0}]}},
    }


@pytest.mark.parametrize(
    ("typed", "seconds"), [("30", 30.0), ("30s", 30.0), ("1m30s", 90.0), ("250ms", 0.25), ("0.5", 0.5), ('"2m"', 120.0)]
)
def test_a_target_in_seconds_may_have_a_unit(typed, seconds):
    assert binding(f"triggers: [{{type: rq, metric: age, target: {typed}}}]").triggers[0].target == seconds


def test_a_target_is_a_number_to_the_model_also_when_it_was_parsed_before():
    assert Target.parse(Target(3.0, unit=True)) == Target(3.0, unit=True)


def test_metadata_is_text_exactly_as_typed():
    found = binding(
        "triggers: [{type: acme.io/x, metadata: {a: 012, b: no, c: 1e3, d: '', e: [{f: 1.10}], g: {h: true}}}]"
    )
    assert found.triggers[0].metadata == {
        "a": "012",
        "b": "no",
        "c": "1e3",
        "d": "",
        "e": [{"f": "1.10"}],
        "g": {"h": "true"},
    }


def test_a_file_named_in_metadata_is_relative_to_the_manifest():
    text = binding_text("triggers: [{type: rq, metadata: {passwordFromFile: secret}}]")
    (problem,) = complaints(text, base_dir=None)
    assert "triggers[0].metadata.passwordFromFile" in problem
    assert "is relative, and this input has no folder" in problem


@pytest.mark.parametrize("type_", [*BUILT_IN, "acme.io/sqs", "a-b.example.org/Some_Queue.v2"])
def test_these_types_of_trigger_are_known(type_):
    assert not any("is not a type of trigger" in told for told in refusals(f"triggers: [{{type: {type_}}}]"))


@pytest.mark.parametrize(
    "type_", ["sqs", "acme.io", "acme/sqs", "acme.io/", "Acme.io/x", "-a.io/x", "a..io/x", "a.io/x/y"]
)
def test_other_types_are_refused_with_those_that_are(type_):
    (told,) = refusals(f"triggers: [{{type: {type_}}}]")
    assert told.startswith(f'triggers[0].type: "{type_}" is not a type of trigger')


@pytest.mark.parametrize(
    ("written", "behavior"),
    [
        ("{}", "currentReplicas"),
        ("{replicas: 2}", "static"),
        ("{behavior: currentReplicas, replicas: 2}", "currentReplicas"),
        ("{behavior: currentReplicasIfLower, replicas: 2}", "currentReplicasIfLower"),
    ],
)
def test_who_writes_a_number_to_fall_back_to_means_it(written, behavior):
    assert binding(f"fallback: {written}").fallback.behavior == behavior


def test_triggers_are_called_by_name_or_type_and_told_apart():
    spec = binding("triggers: [{type: rq}, {type: rq, name: mails}, {type: rq}, {type: arq}]")
    assert spec.trigger_labels() == ("rq[0]", "mails", "rq[2]", "arq")


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("minReplicaCount: 7", "minReplicaCount: (7) must not be above maxReplicaCount (6)"),
        ("minReplicaCount: 2\nidleReplicaCount: 2", "idleReplicaCount: (2) must be below minReplicaCount (2)"),
        ("idleReplicaCount: 0", "idleReplicaCount: (0) must be below minReplicaCount (0)"),
        ("fallback: {replicas: 7}", "fallback.replicas: (7) must not be above maxReplicaCount (6)"),
        ("fallback: {behavior: static}", "fallback.replicas: is required with behavior static"),
        ("triggers: [{type: rq, metric: age}]", "triggers[0].target: is required with metric age: seconds"),
        ("triggers: [{type: rq, metric: latency, target: 0}]", "triggers[0].target: must be more than 0"),
        ("triggers: [{type: rq, activationTarget: -1}]", "triggers[0].activationTarget: must be at least 0"),
        (
            "triggers: [{type: rq, name: a}, {type: rq}, {type: rq, name: a}]",
            "triggers[2].name: a is the name of an earlier trigger",
        ),
    ],
)
def test_what_does_not_fit_together_is_told_at_its_place(spec, told):
    assert refusals(spec) == [told]
