from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from syncd.cloudflare import ai_search as ai_search_module
from syncd.cloudflare.ai_search import AISearch, StoredItem
from syncd.cloudflare.auth import Credentials
from syncd.cloudflare.transport import Transport
from syncd.core.errors import Halt, NotFound, Park, Retry, Unreachable
from tests.unit.cloudflare.harness import ACCOUNT, BASE, Remote, VirtualTime, asked, bad, ok, row, sent_json

API = f"{BASE}/accounts/{ACCOUNT}/ai-search"
DOCS = f"{API}/namespaces/my%20ns/instances/docs"


@pytest.fixture
def client(remote: Remote) -> AISearch:
    return AISearch(remote.transport(), "my ns", "docs")


Call = Callable[[AISearch], Awaitable[Any]]
SETTINGS = {
    "chunk_size": 64,
    "cache": False,
    "indexing_options": {"use_ocr": True},
    "public_endpoint_params": {"authorized_hosts": ["a.example"]},
}
PLAIN_CALLS: list[tuple[Call, Any, tuple[str, str, dict[str, str]], Any]] = [
    (lambda c: c.list_items(), [], ("GET", f"{DOCS}/items", {"per_page": "50"}), None),
    (
        lambda c: c.list_items(
            page=2,
            per_page=10,
            key="a/b.md",
            search="b",
            source="builtin",
            status="error",
            sort_by="modified_at",
        ),
        [],
        (
            "GET",
            f"{DOCS}/items",
            {
                "page": "2",
                "per_page": "10",
                "key": "a/b.md",
                "search": "b",
                "source": "builtin",
                "status": "error",
                "sort_by": "modified_at",
            },
        ),
        None,
    ),
    (
        lambda c: c.create_or_update("a.md"),
        row(),
        ("PUT", f"{DOCS}/items", {}),
        {"key": "a.md", "next_action": "INDEX", "wait_for_completion": False},
    ),
    (lambda c: c.get("i/1"), row(item_id="i/1"), ("GET", f"{DOCS}/items/i%2F1", {}), None),
    (
        lambda c: c.sync("i1"),
        row(),
        ("PATCH", f"{DOCS}/items/i1", {}),
        {"next_action": "INDEX", "wait_for_completion": False},
    ),
    (lambda c: c.delete("i1"), {"key": "a.md"}, ("DELETE", f"{DOCS}/items/i1", {}), None),
    (lambda c: c.logs("i1", 5), [], ("GET", f"{DOCS}/items/i1/logs", {"limit": "5"}), None),
    (lambda c: c.stats(), {}, ("GET", f"{DOCS}/stats", {}), None),
    (
        lambda c: c.search("what?"),
        {"chunks": []},
        ("POST", f"{DOCS}/search", {}),
        {
            "query": "what?",
            "ai_search_options": {
                "retrieval": {"max_num_results": 10, "return_on_failure": False},
                "cache": {"enabled": False},
            },
        },
    ),
    (
        lambda c: c.search("q", 3, {"folder": "a/"}),
        {"chunks": []},
        ("POST", f"{DOCS}/search", {}),
        {
            "query": "q",
            "ai_search_options": {
                "retrieval": {
                    "max_num_results": 3,
                    "filters": {"folder": "a/"},
                    "return_on_failure": False,
                },
                "cache": {"enabled": False},
            },
        },
    ),
    (lambda c: c.read_instance(), {"id": "docs"}, ("GET", DOCS, {}), None),
    (
        lambda c: c.create_instance(),
        {"id": "docs"},
        ("POST", f"{API}/namespaces/my%20ns/instances", {}),
        {"id": "docs"},
    ),
    (
        lambda c: c.create_instance({"sha256": "text"}),
        {"id": "docs"},
        ("POST", f"{API}/namespaces/my%20ns/instances", {}),
        {"id": "docs", "custom_metadata": [{"field_name": "sha256", "data_type": "text"}]},
    ),
    (
        lambda c: c.create_instance({"sha256": "text"}, SETTINGS),
        {"id": "docs"},
        ("POST", f"{API}/namespaces/my%20ns/instances", {}),
        {
            "id": "docs",
            "custom_metadata": [{"field_name": "sha256", "data_type": "text"}],
            "chunk_size": 64,
            "cache": False,
            "indexing_options": {"use_ocr": True},
            "public_endpoint_params": {"authorized_hosts": ["a.example"]},
        },
    ),
    (lambda c: c.create_namespace(), {"name": "my ns"}, ("POST", f"{API}/namespaces", {}), {"name": "my ns"}),
    (lambda c: c.list_namespaces(2), [], ("GET", f"{API}/namespaces", {"page": "2", "per_page": "50"}), None),
]


@pytest.mark.parametrize(("call", "result", "expected", "body"), PLAIN_CALLS)
async def test_each_method_sends_exactly_its_request(
    remote: Remote, client: AISearch, call: Call, result: Any, expected: tuple[str, str, dict[str, str]], body: Any
) -> None:
    remote.says(ok(result))
    await call(client)
    assert asked(remote.requests[0]) == expected
    assert (sent_json(remote.requests[0]) if remote.requests[0].content else None) == body


