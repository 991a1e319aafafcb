"""The built-in kinds of triggers by name, and whether metadata is fit for one.

Here are words only: who asks a queue is in adapters/queues. A kind with a domain in its name (`acme.io/sqs`) belongs to
a plug-in, and its metadata is the plug-in's business.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from reconciler.model import metadata as schemas
from reconciler.model.metadata import Metadata
from reconciler.model.node import shown
from reconciler.model.reading import nearest

BUILT_IN: dict[str, type[Metadata]] = {
    "laravel": schemas.Laravel,
    "redis": schemas.Redis,
    "celery": schemas.Celery,
    "rq": schemas.Rq,
    "sidekiq": schemas.Sidekiq,
    "bullmq": schemas.BullMq,
    "arq": schemas.Arq,
    "beanstalkd": schemas.Beanstalkd,
    "rabbitmq": schemas.Rabbitmq,
    "sqlite": schemas.Sqlite,
    "postgresql": schemas.Postgresql,
    "mysql": schemas.Mysql,
    "prometheus": schemas.Prometheus,
    "http": schemas.Http,
    "exec": schemas.Exec,
    "cron": schemas.Cron,
}

FROM_ENV, FROM_FILE = "FromEnv", "FromFile"

_OF_A_PLUG_IN = re.compile(
    r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+/[A-Za-z0-9][A-Za-z0-9._-]*"
)
_OTHER_TYPES = {
    "mariadb": "mysql",
    "postgres": "postgresql",
    "redis-streams": "redis",
    "metrics-api": "http",
    "beanstalk": "beanstalkd",
    "horizon": "laravel",
    "sql": "postgresql",
    "command": "exec",
}
_OTHER_KEYS = {
    "activationlistlength": "activationTarget of the trigger",
    "address": "url",
    "connection": "url",
    "connectionstring": "url",
    "consumergroup": "group",
    "databaseindex": "database",
    "dbname": "url",
    "file": "path",
    "host": "url",
    "hosts": "url",
    "listlength": "target of the trigger",
    "listname": "key",
    "querytext": "query",
    "queryvalue": "target of the trigger",
    "queue": "queues",
    "queuename": "queue",
    "server": "url",
    "serveraddress": "url",
    "stream": "key",
    "targetqueryvalue": "target of the trigger",
    "threshold": "target of the trigger",
    "token": "bearerToken",
    "unsafessl": "verifyTls",
    "user": "username",
    "value": "target of the trigger",
    "valuelocation": "jsonPath",
    "vhostname": "vhost",
}
"""What KEDA and clients call things, where the letters alone would not lead to our name."""

_WORDS = {
    "missing": "is required",
    "string_type": "must be text; put it into quotes",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list",
    "dict_type": "must be a map",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "finite_number": "must be finite",
    "model_type": "must be a map",
    "model_attributes_type": "must be a map",
}


def unknown_type(kind: str) -> str | None:
    """What to say of a kind of trigger that cannot exist; None for ours, and for names that only a plug-in can have."""
    if kind in BUILT_IN or _OF_A_PLUG_IN.fullmatch(kind):
        return None
    hint = f"did you mean {_OTHER_TYPES[kind]}?" if kind in _OTHER_TYPES else nearest(kind, BUILT_IN)
    known = f" ({hint})" if hint else f"; known are {', '.join(BUILT_IN)}, and plug-ins such as acme.io/sqs"
    return f"{shown(kind)} is not a type of trigger{known}"


def check(type: str, metadata: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is wrong with a trigger, as (dotted field below the trigger, message): `type`, `metadata.url`."""
    if unknown := unknown_type(type):
        yield "type", unknown
    for key, message in faults(type, metadata):
        yield f"metadata.{key}" if key else "metadata", message


def faults(kind: str, metadata: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is wrong with the metadata of a trigger, as (dotted key, message); an empty key: all of it."""
    model = BUILT_IN.get(kind)
    direct, indirect = _apart(metadata)
    for key in sorted(direct.keys() & indirect):
        yield key, "is given twice, directly and by FromEnv or FromFile"
    yield from _pointer_faults(metadata)
    if model is None:
        return
    known = [field.alias or name for name, field in model.model_fields.items()]
    strange = [key for key in (*direct, *indirect) if key not in known]
    for key in strange:
        yield key, f"is not a setting of {kind}{_hint(key, known)}"
    failed = {*strange, *indirect}
    try:
        model.model_validate({key: value for key, value in direct.items() if key in known})
    except ValidationError as raised:
        for detail in raised.errors(include_url=False):
            path = ".".join(str(step) for step in detail["loc"])
            if path.partition(".")[0] not in indirect:
                yield path, _words(detail)
                failed.add(path)
    for key, message in model.faults({**direct, **dict.fromkeys(indirect)}):
        if key not in failed:
            yield key, message


def settings(kind: str, metadata: Mapping[str, Any]) -> Metadata:
    """Resolved metadata (nothing FromEnv or FromFile is left) as attributes. Raises ValueError: all that is wrong."""
    if problems := [f"{key}: {message}" if key else message for key, message in faults(kind, metadata)]:
        raise ValueError("; ".join(problems))
    return BUILT_IN[kind].model_validate(dict(metadata))


def pointed(key: str) -> tuple[str, str] | None:
    """(`password`, `FromEnv`) for `passwordFromEnv`; None for a key that holds its value itself."""
    for suffix in (FROM_ENV, FROM_FILE):
        if key.endswith(suffix) and key != suffix:
            return key.removesuffix(suffix), suffix
    return None


def _apart(metadata: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """What is written itself, and the names of what is written elsewhere. Maps within are left as far as possible."""
    direct: dict[str, Any] = {}
    indirect: list[str] = []
    for key, value in metadata.items():
        pointer = pointed(key)
        if pointer is not None:
            indirect.append(pointer[0])
        elif isinstance(value, Mapping):
            inner, away = _apart(value)
            direct[key] = {**inner, **dict.fromkeys(away, "")}
        else:
            direct[key] = value
    return direct, indirect


def _pointer_faults(metadata: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in metadata.items():
        if isinstance(value, Mapping):
            yield from _pointer_faults(value, f"{prefix}{key}.")
        elif (pointer := pointed(key)) and not (isinstance(value, str) and value):
            wanted = "the name of a variable" if pointer[1] == FROM_ENV else "the path of a file"
            yield f"{prefix}{key}", f"must be {wanted}"


def _hint(key: str, known: list[str]) -> str:
    other = _OTHER_KEYS.get(key.lower())
    if other in known:
        return f"; here it is called {other}"
    if other is not None and " " in other:
        return f"; that is {other}"
    hint = nearest(key, known)
    return f"; {hint}" if hint else f"; known are {', '.join(known)}"


def _words(detail: ErrorDetails) -> str:
    kind, bounds = detail["type"], detail.get("ctx", {})
    if kind in _WORDS:
        return _WORDS[kind].format(**bounds)
    if kind == "literal_error":
        return f"must be one of {bounds['expected'].replace(chr(39), '')}"
    if kind == "string_pattern_mismatch":
        return f"does not match {bounds['pattern']}"
    if kind == "extra_forbidden":
        known = [field.alias or name for name, field in schemas.RedisPart.model_fields.items()]  # the one such map
        return f"is not a setting here; {nearest(str(detail['loc'][-1]), known)}"
    return detail["msg"].removeprefix("Value error, ")
