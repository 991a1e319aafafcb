"""The judge of `make chaos` on planted histories: what is wrong is found; what is unavoidable is excused, no more."""

import gzip
from pathlib import Path

import pytest

from support import chaos_ledger
from support.chaos_absences import Absences
from support.chaos_journal import Books, Run, Tail
from support.chaos_judge import Fault, end_fault, seat_faults, silence_fault
from support.chaos_keeper import KEPT, Kept
from support.chaos_ledger import Ledger, Life
from support.chaos_logs import Logs
from support.chaos_worker import line_of

NOBODY = 2**22 + 1  # no pid: the kernel gives out smaller ones
SPAWN, NEXT, THIRD = "aaaaaaaa-1", "aaaaaaaa-2", "bbbbbbbb-1"


def life(spawn: str = SPAWN, **known: object) -> Life:
    about = {"began": 10.0, "ended": 20.0, "gone": 20.0, "code": 3, **known}
    return Life(spawn, "talk", 0, NOBODY, revision="r", version="1", **about)  # type: ignore[arg-type]


def run(spawn: str = SPAWN, **known: object) -> Run:
    about = {"at": 9.9, "pid": NOBODY, "ended": 20.1, "outcome": "Succeeded", "code": 3, **known}
    return Run(spawn, "uid", 0, **about)  # type: ignore[arg-type]


def unknown(**known: object) -> Run:
    return run(outcome="Unknown", code=None, **known)


def kind(fault: Fault | None) -> str | None:
    return None if fault is None else fault.kind


NEVER_ABSENT = Absences()


class TestEnds:
    def test_what_the_process_said_is_right(self) -> None:
        assert end_fault(life(), run(), NEVER_ABSENT) is None
        said_signal = life(code=None, signal=11)
        assert end_fault(said_signal, run(code=None, signal=11, outcome="Failed"), NEVER_ABSENT) is None

    @pytest.mark.parametrize(
        "wrong",
        [
            run(code=0),
            run(code=None, signal=9, outcome="Failed"),
            run(code=None, signal=15, stopped=True, outcome="Stopped"),  # it had said its last words: TERM was ignored
            run(code=3, pid=0),
            run(ended=None),
            unknown(),
        ],
        ids=["another code", "a KILL of nobody's", "a TERM too late", "never started", "no end", "not known"],
    )
    def test_anything_else_is_not(self, wrong: Run) -> None:
        assert kind(end_fault(life(), wrong, NEVER_ABSENT)) == "exit codes"

    def test_a_process_without_an_intent_or_with_one_that_was_withdrawn_is_wrong(self) -> None:
        assert kind(end_fault(life(), None, NEVER_ABSENT)) == "journal"
        assert kind(end_fault(life(), run(withdrawn=True, ended=None), NEVER_ABSENT)) == "journal"

    def test_who_said_nothing_was_killed_by_an_act_that_is_known(self) -> None:
        mute = {"ended": None, "gone": 0.0, "code": None}
        by_kill = {"code": None, "signal": 9, "outcome": "Failed"}
        by_term = {"code": None, "signal": 15, "outcome": "Stopped"}
        assert end_fault(life(**mute, killed=True), run(**by_kill), NEVER_ABSENT) is None
        assert end_fault(life(**mute), run(**by_kill, killed=True), NEVER_ABSENT) is None
        assert end_fault(life(**mute), run(**by_term, stopped=True), NEVER_ABSENT) is None
        assert kind(end_fault(life(**mute), run(**by_kill), NEVER_ABSENT)) == "exit codes"
        assert kind(end_fault(life(**mute), run(**by_term), NEVER_ABSENT)) == "exit codes"
        assert kind(end_fault(life(**mute), run(code=1), NEVER_ABSENT)) == "exit codes"

    def test_a_kill_may_come_between_the_last_words_and_the_end(self) -> None:
        killed = run(code=None, signal=9, outcome="Stopped", killed=True)
        assert end_fault(life(), killed, NEVER_ABSENT) is None


