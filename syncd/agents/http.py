"""The server over HTTP on loopback, for clients that know its token."""

import hmac
from collections.abc import Callable
from contextlib import AsyncExitStack

from mcp.server.transport_security import TransportSecuritySettings
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from syncd.agents.server import make_server
from syncd.agents.tools import Agent
from syncd.config.values import listen_address
from syncd.web.listening import App, HttpServer, served_names

PATH = "/mcp"
_REFUSAL = "send the token of this server: Authorization: Bearer TOKEN\n"


async def serve(agent: Agent, listen: str, token: str, on_ready: Callable[[str], object]) -> None:
    """Serve until cancelled, or until the server fails. on_ready: called with the URL.

    Raises ConfigError if the address is in use.
    """
    server = make_server(agent)

    def make_app(host: str) -> App:
        # No tool needs a session. The server would keep the sessions of clients that end without closing them, and its
        # restart would end the sessions of all others.
        app = server.streamable_http_app(
            streamable_http_path=PATH, stateless_http=True, transport_security=_allowed(host)
        )
        return TokenMiddleware(app, token), None

    web = HttpServer("--http", listen_address, make_app, PATH)
    async with AsyncExitStack() as stack:
        url = await web.open(listen)
        await stack.enter_async_context(server.session_manager.run())
        stack.push_async_callback(web.close)
        on_ready(url)
        await web.wait()


def _allowed(host: str) -> TransportSecuritySettings:
    """Return the names that a request may have as Host and, from a browser, as Origin."""
    hosts = dict.fromkeys(served_names(host))
    names = [name for served in hosts for name in (served, f"{served}:*")]
    return TransportSecuritySettings(allowed_hosts=names, allowed_origins=[f"http://{name}" for name in names])


class TokenMiddleware:
    """Answers 401 to every request without the token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        header = Headers(scope=scope).get("authorization", "")
        app = self._app if hmac.compare_digest(header.encode("latin-1"), self._expected) else _refused
        await app(scope, receive, send)


_refused = PlainTextResponse(_REFUSAL, 401, {"WWW-Authenticate": "Bearer"})
