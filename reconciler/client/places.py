"""Where state directories and sockets are looked for, and how long for an answer."""

import os

REQUEST_SECONDS = 30.0
SYSTEM_SOCKET = "/run/reconciler/reconciler.sock"


def user_state_home() -> str:
    """Where this user's own controllers keep their state."""
    home = os.environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(home):  # as the XDG rules want it
        home = os.path.expanduser("~/.local/state")
    return os.path.join(home, "reconciler")


def default_state_dir() -> str:
    """The state directory when nobody names one."""
    return "/var/lib/reconciler" if os.geteuid() == 0 else user_state_home()


def find_state_dir(given: str | None = None) -> str:
    """The state directory: as given, else of the environment, else the default; absolute."""
    return os.path.abspath(given or os.environ.get("RECONCILER_STATE_DIR") or default_state_dir())


def socket_in(state_dir: str) -> str:
    """The controller's socket below a state directory."""
    return os.path.join(state_dir, "run", "reconciler.sock")


def socket_paths(given: str | None = None, state_dir: str | None = None) -> list[str]:
    """Where to look for a controller, best first.

    What somebody named is the only place: a typing error in `--state-dir` must not send a `delete` to the machine's
    main controller.
    """
    named = given or ("" if state_dir else os.environ.get("RECONCILER_SOCKET", ""))
    if named:
        return [os.path.abspath(named)]
    named_dir = state_dir or os.environ.get("RECONCILER_STATE_DIR")
    if named_dir:
        return [socket_in(os.path.abspath(named_dir))]
    return list(dict.fromkeys((socket_in(default_state_dir()), SYSTEM_SOCKET, socket_in(user_state_home()))))