class TestSilence:
    def test_who_never_wrote_a_word_was_ended_by_an_act_that_is_known(self) -> None:
        assert silence_fault(run(code=None, signal=15, stopped=True, outcome="Stopped"), NEVER_ABSENT) is None
        assert silence_fault(run(code=None, signal=9, killed=True, outcome="Stopped"), NEVER_ABSENT) is None
        assert silence_fault(run(withdrawn=True, ended=None), NEVER_ABSENT) is None

    def test_or_the_host_had_no_room_for_it(self) -> None:
        refused = {"pid": 0, "code": None, "outcome": "NotStarted"}
        no_room = run(**refused, message="cannot fork: Resource temporarily unavailable")
        assert silence_fault(no_room, NEVER_ABSENT) is None
        assert kind(end_fault(life(), no_room, NEVER_ABSENT)) == "exit codes"
        assert kind(silence_fault(run(**refused, message="Bad file descriptor"), NEVER_ABSENT)) == "exit codes"

    @pytest.mark.parametrize(
        ("wrong", "what"),
        [
            (run(code=40, stopped=True, outcome="Stopped"), "exit codes"),
            (run(code=None, signal=15, outcome="Failed"), "exit codes"),
            (run(code=None, signal=9, stopped=True, outcome="Stopped"), "exit codes"),
            (run(ended=None), "processes lost"),
            (run(ended=None, pid=0), "processes lost"),
            (unknown(), "exit codes"),
        ],
        ids=["left by itself", "TERM of nobody's", "KILL of nobody's", "vanished", "intended only", "not known"],
    )
    def test_else_it_is_missed(self, wrong: Run, what: str) -> None:
        assert kind(silence_fault(wrong, NEVER_ABSENT)) == what


def absences(*, keeper_death: float = 30.0, ready: float = 33.0) -> Absences:
    """A keeper of pid 1's controller 7 dies; the next one's controller is 8."""
    found = Absences()
    found.keeper_goes(keeper_death, 7)
    found.ready(ready, 8)
    return found


class TestUnknown:
    @pytest.mark.parametrize("ended", [28.5, 30.5, 32.9], ids=["just before", "no keeper", "not taken over yet"])
    def test_an_end_may_be_unknown_while_no_keeper_could_tell(self, ended: float) -> None:
        assert end_fault(life(ended=ended, gone=ended), unknown(ended=33.0), absences()) is None
        assert silence_fault(unknown(at=ended - 3, ended=33.0), absences()) is None

    @pytest.mark.parametrize("ended", [20.0, 27.0, 33.5, 60.0])
    def test_not_long_before_that_nor_after(self, ended: float) -> None:
        assert end_fault(life(ended=ended, gone=ended), unknown(ended=ended + 0.1), absences()) is not None
        assert silence_fault(unknown(at=ended - 0.1, ended=ended + 0.1), absences()) is not None

    def test_not_of_who_began_under_the_next_keeper(self) -> None:
        found = absences()
        found.controller_goes(34.0, 8)
        found.ready(35.0, 9)
        late = life(began=33.5, ended=34.5, gone=34.5)
        assert end_fault(late, unknown(at=33.5, ended=35.0), found) is not None

    def test_a_dead_controller_alone_excuses_nothing(self) -> None:
        alone = Absences()
        alone.controller_goes(19.5, 7)
        alone.ready(20.5, 8)
        assert end_fault(life(), unknown(), alone) is not None

    def test_who_outlived_his_keeper_is_watched_by_a_controller_or_by_nobody(self) -> None:
        found = absences()
        found.controller_goes(50.0, 8)
        found.ready(52.0, 9)
        assert end_fault(life(ended=51.0, gone=51.0), unknown(ended=52.0), found) is None
        assert end_fault(life(ended=40.0, gone=40.0), unknown(ended=40.1), found) is not None
        assert end_fault(life(began=34.0, ended=51.0, gone=51.0), unknown(at=34.0, ended=52.0), found) is not None

    def test_a_late_word_of_a_controller_that_is_gone_ends_nothing(self) -> None:
        found = Absences()
        found.keeper_goes(30.0, 7)
        found.ready(30.1, 7)
        assert found.may_be_unknown(10.0, 32.0, 33.0)


