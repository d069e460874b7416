"""What is served: the page and its files, its news, two buttons, /healthz and /metrics."""

import time
from collections.abc import Callable
from importlib.resources import files

import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from syncd.again import try_again
from syncd.web.guarded import Guarded, may_act, new_token
from syncd.web.history import History
from syncd.web.live import Facts, Live
from syncd.web.metrics import render
from syncd.web.stream import EventStream, News
from syncd.web.view import View, safe

_log = structlog.get_logger()

_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_FILES = ("style.css", "app.js", "chart.js", "icon.svg")


class Web:
    """The application. live: what is at work, or None between two configurations.

    app: what answers. news: to be closed before the server is.
    """

    def __init__(self, history: History, live: Callable[[], Live | None]) -> None:
        self._history = history
        self._live = live
        self._facts = Facts()
        self._token = new_token()
        self.news = News(View(history, self._facts), live)
        folder = files("syncd.web") / "page"
        self._page = (folder / "index.html").read_text(encoding="utf-8").replace("{{token}}", self._token)
        self._files = {name: (folder / name).read_bytes() for name in _FILES}
        self.app: ASGIApp = Guarded(
            Starlette(
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
        )

    async def _index(self, request: Request) -> Response:
        del request
        return HTMLResponse(self._page)

    async def _file(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self._files:
            return _not_found()
        return Response(self._files[name], media_type=_TYPES[name.rpartition(".")[2]])

    async def _events(self, request: Request) -> Response:
        if request.method == "HEAD":
            return Response(media_type=EventStream.media_type)
        if self.news.full:
            return PlainTextResponse("too many are looking; close a page\n", 503, {"Retry-After": "10"})
        return EventStream(self.news)

    async def _healthz(self, request: Request) -> Response:
        del request
        live = self._live()
        # A config is read again within moments; whoever asks for health must not restart us over it.
        reasons = live.faults() if live else []
        if reasons:
            return JSONResponse({"status": "failing", "reasons": safe(reasons)}, 503)
        return JSONResponse({"status": "ok"})

    async def _metrics(self, request: Request) -> Response:
        live = self._live()
        if live is None:
            return PlainTextResponse("the config is being read again\n", 503, {"Retry-After": "1"})
        mirrors = await self._facts.mirrors(live)
        body, content_type = render(live, mirrors, self._history, request.headers.get("accept", ""))
        return Response(body, headers={"Content-Type": content_type})

    async def _reconcile_now(self, request: Request) -> Response:
        return self._act(request, "reconcile", lambda live, name: live.keepers[name].request_full())

    async def _retry(self, request: Request) -> Response:
        def retry(live: Live, name: str) -> None:
            keeper = live.keepers[name]
            try_again(keeper.mirror.journal, keeper.mirror.queue, None, time.time())
            keeper.marked()

        return self._act(request, "retry", retry)

    def _act(self, request: Request, what: str, act: Callable[[Live, str], None]) -> Response:
        if not may_act(request.headers, self._token):
            return JSONResponse({"error": "only the status page itself may ask for this; load it again"}, 403)
        live, name = self._live(), request.path_params["name"]
        if live is None:
            return JSONResponse({"error": "the config is being read again; try once more"}, 503)
        if name not in live.keepers:
            return _not_found()
        act(live, name)
        _log.info("web.asked", mirror=name, what=what)
        return JSONResponse({"asked": what}, 202)


def _not_found() -> Response:
    return JSONResponse({"error": "there is no such thing here; load the page again"}, 404)
