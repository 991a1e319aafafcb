"""Memory is the fold of the journal: what each record does; encoding loses nothing, a checkpoint is the same."""

import json

import pytest

from reconciler.core import memory, records
from reconciler.core.memory import Ledger
from reconciler.core.records import (
    Departed,
    Emptied,
    Exited,
    Forgotten,
    Intended,
    Killed,
    Progressed,
    Reset,
    Rested,
    Restored,
    ScaledTo,
    Signalled,
    Spawned,
    StopBegan,
    Withdrawn,
)
from reconciler.model.identity import ProcessId
from reconciler.model.state import NEVER, Cause, History, Outcome, Scaled

INTENT = Intended("u1", 0, "s1", "r1", 2, Cause.NEW_REPLICA, 100.0)
SPAWNED = Spawned("u1", 0, "s1", 4711, 99)
FAILED = Exited("u1", 0, Outcome.FAILED, 1, None, 110.0, 10.0, failures=3, done=False, empty=True, message="")


def folded(*records: records.Record) -> Ledger:
    ledger = Ledger()
    for record in records:
        memory.fold(ledger, record)
    return ledger


def test_a_spawn_occupies_the_ordinal_with_what_the_intent_said() -> None:
    ledger = folded(INTENT, SPAWNED)
    process = ledger.observed.processes[0]
    assert (process.id, process.revision, process.epoch, process.started_at) == (ProcessId(4711, 99), "r1", 2, 100.0)
    assert ledger.memory.histories[0].runs == 1
    assert ledger.intent is None


def test_an_intent_stays_open_until_its_outcome_is_known() -> None:
    assert folded(INTENT).intent == INTENT


def test_an_intent_that_came_to_nothing_leaves_no_trace() -> None:
    assert folded(INTENT, Withdrawn("u1", 0, "other")).intent == INTENT
    assert folded(INTENT, Withdrawn("u1", 0, "s1")) == Ledger()


def test_a_spawn_that_nobody_intended_changes_nothing() -> None:
    assert folded(SPAWNED) == Ledger()
    assert folded(INTENT, SPAWNED._replace(spawn_id="other")).observed.processes == {}


def test_only_starts_after_an_unasked_exit_are_restarts() -> None:
    again = INTENT._replace(cause=Cause.PROCESS_EXITED, spawn_id="s2"), SPAWNED._replace(spawn_id="s2")
    next_run = INTENT._replace(cause=Cause.NEXT_RUN, spawn_id="s3"), SPAWNED._replace(spawn_id="s3")
    history = folded(INTENT, SPAWNED, FAILED, *again, FAILED, *next_run).memory.histories[0]
    assert (history.runs, history.restarts) == (3, 1)


def test_an_exit_frees_the_ordinal_and_is_remembered() -> None:
    ledger = folded(INTENT, SPAWNED, FAILED)
    history = ledger.memory.histories[0]
    assert ledger.observed.processes == {}
    assert history.failures == 3
    assert history.last_exit is not None
    assert (history.last_exit.code, history.last_exit.revision, history.last_exit.epoch) == (1, "r1", 2)


def test_while_something_of_the_tree_is_left_the_ordinal_is_not_free() -> None:
    ended = FAILED._replace(empty=False)
    ledger = folded(INTENT, SPAWNED, ended)
    assert ledger.observed.processes[0].ended
    memory.fold(ledger, ended)  # a repeated report changes nothing
    memory.fold(ledger, Emptied("u1", 0))
    assert ledger.observed.processes == {}


def test_emptied_says_nothing_about_a_process_that_runs() -> None:
    assert 0 in folded(INTENT, SPAWNED, Emptied("u1", 0)).observed.processes


def test_a_start_that_failed_is_an_exit_of_the_intent() -> None:
    not_started = FAILED._replace(outcome=Outcome.NOT_STARTED, code=None, message="php: command not found")
    ledger = folded(INTENT, not_started)
    last = ledger.memory.histories[0].last_exit
    assert ledger.intent is None
    assert last is not None
    assert (last.message, last.revision) == ("php: command not found", "r1")
    assert ledger.memory.histories[0].runs == 0


def test_an_exit_of_nothing_changes_nothing() -> None:
    assert folded(FAILED) == Ledger()


def test_done_is_remembered_with_revision_epoch_and_outcome_until_the_next_start() -> None:
    done = FAILED._replace(outcome=Outcome.SUCCEEDED, done=True)
    history = folded(INTENT, SPAWNED, done).memory.histories[0]
    assert (history.done_revision, history.done_epoch, history.done_outcome) == ("r1", 2, Outcome.SUCCEEDED)
    again = INTENT._replace(spawn_id="s2"), SPAWNED._replace(spawn_id="s2")
    assert folded(INTENT, SPAWNED, done, *again).memory.histories[0].done_outcome is None


def test_a_drain_and_its_kill_stand_with_the_process() -> None:
    ledger = folded(INTENT, SPAWNED, StopBegan("u1", 0, Cause.SCALED_DOWN, 120.0, NEVER), Killed("u1", 0, 130.0))
    stopping = ledger.observed.processes[0].stopping
    assert stopping is not None
    assert (stopping.cause, stopping.kill_at, stopping.killed) == (Cause.SCALED_DOWN, NEVER, True)


@pytest.mark.parametrize("silent", [True, False])
def test_a_stop_signal_is_owed_until_it_was_sent(silent: bool) -> None:
    began = StopBegan("u1", 0, Cause.SCALED_DOWN, 120.0, NEVER, silent)
    stopping = folded(INTENT, SPAWNED, began).observed.processes[0].stopping
    assert stopping is not None
    assert stopping.signalled is silent
    stopping = folded(INTENT, SPAWNED, began, Signalled("u1", 0)).observed.processes[0].stopping
    assert stopping is not None
    assert stopping.signalled


