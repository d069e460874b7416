"""A stand-in in memory, with a clock that moves when told, for the tests beside this file."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from starlette.applications import Starlette

from syncd.emulator.app import create_app
from syncd.emulator.options import EmulatorOptions

ACCOUNT = "0123456789abcdef0123456789abcdef"
ROOT = f"/accounts/{ACCOUNT}/ai-search"
DOCS = f"{ROOT}/instances/docs"
ITEMS = f"{DOCS}/items"


class Clock:
    """Seconds since 1970 that pass only in `sleep`."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds

    def wait(self, seconds: float) -> None:
        self.now += seconds


class Api:
    """A client of one stand-in; `docs` is an instance that exists."""

    def __init__(self, app: Starlette, clock: Clock) -> None:
        self.app = app
        self.clock = clock
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app),
            base_url="http://127.0.0.1/client/v4",
            headers={"Authorization": "Bearer token"},
        )

    async def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        return await self.client.request(method, path, **options)

    async def result(self, method: str, path: str, **options: Any) -> Any:
        response = await self.ask(method, path, **options)
        body = response.json()
        assert body["success"] is True, body
        assert response.is_success
        return body["result"]

    async def refusal(self, method: str, path: str, **options: Any) -> tuple[int, int]:
        """(HTTP status, code) of a request that must fail."""
        response = await self.ask(method, path, **options)
        body = response.json()
        assert body["success"] is False
        assert body["result"] is None
        assert body["messages"] == []
        return response.status_code, body["errors"][0]["code"]

    async def upload(self, key: str, content: bytes = b"some text", **fields: str) -> Any:
        return await self.result("POST", ITEMS, **form(key, content, **fields))

    async def listed(self, **params: Any) -> list[Any]:
        rows: list[Any] = await self.result("GET", ITEMS, params=params)
        return rows

    async def item(self, item_id: str) -> Any:
        return await self.result("GET", f"{ITEMS}/{item_id}")

    async def search(self, query: str, **retrieval: Any) -> list[Any]:
        body = {"query": query, "ai_search_options": {"retrieval": retrieval}}
        chunks: list[Any] = (await self.result("POST", f"{DOCS}/search", json=body))["chunks"]
        return chunks


def form(key: str, content: bytes = b"some text", **fields: str) -> dict[str, Any]:
    return {"files": {"file": (key, content)}, "data": fields}


def counter(app: Starlette) -> Any:
    return app.state.requests


@asynccontextmanager
async def world(**options: Any) -> AsyncIterator[Api]:
    """A stand-in with these options and, unless create_instances says so itself, the instance "docs"."""
    clock = Clock()
    app = create_app(EmulatorOptions(**options), clock=clock, sleep=clock.sleep)
    api = Api(app, clock)
    try:
        async with api.client:
            if not options.get("create_instances") and options.get("token") is None:
                await api.result("POST", f"{ROOT}/instances", json={"id": "docs"})
            counter(app).reset()
            yield api
    finally:
        app.state.backend.store.close()
