"""The scalers that are compared: a binding by the very core that decides for real, and others by their documentation.

KEDA and Horizon are modelled from what their documentation says of their defaults, with the same drains and the same
time to boot as ours; a new pod takes longer in truth. A model ranks policies, it measures nobody's product.
"""

from math import ceil

from reconciler.core.scaling import decide
from reconciler.core.windows import least_allowed, most_allowed, stabilized, with_change, with_highest, with_lowest
from reconciler.model.binding import Policy, QueueBindingSpec, ScaleDown, ScaleUp
from reconciler.model.queues import QueueReading
from reconciler.model.scaling import Counts, Look, Samples, ScalingMemory
from reconciler.simulation.machine import Answer, View

POLLING_SECONDS = 0.2  # what drivers of cheap queues think


class Bound:
    """A binding. The load is in the queue of its trigger at `index`; those of the others are empty."""

    oldest_first = False

    def __init__(self, name: str, spec: QueueBindingSpec, *, index: int = 0, run_once: bool = False) -> None:
        self.name = name
        self._spec = spec
        self._index = index
        self._run_once = run_once
        self._memory = ScalingMemory.restored(spec.rest_count, 0.0, 0.0)

    def look(self, view: View) -> Answer:
        """What the core decides."""
        found = QueueReading(
            view.waiting,
            view.reserved,
            oldest_seconds=view.oldest_seconds if view.waiting else None,
            arrived=view.arrived,
            completed=view.completed,
        )
        looks = [
            Look(view.now, found if index == self._index else QueueReading(0, 0, 0))
            for index in range(len(self._spec.triggers))
        ]
        counts = Counts(self._spec.rest_count, view.running, view.ready, view.draining, view.started)
        decision = decide(self._spec, looks, counts, self._memory, view.now, run_once=self._run_once)
        self._memory = decision.memory
        poll_at = view.now + (self._spec.polling_interval or POLLING_SECONDS)
        return Answer(decision.replicas, min(poll_at, decision.wake_at), decision.starts)


class Fixed:
    """As many all the time."""

    oldest_first = False

    def __init__(self, replicas: int) -> None:
        self.name = f"{replicas} all the time"
        self._replicas = replicas

    def look(self, view: View) -> Answer:
        """The same as ever."""
        return Answer(self._replicas, float("inf"))


class Keda:
    """A ScaledObject with the HorizontalPodAutoscaler that KEDA makes of it; all defaults, its target as given.

    Every 30 s KEDA looks whether there is work: from 0 to 1, and back after 300 s without. Every 15 s the HPA scales
    between 1 and the maximum: up by 4 or 100 % per 15 s, down to the highest count asked for within 300 s. The number
    is the length of the queue: what is in work is not in it.
    """

    oldest_first = False
    POLLING, COOLDOWN, SYNC = 30.0, 300.0, 15.0

    def __init__(self, most: int, target: float, *, least: int = 0) -> None:
        self.name = f"KEDA and HPA, {target:g} each"
        self._least, self._most, self._target = least, most, target
        self._replicas = least
        self._active_at = 0.0
        self._poll_at = self._sync_at = 0.0
        self._highest: Samples = ()
        self._lowest: Samples = ()
        self._changes: Samples = ()
        self._up = ScaleUp(policies=(_policy("Replicas", 4, 15), _policy("Percent", 100, 15)))
        self._down = ScaleDown(stabilization_window=300.0, policies=(_policy("Percent", 100, 15),))

    def look(self, view: View) -> Answer:
        """Whatever of both is due."""
        if view.now >= self._poll_at:
            self._poll_at = view.now + self.POLLING
            self._poll(view)
        if view.now >= self._sync_at:
            self._sync_at = view.now + self.SYNC
            if self._replicas > 0:
                self._sync(view)
        return Answer(self._replicas, min(self._poll_at, self._sync_at))

    def _poll(self, view: View) -> None:
        if view.waiting > 0:
            self._active_at = view.now
            self._replicas = max(self._replicas, 1)
        elif view.now >= self._active_at + self.COOLDOWN:
            self._replicas = self._least

    def _sync(self, view: View) -> None:
        now, current = view.now, self._replicas
        raw = view.waiting / self._target
        near = abs(raw / current - 1) <= self._up.tolerance
        asked = min(max(current if near else ceil(raw), self._least, 1), self._most)
        self._highest = with_highest(self._highest, now, asked, self._down.stabilization_window)
        self._lowest = with_lowest(self._lowest, now, asked, self._up.stabilization_window)
        count = stabilized(current, self._lowest, self._highest)
        if count > current:
            count = min(count, most_allowed(self._up, current, self._changes, now))
        else:
            count = max(count, least_allowed(self._down, current, self._changes, now))
        self._changes = with_change(self._changes, now, count - current, (*self._up.policies, *self._down.policies))
        self._replicas = count


class KedaOnce:
    """A ScaledJob: every 30 s as many processes as pieces wait, up to the maximum, less those that run."""

    oldest_first = False
    POLLING = 30.0

    def __init__(self, most: int) -> None:
        self.name = "KEDA ScaledJob"
        self._most = most

    def look(self, view: View) -> Answer:
        """What its strategy `accurate` starts: the queue's length is without what is in work."""
        wanted = min(self._most, view.waiting)
        starts = min(wanted, self._most - view.running)
        return Answer(view.running + starts, view.now + self.POLLING, starts)


class Horizon:
    """Laravel Horizon, `balance: auto` with one queue: any backlog asks for maxProcesses, none for minProcesses.

    One process more or less every 3 s (balanceMaxShift, balanceCooldown). Who goes are the oldest.
    """

    oldest_first = True
    COOLDOWN = 3.0

    def __init__(self, most: int, *, least: int = 1) -> None:
        self.name = f"Horizon auto, {least} to {most}"
        self._least, self._most = least, most
        self._replicas = least

    def look(self, view: View) -> Answer:
        """One step towards what is asked for."""
        asked = self._most if view.waiting > 0 else self._least
        self._replicas += (asked > self._replicas) - (asked < self._replicas)
        return Answer(self._replicas, view.now + self.COOLDOWN)


def _policy(type_: str, value: int, period: float) -> Policy:
    return Policy.model_validate({"type": type_, "value": value, "period": period})
