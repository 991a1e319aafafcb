"""What the metadata of each kind of trigger may hold, and what is said of what it may not."""

import pytest

from reconciler.model.triggers import BUILT_IN, check, faults, settings

LEAST = {
    "laravel": {},
    "redis": {"key": "mails"},
    "celery": {},
    "rq": {},
    "sidekiq": {},
    "bullmq": {"queues": "mails"},
    "arq": {},
    "beanstalkd": {},
    "rabbitmq": {"queue": "mails"},
    "sqlite": {"path": "q.db", "table": "jobs"},
    "postgresql": {"table": "jobs"},
    "mysql": {"url": "mysql://h/db", "table": "jobs"},
    "prometheus": {"query": "sum(x)"},
    "http": {"url": "http://h/"},
    "exec": {"command": "count"},
    "cron": {"timezone": "Europe/Berlin", "start": "0 8 * * *", "end": "0 18 * * *", "desiredReplicas": "3"},
}


def told(kind: str, **metadata: object) -> list[str]:
    return [f"{key}: {message}" if key else message for key, message in faults(kind, metadata)]


def test_there_is_an_example_of_each_kind():
    assert LEAST.keys() == BUILT_IN.keys()


@pytest.mark.parametrize("kind", BUILT_IN)
def test_this_is_the_least_that_each_needs(kind):
    assert list(check(kind, LEAST[kind])) == []
    assert isinstance(settings(kind, LEAST[kind]), BUILT_IN[kind])
    for key in LEAST[kind]:
        without = {other: value for other, value in LEAST[kind].items() if other != key}
        assert list(faults(kind, without)), key


@pytest.mark.parametrize("kind", BUILT_IN)
def test_any_key_may_be_written_elsewhere(kind):
    for suffix in ("FromEnv", "FromFile"):
        assert list(check(kind, {f"{key}{suffix}": "PLACE" for key in LEAST[kind]})) == []


@pytest.mark.parametrize("kind", BUILT_IN)
def test_a_key_that_means_nothing_is_told_with_what_it_may_mean(kind):
    (message,) = told(kind, **LEAST[kind], nonsense="x")
    assert message.startswith(f"nonsense: is not a setting of {kind}")
    known = [field.alias or name for name, field in BUILT_IN[kind].model_fields.items()]
    (message,) = told(kind, **LEAST[kind], **{f"{known[0]}x": "x"})
    assert f"did you mean {known[0]}?" in message


def test_what_check_tells_is_below_the_trigger():
    assert next(iter(check("redis", {"key": "q", "x": "y"})))[0] == "metadata.x"
    assert next(iter(check("redis", {})))[0] == "metadata"
    assert list(check("reddis", {})) == [("type", '"reddis" is not a type of trigger (did you mean redis?)')]


@pytest.mark.parametrize(
    ("kind", "hint"),
    [("mariadb", "mysql"), ("postgres", "postgresql"), ("redis-streams", "redis"), ("horizon", "laravel")],
)
def test_other_names_of_kinds_lead_to_ours(kind, hint):
    ((_, message),) = check(kind, {})
    assert f"did you mean {hint}?" in message


def test_a_plug_in_s_metadata_is_its_own_business():
    assert list(check("acme.io/sqs", {"anything": {"at": ["all"]}, "urlFromEnv": "X"})) == []


