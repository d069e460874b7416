"""Embeddings: the request, valid and invalid answers, and refused texts."""

from array import array
from typing import Any

import httpx
import pytest

from syncd.cloudflare import transport as transport_module
from syncd.cloudflare.vectorize import DIMENSIONS_LIMIT
from syncd.cloudflare.workers_ai import MODELS, Pooling, WorkersAI
from syncd.core.errors import Halt, Park, Retry, TooMuch
from tests.unit.cloudflare.harness import ACCOUNT, BASE, Remote, VirtualTime, bad, html, ok, sent_json

MODEL = "@cf/baai/bge-base-en-v1.5"
URL = f"{BASE}/accounts/{ACCOUNT}/ai/run/%40cf/baai/bge-base-en-v1.5"


@pytest.fixture
def ai(remote: Remote) -> WorkersAI:
    return WorkersAI(remote.transport())


def answer(*vectors: Any, **more: Any) -> httpx.Response:
    return ok({"data": list(vectors), **more})


@pytest.mark.parametrize(
    ("pooling", "body"),
    [(None, {"text": ["a", "é\n"]}), ("cls", {"text": ["a", "é\n"], "pooling": "cls"})],
)
async def test_the_request_is_exactly_this(
    remote: Remote, ai: WorkersAI, pooling: Pooling | None, body: dict[str, Any]
) -> None:
    remote.says(answer([1, 0.5], [0.1, -2], shape=[2, 2], pooling="mean"))
    assert await ai.embed(MODEL, ["a", "é\n"], pooling) == [array("f", [1, 0.5]), array("f", [0.1, -2])]
    (request,) = remote.requests
    assert (request.method, str(request.url)) == ("POST", URL)
    assert request.headers["content-type"] == "application/json"
    assert sent_json(request) == body
    assert ai.transport.counters.changing == 0


async def test_a_single_text_travels_as_a_list(remote: Remote, ai: WorkersAI) -> None:
    remote.says(answer([1.0]))
    (vector,) = await ai.embed(MODEL, ["a"])
    assert (vector.typecode, list(vector)) == ("f", [1.0])
    assert sent_json(remote.requests[0]) == {"text": ["a"]}


def test_every_known_model_fits_an_index() -> None:
    assert all(model.startswith("@cf/") and 1 <= size <= DIMENSIONS_LIMIT for model, size in MODELS.items())


@pytest.mark.parametrize("model", ["", "@cf//x", "@cf/../x", "/x"])
async def test_a_model_that_would_change_the_path_is_refused(remote: Remote, ai: WorkersAI, model: str) -> None:
    with pytest.raises(ValueError, match="URL path"):
        await ai.embed(model, ["a"])
    assert not remote.requests


# answers


@pytest.mark.parametrize("shape", [{}, {"shape": None}, {"shape": []}, {"shape": [2.0, 1.0]}])
async def test_the_shape_may_be_left_out(remote: Remote, ai: WorkersAI, shape: dict[str, Any]) -> None:
    remote.says(answer([1], [2], **shape))
    assert await ai.embed(MODEL, ["a", "b"]) == [array("f", [1]), array("f", [2])]


@pytest.mark.parametrize(
    "result",
    [
        None,
        [],
        {},
        {"data": None},
        {"data": []},
        {"data": [[1.0]]},
        {"data": [[1.0], [1.0], [1.0]]},
        {"data": [[1.0], [1.0, 2.0]]},
        {"data": [[], []]},
        {"data": [[1.0], None]},
        {"data": [[1.0], "1"]},
        {"data": [[1.0], ["1"]]},
        {"data": [[1.0], [True]]},
        {"data": [[1.0], [None]]},
        {"data": [[1.0], [1e39]]},
        {"data": [[1.0], [10**400]]},
        {"data": [[1.0], [0.0]]},
        {"data": [[1.0], [1.0]], "shape": [1, 2]},
        {"data": [[1.0], [1.0]], "shape": [2]},
    ],
)
async def test_an_answer_of_another_shape_is_asked_again(
    remote: Remote, ai: WorkersAI, time: VirtualTime, result: Any
) -> None:
    remote.says(ok(result), answer([1], [2]))
    assert await time.run(ai.embed(MODEL, ["a", "b"])) == [array("f", [1]), array("f", [2])]


async def test_an_answer_that_stays_of_another_shape_is_a_failure(
    remote: Remote, ai: WorkersAI, time: VirtualTime
) -> None:
    remote.says(answer([1.0]))
    with pytest.raises(Retry, match="unexpected answer: 1 vectors for 2 texts"):
        await time.run(ai.embed(MODEL, ["a", "b"]))


