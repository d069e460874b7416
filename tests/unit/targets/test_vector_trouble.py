"""Errors of Vectorize and Workers AI, lost answers, and vectors that exist already."""

import json
from pathlib import Path

import httpx
import pytest

from syncd.core.errors import Brake, ConfigError, Halt
from syncd.queries.pull import Folder, Pulled, pull
from syncd.queries.verify import verify
from syncd.state.deletions import log_path
from syncd.state.directory import directory_of
from syncd.targets.vectorize.index import LATER_S
from syncd.targets.vectorize.target import VectorizeTarget
from tests.unit.targets.harness_ai_search import answers, done_but_cut_off
from tests.unit.targets.harness_mirrors import Act, Forward
from tests.unit.targets.harness_vectorize import INDEXES, Harness, MirrorFixture, open_harness

BGE_BASE = "@cf/baai/bge-base-en-v1.5"
TEXT = "# One\n\nAbout anchors.\n\n# Two\n\nAbout boats.\n\n# Three\n\nAbout currents.\n"


async def in_step(h: Harness, **files: str) -> MirrorFixture:
    fixture = h.add_mirror(chunk_size=200, chunk_overlap=20)
    for name, text in files.items():
        fixture.write(name + ".md", text)
    await fixture.full()
    assert await h.ids() == fixture.expected()
    return fixture


class Crash(BaseException):
    """An exception that stands for the end of the process."""


def refuses(word: str) -> Act:
    """Answer 400 to every embedding request whose texts contain the word."""

    async def act(request: httpx.Request, forward: Forward) -> httpx.Response:
        if word in json.dumps(json.loads(request.content)):
            return await answers(400, 5006, "input is too long")(request, forward)
        return await forward()

    return act


def no_more_than(lines: int) -> Act:
    """Answer 413 to upserts of more vectors."""

    async def act(request: httpx.Request, forward: Forward) -> httpx.Response:
        if request.content.count(b"\n") > lines:
            return await answers(413, 40006)(request, forward)
        return await forward()

    return act


