"""Protects a page on loopback from other pages that are open in the same browser."""

import hmac
import secrets
from collections.abc import Mapping

import structlog
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_log = structlog.get_logger()

TOKEN_HEADER = "X-Syncd-Token"  # noqa: S105 - the name of a header
HEADERS = {
    # The page loads its own files only, so markup in a file's name cannot run, load or send anything.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def new_token() -> str:
    """Return a random token. The page sends it with every request that changes something."""
    return secrets.token_urlsafe(32)


class SecurityMiddleware:
    """Sets HEADERS on every answer, and logs an exception instead of passing it on to the server.

    Starlette's own middleware has answered with 500 before the exception arrives here.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except Exception:  # noqa: BLE001 - a bug in the page must not end the daemon
            _log.exception("web.bug", path=scope["path"])


def is_from_page(headers: Mapping[str, str], token: str) -> bool:
    """Return whether a request comes from the status page: the origin that the browser states and the token match."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None and site != "same-origin":
        return False
    if origin is not None and origin != f"http://{headers.get('host')}":
        return False
    return hmac.compare_digest(headers.get(TOKEN_HEADER, "").encode(), token.encode())
