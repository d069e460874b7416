import json
from typing import Any

import httpx
import pytest

from tests.emulator.harness import DOCS, ITEMS, ROOT, ApiClient, emulator, form

MIB = 1024 * 1024


async def test_an_upload_is_shown_with_every_field_of_the_reference() -> None:
    async with emulator() as api:
        item = await api.upload("docs/guide/a.md", b"Hello")
        assert len(item.pop("id")) == 32
        assert len(item.pop("checksum")) == 32
        assert item == {
            "key": "docs/guide/a.md",
            "status": "queued",
            "next_action": "INDEX",
            "chunks_count": None,
            "file_size": 5,
            "created_at": "2027-01-15T08:00:00.000Z",
            "last_seen_at": "2027-01-15T08:00:00.000Z",
            "namespace": "default",
            "source_id": "builtin",
            "metadata": {"filename": "a.md", "folder": "docs/guide/", "timestamp": 1_800_000_000_000},
            "warnings": [],
        }


async def test_an_item_is_queued_then_running_then_completed() -> None:
    async with emulator(index_delay=10) as api:
        item_id = (await api.upload("a.md"))["id"]
        seen = []
        for _ in range(3):
            item = await api.item(item_id)
            seen.append((item["status"], item["next_action"], item["chunks_count"], item["last_seen_at"][17:19]))
            api.clock.wait(5)
        assert seen == [
            ("queued", "INDEX", None, "00"),
            ("running", None, None, "05"),
            ("completed", None, 1, "10"),
        ]


async def test_an_upload_can_wait_for_its_completion() -> None:
    async with emulator(index_delay=10) as api:
        item = await api.upload("a.md", wait_for_completion="true")
        assert item["status"] == "completed"
        assert (await api.upload("b.md", wait_for_completion="false"))["status"] == "queued"


async def test_the_wait_ends_after_40_seconds() -> None:
    async with emulator(index_delay=60) as api:
        begin = api.clock()
        assert (await api.upload("a.md", wait_for_completion="true"))["status"] == "running"
        assert api.clock() - begin == 40


async def test_a_download_returns_the_uploaded_bytes() -> None:
    async with emulator() as api:
        content = bytes(range(256)) * 10 + b"\r\n--boundary\r\n"
        item_id = (await api.upload("a.txt", content))["id"]
        response = await api.ask("GET", f"{ITEMS}/{item_id}/download")
        assert response.content == content


async def test_an_overwritten_item_keeps_its_id_and_is_indexed_again() -> None:
    async with emulator(index_delay=1) as api:
        old = await api.upload("a.md", b"old words", wait_for_completion="true")
        api.clock.wait(1)
        new = await api.upload("a.md", b"newer words", metadata='{"tag": "x"}')
        assert new["id"] == old["id"]
        assert new["created_at"] == old["created_at"]
        assert new["checksum"] != old["checksum"]
        assert (new["file_size"], new["status"], new["metadata"]["tag"]) == (11, "queued", "x")
        api.clock.wait(1)
        assert [row["id"] for row in await api.listed()] == [old["id"]]
        assert await api.search("old") == []
        assert len(await api.search("newer")) == 1


async def test_the_conflict_option_refuses_a_known_key_until_it_is_deleted() -> None:
    async with emulator(on_existing="conflict") as api:
        item_id = (await api.upload("a.md", b"one"))["id"]
        assert await api.refusal("POST", ITEMS, **form("a.md", b"two")) == (409, 7042)
        assert (await api.ask("GET", f"{ITEMS}/{item_id}/download")).content == b"one"
        assert await api.result("DELETE", f"{ITEMS}/{item_id}") == {"key": "a.md"}
        assert (await api.upload("a.md", b"two"))["id"] != item_id


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("zero", "0"),
        ("md5", "900150983cd24fb0d6963f7d28e17f72"),
        ("sha256", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    ],
)
async def test_the_checksum_can_be_a_digest_or_zero(kind: str, expected: str) -> None:
    async with emulator(checksum=kind) as api:
        assert (await api.upload("a.md", b"abc"))["checksum"] == expected


