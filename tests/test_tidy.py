"""The house rules that a machine can see: sizes, words, docstrings, tests that do not sleep.

An exception stands in a list here, with its reason. The list is short, and it shall hurt to make it longer.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CODE = sorted((ROOT / "reconciler").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
DOCS = sorted((ROOT / "docs").rglob("*.py"))

MODULE_LINES = 400
FUNCTION_LINES = 60
LONG_MODULES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {}

# One word per thing, and it is another one (docs/concepts.md). Where English or the kernel leaves no choice, the name
# stands below with the reason.
FORBIDDEN_WORDS = {
    "autoscale": "scale",
    "child": "process",
    "children": "processes",
    "converge": "reconcile",
    "definition": "manifest",
    "deploy": "rollout",
    "executor": "actuator",
    "healthcheck": "probe",
    "instance": "replica",
    "instances": "replicas",
    "job": "replica, process or Program",
    "jobs": "replicas, processes or Programs",
    "tick": "pass",
    "worker": "process or replica",
    "workers": "processes or replicas",
}
ALLOWED_NAMES = {"PR_SET_CHILD_SUBREAPER": "the kernel's name"}

MAY_WAIT = (
    "tests/real/",
    "tests/e2e/",
    "tests/bench/",
    "tests/soak/",
    "tests/image/",
    "tests/support/",
    "tests/conftest.py",
    "tests/test_tidy.py",
)


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), relative(path))


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def given_names(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Every name that this module gives to something."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name, node.lineno
            case ast.arg():
                yield node.arg, node.lineno
            case ast.Name(ctx=ast.Store()):
                yield node.id, node.lineno
            case ast.Attribute(ctx=ast.Store()):
                yield node.attr, node.lineno


def words(name: str) -> list[str]:
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]


def test_modules_are_read_in_one_sitting() -> None:
    lengths = {relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in CODE}
    too_long = {name: length for name, length in lengths.items() if length > MODULE_LINES and name not in LONG_MODULES}
    assert not too_long


def test_functions_fit_on_a_screen() -> None:
    too_long = {}
    for path in CODE:
        for function in functions(parsed(path)):
            length = (function.end_lineno or 0) - function.lineno + 1
            name = f"{relative(path)}:{function.name}"
            if length > FUNCTION_LINES and name not in LONG_FUNCTIONS:
                too_long[name] = length
    assert not too_long


def test_the_lists_of_exceptions_hold_nothing_that_is_no_exception_any_more() -> None:
    names = {relative(path) for path in CODE if len(path.read_text(encoding="utf-8").splitlines()) > MODULE_LINES}
    assert set(LONG_MODULES) <= names
    given = {name for path in CODE for name, _ in given_names(parsed(path))}
    assert set(ALLOWED_NAMES) <= given


@pytest.mark.parametrize("path", [*CODE, *TESTS, *DOCS], ids=relative)
def test_each_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(parsed(path))


def test_things_are_called_by_their_one_name() -> None:
    wrong = [
        f"{relative(path)}:{line}: {name} says {word!r}, we say {FORBIDDEN_WORDS[word]!r}"
        for path in CODE
        for name, line in given_names(parsed(path))
        for word in words(name)
        if word in FORBIDDEN_WORDS and name not in ALLOWED_NAMES
    ]
    assert not wrong


def test_no_test_sleeps() -> None:
    """Time is an argument in most of this code, so a sleeping test is one that tests the wrong thing."""
    wrong = [
        f"{relative(path)}:{node.lineno}"
        for path in TESTS
        if not relative(path).startswith(MAY_WAIT)
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and _called(node).endswith("sleep") and not _is_zero(node)
    ]
    assert not wrong


def _called(call: ast.Call) -> str:
    return ast.unparse(call.func)


def _is_zero(call: ast.Call) -> bool:
    """`sleep(0)` gives the loop a turn and takes no time."""
    return len(call.args) == 1 and isinstance(call.args[0], ast.Constant) and call.args[0].value == 0


def test_nothing_is_put_off() -> None:
    later = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    wrong = [
        f"{relative(path)}:{number}: {line.strip()}"
        for path in [*CODE, *TESTS, *DOCS]
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if later.search(line)
    ]
    assert not wrong


def test_test_modules_have_names_of_their_own() -> None:
    """Without packages among the tests, two modules of one name would be one."""
    seen: dict[str, str] = {}
    for path in TESTS:
        if path.name != "conftest.py":
            assert path.name not in seen, f"{relative(path)} and {seen[path.name]}"
            seen[path.name] = relative(path)
