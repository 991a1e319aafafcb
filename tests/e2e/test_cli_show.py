"""status, get, describe, events, logs: what they print, where, and how they end."""

import json
import os
import subprocess
import sys
import time

import pytest
import yaml

from support.calling import Call
from support.fake_controller import FakeController, ago, condition, crashing, event, process, program
from support.fake_engine import a_binding

PROBLEM = {
    "file": "/srv/manifests/bad.yaml",
    "line": 7,
    "column": 3,
    "field": "spec.replicaz",
    "message": "is not known here",
    "hint": "did you mean replicas?",
    "severity": "error",
}
PROBLEM_LINE = "/srv/manifests/bad.yaml:7:3: error: spec.replicaz: is not known here (did you mean replicas?)"


class TestStatus:
    def test_all_is_well_and_it_ends_with_0(self, fake: FakeController, call: Call) -> None:
        fake.programs = {"web": program("web", 3), "mail": program("mail", 1)}
        code, out, err = call("status")
        assert (code, err) == (0, "")
        assert out == (
            "reconciler 0.1.0, up 3d4h, controller 4711: 2 Programs, 4 of 4 processes ready\n"
            "\n"
            "NAME   READY   UP-TO-DATE   AVAILABLE   RESTARTS   AGE    STATE\n"
            "web    3/3     3            3           0          3d4h   Available\n"
            "mail   1/1     1            1           0          3d4h   Available\n"
        )

    def test_what_is_wrong_and_why_stands_below_and_it_ends_with_1(self, fake: FakeController, call: Call) -> None:
        fake.programs = {"web": program("web"), "api": crashing("api")}
        fake.problems = [PROBLEM]
        fake.sources = [{"home": "dir:/srv/manifests", "suspect": True, "message": "is not there", "files": 0}]
        code, out, _ = call("status")
        assert code == 1
        assert out.partition("\nWrong:\n")[2] == (
            "  dir:/srv/manifests: is not there\n"
            f"  {PROBLEM_LINE}\n"
            "  program/api CrashLoop: 1 of 2 replicas fail; replica 1 failed 7 times in a row.\n"
        )

    def test_a_remark_is_told_and_is_no_fault(self, fake: FakeController, call: Call) -> None:
        thing = program("web")
        thing["status"]["conditions"].append(condition("Overridden", "True", "OperatorOverride", "replicas 8 by ann"))
        fake.programs = {"web": thing}
        code, out, _ = call("status")
        assert code == 0
        assert "Available,Overridden" in out
        assert out.endswith("\nTo know:\n  program/web Overridden: replicas 8 by ann\n")

    def test_one_program_comes_with_its_processes(self, fake: FakeController, call: Call) -> None:
        fake.programs = {"web": program("web"), "api": crashing("api")}
        fake.problems = [PROBLEM]
        code, out, _ = call("status", "api")
        assert code == 1
        assert out == (
            "NAME   READY   UP-TO-DATE   AVAILABLE   RESTARTS   AGE    STATE\n"
            "api    1/2     2            1           7          3d4h   CrashLoop\n"
            "\n"
            "NAME    STATE     READY   PID   RESTARTS   AGE    LAST EXIT\n"
            "api/0   Running   yes     100   0          121m   -\n"
            "api/1   BackOff   no      -     7          -      code 1, 10m ago; next start in 60m\n"
            "\n"
            "Wrong:\n"
            "  program/api CrashLoop: 1 of 2 replicas fail; replica 1 failed 7 times in a row.\n"
        )
        assert call("status", "web").code == 0

    def test_the_daemon_tells_about_itself(self, fake: FakeController, call: Call) -> None:
        fake.daemon = {"version": "0.1.0", "pid": 7, "safeMode": False, "ready": True, "journal": {"full": 0.5}}
        assert call("status", "--daemon") == (
            0,
            "version   0.1.0\npid       7\nsafeMode  false\nready     true\njournal   full=0.5\n",
            "",
        )
        fake.daemon["safeMode"] = True
        assert call("status", "--daemon").code == 1

    def test_an_empty_controller_is_well(self, fake: FakeController, call: Call) -> None:
        code, out, _ = call("status")
        assert code == 0
        assert out == "reconciler 0.1.0, up 3d4h, controller 4711: 0 Programs, 0 of 0 processes ready\n"