async def test_an_opaque_checksum_changes_with_every_write_only() -> None:
    async with emulator() as api:
        first = await api.upload("a.md")
        again = await api.result("PATCH", f"{ITEMS}/{first['id']}", json={"next_action": "INDEX"})
        second = await api.upload("a.md")
        assert first["checksum"] == again["checksum"] != second["checksum"]


async def test_keys_that_match_fail_index_end_in_error_and_can_be_queued_again() -> None:
    async with emulator(fail_index=r"\.bad\.md$", index_delay=2) as api:
        item = await api.upload("x.bad.md", wait_for_completion="true")
        assert (item["status"], item["error"], item["chunks_count"]) == ("error", "unable_to_convert_to_markdown", None)
        assert (await api.upload("x.md", wait_for_completion="true"))["status"] == "completed"
        again = await api.result("PATCH", f"{ITEMS}/{item['id']}", json={"next_action": "INDEX"})
        assert again["status"] == "queued"
        assert "error" not in again
        api.clock.wait(2)
        assert (await api.item(item["id"]))["status"] == "error"


async def test_temporary_errors_end_after_fail_index_times_indexings() -> None:
    async with emulator(fail_index_transient="late", fail_index_times=2, index_delay=0) as api:
        item = await api.upload("late.md")
        assert (item["status"], item["error"]) == ("error", "unknown_error")
        again = [
            (await api.result("PATCH", f"{ITEMS}/{item['id']}", json={"next_action": "INDEX"}))["status"]
            for _ in range(3)
        ]
        assert again == ["error", "completed", "completed"]
        assert (await api.upload("soon.md"))["status"] == "completed"


async def test_temporary_errors_without_a_number_never_end() -> None:
    async with emulator(fail_index_transient="late", fail_index_times=0, index_delay=0) as api:
        item = await api.upload("late.md")
        for _ in range(3):
            item = await api.result("PATCH", f"{ITEMS}/{item['id']}", json={"next_action": "INDEX"})
            assert item["error"] == "unknown_error"


async def test_a_pdf_that_cannot_be_indexed_is_locked_and_its_log_says_so() -> None:
    async with emulator(fail_index="secret", index_delay=0) as api:
        item = await api.upload("secret.pdf", b"%PDF-1.7")
        assert item["error"] == "file_is_password_locked"
        last = (await api.result("GET", f"{ITEMS}/{item['id']}/logs"))[0]
        assert last["errorType"] == "file_is_password_locked"
        assert last["message"] == "Indexing failed: file_is_password_locked"


async def test_the_indexing_of_some_keys_takes_longer() -> None:
    async with emulator(index_delay=2, slow_index="slow", slow_index_delay=100) as api:
        slow, quick = await api.upload("slow.md"), await api.upload("quick.md")
        api.clock.wait(99)
        assert (await api.item(slow["id"]))["status"] == "running"
        assert (await api.item(quick["id"]))["status"] == "completed"
        api.clock.wait(1)
        assert (await api.item(slow["id"]))["status"] == "completed"


@pytest.mark.parametrize(("key", "content"), [("a.md", b""), ("a.txt", b" \n\t"), ("a.md", b"# One\n\n## Two\n")])
async def test_a_file_without_text_is_accepted_and_fails_in_the_index(key: str, content: bytes) -> None:
    async with emulator() as api:
        item = await api.upload(key, content, wait_for_completion="true")
        assert (item["status"], item["error"]) == ("error", "file_content_empty")


async def test_put_indexes_the_stored_content_of_a_key_again() -> None:
    async with emulator(index_delay=1) as api:
        item = await api.upload("a.md", wait_for_completion="true")
        body = {"key": "a.md", "next_action": "INDEX"}
        assert (await api.result("PUT", ITEMS, json=body))["status"] == "queued"
        done = await api.result("PUT", ITEMS, json=body | {"wait_for_completion": True})
        assert (done["id"], done["status"], done["chunks_count"]) == (item["id"], "completed", 1)


