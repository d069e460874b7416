"""Vectors of texts, from the cache or from Workers AI with many texts in a request."""

import hashlib
from collections.abc import Sequence
from typing import TypeAlias

import structlog

from syncd.cloudflare.workers_ai import MODELS, TEXTS_LIMIT, TEXTS_LIMITS, Pooling, Vector, WorkersAI
from syncd.core.errors import SyncdError
from syncd.state.caches import EmbeddingCache
from syncd.targets.base import for_each, in_halves

log = structlog.get_logger()

Embedding: TypeAlias = "Vector | SyncdError"
"""The vector of a text, or the error of its embedding."""
REQUEST_CHARS = 100_000
"""Maximum characters of the texts of one request. The service has a limit on their sum, but does not document it."""
RETRIES = 2
"""Repetitions of a request that gave vectors of a wrong length. After these, the model does not fit the index."""
REQUESTS = 4
"""Maximum number of requests at a time. 400 texts take a second or two, and other mirrors need requests too."""


class Embedder:
    """Makes vectors with one model and pooling. Vectors of different models or poolings cannot be compared."""

    def __init__(self, ai: WorkersAI, model: str, pooling: Pooling | None, cache: EmbeddingCache) -> None:
        self._ai = ai
        self.model = model
        self._pooling = pooling
        self._cache = cache

    @property
    def name(self) -> str:
        """Model and pooling, as a part of ids and of the cache."""
        return f"{self.model} {self._pooling or 'default'}"

    @property
    def title(self) -> str:
        """Model and pooling, as a part of messages."""
        return f"{self.model} ({self._pooling})" if self._pooling else self.model

    async def embed_query(self, text: str) -> Vector:
        """Return the vector of a single text, without the cache. Raises Park if the model refuses the text."""
        return (await self._ai.embed(self.model, [text], self._pooling, MODELS.get(self.model)))[0]

    async def embed(self, texts: Sequence[str], dimensions: int | None = None) -> dict[str, Embedding]:
        """Return the vector or the error of each text. Raises Halt and Unreachable.

        dimensions: the length of vectors in the index, if known. The cache neither stores nor returns a vector of
        another length.
        """
        length = MODELS.get(self.model) or dimensions
        digests = {text: hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts}
        cached = self._cache.vectors(self.name, list(digests.values()))
        cached = {digest: vector for digest, vector in cached.items() if _has_length(vector, length)}
        found: dict[str, Embedding] = {text: cached[digest] for text, digest in digests.items() if digest in cached}
        missing = [text for text in digests if text not in found]

        async def embed(group: list[str]) -> None:
            embedded = await self._embed_group(group, length)
            found.update(embedded)
            fresh = {
                digests[text]: vector
                for text, vector in embedded.items()
                if not isinstance(vector, SyncdError) and _has_length(vector, length)
            }
            self._cache.keep(self.name, fresh)

        await for_each(_groups(missing, TEXTS_LIMITS.get(self.model, TEXTS_LIMIT)), embed, REQUESTS)
        if missing:
            log.debug("embed.done", model=self.model, texts=len(missing), remembered=len(digests) - len(missing))
        return found

    async def _embed_group(self, group: list[str], length: int | None) -> dict[str, Embedding]:
        """Return the vector or the error of each text of one request."""
        found: dict[str, Embedding] = {}
        async for part, answer in in_halves(group, lambda texts: self._request(texts, length)):
            found |= dict.fromkeys(part, answer) if isinstance(answer, SyncdError) else zip(part, answer, strict=True)
        return found

    async def _request(self, texts: Sequence[str], length: int | None) -> list[Vector]:
        """Request vectors. For a model whose length syncd does not know, repeat a request with a wrong length."""
        vectors = await self._ai.embed(self.model, texts, self._pooling, MODELS.get(self.model))
        for _ in range(RETRIES):
            if _has_length(vectors[0], length):
                break
            vectors = await self._ai.embed(self.model, texts, self._pooling)
        return vectors


def _has_length(vector: "Vector | None", length: int | None) -> bool:
    return vector is not None and length in (None, len(vector))


def _groups(texts: Sequence[str], most: int) -> list[list[str]]:
    """Split texts into the groups of one request each, with at most so many texts."""
    groups: list[list[str]] = []
    chars = 0
    for text in texts:
        if not groups or len(groups[-1]) == most or chars + len(text) > REQUEST_CHARS:
            groups.append([])
            chars = 0
        groups[-1].append(text)
        chars += len(text)
    return groups
