"""The HTTP API over a real Unix socket, asked by a client from the standard library."""

import asyncio
import http.client
import json
import os
import pwd
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.model.problems import ApiError, Problem
from reconciler.server import rest
from reconciler.server.access import AccessRules, Level
from reconciler.server.answers import LINE_ITEMS, list_answer
from reconciler.wire import connect_unix
from support.fake_engine import FakeEngine, a_program
from support.served import Connection, Served, serving

DOCUMENT = {"file": "/srv/web.yaml", "text": "kind: Program"}


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Served]:
    def engine() -> FakeEngine:
        return FakeEngine(a_program("web", app="shop"), a_program("mail", app="shop", tier="back"), queue_length=50)

    with serving(tmp_path, engine) as served:
        yield served


def lines(answer: http.client.HTTPResponse) -> Iterator[Any]:
    while line := answer.readline():
        yield json.loads(line)


def names(answer: Any) -> list[str]:
    return [each["metadata"]["name"] for each in answer["items"]]


# ---- reading ----


def test_all_programs_come_as_a_list_with_the_problems(api: Served) -> None:
    status, answer = api.ask("GET", "/v1/programs")
    assert (status, answer["kind"], names(answer), answer["problems"]) == (200, "List", ["web", "mail"], [])


def test_a_selector_picks_programs(api: Served) -> None:
    assert names(api.ask("GET", "/v1/programs?labelSelector=tier%20in%20(back)")[1]) == ["mail"]
    assert names(api.ask("GET", "/v1/programs?labelSelector=!tier")[1]) == ["web"]


def test_a_selector_that_cannot_be_read_is_refused_with_its_place(api: Served) -> None:
    status, error = api.refusal("GET", "/v1/programs?labelSelector=a%20b")
    assert (status, error["exitCode"], error["reason"]) == (400, 2, "BadSelector")
    assert "column 3" in error["message"]


def test_one_program_comes_as_written_or_with_its_defaults(api: Served) -> None:
    assert api.ask("GET", "/v1/programs/web")[1]["spec"] == {"command": ["true"]}
    assert api.ask("GET", "/v1/programs/web?effective=1")[1]["spec"] == {"command": ["true"], "replicas": 1}
    assert api.ask("GET", "/v1/programs?effective=true")[1]["items"][0]["spec"]["replicas"] == 1


def test_a_program_that_is_not_there_is_not_found(api: Served) -> None:
    for name in ("nobody", "..", "a%2Fb", "%00", "w" * 5000):
        status, error = api.refusal("GET", f"/v1/programs/{name}")
        assert (status, error["exitCode"]) == (404, 3)


def test_status_holds_daemon_objects_problems_and_sources(api: Served) -> None:
    _, answer = api.ask("GET", "/v1/status")
    assert answer["daemon"] == {"ready": True}
    assert names(answer) == ["web", "mail"]
    assert answer["queueBindings"] == []
    assert answer["problems"] == []
    assert answer["sources"][0]["home"] == "dir:/m"


def test_processes_are_rows(api: Served) -> None:
    assert api.ask("GET", "/v1/processes")[1]["items"] == [
        {"program": "web", "replica": 0},
        {"program": "mail", "replica": 0},
    ]


def test_long_lists_are_whole(api: Served) -> None:
    api.engine.programs = {f"p{number}": a_program(f"p{number}") for number in range(1234)}
    _, answer = api.ask("GET", "/v1/programs")
    assert names(answer) == list(api.engine.programs)


def test_file_names_that_are_not_unicode_still_come_as_json(api: Served) -> None:
    api.engine.programs["web"]["metadata"]["source"] = b"dir:/caf\xe9".decode(errors="surrogateescape")
    source = api.ask("GET", "/v1/programs/web")[1]["metadata"]["source"]
    assert source.encode(errors="surrogateescape") == b"dir:/caf\xe9"