async def test_put_refuses_a_key_that_was_never_uploaded() -> None:
    async with emulator() as api:
        body = {"key": "a.md", "next_action": "INDEX"}
        assert await api.refusal("PUT", ITEMS, json=body) == (404, 7041)
        assert await api.listed() == []


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"next_action": "INDEX"}, 7001),
        ({"key": "", "next_action": "INDEX"}, 7001),
        ({"key": "a.md"}, 7001),
        ({"key": "a.md", "next_action": "DELETE"}, 7001),
        ({"key": "a.md", "next_action": "INDEX", "wait_for_completion": "yes"}, 7001),
        ({"key": "k" * 129, "next_action": "INDEX"}, 7072),
    ],
)
async def test_put_refuses_a_body_outside_the_schema(body: dict[str, object], code: int) -> None:
    async with emulator() as api:
        assert await api.refusal("PUT", ITEMS, json=body) == (400, code)


async def test_an_instance_with_a_source_has_items_without_content() -> None:
    async with emulator() as api:
        await api.result("POST", f"{ROOT}/instances", json={"id": "crawl", "type": "r2", "source": "bucket"})
        items = f"{ROOT}/instances/crawl/items"
        body = {"key": "a.md", "next_action": "INDEX", "wait_for_completion": True}
        outside = await api.result("PUT", items, json=body)
        assert (outside["source_id"], outside["file_size"]) == ("r2:bucket", None)
        assert (outside["status"], outside["error"]) == ("error", "file_not_found")
        assert await api.refusal("GET", f"{items}/{outside['id']}/download") == (400, 7059)
        again = await api.result("PATCH", f"{items}/{outside['id']}", json={"next_action": "INDEX"})
        assert again["status"] == "queued"
        uploaded = await api.result("POST", items, **form("a.md"))
        assert uploaded["id"] != outside["id"]
        for source, item_id in (("builtin", uploaded["id"]), ("r2:bucket", outside["id"])):
            rows = await api.result("GET", items, params={"key": "a.md", "source": source})
            assert [row["id"] for row in rows] == [item_id]


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
async def test_an_absent_item_is_7041(method: str) -> None:
    async with emulator() as api:
        body = {"json": {"next_action": "INDEX"}} if method == "PATCH" else {}
        assert await api.refusal(method, f"{ITEMS}/nothing", **body) == (404, 7041)
        for part in ("download", "chunks", "logs"):
            assert await api.refusal("GET", f"{ITEMS}/nothing/{part}") == (404, 7041)


async def test_an_item_of_another_instance_is_absent() -> None:
    async with emulator() as api:
        item_id = (await api.upload("a.md"))["id"]
        await api.result("POST", f"{ROOT}/instances", json={"id": "other"})
        assert await api.refusal("GET", f"{ROOT}/instances/other/items/{item_id}") == (404, 7041)


async def test_a_deleted_item_disappears_everywhere() -> None:
    async with emulator(index_delay=0) as api:
        item_id = (await api.upload("a.md", b"unusual words"))["id"]
        await api.result("DELETE", f"{ITEMS}/{item_id}")
        assert await api.refusal("DELETE", f"{ITEMS}/{item_id}") == (404, 7041)
        assert await api.listed() == []
        assert await api.search("unusual") == []


async def test_a_file_may_have_4_mib_and_not_a_byte_more() -> None:
    async with emulator() as api:
        assert (await api.upload("a.pdf", bytes(4 * MIB)))["file_size"] == 4 * MIB
        assert await api.refusal("POST", ITEMS, **form("a.pdf", bytes(4 * MIB + 1))) == (413, 7054)
        assert await api.refusal("POST", ITEMS, **form("a.pdf", bytes(6 * MIB))) == (413, 7054)


@pytest.mark.parametrize(
    ("key", "mebibytes", "ocr"),
    [
        ("a.md", 10, False),
        ("a.PY", 10, False),
        ("a.html", 4, False),
        ("a.log.gz", 4, True),
        ("a.pdf", 10, True),
        ("a.png", 4, True),
    ],
)
async def test_the_limit_of_a_file_follows_from_its_type(key: str, mebibytes: int, ocr: bool) -> None:
    async with emulator() as api:
        await api.result("PUT", DOCS, json={"indexing_options": {"use_ocr": ocr}})
        limit = mebibytes * MIB
        assert (await api.upload(key, bytes(limit)))["file_size"] == limit
        assert await api.refusal("POST", ITEMS, **form(key, bytes(limit + 1))) == (413, 7054)


