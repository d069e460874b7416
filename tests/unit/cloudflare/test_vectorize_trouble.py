"""Vectorize listings that do not end, and requests that are too much."""

from array import array
from collections.abc import Callable, Coroutine
from typing import Any

import httpx
import pytest

from syncd.cloudflare import decoding
from syncd.cloudflare.vectorize import VectorizeIndex, encode_line
from syncd.core.errors import Halt, Park, Retry, TargetMissing, TooMuch
from tests.unit.cloudflare.harness import Remote, VirtualTime, bad, html, ok, sent_json


@pytest.fixture
def docs(remote: Remote) -> VectorizeIndex:
    return VectorizeIndex(remote.transport(), "docs")


def lines(*ids: str) -> list[bytes]:
    return [encode_line(each, array("f", [1.0]), {}) for each in ids]


# listings


def page(*ids: str, **more: Any) -> httpx.Response:
    return ok({"vectors": [{"id": each} for each in ids], **more})


async def ids(docs: VectorizeIndex) -> list[str]:
    return [each async for each in docs.iter_ids()]


async def test_the_cursor_alone_says_where_a_listing_ends(remote: Remote, docs: VectorizeIndex) -> None:
    remote.says(
        page("a", "b", isTruncated=True, nextCursor="1", totalCount=1),
        page(isTruncated=True, nextCursor="2"),
        page(nextCursor="3"),
        page("c", isTruncated=False),
    )
    assert await ids(docs) == ["a", "b", "c"]
    assert [dict(request.url.params) for request in remote.requests] == [
        {"count": "1000"} | ({"cursor": cursor} if cursor else {}) for cursor in ("", "1", "2", "3")
    ]


@pytest.mark.parametrize(
    "end",
    [{}, {"isTruncated": False}, {"nextCursor": None}, {"nextCursor": ""}, {"isTruncated": False, "nextCursor": "2"}],
)
async def test_every_way_to_say_the_end_is_understood(
    remote: Remote, docs: VectorizeIndex, end: dict[str, Any]
) -> None:
    remote.says(page("a", isTruncated=True, nextCursor="1"), page("b", **end))
    assert await ids(docs) == ["a", "b"]
    assert len(remote.requests) == 2


@pytest.mark.parametrize("result", [{}, None, [], {"vectors": None}])
async def test_a_page_of_another_shape_is_asked_again(
    remote: Remote, docs: VectorizeIndex, time: VirtualTime, result: Any
) -> None:
    remote.says(ok(result), page("a"))
    assert await time.run(ids(docs)) == ["a"]


async def test_a_row_that_cannot_be_read_is_a_fault_and_keeps_no_other_back(
    remote: Remote, docs: VectorizeIndex
) -> None:
    odd: list[Any] = ["a", {}, {"id": 5}, {"id": ""}, None]
    remote.says(ok({"vectors": [{"id": "a"}, *odd, {"id": "b"}], "isTruncated": False}))
    assert await ids(docs) == ["a", "b"]
    assert len(docs.faults) == len(odd)


async def test_a_listing_that_goes_on_without_a_cursor_does_not_read_as_whole(
    remote: Remote, docs: VectorizeIndex, time: VirtualTime
) -> None:
    remote.says(page("a", isTruncated=True))
    with pytest.raises(Retry, match="no cursor"):
        await time.run(ids(docs))


@pytest.mark.parametrize("cursors", [["1", "1"], ["1", "2", "1"], ["1", "2", "3", "2"]])
async def test_a_cursor_that_comes_again_does_not_trap_us(
    remote: Remote, docs: VectorizeIndex, cursors: list[str]
) -> None:
    remote.says(*(page(isTruncated=True, nextCursor=cursor) for cursor in cursors))
    with pytest.raises(Retry, match="gave before"):
        await ids(docs)
    assert len(remote.requests) == len(cursors)


async def test_a_listing_that_never_ends_is_an_error(
    remote: Remote, docs: VectorizeIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "PAGES_LIMIT", 3)
    remote.says(lambda request: page(nextCursor=dict(request.url.params).get("cursor", "") + "x"))
    with pytest.raises(Retry, match="does not end"):
        await ids(docs)
    assert len(remote.requests) == 3


@pytest.mark.parametrize("answer", [bad(400, 40001, "cursor expired"), bad(410), bad(409)])
async def test_a_cursor_that_expires_half_way_is_worth_another_listing(
    remote: Remote, docs: VectorizeIndex, answer: httpx.Response
) -> None:
    remote.says(page("a", isTruncated=True, nextCursor="1"), answer)
    with pytest.raises(Retry, match="half-way") as caught:
        await ids(docs)
    assert caught.value.status == answer.status_code
    remote.says(answer)
    with pytest.raises(Park):
        await ids(docs)


