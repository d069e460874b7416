"""Listings that do not end, bulks that fail in part, and bulks that are too much."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from syncd.cloudflare import decoding
from syncd.cloudflare import transport as transport_module
from syncd.cloudflare.kv import KV, KVNamespace
from syncd.cloudflare.kv_bodies import BulkBody
from syncd.core.errors import Halt, Park, Retry, TooMuch
from tests.unit.cloudflare.harness import Remote, VirtualTime, bad, body_of, html, ok, sent_json


@pytest.fixture
def kv(remote: Remote) -> KV:
    return KV(remote.transport())


@pytest.fixture
def docs(remote: Remote) -> KVNamespace:
    return KVNamespace(remote.transport(), "id")


# listings of keys


async def names(docs: KVNamespace, prefix: str = "") -> list[str]:
    return [key.name async for key in docs.iter_keys(prefix)]


async def test_the_cursor_alone_says_where_a_listing_ends(remote: Remote, docs: KVNamespace) -> None:
    remote.says(
        ok([{"name": "d/a"}], cursor="1"),
        ok([], cursor="2"),
        ok([], cursor="3"),
        ok([{"name": "d/b"}, {"name": "d/c"}], cursor=""),
    )
    assert await names(docs, "d/") == ["d/a", "d/b", "d/c"]
    assert [dict(request.url.params) for request in remote.requests] == [
        {"limit": "1000", "prefix": "d/"} | ({"cursor": cursor} if cursor else {}) for cursor in ("", "1", "2", "3")
    ]


@pytest.mark.parametrize("end", [ok([]), ok([], cursor=""), ok([], cursor=None), ok([], count=0)])
async def test_every_way_to_say_the_end_is_understood(remote: Remote, docs: KVNamespace, end: httpx.Response) -> None:
    remote.says(ok([{"name": "a"}], cursor="1"), end)
    assert await names(docs) == ["a"]
    assert len(remote.requests) == 2


async def test_the_older_place_of_the_cursor_is_known(remote: Remote, docs: KVNamespace) -> None:
    remote.says(ok([{"name": "a"}], cursors={"after": "1"}), ok([{"name": "b"}], cursors={}))
    assert await names(docs) == ["a", "b"]


async def test_a_key_outside_the_prefix_is_not_listed(remote: Remote, docs: KVNamespace) -> None:
    remote.says(ok([{"name": "d/a"}, {"name": "e"}, {"name": "D/a"}]))
    assert await names(docs, "d/") == ["d/a"]


@pytest.mark.parametrize("cursors", [["1", "1"], ["1", "2", "1"], ["1", "2", "3", "2"]])
async def test_a_cursor_that_comes_again_does_not_trap_us(
    remote: Remote, docs: KVNamespace, cursors: list[str]
) -> None:
    remote.says(*(ok([], cursor=cursor) for cursor in cursors))
    with pytest.raises(Retry, match="gave before"):
        await names(docs)
    assert len(remote.requests) == len(cursors)


async def test_a_listing_that_never_ends_is_an_error(
    remote: Remote, docs: KVNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "PAGES_LIMIT", 3)
    remote.says(lambda request: ok([], cursor=dict(request.url.params).get("cursor", "") + "x"))
    with pytest.raises(Retry, match="does not end"):
        await names(docs)
    assert len(remote.requests) == 3


async def test_a_prefix_that_is_no_unicode_is_refused(remote: Remote, docs: KVNamespace) -> None:
    with pytest.raises(Park) as caught:
        await names(docs, "\udcff")
    assert caught.value.kind == "invalid_key"
    assert not remote.requests


async def test_a_page_of_another_shape_is_asked_again(remote: Remote, docs: KVNamespace, time: VirtualTime) -> None:
    remote.says(ok({}), ok(None), ok([{"name": "a"}]))
    assert await time.run(names(docs)) == ["a"]


async def test_a_row_that_cannot_be_read_is_a_fault_and_keeps_no_other_back(remote: Remote, docs: KVNamespace) -> None:
    odd: list[Any] = [{"nome": "x"}, {"name": 5}, {"name": "\ud800"}, "text", None, [], {"name": ""}]
    remote.says(
        httpx.Response(200, content=json.dumps({"success": True, "result": [{"name": "a"}, *odd, {"name": "b"}]}))
    )
    assert await names(docs) == ["a", "b"]
    assert len(docs.faults) == len(odd)


@pytest.mark.parametrize("cursor", ["x" * 65_536, "é" * 9_000])
async def test_a_cursor_that_fits_in_no_address_is_a_bad_answer(
    remote: Remote, docs: KVNamespace, time: VirtualTime, cursor: str
) -> None:
    remote.says(ok([{"name": "a"}], cursor=cursor), ok([{"name": "a"}]))
    assert await time.run(names(docs)) == ["a"]


# listings of namespaces


def namespaces(*ids: str, **info: Any) -> httpx.Response:
    return ok([{"id": each, "title": each} for each in ids], **info)


async def found(kv: KV) -> list[str]:
    return [each.id async for each in kv.iter_namespaces()]


@pytest.mark.parametrize(
    ("pages", "ids", "requests"),
    [
        ([namespaces()], "", 1),
        ([namespaces(total_count=0)], "", 1),
        ([namespaces("a", "b", total_count=3), namespaces("c", total_count=3)], "abc", 2),
        ([namespaces("a", "b"), namespaces("c"), namespaces()], "abc", 3),
        ([namespaces("a", "b", total_count=9), namespaces()], "ab", 2),
        ([namespaces("a", "b", total_count=3), namespaces("b", "c", total_count=3)], "abc", 2),
        ([namespaces("a")], "a", 2),
    ],
)
async def test_namespaces_end_with_their_count_or_with_nothing_new(
    remote: Remote, kv: KV, pages: list[httpx.Response], ids: str, requests: int
) -> None:
    remote.says(*pages)
    assert await found(kv) == list(ids)
    expected = [{"page": str(n), "per_page": "100"} for n in range(1, requests + 1)]
    assert [dict(request.url.params) for request in remote.requests] == expected


async def test_namespaces_that_never_end_are_an_error(remote: Remote, kv: KV, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "PAGES_LIMIT", 3)
    remote.says(lambda request: namespaces(dict(request.url.params)["page"]))
    with pytest.raises(Retry, match="does not end"):
        await found(kv)


# failures in part

Call = Callable[[KVNamespace], Awaitable[tuple[str, ...]]]
BULKS: list[Call] = [lambda docs: docs.bulk_write(body_of("a", "b")), lambda docs: docs.bulk_delete(["a", "b"])]
PART = {"successful_key_count": 1, "unsuccessful_keys": ["b"]}


def failed(status: int, code: int | None, result: Any = PART) -> httpx.Response:
    errors = [] if code is None else [{"code": code, "message": "some keys failed"}]
    return httpx.Response(status, json={"success": False, "errors": errors, "messages": [], "result": result})


@pytest.mark.parametrize("call", BULKS)
async def test_keys_that_failed_are_named_by_a_success(remote: Remote, docs: KVNamespace, call: Call) -> None:
    remote.says(ok(PART))
    assert await call(docs) == ("b",)


@pytest.mark.parametrize("call", BULKS)
@pytest.mark.parametrize(
    ("status", "code"), [(200, None), (200, 10001), (207, 1), (400, 10001), (500, None), (503, 7017)]
)
async def test_keys_that_failed_are_named_by_an_error(
    remote: Remote, docs: KVNamespace, call: Call, status: int, code: int | None
) -> None:
    remote.says(failed(status, code))
    assert await call(docs) == ("b",)
    assert len(remote.requests) == 1


@pytest.mark.parametrize("call", BULKS)
@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, None, Halt),
        (403, 10000, Halt),
        (404, 10013, Halt),
        (429, 10048, Halt),
        (413, 1, TooMuch),
    ],
)
async def test_an_error_with_a_remedy_is_stronger_than_its_result(
    remote: Remote, docs: KVNamespace, call: Call, status: int, code: int | None, kind: type[Exception]
) -> None:
    remote.says(failed(status, code))
    with pytest.raises(kind):
        await call(docs)


async def test_a_429_with_a_result_is_still_waited_out(remote: Remote, docs: KVNamespace, time: VirtualTime) -> None:
    remote.says(failed(429, 971), ok(PART))
    assert await time.run(docs.bulk_delete(["a", "b"])) == ("b",)
    assert remote.at == [1000.0, 1300.0]


@pytest.mark.parametrize("call", BULKS)
@pytest.mark.parametrize("result", [None, {}, [], {"unsuccessful_keys": []}, {"unsuccessful_keys": None}])
async def test_an_error_that_names_no_key_is_an_error(
    remote: Remote, docs: KVNamespace, call: Call, result: Any
) -> None:
    remote.says(failed(400, 10001, result))
    with pytest.raises(Park, match="some keys failed") as caught:
        await call(docs)
    assert (caught.value.kind, caught.value.code, caught.value.status) == ("refused", 10001, 400)


async def test_other_requests_take_no_error_for_an_answer(remote: Remote, docs: KVNamespace) -> None:
    remote.says(failed(400, 10001))
    for call in (docs.bulk_get(["a"]), docs.list_keys(), docs.read_metadata("a")):
        with pytest.raises(Park):
            await call


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (None, ()),
        ({}, ()),
        ({"successful_key_count": 2.0, "unsuccessful_keys": []}, ()),
        ({"successful_key_count": "2", "unsuccessful_keys": None}, ()),
    ],
)
async def test_a_success_may_say_little(
    remote: Remote, docs: KVNamespace, result: Any, expected: tuple[str, ...]
) -> None:
    remote.says(ok(result))
    assert await docs.bulk_write(body_of("a")) == expected


@pytest.mark.parametrize("result", ["text", {"unsuccessful_keys": "b"}, {"unsuccessful_keys": [{"key": "b"}]}])
async def test_a_result_that_cannot_be_read_is_no_success(
    remote: Remote, docs: KVNamespace, time: VirtualTime, result: Any
) -> None:
    remote.says(ok(result), ok(PART))
    assert await time.run(docs.bulk_write(body_of("a", "b"))) == ("b",)
    assert remote.requests[0].content == remote.requests[1].content


# too much at once


async def get(docs: KVNamespace) -> Any:
    return await docs.bulk_get(["a", "b"])


@pytest.mark.parametrize("call", [*BULKS, get])
@pytest.mark.parametrize(
    ("answer", "status"), [(bad(413), 413), (html(413), 413), (html(524), 524), (bad(524), 524), (bad(400, 7054), 400)]
)
async def test_a_request_that_is_too_much_is_not_repeated(
    remote: Remote, docs: KVNamespace, call: Call, answer: httpx.Response, status: int
) -> None:
    remote.says(answer)
    with pytest.raises(TooMuch, match="2 keys") as caught:
        await call(docs)
    assert (caught.value.kind, caught.value.status) == ("too_large", status)
    assert len(remote.requests) == 1


async def test_an_answer_that_is_too_large_is_too_much(
    remote: Remote, docs: KVNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport_module, "ANSWER_LIMIT", 100)
    remote.says(ok({"values": {"a": "x" * 100}}))
    with pytest.raises(TooMuch):
        await docs.bulk_get(["a", "b"])


async def test_one_pair_is_never_too_much(remote: Remote, docs: KVNamespace, time: VirtualTime) -> None:
    remote.says(bad(413))
    with pytest.raises(Park) as caught:
        await docs.bulk_write(body_of("a"))
    assert type(caught.value) is Park
    assert (caught.value.kind, caught.value.status) == ("too_large", 413)
    remote.says(html(524), ok(PART))
    assert await time.run(docs.bulk_write(body_of("a"))) == ("b",)
    remote.says(html(524))
    with pytest.raises(Retry) as failure:
        await time.run(docs.bulk_write(body_of("a")))
    assert failure.value.status == 524


async def test_a_caller_halves_until_it_fits(remote: Remote, docs: KVNamespace) -> None:
    def server(request: httpx.Request) -> httpx.Response:
        rows = sent_json(request)
        return ok({}) if len(rows) <= 2 else html(524)

    remote.says(server)

    async def write(body: BulkBody) -> None:
        try:
            await docs.bulk_write(body)
        except TooMuch:
            middle = len(body) // 2
            for half in (body.keys[:middle], body.keys[middle:]):
                await write(body.only(half))

    await write(body_of(*"abcdefg"))
    assert [len(sent_json(request)) for request in remote.requests] == [7, 3, 1, 2, 4, 2, 2]


@pytest.mark.parametrize("call", [*BULKS, get])
async def test_a_bulk_outlasts_the_edge(remote: Remote, docs: KVNamespace, call: Call) -> None:
    remote.says(ok({"values": {}}))
    await call(docs)
    timeouts = remote.requests[0].extensions["timeout"]
    assert timeouts["read"] == 120  # the edge gives up after 100
    assert timeouts["connect"] == timeouts["write"] == 60
    remote.says(ok([]))
    await docs.list_keys()
    assert remote.requests[1].extensions["timeout"]["read"] == 60
