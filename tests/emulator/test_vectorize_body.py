import json
from typing import Any

import httpx
import pytest

from syncd.emulator.options import EmulatorOptions
from syncd.emulator.server import serve
from tests.emulator.harness import (
    ACCOUNT,
    LAG,
    NDJSON,
    VECTORIZE_ROOT,
    VectorizeClient,
    ndjson,
    row,
    vectorize_emulator,
)

LINE = b'{"id": "a", "values": [1, 0]}\n'


async def post(index: VectorizeClient, **options: Any) -> httpx.Response:
    return await index.api.ask("POST", f"{index.at}/upsert", **options)


async def seen(index: VectorizeClient, response: httpx.Response) -> list[str]:
    assert response.is_success, response.text
    index.clock.wait(LAG)
    return await index.ids()


@pytest.mark.parametrize("kind", ["application/x-ndjson", "APPLICATION/X-NDJSON; charset=utf-8"])
async def test_plain_ndjson_is_accepted(kind: str) -> None:
    async with vectorize_emulator() as index:
        response = await post(index, content=LINE, headers={"Content-Type": kind})
        assert await seen(index, response) == ["a"]


@pytest.mark.parametrize(
    "files",
    [
        {"vectors": ("vectors.ndjson", LINE, "application/x-ndjson")},
        {"vectors": ("vectors.ndjson", LINE)},
        {"body": ("vectors.ndjson", LINE, "application/octet-stream")},
        {"vectors": (None, LINE)},
    ],
)
async def test_a_form_with_the_part_of_wrangler_or_of_the_reference_is_accepted(files: Any) -> None:
    async with vectorize_emulator() as index:
        assert await seen(index, await post(index, files=files)) == ["a"]


async def test_a_form_labelled_as_ndjson_like_in_the_reference_is_accepted() -> None:
    form = httpx.Request("POST", "http://localhost", files={"body": ("b.ndjson", LINE)})
    boundary = form.headers["content-type"].partition(";")[2]
    async with vectorize_emulator() as index:
        headers = {"Content-Type": f"application/x-ndjson;{boundary}"}
        assert await seen(index, await post(index, content=form.read(), headers=headers)) == ["a"]


@pytest.mark.parametrize(
    ("kind", "code"),
    [("application/json", 40023), ("text/plain", 1005), ("application/octet-stream", 1005), (None, 1005)],
)
async def test_an_unknown_content_type_is_400(kind: str | None, code: int) -> None:
    async with vectorize_emulator() as index:
        options: dict[str, Any] = {"content": LINE, "headers": {"Content-Type": kind} if kind else {}}
        assert await index.api.refusal("POST", f"{index.at}/upsert", **options) == (400, code)


@pytest.mark.parametrize("files", [{"file": ("v.ndjson", LINE)}, {"vectors": ("v.ndjson", b"")}])
async def test_a_form_without_vectors_is_40023(files: Any) -> None:
    async with vectorize_emulator() as index:
        assert await index.api.refusal("POST", f"{index.at}/upsert", files=files) == (400, 40023)


async def test_a_broken_form_is_40023() -> None:
    async with vectorize_emulator() as index:
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        options: dict[str, Any] = {"content": b"--y\r\nno form", "headers": headers}
        assert await index.api.refusal("POST", f"{index.at}/upsert", **options) == (400, 40023)


async def test_blank_lines_and_a_missing_last_line_break_do_not_matter() -> None:
    async with vectorize_emulator() as index:
        content = b"\r\n" + LINE + b"  \n" + LINE.replace(b'"a"', b'"b"').strip()
        assert await seen(index, await post(index, content=content, headers=NDJSON)) == ["a", "b"]


UNREADABLE = [
    b"{",
    b"[]",
    b"x",
    b'{"values": [1, 0]}',
    b'{"id": 1, "values": [1, 0]}',
    b'{"id": "a"}',
    b'{"id": "a", "values": "1,0"}',
    b'{"id": "a", "values": [1, "0"]}',
    b'{"id": "a", "values": [1, true]}',
    b'{"id": "a", "values": [1, null]}',
    b'{"id": "a", "values": [1, [0]]}',
    b'{"id": "a", "values": [1, NaN]}',
    b'{"id": "a", "values": [1, 1e39]}',
    b'{"id": "a", "values": [1, 1e400]}',
    b'{"id": "a", "values": [1, 1' + b"0" * 400 + b"]}",
    b'{"id": "a", "values": [1, 0], "metadata": []}',
    b'{"id": "a", "values": [1, 0], "metadata": {"k": Infinity}}',
    b'{"id": "a", "values": [1, 0], "namespace": 1}',
    b'{"id": "\\ud800", "values": [1, 0]}',
    b'{"id": "a\xff", "values": [1, 0]}',
    b"[" * 100_000,
]


@pytest.mark.parametrize("bad", UNREADABLE, ids=range(len(UNREADABLE)))
@pytest.mark.parametrize("verb", ["upsert", "insert"])
async def test_an_unparsable_line_refuses_the_request_or_is_discarded(verb: str, bad: bytes) -> None:
    content = LINE.replace(b'"a"', b'"first"') + bad + b"\n" + LINE.replace(b'"a"', b'"last"')
    async with vectorize_emulator() as index:
        assert await index.refused(content, verb) == (400, 40023)
        assert await index.refused(content, verb, **{"unparsable-behavior": "error"}) == (400, 40023)
        index.clock.wait(LAG)
        assert await index.ids() == []
        at, params = f"{index.at}/{verb}", {"unparsable-behavior": "discard"}
        await index.api.result("POST", at, content=content, headers=NDJSON, params=params)
        index.clock.wait(LAG)
        assert await index.ids() == ["first", "last"]


