"""Modules that wait until somebody asks them for something: nobody can tell, but by what was not done before."""

import importlib
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from reconciler.postponing import Postponed, at_first_call

Write = Callable[..., None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Puts a module into a folder that modules are looked for in. `done` in it is what it has executed so far."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(path: str, text: str) -> None:
        file = tmp_path / path
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        importlib.invalidate_caches()

    before = set(sys.modules)
    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def brought(name: str, package: str = "heavy") -> ModuleType:
    """The postponed module, as an import gives it."""
    with Postponed(name):
        return importlib.import_module(package)


def test_an_import_executes_nothing_and_neither_does_a_second_one(write: Write) -> None:
    write("heavy.py", "import weight\nvalue = 1\n")
    write("weight.py", "")
    heavy = brought("heavy")
    assert importlib.import_module("heavy") is heavy
    assert "weight" not in sys.modules
    assert heavy.value == 1
    assert "weight" in sys.modules


def test_whoever_takes_a_name_has_it(write: Write) -> None:
    write("heavy.py", "value = 1\n")
    brought("heavy")
    from heavy import value  # type: ignore[import-not-found]

    assert value == 1


def test_whoever_takes_all_names_has_them(write: Write) -> None:
    write("heavy.py", "__all__ = ['value']\nvalue = 1\n_other = 2\n")
    brought("heavy")
    taken: dict[str, object] = {}
    exec("from heavy import *", taken)
    assert taken["value"] == 1
    assert "_other" not in taken


def test_what_is_not_there_is_not_there_afterwards_either(write: Write) -> None:
    write("heavy.py", "value = 1\n")
    heavy = brought("heavy")
    with pytest.raises(AttributeError, match="nothing"):
        print(heavy.nothing)
    assert not hasattr(heavy, "nothing")
    assert heavy.value == 1


def test_names_that_a_module_finds_by_itself_are_found(write: Write) -> None:
    write("heavy.py", "def __getattr__(name):\n    return name.upper()\n")
    heavy = brought("heavy")
    assert (heavy.one, heavy.two) == ("ONE", "TWO")


def test_a_submodule_is_imported_without_its_package(write: Write) -> None:
    write("heavy/__init__.py", "import weight\nvalue = 1\n")
    write("heavy/light.py", "value = 2\n")
    write("weight.py", "")
    with Postponed("heavy"):
        light = importlib.import_module("heavy.light")
    assert (light.value, "weight" in sys.modules) == (2, False)
    assert (sys.modules["heavy"].value, "weight" in sys.modules) == (1, True)


def test_a_submodule_waits_where_its_package_does_not(write: Write) -> None:
    write("heavy/__init__.py", "from . import late\n")
    write("heavy/late.py", "import weight\nvalue = 3\n")
    write("weight.py", "")
    package = brought("heavy.late")
    assert "weight" not in sys.modules
    assert package.late.value == 3


def test_what_is_loaded_already_stays_as_it_is(write: Write) -> None:
    write("heavy.py", "value = []\n")
    whole = importlib.import_module("heavy")
    assert brought("heavy") is whole


def test_what_is_imported_later_is_executed_at_once(write: Write) -> None:
    write("heavy.py", "import weight\n")
    write("weight.py", "")
    with Postponed("heavy"):
        pass
    importlib.import_module("heavy")
    assert "weight" in sys.modules


def test_what_is_missing_is_missing(write: Write) -> None:
    with Postponed("nowhere"), pytest.raises(ModuleNotFoundError):
        importlib.import_module("nowhere")


def test_a_module_that_cannot_be_loaded_says_so_to_each_who_asks(write: Write) -> None:
    write("heavy.py", "import nowhere\nvalue = 1\n")
    heavy = brought("heavy")
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="nowhere"):
            print(heavy.value)
    write("nowhere.py", "")
    assert heavy.value == 1


def test_a_module_that_asks_itself_in_the_middle_gets_what_is_there_so_far(write: Write) -> None:
    write("heavy.py", "import asker\nvalue = 1\n")
    write("asker.py", "import heavy\nfound = hasattr(heavy, 'value')\n")
    assert brought("heavy").value == 1
    assert sys.modules["asker"].found is False


def test_all_threads_find_it_executed_to_its_end(write: Write) -> None:
    write("heavy.py", "import meeting\nmeeting.begun.set()\nmeeting.go_on.wait(30)\nvalue = 1\n")
    write("meeting.py", "import threading\nbegun, go_on = threading.Event(), threading.Event()\n")
    heavy, meeting = brought("heavy"), importlib.import_module("meeting")
    found: list[object] = []

    def ask() -> None:
        found.append(getattr(heavy, "value", "nothing"))

    first, second = threading.Thread(target=ask), threading.Thread(target=ask)
    first.start()
    assert meeting.begun.wait(30)
    second.start()
    meeting.go_on.set()
    first.join(30)
    second.join(30)
    assert found == [1, 1]


def test_what_is_given_is_replaced_by_the_real_thing_in_the_whole_package(write: Write) -> None:
    write("heavy/__init__.py", "")
    write("heavy/errors.py", "import weight\nclass Wrong(Exception): pass\n")
    write("heavy/user.py", "from .errors import Wrong\n")
    write("stranger.py", "from heavy.errors import Wrong\n")
    write("weight.py", "")

    class Given(Exception):
        pass

    with Postponed("heavy.errors", Wrong=Given):
        user, stranger = importlib.import_module("heavy.user"), importlib.import_module("stranger")
    errors = sys.modules["heavy.errors"]
    assert (user.Wrong, stranger.Wrong, "weight" in sys.modules) == (Given, Given, False)
    assert hasattr(errors, "weight")
    assert user.Wrong is errors.Wrong is not Given
    assert stranger.Wrong is Given


def test_a_function_that_was_taken_executes_its_module_when_it_is_called(write: Write) -> None:
    write("heavy.py", "import weight\ndef double(number, *, plus=0): return 2 * number + plus\n")
    write("user.py", "from heavy import double\n")
    write("weight.py", "")
    with Postponed("heavy", double=at_first_call("heavy", "double")):
        user = importlib.import_module("user")
    assert "weight" not in sys.modules
    assert [user.double(3, plus=1), user.double(4)] == [7, 8]
    assert "weight" in sys.modules
    assert sys.modules["heavy"].double.__module__ == "heavy"
