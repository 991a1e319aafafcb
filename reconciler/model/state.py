"""What is wanted, what runs, and what must be remembered: the three inputs of a decision.

`Desired` is built from an accepted manifest, `Observed` from the process table, `Memory` from the journal. All times
are seconds of CLOCK_BOOTTIME; wall time is for display and does not occur here. Records are NamedTuples: they are
replaced on every exit of every process, and nothing else in the language is as cheap to build.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from reconciler.model.identity import ProcessId

NEVER = float("inf")
"""A moment that does not come: no deadline, no grace period that ends."""


class Cause(StrEnum):
    """Why a process is started, stopped or killed: a closed set, the same words in log, events and `describe`."""

    NEW_REPLICA = "NewReplica"  # the replica did not run before: first start, or the count went up
    PROCESS_EXITED = "ProcessExited"  # it ended unasked and its restart policy wants it again
    NEXT_RUN = "NextRun"  # runOnce: the last run succeeded, the next piece of work may come
    REVISION_CHANGED = "RevisionChanged"  # a field of the revision, or content it reads, changed
    RESTART_REQUESTED = "RestartRequested"  # an operator asked
    SCALED_DOWN = "ScaledDown"  # the count went down
    SUSPENDED = "Suspended"  # spec.suspend
    STOPPED_BY_OPERATOR = "StoppedByOperator"  # an override
    PROGRAM_DELETED = "ProgramDeleted"
    SHUTTING_DOWN = "ShuttingDown"  # the controller drains everything
    GRACE_PERIOD_OVER = "GracePeriodOver"  # KILL: the drain took longer than its grace period
    KILL_REQUESTED = "KillRequested"  # KILL: an operator did not want to wait
    LEFTOVERS = "Leftovers"  # the main process ended and left others behind


class Outcome(StrEnum):
    """How a run ended."""

    SUCCEEDED = "Succeeded"  # an exit in successExitCodes
    FAILED = "Failed"  # any other exit that nobody asked for
    STOPPED = "Stopped"  # an exit that we asked for is never a failure
    NOT_STARTED = "NotStarted"  # the command could not be started; counts as a failure
    UNKNOWN = "Unknown"  # it ended while nobody watched: not a success, no back-off growth


class Exit(NamedTuple):
    """The end of one run of a replica."""

    outcome: Outcome
    code: int | None  # exit code, None when ended by a signal or unknown
    signal: int | None  # number of the signal that ended it
    at: float
    ran_seconds: float
    revision: str
    epoch: int
    message: str = ""  # NOT_STARTED: the reason as a shell would give it


class Stopping(NamedTuple):
    """A drain that has begun."""

    cause: Cause
    since: float
    kill_at: float  # NEVER when the grace period is `infinity`
    killed: bool = False
    signalled: bool = False  # the stop signal was sent, or there is none in this drain


class Process(NamedTuple):
    """One process that occupies a replica, from its spawn until its whole tree is gone."""

    id: ProcessId
    spawn_id: str  # also in its environment, RECONCILER_SPAWN_ID
    revision: str
    epoch: int  # of the restart requests: lower than desired means outdated
    started_at: float
    cause: Cause
    stopping: Stopping | None = None
    ended: bool = False  # the main process is gone, something of its tree is left
    run_once: bool = False  # as it was started: stopping it is not starting it again


class History(NamedTuple):
    """What is remembered of one replica while no process of it runs, and beside one that does."""

    failures: int = 0  # consecutive
    last_exit: Exit | None = None
    last_started_at: float = -NEVER
    done_revision: str = ""  # OnFailure, Never: the revision at which it is not to be run again
    done_epoch: int = 0
    done_outcome: Outcome | None = None
    runs: int = 0  # processes started
    restarts: int = 0  # of them, those with cause ProcessExited
    rested: bool = False  # not wanted since its last run: it comes back as something new


NO_HISTORY = History()


@dataclass(slots=True)
class Observed:
    """The processes of one Program, by ordinal. Kept incrementally; the core only reads it."""

    processes: dict[int, Process] = field(default_factory=dict)
    work: int | None = None  # pieces of work that wait for a run-once process; None: nobody counts, start freely


class Scaled(NamedTuple):
    """A count that a binding asked for: since when it holds, and when work was last seen (CLOCK_BOOTTIME)."""

    replicas: int
    at: float
    active_at: float


@dataclass(slots=True)
class Memory:
    """What one Program must not forget between passes, by ordinal. Changed by folding journal records only."""

    histories: dict[int, History] = field(default_factory=dict)
    progress_at: float = -NEVER  # the last step of the rollout: its start, or a replica that became available
    progress_revision: str = ""  # the (revision, epoch) that progress_at is about
    progress_epoch: int = 0
    progress_score: int = 0  # how far it had come then, see rollout.score
    complete: bool = False  # that rollout has reached every replica
    available_revision: str = ""  # the last revision whose rollout was completed
    scaled: Scaled | None = None  # what its binding asked for last


class RestartPolicy(StrEnum):
    """Which exits are followed by a new start."""

    ALWAYS = "Always"
    ON_FAILURE = "OnFailure"
    NEVER = "Never"


class Backoff(NamedTuple):
    """Delays between restarts after consecutive failures, in seconds."""

    initial: float = 1.0
    factor: float = 2.0
    max: float = 300.0
    jitter: float = 0.1  # fraction of the delay that is added at most
    reset_after: float = 60.0


@dataclass(frozen=True, slots=True)
class Desired:
    """One Program as it is wanted now: its spec, the operator's overrides and the state of its sources, merged."""

    name: str
    uid: str
    generation: int
    revision: str
    startable: frozenset[str]  # revisions that can be started: the current one, and older ones while we still know how
    replicas: int  # after suspend, overrides and scale decisions
    kept: int  # ordinals below this are remembered although they may not be wanted now (suspended, stopped)
    stop_cause: Cause = Cause.SCALED_DOWN  # why an unwanted replica is stopped
    stopped_ordinals: frozenset[int] = frozenset()  # stopped one by one by an operator
    kill_now: bool = False  # `stop --now`: drains end at once
    run_once: bool = False
    restart_policy: RestartPolicy = RestartPolicy.ALWAYS
    success_exit_codes: frozenset[int] = frozenset({0})
    success_signals: frozenset[int] = frozenset()
    backoff: Backoff = field(default_factory=Backoff)
    min_restart_interval: float = 0.1
    grace_period: float = 30.0  # of a process that was not started as run-once work
    run_once_grace_period: float = NEVER  # of one that was, whatever the spec says now
    min_ready: float = 1.0
    recreate: bool = False  # strategy Recreate
    max_unavailable: int = 1  # resolved against `replicas`
    progress_deadline: float = 600.0
    epoch: int = 0  # of restart requests for all replicas
    replica_epochs: Mapping[int, int] = field(default_factory=dict)  # and for single ones
    restart_now: bool = False  # the current epoch ignores the strategy
    chosen: frozenset[int] | None = None  # the `replicas` ordinals that are meant; None: the lowest ones

    def ordinals(self) -> Collection[int]:
        """The ordinals that the count stands for, those that an operator stopped included; in rising order."""
        return range(self.replicas) if self.chosen is None else sorted(self.chosen)

    def counts(self, ordinal: int) -> bool:
        """Whether this ordinal is one of those."""
        return 0 <= ordinal < self.replicas if self.chosen is None else ordinal in self.chosen

    def wants(self, ordinal: int) -> bool:
        """Whether this ordinal shall be occupied."""
        return self.counts(ordinal) and ordinal not in self.stopped_ordinals

    def epoch_of(self, ordinal: int) -> int:
        """The restart request that a process at this ordinal has to be younger than."""
        return max(self.epoch, self.replica_epochs.get(ordinal, 0)) if self.replica_epochs else self.epoch


class ConditionStatus(StrEnum):
    """As in Kubernetes."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(NamedTuple):
    """One observation about an object. Conditions are not a state machine; nothing is decided from them."""

    type: str
    status: ConditionStatus
    reason: str
    message: str
