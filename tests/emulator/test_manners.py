"""Options that play the manners of the service: permissions, pauses, errors of indexing, and the cache of searches."""

from typing import Any

import pytest

from syncd.emulator.ai_search_files import INSTANCE_ERRORS, ITEM_ERRORS
from tests.emulator.harness import DOCS, ITEMS, KV_ROOT, ROOT, ApiClient, emulator, form

FOX = b"The quick brown fox"


@pytest.mark.parametrize(("permissions", "status"), [("edit", 403), ("run", 401)])
async def test_a_token_needs_run_for_searches_and_edit_for_the_rest(permissions: str, status: int) -> None:
    async with emulator(token="token", permissions=permissions, permission_status=status) as api:
        search = await api.ask("POST", f"{DOCS}/search", json={"query": "x"})
        items = await api.ask("GET", ITEMS)
        denied, allowed = (search, items) if permissions == "edit" else (items, search)
        assert (denied.status_code, denied.json()["errors"][0]["code"]) == (status, 10000)
        assert allowed.status_code == 404, "allowed, but there is no instance"
        assert (await api.ask("GET", KV_ROOT)).is_success


@pytest.mark.parametrize("code", ITEM_ERRORS)
async def test_each_documented_error_of_an_item_can_be_played(code: str) -> None:
    async with emulator(index_delay=0, index_error=(f"^bad/={code}", "^=over_size")) as api:
        item = await api.upload("bad/a=b.md")
        assert (item["status"], item["error"]) == ("error", code)
        assert (await api.upload("a.md"))["error"] == "over_size"
        lines = await api.result("GET", f"{ITEMS}/{item['id']}/logs")
        assert (lines[0]["errorType"], lines[0]["message"]) == (code, f"Indexing failed: {code}")


@pytest.mark.parametrize("code", INSTANCE_ERRORS)
async def test_an_error_of_the_instance_pauses_it(code: str) -> None:
    async with emulator(index_delay=0, index_error=(f"full={code}",)) as api:
        await api.upload("a.md")
        assert not (await api.result("GET", DOCS))["paused"]
        await api.upload("full.md")
        assert (await api.result("GET", DOCS))["paused"]
        assert await api.refusal("POST", ITEMS, **form("a.md")) == (400, 7032)


async def test_instances_may_be_paused_until_they_are_resumed() -> None:
    async with emulator(paused=True) as api:
        assert (await api.result("GET", DOCS))["paused"] is True
        assert await api.refusal("POST", ITEMS, **form("a.md")) == (400, 7032)
        assert (await api.result("PUT", DOCS, json={"paused": False}))["paused"] is False
        await api.upload("a.md")


async def test_instances_may_have_no_built_in_storage() -> None:
    async with emulator(builtin_storage=False) as api:
        assert await api.refusal("POST", ITEMS, **form("a.md")) == (400, 7053)
        assert await api.listed() == []


async def test_the_status_of_an_instance_follows_its_items() -> None:
    async with emulator(index_delay=1) as api:
        statuses = [(await api.result("GET", DOCS))["status"]]
        await api.upload("a.md")
        statuses.append((await api.result("GET", DOCS))["status"])
        api.clock.wait(1)
        statuses.append((await api.result("GET", DOCS))["status"])
        assert statuses == ["waiting", "indexing", "active"]


async def test_a_skipped_item_has_no_error_in_its_log() -> None:
    async with emulator(index_delay=0, skip_index="a") as api:
        item = await api.upload("a.md")
        assert item["status"] == "skipped"
        lines = await api.result("GET", f"{ITEMS}/{item['id']}/logs")
        assert (lines[0]["action"], lines[0]["errorType"]) == ("skipped", None)


async def _found(api: ApiClient, query: str, **options: Any) -> tuple[str, list[str]]:
    """Search, and return the header about the cache and the keys."""
    body = {"query": query, "ai_search_options": options}
    answer = await api.ask("POST", f"{DOCS}/search", json=body)
    chunks = answer.json()["result"]["chunks"]
    return answer.headers["cf-aig-cache-status"], [chunk["item"]["key"] for chunk in chunks]


async def test_a_similar_query_is_answered_from_the_cache_unless_it_is_off() -> None:
    async with emulator(index_delay=0) as api:
        await api.upload("a.md", FOX)
        assert await _found(api, "brown fox") == ("MISS", ["a.md"])
        await api.upload("b.md", FOX)
        assert await _found(api, "Fox, brown!") == ("HIT", ["a.md"]), "a new item does not clear the cache"
        assert await _found(api, "brown fox", retrieval={"max_num_results": 1}) == ("MISS", ["a.md"])
        assert await _found(api, "brown fox", cache={"enabled": False}) == ("MISS", ["a.md", "b.md"])
        api.clock.wait(172_800)
        assert await _found(api, "brown fox") == ("MISS", ["a.md", "b.md"])


async def test_an_item_that_changes_or_goes_clears_its_answers() -> None:
    async with emulator(index_delay=0) as api:
        first = await api.upload("a.md", FOX)
        await _found(api, "fox")
        await api.upload("a.md", b"The slow fox")
        assert await _found(api, "fox") == ("MISS", ["a.md"])
        await api.result("DELETE", f"{ITEMS}/{first['id']}")
        assert await _found(api, "fox") == ("MISS", [])
        await api.upload("a.md", FOX)
        assert await _found(api, "fox") == ("HIT", []), "an empty answer stays"


async def test_an_instance_may_have_no_cache() -> None:
    async with emulator(index_delay=0) as api:
        await api.result("PUT", DOCS, json={"cache": False})
        for keys in ([], ["a.md"]):
            assert await _found(api, "fox") == ("MISS", keys)
            await api.upload("a.md", FOX)
        assert await _found(api, "fox", cache={"enabled": True}) == ("MISS", ["a.md"])
        assert await _found(api, "fox", cache={"enabled": True}) == ("HIT", ["a.md"])


