"""The half of aiohttp that serves: imported without the half that asks.

`import aiohttp` loads an HTTP client, its TLS contexts and all certificate authorities of the host. A controller that
only listens pays 11 MiB and 80 ms of start-up for that, out of 45 MiB and one second that it may have in all. So the
package itself is postponed, and so are the client's errors, which bring OpenSSL: who writes `aiohttp.ClientSession`
gets it, at its price.

Everything of aiohttp that the server uses is named here, and nowhere else.
"""

from reconciler.postponing import Postponed


class ConnectionReset(ConnectionResetError):
    """What the server's modules raise for aiohttp.ClientConnectionResetError until that is loaded."""


# The version goes into a Server header that we do not send.
with (
    Postponed("aiohttp", __version__=""),
    Postponed("aiohttp.client_exceptions", ClientConnectionResetError=ConnectionReset),
):
    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.base_protocol import BaseProtocol
    from aiohttp.web_exceptions import HTTPRequestEntityTooLarge
    from aiohttp.web_protocol import RequestHandler, RequestPayloadError
    from aiohttp.web_request import BaseRequest
    from aiohttp.web_response import Response, StreamResponse
    from aiohttp.web_server import Server

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
