"""The request of each method of the Vectorize client, and the values that it returns."""

from array import array
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, NamedTuple

import httpx
import pytest

from syncd.cloudflare.decoding import Page
from syncd.cloudflare.vectorize import (
    IndexInfo,
    Match,
    StoredVector,
    Vectorize,
    VectorizeIndex,
    encode_line,
)
from syncd.core.errors import Conflict, Halt, NotFound, Retry, TargetMissing
from tests.unit.cloudflare.harness import ACCOUNT, BASE, Remote, VirtualTime, asked, bad, html, ok, sent_json

API = f"{BASE}/accounts/{ACCOUNT}/vectorize/v2/indexes"
ONE = f"{API}/my%20docs"
NAME = "my docs"
CONFIG = {"dimensions": 768, "metric": "cosine"}
INDEX = {"name": NAME, "description": "d", "config": CONFIG, "created_on": "2026-11-01T02:03:04.567891Z"}
PAGE = {"vectors": [], "isTruncated": False}
LINES = [encode_line("a", array("f", [1.0]), {}), encode_line("b", array("f", [0.5]), {})]
DONE = {"mutationId": "0000aaaa-11bb-22cc-33dd-444444eeeeee"}


@pytest.fixture
def vectorize(remote: Remote) -> Vectorize:
    return Vectorize(remote.transport())


@pytest.fixture
def docs(remote: Remote) -> VectorizeIndex:
    return VectorizeIndex(remote.transport(), NAME)


class Case(NamedTuple):
    """body: bytes for ndjson, else the JSON; None for no body."""

    call: Callable[[Vectorize, VectorizeIndex], Awaitable[Any]]
    result: Any
    expected: tuple[str, str, dict[str, str]]
    body: Any = None


ACCOUNT_CALLS = [
    Case(lambda v, _: v.list_indexes(), [], ("GET", API, {})),
    Case(
        lambda v, _: v.create_index(NAME, 768),
        INDEX,
        ("POST", API, {}),
        {"name": NAME, "config": {"dimensions": 768, "metric": "cosine"}},
    ),
]
INDEX_CALLS = [
    Case(lambda _, docs: docs.info(), {}, ("GET", f"{ONE}/info", {})),
    Case(lambda _, docs: docs.upsert(LINES), DONE, ("POST", f"{ONE}/upsert", {}), b"".join(LINES)),
    Case(
        lambda _, docs: docs.delete_by_ids(["a", "é"]), DONE, ("POST", f"{ONE}/delete_by_ids", {}), {"ids": ["a", "é"]}
    ),
    Case(lambda _, docs: docs.get_by_ids(["a", "é"]), [], ("POST", f"{ONE}/get_by_ids", {}), {"ids": ["a", "é"]}),
    Case(lambda _, docs: docs.list_vectors(), PAGE, ("GET", f"{ONE}/list", {"count": "1000"})),
    Case(lambda _, docs: docs.list_vectors("c=&"), PAGE, ("GET", f"{ONE}/list", {"count": "1000", "cursor": "c=&"})),
    Case(
        lambda _, docs: docs.query([0.5, 1.0], 3),
        {"matches": []},
        ("POST", f"{ONE}/query", {}),
        {"vector": [0.5, 1.0], "topK": 3, "returnMetadata": "all", "returnValues": False},
    ),
    Case(
        lambda _, docs: docs.query((1.0,), 3, {"key": {"$gte": "a"}}),
        {"matches": []},
        ("POST", f"{ONE}/query", {}),
        {
            "vector": [1.0],
            "topK": 3,
            "filter": {"key": {"$gte": "a"}},
            "returnMetadata": "all",
            "returnValues": False,
        },
    ),
    Case(
        lambda _, docs: docs.create_metadata_index("owner"),
        DONE,
        ("POST", f"{ONE}/metadata_index/create", {}),
        {"propertyName": "owner", "indexType": "string"},
    ),
    Case(lambda _, docs: docs.list_metadata_indexes(), {}, ("GET", f"{ONE}/metadata_index/list", {})),
]
CALLS = ACCOUNT_CALLS + INDEX_CALLS
READS = ("/get_by_ids", "/query")


