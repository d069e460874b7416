"""Puts into a Vectorize index: split a file into chunks, embed and upsert them, then delete the earlier vectors."""

import asyncio
import hashlib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import structlog

from syncd.cloudflare.vectorize import METADATA_LIMIT, encode_line
from syncd.cloudflare.workers_ai import MODELS, TEXTS_LIMIT, TEXTS_LIMITS, Pooling, Vector, WorkersAI
from syncd.core.errors import Halt, Park, Retry, SyncdError, file_error
from syncd.core.model import Content, Delete, Put, Stored
from syncd.state.caches import Embeddings
from syncd.targets.base import (
    Done,
    OpenRemovalLog,
    Outcome,
    ReadContents,
    Removed,
    ReportOutcomes,
    WritePolicy,
    for_each,
    in_groups,
    in_halves,
    read_one,
)
from syncd.targets.shared import describe_file, fit_metadata, json_size
from syncd.targets.vectorize.index import (
    CHUNKS_LIMIT,
    WHOLE,
    EncodedVector,
    HeldVectors,
    RefMaker,
    VectorRef,
    VectorStore,
    key_tag,
)
from syncd.text.chunks import CHUNKS_VERSION, chunks
from syncd.text.documents import read_document

log = structlog.get_logger()

Embedding: TypeAlias = "Vector | SyncdError"
"""The vector of a text, or the error of its embedding."""
REQUEST_CHARS = 100_000
"""Maximum characters of the texts of one request. The service has a limit on their sum, but does not document it."""
RETRIES = 2
"""Maximum repetitions of a request that returned vectors of a wrong length. Then the model does not fit the index."""
REQUESTS = 4
"""Maximum number of requests at a time. 400 texts take a second or two, and other mirrors need requests too."""
KEY, HEADING, TEXT, OWNER, SHA256 = "key", "heading", "text", "owner", "sha256"
"""Metadata fields of each vector, for searches and for people. Ownership is proved by the ids alone."""
FIELDS_LIMIT = 5 * 1024
"""Maximum bytes of a vector's metadata without the text. The limit is our own: half of METADATA_LIMIT."""
HEADING_LENGTH = 500
"""Maximum characters of a heading in the metadata."""
PATIENCE_S = 2.0
"""Seconds that the next file waits for a file that is being split."""
SLOW_FILES = 2
"""Maximum number of files that may take longer than PATIENCE_S at a time. Each of them is in memory."""
UPSERT_VECTORS = 1000
"""Maximum number of vectors of one upsert and in memory: 16 MB with 1,024 dimensions. The API takes 5,000."""


# -- embeddings


class Embedder:
    """Makes vectors with one model and pooling. Vectors of different models or poolings cannot be compared."""

    def __init__(self, ai: WorkersAI, model: str, pooling: Pooling | None, cache: Embeddings) -> None:
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
            async for part, answer in in_halves(group, lambda texts: self._request(texts, length)):
                if isinstance(answer, SyncdError):
                    found.update(dict.fromkeys(part, answer))
                    continue
                embedded = dict(zip(part, answer, strict=True))
                found.update(embedded)
                fresh = {digests[text]: vector for text, vector in embedded.items() if _has_length(vector, length)}
                self._cache.keep(self.name, fresh)

        groups = in_groups(missing, len, TEXTS_LIMITS.get(self.model, TEXTS_LIMIT), REQUEST_CHARS)
        await for_each(list(groups), embed, REQUESTS)
        if missing:
            log.debug("embed.done", model=self.model, texts=len(missing), remembered=len(digests) - len(missing))
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


# -- files


@dataclass(frozen=True, slots=True)
class VectorWritePolicy(WritePolicy):
    """See WritePolicy. With `takeover`, the listing includes entries of other owners under the mirror's keys.

    everything: the listing includes all vectors of the index. consent: the mirror may replace vectors of another model.
    """

    everything: bool = False
    consent: bool = False


@dataclass(frozen=True, slots=True)
class ChunkSettings:
    """The rules by which text is split. size and overlap: characters."""

    size: int
    overlap: int

    @property
    def name(self) -> str:
        """The settings and the version of the code that splits: with the text, they determine all chunks."""
        return f"{CHUNKS_VERSION} {self.size} {self.overlap}"


