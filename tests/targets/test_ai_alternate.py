"""Replacing without a gap: new content goes under the other name of a key, the old item goes when it is searchable."""

from pathlib import Path

import pytest
from ai_room import INSTANCES, Side, World, answers, done_but_cut_off, shows, world

from syncd.sync import follow
from syncd.sync.passes import Options, Scope
from syncd.sync.reconcile import reconcile
from syncd.targets.aisearch.rows import NAME_LENGTH, alternate, alternate_of, may_be_another, names

DELAY_S = 10.0


async def found(w: World, word: str) -> set[str]:
    """Names of the items that a search for the word finds."""
    answer = await w.stranger.post(f"{INSTANCES}/docs/search", json={"query": word})
    return {chunk["item"]["key"] for chunk in answer.raise_for_status().json()["result"]["chunks"]}


async def held(w: World) -> dict[str, str]:
    return await w.contents()


def opened(w: World, prune: str = "owned") -> Side:
    side = w.side(prune=prune)
    side.use_alternate()
    return side


async def serve(w: World, side: Side, after_s: float) -> dict[str, int]:
    w.clock.now += after_s
    await follow.look(side.mirror)
    result = await reconcile(side.mirror, Scope(side.mirror.queue.settled(w.clock.now)))
    return {kind: count for kind, count in result.done.items() if count}


async def searchable(w: World, side: Side, text: str, name: str = "a.md") -> None:
    side.write(name, text)
    await side.full()
    await serve(w, side, 2 * DELAY_S)
    assert side.mirror.journal.unfinished() == 0


@pytest.mark.parametrize("on_existing", ["overwrite", "conflict"])
async def test_a_changed_file_is_found_all_the_time_with_its_old_content_or_its_new(
    tmp_path: Path, on_existing: str
) -> None:
    async with world(tmp_path, index_delay=DELAY_S, on_existing=on_existing) as w:
        side = opened(w)
        await searchable(w, side, "quagga one")
        for text, name in (("quagga two", "a.next.md"), ("quagga three", "a.md")):
            before = await found(w, "quagga")
            side.write("a.md", text)
            assert (await side.hint("a.md")).done["put"] == 1
            for _ in range(3):
                assert await found(w, "quagga") == before
                assert await serve(w, side, DELAY_S / 5) == {}
            assert await serve(w, side, DELAY_S / 2) == {"delete": 1}
            assert await found(w, "quagga") == {name}
            assert await held(w) == {name: text}
            assert (await side.full()).spill.planned.total() == 0
        assert side.mirror.gaps.last() is None


async def test_edits_in_a_row_never_touch_the_item_that_is_found(tmp_path: Path) -> None:
    async with world(tmp_path, index_delay=DELAY_S, on_existing="conflict") as w:
        side = opened(w)
        await searchable(w, side, "quagga 0")
        for number in range(1, 6):
            side.write("a.md", f"quagga {number}")
            assert (await side.hint("a.md")).done["put"] == 1
            assert await found(w, "quagga") == {"a.md"}
            await serve(w, side, 1)
        assert await held(w) == {"a.md": "quagga 0", "a.next.md": "quagga 5"}
        await serve(w, side, DELAY_S)
        await serve(w, side, 1)
        assert await held(w) == {"a.next.md": "quagga 5"}
        assert side.mirror.gaps.last() is None


async def test_the_core_knows_one_key_whatever_the_name(tmp_path: Path) -> None:
    async with world(tmp_path, index_delay=DELAY_S) as w:
        side = opened(w)
        await searchable(w, side, "quagga one")
        await searchable(w, side, "quagga two")
        await serve(w, side, 1)
        assert await held(w) == {"a.next.md": "quagga two"}
        assert list(side.mirror.journal.keys()) == ["a.md"]
        [hit] = await side.mirror.target.search("quagga", 5)
        assert hit.key == "a.md"
        [entry] = [entry async for entry in side.mirror.target.entries()]
        assert entry.key == "a.md"
        confirmed = await side.mirror.target.confirm("a.md", None)
        assert confirmed is not None
        assert confirmed.ref == entry.ref
        assert await side.mirror.target.confirm("a.next.md", None) is None


@pytest.mark.parametrize("alternates", [True, False])
async def test_a_lost_journal_finds_its_items_again_by_either_name(tmp_path: Path, alternates: bool) -> None:
    async with world(tmp_path, index_delay=DELAY_S) as w:
        side = opened(w)
        await searchable(w, side, "quagga one")
        await searchable(w, side, "quagga two")
        await serve(w, side, 1)
        side.use_alternate(alternates)
        side.lose_journal()
        result = await side.full()
        assert [(a.kind, a.key) for a, _ in result.spill.actions()] == [("adopt", "a.md")]