@pytest.mark.parametrize("case", CALLS)
async def test_each_method_sends_exactly_its_request(
    remote: Remote, vectorize: Vectorize, docs: VectorizeIndex, case: Case
) -> None:
    remote.says(ok(case.result))
    await case.call(vectorize, docs)
    assert [asked(request) for request in remote.requests] == [case.expected]
    sent = remote.requests[0]
    if case.body is None:
        assert not sent.content
        return
    ndjson = isinstance(case.body, bytes)
    assert (sent.content if ndjson else sent_json(sent)) == case.body
    assert sent.headers["content-type"] == ("application/x-ndjson" if ndjson else "application/json")
    assert sent.headers["content-length"] == str(len(sent.content))
    assert "transfer-encoding" not in sent.headers


@pytest.mark.parametrize("case", CALLS)
async def test_only_a_writing_request_counts_as_changing(
    remote: Remote, vectorize: Vectorize, docs: VectorizeIndex, case: Case
) -> None:
    remote.says(ok(case.result))
    await case.call(vectorize, docs)
    reading = case.expected[0] == "GET" or case.expected[1].endswith(READS)
    assert vectorize.transport.counters.changing + docs.transport.counters.changing == (0 if reading else 1)


@pytest.mark.parametrize("case", CALLS)
async def test_all_but_a_creation_is_tried_again_blindly(
    remote: Remote, time: VirtualTime, vectorize: Vectorize, docs: VectorizeIndex, case: Case
) -> None:
    async def whole() -> Any:
        return await case.call(vectorize, docs)

    remote.says(bad(503), ok(case.result))
    if case.expected[:2] == ("POST", API):
        with pytest.raises(Retry) as caught:
            await whole()
        assert caught.value.ambiguous
        return
    await time.run(whole())
    assert len(remote.requests) == 2
    assert remote.requests[0].content == remote.requests[1].content


@pytest.mark.parametrize("case", INDEX_CALLS)
@pytest.mark.parametrize("answer", [bad(404, 3000, "vectorize.index.not_found"), bad(410, 3005)])
async def test_a_missing_index_is_a_missing_target(
    remote: Remote, vectorize: Vectorize, docs: VectorizeIndex, case: Case, answer: httpx.Response
) -> None:
    remote.says(answer)
    with pytest.raises(TargetMissing, match=r"Vectorize index .*create = true"):
        await case.call(vectorize, docs)
    assert len(remote.requests) == 1


@pytest.mark.parametrize("answer", [bad(404), bad(404, 1, "no"), bad(404, 10009), html(404)])
async def test_a_404_without_a_known_code_is_no_missing_index(
    remote: Remote, time: VirtualTime, answer: httpx.Response
) -> None:
    remote.says(answer)
    with pytest.raises(Retry):
        await time.run(VectorizeIndex(remote.transport(retry_for=1), "docs").info())


@pytest.mark.parametrize("case", CALLS)
async def test_refused_access_names_the_permission(
    remote: Remote, vectorize: Vectorize, docs: VectorizeIndex, case: Case
) -> None:
    remote.says(bad(403, 10000))
    with pytest.raises(Halt, match="Account / Vectorize:Edit"):
        await case.call(vectorize, docs)
    assert len(remote.requests) == 1


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_name_that_would_change_the_path_is_refused(remote: Remote, name: str) -> None:
    with pytest.raises(ValueError, match="URL path"):
        VectorizeIndex(remote.transport(), name)


# indexes


async def test_indexes_come_back_as_values(remote: Remote, vectorize: Vectorize) -> None:
    remote.says(ok([INDEX, {"name": "b", "config": None}]))
    assert [index.name for index in await vectorize.list_indexes()] == [NAME, "b"]


@pytest.mark.parametrize("result", [None, {}, [{}], ["a"]])
async def test_a_listing_of_another_shape_is_asked_again(
    remote: Remote, vectorize: Vectorize, time: VirtualTime, result: Any
) -> None:
    remote.says(ok(result), ok([INDEX]))
    assert [index.name for index in await time.run(vectorize.list_indexes())] == [NAME]


@pytest.mark.parametrize("answer", [bad(400, 3002, "vectorize.index.duplicate_name"), bad(409), bad(409, 3002)])
async def test_an_index_that_is_there_conflicts(remote: Remote, vectorize: Vectorize, answer: httpx.Response) -> None:
    remote.says(answer)
    with pytest.raises(Conflict):
        await vectorize.create_index(NAME, 768)


# progress


