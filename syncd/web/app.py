"""The server of the page and of the routes for programs: /healthz, /livez, /readyz and /metrics.

Every answer has headers that protect the page from other pages that are open in the same browser. The routes for
programs are also served at web.metrics_listen, which may be open to other machines. This address has no page, no file
names and no secrets, and its routes change nothing.
"""

import asyncio
import hmac
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from importlib.resources import files
from typing import Any

import structlog
from prometheus_client import ProcessCollector
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from syncd.config.schema import Web
from syncd.config.values import listen_address, metrics_address
from syncd.queries.explain import explain
from syncd.queries.lookup import Found
from syncd.service.build import build_tree
from syncd.service.runtime import Runtime
from syncd.state.queue import retry_problems
from syncd.web.history import RecentHistory
from syncd.web.listening import App, HttpServer, served_names
from syncd.web.metrics import Metrics
from syncd.web.problems import PAGE, find_problems
from syncd.web.view import EventFeed, EventStream, StatusCache, safe

_log = structlog.get_logger()

_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
FILES = (
    *("style.css", "icon.svg", "app.js", "words.js", "mirror.js", "trouble.js", "problems.js", "actions.js"),
    *("chart.js", "uplot.js", "uplot.css"),
)
RENDERED_S = 1.0
"""Seconds for which web.metrics_listen caches the metrics, because other machines may request them often."""
SAMPLE_S = 1.0
"""Seconds between two samples of the counters for the chart and the metrics."""
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


class WebServer:
    """Serves the page and the metrics from the first `open` to `close`. A reload of the config does not end it."""

    def __init__(self) -> None:
        self._history = RecentHistory(time.time)
        self._status = StatusCache()
        self._page = HttpServer("web.listen", listen_address, self._make_page, "/")
        self._metrics = HttpServer("web.metrics_listen", metrics_address, self._make_metrics, "/metrics")

    async def open(self, web: Web) -> None:
        """Serve at the addresses of [web] from now on, or nowhere for "".

        Raises ConfigError if an address is in use. The server then stays at its earlier address.
        """
        if url := await self._page.open(web.listen):
            _log.info("web.ready", url=url)
        if url := await self._metrics.open(web.metrics_listen):
            _log.info("metrics.ready", url=url)

    async def run(self, runtime: Runtime) -> None:
        """Show the state of `runtime` until the task is cancelled."""
        for name, worker in runtime.workers.items():
            worker.mirror.on_action = self._history.listener(name)
        self._history.load(runtime.session.db)
        self._status.runtime = runtime
        try:
            while True:
                self._history.sample(runtime)
                self._history.note_states(runtime)
                self._history.save(runtime.session.db)
                await asyncio.sleep(SAMPLE_S)
        finally:
            self._status.runtime = None
            self._history.sample(runtime)
            self._history.save(runtime.session.db, now=True)

    async def close(self) -> None:
        """Stop serving, within two seconds."""
        await asyncio.gather(self._page.close(), self._metrics.close())

    def _make_page(self, host: str) -> App:
        app = WebApp(self._history, self._status, host)
        return app.asgi, app.close

    def _make_metrics(self, _host: str) -> App:
        probes = Probes(self._history.metrics, self._status, is_open=True)
        return SecurityMiddleware(Starlette(routes=probes.routes())), None