def test_events_of_one_object(api: Served) -> None:
    api.engine.happened = [{"name": "web", "reason": "Starting"}, {"name": "mail", "reason": "Stopping"}]
    assert len(api.ask("GET", "/v1/events")[1]["items"]) == 2
    assert api.ask("GET", "/v1/events?name=mail")[1]["items"] == [{"name": "mail", "reason": "Stopping"}]


def test_health_readiness_and_version(api: Served) -> None:
    assert api.ask("GET", "/healthz") == (200, "ok\n")
    assert api.ask("GET", "/readyz") == (200, "ok\n")
    api.engine.is_ready = False
    assert api.ask("GET", "/readyz")[0] == 503
    assert api.ask("GET", "/v1/version")[1] == {"version": "1.2.3", "python": "3", "wire": 1}


def test_the_root_names_the_api_and_its_routes(api: Served) -> None:
    _, answer = api.ask("GET", "/")
    assert answer["name"] == "reconciler"
    assert "POST /v1/apply" in answer["routes"]


# ---- changing ----


def test_apply_fills_in_what_was_left_out(api: Served) -> None:
    assert api.ask("POST", "/v1/apply", {"documents": [DOCUMENT]}) == (200, {"done": "apply"})
    body = {
        "documents": [DOCUMENT | {"baseDir": None}],
        "directories": [],
        "applyset": "default",
        "prune": False,
        "pruneLimit": "50%",
        "allowEmpty": False,
        "takeOver": False,
        "dryRun": False,
    }
    assert api.engine.asked[-1] == ("apply", body, False)


@pytest.mark.parametrize(("target", "field"), [("/v1/apply?dryRun=1", False), ("/v1/apply", True)])
def test_a_dry_run_may_be_asked_for_in_the_query_or_in_the_body(api: Served, target: str, field: bool) -> None:
    api.ask("POST", target, {"documents": [], "dryRun": field})
    assert api.engine.asked[-1][2] is True


def test_verbs_reach_the_engine_with_the_name_of_who_asked(api: Served) -> None:
    me = pwd.getpwuid(os.geteuid()).pw_name
    api.ask("POST", "/v1/programs/web/scale", {"replicas": 3, "for": 60})
    assert api.engine.asked[-1] == ("operate", "web", "scale", {"replicas": 3, "for": 60, "reason": ""}, False, me)
    api.ask("POST", "/v1/programs/web/stop?dryRun=1", {"ordinals": [1]})
    stop = {"ordinals": [1], "now": False, "for": None, "reason": ""}
    assert api.engine.asked[-1] == ("operate", "web", "stop", stop, True, me)
    api.ask("POST", "/v1/programs/web/reset")
    assert api.engine.asked[-1] == ("operate", "web", "reset", {}, False, me)


def test_delete_diff_and_rescan_reach_the_engine(api: Served) -> None:
    api.ask("DELETE", "/v1/programs/web")
    api.ask("POST", "/v1/diff", {"documents": []})
    api.ask("POST", "/v1/rescan", {})
    assert [asked[0] for asked in api.engine.asked if asked[0] != "began"] == ["delete", "diff", "rescan"]


def test_shutdown_is_accepted_and_asked_for(api: Served) -> None:
    assert api.ask("POST", "/v1/shutdown", {"keep": True})[0] == 202
    assert api.engine.asked == [("shutdown", True)]


@pytest.mark.parametrize(("body", "keeper"), [(None, False), ({}, False), ({"keeper": True}, True)])
def test_reexec_is_accepted_and_asked_for(api: Served, body: Any, keeper: bool) -> None:
    assert api.ask("POST", "/v1/reexec", body) == (202, {"done": "reexec"})
    assert api.engine.asked[-1] == ("reexec", keeper, False)
    assert api.ask("POST", "/v1/reexec?dryRun=1", body)[0] == 202
    assert api.engine.asked[-1] == ("reexec", keeper, True)


def test_the_daemon_is_asked_about_without_all_its_objects(api: Served) -> None:
    assert api.ask("GET", "/v1/daemon") == (200, api.engine.daemon_status())


