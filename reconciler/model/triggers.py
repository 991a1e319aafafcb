"""The types of triggers there are, and what the metadata of each may hold: what can be told without asking a server.

A type of ours is a plain word. One with a domain before a slash (`acme.io/sqs`) belongs to a plug-in, whose metadata is
its own business.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.model.node import shown
from reconciler.model.reading import nearest

BUILT_IN = (
    "laravel",
    "redis",
    "redis-streams",
    "beanstalkd",
    "sqlite",
    "postgresql",
    "mysql",
    "rabbitmq",
    "celery",
    "rq",
    "sidekiq",
    "bullmq",
    "arq",
    "prometheus",
    "http",
    "exec",
    "cron",
)

_OF_A_PLUG_IN = re.compile(
    r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+/[A-Za-z0-9][A-Za-z0-9._-]*"
)


def check(type: str, metadata: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is wrong with a trigger, as (dotted field below the trigger, message): `type`, `metadata.url`."""
    if type not in BUILT_IN and not _OF_A_PLUG_IN.fullmatch(type):
        hint = nearest(type, BUILT_IN)
        known = f" ({hint})" if hint else f"; known are {', '.join(BUILT_IN)}, and plug-ins such as acme.io/sqs"
        yield "type", f"{shown(type)} is not a type of trigger{known}"
