"""The request of each method of the KV client, and the values that it returns."""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import httpx
import pytest
from starlette.requests import Request as ServerRequest

from syncd.cloudflare import kv as kv_api
from syncd.cloudflare.kv import KV, KVNamespace, KVNamespaceInfo, ListedKey
from syncd.core.errors import Conflict, Halt, NotFound, Park, Retry, TargetMissing, Unreachable
from tests.unit.cloudflare.harness import ACCOUNT, BASE, Remote, VirtualTime, asked, bad, body_of, ok, sent_json

API = f"{BASE}/accounts/{ACCOUNT}/storage/kv/namespaces"
ID = "0f2ac74b498b48028cb68387c421e279"
ONE = f"{API}/{ID}"
INFO = {"id": ID, "title": "docs"}


@pytest.fixture
def kv(remote: Remote) -> KV:
    return KV(remote.transport())


@pytest.fixture
def docs(remote: Remote) -> KVNamespace:
    return KVNamespace(remote.transport(), ID)


async def parts_of(request: httpx.Request) -> dict[str, tuple[str | None, str | None, bytes]]:
    """The form as a server sees it: name -> (file name, content type, content)."""
    headers = [(name.lower(), value) for name, value in request.headers.raw]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": request.content, "more_body": False}

    parts: dict[str, tuple[str | None, str | None, bytes]] = {}
    async with ServerRequest({"type": "http", "method": "PUT", "headers": headers}, receive).form() as form:
        for name, value in form.items():
            if isinstance(value, str):
                parts[name] = (None, None, value.encode())
            else:
                parts[name] = (value.filename, value.content_type, await value.read())
    return parts


class Case(NamedTuple):
    call: Callable[[KV, KVNamespace], Awaitable[Any]]
    result: Any
    expected: tuple[str, str, dict[str, str]]
    body: Any


CALLS = [
    Case(lambda kv, _: kv.list_namespaces(), [], ("GET", API, {"page": "1", "per_page": "100"}), None),
    Case(lambda kv, _: kv.list_namespaces(2), [], ("GET", API, {"page": "2", "per_page": "100"}), None),
    Case(lambda kv, _: kv.get_namespace(ID), INFO, ("GET", ONE, {}), None),
    Case(
        lambda kv, _: kv.create_namespace("docs", "eu"),
        INFO,
        ("POST", API, {}),
        {"title": "docs", "jurisdiction": "eu"},
    ),
    Case(lambda kv, _: kv.create_namespace("dö cs"), INFO, ("POST", API, {}), {"title": "dö cs"}),
    Case(lambda kv, _: kv.rename_namespace(ID, "new"), INFO, ("PUT", ONE, {}), {"title": "new"}),
    Case(lambda kv, _: kv.delete_namespace(ID), {}, ("DELETE", ONE, {}), None),
    Case(lambda _, docs: docs.bulk_write(body_of("a")), {}, ("PUT", f"{ONE}/bulk", {}), [{"key": "a", "value": "x"}]),
    Case(lambda _, docs: docs.bulk_delete(["a", "b\n/é"]), {}, ("POST", f"{ONE}/bulk/delete", {}), ["a", "b\n/é"]),
    Case(
        lambda _, docs: docs.bulk_get(["a"]),
        {"values": {}},
        ("POST", f"{ONE}/bulk/get", {}),
        {"keys": ["a"], "type": "text", "withMetadata": False},
    ),
    Case(lambda _, docs: docs.list_keys(), [], ("GET", f"{ONE}/keys", {"limit": "1000"}), None),
    Case(
        lambda _, docs: docs.list_keys("dö/ +", "c=&"),
        [],
        ("GET", f"{ONE}/keys", {"limit": "1000", "prefix": "dö/ +", "cursor": "c=&"}),
        None,
    ),
    Case(lambda _, docs: docs.read_metadata("a/b"), {}, ("GET", f"{ONE}/metadata/a%2Fb", {}), None),
    Case(lambda _, docs: docs.read_value("a/b"), {}, ("GET", f"{ONE}/values/a%2Fb", {}), None),
    Case(lambda _, docs: docs.delete_value("a/b"), {}, ("DELETE", f"{ONE}/values/a%2Fb", {}), None),
    Case(
        lambda _, docs: docs.write_value("a/b", b"", expiration_ttl=60),
        {},
        ("PUT", f"{ONE}/values/a%2Fb", {"expiration_ttl": "60"}),
        None,
    ),
]


@pytest.mark.parametrize("case", CALLS)
async def test_each_method_sends_exactly_its_request(remote: Remote, kv: KV, docs: KVNamespace, case: Case) -> None:
    remote.says(ok(case.result))
    await case.call(kv, docs)
    assert [asked(request) for request in remote.requests] == [case.expected]
    sent = remote.requests[0]
    assert (sent_json(sent) if sent.content else None) == case.body
    if case.body is not None:
        assert sent.headers["content-type"] == "application/json"
        assert sent.headers["content-length"] == str(len(sent.content))
        assert "transfer-encoding" not in sent.headers


