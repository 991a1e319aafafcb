"""Golden plans: every case in tests/plans is desired + observed + memory + now, and the exact text of the plan.

To add a case, write its inputs and run this test: the plan that differs is in the message.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.core.reconcile import reconcile, reconcile_only
from reconciler.model.state import Memory, Observed
from support import worlds

PLANS = Path(__file__).parents[1] / "plans"
CASES = [
    pytest.param(case, id=f"{file.stem}: {case['name']}")
    for file in sorted(PLANS.glob("*.yaml"))
    for case in yaml.safe_load(file.read_text())
]


def world(case: dict[str, Any]) -> tuple[Observed, Memory]:
    return worlds.world(case.get("replicas", {}), case.get("work"), **{"complete": True, **case.get("memory", {})})


@pytest.mark.parametrize("case", CASES)
def test_the_plan_is_the_written_one(case: dict[str, Any]) -> None:
    wanted = worlds.desired(**case.get("desired", {}))
    observed, memory = world(case)
    result = reconcile(wanted, observed, memory, float(case["now"]), float(case.get("allowed", "inf")))
    assert result.plan.render() == case["plan"].strip()


@pytest.mark.parametrize("case", CASES)
def test_a_settled_program_gets_the_same_actions_replica_by_replica(case: dict[str, Any]) -> None:
    wanted, now = worlds.desired(**case.get("desired", {})), float(case["now"])
    observed, memory = world(case)
    allowed = float(case.get("allowed", "inf"))
    full = reconcile(wanted, observed, memory, now, allowed)
    ordinals = sorted({*observed.processes, *memory.histories, *wanted.ordinals()})
    one_by_one = reconcile_only(ordinals, wanted, observed, memory, now, allowed)
    if full.settled:
        assert one_by_one is not None
        assert one_by_one.held == full.plan.held
        assert sorted(map(str, one_by_one.actions)) == sorted(map(str, full.plan.actions))
