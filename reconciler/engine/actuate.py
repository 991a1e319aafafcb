"""Carries out a plan: one call per action, in the order of the plan. There are no decisions here.

What an action needs after a crash is in the journal before the call. An outcome is an observation and goes the way of
all observations.
"""

from collections.abc import Callable

from reconciler.core.plan import Action, Forget, Kill, Rest, Start, Stop
from reconciler.core.records import Exited, Forgotten, Intended, Killed, Rested, Signalled, Spawned, StopBegan
from reconciler.core.restart import failures_after
from reconciler.engine.building import Builder
from reconciler.engine.controlled import Controlled
from reconciler.engine.observe import Observer
from reconciler.model.identity import ProcessId
from reconciler.model.state import NO_HISTORY, Outcome
from reconciler.ports import Clock, LogSink, ProcessTable, SpawnFailed


class Actuator:
    """Turns actions into calls of the process table and the log sink."""

    def __init__(
        self,
        clock: Clock,
        table: ProcessTable,
        sink: LogSink,
        observer: Observer,
        builder: Builder,
        spawn_prefix: str,
        failed_start: Callable[[Controlled, int], None],
    ) -> None:
        self._clock = clock
        self._table = table
        self._sink = sink
        self._observer = observer
        self._builder = builder
        self._spawn_prefix = spawn_prefix
        self._failed_start = failed_start
        self.spawns = 0

    def carry_out(self, controlled: Controlled, action: Action) -> None:
        """One action, one effect."""
        match action:
            case Start():
                self._start(controlled, action)
            case Stop():
                self._stop(controlled, action)
            case Kill():
                self._kill(controlled, action)
            case Forget():
                self.forget(controlled, action.ordinal)
            case Rest():
                self._observer.record(controlled, Rested(controlled.uid, action.ordinal))

    def _start(self, controlled: Controlled, action: Start) -> None:
        ordinal, now = action.ordinal, self._clock.now()
        self.spawns += 1
        spawn_id = f"{self._spawn_prefix}{self.spawns:x}"
        run_once = self._builder.run_once(controlled, action.revision)
        intent = Intended(controlled.uid, ordinal, spawn_id, action.revision, action.epoch, action.cause, now, run_once)
        self._observer.record(controlled, intent)
        try:
            if not self._observer.can_record and controlled.must_not_repeat:
                raise SpawnFailed("the journal takes no more records, and this work must not be repeated")
            launch = self._builder.launch(controlled, action.revision, ordinal)
            self._open_streams(controlled, action.revision, ordinal)
            process = self._table.spawn(launch, spawn_id)
        except SpawnFailed as reason:
            self._record_failed_start(controlled, action, str(reason))
            return
        self._observer.record(controlled, Spawned(controlled.uid, ordinal, spawn_id, *process))
        self._observer.watch(controlled, ordinal, process)

    def _record_failed_start(self, controlled: Controlled, action: Start, reason: str) -> None:
        history = controlled.ledger.memory.histories.get(action.ordinal, NO_HISTORY)
        failures = failures_after(controlled.desired, history, action.revision, 0.0)
        record = Exited(
            controlled.uid,
            action.ordinal,
            Outcome.NOT_STARTED,
            None,
            None,
            self._clock.now(),
            0.0,
            failures,
            done=False,
            empty=True,
            message=reason,
        )
        self._observer.record(controlled, record)
        self._observer.failed(controlled, action.ordinal)
        self._failed_start(controlled, action.ordinal)

    def _stop(self, controlled: Controlled, action: Stop) -> None:
        now = self._clock.now()
        record = StopBegan(controlled.uid, action.ordinal, action.cause, now, action.kill_at, action.silent)
        self._observer.record(controlled, record)
        if not action.silent:
            self._signal(controlled, action.ordinal, action.process, rest=action.rest)

    def _signal(self, controlled: Controlled, ordinal: int, process: ProcessId, *, rest: bool) -> None:
        spec = controlled.built.spec
        self._table.signal(process, spec.stop_signal_number, "tree" if rest else spec.stop_scope)
        self._observer.record(controlled, Signalled(controlled.uid, ordinal))

    def resume_ends(self, controlled: Controlled) -> None:
        """An earlier controller wrote down that it stops or kills, and may not have come to do it.

        A signal may be sent twice, if that controller died just between sending it and writing so. It is never lost.
        """
        for ordinal, process in list(controlled.ledger.observed.processes.items()):
            if process.stopping is None:
                continue
            if process.stopping.killed:
                self._table.kill_tree(process.id, process.spawn_id)
            elif not process.stopping.signalled:
                self._signal(controlled, ordinal, process.id, rest=process.ended)

    def _kill(self, controlled: Controlled, action: Kill) -> None:
        process = controlled.ledger.observed.processes[action.ordinal]
        self._observer.record(controlled, Killed(controlled.uid, action.ordinal, self._clock.now()))
        self._table.kill_tree(action.process, process.spawn_id)

    def forget(self, controlled: Controlled, ordinal: int) -> None:
        """Drop the memory of an ordinal and let its log streams go; the log files stay."""
        self._observer.record(controlled, Forgotten(controlled.uid, ordinal))
        controlled.streams_from.pop(ordinal, None)
        for stream in controlled.open_streams.pop(ordinal, ()):
            self._sink.close(stream.id)

    def close_streams(self, controlled: Controlled) -> None:
        """Nothing of this Program will write any more; the log files stay."""
        for streams in controlled.open_streams.values():
            for stream in streams:
                self._sink.close(stream.id)
        controlled.open_streams.clear()

    def resume_streams(self, controlled: Controlled) -> None:
        """Processes of an earlier controller write to their FIFOs: have them moved on."""
        for ordinal, process in controlled.ledger.observed.processes.items():
            self._open_streams(controlled, process.revision, ordinal)

    def refresh_streams(self, controlled: Controlled) -> None:
        """Where and how output is kept may have changed: for the streams that are open, at once."""
        for ordinal, known in controlled.open_streams.items():
            wanted = {s.id: s for s in self._builder.streams(controlled, controlled.built.revision, ordinal)}
            # A stream that is not wanted any more is still written to by the process that has it: it stays until then.
            streams = tuple(wanted.get(stream.id, stream) for stream in known)
            for stream in set(streams) - set(known):
                self._sink.open(stream)
            controlled.open_streams[ordinal] = streams

    def _open_streams(self, controlled: Controlled, revision: str, ordinal: int) -> None:
        template = controlled.templates.get(revision)
        if controlled.streams_from.get(ordinal) is template is not None:
            return
        streams = self._builder.streams(controlled, revision, ordinal)
        controlled.streams_from[ordinal] = template
        known = controlled.open_streams.get(ordinal)
        if known != streams:
            for stream in streams:
                self._sink.open(stream)
            gone = {stream.id for stream in known or ()} - {stream.id for stream in streams}
            for stream_id in gone:
                self._sink.close(stream_id)
            controlled.open_streams[ordinal] = streams