def row(pid: int | None, runs: int = 1) -> dict[str, dict[str, object]]:
    return {"talk": {"metadata": {"uid": "uid"}, "status": {"processes": [{"replica": 0, "pid": pid, "runs": runs}]}}}


class TestSeats:
    def test_who_runs_is_shown_and_counted(self) -> None:
        assert seat_faults(row(NOBODY), [life()], {("uid", 0): 1}) == []

    @pytest.mark.parametrize(
        ("objects", "alive", "what"),
        [
            (row(NOBODY), [], "not converged"),
            (row(None), [life()], "processes lost"),
            (row(7), [life()], "processes lost"),
            ({}, [life()], "processes lost"),
            (row(NOBODY), [life(), life(NEXT)], "processes doubled"),
            (row(NOBODY, runs=2), [life()], "runs"),
        ],
        ids=["shown and gone", "lost", "another one", "forgotten", "doubled", "miscounted"],
    )
    def test_anything_else_is_found(self, objects: dict[str, dict[str, object]], alive: list[Life], what: str) -> None:
        assert what in {fault.kind for fault in seat_faults(objects, alive, {("uid", 0): 1})}


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path)


def writes(ledger: Ledger, at: float | str, spawn: str, *words: object, pid: int = NOBODY) -> None:
    with ledger.path.open("a") as file:
        file.write(" ".join(map(str, (at, pid, "talk", 0, spawn, *words))) + "\n")


