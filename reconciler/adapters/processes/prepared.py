"""Starts that come again: a Launch in the form that the C library takes, made once and used at every further start.

`os.posix_spawn` turns all arguments, variables and signals into that form at each call, which costs more than half of
all else that we do for a start. What cannot be started in this way is started in the long one, which also says why
something cannot be started at all: here 0 is the answer to everything that goes wrong, and then nothing was started.
"""

import ctypes
import os
import weakref
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from reconciler.adapters.processes import procfs
from reconciler.model.launch import Launch

FileAction = tuple[int, int, int] | tuple[int, int, str, int, int]

MOST = 512  # launches that are kept: a few kilobytes each
_ACTIONS_BYTES, _ATTRIBUTES_BYTES, _SIGNALS_BYTES = 256, 1024, 128  # no C library of Linux needs as much
_SETSIGDEF, _SETSIGMASK, _SETSID = 0x04, 0x08, 0x80

# Not CDLL: that lets other threads run during the call and has to wait for them after it, a start is not worth that.
_c = ctypes.PyDLL(None)


def is_supported() -> bool:
    """Whether this C library can change the directory of the new process."""
    return hasattr(_c, "posix_spawn_file_actions_addchdir_np")


class Prepared:
    """One Launch, ready to be started until `until`, when its command is to be looked up again."""

    __slots__ = ("_actions", "_argv", "_at", "_attributes", "_env", "_path", "_pid", "_pid_at", "of", "until")

    def __init__(
        self,
        launch: Launch,
        path: str,
        env: Mapping[str, str],
        actions: Iterable[FileAction],
        attributes: "ctypes.Array[ctypes.c_char]",
        until: float,
        over: Callable[[object], None],
    ) -> None:
        self.of = weakref.ref(launch, over)
        self.until = until
        self._path = os.fsencode(path)
        self._argv = _strings(map(os.fsencode, launch.argv))
        names = [*env]
        self._env = _strings(os.fsencode(f"{name}={env[name]}") for name in names)
        self._at = names.index(procfs.SPAWN_ID)
        self._actions = _file_actions(launch.cwd, actions)
        self._attributes = attributes
        self._pid = ctypes.c_int()
        self._pid_at = ctypes.byref(self._pid)

    def __del__(self, free: Callable[[object], object] = _c.posix_spawn_file_actions_destroy) -> None:
        free(self._actions)  # bound early: when the interpreter ends, names go before what is left does

    def name(self, spawn_id: str) -> None:
        """Which spawn the next start is."""
        self._env[self._at] = f"{procfs.SPAWN_ID}={spawn_id}".encode()

    def start(self) -> int:
        """Start it as leader of a session of its own. The pid, or 0."""
        error = _c.posix_spawn(self._pid_at, self._path, self._actions, self._attributes, self._argv, self._env)
        return 0 if error else self._pid.value


class PreparedLaunches:
    """What was started more than once of late. Who is started once only is not worth the memory."""

    def __init__(self, default_signals: Iterable[int]) -> None:
        self._attributes = _attributes(default_signals)
        # By identity: a template gives the same Launch again. Nobody is held on to: what no template gives any more
        # goes, also from among those that were started once.
        self._known: dict[int, Prepared] = {}
        self._once: dict[int, weakref.ref[Launch]] = {}

    def get(self, launch: Launch, now: float) -> Prepared | None:
        """This very launch, if it is prepared."""
        known = self._known.get(id(launch))
        return known if known is not None and now < known.until else None

    def started(
        self, launch: Launch, path: str, env: Mapping[str, str], actions: Iterable[FileAction], until: float
    ) -> None:
        """It was started in the long way, which says that all in it can be encoded."""
        key = id(launch)
        over = partial(self._over, key)
        if self._once.pop(key, None) is None and key not in self._known:
            if len(self._once) >= MOST:
                self._once.clear()
            self._once[key] = weakref.ref(launch, over)
            return
        if len(self._known) >= MOST:
            self._known.clear()
        self._known[key] = Prepared(launch, path, env, actions, self._attributes, until, over)

    def _over(self, key: int, gone: object) -> None:
        known = self._known.get(key)
        if known is not None and known.of is gone:
            del self._known[key]
        if self._once.get(key) is gone:
            del self._once[key]

    def forget(self, launch: Launch) -> None:
        """It could not be started so."""
        self._known.pop(id(launch), None)


def _strings(texts: Iterable[bytes]) -> "ctypes.Array[ctypes.c_char_p]":
    words = [*texts, None]
    return (ctypes.c_char_p * len(words))(*words)


def _attributes(default_signals: Iterable[int]) -> "ctypes.Array[ctypes.c_char]":
    """A new session, no blocked signals, these to their default. Never freed: it has nothing to free."""
    attributes = ctypes.create_string_buffer(_ATTRIBUTES_BYTES)
    signals = ctypes.create_string_buffer(_SIGNALS_BYTES)
    _c.posix_spawnattr_init(attributes)
    _c.sigemptyset(signals)
    _c.posix_spawnattr_setsigmask(attributes, signals)
    for number in default_signals:
        _c.sigaddset(signals, number)
    _c.posix_spawnattr_setsigdefault(attributes, signals)
    _c.posix_spawnattr_setflags(attributes, _SETSIGDEF | _SETSIGMASK | _SETSID)
    return attributes


def _file_actions(cwd: str, actions: Iterable[FileAction]) -> "ctypes.Array[ctypes.c_char]":
    made = ctypes.create_string_buffer(_ACTIONS_BYTES)
    _c.posix_spawn_file_actions_init(made)
    _c.posix_spawn_file_actions_addchdir_np(made, os.fsencode(cwd))
    for action in actions:
        if len(action) == 3:
            _, source, number = action
            _c.posix_spawn_file_actions_adddup2(made, source, number)
        else:
            _, number, path, flags, mode = action
            _c.posix_spawn_file_actions_addopen(made, number, os.fsencode(path), flags, mode)
    return made
