"""The KV part of a stand-in in memory, for the tests beside this file."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import httpx

from tests.emulator.emulator_world import ACCOUNT, Api, world

ROOT = f"/accounts/{ACCOUNT}/storage/kv/namespaces"


class Kv:
    """A client of one namespace; `at` is its path."""

    def __init__(self, api: Api, namespace_id: str) -> None:
        self.api = api
        self.clock = api.clock
        self.id = namespace_id
        self.at = f"{ROOT}/{namespace_id}"

    def path(self, key: str, kind: str = "values") -> str:
        return f"{self.at}/{kind}/{quote(key, safe='')}"

    async def put(self, key: str, value: bytes = b"value", **params: Any) -> None:
        assert await self.api.result("PUT", self.path(key), content=value, params=params) == {}

    async def get(self, key: str) -> httpx.Response:
        return await self.api.ask("GET", self.path(key))

    async def value(self, key: str) -> bytes | None:
        """None if there is nothing under the key."""
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
        """Every name, over all pages."""
        rows, cursor = await self.page(**params)
        while cursor:
            more, cursor = await self.page(**params, cursor=cursor)
            rows += more
        return [row["name"] for row in rows]


def pair(key: str, value: str = "value", **more: Any) -> dict[str, Any]:
    return {"key": key, "value": value, **more}


def done(count: int, *failed: str) -> dict[str, Any]:
    return {"successful_key_count": count, "unsuccessful_keys": list(failed)}


@asynccontextmanager
async def kv_world(**options: Any) -> AsyncIterator[Kv]:
    """A stand-in with these options and one namespace."""
    async with world(**options) as api:
        made = await api.result("POST", ROOT, json={"title": "docs"})
        yield Kv(api, made["id"])