@pytest.mark.parametrize("case", CALLS)
async def test_only_a_writing_request_counts_as_changing(remote: Remote, kv: KV, docs: KVNamespace, case: Case) -> None:
    remote.says(ok(case.result))
    await case.call(kv, docs)
    reading = case.expected[0] == "GET" or case.expected[1].endswith("/bulk/get")
    assert kv.transport.counters.changing + docs.transport.counters.changing == (0 if reading else 1)


@pytest.mark.parametrize("case", CALLS)
async def test_all_but_a_creation_is_tried_again_blindly(
    remote: Remote, time: VirtualTime, kv: KV, docs: KVNamespace, case: Case
) -> None:
    async def whole() -> Any:
        return await case.call(kv, docs)

    remote.says(bad(503), ok(case.result))
    if case.expected[:2] == ("POST", API):
        with pytest.raises(Retry) as caught:
            await whole()
        assert caught.value.ambiguous
        return
    await time.run(whole())
    assert len(remote.requests) == 2


@pytest.mark.parametrize("case", CALLS)
async def test_a_missing_namespace_is_a_missing_target(remote: Remote, kv: KV, docs: KVNamespace, case: Case) -> None:
    remote.says(bad(404, 10013, "namespace not found"))
    with pytest.raises(TargetMissing, match="KV namespace"):
        await case.call(kv, docs)
    assert len(remote.requests) == 1


@pytest.mark.parametrize("case", CALLS)
async def test_refused_access_names_the_permission(remote: Remote, kv: KV, docs: KVNamespace, case: Case) -> None:
    remote.says(bad(403, 10000))
    with pytest.raises(Halt, match="Workers KV Storage:Edit"):
        await case.call(kv, docs)
    assert len(remote.requests) == 1


# namespaces


async def test_a_namespace_comes_back_as_a_value(remote: Remote, kv: KV) -> None:
    remote.says(ok(INFO))
    assert await kv.get_namespace(ID) == KVNamespaceInfo(ID, "docs")
    remote.says(ok([INFO, {"id": "b", "title": "two", "jurisdiction": "eu"}], total_count=7))
    page = await kv.list_namespaces()
    assert page.rows[1] == KVNamespaceInfo("b", "two", "eu")
    assert page.total_count == 7


@pytest.mark.parametrize("result", [{}, None])
async def test_a_rename_that_answers_nothing_is_done(remote: Remote, kv: KV, result: Any) -> None:
    remote.says(ok(result))
    assert await kv.rename_namespace(ID, "new") == KVNamespaceInfo(ID, "new")


async def test_a_title_that_is_taken_conflicts(remote: Remote, kv: KV) -> None:
    remote.says(bad(400, 10014))
    with pytest.raises(Conflict):
        await kv.create_namespace("docs")


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_an_id_that_would_change_the_path_is_refused(remote: Remote, name: str) -> None:
    with pytest.raises(ValueError, match="URL path"):
        KVNamespace(remote.transport(), name)


# one key


@pytest.mark.parametrize(
    ("key", "segment"),
    [
        ("a.md", "a.md"),
        ("docs/a b.md", "docs%2Fa%20b.md"),
        ("/leading", "%2Fleading"),
        ("trailing/", "trailing%2F"),
        ("a//b", "a%2F%2Fb"),
        ("../x", "..%2Fx"),
        ("...", "..."),
        ("100%", "100%25"),
        ("a%2Fb", "a%252Fb"),
        ("%2e%2e", "%252e%252e"),
        ("?q=1&r#f", "%3Fq%3D1%26r%23f"),
        ("naïve/日本", "na%C3%AFve%2F%E6%97%A5%E6%9C%AC"),
        ("e\u0301", "e%CC%81"),
        ("😀", "%F0%9F%98%80"),
        ("a+b:c!@$'()*,;=[]\\^|\"<>", "a%2Bb%3Ac%21%40%24%27%28%29%2A%2C%3B%3D%5B%5D%5C%5E%7C%22%3C%3E"),
    ],
)
async def test_the_whole_key_is_one_encoded_segment(remote: Remote, docs: KVNamespace, key: str, segment: str) -> None:
    remote.says(ok({}))
    await docs.read_metadata(key)
    await docs.read_value(key)
    await docs.write_value(key, b"x")
    await docs.delete_value(key)
    assert [request.url.raw_path.decode().partition(ID)[2] for request in remote.requests] == [
        f"/metadata/{segment}",
        *[f"/values/{segment}"] * 3,
    ]


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("", "invalid_key"),
        (".", "invalid_key"),
        ("..", "invalid_key"),
        ("\udcff", "invalid_key"),
        ("a\nb", "invalid_key"),
        ("é" * 256 + "x", "key_too_long"),
    ],
)
async def test_a_key_that_cannot_be_sent_is_refused_before(
    remote: Remote, docs: KVNamespace, key: str, kind: str
) -> None:
    calls: list[Awaitable[Any]] = [
        docs.read_metadata(key),
        docs.read_value(key),
        docs.write_value(key, b""),
        docs.delete_value(key),
    ]
    if "\n" not in key:
        calls += [docs.bulk_delete(["a", key]), docs.bulk_get(["a", key])]
    for call in calls:
        with pytest.raises(Park) as caught:
            await call
        assert caught.value.kind == kind
    assert not remote.requests


