"""Texts to vectors: from memory where they are known, else by Workers AI, a hundred a request."""

import hashlib
from collections.abc import Sequence
from typing import TypeAlias

import structlog

from syncd.cloudflare.workers_ai import MODELS, TEXTS_LIMIT, TEXTS_LIMITS, Pooling, Vector, WorkersAI
from syncd.core.errors import SyncdError
from syncd.state.caches import Memory
from syncd.targets.base import each
from syncd.targets.halves import by_halves

log = structlog.get_logger()

Made: TypeAlias = "Vector | SyncdError"
"""A vector, or why there is none."""
REQUEST_CHARS = 100_000
"""Characters of one request's texts. A limit on all of them together is known to exist, its size is not."""
ASK_AGAIN = 2
"""So often vectors of the wrong length are asked for again, before the model is taken not to fit the index."""
AT_ONCE = 4
"""Requests side by side: 400 texts take a second or two, and others want the line too."""


class Embedder:
    """Makes vectors with one model and pooling, which never mix with those of another."""

    def __init__(self, ai: WorkersAI, model: str, pooling: Pooling | None, memory: Memory) -> None:
        self._ai = ai
        self.model = model
        self._pooling = pooling
        self._memory = memory

    @property
    def name(self) -> str:
        """Model and pooling in one."""
        return f"{self.model} {self._pooling or 'default'}"

    @property
    def title(self) -> str:
        """The same for people."""
        return f"{self.model} ({self._pooling})" if self._pooling else self.model

    async def one(self, text: str) -> Vector:
        """The vector of a single text, such as a question. Raises Park if the model refuses it."""
        return (await self._ai.embed(self.model, [text], self._pooling, MODELS.get(self.model)))[0]

    async def vectors(self, texts: Sequence[str], dimensions: int | None = None) -> dict[str, Made]:
        """A vector for every text, or why there is none. Raises Halt and Unreachable only.

        dimensions: those of the index, if it says so. A vector of another length is neither kept nor taken from memory.
        """
        right = MODELS.get(self.model) or dimensions
        digests = {text: hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts}
        known = self._memory.vectors(self.name, list(digests.values()))
        known = {digest: vector for digest, vector in known.items() if _fits(vector, right)}
        found: dict[str, Made] = {text: known[digest] for text, digest in digests.items() if digest in known}
        missing = [text for text in digests if text not in found]

        async def embed(group: list[str]) -> None:
            made = await self._made(group, right)
            found.update(made)
            fresh = {
                digests[text]: vector
                for text, vector in made.items()
                if not isinstance(vector, SyncdError) and _fits(vector, right)
            }
            self._memory.keep(self.name, fresh)

        await each(_groups(missing, TEXTS_LIMITS.get(self.model, TEXTS_LIMIT)), embed, AT_ONCE)
        if missing:
            log.debug("embed.done", model=self.model, texts=len(missing), remembered=len(digests) - len(missing))
        return found

    async def _made(self, group: list[str], right: int | None) -> dict[str, Made]:
        """Embed a group; if it is refused, halves show for the sake of which text."""
        made: dict[str, Made] = {}
        async for part, answer in by_halves(group, lambda texts: self._embed(texts, right)):
            made |= dict.fromkeys(part, answer) if isinstance(answer, SyncdError) else zip(part, answer, strict=True)
        return made

    async def _embed(self, texts: Sequence[str], right: int | None) -> list[Vector]:
        """Embed texts; what a model that nobody knows gives in another length than the index has is asked for again."""
        vectors = await self._ai.embed(self.model, texts, self._pooling, MODELS.get(self.model))
        for _ in range(ASK_AGAIN):
            if _fits(vectors[0], right):
                break
            vectors = await self._ai.embed(self.model, texts, self._pooling)
        return vectors


def _fits(vector: "Vector | None", right: int | None) -> bool:
    return vector is not None and right in (None, len(vector))


def _groups(texts: Sequence[str], most: int) -> list[list[str]]:
    groups: list[list[str]] = []
    chars = 0
    for text in texts:
        if not groups or len(groups[-1]) == most or chars + len(text) > REQUEST_CHARS:
            groups.append([])
            chars = 0
        groups[-1].append(text)
        chars += len(text)
    return groups