@pytest.mark.parametrize("value", [b"NaN", b"Infinity", b"-Infinity"])
async def test_numbers_that_are_none_are_asked_again(
    remote: Remote, ai: WorkersAI, time: VirtualTime, value: bytes
) -> None:
    body = b'{"success":true,"result":{"data":[[0.5,%s]]}}' % value
    remote.says(httpx.Response(200, content=body), answer([1, 2]))
    assert await time.run(ai.embed(MODEL, ["a"])) == [array("f", [1, 2])]


# refusals


@pytest.mark.parametrize(
    "refusal",
    [bad(400, 5007, "No such model or task"), bad(404, 3042), bad(400, 5007)],
)
@pytest.mark.parametrize("texts", [["a"], ["a", "b"]])
async def test_a_model_that_is_not_there_halts(
    remote: Remote, ai: WorkersAI, refusal: httpx.Response, texts: list[str]
) -> None:
    remote.says(refusal)
    with pytest.raises(Halt, match=f"{MODEL}.*config key model"):
        await ai.embed(MODEL, texts)
    assert len(remote.requests) == 1


@pytest.mark.parametrize("code", [3041, 5016, 5018, 5028, 5035])
@pytest.mark.parametrize("texts", [["a"], ["a", "b"]])
async def test_a_model_that_the_account_may_not_use_halts(
    remote: Remote, ai: WorkersAI, code: int, texts: list[str]
) -> None:
    remote.says(bad(403, code))
    with pytest.raises(Halt, match=f"{MODEL}.*config key model"):
        await ai.embed(MODEL, texts)


@pytest.mark.parametrize(("status", "code"), [(429, 3036), (429, 4006), (400, 4006)])
async def test_a_day_without_neurons_halts(remote: Remote, ai: WorkersAI, status: int, code: int) -> None:
    remote.says(bad(status, code, "you have used up your daily free allocation of 10,000 neurons"))
    with pytest.raises(Halt, match="00:00 UTC"):
        await ai.embed(MODEL, ["a", "b"])
    assert len(remote.requests) == 1


async def test_refused_access_names_the_permission(remote: Remote, ai: WorkersAI) -> None:
    remote.says(bad(403, 10000))
    with pytest.raises(Halt, match="Account / Workers AI:Read"):
        await ai.embed(MODEL, ["a"])


@pytest.mark.parametrize("busy", [bad(429, 3040), bad(429), bad(408, 3007), bad(500, 3043), html(504), bad(503)])
async def test_a_temporary_failure_is_tried_again(
    remote: Remote, ai: WorkersAI, time: VirtualTime, busy: httpx.Response
) -> None:
    remote.says(busy, answer([1], [2]))
    assert len(await time.run(ai.embed(MODEL, ["a", "b"]))) == 2
    assert len(remote.requests) == 2


REFUSALS = [bad(400), bad(400, 5006), bad(400, 5021), bad(413), bad(413, 3006), html(413), bad(422)]


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_many_texts_that_are_refused_are_too_much(remote: Remote, ai: WorkersAI, refusal: httpx.Response) -> None:
    remote.says(refusal)
    with pytest.raises(TooMuch, match="2 texts") as caught:
        await ai.embed(MODEL, ["a", "b"])
    assert caught.value.status == refusal.status_code
    assert len(remote.requests) == 1


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_single_refused_text_is_parked_with_a_remedy(
    remote: Remote, ai: WorkersAI, refusal: httpx.Response
) -> None:
    remote.says(refusal)
    with pytest.raises(Park, match="smaller chunk_size") as caught:
        await ai.embed(MODEL, ["a"])
    assert type(caught.value) is Park
    assert (caught.value.kind, caught.value.status) == ("refused", refusal.status_code)


async def test_any_other_refusal_is_no_matter_of_number(remote: Remote, ai: WorkersAI) -> None:
    remote.says(bad(405, 5019, "deprecated"))
    with pytest.raises(Park, match="deprecated") as caught:
        await ai.embed(MODEL, ["a", "b"])
    assert type(caught.value) is Park
    assert "chunk_size" not in str(caught.value)


async def test_an_answer_that_is_too_large_is_too_much(
    remote: Remote, ai: WorkersAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport_module, "ANSWER_LIMIT", 100)
    remote.says(answer([0.1] * 50, [0.1] * 50))
    with pytest.raises(TooMuch):
        await ai.embed(MODEL, ["a", "b"])


async def test_a_caller_finds_the_bad_text_by_halving(remote: Remote, ai: WorkersAI) -> None:
    def server(request: httpx.Request) -> httpx.Response:
        texts = sent_json(request)["text"]
        return bad(400) if "bad" in texts else answer(*[[1.0]] * len(texts))

    remote.says(server)

    async def embed(texts: list[str]) -> list[str]:
        """The texts that were refused."""
        try:
            await ai.embed(MODEL, texts)
        except TooMuch:
            middle = len(texts) // 2
            return await embed(texts[:middle]) + await embed(texts[middle:])
        except Park:
            return texts
        return []

    assert await embed([*"abcdef", "bad", "g"]) == ["bad"]
