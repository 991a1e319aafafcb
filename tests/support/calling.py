"""One call of the command line, as the tests in e2e make it."""

from collections.abc import Callable
from typing import NamedTuple


class Result(NamedTuple):
    """How a call ended."""

    code: int
    out: str
    err: str


Call = Callable[..., Result]
