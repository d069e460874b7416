"""The Vectorize part of a stand-in in memory, for the tests beside this file."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.emulator.emulator_world import ACCOUNT, Api, world

ROOT = f"/accounts/{ACCOUNT}/vectorize/v2/indexes"
NDJSON = {"Content-Type": "application/x-ndjson"}
LAG = 0.25


class Vectorize:
    """A client of one index; `at` is its path."""

    def __init__(self, api: Api, name: str) -> None:
        self.api = api
        self.clock = api.clock
        self.at = f"{ROOT}/{name}"

    async def send(self, rows: Any, verb: str = "upsert", **params: str) -> str:
        """The mutation's id."""
        options = {"content": ndjson(rows), "headers": NDJSON, "params": params}
        result = await self.api.result("POST", f"{self.at}/{verb}", **options)
        return mutation(result)

    async def refused(self, content: bytes, verb: str = "upsert", **params: str) -> tuple[int, int]:
        options = {"content": content, "headers": NDJSON, "params": params}
        return await self.api.refusal("POST", f"{self.at}/{verb}", **options)

    async def put(self, rows: Any, verb: str = "upsert") -> None:
        """Sends vectors and waits until they are seen."""
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
    """A vector; of two dimensions unless told."""
    return {"id": identifier, "values": values or (1.0, 0.0), **more}


def ndjson(rows: Any) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in rows)


def mutation(result: Any) -> str:
    assert list(result) == ["mutationId"]
    identifier: str = result["mutationId"]
    assert len(identifier) == 36
    return identifier


async def make(api: Api, name: str = "docs", dimensions: int = 2, metric: str = "cosine") -> Any:
    return await api.result("POST", ROOT, json={"name": name, "config": {"dimensions": dimensions, "metric": metric}})


@asynccontextmanager
async def vectorize_world(dimensions: int = 2, metric: str = "cosine", **options: Any) -> AsyncIterator[Vectorize]:
    """A stand-in with these options and one index, whose changes are seen LAG seconds later unless told."""
    async with world(**{"mutation_lag": LAG} | options) as api:
        await make(api, "docs", dimensions, metric)
        yield Vectorize(api, "docs")
