from typing import Any

import pytest

from syncd.emulator.options import EmulatorOptions
from tests.emulator.emulator_world import ACCOUNT, world
from tests.emulator.vectorize_world import LAG, ROOT, Vectorize, make, row, vectorize_world

CONFIG = {"dimensions": 3, "metric": "cosine"}


async def test_an_index_is_made_read_listed_and_deleted() -> None:
    async with world() as api:
        made = await api.result("POST", ROOT, json={"name": "docs", "description": "All", "config": CONFIG})
        assert made == {
            "name": "docs",
            "description": "All",
            "config": CONFIG,
            "created_on": made["created_on"],
            "modified_on": made["created_on"],
        }
        assert await api.result("GET", f"{ROOT}/docs") == made
        other = await make(api, "a-b_2")
        assert await api.result("GET", ROOT) == [other, made]
        assert await api.result("DELETE", f"{ROOT}/docs") is None
        assert await api.result("GET", ROOT) == [other]


async def test_an_index_of_another_account_is_not_there() -> None:
    async with vectorize_world() as index:
        elsewhere = ROOT.replace(ACCOUNT, "f" * 32)
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
async def test_a_name_never_used_is_3000_and_one_deleted_is_3005(method: str, below: str) -> None:
    body = {"ids": ["a"], "vector": [1, 0], "propertyName": "p", "indexType": "string"}
    options: dict[str, Any] = {"json": body} if method == "POST" else {}
    async with vectorize_world() as index:
        assert await index.api.refusal(method, f"{ROOT}/never{below}", **options) == (404, 3000)
        await index.api.result("DELETE", index.at)
        assert await index.api.refusal(method, f"{index.at}{below}", **options) == (410, 3005)


async def test_a_name_that_is_taken_is_3002_and_free_again_after_the_delete() -> None:
    async with vectorize_world() as index:
        await index.put([row("a")])
        await index.index("p")
        await index.send([row("b")])
        body = {"name": "docs", "config": CONFIG}
        assert await index.api.refusal("POST", ROOT, json=body) == (400, 3002)
        await index.api.result("DELETE", index.at)
        await index.api.result("POST", ROOT, json=body)
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
async def test_a_name_of_2_to_64_characters_is_taken(name: str) -> None:
    async with world() as api:
        assert (await make(api, name))["name"] == name


@pytest.mark.parametrize("name", [None, 1, "", "a", "a" * 65, "1ab", "ab-", "Ab", "a b", "ä2", "ab\n"])
async def test_any_other_name_is_refused(name: Any) -> None:
    async with world() as api:
        assert await api.refusal("POST", ROOT, json={"name": name, "config": CONFIG}) == (400, 10400)


@pytest.mark.parametrize("dimensions", [1, 1535, 1536])
@pytest.mark.parametrize("metric", ["cosine", "euclidean", "dot-product"])
async def test_an_index_has_1_to_1536_dimensions(dimensions: int, metric: str) -> None:
    async with vectorize_world(dimensions, metric) as index:
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
async def test_any_other_config_is_refused(config: Any) -> None:
    async with world() as api:
        assert await api.refusal("POST", ROOT, json={"name": "docs", "config": config}) == (400, 10400)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"name": "docs", "description": 1}'])
async def test_a_body_that_cannot_be_one_is_400(body: bytes) -> None:
    async with world() as api:
        status, _ = await api.refusal("POST", ROOT, content=body)
        assert status == 400


async def test_a_preset_says_dimensions_and_metric() -> None:
    async with world() as api:
        body = {"name": "docs", "config": {"preset": "@cf/baai/bge-base-en-v1.5"}}
        made = await api.result("POST", ROOT, json=body)
        assert made["config"] == {"preset": "@cf/baai/bge-base-en-v1.5", "dimensions": 768, "metric": "cosine"}


async def test_a_metadata_index_is_seen_after_the_lag_and_so_is_its_removal() -> None:
    async with vectorize_world() as index:
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


async def test_a_metadata_index_may_be_made_again_and_of_another_type() -> None:
    async with vectorize_world() as index:
        for kind in ("string", "string", "boolean"):
            await index.index("folder", kind)
        index.clock.wait(LAG)
        assert await index.indexed() == [{"propertyName": "folder", "indexType": "boolean"}]


async def test_an_index_has_at_most_10_metadata_indexes_those_on_their_way_included() -> None:
    async with vectorize_world() as index:
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


async def test_removing_a_metadata_index_that_is_not_there_is_40005() -> None:
    async with vectorize_world() as index:
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
async def test_other_metadata_indexes_are_refused(body: Any) -> None:
    async with vectorize_world() as index:
        await index.index("p" * 512)
        assert await index.api.refusal("POST", f"{index.at}/metadata_index/create", json=body) == (400, 10400)


async def test_looking_is_not_counted_as_changing_and_every_endpoint_has_its_line() -> None:
    async with vectorize_world() as index:
        index.api.app.state.requests.reset()
        await index.send([row("a")])
        await index.get("a")
        await index.query(1, 0)
        await index.info()
        template = "/accounts/{account_id}/vectorize/v2/indexes/{index_name}"
        assert index.api.app.state.requests.as_json() == {
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


def test_a_lag_below_zero_is_named() -> None:
    with pytest.raises(ValueError, match="mutation_lag"):
        EmulatorOptions(mutation_lag=-0.1)


async def test_two_indexes_keep_to_themselves() -> None:
    async with vectorize_world() as index:
        await make(index.api, "other")
        other = Vectorize(index.api, "other")
        await index.send([row("a")])
        await other.put([row("b"), row("c")])
        await index.api.result("DELETE", other.at)
        assert await index.ids() == ["a"]