class TestLedger:
    def test_one_after_the_other_is_right(self, ledger: Ledger) -> None:
        for at, spawn in ((1, SPAWN), (2, NEXT)):
            writes(ledger, at, spawn, "start", "r", "1")
            writes(ledger, at + 0.5, spawn, "end", 3, 0)
        assert ledger.read() == 4
        assert ledger.doubled == []
        assert [each.code for each in ledger.lives.values()] == [3, 3]

    def test_an_end_is_at_the_latest_when_its_clock_would_have_shown_more(self, ledger: Ledger) -> None:
        writes(ledger, "1.23", SPAWN, "start", "r", "1")
        writes(ledger, "1.23", SPAWN, "end", 3, "-")
        ledger.read()
        assert ledger.lives[SPAWN].gone == pytest.approx(1.24)

    def test_whoever_finds_his_seat_taken_is_heard(self, ledger: Ledger) -> None:
        writes(ledger, 1, NEXT, "double", SPAWN, 17)
        ledger.read()
        assert len(ledger.doubled) == 1

    def test_two_at_once_are_found(self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(chaos_ledger, "is_alive", lambda life: True)
        writes(ledger, 1, SPAWN, "start", "r", "1")
        writes(ledger, 2, NEXT, "start", "r", "1")
        ledger.read()
        assert len(ledger.doubled) == 1

    def test_one_spawn_that_begins_or_ends_twice_is_found(self, ledger: Ledger) -> None:
        writes(ledger, 1, SPAWN, "start", "r", "1")
        writes(ledger, 2, SPAWN, "start", "r", "1", pid=NOBODY + 1)
        writes(ledger, 3, NEXT, "start", "r", "1")
        writes(ledger, 3, NEXT, "end", 3, 0)
        writes(ledger, 3, NEXT, "end", 3, 0)
        ledger.read()
        assert len(ledger.doubled) == 2


def intended(spawn: str, at: float = 1.0) -> list[object]:
    return ["intended", "uid", 0, spawn, "r", 0, "NewReplica", at, False]


def spawned(spawn: str) -> list[object]:
    return ["spawned", "uid", 0, spawn, NOBODY, 1]


def exited(code: int | None, signal: int | None = None) -> list[object]:
    return ["exited", "uid", 0, "Succeeded", code, signal, 2.0, 1.0, 0, False, True, ""]


class TestBooks:
    def test_they_tell_of_a_run_from_intent_to_end(self) -> None:
        books = Books()
        books.take([intended(SPAWN), spawned(SPAWN), ["stop", "uid", 0, "ScaledDown", 1.5, 9.9, False], exited(3)])
        found = books.runs[SPAWN]
        assert (found.pid, found.code, found.ended, found.stopped, found.killed) == (NOBODY, 3, 2.0, True, False)
        assert books.counts["uid", 0] == 1
        assert books.faults == []

    def test_a_stop_that_only_waits_asks_nobody_to_end(self) -> None:
        books = Books()
        books.take([intended(SPAWN), spawned(SPAWN), ["stop", "uid", 0, "ScaledDown", 1.5, 9.9, True]])
        assert not books.runs[SPAWN].stopped

    @pytest.mark.parametrize(
        "records",
        [
            [intended(SPAWN), spawned(SPAWN), intended(NEXT)],
            [intended(SPAWN), spawned(SPAWN), spawned(SPAWN)],
            [spawned(SPAWN)],
            [exited(0)],
            [intended(SPAWN), spawned(SPAWN), exited(0), exited(0)],
            [intended(SPAWN), spawned(SPAWN), ["restored", "uid", 0, [0, None, 1.0, "", 0, None, 2, 0], None]],
        ],
        ids=["beside", "twice", "no intent", "no start", "two ends", "miscounted"],
    )
    def test_what_no_journal_may_say_is_found(self, records: list[list[object]]) -> None:
        books = Books()
        books.take(records)
        assert len(books.faults) == 1


class TestTail:
    @pytest.fixture
    def journal(self, tmp_path: Path) -> Kept:
        (tmp_path / KEPT).mkdir()
        return Kept(str(tmp_path / "state" / "run" / "journal"), 1 << 16, "boot")

    @pytest.fixture
    def tail(self, tmp_path: Path, journal: Kept) -> Tail:
        (tmp_path / KEPT).rmdir()
        return Tail(tmp_path / "state" / "run" / "journal" / "segment", tmp_path / KEPT)

    def test_no_record_is_missed_however_many_checkpoints_come_between_two_looks(
        self, journal: Kept, tail: Tail
    ) -> None:
        for number in range(3):
            journal.append(["before", number])
            journal.append(["after", number])
            journal.checkpoint([["snapshot", number]])
        journal.append(["last"])
        expected = [[["before", n], ["after", n], ["snapshot", n]] for n in range(3)]
        assert tail.take() == [*(record for part in expected for record in part), ["last"]]
        assert tail.take() == []
        assert tail.segments == 4

    def test_a_segment_goes_on_where_a_checkpoint_did_not_come_about(self, journal: Kept, tail: Tail) -> None:
        journal.append(["one"])
        tail.take()
        journal._replace = lambda *_: (_ for _ in ()).throw(OSError())  # type: ignore[method-assign]
        journal.append(["two"])
        journal.checkpoint([["snapshot"]])
        journal.append(["three"])
        assert tail.take() == [["two"], ["three"]]

    def test_a_copy_that_was_made_twice_is_read_once(self, journal: Kept, tail: Tail, tmp_path: Path) -> None:
        journal.append(["one"])
        segment = tmp_path / "state" / "run" / "journal" / "segment"
        (tmp_path / KEPT / "1").write_bytes(segment.read_bytes())  # killed before the checkpoint was in force
        journal.append(["two"])
        journal.checkpoint([["snapshot"]])
        assert tail.take() == [["one"], ["two"], ["snapshot"]]


def lines(spawn: str, count: int) -> bytes:
    return b"".join(line_of(spawn, number) for number in range(1, count + 1))


class Printed:
    """Two processes that printed at one ordinal, one after the other, 40 lines each, and a third that did later."""

    def __init__(self, folder: Path) -> None:
        self.ledger, self.folder = Ledger(folder), folder / "logs" / "talk"
        self.folder.mkdir(parents=True)
        self.runs = {}
        for began, ended, spawn in (("10.00", "19.00", SPAWN), ("20.00", "29.00", NEXT)):
            writes(self.ledger, began, spawn, "start", "r", "1")
            writes(self.ledger, ended, spawn, "end", 3, len(lines(spawn, 40)))
            self.runs[spawn] = run(spawn)
        self.ledger.read()
        self.logs = Logs(folder / "logs", ["talk"])

    def faults(self, text: bytes, absent: Absences = NEVER_ABSENT) -> list[str]:
        (self.folder / "0.log").write_bytes(text)
        self.logs.read()
        return self.logs.faults(self.ledger, self.runs, absent)


@pytest.fixture
def printed(tmp_path: Path) -> Printed:
    return Printed(tmp_path)


BOTH = lines(SPAWN, 40) + lines(NEXT, 40)


class TestLogs:
    def test_every_byte_once_and_in_order_is_right(self, printed: Printed) -> None:
        assert printed.faults(BOTH) == []

    def test_over_closed_segments_too(self, printed: Printed) -> None:
        cut = BOTH.index(b"\n", 900) + 1
        (printed.folder / "0.log.000001.gz").write_bytes(gzip.compress(BOTH[:cut]))
        assert printed.faults(BOTH[cut:]) == []

    @pytest.mark.parametrize(
        "text",
        [
            BOTH[:-1],
            BOTH[1:],
            BOTH[:700] + BOTH[701:],
            BOTH[:700] + b"." + BOTH[700:],
            lines(SPAWN, 40) * 2 + lines(NEXT, 40),
            lines(NEXT, 40) + lines(SPAWN, 40) + b"x\n",
            lines(SPAWN, 39) + lines(NEXT, 40),
            lines(NEXT, 40),
            lines(SPAWN, 41) + lines(NEXT, 40),
            b"",
        ],
        ids=["last", "first", "within", "one more", "doubled", "stranger", "line", "process", "too many", "all"],
    )
    def test_a_byte_that_is_lost_or_doubled_is_found(self, printed: Printed, text: bytes) -> None:
        assert printed.faults(text)

    def test_a_segment_that_is_lost_is_found(self, printed: Printed) -> None:
        cut = BOTH.index(lines(NEXT, 1))
        (printed.folder / "0.log.000002").write_bytes(BOTH[:cut])
        assert printed.faults(BOTH[cut:])


def spilt(began: float, ended: float, waiting: int = 0) -> Absences:
    found = Absences()
    found.pipes_let_go(began, {"uid-0-out": waiting, "uid-1-out": 1 << 20})
    found.ready(ended, 8)
    return found


class TestSpills:
    """NEXT ends at 29, SPAWN at 19."""

    def test_who_ends_while_nobody_has_the_pipe_may_take_the_last_bytes_along(self, printed: Printed) -> None:
        assert printed.faults(BOTH[:-500], spilt(28, 30)) == []

    def test_but_none_from_the_middle(self, printed: Printed) -> None:
        assert printed.faults(BOTH[:-500] + BOTH[-400:], spilt(28, 30))

    def test_nor_may_those_who_ended_before_unless_it_waited_in_the_pipe(self, printed: Printed) -> None:
        assert printed.faults(BOTH[:-500], spilt(29.5, 30, waiting=500)) == []

    def test_nor_more_than_waited(self, printed: Printed) -> None:
        assert printed.faults(BOTH[:-500], spilt(29.5, 30, waiting=499))

    def test_nor_what_was_written_before_that(self, printed: Printed) -> None:
        assert printed.faults(lines(SPAWN, 39) + lines(NEXT, 40), spilt(29.5, 30, waiting=10_000))

    def test_nor_those_who_end_when_all_is_held_again(self, printed: Printed) -> None:
        assert printed.faults(BOTH[:-500], spilt(20, 28, waiting=500))

    def test_two_of_them_not_more_than_waited_for_both(self, printed: Printed) -> None:
        missing = len(lines(NEXT, 40)) + 100
        assert printed.faults(BOTH[:-missing], spilt(29.5, 30, waiting=missing)) == []

    def test_and_not_a_byte_more(self, printed: Printed) -> None:
        missing = len(lines(NEXT, 40)) + 100
        assert printed.faults(BOTH[:-missing], spilt(29.5, 30, waiting=missing - 1))