def test_what_a_client_asked_for_is_finished_although_it_left(api: Served) -> None:
    api.run(api.engine.answer_may_come.clear)
    connection = Connection(api.path)
    connection.request("POST", "/v1/rescan", b"{}")
    api.until(lambda: bool(api.engine.asked))
    connection.close()
    assert api.ask("GET", "/healthz")[0] == 200
    api.run(api.engine.answer_may_come.set)
    api.until(lambda: api.engine.asked[-1] == ("rescan",))


def test_what_the_engine_refuses_comes_with_its_exit_code_and_problems(api: Served) -> None:
    problem = Problem("web.yaml", 3, 1, "spec.comand", "unknown field", "did you mean command?")

    async def refuse(body: Any, *, dry_run: bool) -> Any:
        raise ApiError(422, 1, "Invalid", "1 problem", [problem])

    api.engine.apply = refuse  # type: ignore[method-assign]
    status, error = api.refusal("POST", "/v1/apply", {"documents": []})
    assert (status, error["exitCode"], error["reason"]) == (422, 1, "Invalid")
    assert error["problems"] == [problem.as_dict()]


def test_a_failure_of_ours_is_a_number_in_the_log_and_no_traceback(
    api: Served, caplog: pytest.LogCaptureFixture
) -> None:
    api.engine.broken = True
    status, error = api.refusal("GET", "/v1/programs")
    assert (status, error["exitCode"], error["reason"]) == (500, 1, "InternalError")
    assert "secret" not in error["message"]
    reference = error["message"].split()[-1]
    assert reference in caplog.text
    assert "a secret of the engine" in caplog.text


# ---- watching ----


def test_a_watch_begins_with_all_there_is_and_goes_on_with_what_changes(api: Served) -> None:
    with api.stream("/v1/programs?watch=1") as answer:
        assert answer.headers["Content-Type"].startswith("application/x-ndjson")
        came = lines(answer)
        first = [next(came) for _ in range(3)]
        assert [(line["type"], line["object"].get("metadata", {}).get("name")) for line in first] == [
            ("ADDED", "web"),
            ("ADDED", "mail"),
            ("SYNCED", None),
        ]
        api.tell(("MODIFIED", a_program("web", app="blog")))
        assert next(came) == {"type": "MODIFIED", "object": a_program("web", app="blog")}
        api.tell(("DELETED", a_program("web")))
        assert next(came)["type"] == "DELETED"


def test_a_watch_with_a_selector_sees_objects_come_and_go(api: Served) -> None:
    with api.stream("/v1/programs?watch=1&labelSelector=tier") as answer:
        came = lines(answer)
        assert [next(came)["type"], next(came)["type"]] == ["ADDED", "SYNCED"]
        for change in (a_program("web", app="x"), a_program("web", tier="a"), a_program("mail")):
            api.tell(("MODIFIED", change))
        assert [(line["type"], line["object"]["metadata"]["name"]) for line in (next(came), next(came))] == [
            ("ADDED", "web"),
            ("DELETED", "mail"),
        ]


def test_events_are_watched_from_now_on(api: Served) -> None:
    api.engine.happened = [{"name": "web", "reason": "Old"}]
    with api.stream("/v1/events?watch=1&name=web") as answer:
        api.until(lambda: bool(api.engine.queues))
        for name in ("mail", "web"):
            api.tell({"name": name, "reason": "New"})
        assert next(lines(answer)) == {"name": "web", "reason": "New"}


def test_a_client_that_leaves_ends_its_watch_at_once(api: Served) -> None:
    with api.stream("/v1/programs?watch=1") as answer:
        answer.readline()
        assert len(api.engine.queues) == 1
    api.until(lambda: not api.engine.queues)


