"""Who may import whom, where import-linter cannot say it (its contracts are in pyproject.toml: `make layers`)."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "reconciler"
ALONE = (
    *("keeper", "pump", "statelock", "folders", "segments", "wire", "hostmounts"),
    *(f"{room}/{path.stem}" for room in ("keeping", "pumping") for path in sorted((ROOT / room).glob("*.py"))),
)
"""The modules that the two small processes consist of."""

SMALL_PROCESSES = ("keeper", "pump")

CONTROLLER = [
    *(ROOT / "app.py", ROOT / "startup.py", ROOT / "interpreter.py", ROOT / "ports.py"),
    *(
        path
        for room in ("server", "engine", "adapters", "core", "model")
        for path in sorted((ROOT / room).rglob("*.py"))
    ),
]


def imported(path: Path) -> Iterator[str]:
    """The full names of what a module imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where a thing is"
            if node.module == "reconciler":
                yield from (f"reconciler.{name.name}" for name in node.names)
            else:
                yield node.module or ""


@pytest.mark.parametrize("name", ALONE)
def test_the_small_processes_need_nothing_but_the_standard_library_and_themselves(name: str) -> None:
    ours = {f"reconciler.{each.replace('/', '.')}" for each in ALONE}
    allowed = ours | {"reconciler.keeping", "reconciler.pumping", "reconciler.__version__"}
    for module in imported(ROOT / f"{name}.py"):
        assert module.partition(".")[0] in sys.stdlib_module_names or module in allowed, module


@pytest.mark.parametrize("name", SMALL_PROCESSES)
def test_the_small_processes_stay_small(name: str) -> None:
    """What they import is what they weigh, for as long as the machine is up."""
    heavy = "{'asyncio', 'logging', 'typing', 'dataclasses', 'inspect', 'pathlib', 'subprocess', 'yaml', 'pydantic'}"
    script = f"import sys, reconciler.{name}; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _with_path(script)], check=False, capture_output=True, text=True
    )
    assert (done.stdout.split(), done.stderr) == ([], "")


def _with_path(script: str) -> str:
    return f"import sys; sys.path.insert(0, {str(ROOT.parent)!r}); {script}"


def test_the_controller_loads_all_of_itself_at_the_start() -> None:
    """Later the files may be those of another version, or half of one: an upgrade happens under what runs."""
    late = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in CONTROLLER
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom) and "reconciler" in ast.unparse(node)
    ]
    assert not late


def test_only_the_clock_reads_the_time() -> None:
    """Decisions take `now`. (ruff's banned-api says the same of datetime and time.time.)"""
    for room in ("core", "model"):
        for path in (ROOT / room).rglob("*.py"):
            assert not {"time", "datetime.datetime"} & set(imported(path)), path