async def test_a_failed_retrieval_is_an_empty_list_unless_the_client_asks_for_the_error() -> None:
    async with emulator(index_delay=0, fail_search=True) as api:
        await api.upload("a.md", FOX)
        assert await api.search("fox") == []
        body = {"query": "fox", "ai_search_options": {"retrieval": {"return_on_failure": False}}}
        assert await api.refusal("POST", f"{DOCS}/search", json=body) == (500, 7073)


async def test_a_filter_on_a_field_that_is_neither_declared_nor_the_systems_is_7105() -> None:
    async with emulator(index_delay=0) as api:
        await api.upload("a.md", FOX, metadata='{"owner": "me"}')
        body = {"query": "fox", "ai_search_options": {"retrieval": {"filters": {"Owner": "me"}}}}
        assert await api.refusal("POST", f"{DOCS}/search", json=body) == (400, 7105)
        await api.result("PUT", DOCS, json={"custom_metadata": [{"field_name": "owner", "data_type": "text"}]})
        assert len(await api.search("fox", filters={"Owner": "me"})) == 1


@pytest.mark.parametrize("kept", ["keep", "new"])
async def test_an_overwritten_item_may_have_another_id(kept: str) -> None:
    async with emulator(index_delay=0, overwritten_id=kept) as api:
        first = await api.upload("a.md", b"quick fox")
        second = await api.upload("a.md", b"slow fox")
        assert (first["id"] == second["id"]) is (kept == "keep")
        assert [row["id"] for row in await api.listed()] == [second["id"]]
        assert [chunk["text"] for chunk in await api.search("fox")] == ["slow fox"]
        if kept == "new":
            assert await api.refusal("GET", f"{ITEMS}/{first['id']}") == (404, 7041)


@pytest.mark.parametrize(
    ("names", "sent", "key"),
    [
        ("backslash", 'a\\"%22.md', 'a"%22.md'),
        ("percent", "a%22.md", 'a".md'),
        ("percent", "a\\b%0ac%2F.md", "a\\b\nc%2F.md"),
    ],
)
async def test_names_of_a_form_may_be_escaped_in_either_way(names: str, sent: str, key: str) -> None:
    async with emulator(form_names=names) as api:
        head = f'--B\r\nContent-Disposition: form-data; name="file"; filename="{sent}"\r\n\r\n'
        headers = {"Content-Type": 'multipart/form-data; boundary="B"'}
        item = await api.result("POST", ITEMS, content=head.encode() + b"text\r\n--B--\r\n", headers=headers)
        assert item["key"] == key


async def test_a_deleted_item_may_be_there_for_a_while() -> None:
    async with emulator(index_delay=0, delete_delay=5, on_existing="conflict") as api:
        item = await api.upload("a.md", FOX)
        for _ in range(2):
            await api.result("DELETE", f"{ITEMS}/{item['id']}")
        assert (await api.item(item["id"]))["next_action"] == "DELETE"
        assert [row["next_action"] for row in await api.listed()] == ["DELETE"]
        assert await api.refusal("POST", ITEMS, **form("a.md")) == (409, 7042)
        api.clock.wait(4.9)
        assert len(await api.search("fox")) == 1
        api.clock.wait(0.1)
        assert await api.refusal("GET", f"{ITEMS}/{item['id']}") == (404, 7041)
        assert await api.search("fox") == await api.listed() == []
        await api.upload("a.md", FOX)


async def test_an_upload_revives_a_deleted_item() -> None:
    async with emulator(index_delay=0, delete_delay=5) as api:
        item = await api.upload("a.md", FOX)
        await api.result("DELETE", f"{ITEMS}/{item['id']}")
        await api.upload("a.md", FOX)
        api.clock.wait(5)
        assert (await api.item(item["id"]))["next_action"] is None


async def test_degraded_statistics_have_no_counts() -> None:
    async with emulator(degraded=True) as api:
        assert await api.result("GET", f"{DOCS}/stats") == {"degraded": True}


@pytest.mark.parametrize(
    ("method", "path", "body", "message"),
    [
        ("POST", f"{ROOT}/instances", {"id": "docs"}, "ai_search_with_this_name_already_exist"),
        ("POST", ITEMS, {"file": "x"}, "file_field_is_required"),
        ("DELETE", f"{ROOT}/namespaces/default", None, "cannot_modify_default_namespace"),
        ("GET", f"{ITEMS}/nothing", None, "item_not_found"),
        ("POST", f"{DOCS}/search", {}, "missing_user_query"),
    ],
)
async def test_refusals_have_the_documented_texts(method: str, path: str, body: Any, message: str) -> None:
    async with emulator() as api:
        answer = (await api.ask(method, path, json=body)).json()
        assert answer["errors"][0]["message"].startswith(message)


async def test_a_file_over_the_limit_and_a_foreign_download_have_the_documented_texts() -> None:
    async with emulator() as api:
        answer = (await api.ask("POST", ITEMS, **form("a.png", bytes(4 * 1024 * 1024 + 1)))).json()
        assert answer["errors"][0]["message"].startswith("file_exceeds_maximum_size")
        await api.result("PUT", DOCS, json={"source": "bucket"})
        item = await api.result("PUT", ITEMS, json={"key": "b.md", "next_action": "INDEX"})
        answer = (await api.ask("GET", f"{ITEMS}/{item['id']}/download")).json()
        assert answer["errors"][0]["message"] == "content_download_not_available_for_external_source_items"
