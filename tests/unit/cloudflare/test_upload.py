import asyncio
import json
from email import message_from_bytes
from typing import Any

import httpx
import pytest
from starlette.requests import Request as ServerRequest

from syncd.cloudflare.ai_search import AISearch
from syncd.core.errors import Conflict, Park, Retry
from tests.unit.cloudflare.harness import Remote, VirtualTime, bad, ok, row


@pytest.fixture
def client(remote: Remote) -> AISearch:
    return AISearch(remote.transport(), "default", "docs")


async def parts_of(request: httpx.Request) -> dict[str, tuple[str | None, bytes]]:
    """The form as a server sees it: name -> (file name, content)."""
    headers = [(name.lower(), value) for name, value in request.headers.raw]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": request.content, "more_body": False}

    parts: dict[str, tuple[str | None, bytes]] = {}
    async with ServerRequest({"type": "http", "method": "POST", "headers": headers}, receive).form() as form:
        for name, value in form.items():
            parts[name] = (None, value.encode()) if isinstance(value, str) else (value.filename, await value.read())
    return parts


async def stored_as(remote: Remote, client: AISearch, key: str) -> str:
    remote.says(ok(row(key)))
    await client.upload(key, b"x", "text/plain")
    name, _ = (await parts_of(remote.requests[-1]))["file"]
    return name or ""


@pytest.mark.parametrize(
    "key",
    [
        "a.md",
        "docs/guide/a.md",
        "/leading.md",
        "a b  c.md",
        " edge .md",
        'say "hi".md',
        "it's.md",
        "back\\slash.md",
        "two\\\\slashes.md",
        "end\\",
        "100%.md",
        "a%20b.md",
        "a%22b%0A%0d%09.md",
        'both\\"%22.md',
        "a%2Fb.md",
        "semi;colon=1.md",
        "naïve/日本語/😀.md",
        "e\u0301.md",
        "nb\u202fsp\u00a0.md",
        "a&b+c#d?e.md",
        "..hidden/...md",
    ],
)
async def test_a_key_arrives_as_the_file_name_it_is(remote: Remote, client: AISearch, key: str) -> None:
    assert await stored_as(remote, client, key) == key


async def test_the_form_is_flat_and_in_order(remote: Remote, client: AISearch) -> None:
    remote.says(ok(row("é/a b.md")))
    await client.upload("é/a b.md", b"\r\n--x\x00", "text/markdown", {"sha256": "ab", "owner": "dö"})
    sent = remote.requests[0]
    assert sent.method == "POST"
    assert str(sent.url).endswith("/ai-search/namespaces/default/instances/docs/items")
    boundary = sent.headers["content-type"].partition("boundary=")[2].encode()
    pieces = sent.content.split(b"--" + boundary)
    assert pieces[1:] == [
        b'\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n{"sha256":"ab","owner":"d\xc3\xb6"}\r\n',
        b'\r\nContent-Disposition: form-data; name="wait_for_completion"\r\n\r\nfalse\r\n',
        (
            b'\r\nContent-Disposition: form-data; name="file"; filename="\xc3\xa9/a b.md"\r\n'
            b"Content-Type: text/markdown\r\n\r\n\r\n--x\x00\r\n"
        ),
        b"--\r\n",
    ]


async def test_a_second_parser_reads_the_same_form(remote: Remote, client: AISearch) -> None:
    remote.says(ok(row("a/b.md")))
    await client.upload("a/b.md", b"content", "text/markdown", {"k": "v"})
    sent = remote.requests[0]
    mail = message_from_bytes(b"Content-Type: " + sent.headers["content-type"].encode() + b"\r\n\r\n" + sent.content)
    parts: list[Any] = list(mail.get_payload())
    names = [part.get_param("name", header="content-disposition") for part in parts]
    assert names == ["metadata", "wait_for_completion", "file"]
    assert json.loads(parts[0].get_payload()) == {"k": "v"}
    assert parts[1].get_payload() == "false"
    assert parts[2].get_filename() == "a/b.md"


async def test_without_metadata_there_is_no_metadata_part(remote: Remote, client: AISearch) -> None:
    remote.says(ok(row()))
    await client.upload("a.md", b"x", "text/markdown")
    assert set(await parts_of(remote.requests[0])) == {"wait_for_completion", "file"}


@pytest.mark.parametrize("key", ["a\nb", "a\rb", "a\x00b", "a\x1bb", "a\x7f", "bad\udcff", "a\tb"])
async def test_a_key_that_cannot_be_a_file_name_is_never_sent(remote: Remote, client: AISearch, key: str) -> None:
    with pytest.raises(Park) as caught:
        await client.upload(key, b"x", "text/plain")
    assert caught.value.kind == "invalid_key"
    assert not remote.requests


async def test_a_file_stored_under_another_key_is_an_error(remote: Remote, client: AISearch) -> None:
    remote.says(ok(row("b.md")))
    with pytest.raises(Park, match=r"b\.md") as caught:
        await client.upload("a.md", b"x", "text/plain")
    assert caught.value.kind == "invalid_key"


async def test_an_upload_with_a_warning_is_stored(remote: Remote, client: AISearch) -> None:
    remote.says(ok(row(status="queued", warnings=[{"code": "custom_metadata_field_not_filterable", "field": "f"}])))
    item = await client.upload("a.md", b"x", "text/markdown")
    assert (item.id, item.status) == ("i1", "queued")


@pytest.mark.parametrize("answer", [httpx.ReadTimeout("x"), bad(500, 7009), bad(429), httpx.ConnectError("x"), ok(3)])
async def test_an_upload_is_one_try(remote: Remote, client: AISearch, answer: Any) -> None:
    remote.says(answer)
    with pytest.raises(Retry):
        await client.upload("a.md", b"x", "text/markdown")
    assert len(remote.requests) == 1


async def test_an_existing_key_may_conflict(remote: Remote, client: AISearch) -> None:
    remote.says(bad(409, 7042))
    with pytest.raises(Conflict):
        await client.upload("a.md", b"x", "text/markdown")


async def test_a_lost_upload_that_landed_is_found_and_not_sent_twice(
    remote: Remote, client: AISearch, time: VirtualTime
) -> None:
    stored: list[str] = []

    def server(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return ok([row("a.md")] if stored else [], total_count=len(stored))
        stored.append("a.md")
        raise httpx.ReadTimeout("the answer is lost")

    remote.says(server)

    async def careful() -> str:
        unsure = False
        async for attempt in client.transport.attempts(key="a.md"):
            with attempt:
                if unsure and (found := await client.find("a.md")):
                    return found.id
                try:
                    return (await client.upload("a.md", b"x", "text/markdown")).id
                except Retry as error:
                    unsure = error.ambiguous
                    raise
        raise AssertionError

    assert await time.run(careful()) == "i1"
    assert stored == ["a.md"]


async def test_many_uploads_at_once_do_not_mix(remote: Remote, client: AISearch) -> None:
    async def echo(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)
        name, content = (await parts_of(request))["file"]
        return ok(row(name or "", content.decode()))

    remote.says(echo)
    results = await asyncio.gather(*(client.upload(f"{n}.md", str(n).encode(), "text/plain") for n in range(30)))
    assert [(result.key, result.id) for result in results] == [(f"{n}.md", str(n)) for n in range(30)]
