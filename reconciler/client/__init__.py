"""Asks the controller over its Unix socket, for the command line and the tests. Prints nothing and decides nothing.

It speaks just enough HTTP/1.1 by itself: `http.client` alone would cost a third of the time that a whole call of the
command line may take. What talks to a socket is imported when `Client` is first asked for, because `--help` never does.
"""

from typing import TYPE_CHECKING, Any

from reconciler.client.errors import ApiFailure, ClientError, NoController, PermissionRefused, TimedOut
from reconciler.client.places import REQUEST_SECONDS, find_state_dir, socket_in, socket_paths

if TYPE_CHECKING:
    from reconciler.client.requests import Client

__all__ = [
    "ApiFailure",
    "Client",
    "ClientError",
    "NoController",
    "PermissionRefused",
    "REQUEST_SECONDS",
    "TimedOut",
    "find_state_dir",
    "socket_in",
    "socket_paths",
]


def __getattr__(name: str) -> Any:
    if name != "Client":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from reconciler.client.requests import Client

    return Client
