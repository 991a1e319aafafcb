"""What is particular to HTTP: statuses, headers, certificates, and the answers of Prometheus and RabbitMQ."""

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.model.queues import QueueReading
from support.certificates import certify
from support.http_servers import Answer, HttpServer, http_server
from support.queue_rigs import failure, read, reader


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with http_server(lambda asked: Answer(b"3")) as made:
        yield made


# ---- http -----------------------------------------------------------------------------------------------------------


def test_a_number_is_read_from_text_or_json(server: HttpServer) -> None:
    assert read("http", {"url": f"{server.url}/queues/mails?fresh=1"}).waiting == 3
    assert server.asked[0].path == "/queues/mails"
    assert server.asked[0].query == {"fresh": "1"}
    server.answer = lambda asked: Answer.json({"data": [{"depth": 9}]})
    assert read("http", {"url": server.url, "jsonPath": "data[0].depth"}).waiting == 9


def test_one_connection_serves_many_looks(server: HttpServer) -> None:
    opened = reader("http", {"url": server.url})
    for _ in range(5):
        assert opened.read().waiting == 3
    opened.close()
    assert server.connections == 1


def test_a_server_that_ends_connections_is_asked_over_new_ones(server: HttpServer) -> None:
    server.answer = lambda asked: Answer(b"4", headers={"Connection": "close"})
    opened = reader("http", {"url": server.url})
    assert [opened.read().waiting for _ in range(3)] == [4, 4, 4]
    opened.close()


@pytest.mark.parametrize(
    ("metadata", "header"),
    [
        ({"username": "u", "password": "p:w"}, "Basic dTpwOnc="),
        ({"bearerToken": "t0ken"}, "Bearer t0ken"),
        ({"headers": {"Authorization": "Own x"}}, "Own x"),
        ({"username": "u"}, None),
        ({}, None),
    ],
)
def test_who_asks_is_told_in_a_header(server: HttpServer, metadata: dict[str, Any], header: str | None) -> None:
    read("http", {"url": server.url, **metadata})
    assert server.asked[0].headers.get("Authorization") == header


def test_user_and_password_may_be_in_the_url(server: HttpServer) -> None:
    read("http", {"url": server.url.replace("//", "//u:p%3Aw@")})
    assert server.asked[0].headers["Authorization"] == "Basic dTpwOnc="


@pytest.mark.parametrize(
    ("answer", "reason", "complaint"),
    [
        (Answer(b"", 401), "AuthenticationFailed", "401 Unauthorized; write username and password"),
        (Answer(b"", 403), "AuthenticationFailed", "403 Forbidden; it is not allowed"),
        (Answer(b"", 404), "NotFound", "404 Not Found"),
        (Answer(b"", 302, {"Location": "https://u:pw@h/x"}), "ServerError", "write 'https://u:***@h/x' in url"),
        (Answer(b"<b>out\n of order", 503), "ServerError", "503 Service Unavailable: <b>out of order"),
        (Answer(b"", 204), "NotANumber", "is ''"),
        (Answer(b"x" * (2 << 20)), "NotANumber", "more than 1 MiB"),
        (Answer(b"-3"), "NotANumber", "less than nothing"),
        (Answer(b"nan"), "NotANumber", "is 'nan'"),
        (Answer(b"<html>"), "NotANumber", "is '<html>', which is not a number"),
    ],
)
def test_what_is_no_answer_is_told(server: HttpServer, answer: Answer, reason: str, complaint: str) -> None:
    server.answer = lambda asked: answer
    failed = failure("http", {"url": server.url})
    assert (failed.reason, complaint in str(failed)) == (reason, True), str(failed)


@pytest.mark.parametrize(
    "metadata",
    [
        {"url": "example.org"},
        {"url": "file:///etc/passwd"},
        {"url": "http://"},
        {"url": "http://h:x/"},
        {"url": "http://h:99999/"},
        {"url": "http://h/a b"},
        {"url": "http://h/a\r\nX: y"},
        {"url": "http://h/ü"},
        {"url": "http://h/", "headers": {"X": "a\r\nY: b"}},
        {"url": "http://h/", "headers": {"X\n": "a"}},
        {"url": "https://h/", "caFile": "/nowhere"},
        {"url": "https://h/", "caFile": "/etc/passwd"},
    ],
)
def test_what_cannot_be_asked_is_told(metadata: dict[str, Any]) -> None:
    assert failure("http", metadata).reason == "BadMetadata"


def test_a_failure_that_is_over_is_forgotten(server: HttpServer) -> None:
    opened = reader("http", {"url": server.url})
    server.answer = lambda asked: Answer(b"", 500)
    for _ in range(2):
        with pytest.raises(Exception, match="500"):
            opened.read()
    server.answer = lambda asked: Answer(b"8")
    assert opened.read().waiting == 8
    opened.close()


@pytest.fixture
def certified(tmp_path: Path, server: HttpServer) -> Callable[[], Path]:
    """Let the server speak TLS with a certificate that nobody knows; gives its path."""

    def make() -> Path:
        known = certify(tmp_path)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*known)
        server.wrap(context)
        return known.certificate

    return make