async def test_a_text_the_model_refuses_parks_its_file_and_stops_no_other(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror(chunk_size=200, chunk_overlap=20)
        for number in range(30):
            fixture.write(f"{number}.md", TEXT + ("# Bad\n\nUnspeakable.\n" if number == 17 else f"Mark {number}.\n"))
        h.wire.plays("POST", "/bge-small-en-v1.5", refuses("Unspeakable"), times=None)
        result = await fixture.full()
        assert (result.done["put"], result.done["failed"]) == (29, 1)
        assert fixture.problems() == {"17.md": "refused"}
        held = await h.ids()
        refused = fixture.root / "17.md"
        text = refused.read_text()
        refused.unlink()
        assert held == fixture.expected(), "nothing is left of a file that could not be written"
        fixture.write("17.md", text)
        changing = h.changing
        assert (await fixture.full()).done.total() == 0
        assert h.changing == changing, "refused content is not sent again"
        fixture.write("17.md", TEXT)
        assert (await fixture.full()).done["put"] == 1
        assert await h.ids() == fixture.expected()


async def test_a_refused_edit_leaves_the_old_vectors_up(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = await in_step(h, a=TEXT)
        before = await h.ids()
        h.wire.plays("POST", "/bge-small-en-v1.5", refuses("Unspeakable"), times=None)
        fixture.write("a.md", TEXT + "# Bad\n\nUnspeakable.\n")
        assert (await fixture.full()).done["failed"] == 1
        assert await h.ids() == before
        assert (await fixture.full()).done.total() == 0
        assert await h.ids() == before


async def test_upserts_that_are_too_much_go_in_halves(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror(chunk_size=200, chunk_overlap=20)
        for number in range(10):
            fixture.write(f"{number}.md", TEXT)
        h.wire.plays("POST", "/upsert", no_more_than(4), times=None)
        assert (await fixture.full()).done["put"] == 10
        assert await h.ids() == fixture.expected()


async def test_an_upsert_whose_answer_is_lost_is_repeated_and_leaves_one_set(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror(chunk_size=200, chunk_overlap=20)
        fixture.write("a.md", TEXT)
        h.wire.plays("POST", "/upsert", done_but_cut_off)
        assert (await fixture.full()).done["put"] == 1
        assert await h.ids() == fixture.expected()


async def test_old_vectors_that_cannot_be_deleted_now_go_later(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = await in_step(h, a=TEXT)
        h.wire.plays("POST", "/delete_by_ids", answers(400, 40000, "not now"))
        fixture.write("a.md", "# Short\n\nIndeed.\n")
        result = await fixture.full()
        assert result.done["failed"] == 1
        h.clock.now += 60
        assert (await fixture.full()).done["put"] == 1
        assert await h.ids() == fixture.expected()


@pytest.mark.parametrize("lost", [False, True])
async def test_a_crash_between_upsert_and_delete_leaves_nothing_behind(tmp_path: Path, lost: bool) -> None:
    async with open_harness(tmp_path) as h:
        fixture = await in_step(h, a=TEXT, b=TEXT + "More.\n")
        fixture.write("a.md", "# Short\n\nIndeed.\n")

        async def crash(request: httpx.Request, forward: Forward) -> httpx.Response:
            del request, forward
            raise Crash

        h.wire.plays("POST", "/delete_by_ids", crash)
        with pytest.raises(Crash):
            await fixture.full()
        if lost:
            fixture.lose_journal()
        else:
            fixture.use()
        h.clock.now += 60
        for _ in range(2):
            await fixture.full()
            h.clock.now += 60
        assert await h.ids() == fixture.expected()
        assert (await fixture.full()).tables.plan.counts.total() == 0


async def test_half_a_file_is_made_whole(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror(chunk_size=200, chunk_overlap=20)
        fixture.write("a.md", TEXT * 3)
        await fixture.full()
        await h.drop(*sorted(await h.ids())[2:5])
        fixture.lose_journal()
        result = await fixture.full()
        assert result.done["put"] == 1
        assert await h.ids() == fixture.expected()


async def test_another_model_halts_until_a_person_agrees(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        (await h.stranger.post(INDEXES, json={"name": "docs", "config": {"dimensions": 1024, "metric": "cosine"}}))
        fixture = h.add_mirror(model="@cf/baai/bge-large-en-v1.5")
        fixture.write("a.md", TEXT)
        fixture.write("b.md", TEXT)
        await fixture.full()
        before, embedded = await h.ids(), h.embedded
        fixture.use(model="@cf/baai/bge-m3")
        fixture.write("c.md", TEXT)
        for _ in range(2):
            with pytest.raises(Halt, match=r"2 files.*--force"):
                await fixture.full()
            with pytest.raises(Halt, match=r"2 files.*--force"):
                await fixture.hint("c.md")
        assert (await h.ids(), h.embedded) == (before, embedded)
        fixture.use(reembed=True)
        assert (await fixture.full()).done["put"] == 3
        assert await h.ids() == fixture.expected()
        fixture.use()
        assert (await fixture.full()).tables.plan.counts.total() == 0


async def test_another_pooling_is_another_model(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = await in_step(h, a=TEXT)
        fixture.use(pooling="cls")
        with pytest.raises(Halt, match="cls"):
            await fixture.full()
        fixture.use(pooling="mean")
        assert (await fixture.full()).tables.plan.counts.total() == 0


async def test_another_chunk_size_cuts_all_files_again(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = await in_step(h, a=TEXT, b="# Long\n\n" + "A sentence of some length. " * 40)
        embedded = h.embedded
        fixture.use(chunk_size=400)
        assert (await fixture.full()).done["put"] == 2
        assert await h.ids() == fixture.expected()
        # A file of one chunk has the same chunk as before.
        assert 0 < h.embedded - embedded < 8
        assert (await fixture.full()).tables.plan.counts.total() == 0


async def test_an_index_of_other_dimensions_halts_before_anything_is_written(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        (await h.stranger.post(INDEXES, json={"name": "docs", "config": {"dimensions": 768, "metric": "cosine"}}))
        fixture = h.add_mirror()
        fixture.write("a.md", TEXT)
        with pytest.raises(Halt, match=r"384 dimensions.*768"):
            await fixture.mirror.target.check()
        with pytest.raises(Halt, match=r"384 dimensions.*768"):
            await fixture.full()
        assert await h.ids() == set()
        fixture.use(model=BGE_BASE)
        assert (await fixture.full()).done["put"] == 1


async def test_check_tries_the_model(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = await in_step(h, a=TEXT)
        assert "bge-small-en-v1.5 fits it" in await fixture.mirror.target.check()
        # A token that has worked is tried a few times before the mirror halts.
        h.wire.plays("POST", "/bge-small-en-v1.5", answers(403, 10000), times=None)
        with pytest.raises(Halt, match="Workers AI"):
            await fixture.mirror.target.check()


async def test_a_missing_index_halts_unless_it_may_be_made(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror(create=False)
        fixture.write("a.md", TEXT)
        with pytest.raises(Halt, match="create = true"):
            await fixture.full()
        with pytest.raises(Halt, match="create = true"):
            await fixture.mirror.target.check()


async def test_a_mass_delete_is_refused(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = await in_step(h, **{f"f{number}": f"# {number}\n\nText.\n" for number in range(40)})
        fixture.mirror.settings = type(fixture.mirror.settings)(
            fixture.mirror.policy, fixture.mirror.settings.rules, "25%"
        )
        before = await h.ids()
        fixture.remove(*(f"f{number}.md" for number in range(20)))
        with pytest.raises(Brake):
            await fixture.full()
        assert await h.ids() == before


async def test_verify_deep_reads_the_metadata_of_vectors_and_pull_reports_that_it_cannot(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = await in_step(h, a=TEXT, b=TEXT + "More.\n")
        verdict = await verify(fixture.mirror, lambda _: None, deep=True)
        assert (verdict.differences, verdict.checked) == ([], 2)
        changing = h.changing
        await h.drop(min(await h.ids()))
        h.clock.now += 10
        verdict = await verify(fixture.mirror, lambda _: None, deep=True)
        assert [each.difference for each in verdict.differences] == ["changed"]
        assert h.changing == changing + 1
        with Folder(tmp_path / "out") as folder, pytest.raises(ConfigError, match="pieces of text"):
            await pull(fixture.mirror, folder, Pulled())


async def test_a_query_finds_the_right_file_first(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        me, you = h.add_mirror("me", chunk_size=200, chunk_overlap=20), h.add_mirror("you")
        me.write("guides/anchors.md", "# Mooring\n\n## Anchors\n\nHow to drop an anchor in shallow water.\n")
        me.write("guides/engines.md", "# Engines\n\nWhich diesel fuel an engine burns.\n")
        you.write("theirs.md", "# Anchors\n\nHow to drop an anchor in shallow water, as others say.\n")
        for fixture in (me, you):
            await fixture.full()
            h.clock.now += 10
        hits = await me.searchable.search("drop an anchor in shallow water", 5)
        assert hits[0].key == "guides/anchors.md"
        assert "shallow water" in hits[0].text
        assert hits[0].heading == "Mooring > Anchors"
        assert {hit.key for hit in hits} == {"guides/anchors.md", "guides/engines.md"}
        assert len(await me.searchable.search("anchor", 1)) == 1


async def test_a_search_shows_no_foreign_files_even_without_a_metadata_index(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        (await h.stranger.post(INDEXES, json={"name": "docs", "config": {"dimensions": 384, "metric": "cosine"}}))
        me, you = h.add_mirror("me", prefix="p/"), h.add_mirror("you", prefix="p/")
        for fixture in (me, you, h.add_mirror("elsewhere", owner="me", prefix="q/")):
            fixture.write(f"{fixture.name}.md", f"# Anchors\n\nHow {fixture.name} drops an anchor in shallow water.\n")
            await fixture.full()
            h.clock.now += 10
        hits = await me.searchable.search("drop an anchor in shallow water", 5)
        assert [hit.key for hit in hits] == ["p/me.md"]


async def test_a_change_made_while_another_is_asked_for_is_waited_for_too(tmp_path: Path) -> None:
    async with open_harness(tmp_path, mutation_lag=1) as h:
        fixture = await in_step(h, a=TEXT)
        target, record = fixture.mirror.target, fixture.mirror.journal.get("a.md")
        assert isinstance(target, VectorizeTarget)
        assert record is not None

        async def meanwhile(request: httpx.Request, forward: Forward) -> httpx.Response:
            del request
            answer = await forward()
            await target.index.delete([record.ref])
            return answer

        h.wire.plays("GET", "/info", meanwhile)
        assert not await target.index.mutations.processed()
        h.clock.now += 5
        assert await target.index.mutations.processed()
        assert await h.ids() == set()


async def test_the_forecast_counts_requests(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        target = h.add_mirror().mirror.target
        assert [target.requests(*counts) for counts in ((0, 0), (1, 0), (0, 1), (1000, 100))] == [0, 2, 1, 120]


async def test_waiting_ends_when_the_index_has_processed_all(tmp_path: Path) -> None:
    async with open_harness(tmp_path, mutation_lag=3) as h:
        fixture = h.add_mirror()
        fixture.write("a.md", TEXT)
        await fixture.full()
        record = fixture.mirror.journal.get("a.md")
        assert record is not None
        assert record.status == "queued"
        target, refs = fixture.indexed, frozenset({record.ref})
        assert await target.statuses(refs) == {}
        h.clock.now += 3
        found = (await target.statuses(refs))[record.ref]
        assert found is not None
        assert found.status == "completed"


async def test_a_put_that_fails_leaves_the_vectors_that_it_found(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror(chunk_size=200, chunk_overlap=20)
        fixture.write("a.md", TEXT * 3)
        await fixture.full()
        h.clock.now += LATER_S
        whole = await h.ids()
        await h.drop(min(whole))
        before = await h.ids()
        h.clock.now += 60
        h.wire.plays("POST", "/upsert", answers(413, 40006), times=None)
        assert (await fixture.full()).done["failed"] == 1
        assert await h.ids() == before
        assert log_path(directory_of(fixture.mirror.db)).exists() is False


async def test_vectors_that_a_failed_put_added_are_deleted_and_logged(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror(chunk_size=200, chunk_overlap=20)
        fixture.write("a.md", TEXT * 3)
        first: list[bytes] = []

        async def only_the_first(request: httpx.Request, forward: Forward) -> httpx.Response:
            first.append(request.content)
            if b"0001-" not in request.content:
                return await answers(400, 40006)(request, forward)
            return await no_more_than(1)(request, forward)

        h.wire.plays("POST", "/upsert", only_the_first, times=None)
        assert (await fixture.full()).done["failed"] == 1
        assert first
        assert await h.ids() == set()
        lines = [json.loads(line) for line in log_path(directory_of(fixture.mirror.db)).read_text().splitlines()]
        assert {(line["key"], line["reason"]) for line in lines} == {("a.md", "remainder")}
        assert all(line["ref"].endswith("0001-" + line["ref"][-4:]) for line in lines)


async def test_vectors_of_an_earlier_content_that_go_are_logged(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = await in_step(h, a=TEXT)
        ref = next(iter(fixture.mirror.journal.after("", "z", 9))).ref
        fixture.write("a.md", TEXT + "More.\n")
        assert (await fixture.full()).done["put"] == 1
        (line,) = [json.loads(line) for line in log_path(directory_of(fixture.mirror.db)).read_text().splitlines()]
        assert (line["mirror"], line["key"], line["ref"], line["reason"]) == (
            fixture.mirror.name,
            "a.md",
            ref,
            "replaced",
        )
        assert "took their place" in line["why"]
