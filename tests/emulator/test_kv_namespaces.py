from pathlib import Path
from typing import Any

import pytest

from tests.emulator.harness import ACCOUNT, KV_ROOT, KVClient, emulator, kv_emulator, pair

MISSING = "f" * 32


async def test_a_namespace_is_created_read_renamed_and_deleted() -> None:
    async with emulator() as api:
        made = await api.result("POST", KV_ROOT, json={"title": "Docs"})
        assert made == {"id": made["id"], "title": "Docs", "supports_url_encoding": True}
        at = f"{KV_ROOT}/{made['id']}"
        assert await api.result("GET", at) == made
        assert await api.result("GET", f"{KV_ROOT}/{made['id'].upper()}") == made
        assert await api.result("PUT", at, json={"title": "More"}) == made | {"title": "More"}
        assert await api.result("PUT", at, json={"title": "More"}) == made | {"title": "More"}
        assert await api.result("DELETE", at) == {}
        for method, body in (("GET", None), ("PUT", {"title": "x"}), ("DELETE", None)):
            assert await api.refusal(method, at, json=body) == (404, 10013)


async def test_a_jurisdiction_is_stored() -> None:
    async with emulator() as api:
        made = await api.result("POST", KV_ROOT, json={"title": "Docs", "jurisdiction": "eu"})
        assert (await api.result("GET", f"{KV_ROOT}/{made['id']}"))["jurisdiction"] == "eu"
        assert await api.refusal("POST", KV_ROOT, json={"title": "x", "jurisdiction": "moon"}) == (400, 10001)


async def test_an_existing_title_is_10014() -> None:
    async with kv_emulator() as kv:
        assert await kv.api.refusal("POST", KV_ROOT, json={"title": "docs"}) == (400, 10014)
        other = await kv.api.result("POST", KV_ROOT, json={"title": "Docs"})
        assert await kv.api.refusal("PUT", f"{KV_ROOT}/{other['id']}", json={"title": "docs"}) == (400, 10014)
        elsewhere = KV_ROOT.replace(ACCOUNT, "0" * 32)
        await kv.api.result("POST", elsewhere, json={"title": "docs"})
        assert await kv.api.refusal("GET", f"{elsewhere}/{kv.id}") == (404, 10013)


@pytest.mark.parametrize("body", [{}, {"title": ""}, {"title": 1}, {"title": "é" * 257}, [], "x"])
async def test_a_title_has_1_to_512_bytes(body: Any) -> None:
    async with kv_emulator() as kv:
        assert await kv.api.refusal("POST", KV_ROOT, json=body) == (400, 10001)
        assert await kv.api.refusal("PUT", kv.at, json=body) == (400, 10001)
        assert await kv.api.refusal("POST", KV_ROOT, content=b"{") == (400, 10001)
        await kv.api.result("PUT", kv.at, json={"title": "é" * 256})


async def test_a_malformed_namespace_id_is_10011() -> None:
    async with kv_emulator() as kv:
        for path in ("docs", f"{MISSING}f", "docs/keys", "docs/values/a"):
            assert await kv.api.refusal("GET", f"{KV_ROOT}/{path}") == (400, 10011)


async def test_every_operation_needs_the_namespace() -> None:
    async with kv_emulator() as kv:
        missing = KVClient(kv.api, MISSING)
        for method, path, body in (
            ("GET", "/keys", None),
            ("GET", "/values/a", None),
            ("PUT", "/values/a", "x"),
            ("DELETE", "/values/a", None),
            ("GET", "/metadata/a", None),
            ("PUT", "/bulk", [pair("a")]),
            ("DELETE", "/bulk", ["a"]),
            ("POST", "/bulk/delete", ["a"]),
            ("POST", "/bulk/get", {"keys": ["a"]}),
        ):
            assert await kv.api.refusal(method, missing.at + path, json=body) == (404, 10013)


async def test_namespaces_are_listed_in_pages_in_either_order() -> None:
    async with emulator() as api:
        ids = {t: (await api.result("POST", KV_ROOT, json={"title": t}))["id"] for t in ("b", "c", "a", "e", "d")}

        async def titles(**params: Any) -> list[str]:
            return [row["title"] for row in await api.result("GET", KV_ROOT, params=params)]

        assert await titles(order="title") == ["a", "b", "c", "d", "e"]
        assert await titles(order="title", direction="desc", page=2, per_page=2) == ["c", "b"]
        assert await titles() == await titles(order="id") == sorted(ids, key=lambda title: ids[title])
        assert await titles(page=4, per_page=2) == []
        body = (await api.ask("GET", KV_ROOT, params={"page": 3, "per_page": 2})).json()
        assert body["result_info"] == {"count": 1, "page": 3, "per_page": 2, "total_count": 5}
        assert await api.result("GET", KV_ROOT.replace(ACCOUNT, "0" * 32)) == []


@pytest.mark.parametrize(
    "params", [{"page": 0}, {"page": "x"}, {"per_page": 0}, {"per_page": 1001}, {"order": "size"}, {"direction": "up"}]
)
async def test_parameters_of_the_listing_outside_the_schema_are_10001(params: dict[str, Any]) -> None:
    async with emulator() as api:
        assert await api.refusal("GET", KV_ROOT, params=params) == (400, 10001)


async def test_an_account_has_at_most_1000_namespaces() -> None:
    async with emulator() as api:
        for number in range(1000):
            await api.result("POST", KV_ROOT, json={"title": str(number)})
        assert await api.refusal("POST", KV_ROOT, json={"title": "one more"}) == (400, 10001)


async def test_deleting_a_namespace_deletes_its_entries() -> None:
    async with kv_emulator() as kv:
        await kv.write([pair("a"), pair("b")])
        other = KVClient(kv.api, (await kv.api.result("POST", KV_ROOT, json={"title": "other"}))["id"])
        await other.put("a", b"mine")
        await kv.api.result("DELETE", kv.at)
        again = KVClient(kv.api, (await kv.api.result("POST", KV_ROOT, json={"title": "docs"}))["id"])
        assert await again.names() == []
        assert await other.value("a") == b"mine"


async def test_namespaces_and_values_survive_a_restart_on_the_same_file(tmp_path: Path) -> None:
    store = tmp_path / "emulator.db"
    async with kv_emulator(store=store) as kv:
        await kv.write([pair("a", metadata={"hash": "1"}, expiration_ttl=100)])
        before, _ = await kv.page()
        at = kv.id
    async with emulator(store=store) as api:
        again = KVClient(api, at)
        assert (await again.page())[0] == before
        assert await again.value("a") == b"value"