SEEN = datetime(2026, 11, 22, 1, 2, 3, 400000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ({}, IndexInfo()),
        (
            {
                "dimensions": 768,
                "vectorCount": 7,
                "processedUpToMutation": "m",
                "processedUpToDatetime": "2026-11-22T01:02:03.4Z",
            },
            IndexInfo(768, 7, "m", SEEN),
        ),
        ({"processedUpToDatetime": "2026-11-22T01:02:03.400"}, IndexInfo(processed_up_to=SEEN)),
        ({"processedUpToDatetime": "2026-11-22T03:02:03.400+02:00"}, IndexInfo(processed_up_to=SEEN)),
        ({"processedUpToDatetime": "2026-11-22T01:02:03.400000789Z"}, IndexInfo(processed_up_to=SEEN)),
        ({"processedUpToDatetime": "soon", "processedUpToMutation": 3}, IndexInfo()),
        ({"processedUpToDatetime": None, "processedUpToMutation": None, "vectorCount": None}, IndexInfo()),
        ({"dimensions": 3.0, "vectorCount": "7"}, IndexInfo(3)),
    ],
)
async def test_the_info_has_the_values_that_the_answer_gives(
    remote: Remote, docs: VectorizeIndex, result: dict[str, Any], expected: IndexInfo
) -> None:
    remote.says(ok(result))
    info = await docs.info()
    assert info == expected
    assert info.processed_up_to is None or info.processed_up_to.tzinfo is not None


def test_times_of_other_zones_compare_as_moments() -> None:
    assert SEEN.astimezone(timezone(timedelta(hours=2))) == SEEN


# vectors


WRITES: list[Callable[[VectorizeIndex], Awaitable[str | None]]] = [
    lambda docs: docs.upsert(LINES),
    lambda docs: docs.delete_by_ids(["a"]),
    lambda docs: docs.create_metadata_index("a"),
]


@pytest.mark.parametrize("write", WRITES)
async def test_a_write_gives_the_id_of_its_mutation_if_it_has_one(
    remote: Remote, docs: VectorizeIndex, write: Callable[[VectorizeIndex], Awaitable[str | None]]
) -> None:
    for result, expected in [(DONE, DONE["mutationId"]), ({"mutationId": None}, None), ({}, None), (None, None)]:
        remote.says(ok(result))
        assert await write(docs) == expected


async def test_vectors_come_back_as_values(remote: Remote, docs: VectorizeIndex) -> None:
    full = {"id": "a", "values": [1, 0.5], "metadata": {"n": 1}, "namespace": "ns"}
    remote.says(ok([full, {"id": "b"}, {"id": "c", "values": None, "metadata": None}]))
    assert await docs.get_by_ids(["a", "b", "c", "d"]) == (
        StoredVector("a", {"n": 1}),
        StoredVector("b"),
        StoredVector("c"),
    )


async def test_matches_come_back_as_values(remote: Remote, docs: VectorizeIndex) -> None:
    full = {"id": "a", "score": 0.75, "values": [1], "metadata": {"n": 1}, "namespace": "ns"}
    remote.says(ok({"count": 2, "matches": [full, {"id": "b", "score": 0}]}), ok({"count": 0}))
    assert await docs.query([1.0], 2) == (Match("a", 0.75, {"n": 1}), Match("b", 0.0))
    assert await docs.query([1.0], 2) == ()


async def test_a_match_without_a_score_is_asked_for_again(
    remote: Remote, docs: VectorizeIndex, time: VirtualTime
) -> None:
    remote.says(ok({"matches": [{"id": "a"}]}), ok({"matches": [{"id": "a", "score": 1}]}))
    assert await time.run(docs.query([1.0], 2)) == (Match("a", 1.0),)


async def test_a_page_comes_back_as_a_value(remote: Remote, docs: VectorizeIndex) -> None:
    rows = [{"id": "a"}, {"id": "b"}]
    remote.says(ok({"vectors": rows, "isTruncated": True, "nextCursor": "c", "totalCount": 3}))
    assert await docs.list_vectors() == Page((StoredVector("a"), StoredVector("b")), "c")
    remote.says(ok({"vectors": []}))
    assert await docs.list_vectors() == Page(())


# metadata indexes


async def test_metadata_indexes_come_back_as_values(remote: Remote, docs: VectorizeIndex) -> None:
    rows = [{"propertyName": "owner", "indexType": "string"}, {"propertyName": "n"}]
    remote.says(ok({"metadataIndexes": rows}), ok({"metadataIndexes": None}))
    assert await docs.list_metadata_indexes() == ["owner", "n"]
    assert await docs.list_metadata_indexes() == []


async def test_a_missing_metadata_index_is_not_a_missing_target(remote: Remote, docs: VectorizeIndex) -> None:
    remote.says(bad(404, 40005, "metadata index not found"))
    with pytest.raises(NotFound) as caught:
        await docs.create_metadata_index("owner")
    assert caught.value.code == 40005
