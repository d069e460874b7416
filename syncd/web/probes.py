"""The routes for programs: /healthz, /livez, /readyz and /metrics, also at an address of their own.

That address may be open to other machines. It shows no page, no names of files and no secrets, and changes nothing.
"""

import time
from collections.abc import Callable

from prometheus_client import ProcessCollector
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from syncd.service.runtime import Runtime
from syncd.web.metrics import Metrics
from syncd.web.view import StatusCache, safe

RENDERED_S = 1.0
"""Seconds for which an open address keeps the text of the metrics, so that many requests cost no more than one."""


class Probes:
    """The routes. runtime: returns the objects at work, or None between two configurations.

    is_open: for the address of `web.metrics_listen`. Its answers hold no reasons, which may quote names of files.
    """

    def __init__(
        self,
        metrics: Metrics,
        status: StatusCache,
        runtime: Callable[[], Runtime | None],
        clock: Callable[[], float] = time.monotonic,
        *,
        is_open: bool = False,
    ) -> None:
        self._metrics = metrics
        self._status = status
        self._runtime = runtime
        self._clock = clock
        self._is_open = is_open
        self._more = [ProcessCollector(registry=None)] if is_open else []
        self._kept: dict[str, tuple[float, bytes, str]] = {}

    def routes(self) -> list[Route]:
        """Return the routes."""
        routes = [Route("/livez", self._livez), Route("/readyz", self._readyz), Route("/metrics", self._render)]
        return routes if self._is_open else [*routes, Route("/healthz", self._healthz)]

    async def _healthz(self, _request: Request) -> Response:
        runtime = self._runtime()
        # Reading the config again takes moments. A failing check would make a supervisor restart the daemon.
        return self._answer(runtime.faults() if runtime else [])

    async def _livez(self, _request: Request) -> Response:
        runtime = self._runtime()
        return self._answer(runtime.dead() if runtime else [])

    async def _readyz(self, _request: Request) -> Response:
        runtime = self._runtime()
        return self._answer(runtime.unready() if runtime else ["the config is being read again"])

    def _answer(self, reasons: list[str]) -> Response:
        if not reasons:
            return JSONResponse({"status": "ok"})
        return JSONResponse({"status": "failing"} | ({} if self._is_open else {"reasons": safe(reasons)}), 503)

    async def _render(self, request: Request) -> Response:
        runtime = self._runtime()
        if runtime is None:
            return PlainTextResponse("the config is being read again\n", 503, {"Retry-After": "1"})
        accept = request.headers.get("accept", "")
        kind = "openmetrics" if "openmetrics" in accept else "text"
        at, body, content_type = self._kept.get(kind, (-RENDERED_S, b"", ""))
        if not self._is_open or self._clock() - at >= RENDERED_S:
            body, content_type = self._metrics.render(await self._status.mirrors(runtime), runtime, accept, *self._more)
            self._kept[kind] = self._clock(), body, content_type
        return Response(body, headers={"Content-Type": content_type})
