"""The contract of every target, as test classes, and the helpers that the contract tests share."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import ClassVar, Protocol, Self

import pytest

from syncd.cloudflare.auth import Credentials
from syncd.cloudflare.gate import Gate
from syncd.cloudflare.kv import KV, KVNamespace
from syncd.cloudflare.transport import Transport
from syncd.core.errors import ConfigError, FileChanged, Park, SyncdError
from syncd.core.model import Content, Delete, Entry, Put, Stored
from syncd.targets.base import Done, Indexed, Landmark, MirrorRecords, Ordered, Outcome, Target, searchable
from syncd.targets.kv.target import KVTarget, NamespaceChoice, limits, long_key_bytes
from syncd.targets.kv.writing import ValueWritePolicy

PREFIX = "p/"
MIB = 1024 * 1024


class Remote(Protocol):
    """One remote store behind any number of targets.

    indexes: whether the store has an index: a status for each entry, re-indexing and a search.
    """

    indexes: bool

    async def target(self, owner: str) -> Target:
        """Return a target of the store for one owner."""
        ...

    async def put_unmarked(self, key: str, data: bytes) -> None:
        """Store an entry like another program does, without the marks of syncd."""
        ...

    async def rest(self) -> None:
        """Wait until every change is visible."""
        ...


class KVRemote:
    """A new KV namespace on the server at base_url."""

    indexes = False

    def __init__(self, base_url: str, title: str, stack: AsyncExitStack) -> None:
        self._base_url = base_url
        self._title = title
        self._stack = stack

    async def _api(self) -> KV:
        gate, credentials = Gate(0, 8), Credentials.bearer("any")
        transport = Transport(self._base_url, "0" * 32, credentials, gate, retry_for=5)
        await self._stack.enter_async_context(transport)
        return KV(transport)

    async def open(self) -> Self:
        self._id = (await (await self._api()).create_namespace(self._title)).id
        return self

    async def namespace(self) -> KVNamespace:
        return KVNamespace((await self._api()).transport, self._id)

    async def target(self, owner: str) -> Target:
        most = replace(limits(512, 4 * MIB), long_key_length=1024, long_key_bytes=long_key_bytes(owner))
        choice, policy = NamespaceChoice(title=self._title), ValueWritePolicy(owner, PREFIX)
        target = KVTarget(await self._api(), choice, policy, most, records=MirrorRecords())
        target.writer.sleep = at_once
        return target

    async def put_unmarked(self, key: str, data: bytes) -> None:
        await (await self.namespace()).write_value(key, data)

    async def rest(self) -> None:
        """Return at once: every change is visible."""


async def at_once(seconds: float) -> None:
    """Return at once: these servers do not limit the writes to one key."""
    del seconds


def new(key: str, ref: str | None = None) -> Put:
    return Put(key, "new", key, 1, ref)


def gone(key: str, ref: str) -> Delete:
    return Delete(key, "stale", key, ref)


def content(data: bytes) -> Content:
    return Content(data, hashlib.sha256(data).hexdigest())


async def apply(
    target: Target, batch: Sequence[Put | Delete], contents: dict[str, bytes | Exception] | None = None
) -> dict[str, Outcome]:
    """Apply a batch and return the outcomes by key. Every action must be reported exactly once."""
    outcomes: dict[str, Outcome] = {}
    reports: Counter[str] = Counter()

    async def read(puts: Sequence[Put]) -> list[Content | SyncdError]:
        return [await one(put) for put in puts]

    async def one(put: Put) -> Content | SyncdError:
        found = (contents or {}).get(put.key, put.key.encode())
        if isinstance(found, SyncdError):
            return found
        if isinstance(found, Exception):
            raise found
        return content(found)

    def report(found: Mapping[Put | Delete, Outcome]) -> None:
        reports.update(action.key for action in found)
        outcomes.update({action.key: outcome for action, outcome in found.items()})

    await target.apply(batch, read, report)
    assert reports == Counter(action.key for action in batch)
    return outcomes


async def put(target: Target, key: str, data: bytes, ref: str | None = None) -> Stored:
    outcome = (await apply(target, [new(key, ref)], {key: data}))[key]
    assert isinstance(outcome, Done), outcome
    assert outcome.stored is not None
    return outcome.stored


async def listing(target: Target) -> dict[str, Entry]:
    """Return the listed entries by key. An entry may be listed twice, but with the same ref."""
    entries = [entry async for entry in target.entries()]
    assert len({(entry.key, entry.ref) for entry in entries}) == len({entry.key for entry in entries})
    return {entry.key: entry for entry in entries}


async def held(target: Target, entry: Entry) -> str | None:
    """Return the checksum of the stored content, from the listing or by a request."""
    return entry.checksum or await target.checksum(entry, None)


KEYS = [
    "p/plain.md",
    "p/deep/er/and/deep er.md",
    "p/caf\u00e9.md",
    "p/\u65e5\u672c\u8a9e/\U0001f600.md",
    "p/100%.md",
    "p/%2e%2e.md",
    "p/a+b&c=d;e.md",
    "p/it's.md",
    "p/#1?.md",
    "p/back\\slash.md",
    "p/<tag>.md",
    "p/" + "x" * 123 + ".md",
    "p/" + "deep-er/" * 60 + "and a longer name than most.md",
    "p/" + "\u65e5" * 250 + ".md",
    "p/like-a-short~0123456789ab~name.md",
]


class TargetContract:
    """The contract of every target. The subclass defines the fixture `remote`. batch: entries of a large batch."""

    batch: ClassVar[int] = 120

    @pytest.fixture
    async def target(self, remote: Remote) -> Target:
        return await remote.target("me")

    async def test_the_check_of_an_existing_target_succeeds(self, target: Target) -> None:
        assert await target.check()

    async def test_an_empty_target_lists_nothing(self, target: Target) -> None:
        assert await listing(target) == {}
        assert await target.confirm("p/a.md", None) is None
        assert await target.confirm("p/a.md", "no-such-ref") is None

    async def test_the_newest_entries_are_listed_first_with_their_total(self, target: Target) -> None:
        if not isinstance(target, Ordered):
            pytest.skip("the listing has no such order")
        assert await listing(target) == {}
        assert target.landmark == Landmark(0, 0.0)
        for key in ("p/a.md", "p/b.md", "p/c.md"):
            await put(target, key, key.encode())
        await put(target, "p/a.md", b"changed")
        pages = [page async for page in target.newest()]
        rows = [row for page in pages for row in page.rows]
        assert {page.total for page in pages} == {3}
        # The index may have gone on between the two requests.
        listed = (await listing(target))["p/a.md"]
        assert rows[0].entry._replace(status=listed.status) == listed
        assert {row.entry.key for row in rows} == {"p/a.md", "p/b.md", "p/c.md"}
        assert all(row.present for row in rows)
        assert target.landmark == Landmark(3, max(row.created_at or 0.0 for row in rows))
        assert sum((await target.counts() or {}).values()) == 3

    async def test_an_empty_batch_reports_nothing(self, target: Target) -> None:
        assert await apply(target, []) == {}

    async def test_a_new_entry_is_listed_with_owner_checksum_and_ref(self, target: Target) -> None:
        stored = await put(target, "p/a.md", b"one")
        assert (stored.checksum, stored.size) == (content(b"one").checksum, 3)
        entry = (await listing(target))["p/a.md"]
        assert (entry.ref, entry.owner, await held(target, entry)) == (stored.ref, "me", stored.checksum)
        assert entry.marked
        assert stored.marked
        assert entry.size in (3, None)

    async def test_the_reported_version_and_size_equal_the_listed_ones(self, target: Target) -> None:
        stored = await put(target, "p/a.md", b"one")
        entry = (await listing(target))["p/a.md"]
        for ours, theirs in ((stored.version, entry.version), (stored.remote_size, entry.size)):
            assert ours is None or theirs is None or ours == theirs

    async def test_a_put_over_an_entry_leaves_only_the_new_content(self, target: Target) -> None:
        first = await put(target, "p/a.md", b"one")
        second = await put(target, "p/a.md", b"two!", first.ref)
        entries = await listing(target)
        assert set(entries) == {"p/a.md"}
        assert entries["p/a.md"].ref == second.ref
        assert await held(target, entries["p/a.md"]) == content(b"two!").checksum

    async def test_a_put_replaces_an_entry_of_this_owner_that_the_plan_did_not_know(self, target: Target) -> None:
        await put(target, "p/a.md", b"one")
        await put(target, "p/a.md", b"two!", None)
        assert await held(target, (await listing(target))["p/a.md"]) == content(b"two!").checksum

    async def test_the_same_content_put_twice_is_one_entry(self, target: Target) -> None:
        first = await put(target, "p/a.md", b"one")
        await put(target, "p/a.md", b"one", first.ref)
        entries = await listing(target)
        assert set(entries) == {"p/a.md"}
        assert await held(target, entries["p/a.md"]) == content(b"one").checksum

    async def test_equal_content_under_two_keys_is_two_entries(self, target: Target) -> None:
        one, two = await put(target, "p/a.md", b"same"), await put(target, "p/b.md", b"same")
        assert one.ref != two.ref
        await apply(target, [gone("p/a.md", one.ref)])
        assert set(await listing(target)) == {"p/b.md"}

    async def test_a_delete_removes_one_entry(self, target: Target) -> None:
        refs = {key: (await put(target, key, key.encode())).ref for key in ("p/a.md", "p/a.md.md", "p/a/b.md")}
        outcomes = await apply(target, [gone("p/a.md", refs["p/a.md"])])
        assert outcomes == {"p/a.md": Done()}
        assert set(await listing(target)) == {"p/a.md.md", "p/a/b.md"}
        assert await target.confirm("p/a.md", refs["p/a.md"]) is None

    async def test_a_second_delete_of_an_entry_succeeds(self, target: Target) -> None:
        stored = await put(target, "p/a.md", b"one")
        assert await apply(target, [gone("p/a.md", stored.ref)]) == {"p/a.md": Done()}
        assert await apply(target, [gone("p/a.md", stored.ref)]) == {"p/a.md": Done()}
        assert await listing(target) == {}

    async def test_a_key_can_be_put_again_after_its_delete(self, target: Target) -> None:
        stored = await put(target, "p/a.md", b"one")
        await apply(target, [gone("p/a.md", stored.ref)])
        again = await put(target, "p/a.md", b"two")
        assert (await listing(target))["p/a.md"].ref == again.ref

    async def test_an_entry_is_confirmed_by_key_and_by_ref(self, target: Target) -> None:
        stored = await put(target, "p/a.md", b"one")
        await put(target, "p/a.md.md", b"other")
        listed = (await listing(target))["p/a.md"]
        for ref in (None, stored.ref, "no-such-ref"):
            found = await target.confirm("p/a.md", ref)
            assert found is not None, ref
            assert (found.key, found.ref, found.owner) == ("p/a.md", listed.ref, "me")
            assert await held(target, found) == await held(target, listed) == stored.checksum
        assert await target.confirm("p/a", None) is None

    async def test_a_ref_of_another_key_confirms_nothing_about_this_one(self, target: Target) -> None:
        stored = await put(target, "p/a.md", b"one")
        assert await target.confirm("p/b.md", stored.ref) is None

    @pytest.mark.parametrize("hint", [None, b"one", b"two"])
    async def test_the_checksum_is_of_the_stored_content_for_any_local_content(
        self, target: Target, hint: bytes | None
    ) -> None:
        await put(target, "p/a.md", b"one")
        entry = await target.confirm("p/a.md", None)
        assert entry is not None
        assert await target.checksum(entry, content(hint) if hint else None) == content(b"one").checksum

    async def test_a_deleted_entry_has_no_checksum(self, target: Target) -> None:
        stored = await put(target, "p/a.md", b"one")
        entry = await target.confirm("p/a.md", None)
        assert entry is not None
        await apply(target, [gone("p/a.md", stored.ref)])
        assert await target.checksum(entry, content(b"other")) is None

    @pytest.mark.parametrize("key", KEYS)
    async def test_any_key_is_stored_listed_and_deleted(self, target: Target, key: str) -> None:
        stored = await put(target, key, b"one")
        assert set(await listing(target)) == {key}
        found = await target.confirm(key, None)
        assert found is not None
        assert (found.key, found.ref) == (key, stored.ref)
        await put(target, key, b"two!", stored.ref)
        found = await target.confirm(key, None)
        assert found is not None
        assert await target.checksum(found, None) == content(b"two!").checksum
        await apply(target, [gone(key, found.ref)])
        assert await listing(target) == {}

    async def test_long_keys_that_begin_and_end_alike_are_different(self, target: Target) -> None:
        keys = [f"p/{'x' * 200}{number}{'y' * 200}.md" for number in range(3)]
        refs = {key: (await put(target, key, key.encode())).ref for key in keys}
        assert {key: entry.ref for key, entry in (await listing(target)).items()} == refs
        await apply(target, [gone(keys[1], refs[keys[1]])])
        assert set(await listing(target)) == {keys[0], keys[2]}
        assert await target.confirm(keys[1], refs[keys[1]]) is None

    async def test_keys_that_differ_in_case_or_in_escapes_are_different(self, target: Target) -> None:
        keys = ["p/a.md", "p/A.md", "p/%61.md", "p/a%2Fb.md", "p/a/b.md"]
        await apply(target, [new(key) for key in keys])
        assert set(await listing(target)) == set(keys)

    async def test_an_unreadable_item_is_reported_and_the_others_are_stored(self, target: Target) -> None:
        park, again = Park("unreadable", "let syncd read it"), FileChanged("it changed")
        keys = ["p/a.md", "p/b.md", "p/c.md", "p/d.md"]
        outcomes = await apply(target, [new(key) for key in keys], {"p/b.md": park, "p/c.md": again})
        assert outcomes["p/b.md"] is park
        assert outcomes["p/c.md"] is again
        assert isinstance(outcomes["p/a.md"], Done)
        assert isinstance(outcomes["p/d.md"], Done)
        assert set(await listing(target)) == {"p/a.md", "p/d.md"}

    async def test_puts_and_deletes_may_share_a_batch(self, target: Target) -> None:
        stored = await put(target, "p/old.md", b"old")
        outcomes = await apply(target, [new("p/new.md"), gone("p/old.md", stored.ref)])
        assert all(isinstance(outcome, Done) for outcome in outcomes.values())
        assert set(await listing(target)) == {"p/new.md"}

    async def test_every_action_of_a_large_batch_is_applied(self, target: Target) -> None:
        keys = [f"p/{number:03}.md" for number in range(self.batch)]
        outcomes = await apply(target, [new(key) for key in keys])
        refs = {
            key: outcome.stored.ref for key, outcome in outcomes.items() if isinstance(outcome, Done) and outcome.stored
        }
        assert set(refs) == set(keys)
        assert {key: entry.ref for key, entry in (await listing(target)).items()} == refs
        await apply(target, [gone(key, ref) for key, ref in refs.items()])
        assert await listing(target) == {}

    async def test_a_target_without_an_index_has_no_status_and_no_search(self, remote: Remote, target: Target) -> None:
        if remote.indexes:
            pytest.skip("the target has an index")
        stored = await put(target, "p/a.md", b"one")
        assert stored.status is None
        assert (await listing(target))["p/a.md"].status is None
        assert not isinstance(target, Indexed)
        with pytest.raises(ConfigError, match="no search"):
            searchable(target)

    async def test_statuses_are_returned_for_the_requested_entries(self, remote: Remote, target: Target) -> None:
        if not remote.indexes:
            pytest.skip("the target has no index")
        stored = await put(target, "p/a.md", b"one")
        await put(target, "p/b.md", b"two")
        await remote.rest()
        assert isinstance(target, Indexed)
        found = await target.statuses(frozenset({stored.ref, "no-such-ref"}))
        entry = found[stored.ref]
        assert entry is not None
        assert (entry.ref, entry.status is not None) == (stored.ref, True)
        assert found["no-such-ref"] is None, "an unknown ref is reported as missing"
        assert await target.statuses(frozenset()) == {}

    async def test_an_indexed_entry_has_no_reason_for_being_missing(self, remote: Remote, target: Target) -> None:
        if not isinstance(target, Indexed):
            pytest.skip("the target has no index")
        stored = await put(target, "p/a.md", b"one")
        await remote.rest()
        for ref in (stored.ref, "no-such-ref"):
            assert await target.why(ref) is None

    async def test_a_search_finds_entries_within_its_limit(self, remote: Remote, target: Target) -> None:
        if not remote.indexes:
            pytest.skip("the target has no search")
        for key in ("p/a.md", "p/b.md", "p/c.md"):
            await put(target, key, b"a zebra crossing")
        await remote.rest()
        await put(target, "p/q/d.md", b"a zebra crossing")
        await remote.rest()
        assert {hit.key for hit in await searchable(target).search("zebra", 9, "p/q/")} == {"p/q/d.md"}
        hits = [hit for hit in await searchable(target).search("zebra", 3) if hit.key != "p/q/d.md"][:2]
        assert len(hits) == 2
        assert {hit.key for hit in hits} <= {"p/a.md", "p/b.md", "p/c.md"}
        assert all("zebra" in hit.text for hit in hits)

    async def test_the_forecast_of_requests_is_0_or_more(self, target: Target) -> None:
        assert target.requests(0, 0) == 0
        assert target.requests(10, 5) >= target.requests(10, 0) > 0


class FilesContract(TargetContract):
    """The contract of a target that stores the files themselves, and not only chunks of them."""

    async def test_the_checksum_of_an_unmarked_entry_is_computed(self, remote: Remote, target: Target) -> None:
        await remote.put_unmarked("p/a.md", b"theirs")
        entry = await target.confirm("p/a.md", None)
        assert entry is not None
        assert await target.checksum(entry, content(b"ours")) == content(b"theirs").checksum
        assert await target.checksum(entry, content(b"theirs")) == content(b"theirs").checksum

    async def test_entries_of_other_owners_are_listed_with_their_owner(self, remote: Remote, target: Target) -> None:
        await put(await remote.target("you"), "p/yours.md", b"yours")
        await remote.put_unmarked("p/nobodys.md", b"nobodys")
        await put(target, "p/mine.md", b"mine")
        entries = await listing(target)
        assert {key: entry.owner for key, entry in entries.items()} == {
            "p/mine.md": "me",
            "p/yours.md": "you",
            "p/nobodys.md": None,
        }
        assert entries["p/nobodys.md"].checksum is None
        assert not entries["p/nobodys.md"].marked
        confirmed = await target.confirm("p/yours.md", None)
        assert confirmed is not None
        assert confirmed.owner == "you"

    async def test_only_entries_below_the_prefix_are_listed(self, remote: Remote, target: Target) -> None:
        for key in ("q/a.md", "p.md", "a/p/b.md"):
            await remote.put_unmarked(key, b"x")
        await put(target, "p/a.md", b"x")
        assert set(await listing(target)) == {"p/a.md"}

    @pytest.mark.parametrize("data", [b"\x00\xff\xfe", b"\r\n--boundary\r\n", "\ufeff\u00e9".encode(), b"x" * 300_000])
    async def test_any_bytes_are_stored_unchanged(self, target: Target, data: bytes) -> None:
        await put(target, "p/a.md", data)
        entry = await target.confirm("p/a.md", None)
        assert entry is not None
        assert await target.checksum(entry, None) == content(data).checksum

    async def test_an_entry_can_be_indexed_again(self, remote: Remote, target: Target) -> None:
        if not remote.indexes:
            pytest.skip("the target has no index")
        stored = await put(target, "p/a.md", b"one")
        assert isinstance(target, Indexed)
        assert await target.reindex("p/a.md", stored.ref) in {"queued", "running", "completed"}
