"""Clients of a stand-in in memory, with a clock that only the test moves."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import cloudflare
import httpx
import pytest

from syncd.emulator.options import EmulatorOptions
from syncd.emulator.server import Emulator

ACCOUNT = "0123456789abcdef0123456789abcdef"
ROOT = f"/accounts/{ACCOUNT}/ai-search"
DOCS = f"{ROOT}/instances/docs"
ITEMS = f"{DOCS}/items"
KV_ROOT = f"/accounts/{ACCOUNT}/storage/kv/namespaces"
VECTORIZE_ROOT = f"/accounts/{ACCOUNT}/vectorize/v2/indexes"
NDJSON = {"Content-Type": "application/x-ndjson"}
LAG = 0.25
"""Seconds until a change of an index is visible in vectorize_emulator()."""


class ManualClock:
    """Seconds since 1970 that pass only in sleep() and wait()."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds

    def wait(self, seconds: float) -> None:
        self.now += seconds


class ApiClient:
    """A client of one stand-in, with methods for the AI Search instance "docs"."""

    def __init__(self, app: Emulator, clock: ManualClock) -> None:
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
        """Return the result of a request that must succeed."""
        response = await self.ask(method, path, **options)
        body = response.json()
        assert body["success"] is True, body
        assert response.is_success
        return body["result"]

    async def refusal(self, method: str, path: str, **options: Any) -> tuple[int, int]:
        """Return (HTTP status, code) of a request that must fail."""
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
    """Return the arguments of an upload for httpx."""
    return {"files": {"file": (key, content)}, "data": fields}


def codes(caught: pytest.ExceptionInfo[cloudflare.APIStatusError]) -> list[int | None]:
    """Return the codes of an error that the official SDK raised."""
    return [error.code for error in caught.value.errors]


def counter(app: Emulator) -> Any:
    return app.backend.requests


@asynccontextmanager
async def emulator(**options: Any) -> AsyncIterator[ApiClient]:
    """Yield a client of a stand-in. The instance "docs" exists unless a token is set."""
    clock = ManualClock()
    app = Emulator(EmulatorOptions(**options), clock=clock, sleep=clock.sleep)
    api = ApiClient(app, clock)
    try:
        async with api.client:
            if options.get("token") is None:
                # A store from a former run has the instance already: 400.
                created = await api.ask("POST", f"{ROOT}/instances", json={"id": "docs"})
                assert created.status_code in ((201,) if options.get("store") is None else (201, 400))
            counter(app).reset()
            yield api
    finally:
        app.backend.store.close()


class KVClient:
    """A client of one KV namespace; `at` is its path."""

    def __init__(self, api: ApiClient, namespace_id: str) -> None:
        self.api = api
        self.clock = api.clock
        self.id = namespace_id
        self.at = f"{KV_ROOT}/{namespace_id}"

    def path(self, key: str, kind: str = "values") -> str:
        return f"{self.at}/{kind}/{quote(key, safe='')}"

    async def put(self, key: str, value: bytes = b"value", **params: Any) -> None:
        assert await self.api.result("PUT", self.path(key), content=value, params=params) == {}

    async def get(self, key: str) -> httpx.Response:
        return await self.api.ask("GET", self.path(key))

    async def value(self, key: str) -> bytes | None:
        """Return the value of the key, or None."""
        response = await self.get(key)
        if response.status_code == 404:
            assert response.json()["errors"][0]["code"] == 10009
            return None
        assert response.is_success
        return response.content

    async def metadata(self, key: str) -> Any:
        return await self.api.result("GET", self.path(key, "metadata"))

    async def write(self, pairs: Any) -> Any:
        return await self.api.result("PUT", f"{self.at}/bulk", json=pairs)

    async def write_refused(self, pairs: Any) -> tuple[int, int]:
        return await self.api.refusal("PUT", f"{self.at}/bulk", json=pairs)

    async def drop(self, keys: Any) -> Any:
        return await self.api.result("POST", f"{self.at}/bulk/delete", json=keys)

    async def read(self, keys: list[str], **more: Any) -> Any:
        return (await self.api.result("POST", f"{self.at}/bulk/get", json={"keys": keys, **more}))["values"]

    async def page(self, **params: Any) -> tuple[list[Any], str]:
        body = (await self.api.ask("GET", f"{self.at}/keys", params=params)).json()
        assert body["success"] is True, body
        assert body["result_info"]["count"] == len(body["result"])
        return body["result"], body["result_info"]["cursor"]

    async def names(self, **params: Any) -> list[str]:
        """Return the names of all pages."""
        rows, cursor = await self.page(**params)
        while cursor:
            more, cursor = await self.page(**params, cursor=cursor)
            rows += more
        return [row["name"] for row in rows]


