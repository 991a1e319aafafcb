"""The kinds of queues whose servers take their time."""

import pytest

from support.queue_fixtures import endangered_rigs, name, rigs, shared
from support.queue_rigs import RabbitmqRig

pytest.register_assert_rewrite("support.queue_contract")

rig = rigs((RabbitmqRig,))
served = rigs((RabbitmqRig,))
endangered = endangered_rigs((RabbitmqRig,))

__all__ = ["endangered", "name", "rig", "served", "shared"]