@pytest.mark.parametrize("lost", [False, True])
async def test_a_crash_between_upload_and_record_leaves_nothing_behind(tmp_path: Path, lost: bool) -> None:
    async with world(tmp_path, index_delay=DELAY_S) as w:
        side = opened(w)
        await searchable(w, side, "quagga one")
        marks = {"sha256": "", "owner": "me", "path": "a.md"}
        side.write("a.md", "quagga two")
        marks["sha256"] = side.mirror.tree.read("a.md")[0].checksum
        await w.upload("a.next.md", "quagga two", **marks)
        if lost:
            side.lose_journal()
        await side.full()
        assert await found(w, "quagga") == {"a.md"}
        for _ in range(3):
            await serve(w, side, DELAY_S)
        assert await held(w) == {"a.next.md": "quagga two"}
        assert (await side.full()).spill.planned.total() == 0


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_an_answer_that_is_lost_is_made_good(tmp_path: Path, method: str) -> None:
    async with world(tmp_path, index_delay=DELAY_S) as w:
        side = opened(w)
        await searchable(w, side, "quagga one")
        side.write("a.md", "quagga two")
        w.wire.plays(method, "", done_but_cut_off)
        await side.hint("a.md")
        for _ in range(3):
            await serve(w, side, DELAY_S)
        assert await held(w) == {"a.next.md": "quagga two"}


async def test_a_file_of_that_name_and_the_other_name_of_a_key_keep_apart(tmp_path: Path) -> None:
    async with world(tmp_path, index_delay=DELAY_S) as w:
        side = opened(w)
        await searchable(w, side, "quagga one")
        await searchable(w, side, "quagga two")
        await serve(w, side, 1)
        await searchable(w, side, "okapi", "a.next.md")
        assert await held(w) == {"a.next.md": "quagga two", "a.next.next.md": "okapi"}
        await searchable(w, side, "quagga three")
        await searchable(w, side, "okapi two", "a.next.md")
        await serve(w, side, 1)
        contents = await held(w)
        assert sorted(contents.values()) == ["okapi two", "quagga three"]
        assert set(side.mirror.journal.keys()) == {"a.md", "a.next.md"}
        assert (await side.full()).spill.planned.total() == 0


async def test_a_key_whose_other_name_is_a_file_is_replaced_in_its_place(tmp_path: Path) -> None:
    async with world(tmp_path, index_delay=DELAY_S, on_existing="conflict") as w:
        side = opened(w)
        await searchable(w, side, "okapi", "a.next.md")
        await searchable(w, side, "quagga one")
        await searchable(w, side, "quagga two")
        assert await held(w) == {"a.md": "quagga two", "a.next.md": "okapi"}
        assert side.mirror.gaps.of("a.md") is not None


async def test_a_file_that_looks_like_another_name_never_takes_its_item_after_the_way_was_changed(
    tmp_path: Path,
) -> None:
    async with world(tmp_path, index_delay=DELAY_S) as w:
        side = opened(w)
        await searchable(w, side, "quagga one")
        await searchable(w, side, "quagga two")
        await serve(w, side, 1)
        side.use_alternate(False)
        await searchable(w, side, "okapi", "a.next.md")
        assert await held(w) == {"a.next.md": "quagga two", "a.next.next.md": "okapi"}


async def test_back_to_replacing_in_place_the_key_is_its_own_name_again(tmp_path: Path) -> None:
    async with world(tmp_path, index_delay=DELAY_S) as w:
        side = opened(w)
        await searchable(w, side, "quagga one")
        await searchable(w, side, "quagga two")
        await serve(w, side, 1)
        side.use_alternate(False)
        side.write("a.md", "quagga three")
        await side.full()
        await side.full()
        assert await found(w, "quagga") == {"a.next.md"}
        await serve(w, side, DELAY_S)
        await side.full()
        assert await held(w) == {"a.md": "quagga three"}


async def test_content_that_cannot_be_indexed_leaves_the_old_item_to_be_found(tmp_path: Path) -> None:
    async with world(tmp_path, index_delay=DELAY_S, fail_index="next") as w:
        side = opened(w)
        await searchable(w, side, "quagga one")
        await searchable(w, side, "quagga two")
        for _ in range(3):
            await serve(w, side, DELAY_S)
            await side.full()
        assert await found(w, "quagga") == {"a.md"}
        assert side.problems() == {"a.md": "index_error"}
        assert side.mirror.queue.every() == []
        side.write("a.md", "quagga three")
        await side.hint("a.md")
        assert await found(w, "quagga") == {"a.md"}


async def test_a_file_that_goes_while_both_are_there_takes_both_along(tmp_path: Path) -> None:
    async with world(tmp_path, index_delay=DELAY_S) as w:
        side = opened(w)
        await searchable(w, side, "okapi", "b.md")
        await searchable(w, side, "quagga one")
        side.write("a.md", "quagga two")
        await side.hint("a.md")
        side.remove("a.md")
        await side.hint("a.md")
        assert await held(w) == {"b.md": "okapi"}


