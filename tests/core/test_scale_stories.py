"""Golden stories: what is found in the queues, moment after moment, and what is decided, word for word.

tests/scales/*.yaml; to add a case needs no code. `then` is compared as text.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.model.manifest import binding_from_canonical
from reconciler.model.scaling import ScalingMemory
from support.scales import Bound, found_from

FILES = sorted((Path(__file__).parent.parent / "scales").glob("*.yaml"))
STORIES = [(path.stem, story) for path in FILES for story in yaml.safe_load(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize(
    "story", [story for _, story in STORIES], ids=[f"{name}-{each['story']}" for name, each in STORIES]
)
def test_story(story: dict[str, Any]) -> None:
    spec = {"scaleTargetRef": {"name": "web"}, "maxReplicaCount": 10, **story["binding"]}
    restored = story.get("restored")
    bound = Bound(
        binding_from_canonical(spec),
        written=story.get("written", 0),
        run_once=story.get("runOnce", False),
        memory=None if restored is None else ScalingMemory.restored(*restored, 0.0),
    )
    for step in story["steps"]:
        found = [found_from(told) for told in step.get("found", [])]
        counts = step.get("counts", {})
        decision = bound.at(step["at"], *found, follow="counts" not in step, paused=step.get("paused", False), **counts)
        assert decision.render() == step["then"].strip(), f"at {step['at']}"
