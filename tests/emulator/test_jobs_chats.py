"""Jobs, the purge of the cache, service tokens, chats and the search in several instances."""

import json
from typing import Any

import pytest

from tests.emulator.harness import ACCOUNT, DOCS, ROOT, ApiClient, emulator

JOBS = f"{DOCS}/jobs"
TOKENS = f"{ROOT}/tokens"
NAMESPACE = f"{ROOT}/namespaces/default"
QUESTION = {"messages": [{"role": "user", "content": "fox"}]}


async def test_a_job_runs_and_ends() -> None:
    async with emulator(index_delay=2) as api:
        job = await api.result("POST", JOBS, json={"description": "by hand"})
        assert (job["source"], job["description"], job["ended_at"]) == ("user", "by hand", None)
        api.clock.wait(2)
        ended = await api.result("GET", f"{JOBS}/{job['id']}")
        assert (ended["ended_at"], ended["end_reason"]) == ("2027-01-15T08:00:02.000Z", "completed")
        assert await api.result("GET", JOBS) == [ended]
        lines = await api.result("GET", f"{JOBS}/{job['id']}/logs")
        assert [line["message"] for line in lines] == ["Job started", "Job ended: completed"]


async def test_a_running_job_is_cancelled_and_an_ended_one_is_7046() -> None:
    async with emulator(index_delay=2) as api:
        job = await api.result("POST", JOBS)
        cancelled = await api.result("PATCH", f"{JOBS}/{job['id']}", json={"action": "cancel"})
        assert cancelled["end_reason"] == "cancelled"
        assert await api.refusal("PATCH", f"{JOBS}/{job['id']}", json={"action": "cancel"}) == (400, 7046)
        assert await api.refusal("PATCH", f"{JOBS}/{job['id']}", json={"action": "stop"}) == (400, 7001)


async def test_jobs_are_30_seconds_apart() -> None:
    async with emulator() as api:
        await api.result("POST", JOBS)
        api.clock.wait(29.9)
        assert await api.refusal("POST", JOBS) == (429, 7020)
        api.clock.wait(0.1)
        await api.result("POST", JOBS)
        assert len(await api.result("GET", JOBS, params={"per_page": 1})) == 1


@pytest.mark.parametrize(("method", "below"), [("GET", ""), ("PATCH", ""), ("GET", "/logs")])
async def test_an_unknown_job_is_7021(method: str, below: str) -> None:
    async with emulator() as api:
        assert await api.refusal(method, f"{JOBS}/nothing{below}") == (404, 7021)


async def test_the_jobs_of_an_instance_go_with_it() -> None:
    async with emulator() as api:
        await api.result("POST", JOBS)
        await api.result("DELETE", DOCS)
        await api.result("POST", f"{ROOT}/instances", json={"id": "docs"})
        assert await api.result("GET", JOBS) == []


async def test_a_purge_empties_the_cache_of_one_instance() -> None:
    async with emulator(index_delay=0) as api:
        assert await api.search("fox") == []
        await api.upload("a.md", b"fox")
        assert await api.search("fox") == []
        await api.result("POST", f"{DOCS}/purge_cache")
        assert len(await api.search("fox")) == 1


async def test_a_service_token_is_created_read_updated_listed_and_deleted() -> None:
    fields = {"name": "mine", "cf_api_id": "id", "cf_api_key": "secret"}
    async with emulator() as api:
        token = await api.result("POST", TOKENS, json=fields)
        assert "secret" not in json.dumps(token)
        at = f"{TOKENS}/{token['id']}"
        assert (await api.result("PUT", at, json=fields | {"name": "ours"}))["name"] == "ours"
        assert [row["name"] for row in await api.result("GET", TOKENS, params={"search": "OUR"})] == ["ours"]
        assert await api.result("GET", TOKENS, params={"search": "mine"}) == []
        await api.result("PUT", DOCS, json={"token_id": token["id"]})
        assert await api.refusal("DELETE", at) == (409, 7076)
        await api.result("PUT", DOCS, json={"token_id": None})
        await api.result("DELETE", at)
        assert await api.refusal("GET", at) == (404, 7075)
        assert await api.refusal("POST", TOKENS, json={"name": "mine"}) == (400, 7001)


async def test_a_chat_quotes_a_chunk_outside_the_envelope() -> None:
    async with emulator(index_delay=0) as api:
        await api.upload("a.md", b"The quick fox")
        answer = (await api.ask("POST", f"{DOCS}/chat/completions", json=QUESTION)).json()
        assert answer["object"] == "chat.completion"
        assert "The quick fox" in answer["choices"][0]["message"]["content"]
        assert [chunk["item"]["key"] for chunk in answer["chunks"]] == ["a.md"]
        body = {"messages": [{"role": "system", "content": "x"}]}
        assert await api.refusal("POST", f"{DOCS}/chat/completions", json=body) == (400, 7038)
        assert await api.refusal("POST", f"{DOCS}/chat/completions", json={"query": "x"}) == (400, 7001)


async def test_a_chat_may_be_a_stream() -> None:
    async with emulator(index_delay=0) as api:
        await api.upload("a.md", b"The quick fox")
        answer = await api.ask("POST", f"{DOCS}/chat/completions", json=QUESTION | {"stream": True})
        assert answer.headers["content-type"].startswith("text/event-stream")
        first, second, last = answer.text.strip().split("\n\n")
        event, data = first.split("\n")
        assert event == "event: chunks"
        assert json.loads(data.removeprefix("data: "))[0]["item"]["key"] == "a.md"
        assert "The quick fox" in json.loads(second.removeprefix("data: "))["choices"][0]["delta"]["content"]
        assert last == "data: [DONE]"


async def _several(api: ApiClient, path: str, names: list[str], **retrieval: Any) -> Any:
    options = {"instance_ids": names, "retrieval": retrieval}
    answer = await api.ask("POST", f"{NAMESPACE}/{path}", json=QUESTION | {"ai_search_options": options})
    body = answer.json()
    return body if "chunks" in body else body["result"] or (answer.status_code, body["errors"][0]["code"])


@pytest.mark.parametrize("path", ["search", "chat/completions"])
async def test_several_instances_are_searched_together(path: str) -> None:
    async with emulator(index_delay=0) as api:
        await api.upload("a.md", b"fox")
        await api.result("POST", f"{ROOT}/instances", json={"id": "other"})
        found = await _several(api, path, ["docs", "other", "absent"])
        assert [(chunk["instance_id"], chunk["item"]["key"]) for chunk in found["chunks"]] == [("docs", "a.md")]
        assert found["errors"] == [{"instance_id": "absent", "message": "search_failed"}]
        assert await _several(api, path, ["docs", "absent"], return_on_failure=False) == (500, 7049)
        assert await _several(api, path, ["docs"] * 11) == (400, 7074)
        assert await _several(api, path, []) == (400, 7001)
        assert len((await _several(api, path, ["docs"] * 10, max_num_results=3))["chunks"]) == 3


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "models/search"), ("GET", "models/schema"), ("GET", "tasks/search"), ("POST", "tomarkdown")],
)
async def test_other_routes_of_workers_ai_are_refused_in_words(method: str, path: str) -> None:
    async with emulator() as api:
        answer = await api.ask(method, f"/accounts/{ACCOUNT}/ai/{path}")
        assert answer.status_code == 501
        assert "embedding models only" in answer.json()["errors"][0]["message"]