async def test_what_was_replaced_goes_also_where_nothing_is_pruned(tmp_path: Path) -> None:
    async with world(tmp_path, index_delay=DELAY_S) as w:
        side = opened(w, prune="never")
        await searchable(w, side, "quagga one")
        side.write("a.md", "quagga two")
        await side.full()
        await side.full()
        for _ in range(2):
            await serve(w, side, DELAY_S)
        assert await held(w) == {"a.next.md": "quagga two"}


async def test_an_instance_that_takes_no_metadata_has_its_items_replaced_in_place(tmp_path: Path) -> None:
    async with world(tmp_path, metadata="refuse") as w:
        side = opened(w)
        side.write("a.md", "one")
        await side.full()
        side.restart()
        side.write("a.md", "two")
        await side.full()
        assert await held(w) == {"a.md": "two"}
        assert side.problems() == {}


async def test_an_instance_that_shows_no_metadata_has_its_items_replaced_in_place(tmp_path: Path) -> None:
    async with world(tmp_path, list_metadata=False) as w:
        side = opened(w)
        for text in ("one", "two", "three"):
            side.write("a.md", text)
            await side.full()
            assert await held(w) == {"a.md": text}
        assert side.problems() == {}
        assert w.wire.count("DELETE") == 1


async def test_an_upload_whose_answer_alone_lacks_the_metadata_keeps_its_other_name(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = opened(w)
        side.write("a.md", "one")
        await side.full()
        side.write("a.md", "two")
        w.wire.plays("POST", "/items", shows(lambda _, body: body["result"].pop("metadata")))
        await side.hint("a.md")
        assert "a.next.md" in await held(w)
        assert side.problems() == {}


async def test_a_change_and_a_new_file_of_its_other_name_sent_together_keep_apart(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = opened(w)
        side.write("a.md", "quagga")
        await side.full()
        side.write("a.md", "quagga two")
        side.write("a.next.md", "okapi")
        await side.full()
        for _ in range(3):
            await serve(w, side, 1)
        assert sorted((await held(w)).values()) == ["okapi", "quagga two"]
        assert (await side.full()).spill.planned.total() == 0


async def test_an_item_of_somebody_elses_stays_under_either_name(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = opened(w)
        side.write("a.md", "one")
        await side.full()
        await w.upload("a.next.md", "theirs", owner="them", path="a.md")
        side.write("a.md", "two")
        await side.full()
        assert await held(w) == {"a.md": "two", "a.next.md": "theirs"}
        assert side.problems() == {}


async def test_a_new_file_costs_one_request_and_a_changed_one_four(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = opened(w)
        side.write("b.md", "okapi")
        await side.full()
        w.wire.diary.clear()
        side.write("a.md", "one")
        await side.full()
        assert w.wire.count("POST") == 1
        assert w.wire.count("GET", "/items") == 1
        w.wire.diary.clear()
        side.write("a.md", "two")
        await side.hint("a.md")
        w.clock.now += 1
        await reconcile(side.mirror, Scope(side.mirror.queue.settled(w.clock.now)), Options())
        assert sorted(line.split()[0] for line in w.wire.diary) == ["DELETE", "GET", "GET", "GET", "POST"]


async def test_a_refused_upload_is_no_gap(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = opened(w)
        side.write("a.md", "one")
        await side.full()
        side.write("a.md", "two")
        w.wire.plays("POST", "/items", answers(400, 7060))
        await side.full()
        assert await held(w) == {"a.md": "one"}
        assert side.mirror.gaps.summary() is None


@pytest.mark.parametrize(
    ("key", "other"),
    [
        ("x.md", "x.next.md"),
        ("a.b/x.md", "a.b/x.next.md"),
        ("logs/day.log.gz", "logs/day.next.log.gz"),
        ("two.py.md", "two.py.next.md"),
        ("UPPER.MD", "UPPER.next.MD"),
        (".gitignore", ".next.gitignore"),
        ("x.next.md", "x.next.next.md"),
        ("a" * 120 + ".md", "a" * 120 + ".next.md"),
    ],
)
def test_the_other_name_ends_as_the_key_does(key: str, other: str) -> None:
    assert alternate(key) == other
    assert may_be_another(other)
    assert alternate_of(other, key) == key
    assert alternate_of(other, None) == alternate_of(other, 7) == other


@pytest.mark.parametrize("name", ["x.md", "y.next.md", "x.next.txt", "x.next.next.md"])
def test_a_name_that_does_not_fit_its_mark_is_a_key_of_its_own(name: str) -> None:
    assert alternate_of(name, "x.md") == name


@pytest.mark.parametrize(("length", "count"), [(NAME_LENGTH - 6, 2), (NAME_LENGTH - 5, 2), (NAME_LENGTH - 4, 1)])
def test_a_key_too_long_for_another_name_has_one(length: int, count: int) -> None:
    assert len(names("a" * (length - 3) + ".md")) == count


@pytest.mark.parametrize("key", ["x.md", "next.md", "a.next/x.md", "x.next.b.md"])
def test_most_keys_are_no_other_name(key: str) -> None:
    assert not may_be_another(key)
