"""Histories of one machine, drawn by Hypothesis: what operators, Programs and bad luck do, in any order.

After every step the witness looks (sim_checks.py); at the end of each history faults stop, and there must be a fixed
point. A failing history is shrunk and printed as the steps to repeat it.
"""

import sys
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from reconciler.model.identity import Key
from reconciler.model.queues import QueueReadFailed, QueueReading
from reconciler.model.state import NEVER
from support.fakes import Behaviour
from support.sim_world import World

NAMES = st.sampled_from(["mail", "web"])
ORDINALS = st.integers(0, 3)

SPECS = st.fixed_dictionaries(
    {"command": st.sampled_from([["work", "v1"], ["work", "v2"], ["work", "v3"]]), "replicas": st.integers(0, 4)},
    optional={
        "runOnce": st.just(True),
        "restartPolicy": st.sampled_from(["Always", "OnFailure", "Never"]),
        "suspend": st.just(True),
        "terminationGracePeriod": st.sampled_from([0, 2, 10, "infinity"]),
        "minReady": st.sampled_from([0, 0.5, 5]),
        "minRestartInterval": st.sampled_from([0, 3]),
        "restartBackoff": st.sampled_from(
            [{"initial": 2, "max": 9, "resetAfter": 20}, {"initial": 5, "factor": 1, "jitter": 0, "resetAfter": 3}]
        ),
        "strategy": st.sampled_from([{"type": "Recreate"}, {"maxUnavailable": 2}, {"maxUnavailable": "100%"}]),
    },
)

EXITS = st.sampled_from([(0, None), (0, None), (1, None), (None, 9), (None, 11)])

MOODS = st.one_of(
    st.just(Behaviour()),
    st.builds(Behaviour, exits_after=st.sampled_from([0.01, 0.7, 4.0, 25.0]), code=st.sampled_from([0, 1, 3])),
    st.builds(Behaviour, term_after=st.sampled_from([0.5, 6.0, NEVER])),
    st.builds(
        Behaviour,
        exits_after=st.sampled_from([1.0, NEVER]),
        leaves=st.just(1),
        leaves_for=st.sampled_from([1.0, NEVER]),
        leaves_heed=st.booleans(),
    ),
    st.just(Behaviour(fails="command not found")),
)


