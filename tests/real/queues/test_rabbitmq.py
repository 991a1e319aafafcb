"""The contract of drivers on RabbitMQ, whose server takes ten seconds to start: all in one process of xdist."""

import pytest

from support.queue_contract import QueueContract

pytestmark = [pytest.mark.timeout(180)]


class TestRabbitmq(QueueContract):
    """On the kind of queue in conftest.py."""