def pair(key: str, value: str = "value", **more: Any) -> dict[str, Any]:
    return {"key": key, "value": value, **more}


def done(count: int, *failed: str) -> dict[str, Any]:
    """Return the result of a bulk request."""
    return {"successful_key_count": count, "unsuccessful_keys": list(failed)}


@asynccontextmanager
async def kv_emulator(**options: Any) -> AsyncIterator[KVClient]:
    """Yield a client of one namespace in a stand-in with these options."""
    async with emulator(**options) as api:
        namespace = await api.result("POST", KV_ROOT, json={"title": "docs"})
        yield KVClient(api, namespace["id"])


class VectorizeClient:
    """A client of one Vectorize index; `at` is its path."""

    def __init__(self, api: ApiClient, name: str) -> None:
        self.api = api
        self.clock = api.clock
        self.at = f"{VECTORIZE_ROOT}/{name}"

    async def send(self, rows: Any, verb: str = "upsert", **params: str) -> str:
        """Send vectors and return the id of the mutation."""
        options = {"content": ndjson(rows), "headers": NDJSON, "params": params}
        return mutation(await self.api.result("POST", f"{self.at}/{verb}", **options))

    async def refused(self, content: bytes, verb: str = "upsert", **params: str) -> tuple[int, int]:
        options = {"content": content, "headers": NDJSON, "params": params}
        return await self.api.refusal("POST", f"{self.at}/{verb}", **options)

    async def put(self, rows: Any, verb: str = "upsert") -> None:
        """Send vectors and wait until they are visible."""
        await self.send(rows, verb)
        self.clock.wait(LAG)

    async def drop(self, *ids: str) -> str:
        return mutation(await self.api.result("POST", f"{self.at}/delete_by_ids", json={"ids": ids}))

    async def get(self, *ids: str) -> list[Any]:
        rows: list[Any] = await self.api.result("POST", f"{self.at}/get_by_ids", json={"ids": ids})
        return rows

    async def info(self) -> Any:
        return await self.api.result("GET", f"{self.at}/info")

    async def page(self, **params: Any) -> Any:
        return await self.api.result("GET", f"{self.at}/list", params=params)

    async def ids(self) -> list[str]:
        return [row["id"] for row in (await self.page(count=1000))["vectors"]]

    async def query(self, *vector: float, **more: Any) -> list[Any]:
        answer = await self.api.result("POST", f"{self.at}/query", json={"vector": vector, **more})
        assert answer["count"] == len(answer["matches"])
        matches: list[Any] = answer["matches"]
        return matches

    async def nearest(self, *vector: float, **more: Any) -> list[str]:
        return [match["id"] for match in await self.query(*vector, **more)]

    async def query_refused(self, **body: Any) -> tuple[int, int]:
        return await self.api.refusal("POST", f"{self.at}/query", json={"vector": [1, 0], **body})

    async def index(self, name: str, kind: str = "string") -> str:
        body = {"propertyName": name, "indexType": kind}
        return mutation(await self.api.result("POST", f"{self.at}/metadata_index/create", json=body))

    async def unindex(self, name: str) -> str:
        body = {"propertyName": name}
        return mutation(await self.api.result("POST", f"{self.at}/metadata_index/delete", json=body))

    async def indexed(self) -> list[Any]:
        rows: list[Any] = (await self.api.result("GET", f"{self.at}/metadata_index/list"))["metadataIndexes"]
        return rows


def row(identifier: str, *values: float, **more: Any) -> dict[str, Any]:
    """Return a vector, by default of two dimensions."""
    return {"id": identifier, "values": values or (1.0, 0.0), **more}


def ndjson(rows: Any) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in rows)


def mutation(result: Any) -> str:
    assert list(result) == ["mutationId"]
    identifier: str = result["mutationId"]
    assert len(identifier) == 36
    return identifier


async def make_index(api: ApiClient, name: str = "docs", dimensions: int = 2, metric: str = "cosine") -> Any:
    body = {"name": name, "config": {"dimensions": dimensions, "metric": metric}}
    return await api.result("POST", VECTORIZE_ROOT, json=body)


@asynccontextmanager
async def vectorize_emulator(
    dimensions: int = 2, metric: str = "cosine", **options: Any
) -> AsyncIterator[VectorizeClient]:
    """Yield a client of one index in a stand-in with these options. Changes are visible after LAG by default."""
    async with emulator(**{"mutation_lag": LAG} | options) as api:
        await make_index(api, "docs", dimensions, metric)
        yield VectorizeClient(api, "docs")