class WebApp:
    """The application. host: the address that it listens at. asgi: the application for the server."""

    def __init__(self, history: RecentHistory, status: StatusCache, host: str) -> None:
        self._status = status
        # The page sends this token with every request that changes something.
        self._token = secrets.token_urlsafe(32)
        self.feed = EventFeed(history, status)
        folder = files("syncd.web") / "page"
        self._page = (folder / "index.html").read_text(encoding="utf-8").replace("{{token}}", self._token)
        self._files = {name: (folder / name).read_bytes() for name in FILES}
        routes = Starlette(
            routes=[
                Route("/", self._index),
                Route("/page/{name}", self._file),
                Route("/events", self._events),
                *Probes(history.metrics, status).routes(),
                *(
                    Route(f"/mirrors/{{name}}/{path}", self._answered_by(answer), methods=[method])
                    for method, path, answer in (
                        ("GET", "problems", _problems),
                        ("GET", "explain", _explain),
                        ("GET", "plan", self._show_plan),
                        ("POST", "reconcile", _reconcile_now),
                        ("POST", "retry", _retry),
                        ("POST", "plan", self._make_plan),
                        ("POST", "approve", self._approve),
                    )
                ),
            ]
        )
        trusted = TrustedHostMiddleware(routes, served_names(host), www_redirect=False)
        self.asgi: ASGIApp = SecurityMiddleware(trusted)

    async def close(self) -> None:
        """End the streams and the jobs. Call it before the server stops."""
        self.feed.close()
        await self.feed.jobs.close()

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

    def _answered_by(self, answer: "MirrorAnswer") -> Callable[[Request], Awaitable[Response]]:
        """Return the endpoint that calls `answer` for one mirror. It refuses a request that is not from the page."""

        async def endpoint(request: Request) -> Response:
            if not is_from_page(request.headers, self._token):
                return JSONResponse({"error": "only the status page itself may ask for this; load it again"}, 403)
            runtime, name = self._status.runtime, request.path_params["name"]
            if runtime is None:
                return JSONResponse({"error": "the config is being read again; try once more"}, 503)
            if name not in runtime.workers:
                return _not_found()
            try:
                body = await request.json() if request.method == "POST" and await request.body() else {}
                values = {key: str(value) for key, value in body.items()}
            except (ValueError, AttributeError):
                return JSONResponse({"error": "this is no JSON object; load the page again"}, 400)
            if request.method == "POST":
                _log.info("web.action", mirror=name, action=request.url.path.rpartition("/")[2], **values)
            status, result = await answer(runtime, name, values or dict(request.query_params))
            return JSONResponse(safe(result), status)

        return endpoint

    async def _show_plan(self, _runtime: Runtime, name: str, _values: Mapping[str, str]) -> "StatusAndJson":
        job = self.feed.jobs.last(name)
        return (200, job.plan) if job and job.plan else (404, {"error": "no plan was made; ask for it again"})

    async def _make_plan(self, runtime: Runtime, name: str, _values: Mapping[str, str]) -> "StatusAndJson":
        return _ACCEPTED if self.feed.jobs.preview(runtime, name) else _BUSY

    async def _approve(self, runtime: Runtime, name: str, values: Mapping[str, str]) -> "StatusAndJson":
        if not values.get("plan"):
            return 400, {"error": "name the plan that is approved"}
        return _ACCEPTED if self.feed.jobs.approve(runtime, name, values["plan"]) else _BUSY


StatusAndJson = tuple[int, dict[str, Any]]
"""The HTTP status and the JSON object of a response."""
MirrorAnswer = Callable[[Runtime, str, Mapping[str, str]], Awaitable[StatusAndJson]]
"""Answers a request about one mirror. Parameters: runtime, name of the mirror, values of the query or the body."""
_ACCEPTED: StatusAndJson = 202, {}
_BUSY: StatusAndJson = 409, {"error": "something that was asked for before is still under way; wait for its end"}


async def _problems(runtime: Runtime, name: str, values: Mapping[str, str]) -> StatusAndJson:
    config, kind, text = runtime.session.config, values.get("kind", ""), values.get("q", "")
    offset, limit = _number(values.get("offset"), 0), _number(values.get("limit"), PAGE)
    return 200, await asyncio.to_thread(find_problems, config, name, kind, text, offset, limit)


def _number(text: str | None, otherwise: int) -> int:
    return int(text) if text and text.isascii() and text.isdecimal() and len(text) < 12 else otherwise