@pytest.mark.parametrize(
    "record", [StopBegan("u1", 5, Cause.SUSPENDED, 1.0, 2.0), Signalled("u1", 5), Killed("u1", 5, 1.0)]
)
def test_stopping_a_free_ordinal_changes_nothing(record: records.Record) -> None:
    assert folded(INTENT, SPAWNED, record) == folded(INTENT, SPAWNED)


def test_what_runs_cannot_be_forgotten() -> None:
    assert 0 in folded(INTENT, SPAWNED, Forgotten("u1", 0)).memory.histories
    assert folded(INTENT, SPAWNED, FAILED, Forgotten("u1", 0)).memory.histories == {}


def test_reset_forgives_failures_and_successes_of_one_or_all() -> None:
    done = FAILED._replace(outcome=Outcome.SUCCEEDED, done=True)
    for ordinal in (0, -1):
        history = folded(INTENT, SPAWNED, done, Reset("u1", ordinal)).memory.histories[0]
        assert (history.failures, history.done_outcome, history.runs) == (0, None, 1)
    assert folded(INTENT, SPAWNED, FAILED, Reset("u1", 1)).memory.histories[0].failures == 3


def test_a_completed_rollout_is_the_last_available_revision() -> None:
    ledger = folded(Progressed("u1", "r1", 0, 5.0, 6, True), Progressed("u1", "r2", 0, 9.0, 2, False))
    assert (ledger.memory.available_revision, ledger.memory.progress_revision) == ("r1", "r2")
    assert not ledger.memory.complete


def test_every_record_has_a_fold_a_tag_and_a_way_back() -> None:
    kinds = set(records.Record.__args__)
    assert kinds == set(memory.FOLDS) == set(records.TAGS)
    assert len(set(records.TAGS.values())) == len(kinds)


def test_what_departed_is_remembered_with_its_name_and_until_when() -> None:
    departed = Departed("u1", "web", 160.0)
    assert folded(INTENT, SPAWNED, FAILED, departed).departed == departed
    assert folded(INTENT, SPAWNED, FAILED, departed).memory.histories[0].failures == 3


EXAMPLES = [
    INTENT,
    SPAWNED,
    FAILED,
    Emptied("u1", 0),
    StopBegan("u1", 0, Cause.SCALED_DOWN, 1.0, NEVER),
    Signalled("u1", 0),
    Killed("u1", 0, 1.0),
    Forgotten("u1", 0),
    Progressed("u1", "r1", 0, 1.0, 2, True),
    Reset("u1", -1),
    Departed("u1", "web", 160.0),
    ScaledTo("u1", 6, 120.0, 118.5),
]


@pytest.mark.parametrize("record", EXAMPLES, ids=lambda r: type(r).__name__)
def test_a_record_survives_the_journal(record: records.Record) -> None:
    assert records.decode(json.loads(json.dumps(records.encode(record)))) == record


def test_what_a_newer_release_wrote_is_left_out() -> None:
    assert records.decode(["tomorrow", 1, 2]) is None


@pytest.mark.parametrize(
    "told",
    [
        (),
        (INTENT,),
        (INTENT, SPAWNED),
        (INTENT, SPAWNED, StopBegan("u1", 0, Cause.SCALED_DOWN, 120.0, NEVER)),
        (INTENT, SPAWNED, FAILED._replace(done=True, outcome=Outcome.SUCCEEDED)),
        (INTENT, SPAWNED, FAILED, Progressed("u1", "r1", 0, 5.0, 6, True), Progressed("u1", "r2", 0, 9.0, 2, False)),
        (Progressed("u1", "r1", 0, 5.0, 6, True), Progressed("u1", "r1", 1, 9.0, 2, False)),
        (INTENT, SPAWNED, FAILED, Departed("u1", "web", 160.0)),
        (INTENT, SPAWNED, ScaledTo("u1", 6, 120.0, 118.5)),
    ],
)
def test_a_checkpoint_folds_to_the_same_ledger(told: tuple[records.Record, ...]) -> None:
    ledger = folded(*told)
    written = [json.loads(json.dumps(records.encode(record))) for record in memory.snapshot("u1", ledger)]
    read = [record for values in written if (record := records.decode(values)) is not None]
    assert folded(*read) == ledger


def test_a_replica_taken_over_from_a_namesake_has_its_history_only() -> None:
    ledger = folded(Restored("u2", 3, History(failures=4), None))
    assert ledger.memory.histories[3].failures == 4
    assert ledger.observed.processes == {}


def test_the_count_of_a_binding_is_remembered_until_there_is_none() -> None:
    scaled = ScaledTo("u1", 6, 120.0, 118.5)
    assert folded(scaled).memory.scaled == Scaled(6, 120.0, 118.5)
    assert folded(scaled, scaled._replace(replicas=-1)).memory.scaled is None


def test_every_start_takes_one_piece_of_the_work_that_was_counted() -> None:
    ledger = Ledger()
    ledger.observed.work = 1
    for record in (INTENT, SPAWNED, FAILED, INTENT._replace(spawn_id="s2")):
        memory.fold(ledger, record)
    assert ledger.observed.work == -1
    assert folded(INTENT).observed.work is None  # nobody counts


def test_an_ordinal_rests_until_it_is_started_again() -> None:
    assert folded(INTENT, SPAWNED, FAILED, Rested("u1", 0)).memory.histories[0].rested
    again = INTENT._replace(spawn_id="s2"), SPAWNED._replace(spawn_id="s2")
    assert not folded(INTENT, SPAWNED, FAILED, Rested("u1", 0), *again).memory.histories[0].rested
    assert folded(Rested("u1", 5)) == Ledger()