@pytest.mark.parametrize(("oversize", "status", "error"), [("skip", "skipped", None), ("error", "error", "over_size")])
async def test_a_file_over_the_limit_may_be_taken_and_not_indexed(
    oversize: str, status: str, error: str | None
) -> None:
    async with emulator(index_delay=0, oversize=oversize) as api:
        item = await api.upload("a.png", bytes(4 * MIB + 1))
        assert (item["status"], item.get("error")) == (status, error)
        assert (await api.upload("b.png", bytes(4 * MIB)))["status"] == "completed"


async def test_a_key_may_have_128_characters_and_not_one_more() -> None:
    async with emulator() as api:
        assert (await api.upload("é" * 125 + ".md"))["key"] == "é" * 125 + ".md"
        assert await api.refusal("POST", ITEMS, **form("k" * 126 + ".md")) == (400, 7072)


@pytest.mark.parametrize("key", ["a.ts", "a.pptx", "Makefile", "md", "a.md.exe"])
async def test_a_file_type_that_is_not_listed_is_refused(key: str) -> None:
    async with emulator() as api:
        assert await api.refusal("POST", ITEMS, **form(key)) == (400, 7060)


@pytest.mark.parametrize("key", ["a.MD", ".env", "x/.gitignore", "a.log.gz", "a.numbers"])
async def test_a_file_type_is_judged_by_the_end_of_the_key(key: str) -> None:
    async with emulator() as api:
        assert (await api.upload(key))["key"] == key


@pytest.mark.parametrize(
    "key", ["a b.md", 'q".md', "back\\slash.md", "100%22.md", "naïve/日本.md", "a'b;c=d.md", "/x/../y.md"]
)
async def test_a_key_arrives_as_it_was_sent(key: str) -> None:
    async with emulator() as api:
        await api.upload(key)
        # httpx sends a quote as %22 and a backslash unchanged. The runtime of the service keeps the %22.
        sent = key.replace('"', "%22")
        assert [row["key"] for row in await api.listed(key=sent)] == [sent]


@pytest.mark.parametrize(
    ("disposition", "key"),
    [
        (b'form-data; name="file"; filename="a\\"b.md"', 'a"b.md'),
        (b"form-data; name=file; filename=plain.md", "plain.md"),
        (b'form-data; filename="a.md"; name="file"; filename*=UTF-8\'\'other.md', "a.md"),
        ('form-data; name="file"; filename="é.md"'.encode(), "é.md"),
        (b'form-data; name="file"; filename="C:\\\\x.md"', "C:\\x.md"),
    ],
)
async def test_every_form_of_a_disposition_header_is_parsed(disposition: bytes, key: str) -> None:
    async with emulator() as api:
        body = b"--B\r\nContent-Disposition: " + disposition + b"\r\n\r\ntext\r\n--B--\r\n"
        headers = {"Content-Type": 'multipart/form-data; boundary="B"'}
        assert (await api.result("POST", ITEMS, content=body, headers=headers))["key"] == key


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"json": {"file": "x"}},
        {"files": {"other": ("a.md", b"x")}},
        {"files": {"file": (None, '{"file":"Example data"}')}},
        {"content": b"--B\r\nbroken", "headers": {"Content-Type": "multipart/form-data; boundary=B"}},
        {"content": b"nothing", "headers": {"Content-Type": "multipart/form-data"}},
    ],
)
async def test_an_upload_without_a_file_is_7055(options: dict[str, object]) -> None:
    async with emulator() as api:
        assert await api.refusal("POST", ITEMS, **options) == (400, 7055)


async def test_a_paused_instance_refuses_uploads() -> None:
    async with emulator() as api:
        await api.result("PUT", DOCS, json={"paused": True})
        assert await api.refusal("POST", ITEMS, **form("a.md")) == (400, 7032)