@dataclass(slots=True)
class PendingFile:
    """One put under way.

    left: the number of chunks without a result. error: the reason why the file cannot be stored. added: the ids that
    this put wrote and that did not exist before.
    """

    put: Put
    checksum: str
    size: int
    ref: VectorRef
    left: int
    error: SyncdError | None = None
    added: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class PendingVector:
    """One chunk to embed and to upsert."""

    file: PendingFile
    id: str
    text: str
    metadata: Mapping[str, Any]


def split_file(
    put: Put, content: Content, maker: RefMaker, settings: ChunkSettings, policy: VectorWritePolicy
) -> list[PendingVector]:
    """Split a file into chunks. Raises Park if the content is no text, has no text, or has over CHUNKS_LIMIT chunks."""
    document = read_document(put.key + content.suffix, content.data)
    parts = chunks(document.text, document.kind, settings.size, settings.overlap)
    if len(parts) > CHUNKS_LIMIT:
        over = f"the file has {len(parts)} chunks, and a file can have {CHUNKS_LIMIT} at most; raise chunk_size"
        raise Park("too_large", over)
    ref = maker.ref(put.key, content.checksum, len(parts))
    file = PendingFile(put, content.checksum, len(content.data), ref, len(parts))
    marks = {KEY: put.key, OWNER: policy.owner, SHA256: content.checksum}
    shared = fit_metadata(marks, describe_file(policy.fields, put.key, content), FIELDS_LIMIT)
    headings = [{**shared, HEADING: part.heading[:HEADING_LENGTH]} for part in parts]
    return [
        PendingVector(file, vector_id, part.text, _with_text(metadata, part.text))
        for vector_id, part, metadata in zip(ref.ids(), parts, headings, strict=True)
    ]


def _with_text(metadata: Mapping[str, str], text: str) -> dict[str, str]:
    """Return the metadata with as much of the text as METADATA_LIMIT allows."""
    whole = {**metadata, TEXT: text}
    if json_size(whole) <= METADATA_LIMIT:
        return whole
    lengths = range(1, len(text))
    fits = bisect_right(lengths, METADATA_LIMIT, key=lambda length: json_size({**metadata, TEXT: text[:length]}))
    return {**metadata, TEXT: text[:fits]}


# -- the writer

_Splitting = dict[asyncio.Task[list[PendingVector]], Put]
"""The puts whose files are being split."""