@pytest.mark.parametrize(("call", "result", "expected", "body"), PLAIN_CALLS)
async def test_only_a_writing_request_counts_as_changing(
    remote: Remote, client: AISearch, call: Call, result: Any, expected: tuple[str, str, dict[str, str]], body: Any
) -> None:
    remote.says(ok(result))
    await call(client)
    reading = expected[0] == "GET" or expected[1].endswith("/search")
    assert client.transport.counters.changing == (0 if reading else 1), body


async def test_answers_come_back_as_values(remote: Remote, client: AISearch) -> None:
    remote.says(ok(row(), page=1))
    assert (await client.get("i1")).key == "a.md"
    remote.says(ok([row(), row("b.md", "i2")], total_count=7, page=2, per_page=5, count=1), ok([]))
    page = await client.list_items()
    assert ([item.id for item in page.rows], page.total_count) == (["i1", "i2"], 7)
    assert (await client.list_items()).total_count is None
    remote.says(ok({"chunks": [{"id": "c", "score": 0.7, "text": "t", "item": {"key": "a.md"}}]}))
    assert (await client.search("q"))[0].key == "a.md"
    remote.says(httpx.Response(200, content=b"\x00raw"))
    assert await client.download("i1") == b"\x00raw"
    assert str(remote.requests[-1].url) == f"{DOCS}/items/i1/download"


async def test_an_answer_of_the_wrong_type_is_tried_again(remote: Remote, client: AISearch, time: VirtualTime) -> None:
    remote.says(ok("no object"), ok([row()]), ok({"id": 3}), ok(row()))
    assert (await time.run(client.get("i1"))).id == "i1"


async def test_a_wrong_type_for_ever_is_given_up_as_unexpected(
    remote: Remote, client: AISearch, time: VirtualTime
) -> None:
    remote.says(ok({"rows": []}))
    with pytest.raises(Retry, match="unexpected answer") as caught:
        await time.run(client.list_items())
    assert not isinstance(caught.value, Unreachable)


async def test_an_absent_item_is_not_found(remote: Remote, client: AISearch) -> None:
    remote.says(bad(404, 7041))
    for call in (client.get("i"), client.sync("i"), client.delete("i"), client.download("i")):
        with pytest.raises(NotFound):
            await call


@pytest.mark.parametrize("name", ["", ".", ".."])
async def test_names_that_would_change_the_path_are_refused(remote: Remote, client: AISearch, name: str) -> None:
    with pytest.raises(ValueError, match="URL path"):
        AISearch(remote.transport(), name, "docs")
    with pytest.raises(ValueError, match="URL path"):
        AISearch(remote.transport(), "default", name)
    with pytest.raises(ValueError, match="URL path"):
        await client.delete(name)


# listing


def listing(keys: list[str], honours: set[str], per_page: int = 2) -> Callable[[httpx.Request], httpx.Response]:
    """A server that knows only the parameters in `honours`; its pages are small."""

    def answer(request: httpx.Request) -> httpx.Response:
        params = dict(request.url.params)
        found = [(number, key) for number, key in enumerate(keys)]
        if "key" in honours and "key" in params:
            found = [(number, key) for number, key in found if key == params["key"]]
        if "search" in honours and "search" in params:
            found = [(number, key) for number, key in found if params["search"] in key]
        start = (int(params.get("page", 1)) - 1) * per_page
        rows = [row(key, f"i{number}") for number, key in found[start : start + per_page]]
        return ok(rows, total_count=len(found), page=params.get("page"), per_page=per_page)

    return answer


async def ids(client: AISearch) -> list[str]:
    return [item.id async for page in client.iter_pages(source="builtin") for item in page.rows]


@pytest.mark.parametrize(("count", "requests"), [(0, 1), (1, 1), (2, 1), (3, 2), (4, 2), (5, 3)])
async def test_a_listing_ends_with_its_count(remote: Remote, client: AISearch, count: int, requests: int) -> None:
    remote.says(listing([f"{n}.md" for n in range(count)], set()))
    assert await ids(client) == [f"i{n}" for n in range(count)]
    assert len(remote.requests) == requests


async def test_a_listing_without_a_count_ends_with_an_empty_page(remote: Remote, client: AISearch) -> None:
    remote.says(ok([row()]), ok([row("b.md", "i2")]), ok([]))
    assert await ids(client) == ["i1", "i2"]
    assert [dict(request.url.params)["page"] for request in remote.requests] == ["1", "2", "3"]


async def test_a_server_that_repeats_its_page_does_not_trap_us(remote: Remote, client: AISearch) -> None:
    remote.says(ok([row()]))
    assert await ids(client) == ["i1"]


async def test_a_listing_that_never_ends_is_an_error(
    remote: Remote, client: AISearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ai_search_module, "PAGES_LIMIT", 3)
    remote.says(lambda request: ok([row(item_id=dict(request.url.params)["page"])]))
    with pytest.raises(Retry, match="does not end"):
        await ids(client)


