"""The ids of vectors, the known content of an index, and the changes that the index has not processed yet.

    rD8xkQ2a.q1Zr8h2Lm0sX9tYw.0aBcDeFgHiJkLmNoPqRs.m3AcD1.0002-000c
    owner    key              content              |      chunk 2 of 12
                                                   model and chunk settings

An id has 63 bytes; Vectorize takes 64. All parts but the last are the beginnings of SHA-256 digests. So the listing,
which gives ids only, proves the content of the index and its owner without a journal and without reading a vector.
"""

import asyncio
import base64
import hashlib
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import structlog

from syncd.cloudflare.vectorize import DELETE_LIMIT, GET_LIMIT, StoredVector, VectorizeIndex
from syncd.core.errors import Halt, SyncdError, TargetMissing, Unreachable
from syncd.state.caches import Embeddings, IndexChange
from syncd.targets.base import in_halves
from syncd.targets.shared import relisted

T = TypeVar("T")
log = structlog.get_logger()

OWNER_CHARS, KEY_CHARS, CONTENT_CHARS, MODEL_CHARS, SETTINGS_CHARS = 8, 16, 20, 3, 3
"""Characters of 6 bits each. With 1,000 owners, two share a tag in one of 10^8 indexes; with a million keys, in one
of 10^17."""
CHUNKS_LIMIT = 0xFFFF
"""Maximum number of chunks of one file: four hex digits."""
WHOLE = "whole"
"""The version of an entry with all its vectors, made with the present model and chunk settings."""

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 5.0
"""Seconds between two requests for the progress of a change. A change takes seconds (Vectorize: asynchronous
mutations).
"""
LATER_S = 150.0
"""If the time of the last processed change is so many seconds after the acceptance of our change, it counts as later.

A change waits up to two minutes for its processing (p99), and the time may be that of processing. Two clocks of the
remote may differ by 30 s, which is an assumption.
"""
GIVE_UP_S = 600.0
"""Seconds after which a change counts as processed, even if no answer shows it."""

_REF = re.compile(
    rf"(?P<owner>[\w-]{{{OWNER_CHARS}}})\.(?P<key>[\w-]{{{KEY_CHARS}}})\.(?P<content>[\w-]{{{CONTENT_CHARS}}})"
    rf"\.(?P<model>[\w-]{{{MODEL_CHARS}}})(?P<settings>[\w-]{{{SETTINGS_CHARS}}})\.(?P<chunks>[0-9a-f]{{4}})",
    re.ASCII,
)
_ID = re.compile(r"(.{53})\.([0-9a-f]{4})-([0-9a-f]{4})", re.ASCII)


# -- ids, without side effects


@dataclass(frozen=True, slots=True)
class VectorRef:
    """All vectors of one content of one key. `str()` gives the ref for the journal.

    owner, key, content, model, settings: tags, the last one of the chunk settings. chunks: the number of vectors.
    """

    owner: str
    key: str
    content: str
    model: str
    settings: str
    chunks: int

    def __str__(self) -> str:
        return f"{self._stem}.{self.chunks:04x}"

    def ids(self) -> list[str]:
        """Return the ids of all chunks, in order."""
        stem, end = self._stem, f"-{self.chunks:04x}"
        return [f"{stem}.{chunk:04x}{end}" for chunk in range(1, self.chunks + 1)]

    @property
    def _stem(self) -> str:
        return f"{self.owner}.{self.key}.{self.content}.{self.model}{self.settings}"


class RefMaker:
    """Makes the refs of one mirror, which all have the same tags of owner, model and settings.

    model: model and pooling. settings: the name of the chunk settings.
    """

    def __init__(self, owner: str, model: str, settings: str) -> None:
        self.owner = _tag("owner", owner, OWNER_CHARS)
        self.model = _tag("model", model, MODEL_CHARS)
        self.settings = _tag("cut", settings, SETTINGS_CHARS)

    def ref(self, key: str, checksum: str, chunks: int) -> VectorRef:
        """Return the ref of a content with so many chunks. checksum: its sha-256 in hex."""
        return VectorRef(self.owner, key_tag(key), content_tag(checksum), self.model, self.settings, chunks)


def key_tag(key: str) -> str:
    """Return the tag of a key."""
    return _tag("key", key, KEY_CHARS)


def content_tag(checksum: str) -> str:
    """Return the tag of a content. checksum: its sha-256 in hex."""
    return _tag("content", checksum, CONTENT_CHARS)


def parse_ref(text: str) -> VectorRef | None:
    """Return the ref that `str()` wrote, None for other text."""
    match = _REF.fullmatch(text)
    if match is None:
        return None
    owner, key, content, model, settings, digits = match.group("owner", "key", "content", "model", "settings", "chunks")
    chunks = int(digits, 16)
    return VectorRef(owner, key, content, model, settings, chunks) if chunks else None


