"""Who may ask for what: a loopback page that any other page in the same browser tries to reach."""

import hmac
import secrets
from collections.abc import Mapping
from urllib.parse import urlsplit

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from syncd.cloudflare.base_url import is_loopback

_log = structlog.get_logger()

TOKEN_HEADER = "X-Syncd-Token"  # noqa: S105 - the name of a header
HEADERS = {
    # Our own files and nothing else: what a file's name smuggles in cannot run, load or send anything.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def new_token() -> str:
    """Return what the page must show with every request that does something; one for each process."""
    return secrets.token_urlsafe(32)


_REFUSAL = PlainTextResponse("ask for this page as localhost or 127.0.0.1\n", 403)


class Guarded:
    """Answers 403 to a name that is not this machine's, and puts the headers above on every answer.

    A page of evil.example whose name comes to mean 127.0.0.1 (DNS rebinding) still sends its own name as Host. Any
    port is taken, for a tunnel has another one at its other end.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        hosts = Headers(scope=scope).getlist("host")
        app = self._app if len(hosts) == 1 and _is_here(hosts[0]) else _REFUSAL
        try:
            await app(scope, receive, with_headers)
        except Exception:  # noqa: BLE001 - a bug in what only looks must not end the daemon; it is answered with 500
            _log.exception("web.bug", path=scope["path"])


def may_act(headers: Mapping[str, str], token: str) -> bool:
    """Whether a request comes from our own page: by what the browser says of its origin, and by the page's token."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None and site != "same-origin":
        return False
    if origin is not None and origin != f"http://{headers.get('host')}":
        return False
    return hmac.compare_digest(headers.get(TOKEN_HEADER, "").encode(), token.encode())


def _is_here(host: str) -> bool:
    try:
        url = urlsplit(f"//{host}")
        name, _ = url.hostname, url.port
    except ValueError:
        return False
    return name is not None and url.netloc == host and "@" not in host and is_loopback(name)