@pytest.mark.debian("openssl")
def test_a_certificate_must_be_known_unless_one_says_otherwise(
    server: HttpServer, certified: Callable[[], Path]
) -> None:
    certificate = certified()
    url = f"https://localhost:{server.port}/"
    failed = failure("http", {"url": url})
    assert failed.reason == "AuthenticationFailed"
    assert "name its authority in caFile" in str(failed)
    assert read("http", {"url": url, "caFile": str(certificate)}).waiting == 3
    assert failure("http", {"url": url.replace("localhost", "127.0.0.1"), "caFile": str(certificate)}).reason == (
        "AuthenticationFailed"
    )
    assert read("http", {"url": url, "verifyTls": "false"}).waiting == 3
    assert failure("http", {"url": url.replace("https", "http")}).reason in {"ConnectionRefused", "ServerError"}


def test_a_server_without_tls_is_told(server: HttpServer) -> None:
    failed = failure("http", {"url": server.url.replace("http", "https")})
    assert (failed.reason, "does not speak TLS" in str(failed)) == ("ServerError", True)


# ---- prometheus -----------------------------------------------------------------------------------------------------


def prometheus(kind: str, result: Any, **more: Any) -> Answer:
    return Answer.json({"status": "success", "data": {"resultType": kind, "result": result}, **more})


def series(*values: str) -> list[Any]:
    return [{"metric": {"queue": value}, "value": [1795630000.1, value]} for value in values]


METRICS = {"query": "sum(waiting)"}


def test_an_instant_query_is_sent_with_a_limit_of_its_own(server: HttpServer) -> None:
    server.answer = lambda asked: prometheus("vector", series("7"))
    assert read("prometheus", {"url": f"{server.url}/prefix/", **METRICS}).waiting == 7
    assert server.asked[0].path == "/prefix/api/v1/query"
    assert server.asked[0].query == {"query": "sum(waiting)", "timeout": "1500ms"}


@pytest.mark.parametrize(
    ("answer", "reason", "complaint"),
    [
        (prometheus("vector", []), "NotFound", "write emptyResult: zero"),
        (prometheus("vector", series("1", "2")), "NotANumber", "finds 2 series; put sum() around it"),
        (prometheus("vector", series("NaN")), "NotANumber", "is 'NaN'"),
        (prometheus("vector", series("+Inf")), "NotANumber", "is '+Inf'"),
        (prometheus("vector", series("-2")), "NotANumber", "less than nothing"),
        (prometheus("matrix", [{"values": [[1, "2"]]}]), "NotANumber", "gives a matrix"),
        (prometheus("string", [1, "2"]), "NotANumber", "gives a string"),
        (prometheus("vector", [{}]), "ServerError", "does not answer as a Prometheus does"),
        (Answer.json({"data": None}), "ServerError", "does not answer as a Prometheus does"),
        (Answer(b"3"), "ServerError", "does not answer as a Prometheus does"),
        (Answer.json({"status": "error", "error": "bad query"}, 400), "ServerError", "bad query"),
    ],
)
def test_what_prometheus_cannot_tell_is_told(server: HttpServer, answer: Answer, reason: str, complaint: str) -> None:
    server.answer = lambda asked: answer
    failed = failure("prometheus", {"url": server.url, **METRICS})
    assert (failed.reason, complaint in str(failed)) == (reason, True), str(failed)


def test_other_answers_of_prometheus(server: HttpServer) -> None:
    server.answer = lambda asked: prometheus("scalar", [1795630000.1, "2.5"])
    assert read("prometheus", {"url": server.url, **METRICS}).waiting == 2.5
    server.answer = lambda asked: prometheus("vector", series("3"), warnings=["half of it"])
    assert read("prometheus", {"url": server.url, **METRICS}).found == "the query: 3 (warning: half of it)"
    server.answer = lambda asked: prometheus("vector", [])
    assert read("prometheus", {"url": server.url, "emptyResult": "zero", **METRICS}).waiting == 0


# ---- rabbitmq's management, in states that the real one is not easily brought into ----------------------------------


def test_rabbitmq_is_asked_for_what_is_needed_and_counts_all_ways_of_completion(server: HttpServer) -> None:
    stats = {"publish": 30, "ack": 10, "deliver_no_ack": 5, "get_no_ack": 1}
    numbers = {"messages_ready": 4, "messages_unacknowledged": 3, "consumers": 2, "message_stats": stats}
    server.answer = lambda asked: Answer.json(numbers)
    found = read("rabbitmq", {"url": server.url, "vhost": "a/b", "queue": "c d?"})
    assert found == QueueReading(
        4, reserved=3, arrived=30, completed=16, found="queue c d?: 4 ready, 3 unacknowledged, 2 consumers"
    )
    assert server.asked[0].path == "/api/queues/a%2Fb/c%20d%3F"
    assert "messages_ready" in server.asked[0].query["columns"]


@pytest.mark.parametrize(
    ("answer", "reason", "complaint"),
    [
        (
            Answer.json({"error": "Object Not Found"}, 404),
            "NotFound",
            "no queue mails in the virtual host /; who declares",
        ),
        (Answer.json({}), "ServerError", "has no statistics of mails"),
        (Answer.json({"messages_ready": "many"}), "NotANumber", "messages_ready is 'many'"),
        (Answer.json([1]), "ServerError", "does not answer as RabbitMQ's management does"),
        (Answer(b"<html>"), "ServerError", "does not answer as RabbitMQ's management does"),
    ],
)
def test_what_rabbitmq_cannot_tell_is_told(server: HttpServer, answer: Answer, reason: str, complaint: str) -> None:
    server.answer = lambda asked: answer
    failed = failure("rabbitmq", {"url": server.url, "queue": "mails"})
    assert (failed.reason, complaint in str(failed)) == (reason, True), str(failed)