class Histories(RuleBasedStateMachine):
    """One machine, and all that can happen to it."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    # --- operators ----------------------------------------------------------------------------------------------------

    @initialize(name=NAMES, spec=SPECS, most_starting=st.sampled_from([0, 1, 3]))
    def begin(self, name: str, spec: dict[str, Any], most_starting: int) -> None:
        self.world = World(most_starting)
        self.world.apply(name, **spec)

    @rule(name=NAMES, spec=SPECS)
    def apply(self, name: str, spec: dict[str, Any]) -> None:
        self.world.apply(name, **spec)

    @rule(name=NAMES, edit=SPECS)
    def roll(self, name: str, edit: dict[str, Any]) -> None:
        """Another revision, all else as it is."""
        accepted = self._accepted(name)
        if accepted is not None:
            self.world.apply(name, **{**accepted, "command": edit["command"]})

    @rule(name=NAMES, replicas=st.integers(0, 5))
    def edit_count(self, name: str, replicas: int) -> None:
        accepted = self._accepted(name)
        if accepted is not None:
            self.world.apply(name, **{**accepted, "replicas": replicas})

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        if self._accepted(name) is not None:
            self.world.delete(name)

    @rule(name=NAMES, ordinals=st.none() | st.lists(ORDINALS, min_size=1, max_size=2), now=st.booleans())
    def restart(self, name: str, ordinals: list[int] | None, now: bool) -> None:
        self._operate(name, "restart", ordinals=ordinals, now=now)

    @rule(name=NAMES, ordinals=st.none() | st.lists(ORDINALS, min_size=1, max_size=2), now=st.booleans())
    def stop(self, name: str, ordinals: list[int] | None, now: bool) -> None:
        self._operate(name, "stop", ordinals=ordinals, now=now)

    @rule(name=NAMES)
    def start(self, name: str) -> None:
        self._operate(name, "start")

    @rule(name=NAMES, replicas=st.integers(0, 5))
    def scale(self, name: str, replicas: int) -> None:
        self._operate(name, "scale", replicas=replicas)

    @rule(name=NAMES)
    def reset(self, name: str) -> None:
        self._operate(name, "reset")

    def _operate(self, name: str, verb: str, **body: Any) -> None:
        if self._accepted(name) is not None:
            self.world.operate(name, verb, **body)

    def _accepted(self, name: str) -> dict[str, Any] | None:
        found = self.world.store.accepted.get(Key("Program", name))
        return None if found is None else dict(found.canonical)

    # --- processes ----------------------------------------------------------------------------------------------------

    @rule(name=NAMES, mood=MOODS)
    def mood(self, name: str, mood: Behaviour) -> None:
        """From now on its new processes do this."""
        self.world.moods[name] = mood

    @precondition(lambda self: self.world.table.alive())
    @rule(which=st.integers(0, 9), exit=EXITS)
    def process_ends(self, which: int, exit: tuple[int | None, int | None]) -> None:
        alive = self.world.table.alive()
        self.world.end(alive[which % len(alive)].id, *exit)

    @rule(name=NAMES, lacks=st.booleans())
    def host(self, name: str, lacks: bool) -> None:
        """The host loses, or gets back, something that the spec names."""
        (self.world.surroundings.lacking.add if lacks else self.world.surroundings.lacking.discard)(name)

    # --- time ---------------------------------------------------------------------------------------------------------

    @rule()
    def time_passes(self) -> None:
        self.world.pass_time()

    @rule(steps=st.integers(2, 8))
    def much_time_passes(self, steps: int) -> None:
        for _ in range(steps):
            self.world.pass_time()

    @rule(seconds=st.sampled_from([0.01, 0.3, 2.5]))
    def a_little_time_passes(self, seconds: float) -> None:
        self.world.pass_time(at_most=seconds)

    # --- bad luck -----------------------------------------------------------------------------------------------------

    @rule(effects=st.integers(1, 12), before=st.booleans())
    def controller_will_die(self, effects: int, before: bool) -> None:
        """At one of the next things it does: between any two of them."""
        self.world.fate.strike(effects, before=before)

    @rule(name=NAMES, effects=st.integers(1, 4), before=st.booleans(), now=st.booleans())
    def controller_dies_stopping(self, name: str, effects: int, before: bool, now: bool) -> None:
        """On the way from the wish to the signal, which is short and would be met rarely."""
        self.world.fate.strike(effects, before=before)
        self._operate(name, "stop", ordinals=None, now=now)

    @rule()
    def controller_dies(self) -> None:
        self.world.kill_controller()

    @rule(seconds=st.sampled_from([-1e8, -5.0, 5.0, 1e8]))
    def wall_clock_jumps(self, seconds: float) -> None:
        """Somebody sets it, and nothing depends on it."""
        self.world.clock.jump_wall(seconds)

    @rule(refuses=st.booleans())
    def disk(self, refuses: bool) -> None:
        """It is full, or takes something again."""
        self.world.journal.refuse = refuses

    @rule(seconds=st.sampled_from([0.0, 0.4, 3.0]))
    def keeper_is_slow(self, seconds: float) -> None:
        self.world.keeper_takes(seconds)

    @rule(away=st.sampled_from([0.0, 5.0]))
    def keeper_dies(self, away: float) -> None:
        self.world.lose_keeper(away)

    @rule()
    def shut_down_and_start_again(self) -> None:
        self.world.shut_down_and_start_again()

    @rule()
    def reboot(self) -> None:
        self.world.reboot()

    # --- the end ------------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        if sys.exc_info()[0] is None:  # else a step has failed already, and that is the news
            self.world.settle()


class BoundHistories(Histories):
    """The same with queues: bindings come and go, and what they read changes at any time."""

    @rule(name=NAMES, most=st.integers(1, 5), least=st.integers(0, 1), on_delete=st.sampled_from(["restore", "keep"]))
    def bind(self, name: str, most: int, least: int, on_delete: str) -> None:
        quick = {"cooldownPeriod": 0, "behavior": {"scaleDown": {"stabilizationWindow": 0}}}
        self.world.bind(f"q-{name}", name, maxReplicaCount=most, minReplicaCount=least, onDelete=on_delete, **quick)

    @rule(name=NAMES)
    def unbind(self, name: str) -> None:
        self.world.delete(f"q-{name}", "QueueBinding")

    @rule(name=NAMES, waiting=st.integers(0, 7), reserved=st.integers(0, 3))
    def queue_holds(self, name: str, waiting: int, reserved: int) -> None:
        self.world.queue(f"q-{name}", QueueReading(waiting, reserved))

    @rule(name=NAMES)
    def queue_is_away(self, name: str) -> None:
        self.world.queue(f"q-{name}", QueueReadFailed("ConnectionRefused", "nobody listens"))
