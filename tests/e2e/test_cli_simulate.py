"""`queue simulate`: from manifests and a load to a table, JSON or a picture; and what is not a load."""

import importlib
import json
import sys
from pathlib import Path

import pytest

from support.calling import Call

BINDING = """\
apiVersion: reconciler/v1
kind: QueueBinding
metadata: {name: mails}
spec:
  scaleTargetRef: {name: mail-worker}
  maxReplicaCount: 8
  triggers: [{type: redis, metadata: {key: mails}, target: 2}]
"""
PROGRAM = """\
apiVersion: reconciler/v1
kind: Program
metadata: {name: mail-worker}
spec: {command: [work], replicas: 3}
"""
SEVERAL_QUEUES = """\
apiVersion: reconciler/v1
kind: QueueBinding
metadata: {name: mails}
spec:
  scaleTargetRef: {name: mail-worker}
  maxReplicaCount: 8
  triggers:
  - {type: cron, metadata: {timezone: UTC, start: 0 8 * * *, end: 0 9 * * *, desiredReplicas: 2}}
  - {type: redis, name: a, metadata: {key: a}}
  - {type: redis, name: b, metadata: {key: b}, target: 20}
"""
SHORT = ("--duration", "60s", "--load", "burst:20")


@pytest.fixture
def mails(tmp_path: Path) -> Path:
    """A binding and its Program."""
    path = tmp_path / "mails.yaml"
    path.write_text(f"{BINDING}---\n{PROGRAM}")
    return path


def names(output: str) -> list[str]:
    return [row["name"] for row in json.loads(output)]


def test_a_table_of_what_comes_of_it(call: Call, mails: Path) -> None:
    code, out, err = call("queue", "simulate", "-f", mails, *SHORT)
    header, row = out.splitlines()
    assert (code, err) == (0, "")
    assert " ".join(header.split()) == "SCALED BY WAIT P50 P95 P99 LONGEST PROCESS SECONDS CHANGES MOST"
    assert row.startswith("mails ")
    assert row.endswith(" 8")


def test_beside_others(call: Call, mails: Path) -> None:
    _, out, _ = call("queue", "simulate", "-f", mails, *SHORT, "--compare", "-o", "json")
    assert names(out) == ["mails", "3 all the time", "8 all the time", "KEDA and HPA, 2 each", "Horizon auto, 1 to 8"]


def test_run_once_work_is_compared_with_a_scaled_job(call: Call, mails: Path) -> None:
    mails.write_text(f"{BINDING}---\n{PROGRAM.replace('replicas: 3', 'runOnce: true')}")
    _, out, _ = call("queue", "simulate", "-f", mails, *SHORT, "--compare", "-o", "json")
    assert "KEDA ScaledJob" in names(out)
    ours = json.loads(out)[0]
    assert ours["untaken"] == 0
    assert ours["pieces"] == 20


def test_the_same_call_says_the_same(call: Call, mails: Path) -> None:
    arguments = ("queue", "simulate", "-f", mails, "--duration", "60s", "--load", "steady:3", "-o", "json")
    assert call(*arguments) == call(*arguments)
    assert call(*arguments) != call(*arguments, "--seed", 2)


def test_a_program_in_another_file(call: Call, tmp_path: Path) -> None:
    binding, program = tmp_path / "b.yaml", tmp_path / "p.yaml"
    binding.write_text(BINDING)
    program.write_text(PROGRAM)
    assert call("queue", "simulate", "-f", binding, "--program", program, *SHORT).err == ""
    said = call("queue", "simulate", "-f", binding, *SHORT)
    assert said.code == 0
    assert "program/mail-worker is not in" in said.err


def test_one_of_several_bindings_is_named(call: Call, mails: Path) -> None:
    mails.write_text(f"{BINDING}---\n{BINDING.replace('name: mails', 'name: invoices')}---\n{PROGRAM}")
    code, _, err = call("queue", "simulate", "-f", mails)
    assert code == 2
    assert "there are several bindings; say which: invoices, mails" in err
    assert call("queue", "simulate", "invoices", "-f", mails, *SHORT).out.splitlines()[1].startswith("invoices ")
    code, _, err = call("queue", "simulate", "mail", "-f", mails)
    assert (code, err.split(": ", 1)[1]) == (3, f"queuebinding/mail is not in {mails} (did you mean mails?)\n")