class TestGet:
    @pytest.mark.parametrize(
        "words", [[], ["programs"], ["prog"], ["Program"], ["web"], ["program/web"], ["prog", "web"]]
    )
    def test_programs_are_what_is_meant_without_a_kind(
        self, fake: FakeController, call: Call, words: list[str]
    ) -> None:
        fake.programs = {"web": program("web")}
        assert call("get", *words) == (
            0,
            "NAME   READY   UP-TO-DATE   AVAILABLE   RESTARTS   AGE    STATE\n"
            "web    2/2     2            2           0          3d4h   Available\n",
            "",
        )

    @pytest.mark.parametrize("words", [["web/1"], ["ps", "web/1"], ["process/web/1"], ["program/web/1"]])
    def test_one_replica_is_a_process(self, fake: FakeController, call: Call, words: list[str]) -> None:
        fake.programs = {"web": program("web")}
        assert call("get", *words).out == (
            "NAME    STATE     READY   PID   RESTARTS   AGE    LAST EXIT\n"
            "web/1   Running   yes     101   0          121m   -\n"
        )

    def test_all_is_both_tables(self, fake: FakeController, call: Call) -> None:
        fake.programs = {"web": program("web", 1)}
        headers = [line.split()[1] for line in call("get", "all").out.splitlines() if line.startswith("NAME")]
        assert headers == ["READY", "STATE"]

    def test_wide_says_more(self, fake: FakeController, call: Call) -> None:
        fake.programs = {"web": program("web", 1, spec={"command": ["echo", "a b"]})}
        assert call("get", "-o", "wide").out.splitlines()[1].split(maxsplit=7)[7] == (
            "7f3c9a01   dir:manifests/web.yaml   echo 'a b'"
        )
        assert call("get", "ps", "-o", "wide").out == (
            "NAME    STATE     READY   PID   RESTARTS   AGE    REVISION   RUNS   CAUSE        PROCESS   LAST EXIT\n"
            "web/0   Running   yes     100   0          121m   7f3c9a01   1      NewReplica   web-0     -\n"
        )

    def test_json_and_yaml_are_the_answer_as_it_came(self, fake: FakeController, call: Call) -> None:
        fake.programs = {"web": program("web"), "mail": program("mail")}
        assert json.loads(call("get", "web", "-o", "json").out) == fake.programs["web"]
        assert yaml.safe_load(call("get", "web", "-o", "yaml").out) == fake.programs["web"]
        listed = yaml.safe_load(call("get", "-o", "yaml").out)
        assert (listed["kind"], listed["items"]) == ("List", [fake.programs["web"], fake.programs["mail"]])
        rows = json.loads(call("get", "ps", "web", "-o", "json").out)
        assert rows["program"] == "web" if "program" in rows else len(rows["items"]) == 2

    def test_names_are_what_other_verbs_take(self, fake: FakeController, call: Call) -> None:
        fake.programs = {"web": program("web")}
        assert call("get", "all", "-o", "name").out == "program/web\nprocess/web/0\nprocess/web/1\n"

    def test_the_selector_is_asked_for_and_holds_for_processes_too(self, fake: FakeController, call: Call) -> None:
        fake.programs = {"web": program("web", 1), "mail": program("mail", 1, labels={"app": "post"})}
        assert call("get", "-l", "app=post", "-o", "name").out == "program/mail\n"
        assert call("get", "ps", "-l", "app=post", "-o", "name").out == "process/mail/0\n"
        assert call("get", "-l", "app=none") == (0, "", "no programs found with labels app=none\n")

    def test_the_effective_spec_is_asked_for(self, fake: FakeController, call: Call) -> None:
        fake.programs = {"web": program("web")}
        call("get", "web", "-o", "yaml", "--effective")
        assert fake.requests[-1].query == {"effective": "1"}

    def test_invalid_files_are_told_on_stderr(self, fake: FakeController, call: Call) -> None:
        thing = program("web")
        thing["status"]["conditions"].append(condition("Invalid", "True", "ParseError", "web.yaml:3:1: a tab"))
        fake.programs, fake.problems = {"web": thing}, [PROBLEM]
        code, out, err = call("get")
        assert code == 0
        assert "Available,Invalid" in out
        assert err == f"warning: program/web Invalid: web.yaml:3:1: a tab\n{PROBLEM_LINE}\n"

    @pytest.mark.parametrize("words", [["wbe"], ["wbe", "-o", "json"], ["ps", "wbe"], ["wbe/3"], ["wbe", "-w"]])
    def test_a_wrong_name_is_answered_with_the_nearest(
        self, fake: FakeController, call: Call, words: list[str]
    ) -> None:
        fake.programs = {"web": program("web")}
        assert call("get", *words) == (3, "", "error: program/wbe not found (did you mean web?)\n")

    def test_a_replica_that_is_not_there_is_not_found(self, fake: FakeController, call: Call) -> None:
        fake.programs = {"web": program("web")}
        assert call("get", "web/9") == (3, "", "error: program/web has no replica 9\n")

    @pytest.mark.parametrize("word", ["a/b/c", "/", "web/x", "web/-1", "web/٣"])
    def test_what_names_nothing_is_a_usage_error(self, fake: FakeController, call: Call, word: str) -> None:
        code, out, err = call("get", word)
        assert (code, out) == (2, "")
        assert "names nothing" in err

    def test_a_hostile_name_or_message_stays_text(self, fake: FakeController, call: Call) -> None:
        thing = program("web")
        thing["metadata"]["name"] = "we\x1b]0;owned\x07b"
        fake.programs = {"web": thing}
        assert "\x1b" not in call("get").out + call("get", "-o", "wide").out + call("status").out


