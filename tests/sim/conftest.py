"""The simulator runs the engine with small bounds, so that short histories reach what happens beyond them."""

import logging
import secrets
from collections.abc import Iterator

import pytest

from reconciler.engine import loop


@pytest.fixture(autouse=True, scope="session")
def few_actions_per_pass() -> Iterator[None]:
    """Plans of more than three actions are carried out in several passes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "ACTIONS_PER_PASS", 3)
        yield


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    """The engine's log of ten thousand deaths helps nobody."""
    logger = logging.getLogger("reconciler")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(level)


@pytest.fixture
def sim_seed(request: pytest.FixtureRequest) -> int:
    """The seed of this run, told where a failure is shown; --hypothesis-seed=n (make sim SEED=n) repeats it."""
    asked = request.config.getoption("--hypothesis-seed")
    number = secrets.randbits(32) if asked in (None, "random") else int(asked)
    print(f"seed of these histories: {number}; again: make sim SEED={number}")
    return number
