"""Modules that are loaded when somebody first asks them for something, and not by whoever merely imports them.

For what others import and a controller hardly ever uses. Nothing is missing: who takes a name from such a module, in
whichever thread, finds it executed, at its price. (`importlib.util.LazyLoader` executes already at a second import.)
Not for modules of ours: what is loaded late may be of another release by then.
"""

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pkgutil import iter_modules
from types import ModuleType, TracebackType
from typing import Any, Self


class Postponed:
    """Meanwhile, whatever of these names is imported and was not before is entered in `sys.modules` unexecuted.

    `given`: what may be taken from them all the same; once they are executed, the others of their package have the real
    thing in its place.
    """

    def __init__(self, *names: str, **given: Any) -> None:
        self._names = frozenset(names)
        self._given = given

    def __enter__(self) -> Self:
        sys.meta_path.insert(0, self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        sys.meta_path.remove(self)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """What the import system asks: where the module is, and who loads it."""
        spec = PathFinder.find_spec(name, path, target) if name in self._names else None
        if spec is not None and spec.loader is not None:
            waiting: Any = _Waiting(spec.loader, self._given)  # a Loader, whose class would bring importlib.resources
            spec.loader = waiting
        return spec


def at_first_call(module: str, name: str) -> Callable[..., Any]:
    """A function that may be `given` for this one of a postponed module: whoever calls it has the module executed."""

    def call(*positional: Any, **named: Any) -> Any:
        waiting = sys.modules[module]
        hasattr(waiting, "anything")  # to ask for what is not there
        return getattr(waiting, name)(*positional, **named)

    return call


class _Waiting:
    """A loader that leaves a module empty, but for what is given and a `__getattr__` that fills it."""

    def __init__(self, loader: Any, given: Mapping[str, Any]) -> None:
        self._loader = loader
        self._given = given
        self._begun = False
        # Of each module its own: who executes one may have to wait for an import of a thread that waits for another.
        self._lock = threading.RLock()

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        created: ModuleType | None = self._loader.create_module(spec)
        return created

    def exec_module(self, module: ModuleType) -> None:
        submodules = frozenset(each.name for each in iter_modules(getattr(module, "__path__", ())))

        def fill(name: str) -> Any:
            if not (name in submodules or (name.startswith("__") and name != "__all__")):
                with self._lock:
                    self._execute(module, fill)
            if module.__dict__.get("__getattr__") is fill:
                raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
            return getattr(module, name)

        module.__dict__.update(self._given, __getattr__=fill)

    def _execute(self, module: ModuleType, fill: Any) -> None:
        """Once; what is asked for in the middle of it, in this thread, is there already or is not."""
        if self._begun:
            return
        self._begun = True
        try:
            self._loader.exec_module(module)
        except BaseException:
            self._begun = False
            raise
        self._hand_out(module)
        if module.__dict__.get("__getattr__") is fill:  # others wait at it until here
            del module.__dict__["__getattr__"]

    def _hand_out(self, module: ModuleType) -> None:
        package = module.__name__.partition(".")[0] + "."
        for name, other in list(sys.modules.items()):
            if name.startswith(package):
                for key, given in self._given.items():
                    if other.__dict__.get(key) is given:
                        setattr(other, key, getattr(module, key))
