"""The interpreter of a controller: how it loads the rest of us, and how it ends.

app.py calls `load_quickly` before it imports anything else, `loaded` after that, and `settle_memory` when it has
taken over what is there. Its helpers that parse load in the same way (adapters/manifests/bulk.py).
"""

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NoReturn

from reconciler.postponing import Postponed, at_first_call

MANY = 1000
ALL_AFTER = 20_000_000  # so many objects have to come and not go until all of them are looked at
NO_PLUGINS = "PYDANTIC_DISABLE_PLUGINS"
SELDOM = ("ssl", "asyncio.sslproto", "hashlib", "secrets", "attr.converters", "attr.filters", "attr.validators")
"""Imported by others, and needed only when a queue is asked, if at all. OpenSSL takes 5 MiB."""

CALLED = {"importlib.metadata": ("entry_points",), "urllib.request": ("getproxies", "proxy_bypass")}
"""The same, where others take functions from them, for plug-ins and proxies: they bring zipfile, http.client, ..."""

_found: dict[str, str | None] = {}
_loading = ExitStack()


def load_quickly() -> None:
    """Load without what takes a quarter of the time: looking through it for garbage, and for plug-ins of pydantic.

    What is loaded stays; what nobody needs so far waits. And for plug-ins the description of each package that is
    installed would be read, to load the code of whoever says that he is one: none of it has a place in a controller.
    """
    gc.disable()
    _found[NO_PLUGINS] = os.environ.get(NO_PLUGINS)
    os.environ[NO_PLUGINS] = "__all__"
    _loading.enter_context(Postponed(*SELDOM))
    for module, functions in CALLED.items():
        _loading.enter_context(Postponed(module, **{name: at_first_call(module, name) for name in functions}))


def loaded() -> None:
    """All is loaded: the environment is what it was, for programs may inherit it."""
    _loading.close()
    for name, value in _found.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    _found.clear()


def settle_memory(objects: int = 2_000) -> None:
    """What was imported and built stays: let the garbage collector look at what comes and goes only.

    `objects`: how many have to come and not go until the young ones are looked at. Each connection that was served
    leaves six in a circle, a kilobyte that nothing else finds. All are looked at as rarely as can be. Not collected
    before: a thousand small objects of what was loaded are in circles, and to find them takes longer than to read a
    hundred manifests.
    """
    gc.freeze()
    gc.set_threshold(objects, 20, ALL_AFTER // (20 * objects))
    gc.enable()


@contextmanager
def sparing(objects: int) -> Iterator[None]:
    """Around work that makes so many objects which stay: where they are many, no garbage is looked for among them."""
    if objects < MANY or not gc.isenabled():
        yield
        return
    gc.collect(1)  # what is in circles now would stay, too
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def end(code: int) -> NoReturn:
    """End at once. To take apart ten thousand objects one by one takes seconds, and a thread may wait for a disk."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue  # nobody reads it any more
    os._exit(code)
