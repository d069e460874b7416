"""Embeddings by Workers AI: texts in, vectors out. Nothing is stored."""

import math
from array import array
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any, Literal, TypeAlias

from syncd.cloudflare.envelope import Answer
from syncd.cloudflare.fields import Fields
from syncd.cloudflare.request import Request, path
from syncd.cloudflare.transport import Transport
from syncd.cloudflare.vectorize_lines import DIMENSIONS_LIMIT
from syncd.errors import Halt, NotFound, Park, Retry, TooMuch

TEXTS_LIMIT = 100
"""Most texts of one request (Workers AI: text embeddings)."""
TEXTS_LIMITS: Mapping[str, int] = {"@cf/qwen/qwen3-embedding-0.6b": 32}
"""Models that take fewer."""
MODELS: Mapping[str, int] = {
    "@cf/baai/bge-small-en-v1.5": 384,
    "@cf/baai/bge-base-en-v1.5": 768,
    "@cf/baai/bge-large-en-v1.5": 1024,
    "@cf/baai/bge-m3": 1024,
    "@cf/google/embeddinggemma-300m": 768,
    "@cf/qwen/qwen3-embedding-0.6b": 1024,
}
"""Embedding models that are known -> values of each of their vectors (Workers AI: models)."""

Pooling = Literal["mean", "cls"]
"""How a model makes one vector of many tokens; vectors of different pooling cannot be compared."""

Vector: TypeAlias = "array[float]"
"""An array of float32, type code "f"."""

NO_ACCESS: frozenset[int] = frozenset({3041, 5016, 5018, 5028, 5035})
"""Error codes of a model that is there, but not for this account: private, retired, on another plan, not agreed to."""

_READ = "Account / Workers AI:Read"
_UNCLEAR = frozenset({400, 413, 422})  # of many texts, any may be the one that was refused


class WorkersAI:
    """The models of one account."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self._base = path("accounts", transport.account_id, "ai", "run")

    async def embed(
        self, model: str, texts: Sequence[str], pooling: Pooling | None = None, dimensions: int | None = None
    ) -> list[Vector]:
        """One float32 vector for each of up to TEXTS_LIMIT texts (ValueError over it), all of one length.

        pooling: only sent when given, as not every model knows it. dimensions: the length they must have, None if that
        is not known. No texts, no request. Halt when there is no such model for this account. TooMuch when more than
        one text was refused: send them in two halves. Park("refused") for a single one, which is likely too long.
        """
        if len(texts) > TEXTS_LIMIT:
            raise ValueError(f"at most {TEXTS_LIMIT} texts at once")
        if not texts:
            return []
        body: dict[str, Any] = {"text": list(texts)}
        if pooling is not None:
            body["pooling"] = pooling
        request = Request("POST", self._base + path(*model.split("/")), json=body, permission=_READ, reads=True)
        try:
            return await self.transport.ask(request, lambda answer: _vectors(answer, len(texts), dimensions))
        except NotFound as error:
            raise Halt(f"Workers AI has no model {model!r}: check the config key model: {error}") from error
        except Park as error:
            if error.code in NO_ACCESS:
                said = f"the account may not use the model {model!r}: set another one as the config key model"
                raise Halt(f"{said}: {error}") from error
            raise _refused(error, len(texts)) from error


def _refused(error: Park, count: int) -> Park:
    """What a Park of a request with so many texts means."""
    if count > 1 and (error.kind == "too_large" or error.status in _UNCLEAR):
        return TooMuch(f"refused in one request of {count} texts: {error}", code=error.code, status=error.status)
    if count > 1:
        return error
    said = f"Workers AI refused the text; if it is too long, set a smaller chunk_size: {error}"
    return Park("refused", said, code=error.code, status=error.status)


def _vectors(answer: Answer, count: int, dimensions: int | None = None) -> list[Vector]:
    fields = Fields(answer.result, "embeddings")
    data = fields.opt_list("data")
    if len(data) != count:
        raise Retry(f"unexpected answer: {len(data)} vectors for {count} texts", ambiguous=True)
    vectors = [_vector(row) for row in data]
    if any(len(one) != len(other) for one, other in pairwise(vectors)):
        raise Retry("unexpected answer: vectors of different lengths", ambiguous=True)
    if dimensions not in (None, len(vectors[0])):
        said = f"vectors of {len(vectors[0])} numbers, by a model that gives {dimensions}"
        raise Retry(f"unexpected answer: {said}", ambiguous=True)
    shape = fields.opt_list("shape")
    if shape and shape != [count, len(vectors[0])]:
        raise Retry(f"unexpected answer: not of the shape {shape} that it says", ambiguous=True)
    return vectors


def _vector(row: object) -> Vector:
    if isinstance(row, list) and row and set(map(type, row)) <= {int, float}:
        with suppress(OverflowError):
            vector = array("f", row)
            # A sum of float32 cannot leave the range of a double.
            if math.isfinite(sum(vector)) and any(vector) and len(vector) <= DIMENSIONS_LIMIT:
                return vector
    raise Retry("unexpected answer: a vector is no list of finite float32, or all of it is zero", ambiguous=True)