def test_a_client_that_reads_too_slowly_is_told_and_cut_off(api: Served) -> None:
    big = a_program("web", filling="x" * 100_000)
    with api.stream("/v1/programs?watch=1") as answer:
        came = lines(answer)
        while next(came)["type"] != "SYNCED":
            pass

        def flood() -> bool:
            api.engine.tell(("MODIFIED", big))
            return not api.engine.queues  # cut off, and its queue with it

        api.until(flood)
        *_, last = came
    assert (last["type"], last["error"]["reason"]) == ("ERROR", "TooSlow")


def test_streams_end_in_good_order_when_the_server_closes(api: Served) -> None:
    with api.stream("/v1/programs?watch=1") as watch, api.stream("/v1/programs/web/logs?follow=1") as logs:
        for _ in range(3):
            watch.readline()
        api.until(lambda: bool(api.log_options))
        api.wait(api.server.close())
        assert watch.read() == b""  # IncompleteRead, had it broken off
        assert logs.read() == b"stopped\n"


# ---- logs ----


def a_log(ordinal: int, path: str, form: str = "raw", stream: str = "out") -> dict[str, Any]:
    return {"program": "web", "ordinal": ordinal, "stream": stream, "path": path, "format": form}


def test_logs_come_as_bytes_with_the_options_that_were_asked_for(api: Served) -> None:
    api.engine.files = [a_log(0, "0.log"), a_log(1, "1.log")]
    assert api.ask("GET", "/v1/programs/web/logs?replica=1&tail=5&since=60.5&timestamps=1") == (200, "1.log\n")
    assert api.log_options[0]._asdict() == {
        "follow": False,
        "tail": 5,
        "since_seconds": 60.5,
        "timestamps": True,
        "prefix": False,
        "previous": None,
    }


def test_logs_that_are_not_there_are_not_found(api: Served) -> None:
    assert api.refusal("GET", "/v1/programs/web/logs")[1]["reason"] == "NoLogs"
    assert api.refusal("GET", "/v1/programs/nobody/logs?follow=1")[1]["reason"] == "NotFound"


@pytest.mark.parametrize(
    ("query", "form", "note"),
    [
        ("", "raw", None),
        ("?replica=1", "prefix", None),
        ("?previous=1", "json", None),
        ("?replica=1", "raw", "all.log is one raw log of several: which lines are of web/1 cannot be told"),
        ("?stream=err", "raw", "which lines are of web err cannot be told, all are shown; logs.format: prefix or json"),
    ],
)
def test_what_of_a_log_of_several_cannot_be_told_is_said_in_a_header(
    api: Served, query: str, form: str, note: str | None
) -> None:
    api.engine.files = [a_log(0, "all.log", form), a_log(1, "all.log", form), a_log(1, "all.log", form, "err")]
    with api.stream(f"/v1/programs/web/logs{query}") as answer:
        answer.read()
        told = answer.headers["Reconciler-Note"]
        assert told is None if note is None else note in told


def test_where_a_run_ended_in_a_raw_log_of_several_cannot_be_told(api: Served) -> None:
    api.engine.files = [a_log(0, "all.log"), a_log(1, "all.log")]
    status, error = api.refusal("GET", "/v1/programs/web/logs?replica=1&previous=1")
    assert (status, error["reason"], error["exitCode"]) == (409, "CannotTell", 6)
    assert "all.log is one raw log of several" in error["message"]


@pytest.mark.parametrize("follow", ["", "&follow=1"])
def test_what_goes_to_the_standard_output_is_not_kept(api: Served, follow: str) -> None:
    api.engine.files = [a_log(0, "/dev/stdout"), a_log(0, "/dev/stderr", stream="err"), a_log(1, "1\n\x07ä.log")]
    status, error = api.refusal("GET", f"/v1/programs/web/logs?replica=0{follow}")
    assert (status, error["reason"]) == (404, "NoLogs")
    assert error["message"] == (
        "web/0 prints to the daemon's standard error and standard output, which is not kept here"
    )
    with api.stream("/v1/programs/web/logs") as answer:
        assert answer.headers["Reconciler-Note"].startswith("web prints to the daemon's standard")
        assert answer.read() == "1\n\x07ä.log\n".encode()


