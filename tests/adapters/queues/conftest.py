"""The kinds of queues whose servers start quickly. RabbitMQ's does not, and is in tests/real/queues."""

import pytest

from support.queue_fixtures import endangered_rigs, name, rigs, shared
from support.queue_rigs import (
    BeanstalkdRig,
    ExecRig,
    HttpRig,
    LaravelRig,
    MysqlRig,
    PostgresqlRig,
    PrometheusRig,
    RedisRig,
    SqliteRig,
)

pytest.register_assert_rewrite("support.queue_contract")

SERVERS = (RedisRig, LaravelRig, BeanstalkdRig, PostgresqlRig, MysqlRig)
WEB = (HttpRig, PrometheusRig)
FILES = (SqliteRig, ExecRig)

rig = rigs((*FILES, *WEB, *SERVERS))
served = rigs((*WEB, *SERVERS))
endangered = endangered_rigs(SERVERS)

__all__ = ["endangered", "name", "rig", "served", "shared"]