def test_one_of_several_queues_has_the_load(call: Call, mails: Path) -> None:
    mails.write_text(f"{SEVERAL_QUEUES}---\n{PROGRAM}")
    code, first, err = call("queue", "simulate", "-f", mails, *SHORT, "-o", "json")
    assert code == 0
    assert "the load is in the queue of trigger a" in err
    second = call("queue", "simulate", "-f", mails, *SHORT, "-o", "json", "--trigger", "b")
    assert second.err == ""
    assert (json.loads(first)[0]["most"], json.loads(second.out)[0]["most"]) == (8, 1)
    refused = call("queue", "simulate", "-f", mails, "--trigger", "c")
    assert "there is no trigger 'c'; there are cron, a, b" in refused.err


def test_a_recorded_load(call: Call, mails: Path, tmp_path: Path) -> None:
    recorded = tmp_path / "arrivals.csv"
    recorded.write_text("at,service\n100,1\n104,1\n")
    _, out, _ = call("queue", "simulate", "-f", mails, "--load", f"trace:{recorded}", "-o", "json", "--duration", "10s")
    assert json.loads(out)[0]["pieces"] == 2


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "has no arrivals"),
        (b"\xff", "is not UTF-8 (byte 0)"),
        (b"1\nsoon", "line 2: 'soon' is neither a number of seconds nor a moment"),
        (b"0\n99999999", "must be more than 0 and at most 24h"),
    ],
)
def test_a_broken_recording_is_refused(call: Call, mails: Path, tmp_path: Path, content: bytes, told: str) -> None:
    recorded = tmp_path / "arrivals.csv"
    recorded.write_bytes(content)
    code, out, err = call("queue", "simulate", "-f", mails, "--load", f"trace:{recorded}")
    assert (code, out) == (2, "")
    assert told in err


def test_a_recording_that_is_too_large_is_not_read(call: Call, mails: Path, tmp_path: Path) -> None:
    recorded = tmp_path / "arrivals.csv"
    with recorded.open("wb") as file:
        file.truncate((64 << 20) + 1)
    assert "is larger than 64 MiB" in call("queue", "simulate", "-f", mails, "--load", f"trace:{recorded}").err


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("--load", "flood"), 2, "'flood' is no kind of load"),
        (("--load", "trace:/nowhere/a.csv"), 1, "/nowhere/a.csv: No such file or directory"),
        (("--service", "never"), 2, "'never' is not a duration"),
        (("--duration", "0s"), 2, "must be more than 0 and at most 24h"),
        (("--duration", "25h"), 2, "must be more than 0 and at most 24h"),
        (("--plot", "a.gif"), 2, "the name must end in .svg or .png"),
        (("--plot", "/nowhere/a.svg"), 1, "/nowhere/a.svg: No such file or directory"),
    ],
)
def test_what_cannot_be_is_said(call: Call, mails: Path, arguments: tuple[str, ...], code: int, told: str) -> None:
    found = call("queue", "simulate", "-f", mails, *arguments)
    assert found.code == code
    assert told in found.err


def test_broken_manifests_and_none(call: Call, mails: Path) -> None:
    mails.write_text(BINDING.replace("maxReplicaCount", "maxReplicas"))
    code, _, err = call("queue", "simulate", "-f", mails)
    assert code == 1
    assert "spec.maxReplicas: is not a field here (here it is called maxReplicaCount)" in err
    mails.write_text(PROGRAM)
    code, _, err = call("queue", "simulate", "-f", mails)
    assert (code, err) == (3, f"error: no QueueBinding in {mails}\n")


def test_a_picture(call: Call, mails: Path, tmp_path: Path) -> None:
    code, _, err = call("queue", "simulate", "-f", mails, *SHORT, "--compare", "--plot", tmp_path / "a.svg")
    assert (code, err) == (0, f"{tmp_path}/a.svg written\n")
    assert (tmp_path / "a.svg").read_text().count("<path ") == 10
    assert call("queue", "simulate", "-f", mails, *SHORT, "--plot", tmp_path / "a.png").code == 0
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_a_picture_that_needs_what_is_not_installed(call: Call, mails: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError):
        importlib.import_module("matplotlib.figure")
    code, out, err = call("queue", "simulate", "-f", mails, "--plot", "a.png")
    assert (code, out) == (1, "")
    assert "pip install 'reconciler[plot]'" in err


def test_a_verb_that_is_not_there_is_told_with_the_nearest(call: Call) -> None:
    code, _, err = call("queue", "simulat")
    assert code == 2
    assert "there is no verb 'simulat' (did you mean simulate?)" in err
