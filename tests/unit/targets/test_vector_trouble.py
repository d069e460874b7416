"""What Vectorize and Workers AI may refuse, lose or hold already, and what becomes of the files meanwhile."""

import json
from pathlib import Path

import httpx
import pytest

from syncd.core.errors import Brake, ConfigError, Halt
from syncd.queries.pull import Folder, pull
from syncd.queries.verify import verify
from syncd.state.db import directory_of
from syncd.state.history import log_path
from syncd.targets.vectorize.target import VectorizeTarget
from tests.unit.targets.harness_ai_search import Act, Forward, answers, done_but_cut_off
from tests.unit.targets.harness_vectorize import INDEXES, Side, World, world

BGE_BASE = "@cf/baai/bge-base-en-v1.5"
TEXT = "# One\n\nAbout anchors.\n\n# Two\n\nAbout boats.\n\n# Three\n\nAbout currents.\n"


async def in_step(w: World, **files: str) -> Side:
    side = w.side(chunk_size=200, chunk_overlap=20)
    for name, text in files.items():
        side.write(name + ".md", text)
    await side.full()
    assert await w.ids() == side.expected()
    return side


class Crash(BaseException):
    """The end of the process."""


def refuses(word: str) -> Act:
    """400 to every embedding whose texts hold the word."""

    async def act(request: httpx.Request, forward: Forward) -> httpx.Response:
        if word in json.dumps(json.loads(request.content)):
            return await answers(400, 5006, "input is too long")(request, forward)
        return await forward()

    return act


def no_more_than(lines: int) -> Act:
    """413 to upserts of more vectors."""

    async def act(request: httpx.Request, forward: Forward) -> httpx.Response:
        if request.content.count(b"\n") > lines:
            return await answers(413, 40006)(request, forward)
        return await forward()

    return act


