"""The AI Search target against single scripted answers."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import pytest

from syncd.cloudflare.ai_search import AISearch
from syncd.cloudflare.auth import Credentials
from syncd.cloudflare.gate import Gate
from syncd.cloudflare.transport import Transport
from syncd.core.errors import AuthHalt, Halt, Park, PausedHalt, SyncdError, Unreachable
from syncd.core.model import Content, Delete, Entry, Put
from syncd.targets.ai_search.items import ItemWritePolicy
from syncd.targets.ai_search.target import AISearchTarget, limits
from syncd.targets.base import Done, MirrorRecords, Outcome
from tests.unit.targets.harness_mirrors import ACCOUNT, BASE, Clock

DATA = b"the content"
CONTENT = Content(DATA, hashlib.sha256(DATA).hexdigest())
MARKS = {"owner": "me", "sha256": CONTENT.checksum}


def ok(result: Any, **info: Any) -> httpx.Response:
    body = {"success": True, "errors": [], "messages": [], "result": result, "result_info": info}
    return httpx.Response(200, json=body)


def no(status: int, code: int) -> httpx.Response:
    errors = [{"code": code, "message": "said"}]
    return httpx.Response(status, json={"success": False, "errors": errors, "messages": [], "result": None})


def row(key: str = "a.md", item_id: str = "i1", **more: Any) -> dict[str, Any]:
    return {"id": item_id, "key": key, "status": "queued", "source_id": "builtin", "file_size": len(DATA), **more}


class Scripted:
    """A target whose remote answers from a script. The last answer repeats."""

    def __init__(self, *script: httpx.Response | Exception, takeover: bool = False, shards: int = 1) -> None:
        self.script = list(script)
        self.asked: list[str] = []
        clock = Clock()
        transport = Transport(
            BASE,
            ACCOUNT,
            Credentials.bearer("token"),
            Gate(0, 8, clock, clock.sleep),
            retry_for=20,
            http=httpx.MockTransport(self._answer),
            rng=lambda: 0.5,
        )
        api = AISearch(transport, "default", "docs")
        policy = ItemWritePolicy("me", "", takeover)
        self.target = AISearchTarget(api, policy, limits(128, 1000), records=MirrorRecords(), shards=shards)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(f"{request.method} {request.url.path.rpartition('/instances/docs')[2]}")
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(step, Exception):
            raise step
        return httpx.Response(step.status_code, headers=step.headers, content=step.content)

    async def apply(self, *batch: Put | Delete) -> list[Outcome]:
        outcomes: list[Outcome] = []

        async def read(puts: Sequence[Put]) -> list[Content | SyncdError]:
            return [CONTENT for _ in puts]

        await self.target.apply(batch, read, lambda found: outcomes.extend(found.values()))
        return outcomes


def new(key: str = "a.md", ref: str | None = None) -> Put:
    return Put(key, "new", key, len(DATA), ref)


async def test_an_upload_with_a_short_answer_is_known_by_its_id() -> None:
    remote = Scripted(ok({"id": "i1", "key": "a.md"}))
    [outcome] = await remote.apply(new())
    assert isinstance(outcome, Done)
    stored = outcome.stored
    assert stored is not None
    assert (stored.ref, stored.checksum, stored.size) == ("i1", CONTENT.checksum, len(DATA))
    assert (stored.version, stored.remote_size, stored.marked, stored.status) == (None, None, None, None)


async def test_an_upload_stored_under_another_key_is_reported() -> None:
    remote = Scripted(ok(row("A.md")))
    [outcome] = await remote.apply(new())
    assert isinstance(outcome, Park)
    assert outcome.kind == "invalid_key"
    assert len(remote.asked) == 1


async def test_an_answer_that_is_no_item_is_looked_up_before_the_upload_is_repeated() -> None:
    remote = Scripted(ok("surprise"), ok([row(metadata=MARKS)], total_count=1))
    [outcome] = await remote.apply(new())
    assert isinstance(outcome, Done)
    assert remote.asked == ["POST /items", "GET /items"]


async def test_an_upload_that_was_never_sent_needs_no_looking_up() -> None:
    remote = Scripted(httpx.ConnectError("refused"), ok(row()))
    [outcome] = await remote.apply(new())
    assert isinstance(outcome, Done)
    assert remote.asked == ["POST /items", "POST /items"]


@pytest.mark.parametrize(
    ("theirs", "takeover", "asked"),
    [
        ({"owner": "me", "sha256": "0" * 64}, False, ["POST", "GET", "DELETE", "POST"]),
        ({"owner": "you", "sha256": "0" * 64}, False, ["POST", "GET"]),
        ({"owner": "you", "sha256": CONTENT.checksum}, False, ["POST", "GET"]),
        ({"owner": "you", "sha256": "0" * 64}, True, ["POST", "GET", "DELETE", "POST"]),
        ({"owner": "you", "sha256": CONTENT.checksum}, True, ["POST", "GET", "DELETE", "POST"]),
        ({"owner": "me", "sha256": CONTENT.checksum}, False, ["POST", "GET"]),
    ],
)
async def test_a_conflict_is_judged_by_the_marks_of_the_present_item(
    theirs: dict[str, str], asked: list[str], *, takeover: bool
) -> None:
    listed = ok([row(metadata=theirs)], total_count=1)
    remote = Scripted(no(409, 7042), listed, ok({"key": "a.md"}), ok(row(item_id="i2")), takeover=takeover)
    [outcome] = await remote.apply(new())
    assert [line.split()[0] for line in remote.asked] == asked
    if theirs["owner"] == "you" and not takeover:
        assert isinstance(outcome, Park)
        assert outcome.kind == "foreign"
        assert "--takeover" in str(outcome)
    else:
        assert isinstance(outcome, Done)
        assert outcome.unchanged == (len(asked) == 2)


async def test_a_conflict_with_an_unmarked_item_is_ours_to_replace_only_where_we_had_one() -> None:
    listed = ok([row(file_size=5)], total_count=1)
    [outcome] = await Scripted(no(409, 7042), listed).apply(new())
    assert isinstance(outcome, Park)
    remote = Scripted(no(409, 7042), listed, ok({"key": "a.md"}), ok(row(item_id="i2")))
    [outcome] = await remote.apply(new(ref="i1"))
    assert isinstance(outcome, Done)


async def test_a_conflict_that_shows_nothing_is_tried_again_and_then_given_up_for_now() -> None:
    remote = Scripted(no(409, 7042), ok([], total_count=0), ok(row()))
    [outcome] = await remote.apply(new())
    assert isinstance(outcome, Done)
    endless = Scripted(*[no(409, 7042), ok([], total_count=0)] * 100)
    [outcome] = await endless.apply(new())
    assert isinstance(outcome, SyncdError)
    assert "its delete may not be finished" in str(outcome)
    assert len(endless.asked) < 30


async def test_an_absent_item_counts_as_deleted_and_other_refusals_are_outcomes() -> None:
    delete = Delete("a.md", "stale", "a.md", "i1")
    assert await Scripted(no(404, 7041)).apply(delete) == [Done()]
    [outcome] = await Scripted(no(400, 7999)).apply(delete)
    assert isinstance(outcome, Park)


@pytest.mark.parametrize(
    ("answer", "kind"), [(no(401, 10000), Halt), (no(429, 7069), Halt), (httpx.ConnectError("no"), Unreachable)]
)
async def test_an_error_that_concerns_every_item_is_raised(
    answer: httpx.Response | Exception, kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        await Scripted(answer).apply(new("a.md"), new("b.md"))


@pytest.mark.parametrize("digest", ["md5", "sha1", "sha256"])
@pytest.mark.parametrize("form", [str.lower, str.upper])
async def test_a_checksum_that_is_a_plain_digest_spares_the_download(digest: str, form: Callable[[str], str]) -> None:
    version = form(hashlib.new(digest, DATA, usedforsecurity=False).hexdigest())
    remote = Scripted(ok([]))
    assert await remote.target.checksum(Entry("a.md", "i1", version=version), CONTENT) == CONTENT.checksum
    assert remote.asked == []


@pytest.mark.parametrize("version", [None, "0", "opaque"])
async def test_any_other_checksum_is_no_evidence(version: str | None) -> None:
    remote = Scripted(httpx.Response(200, content=b"other"))
    entry = Entry("a.md", "i1", version=version)
    assert await remote.target.checksum(entry, CONTENT) == hashlib.sha256(b"other").hexdigest()
    assert remote.asked == ["GET /items/i1/download"]
    assert await Scripted(no(404, 7041)).target.checksum(entry, CONTENT) is None


async def test_an_entry_is_asked_for_by_id_and_then_by_key() -> None:
    remote = Scripted(ok(row()))
    assert (found := await remote.target.confirm("a.md", "i1")) is not None
    assert (found.ref, remote.asked) == ("i1", ["GET /items/i1"])
    for by_id in (no(404, 7041), ok(row("b.md")), ok(row(source_id="r2:b")), ok(row(next_action="DELETE"))):
        remote = Scripted(by_id, ok([row(item_id="i2")], total_count=1))
        assert (found := await remote.target.confirm("a.md", "i1")) is not None
        assert found.ref == "i2"


@pytest.mark.parametrize(
    ("metadata", "checksum", "owner", "marked"),
    [
        ({"metadata": MARKS}, CONTENT.checksum, "me", True),
        ({"metadata": {"filename": "a.md"}}, None, None, False),
        ({"metadata": {"owner": "you"}}, None, "you", False),
        ({"metadata": None}, None, None, False),
        ({"metadata": "surprise"}, None, None, False),
        ({}, None, None, None),
    ],
)
async def test_the_marks_of_a_row_become_fields_of_the_entry(
    metadata: dict[str, Any], checksum: str | None, owner: str | None, *, marked: bool | None
) -> None:
    remote = Scripted(ok([row(checksum="0", status="new state", **metadata)], total_count=1))
    [entry] = [entry async for entry in remote.target.entries()]
    assert (entry.checksum, entry.owner, entry.marked, entry.status) == (checksum, owner, marked, None)


async def test_a_size_of_zero_is_unknown() -> None:
    for size in (0, None):
        remote = Scripted(ok([row(file_size=size)], total_count=1))
        [entry] = [entry async for entry in remote.target.entries()]
        assert entry.size is None


async def test_the_forecast_counts_one_request_for_each_action() -> None:
    assert Scripted(ok([])).target.requests(12, 3) == 15


def page(names: str, total: int) -> httpx.Response:
    return ok([row(f"{name}.md", name) for name in names], total_count=total)


@pytest.mark.parametrize(
    ("script", "whole", "counted"),
    [
        ([page("ab", 4), page("cd", 4)], True, True),
        # Items are added during the listing: they push other rows to later pages.
        ([page("ab", 4), page("bc", 5), page("d", 5)], True, False),
        ([page("ab", 4), page("bc", 7), page("cd", 9), page("", 9)], True, False),
        # An item moves to the top before it was read: the listing is read from the top until all are seen.
        ([page("ab", 4), page("bc", 4), page("da", 4)], True, True),
        # An item goes, so another is missed: the rows before no longer count.
        ([page("ab", 4), page("d", 3), page("bc", 3)], True, True),
        ([page("ab", 5), page("dx", 4), page("bc", 4)], True, True),
        # The first page shows none of the rows that it counts.
        ([page("", 4), page("ab", 4), page("cd", 4)], True, True),
        ([page("", 4)] * 3, False, False),
        # In each reading, one item goes and one comes.
        ([page("ab", 4), page("ab", 4)] * 3, False, False),
    ],
)
async def test_a_listing_that_shifts_is_read_again_no_further_than_it_takes(
    script: list[httpx.Response], *, whole: bool, counted: bool
) -> None:
    remote = Scripted(*script)
    listed = [entry.ref async for entry in remote.target.entries()]
    assert len(remote.asked) == len(script)
    assert len(set(listed)) == len(listed)
    assert (remote.target.landmark is not None) == counted
    if whole:
        assert {"b", "c", "d"} <= set(listed)


async def test_a_listing_without_a_total_is_read_once_and_proves_nothing() -> None:
    remote = Scripted(ok([row("a.md", "a")]), ok([]))
    assert [entry.ref async for entry in remote.target.entries()] == ["a"]
    assert remote.target.landmark is None
    assert len(remote.asked) == 2


@pytest.mark.parametrize(
    ("made", "newest"),
    [
        (["2026-01-01T00:00:00Z", "2026-01-01T00:00:01.500Z"], 1767225601.5),
        (["2026-01-01T00:00:00", "2026-01-01T02:00:00+02:00"], 1767225600.0),
        (["2026-01-01T00:00:00Z", "yesterday"], None),
        (["2026-01-01T00:00:00Z", None], None),
        ([], 0.0),
    ],
)
async def test_the_latest_creation_time_is_known_if_every_item_has_one(
    made: list[str | None], newest: float | None
) -> None:
    rows = [row(f"{number}.md", f"i{number}", created_at=when) for number, when in enumerate(made)]
    remote = Scripted(ok(rows, total_count=len(rows)))
    assert len([entry async for entry in remote.target.entries()]) == len(rows)
    assert remote.target.landmark == (len(rows), newest)


NUMBERS = {"queued": 1, "running": 2, "completed": 3, "error": 4, "skipped": 5, "outdated": 6}


async def test_the_counts_by_status_are_known_if_none_is_missing() -> None:
    assert await Scripted(ok(NUMBERS)).target.counts() == NUMBERS
    assert await Scripted(ok(NUMBERS | {"degraded": True})).target.counts() is None
    for name in NUMBERS:
        assert await Scripted(ok(NUMBERS | {name: None})).target.counts() is None
    for refusal in (no(404, 7041), no(400, 7999)):
        assert await Scripted(refusal).target.counts() is None
    with pytest.raises(Unreachable):
        await Scripted(httpx.ConnectError("no")).target.counts()


async def test_the_uploads_of_one_shard_are_searched_among_the_uploads_of_all_shards() -> None:
    rows = [row(f"{number}.md", f"i{number:03}") for number in range(400)]
    remote = Scripted(*(ok(rows[start : start + 50], total_count=400) for start in range(0, 400, 50)), shards=4)
    ours = frozenset(f"i{number:03}" for number in range(0, 400, 4))
    assert set(await remote.target.statuses(ours, ours)) == ours
    assert remote.asked == ["GET /items"] * 8


# -- codes with a meaning of their own


@pytest.mark.parametrize("made", [no(409, 7064), no(400, 7022), ok({"name": "default"})])
async def test_a_namespace_that_another_mirror_makes_meanwhile_is_used(made: httpx.Response) -> None:
    scripted = Scripted(no(404, 7063), made, ok({"id": "docs"}))
    await scripted.target.create()
    assert len(scripted.asked) == 3


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (no(403, 7062), "no room for another AI Search namespace"),
        (no(403, 7013), "no room for another AI Search instance"),
    ],
)
async def test_a_full_account_halts_and_is_no_refusal_of_the_token(answer: httpx.Response, words: str) -> None:
    with pytest.raises(Halt, match=words) as caught:
        await Scripted(no(404, 7063), answer).target.create()
    assert not isinstance(caught.value, AuthHalt)


@pytest.mark.parametrize("code", [7099, 7104])
async def test_a_namespace_that_changes_meanwhile_is_asked_again(code: int) -> None:
    scripted = Scripted(no(409, code), ok({"id": "docs"}))
    await scripted.target.create()
    assert len(scripted.asked) == 2


@pytest.mark.parametrize("paused", [True, False])
async def test_a_paused_instance_is_named_by_the_check(paused: bool) -> None:
    target = Scripted(ok({"id": "docs", "paused": paused})).target
    if not paused:
        assert "is there" in await target.check()
        return
    with pytest.raises(PausedHalt, match="resume it"):
        await target.check()
