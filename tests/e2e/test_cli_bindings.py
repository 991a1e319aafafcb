"""QueueBindings on the command line: get, describe, delete, status, and the verbs of `queue`."""

import json
from typing import Any

import pytest
import yaml

from reconciler.adapters.queues.notifying import notifying
from support.calling import Call
from support.fake_controller import FakeController, condition, event, program
from support.fake_engine import a_binding


def broken(name: str) -> dict[str, Any]:
    """A binding whose queue cannot be read."""
    thing = a_binding(name, "mail")
    message = "nobody listens at 127.0.0.1:6379: is redis running?"
    thing["status"]["triggers"] = [
        {"name": "redis", "asksFor": None, "message": message, "failure": "ConnectionRefused"}
    ]
    thing["status"]["conditions"] = [condition("Ready", "False", "ConnectionRefused", f"redis: {message}")]
    return thing


@pytest.fixture
def two(fake: FakeController) -> FakeController:
    fake.programs = {"mail": program("mail")}
    fake.bindings = {"mails": a_binding("mails", "mail", app="shop"), "prints": broken("prints")}
    return fake


class TestGet:
    def test_a_row_for_each(self, two: FakeController, call: Call) -> None:
        code, out, _ = call("get", "qb")
        assert code == 0
        assert [line.split() for line in out.splitlines()] == [
            ["NAME", "PROGRAM", "WAITING", "IN", "WORK", "RUNNING", "DESIRED", "STATE"],
            ["mails", "mail", "3", "-", "2", "3", "Active"],
            ["prints", "mail", "-", "-", "2", "3", "Unreadable"],
        ]

    def test_wide_says_why(self, two: FakeController, call: Call) -> None:
        out = call("get", "queuebindings", "mails", "-o", "wide").out
        assert "FollowsDemand" in out
        assert "redis: 3 waiting" in out

    def test_as_yaml_json_and_names(self, two: FakeController, call: Call) -> None:
        assert yaml.safe_load(call("get", "qb/mails", "-o", "yaml").out)["metadata"]["name"] == "mails"
        assert len(json.loads(call("get", "qb", "-o", "json").out)["items"]) == 2
        assert call("get", "qb", "-o", "name").out == "queuebinding/mails\nqueuebinding/prints\n"

    def test_by_label(self, two: FakeController, call: Call) -> None:
        assert call("get", "qb", "-l", "app=shop", "-o", "name").out == "queuebinding/mails\n"

    def test_a_name_that_is_not_there_names_the_nearest(self, two: FakeController, call: Call) -> None:
        code, _, err = call("get", "qb", "mail")
        assert code == 3
        assert "queuebinding/mail not found (did you mean mails?)" in err

    def test_all_shows_them_below_the_programs(self, two: FakeController, call: Call) -> None:
        assert "prints" in call("get", "all").out


class TestDescribe:
    def test_what_the_queue_said_and_what_follows(self, two: FakeController, call: Call) -> None:
        two.events = [
            event("mails", "Scaled", "2 -> 3: redis: 3 waiting", kind="QueueBinding"),
            event("mails", "Starting", "start 0", kind="Program"),
        ]
        out = call("describe", "qb/mails").out
        assert "Replicas:    3 desired of 0 to 8, 2 running" in out
        assert "redis: asks for 3" in out
        assert "2 -> 3: redis: 3 waiting" in out
        assert "start 0" not in out  # a Program of the same name is another object


class TestStatus:
    def test_a_queue_that_cannot_be_read_is_wrong(self, two: FakeController, call: Call) -> None:
        code, out, _ = call("status")
        assert code == 1
        assert "queuebinding/prints not Ready: redis: nobody listens at 127.0.0.1:6379" in " ".join(out.split())

    def test_one_that_can_is_not(self, two: FakeController, call: Call) -> None:
        del two.bindings["prints"]
        code, out, _ = call("status")
        assert code == 0
        assert "mails   mail" in out


class TestDelete:
    def test_bindings_are_deleted_by_their_kind(self, two: FakeController, call: Call) -> None:
        assert call("delete", "qb/mails").out == "queuebinding/mails deleted\n"
        assert call("delete", "qb", "mails", "prints").code == 0
        assert len(two.asked("DELETE", "/v1/queuebindings/mails")) == 2

    def test_the_objects_of_a_file_bindings_first(self, two: FakeController, call: Call, tmp_path: Any) -> None:
        file = tmp_path / "all.yaml"
        file.write_text(
            "{apiVersion: reconciler/v1, kind: Program, metadata: {name: mail}, spec: {command: [mail]}}\n---\n"
            "apiVersion: reconciler/v1\nkind: QueueBinding\nmetadata: {name: mails}\n"
            "spec: {scaleTargetRef: {name: mail}, maxReplicaCount: 2, triggers: [{type: acme.io/q}]}\n"
        )
        assert call("delete", "-f", file).out == "queuebinding/mails deleted\nprogram/mail deleted\n"


class TestQueue:
    def test_test_shows_what_waits_and_what_follows(self, two: FakeController, call: Call) -> None:
        code, out, _ = call("queue", "test", "mails")
        assert code == 0
        assert out == (
            "queuebinding/mails\n"
            "Triggers:\n"
            "  redis: asks for 3\n"
            "    3 waiting; 1 for each replica\n"
            "Count:       3 (FollowsDemand), 2 running\n"
        )

    def test_a_queue_that_cannot_be_read_ends_with_1(self, two: FakeController, call: Call) -> None:
        code, out, _ = call("queue", "test", "mails", "prints")
        assert code == 1
        assert "redis: cannot be read" in out

    def test_pause_resume_and_poke(self, two: FakeController, call: Call) -> None:
        asked = call("queue", "pause", "mails", "--for", "1h", "--reason", "mail server is away")
        assert (asked.code, asked.out) == (0, "queuebinding/mails paused\n")
        (request,) = two.asked("POST", "/v1/queuebindings/mails/pause")
        assert request.body == {"for": 3600.0, "reason": "mail server is away"}
        assert call("queue", "resume", "qb/mails").out == "queuebinding/mails resumed\n"
        assert call("queue", "poke", "mails", "--dry-run").out == "queuebinding/mails poked (dry run)\n"

    @pytest.mark.parametrize("verb", ["test", "pause", "resume", "poke"])
    def test_a_name_that_is_not_there(self, two: FakeController, call: Call, verb: str) -> None:
        code, _, err = call("queue", verb, "mail")
        assert code == 3
        assert "did you mean mails?" in err

    @pytest.mark.parametrize("words", [("queue",), ("queue", "pause"), ("queue", "pause", "a/b"), ("queue", "reset")])
    def test_what_makes_no_sense_is_a_usage_error(
        self, two: FakeController, call: Call, words: tuple[str, ...]
    ) -> None:
        assert call(*words).code == 2


class TestListenSql:
    def test_it_prints_what_the_driver_is_tested_with(self, call: Call) -> None:
        code, out, _ = call("queue", "listen-sql", "shop.jobs", "new work's")
        assert (code, out) == (0, notifying("shop.jobs", "new work's"))
        assert 'AFTER INSERT ON "shop"."jobs"' in out
        assert "pg_notify('new work''s', '')" in out

    @pytest.mark.parametrize(
        "words", [(), ("jobs",), ("jobs", ""), ("jobs", "a\nb"), ("", "work"), ("jobs", "w" * 64), ("jobs", "$$; DROP")]
    )
    def test_what_is_no_name_is_a_usage_error(self, call: Call, words: tuple[str, ...]) -> None:
        code, out, _ = call("queue", "listen-sql", *words)
        assert (code, out) == (2, "")
