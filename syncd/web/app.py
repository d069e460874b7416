"""The routes: the page and its files, its event stream, two buttons, /healthz and /metrics.

Every answer has headers that protect the page from other pages that are open in the same browser.
"""

import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from importlib.resources import files

import structlog
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from syncd.service.runtime import Runtime
from syncd.state.queue import retry_problems
from syncd.web.metrics import RecentHistory
from syncd.web.view import EventFeed, EventStream, StatusCache, safe

_log = structlog.get_logger()

_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_FILES = ("style.css", "app.js", "chart.js", "icon.svg")
_LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")
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


class WebApp:
    """The application.

    runtime: returns the objects at work, or None between two configurations. host: the address that it listens at.
    asgi: the application for the server. feed: close it before the server.
    """

    def __init__(self, history: RecentHistory, runtime: Callable[[], Runtime | None], host: str) -> None:
        self._history = history
        self._runtime = runtime
        self._status = StatusCache()
        # The page sends this token with every request that changes something.
        self._token = secrets.token_urlsafe(32)
        self.feed = EventFeed(history, self._status, runtime)
        folder = files("syncd.web") / "page"
        self._page = (folder / "index.html").read_text(encoding="utf-8").replace("{{token}}", self._token)
        self._files = {name: (folder / name).read_bytes() for name in _FILES}
        routes = Starlette(
            routes=[
                Route("/", self._index),
                Route("/page/{name}", self._file),
                Route("/events", self._events),
                Route("/healthz", self._healthz),
                Route("/metrics", self._metrics),
                Route("/mirrors/{name}/reconcile", self._reconcile_now, methods=["POST"]),
                Route("/mirrors/{name}/retry", self._retry, methods=["POST"]),
            ]
        )
        # After DNS rebinding a foreign page still sends its own name as Host. Every port is allowed: a tunnel may have
        # another port at its other end.
        hosts = [*_LOCAL_HOSTS, f"[{host}]" if ":" in host else host]
        self.asgi: ASGIApp = SecurityMiddleware(TrustedHostMiddleware(routes, hosts, www_redirect=False))

    async def _index(self, _request: Request) -> Response:
        return HTMLResponse(self._page)

    async def _file(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self._files:
            return _not_found()
        return Response(self._files[name], media_type=_TYPES[name.rpartition(".")[2]])

    async def _events(self, _request: Request) -> Response:
        if self.feed.full:
            return PlainTextResponse("too many pages are open; close one\n", 503, {"Retry-After": "10"})
        return EventStream(self.feed)

    async def _healthz(self, _request: Request) -> Response:
        runtime = self._runtime()
        # Reading the config again takes moments. A failing check would make a supervisor restart the daemon.
        reasons = runtime.faults() if runtime else []
        if reasons:
            return JSONResponse({"status": "failing", "reasons": safe(reasons)}, 503)
        return JSONResponse({"status": "ok"})

    async def _metrics(self, request: Request) -> Response:
        runtime = self._runtime()
        if runtime is None:
            return PlainTextResponse("the config is being read again\n", 503, {"Retry-After": "1"})
        mirrors = await self._status.mirrors(runtime)
        body, content_type = self._history.metrics.render(mirrors, runtime, request.headers.get("accept", ""))
        return Response(body, headers={"Content-Type": content_type})

    async def _reconcile_now(self, request: Request) -> Response:
        return self._act(request, "reconcile", lambda runtime, name: runtime.workers[name].request_full())

    async def _retry(self, request: Request) -> Response:
        def retry(runtime: Runtime, name: str) -> None:
            worker = runtime.workers[name]
            retry_problems(worker.mirror.journal, worker.mirror.queue, None, time.time())
            worker.state_changed()

        return self._act(request, "retry", retry)

    def _act(self, request: Request, what: str, act: Callable[[Runtime, str], None]) -> Response:
        if not is_from_page(request.headers, self._token):
            return JSONResponse({"error": "only the status page itself may ask for this; load it again"}, 403)
        runtime, name = self._runtime(), request.path_params["name"]
        if runtime is None:
            return JSONResponse({"error": "the config is being read again; try once more"}, 503)
        if name not in runtime.workers:
            return _not_found()
        act(runtime, name)
        _log.info("web.action", mirror=name, action=what)
        return JSONResponse({"asked": what}, 202)


def _not_found() -> Response:
    return JSONResponse({"error": "this address does not exist; load the page again"}, 404)


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