class TestWatching:
    def follow(self, fake: FakeController, *arguments: str, lines: int) -> list[str]:
        """The first lines of a call that does not end, which is then interrupted as by Ctrl-C."""
        fake.stays = True
        watching = subprocess.Popen(
            [sys.executable, "-m", "reconciler", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert watching.stdout is not None
        seen = [watching.stdout.readline() for _ in range(lines)]
        watching.send_signal(2)
        out, err = watching.communicate(timeout=30)
        assert (watching.returncode, out, err) == (130, "", "")
        return seen

    def test_rows_follow_the_changes_and_repeat_nothing(self, fake: FakeController) -> None:
        fake.programs = {"web": program("web")}
        same = {"type": "MODIFIED", "object": fake.programs["web"]}
        changed = {"type": "MODIFIED", "object": program("web", readyReplicas=1)}
        gone = {"type": "DELETED", "object": program("web")}
        fake.changes = [same, changed, gone]
        assert self.follow(fake, "get", "-w", lines=4) == [
            "NAME   READY   UP-TO-DATE   AVAILABLE   RESTARTS   AGE    STATE\n",
            "web    2/2     2            2           0          3d4h   Available\n",
            "web    1/2     2            2           0          3d4h   Available\n",
            "web    2/2     2            2           0          3d4h   Deleted\n",
        ]

    def test_processes_are_watched_one_by_one(self, fake: FakeController) -> None:
        fake.programs = {"web": program("web")}
        rows = [process(0), process(1, pid=None, state="Failed", ready=False)]
        fake.changes = [{"type": "MODIFIED", "object": program("web", processes=rows)}]
        assert self.follow(fake, "get", "ps", "-w", lines=4)[3:] == [
            "web/1   Failed    no      -     0          -      -\n",
        ]

    def test_bindings_are_watched_and_what_changes_no_cell_is_not_printed(self, fake: FakeController) -> None:
        fake.bindings = {"mails": a_binding("mails", "mail"), "prints": a_binding("prints", "print")}
        same, changed = a_binding("mails", "mail"), a_binding("mails", "mail")
        same["status"]["message"] = "redis: 3 waiting, still"
        changed["status"]["runningReplicas"] = 3
        things = [same, changed, a_binding("prints", "print")]
        fake.changes = [{"type": "MODIFIED", "object": thing} for thing in things]
        fake.changes.append({"type": "DELETED", "object": changed})
        assert self.follow(fake, "get", "qb", "-w", lines=5) == [
            "NAME     PROGRAM   WAITING   IN WORK   RUNNING   DESIRED   STATE\n",
            "mails    mail      3         -         2         3         Active\n",
            "prints   print     3         -         2         3         Active\n",
            "mails    mail      3         -         3         3         Active\n",
            "mails    mail      3         -         3         3         Deleted\n",
        ]

    def test_bindings_are_watched_as_documents_and_by_name(self, fake: FakeController) -> None:
        fake.bindings = {"mails": a_binding("mails", "mail"), "prints": a_binding("prints", "print")}
        (line,) = self.follow(fake, "get", "qb", "prints", "-w", "-o", "json", lines=1)
        assert json.loads(line) == fake.bindings["prints"]
        assert self.follow(fake, "get", "qb", "-w", "-o", "name", lines=2)[1] == "queuebinding/prints\n"

    def test_json_comes_one_object_per_line(self, fake: FakeController) -> None:
        fake.programs = {"web": program("web"), "mail": program("mail")}
        (line,) = self.follow(fake, "get", "mail", "-w", "-o", "json", lines=1)
        assert json.loads(line) == fake.programs["mail"]

    def test_events_follow_what_is_remembered(self, fake: FakeController) -> None:
        fake.programs = {"web": program("web")}
        fake.events = [event("web", "Starting", "start 0 (NewReplica)", ordinal=0)]
        fake.stream = [event("web", "Killing", "kill 0", ordinal=0, type="Warning", cause="GracePeriodOver")]
        lines = self.follow(fake, "events", "-w", lines=3)
        assert lines[1].split() == ["20m", "Normal", "web/0", "Starting", "start", "0", "(NewReplica)"]
        assert lines[2].split(maxsplit=1)[1] == "web/0 Killing kill 0 [GracePeriodOver]\n"


class TestDescribe:
    def test_all_there_is_to_know_about_a_program_that_fails(self, fake: FakeController, call: Call) -> None:
        fake.programs = {"api": crashing("api")}
        fake.log = b"connecting\n\x1b[31mrefused\n"
        fake.events = [event("api", "Exited", "replica 1 failed", type="Warning", count=7, ordinal=1)]
        code, out, err = call("describe", "api")
        assert (code, err) == (0, "")
        assert out == DESCRIBED.lstrip("\n")
        assert fake.asked("GET", "/v1/programs/api/logs")[0].query == {"replica": "1", "tail": "10"}

    def test_one_replica_alone(self, fake: FakeController, call: Call) -> None:
        rows = [
            process(0),
            process(1, state="Stopping", cause="ScaledDown", stoppingSince=ago(630), killAt=None, message="drains"),
        ]
        fake.programs = {"web": program("web", processes=rows)}
        assert call("describe", "web/1").out == (
            "Processes:\n"
            "  web/1: Stopping, pid 101, ready, for 121m\n"
            "    Message:    drains\n"
            "    Stopping:   for 10m, no kill: it may end in its own time\n"
            "    Cause:      ScaledDown\n"
            "    Revision:   7f3c9a01\n"
            "    Runs:       1, 0 restarts\n"
            "Events:      none\n"
        )
        assert call("describe", "web/7").code == 3

    def test_a_log_that_cannot_be_read_does_not_end_it(self, fake: FakeController, call: Call) -> None:
        fake.programs = {"api": crashing("api")}
        fake.refuses("GET", "/v1/programs/api/logs", 404, 3, "NoLogs", "it has no log")
        code, out, _ = call("describe", "api")
        assert code == 0
        assert "  | (no log: it has no log)\n" in out


DESCRIBED = """
Name:        api
Kind:        Program
Source:      dir:manifests/api.yaml
Labels:      app=shop
Generation:  1
Revision:    7f3c9a01
Age:         3d4h
State:       CrashLoop
Replicas:    2 wanted, 2 running, 1 ready, 1 available, 2 up to date
Spec:
  command:
  - php
  - artisan
  - "queue:work"
  replicas: 2
Conditions:
  TYPE          STATUS   REASON                       SINCE
  Available     False    MinimumReplicasUnavailable   121m
    1 of 2 replicas are available, 2 are needed.
  Progressing   True     RollingOut                   121m
  CrashLoop     True     BackOff                      121m
    1 of 2 replicas fail; replica 1 failed 7 times in a row.
Processes:
  api/0: Running, pid 100, ready, for 121m
    Cause:      NewReplica
    Revision:   7f3c9a01
    Runs:       1, 0 restarts
  api/1: BackOff, not ready
    Last exit:  Failed, code 1, ran 3.2s, 10m ago
    Failures:   7 in a row
    Back-off:   next start in 60m
    Cause:      ProcessFailed
    Revision:   7f3c9a01
    Runs:       8, 7 restarts
Last lines of api/1:
  | connecting
  | \N{REPLACEMENT CHARACTER}[31mrefused
Events:
  LAST SEEN   TYPE      OBJECT   REASON   MESSAGE
  20m         Warning   api/1    Exited   replica 1 failed (x7)
"""


class TestEvents:
    def test_a_table_of_what_is_remembered(self, fake: FakeController, call: Call) -> None:
        fake.events = [event("web", "Starting", "start 0"), event("mail", "Scaled", "scaled by ann", at=ago(7300))]
        fake.programs = {"web": program("web"), "mail": program("mail")}
        assert call("events", "mail").out == (
            "LAST SEEN   TYPE     OBJECT   REASON   MESSAGE\n121m        Normal   mail     Scaled   scaled by ann\n"
        )
        assert len(call("events").out.splitlines()) == 3
        assert [json.loads(line) for line in call("events", "-o", "json").out.splitlines()] == fake.events

    def test_nothing_happened_and_nobody_of_that_name(self, fake: FakeController, call: Call) -> None:
        fake.programs = {"web": program("web")}
        assert call("events", "web") == (0, "", "no events found\n")
        assert call("events", "wbe") == (3, "", "error: program/wbe not found (did you mean web?)\n")


class TestLogs:
    def test_bytes_come_as_they_were_written(self, fake: FakeController) -> None:
        fake.programs, fake.log = {"web": program("web")}, b"a\xff\x00b\n\x1b[1mbold\n"
        done = subprocess.run([sys.executable, "-m", "reconciler", "logs", "web"], capture_output=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, fake.log, b"")
        assert fake.requests[-1].query == {"tail": "100"}

    def test_options_are_asked_for(self, fake: FakeController, call: Call) -> None:
        fake.programs = {"web": program("web")}
        call("logs", "web/3", "--tail", "all", "--since", "1h30m", "--timestamps", "--prefix", "--stream", "err")
        assert fake.requests[-1].query == {
            "replica": "3",
            "since": "5400.0",
            "timestamps": "1",
            "prefix": "1",
            "stream": "err",
        }

    @pytest.mark.parametrize(("option", "n"), [("--previous", "1"), ("--previous=3", "3")])
    def test_earlier_runs_are_counted_back(self, fake: FakeController, call: Call, option: str, n: str) -> None:
        fake.programs = {"web": program("web")}
        assert call("logs", "web/0", option).code == 0
        assert fake.requests[-1].query["previous"] == n

    @pytest.mark.parametrize("options", [["--tail", "x"], ["--tail", "-5"], ["--since", "soon"], ["-f", "--previous"]])
    def test_what_makes_no_sense_is_a_usage_error(self, fake: FakeController, call: Call, options: list[str]) -> None:
        assert call("logs", "web", *options).code == 2
        assert not fake.requests

    def test_a_wrong_name_and_a_wrong_replica(self, fake: FakeController, call: Call) -> None:
        fake.programs = {"web": program("web")}
        assert call("logs", "wbe") == (3, "", "error: program/wbe not found (did you mean web?)\n")
        fake.refuses("GET", "/v1/programs/web/logs", 404, 3, "NoLogs", "program/web replica 9 has no log")
        assert call("logs", "web/9") == (3, "", "error: program/web replica 9 has no log\n")

    def test_following_goes_on_when_the_controller_was_replaced(self, fake: FakeController) -> None:
        fake.programs, fake.log = {"web": program("web")}, b"line\n"
        following = subprocess.Popen(
            [sys.executable, "-m", "reconciler", "logs", "-f", "web"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        deadline = time.monotonic() + 30
        while len(fake.requests) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        following.send_signal(2)
        _, err = following.communicate(timeout=30)
        assert following.returncode == 130
        assert b"following again" in err
        assert [request.query["tail"] for request in fake.requests[:2]] == ["100", "0"]


def test_a_reader_that_goes_away_ends_it_quietly(fake: FakeController) -> None:
    fake.programs, fake.log = {"web": program("web")}, b"line\n" * 100_000
    read, write = os.pipe()
    os.close(read)
    try:
        for verb in (["logs", "web"], ["get", "web", "-o", "yaml"]):
            done = subprocess.run(
                [sys.executable, "-m", "reconciler", *verb], stdout=write, stderr=subprocess.PIPE, check=False
            )
            assert (done.returncode, done.stderr) == (141, b"")
    finally:
        os.close(write)
