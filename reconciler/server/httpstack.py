"""The half of aiohttp that serves: imported without the half that asks.

`import aiohttp` loads an HTTP client, its TLS contexts and all certificate authorities of the host. A controller that
only listens pays 6 MiB and 60 ms of start-up for that, out of 45 MiB and one second that it may have in all. So the
package is entered in `sys.modules` unexecuted, and executes itself the moment somebody asks it for anything that is
not a submodule: who writes `aiohttp.ClientSession` gets it, at its price.

Everything of aiohttp that the server uses is named here, and nowhere else.
"""

import importlib.util
import sys
from typing import Any


def _enter_unexecuted(name: str) -> None:
    spec = importlib.util.find_spec(name)
    if name in sys.modules or spec is None or spec.loader is None:
        return  # loaded as a whole already, or missing: then the import below says so
    loader = spec.loader
    package = importlib.util.module_from_spec(spec)
    submodules = frozenset(_submodules(spec.submodule_search_locations or ()))

    def load_whole(attribute: str) -> Any:
        if attribute in submodules or attribute.startswith("__"):
            raise AttributeError(attribute)  # the import system then looks for the submodule, as it should
        package.__dict__.pop("__getattr__", None)
        loader.exec_module(package)
        return getattr(package, attribute)

    package.__dict__["__getattr__"] = load_whole
    package.__dict__["__version__"] = ""  # goes into a Server header that we do not send
    sys.modules[name] = package


def _submodules(folders: Any) -> set[str]:
    from pkgutil import iter_modules

    return {module.name for module in iter_modules(list(folders))}


_enter_unexecuted("aiohttp")

from aiohttp.abc import AbstractStreamWriter  # noqa: E402
from aiohttp.base_protocol import BaseProtocol  # noqa: E402
from aiohttp.web_exceptions import HTTPRequestEntityTooLarge  # noqa: E402
from aiohttp.web_protocol import RequestHandler, RequestPayloadError  # noqa: E402
from aiohttp.web_request import BaseRequest  # noqa: E402
from aiohttp.web_response import Response, StreamResponse  # noqa: E402
from aiohttp.web_server import Server  # noqa: E402

__all__ = [
    "AbstractStreamWriter",
    "BaseProtocol",
    "BaseRequest",
    "HTTPRequestEntityTooLarge",
    "RequestHandler",
    "RequestPayloadError",
    "Response",
    "Server",
    "StreamResponse",
]
