"""The endpoint of Workers AI that runs a model. Only models for text embeddings exist; other routes are refused.

A vector is made by hashing, so that texts with common words or common parts of words are near each other. The meaning
has no effect: a synonym is as far away as any other word.
"""

import math
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from starlette.responses import Response

from syncd.emulator.requests import ApiError, Call, Endpoint, ok

_TOKEN = re.compile(r"[a-z0-9]{1,6}|[^\sa-z0-9]")
_TOKENS_AROUND_TEXT = 2
"""A model adds one token before and one after every text."""


class EmbeddingModel(NamedTuple):
    """The limits of a model, from the schemas and properties in the model catalogue.

    dimensions: values of a vector. context: tokens of one text, at most. texts: number of texts in one request, at
    most. names: the alternative fields of the request for the texts. poolings: the values of `pooling`, the default
    first; empty for a model without pooling, whose answer has no such field. batch: tokens of one request, at most.
    """

    dimensions: int
    context: int
    texts: int = 100
    names: tuple[str, ...] = ("text",)
    poolings: tuple[str, ...] = ("mean", "cls")
    batch: int | None = None


MODELS = {
    "@cf/baai/bge-small-en-v1.5": EmbeddingModel(384, 512),
    "@cf/baai/bge-base-en-v1.5": EmbeddingModel(768, 512),
    "@cf/baai/bge-large-en-v1.5": EmbeddingModel(1024, 512),
    # 60,000 is "context_window" in the catalogue. Users report that it limits the sum over a request.
    "@cf/baai/bge-m3": EmbeddingModel(1024, 8192, poolings=("cls",), batch=60_000),
    "@cf/google/embeddinggemma-300m": EmbeddingModel(768, 2048, poolings=()),
    "@cf/qwen/qwen3-embedding-0.6b": EmbeddingModel(
        1024, 8192, texts=32, names=("text", "documents", "queries"), poolings=()
    ),
}


async def _run(call: Call) -> Response:
    """Embed texts. The path contains the model's name as it is, or as one segment with its "/" encoded."""
    name = call.path["model_name"]
    model = MODELS.get(name)
    if model is None:
        await call.request.body()
        raise ApiError(400, 5007, f"No such model {name} or task")
    body = await call.body(refuse=_bad_input)
    texts, pooling = _texts(model, body), _pooling(model, body)
    _check_lengths(model, texts)
    # Vectors of different models or poolings must not be comparable, so both are part of the seed.
    vectors = embed(texts, model.dimensions, f"{name} {pooling}")
    call.backend.requests.embedded_texts += len(texts)
    result: dict[str, Any] = {"shape": [len(texts), model.dimensions], "data": vectors}
    if pooling is not None:
        result["pooling"] = pooling
    return ok(result)


def _texts(model: EmbeddingModel, body: dict[str, Any]) -> list[str]:
    names = [name for name in model.names if name in body]
    if len(names) != 1:
        raise _bad_input(f"required properties at '/' are one of {', '.join(model.names)}")
    texts = body[names[0]]
    if isinstance(texts, str):
        texts = [texts]
    if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
        raise _bad_input(f"Type mismatch of '/{names[0]}', expected a text or an array of texts, not empty")
    if not 1 <= len(texts) <= model.texts:
        raise _bad_input(f"Length of '/{names[0]}' must be from 1 to {model.texts}")
    return texts


def _pooling(model: EmbeddingModel, body: dict[str, Any]) -> str | None:
    """Return the pooling. A model without a choice ignores the field of the request."""
    default = model.poolings[0] if model.poolings else None
    if len(model.poolings) < 2 or body.get("pooling") is None:
        return default
    if body["pooling"] not in model.poolings:
        raise _bad_input(f"'/pooling' must be one of {', '.join(model.poolings)}")
    return str(body["pooling"])


def _check_lengths(model: EmbeddingModel, texts: list[str]) -> None:
    counts = [count_tokens(text) for text in texts]
    longest, total = max(counts), sum(counts)
    if longest > model.context:
        message = f"The estimated number of input tokens ({longest}) exceeded this model context window limit"
        raise ApiError(400, 5021, f"AiError: {message} ({model.context})")
    if model.batch is not None and total > model.batch:
        message = f"Max context reached {total} tokens but model supports only {model.batch}"
        raise ApiError(400, 3030, f"AiError: {message}")


