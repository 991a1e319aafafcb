"""What a controller loads without, and that its garbage collector is at work, and often enough, once it has loaded."""

import gc
import os
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.interpreter import NO_PLUGINS, load_quickly, loaded, settle_memory, sparing
from support.fake_engine import FakeEngine
from support.served import serving

CONNECTIONS = 600
HELD = 400  # of a kilobyte each


@pytest.fixture
def collector() -> Iterator[None]:
    threshold, enabled = gc.get_threshold(), gc.isenabled()
    yield
    gc.set_threshold(*threshold)
    (gc.enable if enabled else gc.disable)()
    gc.unfreeze()


def test_is_at_work_once_the_memory_is_settled(collector: None) -> None:
    gc.disable()
    settle_memory()
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0, "what was loaded is not looked at again"


def test_looks_at_nothing_while_thousands_are_made_that_stay_and_not_at_them_later(collector: None) -> None:
    gc.enable()
    frozen = gc.get_freeze_count()
    with sparing(10_000):
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() > frozen


def test_what_was_in_circles_before_that_does_not_stay(collector: None) -> None:
    class Circle:
        def __init__(self) -> None:
            self.itself = self

    settle_memory()
    circle = weakref.ref(Circle())
    with sparing(10_000):
        pass
    assert circle() is None


@pytest.mark.parametrize(("objects", "enabled"), [(10, True), (10_000, False)])
def test_a_few_are_not_worth_that_and_who_has_stopped_it_keeps_it_so(
    collector: None, objects: int, enabled: bool
) -> None:
    (gc.enable if enabled else gc.disable)()
    frozen = gc.get_freeze_count()
    with sparing(objects):
        assert gc.isenabled() is enabled
    assert (gc.isenabled(), gc.get_freeze_count()) == (enabled, frozen)


def test_finds_what_connections_leave_in_circles_before_it_is_much(collector: None, tmp_path: Path) -> None:
    settle_memory()
    most = 0
    with serving(tmp_path, FakeEngine) as served:
        for _ in range(CONNECTIONS):
            status, _answer = served.ask("GET", "/healthz")
            assert status == 200
            most = max(most, transports())
    assert most < HELD, f"{most} closed connections of {CONNECTIONS} were still in memory"


def transports() -> int:
    """How many servers' ends of connections are in memory, closed ones included."""
    return sum(type(each).__name__ == "_SelectorSocketTransport" for each in gc.get_objects())


@pytest.mark.parametrize("before", [None, "logfire"])
def test_what_programs_may_inherit_is_as_it_was_when_all_is_loaded(
    collector: None, monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    monkeypatch.delenv(NO_PLUGINS, raising=False)
    if before is not None:
        monkeypatch.setenv(NO_PLUGINS, before)
    load_quickly()
    assert os.environ[NO_PLUGINS] == "__all__"
    loaded()
    assert os.environ.get(NO_PLUGINS) == before


def test_whoever_only_imports_the_controller_keeps_the_collector() -> None:
    asked = "import gc, reconciler.app; print(gc.isenabled())"
    said = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True, env=os.environ)
    assert said.stdout.strip() == "True"


def test_a_controller_loads_no_code_of_those_who_call_themselves_plug_ins_of_pydantic(tmp_path: Path) -> None:
    about = tmp_path / "stranger-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[pydantic]\nstranger = stranger:plugin\n")
    (tmp_path / "stranger.py").write_text("print('a stranger was loaded')\nplugin = None\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    told = ("--state-dir", str(tmp_path), "--control-fd", "3", "--listen-fd", "4", "--rehearse")

    def output(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment).stdout

    assert "a stranger was loaded" in output("-c", "import reconciler.app"), "he would be loaded elsewhere"
    rehearsed = output("-m", "reconciler.app", *told)
    assert "wire" in rehearsed
    assert "stranger" not in rehearsed


def in_a_controller(script: str) -> str:
    """What a script says in an interpreter that has loaded what a controller loads, in its way."""
    before = "import sys; before = set(sys.modules); loaded_by_it = lambda: set(sys.modules) - before"
    load = "from reconciler.interpreter import load_quickly, loaded; load_quickly(); import reconciler.app; loaded()"
    command = [sys.executable, "-W", "error", "-c", f"{before}\n{load}\n{script}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_controller_begins_without_what_only_some_need() -> None:
    """OpenSSL takes 5 MiB, and who asks no queue needs none."""
    stdlib = {"_ssl", "_hashlib", "hmac", "zipfile", "csv", "http.client"}
    heavy = stdlib | {"aiohttp.connector", "reconciler.adapters.queues.redis"}
    assert in_a_controller(f"print(*sorted({heavy} & loaded_by_it()))").split() == []


def test_tls_is_there_for_whoever_asks() -> None:
    script = """
import asyncio, hashlib, secrets, ssl
assert asyncio.sslproto.SSLProtocol and asyncio.base_events.ssl.SSLContext is ssl.SSLContext
assert ssl.create_default_context().verify_mode is ssl.CERT_REQUIRED
assert hashlib.pbkdf2_hmac("sha256", b"", b"", 1).hex() and len(secrets.token_bytes(8)) == 8
"""
    in_a_controller(script)


def test_an_http_client_is_there_for_whoever_asks_and_knows_tls() -> None:
    script = """
import aiohttp, os, ssl
assert issubclass(aiohttp.ClientConnectorSSLError, ssl.SSLError)
import aiohttp.base_protocol, aiohttp.http_writer
assert aiohttp.base_protocol.ClientConnectionResetError is aiohttp.ClientConnectionResetError
assert aiohttp.http_writer.ClientConnectionResetError is aiohttp.ClientConnectionResetError
assert aiohttp.http.SERVER_SOFTWARE
os.environ["http_proxy"] = "http://proxy:3128"
assert str(aiohttp.helpers.proxies_from_env()["http"].proxy) == "http://proxy:3128"
"""
    in_a_controller(script)


def test_plug_ins_are_found_when_one_is_wanted() -> None:
    script = """
from importlib.metadata import entry_points
assert entry_points(group="reconciler.queues") == ()
import importlib.metadata
assert importlib.metadata.entry_points.__module__ == "importlib.metadata"
print(importlib.metadata.version("aiohttp"))
"""
    assert in_a_controller(script).strip()
