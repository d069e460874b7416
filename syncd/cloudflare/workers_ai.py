"""The Workers AI API: embeddings of texts. The remote stores nothing."""

import math
from array import array
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal, TypeAlias

from syncd.cloudflare.decoding import as_object, parse_list, unexpected
from syncd.cloudflare.error_codes import NO_ACCESS_CODES
from syncd.cloudflare.request import Request, path
from syncd.cloudflare.response import Answer
from syncd.cloudflare.transport import Transport
from syncd.cloudflare.vectorize import DIMENSIONS_LIMIT
from syncd.core.errors import Halt, NotFound, Park, TooMuch

TEXTS_LIMIT = 100
"""Maximum number of texts of one request (Workers AI: text embeddings)."""
TEXTS_LIMITS: Mapping[str, int] = {"@cf/qwen/qwen3-embedding-0.6b": 32}
"""The limits of the models that take fewer texts."""
MODELS: Mapping[str, int] = {
    "@cf/baai/bge-small-en-v1.5": 384,
    "@cf/baai/bge-base-en-v1.5": 768,
    "@cf/baai/bge-large-en-v1.5": 1024,
    "@cf/baai/bge-m3": 1024,
    "@cf/google/embeddinggemma-300m": 768,
    "@cf/qwen/qwen3-embedding-0.6b": 1024,
}
"""Known embedding models and the number of values of their vectors (Workers AI: models)."""

Pooling = Literal["mean", "cls"]
"""How a model combines tokens into one vector. Vectors of different pooling are not comparable."""

Vector: TypeAlias = "array[float]"
"""An array of float32 values, type code "f"."""

_READ = "Account / Workers AI:Read"
_UNCLEAR = frozenset({400, 413, 422})
"""Statuses that do not tell which of several texts is refused."""


class WorkersAI:
    """The models of one account."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self._base = path("accounts", transport.account_id, "ai", "run")

    async def embed(
        self, model: str, texts: Sequence[str], pooling: Pooling | None = None, dimensions: int | None = None
    ) -> list[Vector]:
        """Return one float32 vector for each text.

        texts: 1 to TEXTS_LIMIT. pooling: not every model knows this option, so None omits it. dimensions: the expected
        length of the vectors, None if it is unknown. Raises Halt if the account has no such model. Raises TooMuch if
        the remote refuses more than one text; the caller then sends two halves. Raises Park("refused") for a single
        refused text, which is probably too long.
        """
        body: dict[str, Any] = {"text": list(texts)}
        if pooling is not None:
            body["pooling"] = pooling
        request = Request("POST", self._base + path(*model.split("/")), json=body, permission=_READ, reads=True)
        try:
            return await self.transport.ask(request, lambda answer: _vectors(answer, len(texts), dimensions))
        except NotFound as error:
            raise Halt(f"Workers AI has no model {model!r}: check the config key model: {error}") from error
        except Park as error:
            if error.code in NO_ACCESS_CODES:
                message = f"the account may not use the model {model!r}: set another one as the config key model"
                raise Halt(f"{message}: {error}") from error
            raise _refused(error, len(texts)) from error


def _refused(error: Park, count: int) -> Park:
    """Return the error for a refused request. count: the number of its texts."""
    if count > 1 and (error.kind == "too_large" or error.status in _UNCLEAR):
        return TooMuch(f"refused in one request of {count} texts: {error}", code=error.code, status=error.status)
    if count > 1:
        return error
    message = f"Workers AI refused the text; if it is too long, set a smaller chunk_size: {error}"
    return Park("refused", message, code=error.code, status=error.status)


def _vectors(answer: Answer, count: int, dimensions: int | None = None) -> list[Vector]:
    result = as_object(answer.result, "embeddings")
    data, shape = parse_list(result.get("data")), parse_list(result.get("shape"))
    if len(data) != count:
        raise unexpected(f"{len(data)} vectors for {count} texts")
    vectors = [_vector(row) for row in data]
    length = len(vectors[0])
    if any(len(vector) != length for vector in vectors):
        raise unexpected("vectors of different lengths")
    if dimensions not in (None, length):
        raise unexpected(f"vectors of {length} numbers, but the model has {dimensions} dimensions")
    if shape and shape != [count, length]:
        raise unexpected(f"the vectors do not have the shape {shape} of the answer")
    return vectors


def _vector(row: object) -> Vector:
    if isinstance(row, list) and row and set(map(type, row)) <= {int, float}:
        with suppress(OverflowError):
            vector = array("f", row)
            # The sum of float32 values stays in the range of a double.
            if math.isfinite(sum(vector)) and any(vector) and len(vector) <= DIMENSIONS_LIMIT:
                return vector
    raise unexpected("a vector is no list of finite float32 values, or all values are zero")