async def test_a_value_without_metadata_travels_raw(remote: Remote, docs: KVNamespace) -> None:
    remote.says(ok({}))
    await docs.write_value("a", b"\x00\xff\r\n")
    sent = remote.requests[0]
    assert sent.content == b"\x00\xff\r\n"
    assert sent.headers["content-type"] == "application/octet-stream"
    await docs.write_value("a", b"")
    assert remote.requests[1].headers["content-length"] == "0"


@pytest.mark.parametrize("value", [b"", b"text", b"\xff\x00\r\n--b", b"x" * 300_000])
async def test_a_value_with_metadata_travels_as_a_form(remote: Remote, docs: KVNamespace, value: bytes) -> None:
    remote.says(ok({}))
    await docs.write_value("a", value, {"sha256": "ab", "ö": 1}, expiration_ttl=60)
    sent = remote.requests[0]
    assert asked(sent) == ("PUT", f"{ONE}/values/a", {"expiration_ttl": "60"})
    parts = await parts_of(sent)
    assert parts == {
        "metadata": (None, None, '{"sha256":"ab","ö":1}'.encode()),
        "value": ("value", "application/octet-stream", value),
    }


async def test_a_value_that_kv_would_not_take_is_not_sent(remote: Remote, docs: KVNamespace) -> None:
    with pytest.raises(Park, match="25 MiB") as caught:
        await docs.write_value("a", b"x" * (25 * 1024 * 1024 + 1))
    assert caught.value.kind == "too_large"
    with pytest.raises(Park, match="1024") as caught:
        await docs.write_value("a", b"", {"a": "x" * 1024})
    assert caught.value.kind == "refused"
    assert not remote.requests


async def test_a_value_comes_back_byte_for_byte(remote: Remote, docs: KVNamespace) -> None:
    content = b'\x00{"success": false}'
    remote.says(httpx.Response(200, content=content, headers=[("Expiration", "1800000000")]))
    assert await docs.read_value("a") == content


@pytest.mark.parametrize(("size", "fits"), [(9, True), (10, True), (11, False)])
async def test_a_read_is_bounded(
    remote: Remote, docs: KVNamespace, monkeypatch: pytest.MonkeyPatch, size: int, fits: bool
) -> None:
    monkeypatch.setattr(kv_api, "VALUE_LIMIT", 10)
    remote.says(httpx.Response(200, content=b"x" * size))
    if fits:
        assert len(await docs.read_value("a")) == size
        return
    with pytest.raises(Park, match="over 10 B") as caught:
        await docs.read_value("a")
    assert caught.value.kind == "too_large"


@pytest.mark.parametrize("metadata", [None, {}, {"a": [1]}, "text", 0])
async def test_metadata_is_any_json(remote: Remote, docs: KVNamespace, metadata: Any) -> None:
    remote.says(ok(metadata))
    assert await docs.read_metadata("a") == metadata


async def test_an_absent_key_is_not_found_and_removing_it_is_no_error(remote: Remote, docs: KVNamespace) -> None:
    remote.says(bad(404, 10009, "key not found"))
    for call in (docs.read_value("a"), docs.read_metadata("a")):
        with pytest.raises(NotFound) as caught:
            await call
        assert (caught.value.code, caught.value.status) == (10009, 404)
    await docs.delete_value("a")


@pytest.mark.parametrize("code", [None, 7999])
async def test_a_404_that_names_no_key_does_not_count_as_removed(
    remote: Remote, time: VirtualTime, docs: KVNamespace, code: int | None
) -> None:
    remote.says(bad(404, code))
    with pytest.raises(Unreachable):
        await time.run(docs.delete_value("a"))


# many values


async def test_a_bulk_get_gives_every_key_an_answer(remote: Remote, docs: KVNamespace) -> None:
    remote.says(ok({"values": {"a": "x", "b": None, "stranger": "y", "e": ""}}))
    got = await docs.bulk_get(["a", "b", "c", "e"])
    assert got == {"a": "x", "b": None, "c": None, "e": ""}


@pytest.mark.parametrize("result", [None, {}, {"values": None}, {"values": []}, {"values": "x"}])
async def test_a_bulk_get_of_another_shape_is_no_absence(
    remote: Remote, docs: KVNamespace, time: VirtualTime, result: Any
) -> None:
    remote.says(ok(result), ok({"values": {"a": "x"}}))
    assert await time.run(docs.bulk_get(["a"])) == {"a": "x"}
    assert len(remote.requests) == 2


async def test_listed_keys_come_back_as_values(remote: Remote, docs: KVNamespace) -> None:
    rows = [{"name": "a", "expiration": 5, "metadata": {"m": 1}}, {"name": "b\n"}, {"name": "c", "metadata": "text"}]
    remote.says(ok(rows, count=3, cursor=""))
    page = await docs.list_keys()
    assert page.rows == (ListedKey("a", {"m": 1}, 5), ListedKey("b\n"), ListedKey("c", "text"))
    assert page.cursor is None
