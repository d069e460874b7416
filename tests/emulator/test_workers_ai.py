import math
import time
from itertools import pairwise
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from syncd.emulator.workers_ai import count_tokens, embed
from tests.emulator.harness import ACCOUNT, ApiClient, counter, emulator

BASE = "@cf/baai/bge-base-en-v1.5"
M3 = "@cf/baai/bge-m3"
QWEN = "@cf/qwen/qwen3-embedding-0.6b"
GEMMA = "@cf/google/embeddinggemma-300m"
DIMENSIONS = {
    "@cf/baai/bge-small-en-v1.5": 384,
    BASE: 768,
    "@cf/baai/bge-large-en-v1.5": 1024,
    M3: 1024,
    GEMMA: 768,
    QWEN: 1024,
}
PASSWORD = [
    "How do I reset my password?",
    "Resetting a forgotten password takes two minutes.",
    "The link to reset your password expires after one hour.",
]
COFFEE = [
    "Our office in Berlin has a new coffee machine.",
    "Coffee is served in the Berlin office every morning.",
    "The coffee machines of both offices are cleaned on Fridays.",
]
SYNC = [
    "The daemon watches a folder and uploads every file that was changed.",
    "When files in the watched folder change, the daemon uploads them again.",
    "Files deleted from the folder are removed from the index by the daemon.",
]


def path(model: str) -> str:
    return f"/accounts/{ACCOUNT}/ai/run/{model}"


async def run(api: ApiClient, model: str = BASE, **body: Any) -> Any:
    return await api.result("POST", path(model), json=body)


async def refusal(api: ApiClient, model: str = BASE, **body: Any) -> tuple[int, int]:
    return await api.refusal("POST", path(model), json=body)


def near(one: list[float], other: list[float]) -> float:
    return sum(x * y for x, y in zip(one, other, strict=True))


@pytest.mark.parametrize(("model", "dimensions"), DIMENSIONS.items())
async def test_every_model_returns_vectors_of_its_dimensions_and_of_length_1(model: str, dimensions: int) -> None:
    async with emulator() as api:
        result = await run(api, model, text=["one text", "another"])
        assert result["shape"] == [2, dimensions]
        for vector in result["data"]:
            assert len(vector) == dimensions
            assert math.hypot(*vector) == pytest.approx(1, abs=1e-5)


async def test_the_path_contains_the_model_plain_or_as_one_segment() -> None:
    async with emulator() as api:
        plain = await run(api, text="a text")
        assert await run(api, quote(BASE, safe="@"), text="a text") == plain
        assert await run(api, quote(BASE, safe=""), text="a text") == plain
        assert await run(api, quote(BASE, safe="/"), text="a text") == plain
        assert counter(api.app).routes == {"POST /accounts/{account_id}/ai/run/{model_name:path}": 4}


async def test_a_single_text_is_accepted_as_a_list_of_one() -> None:
    async with emulator() as api:
        assert await run(api, text="a text") == await run(api, text=["a text"])


async def test_the_answer_names_the_pooling_of_a_model_that_has_one() -> None:
    async with emulator() as api:
        assert (await run(api, text="x"))["pooling"] == "mean"
        assert (await run(api, text="x", pooling="mean"))["pooling"] == "mean"
        assert (await run(api, text="x", pooling="cls"))["pooling"] == "cls"
        assert (await run(api, M3, text="x"))["pooling"] == "cls"
        for model in (GEMMA, QWEN):
            assert set(await run(api, model, text="x", pooling="mean")) == {"shape", "data"}
        assert await refusal(api, text="x", pooling="max") == (400, 5006)


async def test_qwen_accepts_queries_and_documents_too() -> None:
    async with emulator() as api:
        expected = await run(api, QWEN, text=["x y z"])
        for name in ("queries", "documents"):
            assert await run(api, QWEN, **{name: "x y z"}) == expected
            assert await refusal(api, BASE, **{name: "x"}) == (400, 5006)
        assert await refusal(api, QWEN, queries="x", documents="y") == (400, 5006)


@pytest.mark.parametrize(("model", "most"), [(BASE, 100), (M3, 100), (GEMMA, 100), (QWEN, 32)])
async def test_a_request_has_a_limited_number_of_texts(model: str, most: int) -> None:
    async with emulator() as api:
        for count in (1, most - 1, most):
            assert (await run(api, model, text=["x"] * count))["shape"][0] == count
        assert await refusal(api, model, text=["x"] * (most + 1)) == (400, 5006)


@pytest.mark.parametrize("text", [[], "", ["x", ""], None, 1, ["x", 1], {"x": "y"}])
async def test_a_request_without_texts_is_refused(text: Any) -> None:
    async with emulator() as api:
        assert await refusal(api, text=text) == (400, 5006)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"text": "\\ud800"}'])
async def test_an_invalid_body_is_refused(body: bytes) -> None:
    async with emulator() as api:
        assert await api.refusal("POST", path(BASE), content=body) == (400, 5006)


@pytest.mark.parametrize("model", ["@cf/baai/bge-tiny", "@hf/baai/bge-base-en-v1.5", "bge-m3", "@cf%2Fbaai%2Fno"])
async def test_an_unknown_model_is_5007(model: str) -> None:
    async with emulator() as api:
        assert await refusal(api, model, text="x") == (400, 5007)