async def test_an_index_that_goes_half_way_is_a_missing_target(remote: Remote, docs: VectorizeIndex) -> None:
    remote.says(page("a", isTruncated=True, nextCursor="1"), bad(404, 3000))
    with pytest.raises(TargetMissing):
        await ids(docs)


# limits


Call = Callable[[VectorizeIndex, int], Coroutine[Any, Any, Any]]


async def delete(docs: VectorizeIndex, count: int) -> Any:
    return await docs.delete_by_ids([str(number) for number in range(count)])


async def get(docs: VectorizeIndex, count: int) -> Any:
    return await docs.get_by_ids([str(number) for number in range(count)])


# too much at once


async def upsert(docs: VectorizeIndex, count: int) -> Any:
    return await docs.upsert(lines(*map(str, range(count))))


@pytest.mark.parametrize("call", [upsert, delete, get])
@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (bad(413), 413),
        (html(413), 413),
        (bad(400, 40006, "too many vectors in payload"), 400),
        (bad(400, 40007, "too many ids in payload"), 400),
        (bad(504), 504),
        (html(504), 504),
        (html(524), 524),
    ],
)
async def test_a_request_that_is_too_much_is_not_repeated(
    remote: Remote, docs: VectorizeIndex, call: Call, answer: httpx.Response, status: int
) -> None:
    remote.says(answer)
    with pytest.raises(TooMuch, match="2 vectors") as caught:
        await call(docs, 2)
    assert (caught.value.kind, caught.value.status) == ("too_large", status)
    assert len(remote.requests) == 1


@pytest.mark.parametrize("call", [upsert, delete, get])
async def test_one_vector_is_never_too_much(
    remote: Remote, docs: VectorizeIndex, time: VirtualTime, call: Call
) -> None:
    for answer in (bad(413), bad(400, 40006), bad(400, 40007)):
        remote.says(answer)
        with pytest.raises(Park) as caught:
            await call(docs, 1)
        assert type(caught.value) is Park
    remote.says(html(504), ok([] if call is get else {}))
    await time.run(call(docs, 1))
    remote.says(html(524))
    with pytest.raises(Retry) as failure:
        await time.run(call(docs, 1))
    assert failure.value.status == 524


@pytest.mark.parametrize(
    ("answer", "kind"),
    [(bad(400, 40008), Park), (bad(400, 40016), Park), (bad(400, 40023), Park), (bad(400, 40012), Halt)],
)
async def test_an_error_that_fewer_vectors_do_not_avoid_is_not_too_much(
    remote: Remote, docs: VectorizeIndex, answer: httpx.Response, kind: type[Exception]
) -> None:
    remote.says(answer)
    with pytest.raises(kind) as caught:
        await upsert(docs, 2)
    assert type(caught.value) is kind


async def test_a_query_of_other_dimensions_is_no_halving_matter(remote: Remote, docs: VectorizeIndex) -> None:
    remote.says(bad(400, 40006, "invalid query vector, expected 768 dimensions, and got 1 dimensions"))
    with pytest.raises(Park, match="expected 768") as caught:
        await docs.query([1.0], 3)
    assert type(caught.value) is Park


async def test_a_throttled_write_is_sent_again(remote: Remote, docs: VectorizeIndex, time: VirtualTime) -> None:
    remote.says(bad(400, 40041, "Too Many Requests"), bad(429, 40041), ok({"mutationId": "m"}))
    assert await time.run(upsert(docs, 2)) == "m"
    assert len(remote.requests) == 3


@pytest.mark.parametrize("call", [upsert, delete])
async def test_a_write_outlasts_the_edge(remote: Remote, docs: VectorizeIndex, call: Call) -> None:
    remote.says(ok({}))
    await call(docs, 1)
    assert remote.requests[0].extensions["timeout"]["read"] == 120  # the edge gives up after 100
    remote.says(ok([]))
    await get(docs, 1)
    assert remote.requests[1].extensions["timeout"]["read"] == 60


@pytest.mark.parametrize("result", ["text", [], 7])
async def test_a_result_that_cannot_be_read_is_no_success(
    remote: Remote, docs: VectorizeIndex, time: VirtualTime, result: Any
) -> None:
    remote.says(ok(result), ok({"mutationId": "m"}))
    assert await time.run(delete(docs, 1)) == "m"
    assert sent_json(remote.requests[0]) == sent_json(remote.requests[1])
