"""The contract of the targets on a real account, in as few requests as it takes. Run by `python -m tests.live`.

The name of this module keeps it out of `make test`. tests/contract runs the whole contract on stand-ins.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, closing
from dataclasses import replace
from itertools import count
from typing import ClassVar

import pytest

from syncd.cloudflare.ai_search import AISearch
from syncd.cloudflare.kv import KV, KVNamespace
from syncd.cloudflare.vectorize import VectorizeIndex
from syncd.cloudflare.workers_ai import WorkersAI
from syncd.core.probe_answers import NO_ANSWERS
from syncd.service.build import LONG_KEY_LENGTH
from syncd.state.caches import Embeddings, StoredAnswers
from syncd.state.db import open_state
from syncd.targets.ai_search.items import ItemWritePolicy
from syncd.targets.ai_search.probe import ItemProbe
from syncd.targets.ai_search.target import AISearchTarget
from syncd.targets.ai_search.target import limits as ai_search_limits
from syncd.targets.base import Done, MirrorRecords, Target
from syncd.targets.kv.target import KVTarget, NamespaceChoice, long_key_bytes
from syncd.targets.kv.target import limits as kv_limits
from syncd.targets.kv.writing import ValueWritePolicy
from syncd.targets.vectorize.index import VectorStore
from syncd.targets.vectorize.target import VectorizeTarget
from syncd.targets.vectorize.target import limits as vectorize_limits
from syncd.targets.vectorize.writing import ChunkSettings, Embedder, VectorWritePolicy
from tests.contract.harness import KEYS, MIB, PREFIX, FilesContract, TargetContract, apply, gone, listing, new
from tests.live.lab import Lab, lag_of

MODEL, DIMENSIONS = "@cf/baai/bge-small-en-v1.5", 384
INDEXED_S = 5.0
"""Seconds between two looks at the index of AI Search."""
LOOKS = 12
NEED_MARKS = {
    "test_a_new_entry_is_listed_with_owner_checksum_and_ref",
    "test_a_put_replaces_an_entry_of_this_owner_that_the_plan_did_not_know",
    "test_an_entry_is_confirmed_by_key_and_by_ref",
    "test_entries_of_other_owners_are_listed_with_their_owner",
    "test_all_keys_are_stored_listed_and_deleted_together",
}
"""Tests of AI Search that need the owner or the full name of an entry, which are in its metadata."""
PROCESSED_S = 180.0
"""Seconds to wait for an index of Vectorize, which documents less than two minutes for 99 of 100 changes."""


async def test_the_probe_learns_the_manners_of_the_instance(lab: Lab, instance: AISearch) -> None:
    """The tests of AI Search go by what was learned."""
    probe = await ItemProbe(instance, ItemWritePolicy("me", PREFIX)).run()
    lab.manners = probe.answers
    assert probe.answers != NO_ANSWERS
    assert probe.requests <= 10


async def test_the_listing_of_items_shows_an_upload(lab: Lab, instance: AISearch) -> None:
    """The tests of AI Search wait as long before each listing, also for a deleted item."""
    item = await instance.upload("lag.md", b"written to see how late the listing is", "text/markdown")
    written_at = time.monotonic()

    async def is_shown() -> bool:
        return any(row.id == item.id for row in (await instance.list_items(sort_by="modified_at")).rows)

    async def is_gone() -> bool:
        return not await is_shown()

    lag_s = await lag_of(is_shown, written_at)
    await instance.delete(item.id)
    lab.wire.lags["items"] = max(lag_s, await lag_of(is_gone, time.monotonic()))


async def test_the_listing_of_keys_shows_a_write(lab: Lab) -> None:
    """The tests of Workers KV wait as long before each listing."""
    before = lab.made
    _, namespace = await lab.make_kv("lag")
    values = KVNamespace(lab.transport, namespace)
    await values.write_value("lag", b"written to see how late the listing is")
    written_at = time.monotonic()

    async def is_shown() -> bool:
        return bool((await values.list_keys()).rows)

    lab.wire.lags["keys"] = await lag_of(is_shown, written_at)
    await lab.clean(before)


class LiveContract:
    """Replaces the tests that `python -m tests.live` leaves out by ones that take few requests."""

    async def test_all_keys_are_stored_listed_and_deleted_together(self, target: Target) -> None:
        outcomes = await apply(target, [new(key) for key in KEYS])
        refused = {key: str(outcome) for key, outcome in outcomes.items() if not isinstance(outcome, Done)}
        assert refused == {}
        entries = await listing(target)
        assert set(entries) == set(KEYS)
        await apply(target, [gone(key, entry.ref) for key, entry in entries.items()])
        assert await listing(target) == {}


class AISearchRemote:
    indexes = True

    def __init__(self, api: AISearch, learned: StoredAnswers) -> None:
        self._api = api
        self._learned = learned

    async def target(self, owner: str) -> Target:
        limits = replace(ai_search_limits(128, 4 * MIB), long_key_length=LONG_KEY_LENGTH)
        policy, records = ItemWritePolicy(owner, PREFIX), MirrorRecords()
        return AISearchTarget(self._api, policy, limits, records=records, learned=self._learned)

    async def put_unmarked(self, key: str, data: bytes) -> None:
        await self._api.upload(key, data, "text/markdown")

    async def rest(self) -> None:
        """Wait until all items are indexed, at most a minute."""
        for _ in range(LOOKS):
            stats = await self._api.stats()
            if not (stats.queued or stats.running or stats.outdated):
                return
            await asyncio.sleep(INDEXED_S)


class TestAISearch(LiveContract, FilesContract):
    """One instance for all tests. Each test begins without items."""

    batch: ClassVar[int] = 8

    @pytest.fixture
    async def remote(
        self, lab: Lab, instance: AISearch, request: pytest.FixtureRequest
    ) -> AsyncIterator[AISearchRemote]:
        if request.node.name in NEED_MARKS and (lab.manners.metadata == "none" or lab.manners.metadata_listed is False):
            pytest.skip("the instance does not keep or does not list metadata, so its entries have no marks")
        with closing(open_state(lab.state / "ai-search")) as db:
            learned = StoredAnswers(db, lab.name)
            learned.set(lab.manners)
            try:
                yield AISearchRemote(instance, learned)
            finally:
                lab.wire.cleaning = True
                for item in [*lab.wire.items]:
                    await instance.delete(item)
                lab.wire.cleaning = False
                if lab.manners.delete_gone is False:
                    await asyncio.sleep(lab.wire.lags.get("items", 0.0))


class KVRemote:
    indexes = False

    def __init__(self, lab: Lab, namespace: str) -> None:
        self._lab = lab
        self._namespace = namespace

    async def target(self, owner: str) -> Target:
        limits = replace(kv_limits(512, 4 * MIB), long_key_length=1024, long_key_bytes=long_key_bytes(owner))
        choice = NamespaceChoice(namespace_id=self._namespace)
        policy, records = ValueWritePolicy(owner, PREFIX), MirrorRecords()
        return KVTarget(KV(self._lab.transport), choice, policy, limits, records=records)

    async def put_unmarked(self, key: str, data: bytes) -> None:
        await KVNamespace(self._lab.transport, self._namespace).write_value(key, data)

    async def rest(self) -> None:
        """Return at once: reads after writes of one client lag rarely."""


class TestKV(LiveContract, FilesContract):
    """A namespace for each test."""

    batch: ClassVar[int] = 32
    numbers = count()

    @pytest.fixture
    async def remote(self, lab: Lab) -> AsyncIterator[KVRemote]:
        before = lab.made
        _, namespace = await lab.make_kv(f"kv{next(self.numbers)}")
        try:
            yield KVRemote(lab, namespace)
        finally:
            await lab.clean(before)


class VectorizeRemote:
    indexes = True

    def __init__(self, lab: Lab, index: str, opened: ExitStack) -> None:
        self._lab = lab
        self._index = index
        self._opened = opened
        self._numbers = count()
        self._last: VectorStore | None = None

    async def target(self, owner: str) -> Target:
        state = open_state(self._lab.state / f"{self._index}-{next(self._numbers)}")
        memory = Embeddings(self._opened.enter_context(closing(state)), owner)
        self._last = store = VectorStore(VectorizeIndex(self._lab.transport, self._index), memory)
        embedder = Embedder(WorkersAI(self._lab.transport), MODEL, "mean", memory)
        policy, records = VectorWritePolicy(owner, PREFIX), MirrorRecords(lambda: (), lambda: ())
        limits = vectorize_limits(128, 4 * MIB)
        return VectorizeTarget(store, embedder, policy, limits, settings=ChunkSettings(400, 50), records=records)

    async def put_unmarked(self, key: str, data: bytes) -> None:
        raise AssertionError(f"no test of this contract writes {key} ({len(data)} bytes) without marks")

    async def rest(self) -> None:
        """Wait until the index has processed the last change."""
        if self._last is not None:
            await self._last.mutations.processed(PROCESSED_S)


class TestVectorize(LiveContract, TargetContract):
    """An index for each test."""

    batch: ClassVar[int] = 8
    numbers = count()

    @pytest.fixture
    async def remote(self, lab: Lab) -> AsyncIterator[VectorizeRemote]:
        before = lab.made
        index = await lab.make_index(f"v{next(self.numbers)}", DIMENSIONS)
        try:
            with ExitStack() as opened:
                yield VectorizeRemote(lab, index, opened)
        finally:
            await lab.clean(before)