def test_whatever_stands_in_a_path_does_not_become_a_header(api: Served) -> None:
    api.engine.files = [a_log(0, "a\r\nX: y.log"), a_log(1, "a\r\nX: y.log")]
    with api.stream("/v1/programs/web/logs?replica=0") as answer:
        assert answer.headers["Reconciler-Note"].startswith("a??X: y.log is one raw log")
        assert answer.headers["X"] is None


def test_a_log_that_fails_in_the_middle_breaks_off(api: Served, caplog: pytest.LogCaptureFixture) -> None:
    api.engine.files = [a_log(0, "0.log"), a_log(1, "broken")]
    with api.stream("/v1/programs/web/logs") as answer, pytest.raises((http.client.HTTPException, OSError)):
        answer.read()
    assert "the disk" in caplog.text


# ---- what is wrong ----


def test_an_unknown_path_names_the_nearest(api: Served) -> None:
    status, error = api.refusal("GET", "/v1/program")
    assert (status, error["exitCode"]) == (404, 3)
    assert "did you mean '/v1/programs'?" in error["message"]


def test_an_unknown_method_names_the_possible_ones(api: Served) -> None:
    connection = Connection(api.path)
    connection.request("PATCH", "/v1/programs/web")
    answer = connection.getresponse()
    assert (answer.status, answer.headers["Allow"]) == (405, "DELETE, GET")
    connection.close()


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("/v1/programs?wacth=1", "did you mean 'watch'?"),
        ("/v1/version?x=1", "/v1/version takes none"),
        ("/v1/programs?watch=perhaps", "must be 1 or 0, true or false, not 'perhaps'"),
        ("/v1/programs?watch=1&watch=0", "given twice"),
        ("/v1/programs/web/logs?tail=many", "must be a whole number"),
        ("/v1/programs/web/logs?tail=-1", "must be 0 or more"),
        ("/v1/programs/web/logs?since=nan", "must be 0 or more"),
        ("/v1/programs/web/logs?stream=both", "must be one of out, err"),
        ("/v1/programs?labelSelector=%ff", "the query cannot be read"),
    ],
)
def test_a_query_that_is_wrong_is_refused(api: Served, target: str, said: str) -> None:
    status, error = api.refusal("GET", target)
    assert (status, error["exitCode"]) == (400, 2)
    assert said in error["message"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"documents": [], "prune": NaN}', "NaN is no JSON"),
        (b'{"documents": [], "pruneLimit": ' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"documents": [], "applyset": "\\ud800"}', "not JSON"),
        ([], "it must be an object, not a list"),
        ({}, "documents is missing"),
        ({"documents": {}}, "documents must be a list, not an object"),
        ({"documents": [{"file": "/x"}]}, "documents[0].text is missing"),
        ({"documents": [DOCUMENT | {"txt": ""}]}, "documents[0].txt is not known here (did you mean 'text'?)"),
        ({"documents": [DOCUMENT | {"baseDir": 1}]}, "baseDir must be a string or null, not a whole number"),
        ({"documents": [], "prune": "yes"}, "prune must be true or false, not a string"),
        ({"documents": [], "applyset": ""}, "applyset must not be empty"),
        ({"a": 1, "b": 2, "c": 3, "d": 4}, "; and 2 more"),
    ],
)
def test_a_body_that_is_wrong_is_refused_with_all_its_faults(api: Served, body: Any, said: str) -> None:
    status, error = api.refusal("POST", "/v1/apply", body)
    assert (status, error["exitCode"]) == (400, 2)
    assert said in error["message"]
    assert api.engine.asked == []


@pytest.mark.parametrize("replicas", [-1, 1.5, "3", True, None])
def test_a_count_that_is_no_count_is_refused(api: Served, replicas: Any) -> None:
    _, error = api.refusal("POST", "/v1/programs/web/scale", {"replicas": replicas})
    assert error["problems"][0]["field"] == "replicas"


