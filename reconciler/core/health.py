"""Health: which replicas are ready, and since when they count as available.

Without probes a replica is ready while its process runs. A replica that is started again and again by intention
(restartPolicy Always, workers that take one piece of work and exit) is also available when its last run succeeded:
otherwise a fleet of quick workers would never be.
"""

from reconciler.model.state import NEVER, Desired, History, Outcome, Process, RestartPolicy


def available_at(desired: Desired, process: Process | None, history: History) -> float:
    """The moment from which on this replica counts as available if nothing happens; NEVER if it does not come."""
    if process is None:
        return -NEVER if is_proven(desired, history, None) else NEVER
    if process.stopping is not None or process.ended:
        return NEVER
    if is_proven(desired, history, process.revision):
        return -NEVER
    return process.started_at + desired.min_ready


def is_proven(desired: Desired, history: History, revision: str | None) -> bool:
    """Whether its last run succeeded (at this revision if one is named) and another always follows."""
    last = history.last_exit
    return (
        last is not None
        and last.outcome is Outcome.SUCCEEDED
        and not history.rested
        and desired.restart_policy is RestartPolicy.ALWAYS
        and revision in (None, last.revision)
    )