def count_tokens(text: str) -> int:
    """Return an estimate: up to six letters or digits of a word are one token, any other visible character is one.

    English prose has about one token for every four and a half characters, tables and code have more.
    """
    return len(_TOKEN.findall(text.lower())) + _TOKENS_AROUND_TEXT


def _bad_input(reason: str) -> ApiError:
    return ApiError(400, 5006, f"AiError: Bad input: Error: {reason}")


Doubles = np.ndarray[Any, np.dtype[np.float64]]

_WORD = re.compile(r"\w+")
_STOP_WORDS = """
a about after again all also an and any are as at be because been before both but by can could did do does each every
for from had has have he her here his how i if in into is it its just many may me more most much my no not of on one
only or other our out over she should so some such than that the their them then there these they this those to under
up us was we were what when where which while who will with would you your
"""
_STOPS = frozenset(_STOP_WORDS.split())
_STOP_WEIGHT = 0.1
_WORDS_SHARE, _GRAMS_SHARE = 0.8, 0.6
"""Lengths of the two parts of a vector: 0.64 of a score comes from words, 0.36 from parts of words."""

_WORD_PLACES = 4
"""Places of one word. With one place, a collision of two words would make short unrelated texts similar."""

_GRAM_LENGTHS = (3, 4, 5)
_DECIMALS = 8
_MIXER = 0x9E3779B97F4A7C15
"""An odd factor. Checksums of similar texts differ in few bits; the upper bits of the product differ in many."""


def embed(texts: list[str], dimensions: int, seed: str) -> list[list[float]]:
    """Return a vector of length 1 for each text, always the same. Vectors of different seeds are unrelated."""
    return [np.round(_vector(text.lower(), dimensions, seed), _DECIMALS).tolist() for text in texts]


def _vector(text: str, dimensions: int, seed: str) -> Doubles:
    counts = Counter(_WORD.findall(text))
    words = {
        f"{place} {word}": (_STOP_WEIGHT if word in _STOPS else 1.0) * (1 + math.log(count))
        for word, count in counts.items()
        for place in range(_WORD_PLACES)
    }
    grams = dict.fromkeys((gram for word in counts if word not in _STOPS for gram in _grams(f" {word} ")), 1.0)
    total = _WORDS_SHARE * _unit_sum(words, dimensions, seed) + _GRAMS_SHARE * _unit_sum(grams, dimensions, seed)
    # Without words, or if the features cancel each other out, the text as a whole is the feature.
    length = np.linalg.norm(total)
    return total / length if length else _unit_sum({text: 1.0}, dimensions, seed)


def _grams(word: str) -> Iterator[str]:
    """Yield each run of 3 to 5 characters."""
    for length in _GRAM_LENGTHS:
        yield from (word[start : start + length] for start in range(len(word) - length + 1))


def _unit_sum(features: dict[str, float], dimensions: int, seed: str) -> Doubles:
    """Add the weight of each feature at one place of a vector, with a sign, and scale the vector to length 1.

    The hash of the feature selects place and sign. Without features, the vector is 0.
    """
    total = np.zeros(dimensions)
    salt = zlib.crc32(seed.encode())
    for feature, weight in features.items():
        number = zlib.crc32(feature.encode(), salt) * _MIXER >> 32
        total[(number >> 1) % dimensions] += weight if number & 1 else -weight
    length = np.linalg.norm(total)
    return total / length if length else total


async def _refuse(call: Call) -> Response:
    await call.request.body()
    raise ApiError(
        501, 10501, "The stand-in does not implement this route; of Workers AI it runs embedding models only"
    )


_AI = "/accounts/{account_id}/ai"
ENDPOINTS = [
    Endpoint("POST", f"{_AI}/run/{{model_name:path}}", _run),
    # All other routes of Workers AI: authors, finetunes, models, tasks and tomarkdown.
    *(Endpoint(method, f"{_AI}/{{route:path}}", _refuse) for method in ("GET", "POST")),
]