class VectorWriter:
    """Writes files as vectors. open_log: opens the log for vectors that no plan deletes."""

    def __init__(
        self,
        index: VectorStore,
        embedder: Embedder,
        maker: RefMaker,
        settings: ChunkSettings,
        policy: VectorWritePolicy,
        open_log: OpenRemovalLog,
    ) -> None:
        self._open_log = open_log
        self._index = index
        self._embedder = embedder
        self._maker = maker
        self._settings = settings
        self._policy = policy

    async def check_dimensions(self, dimensions: int | None) -> None:
        """Raise Halt if vectors of this length do not fit the index."""
        expected = await self._index.dimensions()
        if dimensions and expected and dimensions != expected:
            raise Halt(
                f"vectors of {self._embedder.model} have {dimensions} dimensions, and the index"
                f" {self._index.api.name} takes {expected}; choose a model that fits, or name another index"
                " (create = true makes it)"
            )

    async def write(self, puts: Sequence[Put], read: ReadContents, report: ReportOutcomes) -> None:
        """Write puts. Their chunks go in slices of UPSERT_VECTORS, so that at most one large file is in memory."""
        splitting: _Splitting = {}
        waiting: list[PendingVector] = []
        try:
            for put in puts:
                newest = asyncio.create_task(self._split(put, read))
                splitting[newest] = put
                await asyncio.wait({newest}, timeout=PATIENCE_S)
                waiting = await self._collect(splitting, SLOW_FILES, waiting, report)
            while splitting:
                # Finished files do not wait for slow ones.
                await self._send(waiting, report)
                waiting = await self._collect(splitting, 0, [], report)
        finally:
            for task in splitting:
                task.cancel()
            await asyncio.gather(*splitting, return_exceptions=True)
        await self._send(waiting, report)

    async def _split(self, put: Put, read: ReadContents) -> list[PendingVector]:
        content = await read_one(read, put)
        return await asyncio.to_thread(split_file, put, content, self._maker, self._settings, self._policy)

    async def _collect(
        self, splitting: _Splitting, most: int, waiting: list[PendingVector], report: ReportOutcomes
    ) -> list[PendingVector]:
        """Add the vectors of finished files to the waiting ones, send full slices, and return the rest.

        With more than `most` files under way, wait until one of them is finished.
        """
        if len(splitting) > most:
            await asyncio.wait(splitting, return_when=asyncio.FIRST_COMPLETED)
        for task in [task for task in splitting if task.done()]:
            put = splitting.pop(task)
            try:
                waiting = waiting + await task
            except Exception as error:  # noqa: BLE001 - file_error logs an unexpected one
                report({put: file_error(error, put.key)})
            while len(waiting) >= UPSERT_VECTORS:
                await self._send(waiting[:UPSERT_VECTORS], report)
                waiting = waiting[UPSERT_VECTORS:]
        return waiting

    async def _send(self, vectors: Sequence[PendingVector], report: ReportOutcomes) -> None:
        """Embed and upsert vectors, and finish the files whose last vectors these are."""
        due = [vector for vector in vectors if vector.file.error is None]
        if due:
            await self.check_dimensions(MODELS.get(self._embedder.model))
        embeddings = await self._embedder.embed([vector.text for vector in due], await self._index.dimensions())
        encoded = [(vector.file, self._encode(vector, embeddings[vector.text])) for vector in due]
        # The vectors of a failed or postponed file are not written, because they would be removed again.
        lines = [line for file, line in encoded if line and not file.error]
        if lines:
            values = (value for value in embeddings.values() if not isinstance(value, SyncdError))
            await self.check_dimensions(len(next(values)))
        held = await self._index.held() if lines else HeldVectors()
        new = {line.id for line in lines if not held.holds(line.id)}
        failed = await self._index.upsert(lines)
        for vector in due:
            vector.file.error = vector.file.error or failed.get(vector.id)
            if vector.id in new and vector.id not in failed:
                vector.file.added.append(vector.id)
        finished = []
        for vector in vectors:
            vector.file.left -= 1
            if vector.file.left == 0:
                finished.append(vector.file)
        await self._finish(finished, report)

    @staticmethod
    def _encode(vector: PendingVector, embedding: Embedding) -> EncodedVector | None:
        """Encode a vector. Return None after an error, which is set on the file."""
        if isinstance(embedding, SyncdError):
            vector.file.error = embedding
            return None
        try:
            return EncodedVector(vector.id, encode_line(vector.id, embedding, vector.metadata))
        except Exception as error:  # noqa: BLE001 - file_error logs an unexpected one
            vector.file.error = file_error(error, vector.file.put.key)
        return None

    async def _finish(self, files: Sequence[PendingFile], report: ReportOutcomes) -> None:
        """Delete the earlier vectors of stored files and the new vectors of failed files, then report the outcomes."""
        removals = {id(file): await self._removals(file) for file in files}
        unique = dict.fromkeys(removed for group in removals.values() for removed in group)
        with self._open_log([*unique]) if unique else nullcontext() as log_removal:
            failed = await self._index.delete(dict.fromkeys(removed.ref for removed in unique))
            for removed in unique:
                if log_removal and removed.ref not in failed:
                    log_removal(removed)
        outcomes: dict[Put | Delete, Outcome] = {}
        for file in files:
            left = next((failed[removed.ref] for removed in removals[id(file)] if removed.ref in failed), None)
            # The new content is stored, so this error must not park it.
            error = Retry(f"its earlier vectors could not be deleted: {left}") if left else None
            stored = Stored(str(file.ref), file.checksum, file.size, version=WHOLE, marked=True, status="queued")
            outcomes[file.put] = file.error or error or Done(stored)
        report(outcomes)

    async def _removals(self, file: PendingFile) -> list[Removed]:
        """Return the vectors to delete at the end of a put, and add the file's own vectors to the held ones."""
        key, held = file.put.key, await self._index.held()
        if file.error:
            why = f"the rest of the file could not be written: {file.error}"
            return [Removed(key, vector_id, "remainder", why) for vector_id in file.added]
        held.add(file.ref)
        known = [str(ref) for ref in held.refs_of(self._maker.owner, key_tag(key))]
        replaced = [file.put.ref] if file.put.ref else []
        why = f"the vectors of the file's present content, {file.ref}, took their place"
        refs = [ref for ref in dict.fromkeys([*known, *replaced]) if ref != str(file.ref)]
        return [Removed(key, ref, "replaced", why) for ref in refs]
