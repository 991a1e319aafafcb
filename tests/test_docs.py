"""The documentation says what the code does: every name is in it, pages are up to date, links lead somewhere."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from reconciler.cli.main import VERBS
from reconciler.engine.conditions import EXPLAINED
from reconciler.model.manifest import KINDS
from reconciler.model.scaling import ScaleReason
from reconciler.model.state import Cause, Outcome
from reconciler.server.routes import ROUTES
from support.reading import complaints
from support.scripts import loaded

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "docs" / "reference"
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")])


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    return loaded(ROOT / "docs" / "generate.py")


def test_the_generated_pages_are_up_to_date(generator: ModuleType) -> None:
    assert generator.outdated() == [], "run `make reference`"


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_of_a_manifest_is_documented(kind: str) -> None:
    page = (REFERENCE / "manifest.md").read_text(encoding="utf-8")
    for name, field in KINDS[kind].model_fields.items():
        assert f"| `{field.alias or name}` |" in page


def test_every_verb_is_documented() -> None:
    page = (REFERENCE / "cli.md").read_text(encoding="utf-8")
    for verb in VERBS:
        assert f"### {verb}\n" in page


def test_every_word_of_status_is_documented() -> None:
    page = (REFERENCE / "status.md").read_text(encoding="utf-8")
    for word in (*Cause, *Outcome, *ScaleReason, *EXPLAINED, *_conditions_of_the_core()):
        assert f"| `{word}` |" in page


def _conditions_of_the_core() -> set[str]:
    """The condition types that are named where conditions are made."""
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "reconciler").rglob("*.py"))
    return set(re.findall(r'Condition\(\s*"([A-Z]\w+)"', code))


def test_all_that_the_daemon_says_about_itself_is_documented() -> None:
    """`status --daemon` shows what these functions put together."""
    sources = {
        "engine/engine.py": "daemon_status",
        "engine/conditions.py": "daemon",
        "app.py": "_daemon|_daemon_pids",
        "adapters/selfview.py": "figures",
    }
    said = {
        key.value
        for name, functions in sources.items()
        for function in ast.walk(ast.parse((ROOT / "reconciler" / name).read_text(encoding="utf-8")))
        if isinstance(function, ast.FunctionDef) and re.fullmatch(functions, function.name)
        for node in ast.walk(function)
        if isinstance(node, ast.Dict)
        for key in node.keys
        if isinstance(key, ast.Constant)
    }
    assert said == yaml.safe_load((ROOT / "docs" / "meanings.yaml").read_text(encoding="utf-8"))["daemon"].keys()


def test_every_route_is_documented() -> None:
    page = (REFERENCE / "api.md").read_text(encoding="utf-8")
    for route in ROUTES:
        assert f"## {route.method} {route.path}\n" in page


def links(page: Path) -> Iterator[str]:
    """What a page points to, code left out."""
    text = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    yield from re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if "://" not in link:
            assert (page.parent / link).exists(), link


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in (ROOT / "docs").rglob("*.md"):
        assert str(page.relative_to(ROOT / "docs")) in navigation


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_manifests_in_the_documentation_are_read_without_a_word(page: Path) -> None:
    for block in re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL):
        if "\nkind: " in block:
            assert complaints(block) == [], block
