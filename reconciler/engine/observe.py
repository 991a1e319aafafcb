"""What happened, written down and folded: exits, what is left of trees, and what an earlier controller left running.

Nothing is decided here but what an exit means (core.restart). Every record is in the journal before it is folded, and
folded before the process is reaped: killed at any line, the next controller learns the same from journal and keeper.
"""

from collections.abc import Callable, Container, Iterable, Sequence

from reconciler.core import memory, records
from reconciler.core.memory import Ledger
from reconciler.core.records import Emptied, Exited, Intended, Progressed, Record, Restored, Spawned, Withdrawn
from reconciler.core.restart import verdict
from reconciler.engine.controlled import Controlled
from reconciler.model.identity import ProcessId
from reconciler.model.state import NEVER, NO_HISTORY, Outcome, Process
from reconciler.ports import Clock, ExitReport, Foundling, Journal, LogSink, ProcessTable, Trace

SETTLE_SECONDS = 0.005
"""How long a replacement waits at most until the pump has noted where the log of the run before it ends."""

REPORT_SECONDS = 1.0
"""How long the keeper may take to say how a process ended that went while it was taken over; then that is Unknown."""


class Observer:
    """Keeps the ledgers equal to the process table."""

    def __init__(
        self,
        clock: Clock,
        journal: Journal,
        table: ProcessTable,
        sink: LogSink,
        mark: Callable[[Controlled, int], None],
        later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self._clock = clock
        self._journal = journal
        self._table = table
        self._sink = sink
        self._mark = mark
        self._later = later
        self._seats: dict[ProcessId, tuple[Controlled, int]] = {}
        self._gone: set[ProcessId] = set()  # of an earlier controller, ended and reaped: the keeper will say how
        self._takes_over = True  # until all is told of the time before us
        self._looked = False  # for a process of an open intent, in vain
        self._unclaimed: list[ExitReport] = []  # told by the keeper, while it is open what an intent became
        self._overdue: set[ProcessId] = set()  # adopted and ended, not reported when we looked last
        self._ended: dict[ProcessId, tuple[Controlled, int]] = {}  # main process gone, the tree is not empty yet
        self.exits = 0
        self.failed: Callable[[Controlled, int], None] = lambda controlled, ordinal: None  # a run did not end well
        self.ended: Callable[[Controlled, int], None] = lambda controlled, ordinal: None  # a main process did
        self.is_free: Callable[[Controlled], None] = lambda controlled: None  # it ended, and no work is known to wait
        table.on_exit(self.exited)

    def record(self, controlled: Controlled, record: Record, *, durable: bool = False) -> None:
        """Write down, then know."""
        self._journal.append(records.encode(record), durable=durable)
        memory.fold(controlled.ledger, record)

    @property
    def can_record(self) -> bool:
        """False when the disk refused a record: what happens from then on is known to this controller only."""
        return self._journal.writable

    def watch(self, controlled: Controlled, ordinal: int, process: ProcessId) -> None:
        """Remember whose process this is."""
        self._seats[process] = (controlled, ordinal)

    # --- ends ---------------------------------------------------------------------------------------------------------

    def exited(self, report: ExitReport) -> None:
        """A main process ended. It is reaped after this returned."""
        seat = self._seats.pop(report.process, None)
        if seat is None:
            return
        controlled, ordinal = seat
        process = controlled.ledger.observed.processes[ordinal]
        now = self._clock.now()
        history = controlled.ledger.memory.histories.get(ordinal, NO_HISTORY)
        judged = verdict(controlled.desired, process, history, report.code, report.signal, now)
        empty = not self._table.leftovers(process.id, process.spawn_id)
        record = Exited(
            controlled.uid,
            ordinal,
            judged.outcome,
            report.code,
            report.signal,
            now,
            now - process.started_at,
            judged.failures,
            judged.done,
            empty,
            "",
        )
        self.record(controlled, record, durable=judged.done)
        self.exits += 1
        work = controlled.ledger.observed.work
        if work is not None and work <= 0:
            self.is_free(controlled)
        self.ended(controlled, ordinal)
        if judged.outcome in (Outcome.FAILED, Outcome.UNKNOWN):
            self.failed(controlled, ordinal)
        if not empty:
            self._await_rest(controlled, ordinal, process)
        self._settle_log(controlled, ordinal, process)

    def _settle_log(self, controlled: Controlled, ordinal: int, process: Process) -> None:
        """Let the pump note the end of this run in the log before the next one writes to it."""
        streams = controlled.open_streams.get(ordinal)
        if not streams:
            self._mark(controlled, ordinal)
            return
        self._sink.mark([s.id for s in streams], process.spawn_id, lambda: self._mark(controlled, ordinal))
        self._later(SETTLE_SECONDS, lambda: self._mark(controlled, ordinal))

    def _await_rest(self, controlled: Controlled, ordinal: int, process: Process) -> None:
        self._ended[process.id] = (controlled, ordinal)
        if len(self._ended) == 1:
            self._later(0.02, self._look_at_rests)

    def _look_at_rests(self) -> None:
        """Trees whose main process ended: are they empty now? Polled: nothing tells of a stranger's end."""
        for process_id, (controlled, ordinal) in list(self._ended.items()):
            process = controlled.ledger.observed.processes.get(ordinal)
            if process is None or process.id != process_id:
                del self._ended[process_id]
                continue
            if not self._table.leftovers(process.id, process.spawn_id):
                del self._ended[process_id]
                self.record(controlled, Emptied(controlled.uid, ordinal))
                self._mark(controlled, ordinal)
            elif process.stopping is not None and process.stopping.killed:
                # What was forked while the KILL went round.
                self._table.kill_tree(process.id, process.spawn_id)
        if self._ended:
            self._later(0.05, self._look_at_rests)

    # --- taking over --------------------------------------------------------------------------------------------------

    def adopt(self, controlled: Controlled) -> None:
        """Take over the processes that the journal knows of and that still run.

        What has ended meanwhile stays in its seat until the keeper says how, or has told all it knows (`told`).
        """
        for ordinal, process in list(controlled.ledger.observed.processes.items()):
            if process.ended:
                self._await_rest(controlled, ordinal, process)
            else:
                self.watch(controlled, ordinal, process.id)
                if not self._table.adopt(process.id):
                    self._gone.add(process.id)

    def told(self, programs: Iterable[Controlled], reaps_since: float) -> list[ProcessId] | None:
        """The keeper has said all that it knows of the time before us; it missed nothing `reaps_since` then.

        Now everything can be known: what became of a start that a death interrupted, and whose end nobody saw.
        Answers with the reports that stand in the journal only now. None: that all has to be told once more. Of a start
        that is nowhere to be seen the process may have ended after the keeper's last word and before our look; what
        the keeper says after that look has its end.
        """
        open_intents = [(each, each.ledger.intent) for each in programs if each.ledger.intent is not None]
        traces = [self._table.trace(intent.spawn_id, intent.at, self._unclaimed) for _, intent in open_intents]
        if not self._looked and any(trace.process is None for trace in traces):
            self._looked = True
            self._unclaimed.clear()
            return None
        for (controlled, intent), trace in zip(open_intents, traces, strict=True):
            self._resolve_intent(controlled, intent, trace, reaps_since)
        for process in list(self._gone):
            self._give_up(process)
        self._takes_over = False
        settled, self._unclaimed = [report.process for report in self._unclaimed], []
        return settled if self._journal.writable else []

    def foundlings(self, known: Container[str]) -> Sequence[Foundling]:
        """Who runs, was started by an earlier controller, and is not `known`. To be asked when all was `told`."""
        return self._table.foundlings(known)

    def take_in(self, controlled: Controlled, intent: Intended, process: ProcessId) -> bool:
        """A process that nothing written down speaks of takes the seat it was started for. False: it is taken."""
        sitting = controlled.ledger.observed.processes.get(intent.ordinal)
        if sitting is not None and not sitting.ended:
            return False
        if sitting is not None:  # what that one left behind was gone, or this one would not have been started
            self.record(controlled, Emptied(controlled.uid, intent.ordinal))
        self.record(controlled, intent)
        self.record(controlled, Spawned(controlled.uid, intent.ordinal, intent.spawn_id, *process))
        self.watch(controlled, intent.ordinal, process)
        if not self._table.adopt(process):  # it ends right now, and the keeper will say so
            self._gone.add(process)
            self._later(REPORT_SECONDS, lambda: self._give_up(process))
        return True

    def lose(self, controlled: Controlled) -> None:
        """Another boot: nothing of what the journal knows can still run, and nobody can say how it ended.

        Times of that boot mean nothing any more: what was waited for since then is waited for from now on.
        """
        ledger, now = controlled.ledger, self._clock.now()
        if ledger.intent is not None:
            self._record_unknown(controlled, ledger.intent.ordinal, _intended_process(ledger.intent))
        for ordinal, process in list(ledger.observed.processes.items()):
            if process.ended:
                self.record(controlled, Emptied(controlled.uid, ordinal))
            else:
                self._record_unknown(controlled, ordinal, process)
        for ordinal, history in list(ledger.memory.histories.items()):
            last = history.last_exit
            moved = history._replace(last_started_at=-NEVER, last_exit=last and last._replace(at=now))
            self.record(controlled, Restored(controlled.uid, ordinal, moved, None))
        known = ledger.memory
        if known.progress_revision:
            revision, epoch = known.progress_revision, known.progress_epoch
            step = Progressed(controlled.uid, revision, epoch, now, known.progress_score, known.complete)
            self.record(controlled, step)

    def _resolve_intent(self, controlled: Controlled, intent: Intended, trace: Trace, reaps_since: float) -> None:
        """A spawn whose outcome was not written down: it runs, it ran, or it never came to it."""
        process, certain = trace
        if process is not None:
            self.record(controlled, Spawned(controlled.uid, intent.ordinal, intent.spawn_id, *process))
            self.watch(controlled, intent.ordinal, process)
            report = next((report for report in self._unclaimed if report.process == process), None)
            if report is not None:
                self.exited(report)
            elif not self._table.adopt(process):  # it ends right now, and the keeper will say so
                self._gone.add(process)
                self._later(REPORT_SECONDS, lambda: self._give_up(process))
        elif certain and intent.at >= reaps_since:
            self.record(controlled, Withdrawn(controlled.uid, intent.ordinal, intent.spawn_id))
        else:
            self._record_unknown(controlled, intent.ordinal, _intended_process(intent))

    def _record_unknown(self, controlled: Controlled, ordinal: int, process: Process) -> None:
        """It ended, and neither the kernel nor the keeper can say how."""
        now = self._clock.now()
        history = controlled.ledger.memory.histories.get(ordinal, NO_HISTORY)
        judged = verdict(controlled.desired, process, history, None, None, now)
        record = Exited(
            controlled.uid,
            ordinal,
            judged.outcome,
            None,
            None,
            now,
            max(0.0, now - process.started_at),
            judged.failures,
            judged.done,
            empty=True,
            message="",
        )
        self.record(controlled, record, durable=judged.done)

    def reported(self, exits: Iterable[ExitReport]) -> list[ProcessId]:
        """The keeper reaped these. Answers with those that stand in the journal now, or are strangers: it may forget
        them. The others are kept here until `told`, and told again to the next controller. While the disk takes no
        records that is so of all; and when we have let go of the table, of those that we watched."""
        settled = []
        for report in exits:
            if report.process in self._gone:
                self._gone.discard(report.process)
                self.exited(report)
            elif report.process in self._seats:
                self._table.report(report.process, report.code, report.signal)
                if report.process in self._seats:
                    continue
            elif self._takes_over:
                self._unclaimed.append(report)
                continue
            settled.append(report.process)
        return settled if self._journal.writable else []

    def _give_up(self, process: ProcessId) -> None:
        """Nobody said how it ended."""
        if process in self._gone:
            self._gone.discard(process)
            self.exited(ExitReport(process, None, None))

    def look_around(self) -> None:
        """Once a second: adopted processes whose end nobody reported for a whole round, as the keeper was not their
        parent."""
        self._table.keep_up()
        due = set(self._table.unreported())
        for process in due & self._overdue:
            self.exited(self._table.resolve_unreported(process))
        self._overdue = due - self._overdue


def _intended_process(intent: Intended) -> Process:
    """The process that an intent would have become, for judging an end that nobody saw."""
    return Process(ProcessId(0, 0), intent.spawn_id, intent.revision, intent.epoch, intent.at, intent.cause)


def open_ledgers(journal: Journal) -> dict[str, Ledger]:
    """The ledgers of all objects, by uid, as the journal tells them."""
    ledgers: dict[str, Ledger] = {}
    for values in journal.replay():
        record = records.decode(values)
        if record is not None:
            memory.fold(ledgers.setdefault(record.uid, Ledger()), record)
    return ledgers
