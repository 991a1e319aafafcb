"""The pages about queues say what the code does: each kind, each setting, and examples that work."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.adapters.queues.notifying import notifying
from reconciler.adapters.queues.registry import driver_for
from reconciler.model.queues import QueueReading
from reconciler.model.triggers import BUILT_IN, check
from support.http_servers import Answer, HttpServer, http_server
from support.queue_rigs import failure, read

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "queues.md").read_text(encoding="utf-8")
DRIVER_PAGE = (DOCS / "writing-a-driver.md").read_text(encoding="utf-8")
SHARED = {"url", "username", "password", "database", "caFile", "verifyTls"}


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, flags=re.DOTALL)


def section(kind: str) -> str:
    """What the page says of one kind."""
    found = re.search(rf"^## {kind}\n(.*?)(?=^## |\Z)", PAGE, flags=re.DOTALL | re.MULTILINE)
    assert found is not None, kind
    return found[1]


@pytest.mark.parametrize("kind", BUILT_IN)
def test_each_kind_has_a_section_with_an_example_that_is_accepted(kind: str) -> None:
    examples = [yaml.safe_load(block) for block in blocks(section(kind), "yaml")]
    assert examples
    for example in examples:
        assert example["type"] == kind
        assert list(check(kind, example["metadata"])) == []


@pytest.mark.parametrize("kind", BUILT_IN)
def test_each_setting_is_in_the_section_of_its_kind(kind: str) -> None:
    text = section(kind)
    text += "".join(section(other) for other in re.findall(r"\[`(\w+)`\]\(#", text))
    for name, field in BUILT_IN[kind].model_fields.items():
        key = field.alias or name
        assert key in SHARED or f"`{key}" in text or f"{key}: " in text, key


@pytest.mark.parametrize("kind", BUILT_IN)
def test_how_often_each_kind_is_looked_at_is_told(kind: str) -> None:
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| [`{kind}`](#{kind}) ")]
    seconds = driver_for(kind).polling_seconds
    assert (f"{seconds:g} s" if seconds >= 1 else f"{seconds * 1000:g} ms") in row.rpartition(" | ")[2]


def test_the_trigger_for_postgresql_is_the_one_that_is_printed() -> None:
    (shown,) = blocks(PAGE.replace("    ```sql", "```sql").replace("    ```", "```"), "sql")
    assert shown.split() == notifying("jobs", "work").split()


@pytest.fixture
def plugged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The example of the page, installed as pip would install it; gives its trigger."""
    import tomllib

    (project,) = (tomllib.loads(block) for block in blocks(DRIVER_PAGE, "toml"))
    (code,) = blocks(DRIVER_PAGE, "python")
    name, version = project["project"]["name"].replace("-", "_"), project["project"]["version"]
    (tmp_path / f"{name}.py").write_text(code, encoding="utf-8")
    about = tmp_path / f"{name}-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    points = project["project"]["entry-points"]["reconciler.queues"]
    lines = ["[reconciler.queues]", *(f"{kind} = {where}" for kind, where in points.items())]
    (about / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    (trigger,) = (yaml.safe_load(block) for block in blocks(DRIVER_PAGE, "yaml"))
    yield trigger
    del sys.modules[name]


def jetstream(server: HttpServer, pending: Any) -> None:
    """What the monitoring port of a NATS server says."""
    consumer = {"name": "mailer", "stream_name": "ORDERS", "num_pending": pending, "num_ack_pending": 2}
    streams = [{"name": "OTHER"}, {"name": "ORDERS", "consumer_detail": [{"name": "other"}, consumer]}]
    details = [{"name": "$SYS"}, {"name": "$G", "stream_detail": streams}]
    server.answer = lambda asked: Answer.json({"account_details": details} if asked.path == "/jsz" else {})


def test_the_example_of_a_driver_works(plugged_in: dict[str, Any]) -> None:
    kind, metadata = plugged_in["type"], plugged_in["metadata"]
    assert list(check(kind, metadata)) == []
    assert driver_for(kind).polling_seconds == 1.0
    with http_server(lambda asked: Answer(b"")) as server:
        here = {**metadata, "url": server.url}
        jetstream(server, 5)
        found = "ORDERS, mailer: 5 to be given out, 2 not acknowledged"
        assert read(kind, here) == QueueReading(5, reserved=2, found=found)
        jetstream(server, "many")
        assert failure(kind, here).reason == "NotANumber"
        assert failure(kind, {**here, "consumer": "nobody"}).reason == "NotFound"
        server.answer = lambda asked: Answer(b"<html>")
        assert failure(kind, here).reason == "DriverFailed"
    assert failure(kind, here).reason == "ConnectionRefused"
    assert failure(kind, {"stream": "ORDERS"}).reason == "BadMetadata"
