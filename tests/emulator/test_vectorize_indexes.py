from typing import Any

import pytest

from tests.emulator.harness import (
    ACCOUNT,
    LAG,
    VECTORIZE_ROOT,
    VectorizeClient,
    emulator,
    make_index,
    row,
    vectorize_emulator,
)

CONFIG = {"dimensions": 3, "metric": "cosine"}


async def test_an_index_is_created_read_listed_and_deleted() -> None:
    async with emulator() as api:
        made = await api.result("POST", VECTORIZE_ROOT, json={"name": "docs", "description": "All", "config": CONFIG})
        assert made == {
            "name": "docs",
            "description": "All",
            "config": CONFIG,
            "created_on": made["created_on"],
            "modified_on": made["created_on"],
        }
        assert await api.result("GET", f"{VECTORIZE_ROOT}/docs") == made
        other = await make_index(api, "a-b_2")
        assert await api.result("GET", VECTORIZE_ROOT) == [other, made]
        assert await api.result("DELETE", f"{VECTORIZE_ROOT}/docs") is None
        assert await api.result("GET", VECTORIZE_ROOT) == [other]


async def test_an_index_of_another_account_does_not_exist() -> None:
    async with vectorize_emulator() as index:
        elsewhere = VECTORIZE_ROOT.replace(ACCOUNT, "f" * 32)
        assert await index.api.result("GET", elsewhere) == []
        assert await index.api.refusal("GET", f"{elsewhere}/docs") == (404, 3000)


@pytest.mark.parametrize(
    ("method", "below"),
    [
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/info"),
        ("GET", "/list"),
        ("GET", "/metadata_index/list"),
        ("POST", "/get_by_ids"),
        ("POST", "/delete_by_ids"),
        ("POST", "/query"),
        ("POST", "/metadata_index/create"),
        ("POST", "/metadata_index/delete"),
    ],
)
async def test_an_unknown_index_is_3000_and_a_deleted_index_is_3005(method: str, below: str) -> None:
    body = {"ids": ["a"], "vector": [1, 0], "propertyName": "p", "indexType": "string"}
    options: dict[str, Any] = {"json": body} if method == "POST" else {}
    async with vectorize_emulator() as index:
        assert await index.api.refusal(method, f"{VECTORIZE_ROOT}/never{below}", **options) == (404, 3000)
        await index.api.result("DELETE", index.at)
        assert await index.api.refusal(method, f"{index.at}{below}", **options) == (410, 3005)


async def test_an_existing_name_is_3002_and_available_again_after_the_delete() -> None:
    async with vectorize_emulator() as index:
        await index.put([row("a")])
        await index.index("p")
        await index.send([row("b")])
        body = {"name": "docs", "config": CONFIG}
        assert await index.api.refusal("POST", VECTORIZE_ROOT, json=body) == (400, 3002)
        await index.api.result("DELETE", index.at)
        await index.api.result("POST", VECTORIZE_ROOT, json=body)
        index.clock.wait(LAG)
        assert await index.info() == {
            "dimensions": 3,
            "vectorCount": 0,
            "processedUpToMutation": None,
            "processedUpToDatetime": None,
        }
        assert await index.ids() == []
        assert await index.indexed() == []


@pytest.mark.parametrize("name", ["ab", "a" * 64, "a-_9"])
async def test_a_name_of_2_to_64_characters_is_accepted(name: str) -> None:
    async with emulator() as api:
        assert (await make_index(api, name))["name"] == name


@pytest.mark.parametrize("name", [None, 1, "", "a", "a" * 65, "1ab", "ab-", "Ab", "a b", "ä2", "ab\n"])
async def test_an_invalid_name_is_refused(name: Any) -> None:
    async with emulator() as api:
        assert await api.refusal("POST", VECTORIZE_ROOT, json={"name": name, "config": CONFIG}) == (400, 10400)


@pytest.mark.parametrize("dimensions", [1, 1535, 1536])
@pytest.mark.parametrize("metric", ["cosine", "euclidean", "dot-product"])
async def test_an_index_has_1_to_1536_dimensions(dimensions: int, metric: str) -> None:
    async with vectorize_emulator(dimensions, metric) as index:
        assert (await index.info())["dimensions"] == dimensions
        shown = await index.api.result("GET", index.at)
        assert shown["config"] == {"dimensions": dimensions, "metric": metric}


