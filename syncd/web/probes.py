"""The routes for programs: /healthz, /livez, /readyz and /metrics, also at an address of their own.

That address may be open to other machines. It shows no page, no names of files and no secrets, and changes nothing.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from syncd.service.runtime import Runtime
from syncd.web.metrics import Metrics
from syncd.web.view import StatusCache, safe

RENDERED_S = 1.0
"""Seconds for which the text of the metrics is kept, so that many requests cost no more than one."""


class Probes:
    """The routes. runtime: returns the objects at work, or None between two configurations."""

    def __init__(self, metrics: Metrics, status: StatusCache, runtime: Callable[[], Runtime | None]) -> None:
        self._metrics = metrics
        self._status = status
        self._runtime = runtime

    def routes(self) -> list[Route]:
        """Return the routes for the address of the page, which only this machine reaches."""
        return [
            Route("/healthz", self._healthz),
            Route("/livez", self._livez),
            Route("/readyz", self._readyz),
            Route("/metrics", self._render),
        ]

    async def _healthz(self, _request: Request) -> Response:
        runtime = self._runtime()
        # Reading the config again takes moments. A failing check would make a supervisor restart the daemon.
        return _answer(runtime.faults() if runtime else [])

    async def _livez(self, _request: Request) -> Response:
        runtime = self._runtime()
        return _answer(runtime.dead() if runtime else [])

    async def _readyz(self, _request: Request) -> Response:
        runtime = self._runtime()
        return _answer(runtime.unready() if runtime else ["the config is being read again"])

    async def _render(self, request: Request) -> Response:
        runtime = self._runtime()
        if runtime is None:
            return _reloading()
        return _text(*await rendered(self._metrics, self._status, runtime, request))


class OpenProbes:
    """The routes of `web.metrics_listen`. Its answers hold no reasons, which may quote names of files."""

    def __init__(
        self,
        metrics: Metrics,
        runtime: Callable[[], Runtime | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._metrics = metrics
        self._runtime = runtime
        self._clock = clock
        self._status = StatusCache(clock)
        self._process = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._process)
        self._kept: dict[str, tuple[float, bytes, str]] = {}
        routes = {"/livez": self._livez, "/readyz": self._readyz, "/metrics": self._render}
        self.asgi = Starlette(routes=[Route(path, answer) for path, answer in routes.items()])

    async def _livez(self, _request: Request) -> Response:
        runtime = self._runtime()
        return _verdict(bool(runtime and runtime.dead()))

    async def _readyz(self, _request: Request) -> Response:
        runtime = self._runtime()
        return _verdict(runtime is None or bool(runtime.unready()))

    async def _render(self, request: Request) -> Response:
        runtime = self._runtime()
        if runtime is None:
            return _reloading()
        kind = "openmetrics" if "openmetrics" in request.headers.get("accept", "") else "text"
        at, body, content_type = self._kept.get(kind, (-RENDERED_S, b"", ""))
        if self._clock() - at >= RENDERED_S:
            body, content_type = await rendered(self._metrics, self._status, runtime, request, self._process)
            self._kept[kind] = self._clock(), body, content_type
        return _text(body, content_type)


async def rendered(
    metrics: Metrics, status: StatusCache, runtime: Runtime, request: Request, *more: CollectorRegistry
) -> tuple[bytes, str]:
    """Return the metrics as text, and its content type. more: registries whose metrics follow."""
    mirrors: Mapping[str, Any] = await status.mirrors(runtime)
    return metrics.render(mirrors, runtime, request.headers.get("accept", ""), *more)


def _text(body: bytes, content_type: str) -> Response:
    return Response(body, headers={"Content-Type": content_type})


def _reloading() -> Response:
    return PlainTextResponse("the config is being read again\n", 503, {"Retry-After": "1"})


def _answer(reasons: list[str]) -> Response:
    if reasons:
        return JSONResponse({"status": "failing", "reasons": safe(reasons)}, 503)
    return JSONResponse({"status": "ok"})


def _verdict(failing: bool) -> Response:
    return JSONResponse({"status": "failing" if failing else "ok"}, 503 if failing else 200)
