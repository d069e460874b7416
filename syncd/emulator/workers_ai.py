"""The endpoint of Workers AI that runs a model. Only models for text embeddings exist; other routes are refused.

A vector is made by hashing, so that texts with common words or common parts of words are near each other. The meaning
has no effect: a synonym is as far away as any other word.
"""

import re
import zlib
from collections import Counter
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
    name = call.path.get("model_name") or "/".join(call.path[part] for part in ("scope", "author", "name"))
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
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise _bad_input(f"Type mismatch of '/{names[0]}', expected a text or an array of texts")
    if not 1 <= len(texts) <= model.texts:
        raise _bad_input(f"Length of '/{names[0]}' must be from 1 to {model.texts}")
    if not all(texts):
        raise _bad_input(f"Length of a text in '/{names[0]}' must be >= 1")
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


Numbers = np.ndarray[Any, np.dtype[np.uint64]]
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
_SPACE = ord(" ")
_DECIMALS = 8
# The constants of splitmix64, a hash made of multiplications and shifts.
_STEP, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def embed(texts: list[str], dimensions: int, seed: str) -> list[list[float]]:
    """Return a vector of length 1 for each text, always the same. Vectors of different seeds are unrelated."""
    salt = np.full(1, zlib.crc32(seed.encode()), np.uint64) * np.uint64(_STEP)
    vectors = np.stack([_vector(text.lower(), dimensions, salt) for text in texts])
    rounded: list[list[float]] = np.round(vectors, _DECIMALS).tolist()
    return rounded


def _vector(text: str, dimensions: int, salt: Numbers) -> Doubles:
    counts = Counter(_WORD.findall(text))
    hashes = np.array([zlib.crc32(word.encode()) for word in counts], np.uint64)
    repeats = np.array(list(counts.values()), np.float64)
    damping = np.array([_STOP_WEIGHT if word in _STOPS else 1.0 for word in counts], np.float64)
    weights = damping * (1 + np.log(repeats))
    copies = np.concatenate([hashes + (number << 32) for number in range(_WORD_PLACES)])
    words = _spread(copies, np.tile(weights, _WORD_PLACES), dimensions, salt)
    grams = _grams([word for word in counts if word not in _STOPS])
    parts = _spread(grams, np.ones(len(grams)), dimensions, salt)
    total = _WORDS_SHARE * _unit(words) + _GRAMS_SHARE * _unit(parts)
    if not total.any():
        # The text has only punctuation, or its features cancel out: hash the text as a whole.
        whole = np.array([zlib.crc32(text.encode(errors="replace"))], np.uint64)
        total = _spread(whole, np.ones(1), dimensions, salt)
    return _unit(total)


def _grams(words: list[str]) -> Numbers:
    """Return a number for each distinct run of 3 to 5 characters of a word with a space before and after it."""
    line = f" {'  '.join(words)} ".encode("utf-32-le")
    letters = np.frombuffer(line, "<u4").astype(np.uint64)
    runs = [_runs(letters, length) for length in _GRAM_LENGTHS if len(letters) >= length]
    return np.unique(np.concatenate(runs)) if runs else np.zeros(0, np.uint64)


def _runs(letters: Numbers, length: int) -> Numbers:
    count = len(letters) - length + 1
    # The number starts with the length, so that a long run never equals a short one.
    runs = np.full(count, length, np.uint64)
    within = np.ones(count, bool)
    for place in range(length):
        column = letters[place : place + count]
        runs = runs * np.uint64(0x100000001B3) + column
        if 0 < place < length - 1:
            within &= column != _SPACE
    return runs[within]


def _spread(features: Numbers, weights: Doubles, dimensions: int, salt: Numbers) -> Doubles:
    """Add each feature to one place of the vector, with a sign; the hash of the feature selects both."""
    mixed = features * np.uint64(_STEP) + salt
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(_FIRST)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(_SECOND)
    mixed ^= mixed >> np.uint64(31)
    places = (mixed >> np.uint64(1)) % np.uint64(dimensions)
    signs = np.where(mixed & np.uint64(1), 1.0, -1.0)
    spread: Doubles = np.bincount(places.astype(np.intp), weights * signs, dimensions).astype(np.float64)
    return spread


def _unit(vector: Doubles) -> Doubles:
    length = np.linalg.norm(vector)
    return vector / length if length else vector


async def _refuse(call: Call) -> Response:
    await call.request.body()
    raise ApiError(
        501, 10501, "The stand-in does not implement this route; of Workers AI it runs embedding models only"
    )


_AI = "/accounts/{account_id}/ai"
_REFUSED = (
    ("GET", "/authors/search"),
    ("GET", "/finetunes"),
    ("POST", "/finetunes"),
    ("GET", "/finetunes/public"),
    ("POST", "/finetunes/{finetune_id}/finetune-assets"),
    ("GET", "/models/search"),
    ("GET", "/models/schema"),
    ("GET", "/tasks/search"),
    ("GET", "/tomarkdown/supported"),
    ("POST", "/tomarkdown"),
)
"""All routes of Workers AI except the run of a model."""
ENDPOINTS = [
    Endpoint("POST", f"{_AI}/run/{{model_name}}", _run),
    Endpoint("POST", f"{_AI}/run/{{scope}}/{{author}}/{{name}}", _run),
    *(Endpoint(method, _AI + path, _refuse) for method, path in _REFUSED),
]
