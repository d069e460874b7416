"""Entries of a Vectorize index: the listing of ids, single entries by some of their vectors, and searches."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from itertools import islice

import structlog

from syncd.cloudflare.workers_ai import Vector
from syncd.core.errors import Halt
from syncd.core.model import Content, Entry
from syncd.targets.base import Hit, KeySources
from syncd.targets.vectorize.ids import WHOLE, HeldVectors, RefMaker, VectorRef, content_tag, key_tag, parse_ref
from syncd.targets.vectorize.index import VectorStore
from syncd.targets.vectorize.writing import HEADING, KEY, OWNER, SHA256, TEXT, VectorWritePolicy

log = structlog.get_logger()

PATIENCE_S = 10.0
"""Seconds that a read waits for the index to process our own changes."""
SAMPLE = 20
"""Vectors that are read to confirm an entry, in one request."""
QUERY_LIMIT = 50
"""Maximum number of matches of a query with their metadata (Vectorize limits: topK)."""
_KEYS_AT_ONCE = 5000


class VectorReader:
    """Reads the entries of one mirror in an index. model_title: model and pooling, as a part of messages."""

    def __init__(
        self, index: VectorStore, maker: RefMaker, policy: VectorWritePolicy, keys: KeySources, model_title: str
    ) -> None:
        self._index = index
        self._maker = maker
        self._policy = policy
        self._keys = keys
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

        Vectors of two models in one index give wrong search results. Each listing is checked once: vectors written
        since are of our model, and a pass over one file must not look at all keys.
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
                f"the index holds vectors of {others} files that another model (or pooling) than {self._model_title}"
                " has made, and the two do not mix; set model back, or agree to have all files embedded again: syncd"
                " reconcile --force"
            )
        self._checked = held

    async def _with_keys(self, held: HeldVectors) -> AsyncIterator[tuple[str, list[VectorRef]]]:
        """Yield the refs of each visible key. The keys come from the journal, the folder, or the metadata."""
        others = self._policy.takeover or self._policy.everything
        wanted: dict[str, list[VectorRef]] = {}
        for owner, tag in held.tags():
            if others or owner == self._maker.owner:
                wanted.setdefault(tag, []).extend(held.refs_of(owner, tag))
        keys = iter(self._keys.recorded())
        while wanted and (part := list(islice(keys, _KEYS_AT_ONCE))):
            for key in part:
                if refs := wanted.pop(key_tag(key), None):
                    yield key, refs
            await asyncio.sleep(0)
        if wanted:
            walked = self._keys.walked
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
        return WHOLE if ref.cut == self._maker.cut else "made with other chunk settings"

    def _entry(self, key: str, ref: VectorRef, state: str) -> Entry:
        owner = self._policy.owner if ref.owner == self._maker.owner else f"#{ref.owner}"
        return Entry(key, str(ref), version=state, owner=owner, marked=True, status="completed")

    async def nearest(self, vector: Vector, limit: int, folder: str) -> list[Hit]:
        """Return at most `limit` chunks of our files that are nearest to a vector.

        The index filters by owner if it has a metadata index for that. The folder is filtered here, among the nearest
        QUERY_LIMIT.
        """
        owner, prefix, api = self._policy.owner, folder or self._policy.prefix, self._index.api
        title = next((name for name, source in self._policy.fields.items() if source == "title"), "title")
        filters = any(index.property_name == OWNER for index in await api.list_metadata_indexes())
        matches = await api.query(
            vector,
            min(limit, QUERY_LIMIT) if filters and not prefix else QUERY_LIMIT,
            filter={OWNER: owner} if filters else None,
            return_metadata="all",
        )
        hits = [
            Hit(
                str(metadata[KEY]),
                max(0.0, match.score or 0.0),
                str(metadata.get(TEXT) or ""),
                str(metadata.get(HEADING) or ""),
                str(metadata.get(title) or ""),
            )
            for match in matches
            if (metadata := match.metadata or {}).get(OWNER) == owner and metadata.get(KEY)
        ]
        return [hit for hit in hits if hit.key.startswith(prefix)][:limit]
