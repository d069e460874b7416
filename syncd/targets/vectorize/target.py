"""The target of one index: its entries and its searches. The writer does its puts.

key = prefix + path; ref = all vectors of one content of the key (see index.py). The index holds chunks of text and
their vectors, not the files. A listing gives ids only, and the ids prove key, owner and completeness. The index
processes changes later. Until then, the journal and not the index has the state of an entry.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import structlog

from syncd.cloudflare.vectorize import FULL_QUERY_LIMIT, Vectorize
from syncd.cloudflare.workers_ai import MODELS, Vector
from syncd.core.errors import Conflict, Halt, Park, TargetMissing
from syncd.core.model import Content, Delete, Entry, IndexStatus, Put
from syncd.core.plain_text import counted
from syncd.core.problems import Limits
from syncd.targets.base import (
    Advice,
    Done,
    Fetched,
    Hit,
    MirrorRecords,
    ReadContents,
    ReportOutcomes,
    Usage,
)
from syncd.targets.shared import refusals_halt, title_field
from syncd.targets.vectorize.index import (
    WHOLE,
    HeldVectors,
    RefMaker,
    VectorRef,
    VectorStore,
    content_tag,
    key_tag,
    parse_ref,
)
from syncd.targets.vectorize.writing import (
    HEADING,
    KEY,
    OWNER,
    SHA256,
    TEXT,
    UPSERT_VECTORS,
    ChunkSettings,
    Embedder,
    VectorWritePolicy,
    VectorWriter,
)
from syncd.text.documents import SUPPORTED

log = structlog.get_logger()

VECTORS = 20_000_000
"""Vectors of one index (Vectorize limits)."""
INDEXES_FREE, INDEXES_PAID = 100, 50_000
"""Indexes of one account (Vectorize limits)."""
PATIENCE_S = 10.0
"""Seconds that a read waits for the index to process our own changes."""
SAMPLE = 20
"""Vectors that are read to confirm an entry, in one request."""
_KEYS_AT_ONCE = 5000
_INDEX = "the Vectorize index"
TURN = 1000
"""Puts of one batch. An upsert is sent as soon as it is full, regardless of the size of the batch."""
CHUNKS_GUESS = 10
"""Assumed number of chunks of a file, for forecasts."""


# -- entries and searches


class VectorReader:
    """Reads the entries of one mirror in an index. model_title: model and pooling, as a part of messages."""

    def __init__(
        self, index: VectorStore, maker: RefMaker, policy: VectorWritePolicy, records: MirrorRecords, model_title: str
    ) -> None:
        self._index = index
        self._maker = maker
        self._policy = policy
        self._records = records
        self._model_title = model_title
        self._checked: HeldVectors | None = None

    async def entries(self, held: HeldVectors) -> AsyncIterator[Entry]:
        """Yield the entries that the ids of a listing prove. Raises Halt if another model made some of the vectors."""
        self.check_models(held)
        async for key, refs in self._with_keys(held):
            for ref in refs:
                if key.startswith(self._policy.prefix):
                    yield self._entry(key, ref, self._state(ref, held.count(ref)))
        for vector_id in held.foreign_ids if self._policy.everything and not self._policy.prefix else ():
            yield Entry(f"id:{vector_id}", vector_id, marked=False)

    def check_models(self, held: HeldVectors) -> None:
        """Raise Halt if another model made vectors of this owner, unless the user has agreed to replace them.

        Vectors of two models in one index give wrong search results. Each listing is checked once, because later
        vectors are of our model, and a pass over one file must not look at all keys.
        """
        if held is self._checked:
            return
        ours = self._maker
        others = sum(
            any(ref.model != ours.model for ref in held.refs_of(owner, key))
            for owner, key in held.tags()
            if owner == ours.owner
        )
        if others and not self._policy.consent:
            raise Halt(
                f"the index holds vectors of {counted(others, 'file')} from another model or pooling than"
                f" {self._model_title}, and a search cannot mix them; set model back, or agree to have all files"
                " embedded again: syncd reconcile --force"
            )
        self._checked = held

    async def _with_keys(self, held: HeldVectors) -> AsyncIterator[tuple[str, list[VectorRef]]]:
        """Yield the refs of each visible key. The keys come from the journal, the folder, or the metadata."""
        others = self._policy.takeover or self._policy.everything
        wanted: dict[str, list[VectorRef]] = {}
        for owner, tag in held.tags():
            if others or owner == self._maker.owner:
                wanted.setdefault(tag, []).extend(held.refs_of(owner, tag))
        keys = iter(self._records.recorded())
        while wanted and (part := list(islice(keys, _KEYS_AT_ONCE))):
            for key in part:
                if refs := wanted.pop(key_tag(key), None):
                    yield key, refs
            await asyncio.sleep(0)
        if wanted:
            walked = self._records.walked
            for key in await asyncio.to_thread(lambda: [found for found in walked() if key_tag(found) in wanted]):
                if refs := wanted.pop(key_tag(key), None):
                    yield key, refs
        async for pair in self._with_stored_keys(held, wanted):
            yield pair

    async def _with_stored_keys(
        self, held: HeldVectors, wanted: Mapping[str, list[VectorRef]]
    ) -> AsyncIterator[tuple[str, list[VectorRef]]]:
        """Yield the refs whose keys neither journal nor folder know, with the keys in the vectors' metadata."""
        ours = {
            held.any_id(refs[0]): tag
            for tag, refs in wanted.items()
            if refs[0].owner == self._maker.owner or self._policy.everything
        }
        for vector in await self._index.read(list(ours)):
            key = vector.metadata.get(KEY)
            if isinstance(key, str) and key_tag(key) == ours[vector.id]:
                yield key, wanted[ours[vector.id]]
            else:
                log.warning("vector.unknown", id=vector.id, consequence="left alone")

    async def confirm(self, key: str, ref: str | None) -> Entry | None:
        """Return the entry of this ref, else an entry of ours of this key, by reading a sample of its vectors."""
        await self._index.mutations.processed(PATIENCE_S)
        known = (await self._index.held()).refs_of(self._maker.owner, key_tag(key))
        given = parse_ref(ref) if ref else None
        for candidate in dict.fromkeys([*([given] if given and given.key == key_tag(key) else []), *known]):
            ids = candidate.ids()
            sample = ids if len(ids) <= SAMPLE else [*ids[: SAMPLE // 2], *ids[-SAMPLE // 2 :]]
            vectors = await self._index.read(sample)
            if vectors:
                count = candidate.chunks if len(vectors) == len(sample) else len(vectors)
                checksum = vectors[0].metadata.get(SHA256) if count == candidate.chunks else None
                return self._entry(key, candidate, self._state(candidate, count))._replace(checksum=checksum)
        return None

    async def checksum(self, entry: Entry, content: Content | None) -> str | None:
        """Return the sha-256 of the file from which the vectors were made, None without vectors.

        Return another text if vectors are missing, or were made with another model or other chunk settings.
        """
        ref = parse_ref(entry.ref)
        if ref is None:
            return None
        if entry.version == WHOLE and content and ref.content == content_tag(content.checksum):
            return content.checksum
        await self._index.mutations.processed(PATIENCE_S)
        vectors = await self._index.read(ref.ids())
        if not vectors:
            return None
        checksums = {str(vector.metadata.get(SHA256)) for vector in vectors}
        state = self._state(ref, len(vectors))
        return checksums.pop() if state == WHOLE and len(checksums) == 1 else state

    def _state(self, ref: VectorRef, count: int) -> str:
        """Return the version of an entry. count: the number of its vectors in the index."""
        if count != ref.chunks:
            return f"{count} of {ref.chunks} vectors"
        if ref.model != self._maker.model:
            return "made by another model"
        return WHOLE if ref.settings == self._maker.settings else "made with other chunk settings"

    def _entry(self, key: str, ref: VectorRef, state: str) -> Entry:
        owner = self._policy.owner if ref.owner == self._maker.owner else f"#{ref.owner}"
        return Entry(key, str(ref), version=state, owner=owner, marked=True, status="completed")

    async def nearest(self, vector: Vector, limit: int, folder: str, filters: Mapping[str, Any]) -> list[Hit]:
        """Return at most `limit` chunks of our files that are nearest to a vector.

        The index filters by owner if it has a metadata index on the owner, and by `filters`, whose fields need such
        an index. This method filters by folder, among the nearest FULL_QUERY_LIMIT chunks.
        """
        owner, prefix, api = self._policy.owner, folder or self._policy.prefix, self._index.api
        title = title_field(self._policy.fields)
        by_owner = OWNER in await api.list_metadata_indexes()
        conditions = {**filters, **({OWNER: owner} if by_owner else {})}
        matches = await api.query(
            vector,
            min(limit, FULL_QUERY_LIMIT) if by_owner and not prefix else FULL_QUERY_LIMIT,
            conditions,
        )
        hits = [
            Hit(
                str(metadata[KEY]),
                max(0.0, match.score),
                str(metadata.get(TEXT) or ""),
                str(metadata.get(HEADING) or ""),
                str(metadata.get(title) or ""),
            )
            for match in matches
            if (metadata := match.metadata).get(OWNER) == owner and metadata.get(KEY)
        ]
        return [hit for hit in hits if hit.key.startswith(prefix)][:limit]


# -- the target


def limits(max_key_length: int, max_file_size: int) -> Limits:
    """Return the limits of Vectorize: text files only, and the index does not keep the files.

    max_key_length: characters, as configured. max_file_size: bytes, as configured.
    """
    listed = 1000 // CHUNKS_GUESS
    base = Limits(max_key_length, max_file_size, extensions=SUPPORTED, empty=False, turn=TURN, listed=listed)
    return replace(base, reads_lag=True, keeps_files=False)


class VectorizeTarget:
    """The target of one mirror in one index. It implements all protocols of a target except Ordered."""

    def __init__(
        self,
        index: VectorStore,
        embedder: Embedder,
        policy: VectorWritePolicy,
        limits: Limits,
        *,
        settings: ChunkSettings,
        records: MirrorRecords,
    ) -> None:
        self.limits = limits
        self.index = index
        self._embedder = embedder
        self._policy = policy
        self._settings = settings
        # The prefix is part of the tag, because keys of this owner under another prefix belong to another mirror.
        maker = RefMaker(f"{policy.owner}\0{policy.prefix}", embedder.name, settings.name)
        self._reader = VectorReader(index, maker, policy, records, embedder.title)
        self.confirm, self.checksum = self._reader.confirm, self._reader.checksum
        self._writer = VectorWriter(index, embedder, maker, settings, policy, records.open_log)

    # -- the remote index

    async def check(self) -> str:
        """Return one line about index and model, after embedding one word. Raises TargetMissing or Halt."""
        with refusals_halt(_INDEX):
            info = await self.index.api.info()
            await self._writer.check_dimensions(len(await self._embedder.embed_query("syncd")))
        count = counted(info.vector_count or 0, "vector")
        return f"Vectorize index {self.index.api.name} is there ({count}), and {self._embedder.model} fits it"

    async def usage(self, *, account: bool) -> Sequence[Usage]:
        """Return the vectors of the index, and the indexes of the account if `account` or if the index is missing."""
        with refusals_halt(_INDEX):
            try:
                vectors, to_come = (await self.index.api.info()).vector_count, 0
            except TargetMissing:
                account, vectors, to_come = True, 0, 1
            usage = [Usage("vectors in the index", vectors, VECTORS, VECTORS)]
            if account:
                indexes = len(await Vectorize(self.index.api.transport).list_indexes())
                usage.append(Usage("Vectorize indexes", indexes, INDEXES_FREE, INDEXES_PAID, to_come, of_account=True))
        return usage

    async def advice(self) -> Sequence[Advice]:
        """Return the fields without a metadata index.

        An index covers only vectors that are written after its creation.
        """
        indexed = await self.index.api.list_metadata_indexes()
        if not (missing := [name for name in (OWNER, *self._policy.fields) if name not in indexed]):
            return ()
        message = (
            f"it has no metadata index on {', '.join(missing)}: stored with the vectors, but no query filters by them"
        )
        remedy = (
            "nothing if you make no such queries; otherwise create the indexes (type string), which cover the vectors"
            " that are written later"
        )
        return (Advice(message, remedy),)

    async def create(self) -> None:
        """Create the index for our model, with metadata indexes on the owner and on the mirror's fields.

        Searches filter by the owner, because several mirrors may share an index.
        """
        api = Vectorize(self.index.api.transport)
        with refusals_halt(_INDEX):
            dimensions = MODELS.get(self._embedder.model) or len(await self._embedder.embed_query("syncd"))
            try:
                await api.create_index(self.index.api.name, dimensions)
            except Conflict:
                return
            for name in (OWNER, *self._policy.fields):
                await self.index.api.create_metadata_index(name)
        log.info("target.created", index=self.index.api.name, dimensions=dimensions)

    # -- reading

    @property
    def unreadable_rows(self) -> Sequence[str]:
        """Messages about unreadable rows of the last listing."""
        return self.index.api.faults

    async def entries(self) -> AsyncIterator[Entry]:
        """Yield the entries that the ids prove. Raises Halt if another model made some of the vectors."""
        with refusals_halt(_INDEX):
            await self.index.mutations.processed(PATIENCE_S)
            self.limits = replace(self.limits, lag_s=self.index.mutations.lag_s())
            held = await self.index.relist()
        async for entry in self._reader.entries(held):
            yield entry

    async def fetch(self, entries: Sequence[Entry]) -> AsyncIterator[tuple[Entry, Fetched]]:
        """Yield an error for each entry, because vectors do not contain the file (see Limits.keeps_files)."""
        for entry in entries:
            yield entry, Park("failed", "a Vectorize index holds chunks of text, not the file")

    async def search(
        self, query: str, limit: int, folder: str = "", filters: Mapping[str, Any] | None = None
    ) -> Sequence[Hit]:
        """Return the chunks of our files that are nearest to the query. A folder selects among the 50 nearest."""
        return await self._reader.nearest(await self._embedder.embed_query(query), limit, folder, filters or {})

    # -- indexing

    async def statuses(self, refs: frozenset[str], fresh: frozenset[str] = frozenset()) -> Mapping[str, Entry | None]:
        """Return "completed" for each ref with all its vectors. Return {} until our last change is processed."""
        del fresh
        if not refs or not await self.index.mutations.processed():
            return {}
        parsed = {text: parse_ref(text) for text in refs}

        def whole(held: HeldVectors) -> set[str]:
            return {text for text, ref in parsed.items() if ref and held.count(ref) == ref.chunks}

        present = whole(await self.index.held())
        if present != refs:
            # The last listing may be older than the change.
            present = whole(await self.index.relist())
        return {ref: Entry("", ref, status="completed") if ref in present else None for ref in refs}

    async def why(self, ref: str) -> str | None:
        """Return None. Vectorize reports no failed indexing."""
        del ref
        return None

    async def reindex(self, key: str, ref: str) -> IndexStatus:
        """Return "completed". Vectorize indexes every write and reports no failed indexing to repeat."""
        del key, ref
        return "completed"

    async def counts(self) -> dict[IndexStatus, int] | None:
        """Return None. Vectorize counts vectors, not entries."""
        return None

    # -- writing

    async def apply(self, batch: Sequence[Put | Delete], read: ReadContents, report: ReportOutcomes) -> None:
        """Embed and write the puts, then delete the vectors of the deletes."""
        if not batch:
            return
        # A put deletes the earlier vectors of its key, so these must be known.
        self._reader.check_models(await self.index.held())
        puts = [action for action in batch if isinstance(action, Put)]
        deletes = [action for action in batch if isinstance(action, Delete)]
        await self._writer.write(puts, read, report)
        failed = await self.index.delete([action.ref for action in deletes])
        report({action: failed.get(action.ref) or Done() for action in deletes})

    def requests(self, puts: int, deletes: int, size: int | None = None) -> int:
        """Estimate embeddings and deletes by the hundred, upserts by the thousand. It reads no file."""
        vectors, gone = puts * CHUNKS_GUESS, deletes * CHUNKS_GUESS
        if size is not None:
            vectors = max(puts, size // max(1, self._settings.size - self._settings.overlap))
        return -(-vectors // 100) + -(-vectors // UPSERT_VECTORS) + -(-gone // 100)