@pytest.mark.parametrize(("model", "most"), [(BASE, 512), (M3, 8192), (GEMMA, 2048), (QWEN, 8192)])
async def test_a_text_has_a_limited_number_of_tokens(model: str, most: int) -> None:
    async with emulator() as api:
        # The model adds two tokens to every text.
        for count in (most - 3, most - 2):
            await run(api, model, text=["short", "word " * count])
        assert await refusal(api, model, text=["short", "word " * (most - 1)]) == (400, 5021)


async def test_the_tokens_of_a_request_to_bge_m3_have_a_common_limit() -> None:
    async with emulator() as api:
        texts = ["word " * 5998] * 10
        await run(api, M3, text=texts)
        assert await refusal(api, M3, text=[*texts[1:], "word " * 5999]) == (400, 3030)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 2),
        ("word", 3),
        ("Words, words.", 6),
        ("hyphenated-words", 6),
        ("snake_case_1", 7),
        ("日本", 4),
        ("12345678", 4),
    ],
)
def test_tokens_are_estimated_by_words_and_marks(text: str, tokens: int) -> None:
    assert count_tokens(text) == tokens


async def test_embedded_texts_are_counted_and_refused_texts_are_not() -> None:
    async with emulator() as api:
        await run(api, text=["a", "b", "c"])
        await run(api, M3, text="d")
        await refusal(api, text=["e", ""])
        async with httpx.AsyncClient(transport=httpx.ASGITransport(api.app), base_url="http://localhost") as stranger:
            seen = (await stranger.get("/_syncd/requests")).json()
            assert (seen["embedded_texts"], seen["total"], seen["changing"]) == (4, 3, 0)
            assert (await stranger.post("/_syncd/requests/reset")).json()["embedded_texts"] == 0


@pytest.mark.parametrize("dimensions", [384, 768, 1024])
@pytest.mark.parametrize("topic", [PASSWORD, COFFEE, SYNC], ids=["password", "coffee", "sync"])
def test_texts_of_one_topic_are_nearer_than_those_of_another(topic: list[str], dimensions: int) -> None:
    strangers = [text for other in (PASSWORD, COFFEE, SYNC) if other is not topic for text in other]
    vectors = dict(zip(topic + strangers, embed(topic + strangers, dimensions, "seed"), strict=True))
    for text in topic:
        nearest_stranger = max(near(vectors[text], vectors[other]) for other in strangers)
        for other in topic:
            assert near(vectors[text], vectors[other]) > nearest_stranger + 0.1


def test_the_nearer_the_words_the_nearer_the_vectors() -> None:
    question = "Where do I configure the upload limit?"
    ranked = [
        question,
        "where do i configure THE UPLOAD LIMIT",
        "Configure the limit of uploads here",
        "The configuration of limits",
        "Bananas are yellow",
    ]
    vectors = embed([question, *ranked], 768, "seed")
    scores = [near(vectors[0], other) for other in vectors[1:]]
    assert scores[0] == pytest.approx(1, abs=1e-6)
    assert scores[1] == pytest.approx(1, abs=1e-6)
    assert all(nearer > farther + 0.1 for nearer, farther in pairwise(scores[1:]))


def test_stop_words_and_repetitions_have_little_weight() -> None:
    base, stops, other, twice, often = embed(
        [
            "garden fence",
            "the garden of a fence",
            "garden fence paint",
            "garden garden fence",
            "garden " * 50 + "fence",
        ],
        768,
        "seed",
    )
    assert near(base, stops) > 0.97
    assert near(base, stops) > near(base, other)
    assert near(base, twice) > near(base, often) > 0.7


@pytest.mark.parametrize("text", ["!!!", "the of and", " ", "\n", "日本語", "x", "\x00", "👍", "_"])
def test_any_text_has_a_vector(text: str) -> None:
    (vector,) = embed([text], 384, "seed")
    assert math.hypot(*vector) == pytest.approx(1, abs=1e-5)


async def test_vectors_of_two_models_or_poolings_are_unrelated() -> None:
    async with emulator() as api:
        (mean,) = (await run(api, text=COFFEE[0]))["data"]
        (cls,) = (await run(api, text=COFFEE[0], pooling="cls"))["data"]
        (gemma,) = (await run(api, GEMMA, text=COFFEE[0]))["data"]
        for one, other in pairwise([mean, cls, gemma, mean]):
            assert abs(near(one, other)) < 0.3


def test_vectors_are_the_same_in_every_process() -> None:
    # Recorded from one run: vectors from before a restart must be comparable with later ones.
    (vector,) = embed(["stable hashes"], 8, "seed")
    expected = [-0.09205886, 0.50104433, -0.09205886, 0.72591207, 0.04075003, 0.36823544, 0.18411772, 0.18411772]
    assert vector == pytest.approx(expected, abs=1e-7)


def test_a_hundred_texts_are_embedded_within_a_second() -> None:
    texts = [f"{number} " + " ".join(PASSWORD + SYNC + COFFEE) * 3 for number in range(100)]
    assert all(len(text) > 1500 for text in texts)
    begin = time.perf_counter()
    embed(texts, 768, "seed")
    assert time.perf_counter() - begin < 1
