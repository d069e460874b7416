"""The routes: the page and its files, its event stream, two buttons, /healthz and /metrics."""

import time
from collections.abc import Callable
from importlib.resources import files

import structlog
from starlette.applications import Starlette
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from syncd.service.runtime import Runtime
from syncd.state.queue import retry_problems
from syncd.web.feed import EventFeed, EventStream
from syncd.web.history import RecentHistory
from syncd.web.middleware import SecurityMiddleware, is_from_page, new_token
from syncd.web.view import PageView, StatusCache, safe

_log = structlog.get_logger()

_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_FILES = ("style.css", "app.js", "chart.js", "icon.svg")
_LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")


class WebApp:
    """The application.

    runtime: returns the objects at work, or None between two configurations. host: the address that it listens at.
    asgi: the application for the server. feed: close it before the server.
    """

    def __init__(self, history: RecentHistory, runtime: Callable[[], Runtime | None], host: str) -> None:
        self._history = history
        self._runtime = runtime
        self._status = StatusCache()
        self._token = new_token()
        self.feed = EventFeed(PageView(history, self._status), runtime)
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

    async def _index(self, request: Request) -> Response:
        del request
        return HTMLResponse(self._page)

    async def _file(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self._files:
            return _not_found()
        return Response(self._files[name], media_type=_TYPES[name.rpartition(".")[2]])

    async def _events(self, request: Request) -> Response:
        del request
        if self.feed.full:
            return PlainTextResponse("too many pages are open; close one\n", 503, {"Retry-After": "10"})
        return EventStream(self.feed)

    async def _healthz(self, request: Request) -> Response:
        del request
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
        modes = {name: runtime.watcher.status(name).mode for name in runtime.workers}
        gate, accept = runtime.session.transport.gate, request.headers.get("accept", "")
        body, content_type = self._history.metrics.render(mirrors, modes, gate, accept)
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