async def test_chunks_cover_the_file_without_gap_or_overlap() -> None:
    async with emulator(index_delay=0) as api:
        text = "\n\n".join(f"Absatz {n}: " + "größer " * (30 + 40 * (n % 7)) for n in range(20)) + "x" * 2500
        content = text.encode() + b"\xff\xfe end"
        item = await api.upload("a.md", content)
        chunks: list[dict[str, Any]] = []
        while page := await api.result(
            "GET", f"{ITEMS}/{item['id']}/chunks", params={"limit": 3, "offset": len(chunks)}
        ):
            chunks += page
        assert item["chunks_count"] == len(chunks) > 10
        assert chunks[0]["start_byte"] == 0
        assert [c["end_byte"] for c in chunks] == [*(c["start_byte"] for c in chunks[1:]), len(content)]
        for chunk in chunks:
            piece = content[chunk["start_byte"] : chunk["end_byte"]]
            assert chunk["text"] == piece.decode(errors="replace")
            assert len(chunk["text"]) <= 1000
        assert chunks[0]["item"] == {
            "key": "a.md",
            "timestamp": 1_800_000_000_000,
            "metadata": {"filename": "a.md", "folder": "", "timestamp": 1_800_000_000_000},
        }


async def test_chunks_appear_when_the_item_is_indexed() -> None:
    async with emulator(index_delay=1) as api:
        item_id = (await api.upload("a.md"))["id"]
        assert await api.result("GET", f"{ITEMS}/{item_id}/chunks") == []
        api.clock.wait(1)
        assert len(await api.result("GET", f"{ITEMS}/{item_id}/chunks")) == 1


async def test_logs_are_listed_newest_first_page_by_page() -> None:
    async with emulator(index_delay=2) as api:
        item_id = (await api.upload("a.md", wait_for_completion="true"))["id"]
        await api.upload("a.md")
        logs = f"{ITEMS}/{item_id}/logs"
        first = (await api.ask("GET", logs, params={"limit": 3})).json()
        info = first["result_info"]
        assert (info["count"], info["per_page"], info["truncated"]) == (3, 3, True)
        rest = (await api.ask("GET", logs, params={"limit": 3, "cursor": info["cursor"]})).json()
        assert rest["result_info"] == {"count": 1, "per_page": 3, "cursor": None, "truncated": False}
        lines = first["result"] + rest["result"]
        assert [line["action"] for line in lines] == ["queued", "completed", "running", "queued"]
        assert lines[1] == {
            "timestamp": "2027-01-15T08:00:02.000Z",
            "action": "completed",
            "message": "Indexing completed",
            "fileKey": "a.md",
            "chunkCount": 1,
            "processingTimeMs": 2000,
            "errorType": None,
        }


async def test_an_interrupted_indexing_leaves_no_end_in_the_logs() -> None:
    async with emulator(index_delay=2, fail_index="x") as api:
        item_id = (await api.upload("x.md"))["id"]
        api.clock.wait(1.5)
        await api.upload("x.md")
        api.clock.wait(10)
        lines = await api.result("GET", f"{ITEMS}/{item_id}/logs")
        assert [line["action"] for line in lines] == ["error", "running", "queued", "running", "queued"]
        assert lines[0]["errorType"] == "unable_to_convert_to_markdown"
        assert lines[0]["message"] == "Indexing failed: unable_to_convert_to_markdown"


@pytest.mark.parametrize("params", [{"limit": 0}, {"limit": 101}, {"cursor": "x"}])
async def test_logs_refuse_invalid_parameters(params: dict[str, object]) -> None:
    async with emulator() as api:
        item_id = (await api.upload("a.md"))["id"]
        assert await api.refusal("GET", f"{ITEMS}/{item_id}/logs", params=params) == (400, 7001)


async def _declare(api: ApiClient) -> None:
    fields = [
        {"field_name": "Owner", "data_type": "text"},
        {"field_name": "size", "data_type": "number"},
        {"field_name": "draft", "data_type": "boolean"},
        {"field_name": "due", "data_type": "datetime"},
    ]
    await api.result("PUT", DOCS, json={"custom_metadata": fields})


async def test_metadata_is_stored_with_warnings_about_fields_that_filters_ignore() -> None:
    async with emulator() as api:
        await _declare(api)
        custom = {"OWNER": "me", "size": "big", "draft": True, "due": "2026-11-22", "colour": "red"}
        item = await api.upload("a.md", metadata=json.dumps(custom))
        assert item["warnings"] == [
            {"code": "custom_metadata_value_not_indexed", "field": "size", "expected_type": "number"},
            {"code": "custom_metadata_field_not_filterable", "field": "colour"},
        ]
        assert item["metadata"].items() >= {"owner": "me", "size": "big", "colour": "red", "draft": True}.items()