def split_id(text: str) -> tuple[str, int] | None:
    """Return the ref, as text, and the number of the chunk (from 1) of a vector's id. None: syncd made no such id."""
    match = _ID.fullmatch(text)
    if match is None:
        return None
    stem, chunk, chunks = match.groups()
    ref = f"{stem}.{chunks}"
    return (ref, int(chunk, 16)) if _REF.fullmatch(ref) and 1 <= int(chunk, 16) <= int(chunks, 16) else None


def _tag(kind: str, text: str, chars: int) -> str:
    # The kind is part of the digest, so that an owner and a key with the same name have different tags.
    # A kind never changes, because the ids in an index contain the tags.
    digest = hashlib.sha256(f"{kind}\0{text}".encode("utf-8", "surrogatepass")).digest()
    return base64.urlsafe_b64encode(digest)[:chars].decode("ascii")


class HeldVectors:
    """The vectors that an index holds: the ids of a listing, and our own changes since. Takes 300 bytes for each ref.

    foreign_ids: the ids that syncd did not make.
    """

    def __init__(self) -> None:
        self.foreign_ids: list[str] = []
        self._chunks: dict[str, int] = {}
        """The chunks of each ref, as bits of a number."""
        self._refs: dict[tuple[str, str], tuple[str, ...]] = {}
        """The refs by the tags of owner and key."""

    def add_id(self, vector_id: str) -> None:
        """Add an id of a listing."""
        split = split_id(vector_id)
        if split is None:
            self.foreign_ids.append(vector_id)
        else:
            ref, chunk = split
            self._add(ref, 1 << (chunk - 1))

    def add(self, ref: VectorRef) -> None:
        """Add all vectors of a ref."""
        self._add(str(ref), (1 << ref.chunks) - 1)

    def remove(self, ref: VectorRef) -> None:
        """Remove all vectors of a ref."""
        text = str(ref)
        if self._chunks.pop(text, None) is not None:
            left = tuple(other for other in self._refs[ref.owner, ref.key] if other != text)
            self._refs[ref.owner, ref.key] = left
            if not left:
                del self._refs[ref.owner, ref.key]

    def refs_of(self, owner: str, key: str) -> list[VectorRef]:
        """Return the refs of the tags of an owner and a key."""
        return [_parsed(text) for text in self._refs.get((owner, key), ())]

    def tags(self) -> Iterator[tuple[str, str]]:
        """Return an iterator over the tags of owner and key of all refs."""
        return iter(self._refs)

    def count(self, ref: VectorRef) -> int:
        """Return the number of vectors of a ref."""
        return self._chunks.get(str(ref), 0).bit_count()

    def holds(self, vector_id: str) -> bool:
        """Return whether the index holds this vector of syncd."""
        split = split_id(vector_id)
        return split is not None and bool(self._chunks.get(split[0], 0) >> (split[1] - 1) & 1)

    def any_id(self, ref: VectorRef) -> str:
        """Return the id of one vector of a ref. Raises KeyError without a vector."""
        chunks = self._chunks[str(ref)]
        return ref.ids()[(chunks & -chunks).bit_length() - 1]

    def _add(self, ref: str, chunks: int) -> None:
        if ref not in self._chunks:
            parsed = _parsed(ref)
            tags = parsed.owner, parsed.key
            self._refs[tags] = (*self._refs.get(tags, ()), ref)
        self._chunks[ref] = self._chunks.get(ref, 0) | chunks


def _parsed(text: str) -> VectorRef:
    ref = parse_ref(text)
    if ref is None:
        raise AssertionError(f"no ref of syncd: {text!r}")
    return ref


# -- the index


@dataclass(frozen=True, slots=True)
class EncodedVector:
    """One vector to upsert. line: its line of ndjson."""

    id: str
    line: bytes


