"""Stabilization windows and rate policies, as Kubernetes' HorizontalPodAutoscaler has them.

A window holds what was asked for within its time. Only counts that can still become its extreme are kept, so that an
hour of looks five times a second stays a handful of samples. Policies bound how much the count may change within their
periods. Nothing here knows queues.
"""

from collections.abc import Iterable
from math import ceil, floor

from reconciler.model.binding import Policy, ScaleDown, ScaleUp
from reconciler.model.scaling import Samples
from reconciler.model.state import NEVER

_SLACK = 1e-9  # 3 * 1.1 is 3.3000000000000003, and nobody means four by that


def with_highest(samples: Samples, at: float, count: int, window_seconds: float) -> Samples:
    """One more sample; the first of the result is the highest within the window."""
    kept = [sample for sample in samples if at < sample[0] + window_seconds and sample[1] > count]
    return (*kept, (at, count))


def with_lowest(samples: Samples, at: float, count: int, window_seconds: float) -> Samples:
    """One more sample; the first of the result is the lowest within the window."""
    kept = [sample for sample in samples if at < sample[0] + window_seconds and sample[1] < count]
    return (*kept, (at, count))


def stabilized(current: int, lowest: Samples, highest: Samples) -> int:
    """The count that both windows agree to: up to the least that was asked for, down to the most."""
    return min(max(current, lowest[0][1]), highest[0][1])


def most_allowed(rules: ScaleUp, current: int, changes: Samples, now: float) -> int:
    """How far up the policies let the count go now."""
    if rules.select_policy == "Disabled":
        return current
    limits = [_raised(policy, _at_start(policy, current, changes, now)) for policy in rules.policies]
    return max(current, max(limits) if rules.select_policy == "Max" else min(limits))


def least_allowed(rules: ScaleDown, current: int, changes: Samples, now: float) -> int:
    """How far down the policies let the count go now."""
    if rules.select_policy == "Disabled":
        return current
    limits = [_lowered(policy, _at_start(policy, current, changes, now)) for policy in rules.policies]
    return min(current, min(limits) if rules.select_policy == "Max" else max(limits))


def with_change(changes: Samples, now: float, by: int, policies: Iterable[Policy]) -> Samples:
    """The changes that some period still counts, and the one of now, if there is one."""
    longest = max(policy.period for policy in policies)
    kept = tuple(change for change in changes if now < change[0] + longest)
    return (*kept, (now, by)) if by else kept


def freed_at(policies: Iterable[Policy], changes: Samples, now: float) -> float:
    """When the next change falls out of a period, so that a policy may allow more."""
    ends = (at + policy.period for policy in policies for at, _ in changes)
    return min((end for end in ends if end > now), default=NEVER)


def _at_start(policy: Policy, current: int, changes: Samples, now: float) -> int:
    """The count at the start of the policy's period."""
    return current - sum(by for at, by in changes if now < at + policy.period)


def _raised(policy: Policy, start: int) -> int:
    if policy.type == "Replicas":
        return start + policy.value
    return ceil(start * (1 + policy.value / 100) - _SLACK)


def _lowered(policy: Policy, start: int) -> int:
    if policy.type == "Replicas":
        return start - policy.value
    return floor(start * (1 - policy.value / 100) + _SLACK)