@pytest.mark.parametrize(
    "config",
    [
        None,
        [],
        {},
        {"dimensions": 0, "metric": "cosine"},
        {"dimensions": 1537, "metric": "cosine"},
        {"dimensions": 2.5, "metric": "cosine"},
        {"dimensions": True, "metric": "cosine"},
        {"dimensions": 2, "metric": "manhattan"},
        {"dimensions": 2},
        {"preset": "unknown"},
        {"preset": 1},
    ],
)
async def test_an_invalid_config_is_refused(config: Any) -> None:
    async with emulator() as api:
        assert await api.refusal("POST", VECTORIZE_ROOT, json={"name": "docs", "config": config}) == (400, 10400)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"name": "docs", "description": 1}'])
async def test_an_invalid_body_is_400(body: bytes) -> None:
    async with emulator() as api:
        status, _ = await api.refusal("POST", VECTORIZE_ROOT, content=body)
        assert status == 400


async def test_a_preset_defines_dimensions_and_metric() -> None:
    async with emulator() as api:
        body = {"name": "docs", "config": {"preset": "@cf/baai/bge-base-en-v1.5"}}
        made = await api.result("POST", VECTORIZE_ROOT, json=body)
        assert made["config"] == {"preset": "@cf/baai/bge-base-en-v1.5", "dimensions": 768, "metric": "cosine"}


async def test_a_metadata_index_and_its_removal_are_visible_after_the_lag() -> None:
    async with vectorize_emulator() as index:
        await index.index("folder")
        made = await index.index("size", "number")
        assert await index.indexed() == []
        index.clock.wait(LAG)
        both = [
            {"propertyName": "folder", "indexType": "string"},
            {"propertyName": "size", "indexType": "number"},
        ]
        assert await index.indexed() == both
        assert (await index.info())["processedUpToMutation"] == made
        await index.unindex("size")
        assert await index.indexed() == both
        index.clock.wait(LAG)
        assert await index.indexed() == both[:1]


async def test_a_metadata_index_may_be_created_again_with_another_type() -> None:
    async with vectorize_emulator() as index:
        for kind in ("string", "string", "boolean"):
            await index.index("folder", kind)
        index.clock.wait(LAG)
        assert await index.indexed() == [{"propertyName": "folder", "indexType": "boolean"}]


async def test_an_index_has_at_most_10_metadata_indexes_including_pending_ones() -> None:
    async with vectorize_emulator() as index:
        for number in range(9):
            await index.index(f"p{number}")
        index.clock.wait(LAG)
        await index.index("p9")
        eleventh = {"propertyName": "p10", "indexType": "string"}
        at = f"{index.at}/metadata_index/create"
        assert await index.api.refusal("POST", at, json=eleventh) == (400, 10400)
        await index.index("p3", "number")
        await index.unindex("p0")
        await index.index("p10")
        index.clock.wait(LAG)
        assert len(await index.indexed()) == 10


async def test_removing_an_unknown_metadata_index_is_40005() -> None:
    async with vectorize_emulator() as index:
        at = f"{index.at}/metadata_index/delete"
        assert await index.api.refusal("POST", at, json={"propertyName": "p"}) == (400, 40005)
        await index.index("p")
        await index.unindex("p")
        assert await index.api.refusal("POST", at, json={"propertyName": "p"}) == (400, 40005)


@pytest.mark.parametrize(
    "body",
    [
        {"indexType": "string"},
        {"propertyName": "p"},
        {"propertyName": "p", "indexType": "date"},
        {"propertyName": "p", "indexType": ["string"]},
        *({"propertyName": name, "indexType": "string"} for name in ("", "$p", 'p"', "a..b", ".a", 1, "p" * 513)),
    ],
)
async def test_an_invalid_metadata_index_is_refused(body: Any) -> None:
    async with vectorize_emulator() as index:
        await index.index("p" * 512)
        assert await index.api.refusal("POST", f"{index.at}/metadata_index/create", json=body) == (400, 10400)


async def test_reads_of_vectorize_do_not_count_as_changing() -> None:
    async with vectorize_emulator() as index:
        index.api.app.backend.requests.reset()
        await index.send([row("a")])
        await index.get("a")
        await index.query(1, 0)
        await index.info()
        template = "/accounts/{account_id}/vectorize/v2/indexes/{index_name}"
        assert index.api.app.backend.requests.as_json() == {
            "total": 4,
            "changing": 1,
            "embedded_texts": 0,
            "routes": {
                f"POST {template}/upsert": 1,
                f"POST {template}/get_by_ids": 1,
                f"POST {template}/query": 1,
                f"GET {template}/info": 1,
            },
        }


async def test_indexes_are_independent() -> None:
    async with vectorize_emulator() as index:
        await make_index(index.api, "other")
        other = VectorizeClient(index.api, "other")
        await index.send([row("a")])
        await other.put([row("b"), row("c")])
        await index.api.result("DELETE", other.at)
        assert await index.ids() == ["a"]