class VectorStore:
    """Reads and changes the vectors of one index, and remembers the ids of the last listing."""

    def __init__(self, api: VectorizeIndex, cache: Embeddings) -> None:
        self.api = api
        self.mutations = PendingMutations(api, cache, self.read)
        self._held: HeldVectors | None = None
        self._dimensions: int | None = None

    async def relist(self) -> HeldVectors:
        """List all ids. Raises TargetMissing, and then forgets the index."""
        held = HeldVectors()

        def begin() -> AsyncGenerator[str, None]:
            nonlocal held
            held = HeldVectors()
            return self.api.iter_ids()

        try:
            async for vector_id in relisted(begin):
                held.add_id(vector_id)
        except TargetMissing:
            self._held = self._dimensions = None
            raise
        self._held = held
        return held

    async def held(self) -> HeldVectors:
        """Return the vectors of the last listing with our changes since. Without a listing, make one."""
        return self._held if self._held is not None else await self.relist()

    async def dimensions(self) -> int | None:
        """Return the dimensions of the index, None if the remote does not give them."""
        if self._dimensions is None:
            self._dimensions = (await self.api.info()).dimensions
        return self._dimensions

    async def read(self, ids: Sequence[str]) -> list[StoredVector]:
        """Return the vectors of these ids. A vector that does not exist is absent."""
        found: dict[str, StoredVector] = {}
        for part in _slices(ids, GET_LIMIT):
            wanted = frozenset(part)
            found |= {vector.id: vector for vector in await self.api.get_by_ids(part) if vector.id in wanted}
        return list(found.values())

    async def upsert(self, vectors: Sequence[EncodedVector]) -> dict[str, SyncdError]:
        """Write vectors, and return the error of each id that failed. Raises Halt and Unreachable."""
        failed: dict[str, SyncdError] = {}

        async def send(part: Sequence[EncodedVector]) -> None:
            probe = self._new_id([vector.id for vector in part])
            self.mutations.record(await self.api.upsert([vector.line for vector in part]), probe)

        async for part, answer in in_halves(vectors, send):
            if isinstance(answer, SyncdError):
                failed |= {vector.id: answer for vector in part}
        return failed

    async def delete(self, refs: Iterable[str]) -> dict[str, SyncdError]:
        """Delete all vectors of each ref, and return the error of each ref that failed. Raises Halt and Unreachable.

        A ref may also be the id of a foreign vector.
        """
        failed: dict[str, SyncdError] = {}
        parsed = {text: parse_ref(text) for text in refs}
        pairs = [(text, vector_id) for text, ref in parsed.items() for vector_id in (ref.ids() if ref else [text])]
        for part in _slices(pairs, DELETE_LIMIT):
            try:
                self.mutations.record(await self.api.delete_by_ids([vector_id for _, vector_id in part]))
            except (Halt, Unreachable):
                raise
            except SyncdError as error:
                failed |= {text: error for text, _ in part}
        for text, ref in parsed.items():
            if ref and self._held is not None and text not in failed:
                self._held.remove(ref)
        return failed

    def _new_id(self, ids: Sequence[str]) -> str | None:
        """Return an id that the index does not hold yet. Once the index shows it, the write is processed."""
        return next((vector_id for vector_id in ids if self._held is None or not self._held.holds(vector_id)), None)


class PendingMutations:
    """Remembers our last change, and checks whether the index has processed it.

    read: reads vectors by id. clock: returns seconds since the epoch.
    """

    def __init__(
        self, api: VectorizeIndex, cache: Embeddings, read: Callable[[Sequence[str]], Awaitable[Sequence[StoredVector]]]
    ) -> None:
        self.clock: Callable[[], float] = time.time
        self.sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
        self._api = api
        self._cache = cache
        self._read = read

    def record(self, mutation: str | None, probe: str | None = None) -> None:
        """Remember a change.

        mutation: its id, if the remote gives one. probe: the id of a new vector, None if the change may remove vectors.
        """
        before, now = self._cache.last_change(), self.clock()
        since, removed = (before.since, before.removes) if before else (now, False)
        # An earlier delete may not be processed yet, so the index may still show the old vector of this id.
        shown, removes = None if removed else probe, removed or probe is None
        self._cache.changed(IndexChange(mutation, shown, now, since, self._api.transport.their_time, removes))

    async def processed(self, patience_s: float = 0.0) -> bool:
        """Return whether the index has processed all our changes. patience_s: seconds to wait for that."""
        pause = FIRST_PAUSE_S
        while (change := self._cache.last_change()) is not None:
            if await self._is_processed(change):
                # Another change may have been recorded during the request.
                if self._cache.last_change() == change:
                    self._cache.changed(None)
                continue
            if patience_s <= 0:
                return False
            await self.sleep(min(pause, patience_s))
            patience_s -= pause
            pause = min(pause * 2, LONGEST_PAUSE_S)
        return True

    def lag_s(self) -> float:
        """Return the seconds for which the index may not show a change of ours."""
        change = self._cache.last_change()
        return abs(self.clock() - change.since) + 1.0 if change else 0.0

    async def _is_processed(self, change: IndexChange) -> bool:
        info = await self._api.info()
        if change.mutation and info.processed_up_to_mutation == change.mutation:
            return True
        # The index may name a change of another writer, earlier or later. Both times come from clocks of the remote.
        if info.processed_up_to and change.theirs and info.processed_up_to.timestamp() > change.theirs + LATER_S:
            return True
        if change.probe and await self._read([change.probe]):
            return True
        if (waited_s := abs(self.clock() - change.at)) > GIVE_UP_S:
            log.warning("mutation.lost", mutation=change.mutation, waited_s=round(waited_s))
            return True
        return False


def _slices(items: Sequence[T], size: int) -> Iterable[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