async def test_an_unknown_unparsable_behavior_is_refused() -> None:
    async with vectorize_emulator() as index:
        assert await index.refused(LINE, **{"unparsable-behavior": "ignore"}) == (400, 10400)


async def test_an_empty_body_is_refused_unless_lines_are_discarded() -> None:
    async with vectorize_emulator() as index:
        assert await index.refused(b"") == (400, 40023)
        assert await index.refused(b"\n\n") == (400, 40023)
        options: dict[str, Any] = {"content": b"x\n", "headers": NDJSON}
        await index.api.result("POST", f"{index.at}/upsert", params={"unparsable-behavior": "discard"}, **options)


@pytest.mark.parametrize("size", [63, 64, 65])
async def test_ids_and_namespaces_have_at_most_64_bytes(size: int) -> None:
    text = "é" * (size // 2) + "x" * (size % 2)
    async with vectorize_emulator() as index:
        if size > 64:
            assert await index.refused(ndjson([row(text)])) == (400, 40008)
            assert await index.refused(ndjson([row("a", namespace=text)])) == (400, 40009)
        else:
            await index.put([row(text, namespace=text)])
            assert await index.get(text) == [{"id": text, "values": [1, 0], "namespace": text}]
        assert await index.refused(ndjson([row("")])) == (400, 40008)


async def test_an_invalid_id_is_not_discarded() -> None:
    async with vectorize_emulator() as index:
        assert await index.refused(ndjson([row("")]), **{"unparsable-behavior": "discard"}) == (400, 40008)


@pytest.mark.parametrize("count", [0, 1, 3])
async def test_a_wrong_number_of_values_is_40012_and_names_the_vector(count: int) -> None:
    async with vectorize_emulator() as index:
        content = ndjson([row("good"), {"id": "bad", "values": [1.0] * count}])
        response = await post(index, content=content, headers=NDJSON)
        (error,) = response.json()["errors"]
        message = f'invalid vector for id="bad", expected 2 dimensions, and got {count} dimensions'
        assert (response.status_code, error) == (400, {"code": 40012, "message": message})


@pytest.mark.parametrize("size", [10_239, 10_240, 10_241])
async def test_metadata_has_at_most_10_kib_of_compact_json(size: int) -> None:
    metadata = {"text": "é" * 100 + "x" * (size - 200 - len('{"text":""}'))}
    async with vectorize_emulator() as index:
        if size > 10_240:
            assert await index.refused(ndjson([row("a", metadata=metadata)])) == (400, 40016)
        else:
            await index.put([row("a", metadata=metadata)])
            assert (await index.get("a"))[0]["metadata"] == metadata


@pytest.mark.parametrize("key", ["", "$a", "a.b", 'a"b'])
async def test_an_invalid_metadata_key_is_refused_at_every_level(key: str) -> None:
    async with vectorize_emulator() as index:
        for metadata in ({key: 1}, {"fine": {key: 1}}):
            assert await index.refused(ndjson([row("a", metadata=metadata)])) == (400, 40023)


async def test_valid_metadata_is_stored_unchanged() -> None:
    metadata = {"a$": 1.5, "list": ["x", 1], "deep": {"er": None}, "ü": True}
    async with vectorize_emulator() as index:
        await index.put([row("a", metadata=metadata), row("b", metadata=None, namespace=None), row("c", namespace="")])
        assert (await index.get("a"))[0]["metadata"] == metadata
        assert [list(each) for each in await index.get("b", "c")] == [["id", "values"]] * 2


@pytest.mark.parametrize("count", [4999, 5000, 5001])
async def test_a_request_has_at_most_5000_vectors(count: int) -> None:
    content = ndjson(row(f"{number:04}") for number in range(count))
    async with vectorize_emulator() as index:
        if count > 5000:
            assert await index.refused(content) == (400, 40006)
            assert await index.api.refusal("POST", f"{index.at}/upsert", files={"vectors": ("v", content)}) == (
                400,
                40006,
            )
            count = 0
        else:
            await index.api.result("POST", f"{index.at}/upsert", content=content, headers=NDJSON)
        index.clock.wait(LAG)
        assert (await index.info())["vectorCount"] == count


@pytest.mark.parametrize("size", [99_999_999, 100_000_000, 100_000_001])
async def test_a_body_has_at_most_100_million_bytes(size: int) -> None:
    padding = b" " * (size - len(LINE))
    async with vectorize_emulator() as index:
        response = await post(index, content=LINE + padding, headers=NDJSON)
        assert response.status_code == (413 if size > 100_000_000 else 200)


async def test_a_form_of_more_than_100_million_bytes_is_413() -> None:
    async with vectorize_emulator() as index:
        response = await post(index, files={"vectors": ("v", LINE + b" " * 100_000_000)})
        assert response.status_code == 413


def test_a_refused_body_is_answered_although_the_client_is_still_sending() -> None:
    line = json.dumps(row("a", *([0.5] * 1000))).encode() + b"\n"
    auth = {"Authorization": "Bearer token"}
    with serve(EmulatorOptions(mutation_lag=0)) as server:
        config = {"dimensions": 2, "metric": "cosine"}
        httpx.post(
            f"{server.base_url}{VECTORIZE_ROOT}", headers=auth, json={"name": "docs", "config": config}, verify=False
        )
        at = f"{server.base_url}/accounts/{ACCOUNT}/vectorize/v2/indexes/docs/upsert"
        for kind, content, code in (
            ("text/plain", line * 1000, 1005),
            ("application/x-ndjson", b"x\n" + line * 1000, 40023),
            ("application/x-ndjson", line * 1000, 40012),
        ):
            answer = httpx.post(at, headers={"Content-Type": kind, **auth}, content=content, verify=False)
            assert (answer.status_code, answer.json()["errors"][0]["code"]) == (400, code)
