"""What `make soak` calls flat."""

from dataclasses import dataclass

import pytest

from support.soaking import Mark, Sight, grown

MIB = 1 << 20
CALM = {"keeper": Sight(7 * MIB, 67, 1), "controller": Sight(50 * MIB, 27, 3), "pump": Sight(7 * MIB, 130, 1)}


@dataclass
class After:
    """What was seen in the end."""

    name: str = "keeper"
    pss: int = 0
    fds: int = 0
    threads: int = 0
    journal: int = 0


def mark(after: After) -> Mark:
    before = CALM[after.name]
    sight = Sight(before.anonymous_bytes + after.pss, before.fds + after.fds, before.threads + after.threads)
    return Mark(1000, 10, 5.0, {**CALM, after.name: sight}, 32 * MIB + after.journal, 0)


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (After(), []),
        (After("controller", pss=2 * MIB), []),
        (After("controller", pss=-9 * MIB, fds=-1), []),
        (After("controller", pss=3 * MIB), ["controller: memory 50.0 -> 53.0"]),
        (After("pump", pss=3 * MIB), ["pump: memory 7.0 -> 10.0"]),
        (After("pump", fds=1), ["pump: 130 -> 131 descriptors"]),
        (After("controller", threads=1), ["controller: 3 -> 4 threads"]),
        (After(journal=MIB), ["journal: 32.0 -> 33.0"]),
    ],
)
def test_what_grows_beyond_noise_is_named(after: After, said: list[str]) -> None:
    assert grown(mark(After()), mark(after)) == said