async def test_a_text_the_model_refuses_parks_its_file_and_stops_no_other(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side(chunk_size=200, chunk_overlap=20)
        for number in range(30):
            side.write(f"{number}.md", TEXT + ("# Bad\n\nUnspeakable.\n" if number == 17 else f"Mark {number}.\n"))
        w.wire.plays("POST", "/bge-small-en-v1.5", refuses("Unspeakable"), times=None)
        result = await side.full()
        assert (result.done["put"], result.done["failed"]) == (29, 1)
        assert side.problems() == {"17.md": "refused"}
        held = await w.ids()
        refused = side.root / "17.md"
        text = refused.read_text()
        refused.unlink()
        assert held == side.expected(), "nothing is left of a file that could not be written"
        side.write("17.md", text)
        changing = w.changing
        assert (await side.full()).done.total() == 0
        assert w.changing == changing, "what was refused is not sent again"
        side.write("17.md", TEXT)
        assert (await side.full()).done["put"] == 1
        assert await w.ids() == side.expected()


async def test_a_refused_edit_leaves_the_old_vectors_up(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = await in_step(w, a=TEXT)
        before = await w.ids()
        w.wire.plays("POST", "/bge-small-en-v1.5", refuses("Unspeakable"), times=None)
        side.write("a.md", TEXT + "# Bad\n\nUnspeakable.\n")
        assert (await side.full()).done["failed"] == 1
        assert await w.ids() == before
        assert (await side.full()).done.total() == 0
        assert await w.ids() == before


async def test_upserts_that_are_too_much_go_in_halves(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side(chunk_size=200, chunk_overlap=20)
        for number in range(10):
            side.write(f"{number}.md", TEXT)
        w.wire.plays("POST", "/upsert", no_more_than(4), times=None)
        assert (await side.full()).done["put"] == 10
        assert await w.ids() == side.expected()


async def test_an_upsert_whose_answer_is_lost_is_repeated_and_leaves_one_set(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side(chunk_size=200, chunk_overlap=20)
        side.write("a.md", TEXT)
        w.wire.plays("POST", "/upsert", done_but_cut_off)
        assert (await side.full()).done["put"] == 1
        assert await w.ids() == side.expected()


async def test_old_vectors_that_cannot_be_deleted_now_go_later(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = await in_step(w, a=TEXT)
        w.wire.plays("POST", "/delete_by_ids", answers(400, 40000, "not now"))
        side.write("a.md", "# Short\n\nIndeed.\n")
        result = await side.full()
        assert result.done["failed"] == 1
        w.clock.now += 60
        assert (await side.full()).done["put"] == 1
        assert await w.ids() == side.expected()


@pytest.mark.parametrize("lost", [False, True])
async def test_a_crash_between_upsert_and_delete_leaves_nothing_behind(tmp_path: Path, lost: bool) -> None:
    async with world(tmp_path) as w:
        side = await in_step(w, a=TEXT, b=TEXT + "More.\n")
        side.write("a.md", "# Short\n\nIndeed.\n")

        async def crash(request: httpx.Request, forward: Forward) -> httpx.Response:
            del request, forward
            raise Crash

        w.wire.plays("POST", "/delete_by_ids", crash)
        with pytest.raises(Crash):
            await side.full()
        if lost:
            side.lose_journal()
        else:
            side.use()
        w.clock.now += 60
        for _ in range(2):
            await side.full()
            w.clock.now += 60
        assert await w.ids() == side.expected()
        assert (await side.full()).tables.plan.counts.total() == 0


async def test_half_a_file_is_made_whole(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side(chunk_size=200, chunk_overlap=20)
        side.write("a.md", TEXT * 3)
        await side.full()
        await w.drop(*sorted(await w.ids())[2:5])
        side.lose_journal()
        result = await side.full()
        assert result.done["put"] == 1
        assert await w.ids() == side.expected()


async def test_another_model_halts_until_a_person_agrees(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        (await w.stranger.post(INDEXES, json={"name": "docs", "config": {"dimensions": 1024, "metric": "cosine"}}))
        side = w.side(model="@cf/baai/bge-large-en-v1.5")
        side.write("a.md", TEXT)
        side.write("b.md", TEXT)
        await side.full()
        before, embedded = await w.ids(), w.embedded
        side.use(model="@cf/baai/bge-m3")
        side.write("c.md", TEXT)
        for _ in range(2):
            with pytest.raises(Halt, match=r"2 files.*--force"):
                await side.full()
            with pytest.raises(Halt, match=r"2 files.*--force"):
                await side.hint("c.md")
        assert (await w.ids(), w.embedded) == (before, embedded)
        side.use(reembed=True)
        assert (await side.full()).done["put"] == 3
        assert await w.ids() == side.expected()
        side.use()
        assert (await side.full()).tables.plan.counts.total() == 0


async def test_another_pooling_is_another_model(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = await in_step(w, a=TEXT)
        side.use(pooling="cls")
        with pytest.raises(Halt, match="cls"):
            await side.full()
        side.use(pooling="mean")
        assert (await side.full()).tables.plan.counts.total() == 0


async def test_another_chunk_size_cuts_all_files_again(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = await in_step(w, a=TEXT, b="# Long\n\n" + "A sentence of some length. " * 40)
        embedded = w.embedded
        side.use(chunk_size=400)
        assert (await side.full()).done["put"] == 2
        assert await w.ids() == side.expected()
        # What fits in one piece is the same piece as before.
        assert 0 < w.embedded - embedded < 8
        assert (await side.full()).tables.plan.counts.total() == 0


async def test_an_index_of_other_dimensions_halts_before_anything_is_written(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        (await w.stranger.post(INDEXES, json={"name": "docs", "config": {"dimensions": 768, "metric": "cosine"}}))
        side = w.side()
        side.write("a.md", TEXT)
        with pytest.raises(Halt, match=r"384 dimensions.*768"):
            await side.mirror.target.check()
        with pytest.raises(Halt, match=r"384 dimensions.*768"):
            await side.full()
        assert await w.ids() == set()
        side.use(model=BGE_BASE)
        assert (await side.full()).done["put"] == 1


async def test_check_tries_the_model(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = await in_step(w, a=TEXT)
        assert "bge-small-en-v1.5 fits it" in await side.mirror.target.check()
        w.wire.plays("POST", "/bge-small-en-v1.5", answers(403, 10000))
        with pytest.raises(Halt, match="Workers AI"):
            await side.mirror.target.check()


async def test_a_missing_index_halts_unless_it_may_be_made(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side(create=False)
        side.write("a.md", TEXT)
        with pytest.raises(Halt, match="create = true"):
            await side.full()
        with pytest.raises(Halt, match="create = true"):
            await side.mirror.target.check()


async def test_a_mass_delete_is_refused(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = await in_step(w, **{f"f{number}": f"# {number}\n\nText.\n" for number in range(40)})
        side.mirror.settings = type(side.mirror.settings)(side.mirror.policy, side.mirror.settings.rules, "25%")
        before = await w.ids()
        side.remove(*(f"f{number}.md" for number in range(20)))
        with pytest.raises(Brake):
            await side.full()
        assert await w.ids() == before


async def test_verify_deep_reads_what_the_vectors_say_and_pull_says_that_it_cannot(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = await in_step(w, a=TEXT, b=TEXT + "More.\n")
        verdict = await verify(side.mirror, lambda _: None, deep=True)
        assert (verdict.differences, verdict.checked) == ([], 2)
        changing = w.changing
        await w.drop(min(await w.ids()))
        w.clock.now += 10
        verdict = await verify(side.mirror, lambda _: None, deep=True)
        assert [each.difference for each in verdict.differences] == ["changed"]
        assert w.changing == changing + 1
        with Folder(tmp_path / "out") as folder, pytest.raises(ConfigError, match="pieces of text"):
            await pull(side.mirror, folder)


async def test_a_query_finds_the_right_file_first(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        me, you = w.side("me", chunk_size=200, chunk_overlap=20), w.side("you")
        me.write("guides/anchors.md", "# Mooring\n\n## Anchors\n\nHow to drop an anchor in shallow water.\n")
        me.write("guides/engines.md", "# Engines\n\nWhich diesel fuel an engine burns.\n")
        you.write("theirs.md", "# Anchors\n\nHow to drop an anchor in shallow water, as others say.\n")
        for side in (me, you):
            await side.full()
            w.clock.now += 10
        hits = await me.searchable.search("drop an anchor in shallow water", 5)
        assert hits[0].key == "guides/anchors.md"
        assert "shallow water" in hits[0].text
        assert hits[0].heading == "Mooring > Anchors"
        assert {hit.key for hit in hits} == {"guides/anchors.md", "guides/engines.md"}
        assert len(await me.searchable.search("anchor", 1)) == 1


async def test_a_search_shows_no_others_also_where_no_metadata_index_tells_owners_apart(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        (await w.stranger.post(INDEXES, json={"name": "docs", "config": {"dimensions": 384, "metric": "cosine"}}))
        me, you = w.side("me", prefix="p/"), w.side("you", prefix="p/")
        for side in (me, you, w.side("elsewhere", owner="me", prefix="q/")):
            side.write(f"{side.name}.md", f"# Anchors\n\nHow {side.name} drops an anchor in shallow water.\n")
            await side.full()
            w.clock.now += 10
        hits = await me.searchable.search("drop an anchor in shallow water", 5)
        assert [hit.key for hit in hits] == ["p/me.md"]


async def test_a_change_made_while_another_is_asked_for_is_waited_for_too(tmp_path: Path) -> None:
    async with world(tmp_path, mutation_lag=1) as w:
        side = await in_step(w, a=TEXT)
        target, record = side.mirror.target, side.mirror.journal.get("a.md")
        assert isinstance(target, VectorizeTarget)
        assert record is not None

        async def meanwhile(request: httpx.Request, forward: Forward) -> httpx.Response:
            del request
            answer = await forward()
            await target.index.delete([record.ref])
            return answer

        w.wire.plays("GET", "/info", meanwhile)
        assert not await target.index.mutations.processed()
        w.clock.now += 5
        assert await target.index.mutations.processed()
        assert await w.ids() == set()


async def test_the_forecast_counts_requests(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        target = w.side().mirror.target
        assert [target.requests(*counts) for counts in ((0, 0), (1, 0), (0, 1), (1000, 100))] == [0, 2, 1, 120]


async def test_waiting_ends_when_the_index_has_processed_all(tmp_path: Path) -> None:
    async with world(tmp_path, mutation_lag=3) as w:
        side = w.side()
        side.write("a.md", TEXT)
        await side.full()
        record = side.mirror.journal.get("a.md")
        assert record is not None
        assert record.status == "queued"
        target, refs = side.indexed, frozenset({record.ref})
        assert await target.statuses(refs) == {}
        w.clock.now += 3
        found = (await target.statuses(refs))[record.ref]
        assert found is not None
        assert found.status == "completed"


async def test_a_put_that_fails_leaves_the_vectors_that_it_found(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side(chunk_size=200, chunk_overlap=20)
        side.write("a.md", TEXT * 3)
        await side.full()
        whole = await w.ids()
        await w.drop(min(whole))
        before = await w.ids()
        w.clock.now += 60
        w.wire.plays("POST", "/upsert", answers(413, 40006), times=None)
        assert (await side.full()).done["failed"] == 1
        assert await w.ids() == before
        assert log_path(directory_of(side.mirror.db)).exists() is False


async def test_what_a_failed_put_has_added_goes_again_and_is_logged(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side(chunk_size=200, chunk_overlap=20)
        side.write("a.md", TEXT * 3)
        first: list[bytes] = []

        async def only_the_first(request: httpx.Request, forward: Forward) -> httpx.Response:
            first.append(request.content)
            if b"0001-" not in request.content:
                return await answers(400, 40006)(request, forward)
            return await no_more_than(1)(request, forward)

        w.wire.plays("POST", "/upsert", only_the_first, times=None)
        assert (await side.full()).done["failed"] == 1
        assert first
        assert await w.ids() == set()
        lines = [json.loads(line) for line in log_path(directory_of(side.mirror.db)).read_text().splitlines()]
        assert {(line["key"], line["reason"]) for line in lines} == {("a.md", "remainder")}
        assert all(line["ref"].endswith("0001-" + line["ref"][-4:]) for line in lines)


async def test_vectors_of_an_earlier_content_that_go_are_logged(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = await in_step(w, a=TEXT)
        ref = next(iter(side.mirror.journal.after("", "z", 9))).ref
        side.write("a.md", TEXT + "More.\n")
        assert (await side.full()).done["put"] == 1
        (line,) = [json.loads(line) for line in log_path(directory_of(side.mirror.db)).read_text().splitlines()]
        assert (line["mirror"], line["key"], line["ref"], line["reason"]) == (side.mirror.name, "a.md", ref, "replaced")
        assert "took their place" in line["why"]