def test_a_body_over_the_limit_is_refused_before_it_is_read(api: Served) -> None:
    with api.raw() as sock:
        sock.sendall(b"POST /v1/apply HTTP/1.1\r\nHost: x\r\nContent-Length: 67108865\r\n\r\n")
        assert b" 413 " in sock.recv(1000)


def test_a_body_that_grows_over_the_limit_is_refused(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.server.rest.BODY_LIMIT_BYTES", 1000)
    with api.raw() as sock:
        sock.sendall(b"POST /v1/apply HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        sock.sendall(b"7d0\r\n" + b" " * 2000 + b"\r\n0\r\n\r\n")
        assert b" 413 " in sock.recv(1000)


def test_a_client_that_asks_whether_to_go_on_is_told(api: Served) -> None:
    with api.raw() as sock:
        sock.sendall(b"POST /v1/rescan HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert sock.recv(1000).startswith(b"HTTP/1.1 100 ")
        sock.sendall(b"{}")
        assert b" 200 " in sock.recv(1000)


def test_a_body_that_does_not_come_is_not_waited_for(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.server.calls.BODY_SECONDS", 0.01)
    with api.raw() as sock:
        sock.sendall(b"POST /v1/rescan HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n{")
        assert b" 408 " in sock.recv(1000)


@pytest.mark.parametrize(
    "rubbish",
    [
        b"\x00\x01\x02\x03\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"GET\r\n\r\n",
        b"GET /v1/programs HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 10_000 + b"\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /v1/rescan HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"POST /v1/rescan HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nxyz",
    ],
)
def test_rubbish_is_answered_or_hung_up_on_and_harms_nobody(
    api: Served, rubbish: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with api.raw() as sock:
        sock.sendall(rubbish)
        sock.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: _received(sock), b""))
    assert answer == b"" or answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
    assert b"Traceback" not in answer
    assert caplog.text == ""  # or anybody could fill the disk
    assert api.ask("GET", "/healthz")[0] == 200


def _received(sock: socket.socket) -> bytes:
    try:
        return sock.recv(65536)
    except ConnectionError:
        return b""


def test_bytes_that_are_no_request_are_refused_in_the_shape_of_the_api(api: Served) -> None:
    with api.raw() as sock:
        sock.sendall(b"HELLO\r\n\r\n")
        head, _, body = sock.recv(65536).partition(b"\r\n\r\n")
    assert b" 400 " in head
    assert json.loads(body)["error"]["exitCode"] == 2


def test_one_connection_serves_many_requests_and_quickly(api: Served) -> None:
    connection = Connection(api.path)
    for _ in range(1000):
        connection.request("GET", "/v1/programs/web")
        answer = connection.getresponse()
        assert answer.status == 200
        answer.read()
    connection.close()


def test_what_is_said_about_the_server_gives_no_version_of_its_parts_away(api: Served) -> None:
    with api.stream("/healthz") as answer:
        assert answer.headers["Server"] == "reconciler"


def test_the_name_of_the_socket_outlives_the_server(api: Served) -> None:
    api.wait(api.server.close())
    assert api.path.exists()


# ---- who may ----


def test_members_of_a_group_may_read_where_that_is_granted(tmp_path: Path, as_stranger: Callable[..., Any]) -> None:
    rules = AccessRules(owner_uid=4242, groups={65533: Level.READ})
    with serving(tmp_path, lambda: FakeEngine(a_program("web")), rules) as api:
        assert as_stranger(api, "GET", "/v1/programs/web")[0] == 200
        status, answer = as_stranger(api, "POST", "/v1/rescan")
        assert (status, answer["error"]["exitCode"]) == (403, 7)
        assert "may change anything here: root, 4242" in answer["error"]["message"]
        assert api.engine.asked == []


def test_strangers_are_told_who_they_are_and_nothing_else(tmp_path: Path, as_stranger: Callable[..., Any]) -> None:
    rules = AccessRules(owner_uid=4242)
    with serving(tmp_path, FakeEngine, rules) as api:
        for target in ("/v1/programs", "/healthz", "/v1/nothing"):
            status, answer = as_stranger(api, "GET", target)
            assert (status, answer["error"]["exitCode"]) == (403, 7)
            assert "(uid 65534, groups" in answer["error"]["message"]


STRANGER = """
import socket, sys
sock = socket.socket(socket.AF_UNIX)
sock.connect("api.sock")
sock.sendall(f"{sys.argv[1]} {sys.argv[2]} HTTP/1.0\\r\\nContent-Length: 0\\r\\n\\r\\n".encode())
while piece := sock.recv(65536):
    sys.stdout.write(piece.decode())
"""


@pytest.fixture
def as_stranger() -> Callable[..., Any]:
    """Asks as nobody, with the supplementary group 65533."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")

    def ask(api: Served, method: str, target: str) -> tuple[int, Any]:
        api.path.parent.chmod(0o755)
        api.path.chmod(0o666)
        done = subprocess.run(
            [sys._base_executable, "-I", "-c", STRANGER, method, target],  # type: ignore[attr-defined]
            cwd=api.path.parent,
            user=65534,
            group=65534,
            extra_groups=[65533],
            capture_output=True,
            check=True,
            text=True,
        )
        head, _, body = done.stdout.partition("\n\n")
        return int(head.split()[1]), json.loads(body)

    return ask


# ---- crowds ----


def test_one_connection_too_many_is_told_so_and_there_is_room_again_when_another_leaves(tmp_path: Path) -> None:
    with serving(tmp_path, FakeEngine, most_connections=3) as served:
        crowd = [connect_unix(str(served.path), socket.SOCK_STREAM) for _ in range(3)]
        for sock in crowd:
            sock.settimeout(30)
            sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert sock.recv(1000).startswith(b"HTTP/1.1 200")
        with served.raw() as late:
            answer = b"".join(iter(lambda: late.recv(1000), b""))
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"TooManyConnections" in answer
        crowd.pop().close()
        inside = served.server._http._crowd.inside  # type: ignore[union-attr]
        served.until(lambda: len(inside) == 2)
        assert served.ask("GET", "/healthz")[0] == 200
        for sock in crowd:
            sock.close()


@pytest.mark.parametrize("said", [b"", b"GET /heal", b"GET /healthz HTTP/1.1\r\nHost: x\r\n"])
def test_who_does_not_finish_his_first_request_loses_his_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(rest, "HEAD_SECONDS", 0.5)
    with serving(tmp_path, FakeEngine, most_connections=1) as served:
        with served.raw() as slow:
            slow.sendall(said)
            assert slow.recv(1000) == b""
        inside = served.server._http._crowd.inside  # type: ignore[union-attr]
        served.until(lambda: not inside)
        with served.raw() as quick:
            for _ in range(3):
                quick.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                assert quick.recv(1000).startswith(b"HTTP/1.1 200")
            quick.settimeout(0.8)
            with pytest.raises(TimeoutError):
                quick.recv(1000)  # who has asked may keep his connection


def test_those_who_come_faster_than_they_are_let_in_wait_in_the_kernel(api: Served) -> None:
    crowd = api.run(lambda: [connect_unix(str(api.path), socket.SOCK_STREAM) for _ in range(600)])
    assert api.ask("GET", "/healthz")[0] == 200
    for sock in crowd:
        sock.close()


async def test_a_long_list_is_made_while_others_have_their_turn() -> None:
    made: list[int] = []
    others: list[int] = []

    def items() -> Iterator[int]:
        for number in range(10 * LINE_ITEMS):
            made.append(number)
            yield number

    async def other() -> None:
        while len(made) < 10 * LINE_ITEMS:
            others.append(len(made))
            await asyncio.sleep(0)

    answer, _ = await asyncio.gather(list_answer(items()), other())
    assert json.loads(answer.body)["items"] == made  # type: ignore[arg-type]
    assert others == list(range(LINE_ITEMS, 10 * LINE_ITEMS, LINE_ITEMS)), "one turn between two slices"
