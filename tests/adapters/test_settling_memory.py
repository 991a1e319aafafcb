"""The garbage collector of a controller: at rest while it loads, at work from then on."""

import gc
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from reconciler.interpreter import settle_memory


@pytest.fixture
def collector() -> Iterator[None]:
    threshold, enabled = gc.get_threshold(), gc.isenabled()
    yield
    gc.set_threshold(*threshold)
    (gc.enable if enabled else gc.disable)()
    gc.unfreeze()


def test_is_at_work_once_the_memory_is_settled(collector: None) -> None:
    gc.disable()
    settle_memory()
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0, "what was loaded is not looked at again"


def test_whoever_only_imports_the_controller_keeps_the_collector() -> None:
    asked = "import gc, reconciler.app; print(gc.isenabled())"
    said = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True, env=os.environ)
    assert said.stdout.strip() == "True"
