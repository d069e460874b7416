"""The target itself. key = prefix + path; ref = all vectors of one content of it (see ids).

The index holds pieces of text and their vectors, not the files. Listings give ids only, and ids are enough: what is
there, whose it is, and whether it is whole. Changes are asynchronous: what the index has not processed yet counts as
our journal says.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import structlog

from syncd.cloudflare.vectorize import Vectorize
from syncd.cloudflare.workers_ai import MODELS
from syncd.core.errors import Conflict, Halt, Park
from syncd.core.limits import Limits
from syncd.core.model import Content, Delete, Entry, IndexStatus, Put
from syncd.targets.base import Advice, Done, Fetched, Hit, Noting, Read, Report
from syncd.targets.naming import Names
from syncd.targets.refusals import refusals_halt
from syncd.targets.vectorize.embedding import Embedder
from syncd.targets.vectorize.ids import WHOLE, Ref, content_tag, key_tag, maker, parse_ref
from syncd.targets.vectorize.index import VectorStore
from syncd.targets.vectorize.pieces import KEY, OWNER, SHA256, Cut, Signed
from syncd.targets.vectorize.searching import Wanted, nearest
from syncd.targets.vectorize.sets import Sets
from syncd.targets.vectorize.writing import UPSERT_VECTORS, VectorWriter
from syncd.text.documents import SUPPORTED

log = structlog.get_logger()

_WHAT = "the Vectorize index"

PATIENCE_S = 10.0
"""For how long a listing waits for our own changes to be processed, before it is taken with a grain of salt."""
SAMPLE = 20
"""Vectors read to confirm an entry: one request."""
TURN = 1000
"""Puts handed over at a time; an upsert is sent as soon as it is full, whatever the turn."""
PIECES_GUESS = 10
"""Pieces of a file, for forecasts."""
_NAMES_AT_ONCE = 5000


@dataclass(frozen=True, slots=True)
class VectorWritePolicy:
    """What this mirror writes and may touch.

    takeover: entries of other owners under our keys are shown. everything: so is all else that is in the index.
    consent: vectors of another model may be replaced. fields: of the metadata, besides our own -> their sources (see
    metadata).
    """

    owner: str
    prefix: str = ""
    takeover: bool = False
    everything: bool = False
    consent: bool = False
    fields: Mapping[str, str] = field(default_factory=dict)


def limits(max_key_length: int, max_file_size: int) -> Limits:
    """The limits of Vectorize: characters and bytes as configured, text only, and it keeps no files."""
    shown = 1000 // PIECES_GUESS
    base = Limits(max_key_length, max_file_size, extensions=SUPPORTED, empty=False, turn=TURN, listed=shown)
    return replace(base, reads_lag=True, keeps_files=False)


class VectorizeTarget:
    """One mirror's view of one index."""

    def __init__(
        self,
        index: VectorStore,
        embedder: Embedder,
        policy: VectorWritePolicy,
        limits: Limits,
        *,
        cut: Cut,
        names: Names,
    ) -> None:
        self.limits = limits
        self.index = index
        self._embedder = embedder
        self._policy = policy
        self._names = names
        # An owner's keys under another prefix are another mirror's.
        self._maker = maker(f"{policy.owner}\0{policy.prefix}", embedder.name, cut.name)
        self._cut = cut
        self._writer = VectorWriter(index, embedder, self._maker, cut, Signed(policy.owner, policy.fields))
        self._checked: Sets | None = None

    def log_removals(self, noting: Noting) -> None:
        """Enter in the log of deletes what a put takes away."""
        self._writer.noting = noting

    # -- looking

    async def check(self) -> str:
        """One line on index and model, tried on one word. Raises TargetMissing or Halt if either is not to be used."""
        with refusals_halt(_WHAT):
            info = await self.index.api.info()
            await self._writer.fit(len(await self._embedder.one("syncd")))
        held = f"{info.vector_count or 0} vectors"
        return f"Vectorize index {self.index.api.name} is there ({held}), and {self._embedder.model} fits it"

    async def advice(self) -> Sequence[Advice]:
        """Fields that have no metadata index: what is written before there is one cannot be filtered by it."""
        indexed = {each.property_name for each in await self.index.api.list_metadata_indexes()}
        if not (missing := [name for name in (OWNER, *self._policy.fields) if name not in indexed]):
            return ()
        message = (
            f"it has no metadata index on {', '.join(missing)}: kept with the vectors, but no query filters by them"
        )
        remedy = "nothing, if that is fine. Else make them (string), which counts for vectors written from then on"
        return (Advice(message, remedy),)

    async def create(self) -> None:
        """Make the index for our model, and metadata indexes on the owner, by which search tells mirrors apart, and on
        the mirror's fields.
        """
        api = Vectorize(self.index.api.transport)
        with refusals_halt(_WHAT):
            dimensions = MODELS.get(self._embedder.model) or len(await self._embedder.one("syncd"))
            try:
                await api.create_index(self.index.api.name, dimensions)
            except Conflict:
                return
            for name in (OWNER, *self._policy.fields):
                await self.index.api.create_metadata_index(name, "string")
        log.info("target.created", index=self.index.api.name, dimensions=dimensions)

    async def entries(self) -> AsyncIterator[Entry]:
        """Yield what the ids prove. Raises Halt if vectors are there that another model has made."""
        with refusals_halt(_WHAT):
            await self.index.processed(PATIENCE_S)
            self.limits = replace(self.limits, lag_s=self.index.lag_s())
            sets = await self.index.relist()
        self._check_models(sets)
        async for key, refs in self._named(sets):
            for ref in refs:
                if key.startswith(self._policy.prefix):
                    yield self._entry(key, ref, self._state(ref, sets.held(ref)))
        for vector_id in sets.strangers if self._policy.everything and not self._policy.prefix else ():
            yield Entry(f"id:{vector_id}", vector_id, marked=False)

    @property
    def unreadable_rows(self) -> Sequence[str]:
        """Messages about unreadable rows of the last listing."""
        return self.index.api.faults

    def _check_models(self, sets: Sets) -> None:
        """Vectors of two models in one index find nothing right, so this halts until a person has agreed.

        Asked once of each listing: what we write since is of our model, and an edit must not look through all keys.
        """
        if sets is self._checked:
            return
        ours = self._maker
        others = sum(
            any(ref.model != ours.model for ref in sets.of_key(*place))
            for place in sets.places()
            if place[0] == ours.owner
        )
        if others and not self._policy.consent:
            raise Halt(
                f"the index holds vectors of {others} files that another model (or pooling) than"
                f" {self._embedder.title} has made, and the two do not mix; set model back, or agree to have all files"
                " embedded again: syncd reconcile --force"
            )
        self._checked = sets

    async def _named(self, sets: Sets) -> AsyncIterator[tuple[str, list[Ref]]]:
        """Yield every key that has vectors we are to see: found in the journal, in the folder, or asked for."""
        others = self._policy.takeover or self._policy.everything
        wanted: dict[str, list[Ref]] = {}
        for owner, tag in sets.places():
            if others or owner == self._maker.owner:
                wanted.setdefault(tag, []).extend(sets.of_key(owner, tag))
        names = iter(self._names.recorded())
        while wanted and (part := list(islice(names, _NAMES_AT_ONCE))):
            for key in part:
                if refs := wanted.pop(key_tag(key), None):
                    yield key, refs
            await asyncio.sleep(0)
        if wanted:
            walked = self._names.walked
            for key in await asyncio.to_thread(lambda: [each for each in walked() if key_tag(each) in wanted]):
                if refs := wanted.pop(key_tag(key), None):
                    yield key, refs
        async for named in self._asked(sets, wanted):
            yield named

    async def _asked(self, sets: Sets, wanted: Mapping[str, list[Ref]]) -> AsyncIterator[tuple[str, list[Ref]]]:
        """Learn the keys of vectors that nothing here knows of from their own metadata."""
        ours = {
            sets.some_id(refs[0]): tag
            for tag, refs in wanted.items()
            if refs[0].owner == self._maker.owner or self._policy.everything
        }
        for vector in await self.index.read(list(ours)):
            key = vector.metadata.get(KEY)
            if isinstance(key, str) and key_tag(key) == ours[vector.id]:
                yield key, wanted[ours[vector.id]]
            else:
                log.warning("vector.unknown", id=vector.id, consequence="left alone")

    async def confirm(self, key: str, ref: str | None) -> Entry | None:
        """Ask for the entry of this ref, else for one of ours under this key, by reading some of its vectors."""
        await self.index.processed(PATIENCE_S)
        known = (await self.index.known()).of_key(self._maker.owner, key_tag(key))
        given = parse_ref(ref) if ref else None
        for each in dict.fromkeys([*([given] if given and given.key == key_tag(key) else []), *known]):
            ids = each.ids()
            sample = ids if len(ids) <= SAMPLE else [*ids[: SAMPLE // 2], *ids[-SAMPLE // 2 :]]
            found = await self.index.read(sample)
            if found:
                whole = each.pieces if len(found) == len(sample) else len(found)
                checksum = found[0].metadata.get(SHA256) if whole == each.pieces else None
                return self._entry(key, each, self._state(each, whole))._replace(checksum=checksum)
        return None

    async def checksum(self, entry: Entry, content: Content | None) -> str | None:
        """The sha-256 of the file that its vectors were made of; other text if some are missing or made otherwise."""
        ref = parse_ref(entry.ref)
        if ref is None:
            return None
        if entry.version == WHOLE and content and ref.content == content_tag(content.checksum):
            return content.checksum
        await self.index.processed(PATIENCE_S)
        found = await self.index.read(ref.ids())
        if not found:
            return None
        said = {str(vector.metadata.get(SHA256)) for vector in found}
        state = self._state(ref, len(found))
        return said.pop() if state == WHOLE and len(said) == 1 else state

    def _state(self, ref: Ref, held: int) -> str:
        if held != ref.pieces:
            return f"{held} of {ref.pieces} vectors"
        if ref.model != self._maker.model:
            return "made by another model"
        return WHOLE if ref.cut == self._maker.cut else "cut otherwise"

    def _entry(self, key: str, ref: Ref, state: str) -> Entry:
        owner = self._policy.owner if ref.owner == self._maker.owner else f"#{ref.owner}"
        return Entry(key, str(ref), version=state, owner=owner, marked=True, status="completed")

    async def fetch(self, entries: Sequence[Entry]) -> AsyncIterator[tuple[Entry, Fetched]]:
        """Files cannot be had back from their vectors (see Limits.keeps_files)."""
        for entry in entries:
            yield entry, Park("failed", "a Vectorize index holds pieces of text, not the file")

    async def statuses(self, refs: frozenset[str], fresh: frozenset[str] = frozenset()) -> Mapping[str, Entry | None]:
        """All of them are searchable once our last change is processed; until then nothing is said."""
        del fresh
        if not refs or not await self.index.processed():
            return {}
        found = {text: parse_ref(text) for text in refs}

        def whole(sets: Sets) -> set[str]:
            return {text for text, ref in found.items() if ref and sets.held(ref) == ref.pieces}

        there = whole(await self.index.known())
        if there != refs:
            # The last listing may be from before the change.
            there = whole(await self.index.relist())
        return {ref: Entry("", ref, status="completed") if ref in there else None for ref in refs}

    async def search(self, query: str, limit: int, folder: str = "") -> Sequence[Hit]:
        """The pieces of our files that are nearest to the query; with a folder, those among the nearest 50."""
        vector = await self._embedder.one(query)
        title = next((name for name, source in self._policy.fields.items() if source == "title"), "title")
        wanted = Wanted(self._policy.owner, folder or self._policy.prefix, limit, title)
        return await nearest(self.index.api, vector, wanted)

    def requests(self, puts: int, deletes: int, size: int | None = None) -> int:
        """Embeddings and deletes by the hundred, upserts by the thousand; a guess, as no file is read for it."""
        vectors, gone = puts * PIECES_GUESS, deletes * PIECES_GUESS
        if size is not None:
            vectors = max(puts, size // max(1, self._cut.size - self._cut.overlap))
        return -(-vectors // 100) + -(-vectors // UPSERT_VECTORS) + -(-gone // 100)

    # -- changing

    async def apply(self, batch: Sequence[Put | Delete], read: Read, report: Report) -> None:
        """Embed and write puts, then remove deletes."""
        if not batch:
            return
        # What is there under our keys has to be known: it goes when its successor is in.
        self._check_models(await self.index.known())
        puts = [action for action in batch if isinstance(action, Put)]
        deletes = [action for action in batch if isinstance(action, Delete)]
        await self._writer.write(puts, read, report)
        failed = await self.index.drop([action.ref for action in deletes])
        report({action: failed.get(action.ref) or Done() for action in deletes})

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

    async def aclose(self) -> None:
        """End what converts HTML, so that no thread waits for it; the transport is shared."""
        if loaded := sys.modules.get("syncd.text.converter"):
            await asyncio.to_thread(loaded.converter.close)