@pytest.mark.parametrize(
    "metadata",
    [
        "no json",
        "[1]",
        '{"a": {"b": 1}}',
        '{"a": null}',
        '{"Folder": "x"}',
        '{"": 1}',
        '{"a": NaN}',
        '{"a": "\\ud800"}',
    ],
)
async def test_metadata_other_than_a_flat_object_is_7056(metadata: str) -> None:
    async with emulator() as api:
        assert await api.refusal("POST", ITEMS, **form("a.md", metadata=metadata)) == (400, 7056)


async def test_metadata_is_limited_to_10_kib_with_the_system_fields() -> None:
    async with emulator() as api:
        system = len(b'{"filename":"a.md","folder":"","timestamp":1800000000000,"x":""}')
        fits = "v" * (10 * 1024 - system)
        assert (await api.upload("a.md", metadata=json.dumps({"x": fits})))["metadata"]["x"] == fits
        assert await api.refusal("POST", ITEMS, **form("a.md", metadata=json.dumps({"x": fits + "v"}))) == (400, 7056)


async def test_an_option_refuses_all_metadata() -> None:
    async with emulator(metadata="refuse") as api:
        assert await api.refusal("POST", ITEMS, **form("a.md", metadata='{"owner": "me"}')) == (400, 7056)
        assert (await api.upload("a.md"))["key"] == "a.md"


async def test_an_option_accepts_only_texts_as_metadata() -> None:
    async with emulator(metadata="texts") as api:
        for value in ("7", "true"):
            refusal = await api.refusal("POST", ITEMS, **form("a.md", metadata=f'{{"a": "b", "n": {value}}}'))
            assert refusal == (400, 7056)
        assert (await api.upload("a.md", metadata='{"n": "7"}'))["metadata"]["n"] == "7"


async def test_an_option_accepts_only_declared_metadata() -> None:
    async with emulator(metadata="declared") as api:
        assert await api.refusal("POST", ITEMS, **form("a.md", metadata='{"surely_not": "x"}')) == (400, 7056)
        assert (await api.upload("a.md"))["key"] == "a.md"


async def test_an_option_omits_metadata_from_items() -> None:
    async with emulator(list_metadata=False) as api:
        assert "metadata" not in await api.upload("a.md", metadata='{"owner": "me"}')
        assert ["metadata" in row for row in await api.listed()] == [False]


async def test_a_new_schema_queues_everything_again_and_makes_fields_filterable() -> None:
    async with emulator(index_delay=1) as api:
        await api.upload("a.md", metadata='{"owner": "me"}', wait_for_completion="true")
        wanted = {"metadata_filter": '{"owner": "me"}'}
        assert await api.listed(**wanted) == []
        await _declare(api)
        assert [row["status"] for row in await api.listed(**wanted)] == ["queued"]


async def test_the_namespaced_and_the_plain_path_show_the_same_items() -> None:
    async with emulator() as api:
        item_id = (await api.upload("a.md"))["id"]
        path = f"{ROOT}/namespaces/default/instances/docs/items/{item_id}"
        assert (await api.result("GET", path))["key"] == "a.md"


async def test_a_body_other_than_a_json_object_is_refused() -> None:
    async with emulator() as api:
        for content in (b"", b"{", b"[]", b'{"key": "\\ud800", "next_action": "INDEX"}', b"[" * 100_000):
            response = await api.refusal("PUT", ITEMS, content=content)
            assert response == (400, 7001)


async def test_a_store_on_disk_survives_a_restart(tmp_path_factory: pytest.TempPathFactory) -> None:
    store = tmp_path_factory.mktemp("store") / "emulator.db"
    async with emulator(store=store, index_delay=10) as api:
        item_id = (await api.upload("a.md", b"lasting words"))["id"]
    async with emulator(store=store, index_delay=10) as api:
        api.clock.wait(6)
        assert (await api.item(item_id))["status"] == "running"
        api.clock.wait(6)
        assert len(await api.search("lasting")) == 1


def test_httpx_sends_quotes_as_the_sdk_does() -> None:
    request = httpx.Request("POST", "http://x", files={"file": ('a"b.md', b"")})
    assert b'filename="a%22b.md"' in request.read()