@pytest.mark.parametrize(
    ("kind", "metadata", "message"),
    [
        ("redis", {}, "needs exactly one of key and parts"),
        ("redis", {"key": "a", "parts": [{"key": "b"}]}, "parts: needs exactly one of key and parts"),
        ("redis", {"key": "a", "upTo": "now"}, "upTo: goes with type: zset"),
        ("redis", {"key": "a", "type": "zset", "upTo": "soon"}, "upTo: must be one of now or nowMs"),
        ("redis", {"key": "a", "group": "g"}, "group: goes with type: stream"),
        ("redis", {"parts": [{"key": "a"}], "type": "zset"}, "type: belongs into each of the parts"),
        ("redis", {"parts": [{"key": "a", "upTo": "now"}]}, "parts.0.upTo: goes with type: zset"),
        ("redis", {"parts": [{"kie": "a", "key": "b"}]}, "parts.0.kie: is not a setting here; known are key"),
        ("redis", {"parts": [{}]}, "parts.0.key: is required"),
        ("redis", {"parts": "a"}, "parts: must be a list"),
        ("redis", {"listName": "a", "key": "b"}, "listName: is not a setting of redis; here it is called key"),
        ("redis", {"key": "a", "listLength": "5"}, "listLength: is not a setting of redis; that is target"),
        ("redis", {"key": ""}, "key: must not be empty"),
        ("redis", {"key": "a", "database": "x"}, "database: must be a whole number"),
        ("redis", {"key": "a", "database": "-1"}, "database: must be at least 0"),
        ("redis", {"key": "a", "verifyTls": "maybe"}, "verifyTls: must be true or false"),
        ("redis", {"key": "a", "password": "x", "passwordFromEnv": "Y"}, "password: is given twice"),
        ("redis", {"key": "a", "passwordFromFile": ""}, "passwordFromFile: must be the path of a file"),
        ("redis", {"key": "a", "passwordFromEnv": ["X"]}, "passwordFromEnv: must be the name of a variable"),
        ("redis", {"key": "a", "paswordFromEnv": "X"}, "pasword: is not a setting of redis; did you mean password?"),
        ("redis", {"key": ["a"]}, "key: must be text; put it into quotes"),
        ("sqlite", {"path": "a", "query": "x", "table": "y"}, "table: needs exactly one of query and table"),
        ("sqlite", {"path": "a", "query": "x", "where": "y"}, "where: goes with table; a query has its own"),
        ("beanstalkd", {"tube": "a b"}, "tube: does not match "),
        ("beanstalkd", {"tube": "-a"}, "tube: does not match "),
        ("beanstalkd", {"tube": "a" * 201}, "tube: does not match "),
        ("beanstalkd", {"server": "h:1"}, "server: is not a setting of beanstalkd; here it is called url"),
        ("rabbitmq", {"queueName": "x", "queue": "x"}, "queueName: is not a setting of rabbitmq; here it"),
        ("prometheus", {"query": "x", "threshold": "3"}, "threshold: is not a setting of prometheus; that is target"),
        ("http", {"url": "http://h", "jsonPath": "a["}, 'jsonPath: cannot be read from "[" on'),
        ("http", {"url": "http://h", "headers": "x"}, "headers: must be a map"),
        ("http", {"url": "http://h", "password": "x", "bearerToken": "y"}, "bearerToken: and password exclude"),
        ("exec", {"command": "a", "timeout": "3s"}, "timeout: must be at most 2"),
        ("exec", {"command": "a", "timeout": "0s"}, "timeout: must be more than 0"),
        ("exec", {"command": "a", "timeout": "soon"}, "timeout: 'soon' is not a duration"),
        ("exec", {"command": "a | b"}, "command: "),
        ("exec", {"command": []}, "command: must name a program to run"),
        ("bullmq", {"queues": " , "}, "queues: must not be empty"),
        ("cron", {**LEAST["cron"], "end": "0 8 * * *"}, "end: is the same as start"),
        ("cron", {**LEAST["cron"], "start": "0 0 30 2 *"}, "start: never comes"),
        ("cron", {**LEAST["cron"], "desiredReplicas": "-1"}, "desiredReplicas: must be at least 0"),
        ("cron", {**LEAST["cron"], "desiredReplicas": "2.5"}, "desiredReplicas: must be a whole number"),
    ],
)  # fmt: skip
def test_this_is_refused(kind, metadata, message):
    (found,) = told(kind, **metadata)
    assert found.startswith(message)


def test_several_faults_are_told_at_once():
    assert [line.partition(":")[0] for line in told("cron", start="x", end="y", zone="z")] == [
        "zone", "timezone", "start", "end", "desiredReplicas",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "metadata", "attribute", "value"),
    [
        ("rq", {"queues": "high, low"}, "queues", ("high", "low")),
        ("rq", {"queues": ["high", "low"]}, "queues", ("high", "low")),
        ("redis", {"key": "a", "database": "3"}, "database", 3),
        ("redis", {"key": "a", "verifyTls": "false"}, "verify_tls", False),
        ("exec", {"command": "count --of 'a b'"}, "command", ("count", "--of", "a b")),
        ("exec", {"command": ["count", "x"], "timeout": "500ms"}, "timeout", 0.5),
        ("celery", {"prioritySteps": ["0", "5"]}, "priority_steps", (0, 5)),
    ],
)
def test_texts_become_what_they_mean(kind, metadata, attribute, value):
    assert getattr(settings(kind, metadata), attribute) == value


def test_what_is_wrong_with_a_value_from_a_variable_is_raised():
    with pytest.raises(ValueError, match="database: must be a whole number"):
        settings("redis", {"key": "a", "database": "three"})


@pytest.mark.parametrize("metadata", [{"key": {"a": {"b": "c"}}}, {"FromEnv": "x"}, {"parts": [[]]}, {"parts": {}}])
def test_odd_shapes_are_refused_and_harm_nobody(metadata):
    assert list(faults("redis", metadata))
