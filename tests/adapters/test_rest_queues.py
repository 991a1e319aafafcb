"""The API of QueueBindings over a real Unix socket."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.fake_engine import FakeBindings, FakeEngine, a_binding, a_program
from support.served import Connection, Served, serving


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Served]:
    def engine() -> FakeEngine:
        engine = FakeEngine(a_program("mail"))
        engine.bindings = FakeBindings(a_binding("mails", "mail", app="shop"), a_binding("prints", "printer"))
        return engine

    with serving(tmp_path, engine) as served:
        yield served


def names(answer: object) -> list[str]:
    assert isinstance(answer, dict)
    return [each["metadata"]["name"] for each in answer["items"]]


def test_bindings_come_as_a_list_one_by_one_and_by_label(api: Served) -> None:
    assert names(api.ask("GET", "/v1/queuebindings")[1]) == ["mails", "prints"]
    assert names(api.ask("GET", "/v1/queuebindings?labelSelector=app%3Dshop")[1]) == ["mails"]
    assert api.ask("GET", "/v1/queuebindings/mails")[1]["status"]["desiredReplicas"] == 3


def test_status_holds_them_too(api: Served) -> None:
    assert [each["metadata"]["name"] for each in api.ask("GET", "/v1/status")[1]["queueBindings"]] == [
        "mails",
        "prints",
    ]


def test_history_is_a_list_of_samples(api: Served) -> None:
    assert api.ask("GET", "/v1/queuebindings/mails/history")[1]["items"][0]["waiting"] == 3


@pytest.mark.parametrize(
    ("verb", "body"), [("pause", {"for": 60, "reason": "sale"}), ("pause", {}), ("resume", {}), ("poke", {})]
)
def test_a_verb_reaches_the_engine(api: Served, verb: str, body: dict[str, object]) -> None:
    status, _ = api.ask("POST", f"/v1/queuebindings/mails/{verb}?dryRun=1", body)
    asked = {"for": None, "reason": "", **body} if verb == "pause" else {}
    assert (status, api.engine.bindings.asked) == (200, [("mails", verb, asked, True)])


def test_a_test_answers_with_the_object(api: Served) -> None:
    assert api.ask("POST", "/v1/queuebindings/mails/test", {})[1]["metadata"]["name"] == "mails"


def test_a_binding_is_deleted_under_its_own_path(api: Served) -> None:
    assert api.ask("DELETE", "/v1/queuebindings/mails")[0] == 200
    assert api.engine.asked[-1:] == [("delete_binding", "mails", False)]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/queuebindings/nobody"),
        ("GET", "/v1/queuebindings/nobody/history"),
        ("POST", "/v1/queuebindings/nobody/pause"),
        ("POST", "/v1/queuebindings/nobody/test"),
        ("GET", "/v1/queuebindings/%00%2F.."),
    ],
)
def test_what_is_not_there_is_not_found(api: Served, method: str, path: str) -> None:
    status, error = api.refusal(method, path, {} if method == "POST" else None)
    assert (status, error["exitCode"]) == (404, 3)


@pytest.mark.parametrize("body", [{"for": -1}, {"for": "1h"}, {"reason": 3}, {"until": 9}, [], "x"])
def test_a_pause_that_makes_no_sense_is_refused(api: Served, body: object) -> None:
    status, error = api.refusal("POST", "/v1/queuebindings/mails/pause", body)
    assert (status, error["exitCode"]) == (400, 2)
    assert api.engine.bindings.asked == []


def test_each_kind_is_watched_apart(api: Served) -> None:
    connection = Connection(api.path)
    connection.request("GET", "/v1/queuebindings?watch=1")
    answer = connection.getresponse()
    first = [json.loads(answer.readline()) for _ in range(3)]
    assert [(each["type"], each["object"].get("kind")) for each in first] == [
        ("ADDED", "QueueBinding"),
        ("ADDED", "QueueBinding"),
        ("SYNCED", None),
    ]
    changed = a_binding("mails", "mail")
    api.loop.call_soon_threadsafe(api.engine.tell, ("MODIFIED", a_program("mails")))
    api.loop.call_soon_threadsafe(api.engine.tell, ("MODIFIED", changed))
    assert json.loads(answer.readline()) == {"type": "MODIFIED", "object": changed}
    connection.close()