async def _explain(runtime: Runtime, name: str, values: Mapping[str, str]) -> StatusAndJson:
    config = runtime.session.config
    file = Found(name, values.get("key", "").removeprefix(config.mirrors[name].key_prefix), "file")
    facts = await asyncio.to_thread(lambda: list(explain(config, file, build_tree(config.mirrors[name]))))
    return 200, {"facts": [[fact, value] for fact, value in facts]}


async def _reconcile_now(runtime: Runtime, name: str, _values: Mapping[str, str]) -> StatusAndJson:
    worker = runtime.workers[name]
    worker.request_full()
    return _ACCEPTED


async def _retry(runtime: Runtime, name: str, values: Mapping[str, str]) -> StatusAndJson:
    """Make the problem of one key, all problems of one kind, or all problems due."""
    worker = runtime.workers[name]
    journal, keys = worker.mirror.journal, None
    if "key" in values:
        keys = {values["key"]}
    elif "kind" in values:
        keys = {problem.key for problem in journal.problems.all() if problem.kind == values["kind"]}
    count = retry_problems(journal, worker.mirror.queue, keys, time.time())
    worker.state_changed()
    return 202, {"count": count}


def _not_found() -> Response:
    return JSONResponse({"error": "this address does not exist; load the page again"}, 404)


class SecurityMiddleware:
    """Sets HEADERS on every answer, and logs an exception instead of passing it on to the server.

    The middleware of Starlette answers with 500 before it passes the exception on.
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
    """Return whether a request comes from the status page, by its token and by the origin that the browser states."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None and site != "same-origin":
        return False
    if origin is not None and origin != f"http://{headers.get('host')}":
        return False
    return hmac.compare_digest(headers.get(TOKEN_HEADER, "").encode(), token.encode())


# -- the routes for programs


class Probes:
    """The routes for programs.

    is_open: whether they are for web.metrics_listen. The answers then have no reasons, which may contain file names.
    """

    def __init__(
        self,
        metrics: Metrics,
        status: StatusCache,
        clock: Callable[[], float] = time.monotonic,
        *,
        is_open: bool = False,
    ) -> None:
        self._metrics = metrics
        self._status = status
        self._clock = clock
        self._is_open = is_open
        self._more = [ProcessCollector(registry=None)] if is_open else []
        self._kept: dict[str, tuple[float, bytes, str]] = {}

    def routes(self) -> list[Route]:
        """Return the routes."""
        routes = [Route("/livez", self._livez), Route("/readyz", self._readyz), Route("/metrics", self._render)]
        return routes if self._is_open else [*routes, Route("/healthz", self._healthz)]

    async def _healthz(self, _request: Request) -> Response:
        runtime = self._status.runtime
        # While the config is read again, which is short, the check passes. Otherwise a supervisor would restart syncd.
        return self._answer(runtime.faults() if runtime else [])

    async def _livez(self, _request: Request) -> Response:
        runtime = self._status.runtime
        return self._answer(runtime.dead() if runtime else [])

    async def _readyz(self, _request: Request) -> Response:
        runtime = self._status.runtime
        return self._answer(runtime.unready() if runtime else ["the config is being read again"])

    def _answer(self, reasons: list[str]) -> Response:
        if not reasons:
            return JSONResponse({"status": "ok"})
        return JSONResponse({"status": "failing"} | ({} if self._is_open else {"reasons": safe(reasons)}), 503)

    async def _render(self, request: Request) -> Response:
        if (runtime := self._status.runtime) is None:
            return PlainTextResponse("the config is being read again\n", 503, {"Retry-After": "1"})
        accept = request.headers.get("accept", "")
        kind = "openmetrics" if "openmetrics" in accept else "text"
        at, body, content_type = self._kept.get(kind, (-RENDERED_S, b"", ""))
        if not self._is_open or self._clock() - at >= RENDERED_S:
            body, content_type = self._metrics.render(await self._status.mirrors(), runtime, accept, *self._more)
            self._kept[kind] = self._clock(), body, content_type
        return Response(body, headers={"Content-Type": content_type})
