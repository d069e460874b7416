"""`check --probe`: the answers that it learns, its number of requests, and the items that it leaves."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from syncd.cloudflare.ai_search import AISearch
from syncd.cloudflare.auth import Credentials
from syncd.cloudflare.gate import Gate
from syncd.cloudflare.transport import Transport
from syncd.core.errors import Halt, Retry
from syncd.core.probe_answers import NO_ANSWERS, PROBE_STEM, VALID_S, ProbeAnswers
from syncd.targets.ai_search.items import ItemWritePolicy
from syncd.targets.ai_search.probe import OLD_S, REQUESTS, ItemProbe
from syncd.targets.base import Probe
from tests.unit.targets.harness_ai_search import Harness, MirrorFixture, answers, open_harness
from tests.unit.targets.harness_mirrors import ACCOUNT, BASE, Forward

POLICY = ItemWritePolicy("me")


@asynccontextmanager
async def prober(h: Harness, policy: ItemWritePolicy = POLICY) -> AsyncIterator[ItemProbe]:
    """Yield a probe whose requests are tried once."""
    gate, credentials = Gate(0, 8, h.clock, h.clock.sleep), Credentials.bearer("any")
    async with Transport(BASE, ACCOUNT, credentials, gate, retry_for=0, http=h.wire, rng=lambda: 0.5) as transport:
        yield ItemProbe(AISearch(transport, "default", "docs"), policy, sleep=h.clock.sleep, clock=h.clock)


async def probe(h: Harness, policy: ItemWritePolicy = POLICY) -> Probe:
    """Probe, and check that no item is left and that the number of requests is the true one."""
    h.wire.diary.clear()
    async with prober(h, policy) as made:
        found = await made.run()
    assert found.requests == len(h.wire.diary) <= REQUESTS, h.wire.diary
    for _ in range(2):  # for a delete that takes its time, and then for the listing
        h.clock.now += 100
        await h.items()
    assert not [row for row in await h.items() if PROBE_STEM in row["key"]]
    return found


@pytest.mark.parametrize(
    ("manners", "answer", "learned"),
    [
        ("on_existing", "overwrite", {"existing": "overwrite", "id_kept": True}),
        ("on_existing", "conflict", {"existing": "conflict", "id_kept": None}),
        ("overwritten_id", "new", {"existing": "overwrite", "id_kept": False}),
        ("checksum", "opaque", {"checksum": "opaque"}),
        ("checksum", "zero", {"checksum": "zero"}),
        ("checksum", "md5", {"checksum": "md5"}),
        ("checksum", "sha256", {"checksum": "sha256"}),
        ("metadata", "keep", {"metadata": "all"}),
        ("metadata", "refuse", {"metadata": "none", "metadata_listed": None}),
        ("list_metadata", False, {"metadata": "all", "metadata_listed": False}),
        ("list_lag", 0, {"list_lag_s": 0}),
        ("list_lag", 2, {"list_lag_s": 3}),
        ("list_lag", 60, {"list_lag_s": None}),
        ("delete_delay", 0, {"delete_gone": True}),
        ("delete_delay", 20, {"delete_gone": False}),
        ("form_names", "backslash", {"names": "backslash"}),
        ("form_names", "percent", {"names": "percent"}),
    ],
)
async def test_each_manner_of_the_service_is_learned(
    tmp_path: Path, manners: str, answer: Any, learned: dict[str, object]
) -> None:
    async with open_harness(tmp_path, **{manners: answer}) as h:
        policy = ItemWritePolicy("me", "p/", fields={"title": "title", "changed": "modified"})
        found = await probe(h, policy)
        assert {name: getattr(found.answers, name) for name in learned} == learned


async def test_with_every_surprise_at_once_ten_requests_are_not_exceeded(tmp_path: Path) -> None:
    async with open_harness(
        tmp_path,
        metadata="refuse",
        form_names="percent",
        list_lag=2,
        overwritten_id="new",
        delete_delay=1,
        checksum="zero",
    ) as h:
        found = await probe(h, ItemWritePolicy("me", fields={"title": "title"}))
        assert (found.answers.metadata, found.answers.existing) == ("none", "overwrite")
        assert found.answers.names is None
        assert found.notes


@pytest.mark.parametrize("number", range(2, 9))
async def test_a_probe_that_fails_anywhere_deletes_its_known_items(tmp_path: Path, number: int) -> None:
    async with open_harness(tmp_path) as h:
        seen = 0

        async def fail_at_number(request: httpx.Request, forward: Forward) -> httpx.Response:
            nonlocal seen
            seen += 1
            return await (answers(500, 7001)(request, forward) if seen == number else forward())

        for method in ("GET", "POST", "DELETE"):
            h.wire.plays(method, "", fail_at_number, times=None)
        async with prober(h) as made:
            with suppress(Retry):
                await made.run()
        h.wire.acts.clear()
        left = [row["key"] for row in await h.items()]
        # Only a failed delete leaves an item; the next probe deletes it.
        assert len(left) <= 1
        found = await probe(h)
        assert found.removed == len(left)
        assert found.answers.existing == "overwrite"


async def test_items_of_a_killed_probe_are_removed_and_all_others_stay(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        await h.upload(f"{PROBE_STEM}{'0' * 16}.md", "left", owner="me")
        await h.upload(f"{PROBE_STEM}{'1' * 16}.md", "of another mirror", owner="you")
        await h.upload(f"{PROBE_STEM}notes.md", "of a person")
        async with prober(h) as made:
            assert (await made.run()).removed == 1
        assert [row["key"] for row in await h.items()] == [f"{PROBE_STEM}{'1' * 16}.md", f"{PROBE_STEM}notes.md"]


async def test_the_daemon_removes_old_items_of_a_killed_probe_by_its_next_listing(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror()
        fixture.write("a.md", "one")
        name = f"{PROBE_STEM}{'0' * 16}.md"
        await h.upload(name, "left", owner="me")
        await fixture.full()
        assert set(await h.contents()) == {"a.md", name}, "a probe may be under way"
        h.clock.now += OLD_S + 1
        result = await fixture.full()
        assert set(await h.contents()) == {"a.md"}
        assert (result.done, fixture.problems()) == ({}, {})


async def test_no_mirror_takes_a_file_with_the_name_of_a_throw_away_item(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror()
        fixture.write("a.md", "one")
        fixture.write(f"{PROBE_STEM}{'0' * 16}.md", "mine")
        fixture.write(f"b/{PROBE_STEM}x.md", "mine")
        await fixture.full()
        assert set(await h.contents()) == {"a.md"}


async def test_a_paused_instance_is_reported_and_nothing_is_learned(tmp_path: Path) -> None:
    async with open_harness(tmp_path, paused=True) as h:
        async with prober(h) as made:
            with pytest.raises(Halt):
                await made.run()
        assert len(h.wire.diary) == 1


# -- the mirror goes by the answers


def learn(fixture: MirrorFixture, **manners: Any) -> None:
    fixture.learned.set(replace(NO_ANSWERS, **manners))


async def requests_of_a_change(h: Harness, fixture: MirrorFixture, text: str) -> list[str]:
    """Change one file, make a full pass, and return the methods of its requests without the listing."""
    fixture.write("a.md", text)
    h.wire.diary.clear()
    await fixture.full()
    assert await h.contents() == {"a.md": text}
    assert fixture.problems() == {}
    return [line.split()[0] for line in h.wire.diary[1:]]


async def test_a_known_conflict_costs_no_upload_in_vain(tmp_path: Path) -> None:
    async with open_harness(tmp_path, on_existing="conflict") as h:
        fixture = h.add_mirror()
        await requests_of_a_change(h, fixture, "one")
        assert await requests_of_a_change(h, fixture, "two") == ["POST", "GET", "DELETE", "POST"]
        learn(fixture, existing="conflict")
        assert await requests_of_a_change(h, fixture, "three") == ["GET", "DELETE", "POST"]


async def test_a_known_conflict_that_is_none_any_more_loses_nothing(tmp_path: Path) -> None:
    async with open_harness(tmp_path, on_existing="overwrite") as h:
        fixture = h.add_mirror()
        await requests_of_a_change(h, fixture, "one")
        learn(fixture, existing="conflict")
        assert await requests_of_a_change(h, fixture, "two") == ["GET", "DELETE", "POST"]


async def test_an_overwrite_that_became_a_conflict_is_noticed_and_the_answer_is_dropped(tmp_path: Path) -> None:
    async with open_harness(tmp_path, on_existing="conflict") as h:
        fixture = h.add_mirror()
        await requests_of_a_change(h, fixture, "one")
        learn(fixture, existing="overwrite", checksum="opaque")
        await requests_of_a_change(h, fixture, "two")
        assert fixture.learned.get() == ProbeAnswers(checksum="opaque")


async def test_an_item_of_another_owner_is_not_deleted_although_uploads_conflict(tmp_path: Path) -> None:
    async with open_harness(tmp_path, on_existing="conflict") as h:
        fixture = h.add_mirror()
        await requests_of_a_change(h, fixture, "one")
        learn(fixture, existing="conflict")
        await h.delete("a.md")
        await h.upload("a.md", "theirs", owner="you")
        fixture.write("a.md", "two")
        await fixture.full()
        assert await h.contents() == {"a.md": "theirs"}
        assert fixture.problems() == {"a.md": "foreign"}


@pytest.mark.parametrize("kind", ["md5", "sha256"])
async def test_a_known_digest_that_differs_replaces_a_download(tmp_path: Path, kind: str) -> None:
    async with open_harness(tmp_path, checksum=kind, list_metadata=False) as h:
        fixture = h.add_mirror()
        await h.upload("a.md", "two")
        fixture.write("a.md", "one")
        learn(fixture, checksum=kind)
        await fixture.full()
        assert h.wire.count("GET", "/download") == 0
        assert fixture.problems() == {"a.md": "foreign"}
        assert await h.contents() == {"a.md": "two"}
        fixture.learned.drop("checksum", "a test")
        await fixture.full()
        assert h.wire.count("GET", "/download") == 1


async def test_a_digest_that_became_opaque_is_noticed_at_the_next_upload(tmp_path: Path) -> None:
    async with open_harness(tmp_path, checksum="opaque") as h:
        fixture = h.add_mirror()
        learn(fixture, checksum="sha256", existing="overwrite")
        await requests_of_a_change(h, fixture, "one")
        assert fixture.learned.get() == ProbeAnswers(existing="overwrite")


async def test_metadata_that_the_instance_refuses_is_not_offered(tmp_path: Path) -> None:
    async with open_harness(tmp_path, metadata="refuse") as h:
        fixture = h.add_mirror()
        learn(fixture, metadata="none", fields=("owner", "sha256"))
        assert await requests_of_a_change(h, fixture, "one") == ["POST"]
        other = h.add_mirror("other", prefix="o/")
        learn(other, metadata="none", fields=("owner", "sha256"))
        other.write("a.md", "one")
        h.wire.diary.clear()
        await other.full()
        assert h.wire.count("POST") == 2, "the answer concerns other fields"


@pytest.mark.parametrize("form_names", ["backslash", "percent"])
async def test_names_with_quotes_are_written_as_the_service_reads_them(tmp_path: Path, form_names: str) -> None:
    async with open_harness(tmp_path, form_names=form_names) as h:
        fixture = h.add_mirror()
        learn(fixture, names=form_names)
        fixture.write('say "hello".md', "one")
        await fixture.full()
        assert await h.contents() == {'say "hello".md': "one"}
        assert fixture.problems() == {}


async def test_a_wrong_answer_on_names_is_dropped_and_the_file_goes_up(tmp_path: Path) -> None:
    async with open_harness(tmp_path, form_names="backslash") as h:
        fixture = h.add_mirror()
        learn(fixture, names="percent")
        fixture.write('say "hello".md', "one")
        await fixture.full()
        assert await h.contents() == {'say "hello".md': "one"}
        assert fixture.learned.get() == NO_ANSWERS


async def test_a_known_lag_replaces_the_assumed_one_until_the_answer_is_too_old(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror()
        assumed = fixture.mirror.target.limits.lag_s
        learn(fixture, list_lag_s=3.0)
        await fixture.full()
        assert fixture.mirror.target.limits.lag_s == 11
        h.clock.now += VALID_S
        await fixture.full()
        assert fixture.mirror.target.limits.lag_s == assumed
