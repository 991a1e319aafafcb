"""The contract of drivers (tests/support/queue_contract.py), on all kinds of queues whose servers start quickly."""

from support.queue_contract import QueueContract


class TestDrivers(QueueContract):
    """On the kinds of queues in conftest.py."""