# find

KEYS = ["z/b.md", "a.md", "x/a.md", "q.md", "a/b.md", "y.md"]


@pytest.mark.parametrize("honours", [{"key", "search"}, {"key"}, {"search"}, set()])
@pytest.mark.parametrize("key", ["a.md", "a/b.md", "y.md", "b.md", "none.md"])
async def test_find_survives_servers_that_ignore_its_filters(
    remote: Remote, client: AISearch, honours: set[str], key: str
) -> None:
    remote.says(listing(KEYS, honours))
    found = await client.find(key)
    assert (found.key if found else None) == (key if key in KEYS else None)


async def test_find_asks_a_server_that_knows_key_once(remote: Remote, client: AISearch) -> None:
    remote.says(listing(KEYS, {"key"}))
    await client.find("none.md")
    assert [asked(request)[2] for request in remote.requests] == [
        {"per_page": "50", "key": "none.md", "source": "builtin"}
    ]


async def test_find_reads_the_listing_once_where_search_is_ignored(remote: Remote, client: AISearch) -> None:
    remote.says(listing(KEYS, set()))
    assert await client.find("none.md") is None
    assert len(remote.requests) == 1 + len(KEYS) // 2


async def test_find_does_not_trust_a_search_that_finds_nothing(remote: Remote, client: AISearch) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return ok([]) if "search" in dict(request.url.params) else listing(KEYS, set())(request)

    remote.says(answer)
    assert (await client.find("y.md")) is not None


@pytest.mark.parametrize("source_id", ["r2:bucket", None])
async def test_find_takes_uploaded_items_only(remote: Remote, client: AISearch, source_id: str | None) -> None:
    remote.says(ok([row("a.md", "other", source_id=source_id)]))
    assert await client.find("a.md") is None
    remote.says(ok([row("a.md", "other", source_id=source_id), row("a.md", "mine")]))
    found = await client.find("a.md")
    assert found is not None
    assert found.id == "mine"


# token


async def test_a_users_token_is_verified_at_the_user(remote: Remote, client: AISearch) -> None:
    remote.says(ok({"id": "t", "status": "active"}))
    status = await client.verify_token()
    assert status is not None
    assert (status.kind, status.status) == ("user", "active")
    assert str(remote.requests[0].url) == f"{BASE}/user/tokens/verify"


@pytest.mark.parametrize("refusal", [bad(401, 1000), bad(400, 9106), bad(403, 10000)])
async def test_an_accounts_token_is_verified_at_the_account(
    remote: Remote, client: AISearch, refusal: httpx.Response
) -> None:
    remote.says(refusal, ok({"id": "t", "status": "expired"}))
    status = await client.verify_token()
    assert status is not None
    assert (status.kind, status.status) == ("account", "expired")
    assert str(remote.requests[1].url) == f"{BASE}/accounts/{ACCOUNT}/tokens/verify"


async def test_a_token_that_nobody_knows_halts(remote: Remote, client: AISearch) -> None:
    remote.says(bad(401, 1000))
    with pytest.raises(Halt):
        await client.verify_token()


async def test_a_global_key_is_no_token(remote: Remote) -> None:
    http = httpx.MockTransport(lambda _: ok())
    transport = Transport(BASE, ACCOUNT, Credentials.global_key("me@x", "k"), remote.gate(), http=http)
    assert await AISearch(transport, "default", "docs").verify_token() is None
    assert transport.counters.requests == 0


@pytest.mark.parametrize("result", [{}, {"chunks": None}, {"chunks": "none"}])
async def test_a_search_without_a_list_of_hits_is_no_search_without_hits(
    remote: Remote, client: AISearch, time: VirtualTime, result: dict[str, Any]
) -> None:
    remote.says(ok(result), ok({"chunks": []}))
    assert await time.run(client.search("q")) == ()
    remote.says(ok(result))
    with pytest.raises(Retry, match="no list of chunks"):
        await client.try_search()


# refused creations


async def test_a_creation_that_may_have_happened_is_not_repeated(remote: Remote, client: AISearch) -> None:
    remote.says(bad(500, 7001))
    for call in (client.create_instance, client.create_namespace):
        with pytest.raises(Retry):
            await call()
    assert len(remote.requests) == 2


async def test_a_busy_answer_is_tried_again_by_every_reading_method(
    remote: Remote, client: AISearch, time: VirtualTime
) -> None:
    remote.says(bad(503, 7017), ok({"chunks": []}))
    assert await time.run(client.search("q")) == ()
    remote.says(bad(503, 7017), ok(row()))
    assert isinstance(await time.run(client.sync("i1")), StoredItem)


async def test_content_the_remote_refuses_is_parked(remote: Remote, client: AISearch) -> None:
    remote.says(bad(400, 7060))
    with pytest.raises(Park) as caught:
        await client.upload("a.xyz", b"x", "text/plain")
    assert caught.value.kind == "unsupported_type"
