"""What passes over a Vectorize index cost, and where they end: the ids in it are those that the folder gives."""

from pathlib import Path

import pytest

from syncd.sync import index
from syncd.sync.passes import Scope
from syncd.sync.reconcile import reconcile
from syncd.targets.vectorize.target import VectorizeTarget
from tests.unit.targets.harness_vectorize import Side, World, world

SECTION = "## Section {n}\n\nThis is what section {n} says about {word}, in a sentence or two.\n\n"
WORDS = ("anchors", "boats", "currents", "docks", "eddies")


def guide(sections: int, **changed: str) -> str:
    """A Markdown file; changed: words of single sections, by "s" and their number."""
    text = "".join(
        SECTION.format(n=n, word=changed.get(f"s{n}", WORDS[n % len(WORDS)] + str(n))) for n in range(sections)
    )
    return f"# Guide\n\n{text}"


async def in_step(w: World, **files: str) -> Side:
    side = w.side(chunk_size=400, chunk_overlap=50)
    for name, text in files.items():
        side.write(name + ".md", text)
    await side.full()
    assert await w.ids() == side.expected()
    w.wire.diary.clear()
    return side


async def test_the_index_is_made_and_holds_what_the_folder_gives(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side(chunk_size=400, chunk_overlap=50)
        side.write("guide.md", guide(20))
        side.write("deep/er/notes.txt", "One paragraph.\n\nAnother one.\n")
        side.write("empty.md", "")
        side.write("blank.md", " \n\n")
        side.write("picture.png", b"\x89PNG")
        side.write("latin.txt", "café".encode("latin-1"))
        result = await side.full()
        assert result.done["put"] == 2
        assert side.problems() == {
            "empty.md": "empty",
            "blank.md": "empty",
            "picture.png": "unsupported_type",
            "latin.txt": "unsupported_type",
        }
        ids = await w.ids()
        assert ids == side.expected()
        assert len(ids) > 20


async def test_a_pass_with_nothing_to_do_is_one_listing(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = await in_step(w, a=guide(5), b=guide(30))
        await side.full()
        w.wire.diary.clear()
        embedded = w.embedded
        result = await side.full()
        assert (result.tables.plan.counts.total(), result.unchanged, result.files_read) == (0, 2, 0)
        assert len(w.wire.diary) == 1
        assert w.wire.diary[0].endswith("/list")
        assert w.embedded == embedded


async def test_an_edit_of_one_section_of_two_hundred_embeds_two_pieces_at_most(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = await in_step(w, guide=guide(200))
        before, embedded = await w.ids(), w.embedded
        side.write("guide.md", guide(200, s100="nothing that was said before"))
        result = await side.full()
        assert result.done["put"] == 1
        assert 1 <= w.embedded - embedded <= 2
        assert await w.ids() == side.expected() != before


async def test_a_file_renamed_shortened_and_deleted_leaves_nothing_behind(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = await in_step(w, guide=guide(60), other=guide(3))
        embedded = w.embedded
        (side.root / "guide.md").rename(side.root / "manual.md")
        assert (await side.full()).waiting == 1
        assert side.expected() < await w.ids(), "the old vectors stay until the new ones are processed"
        w.clock.now += 60
        await index.poll(side.mirror)
        await reconcile(side.mirror, Scope(side.mirror.queue.settled(w.clock.now)))
        assert await w.ids() == side.expected()
        assert w.embedded == embedded, "the same texts have the same vectors"
        side.write("manual.md", guide(2))
        await side.full()
        assert await w.ids() == side.expected()
        side.remove("manual.md")
        await side.full()
        assert await w.ids() == side.expected()
        assert len(await w.ids()) < 10


async def test_hints_do_the_same(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = await in_step(w, guide=guide(10))
        side.write("new.md", guide(4))
        assert (await side.hint("new.md")).done["put"] == 1
        side.write("guide.md", guide(11))
        assert (await side.hint("guide.md")).done["put"] == 1
        assert await w.ids() == side.expected()
        side.remove("guide.md")
        assert (await side.hint("guide.md")).done["delete"] == 1
        assert await w.ids() == side.expected()


async def test_without_journal_and_memory_nothing_is_embedded_that_the_index_proves(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = await in_step(w, a=guide(30), b=guide(3), c="# Short\n\nVery.\n")
        embedded, changing = w.embedded, w.changing
        side.remove("c.md")
        side.lose_journal()
        result = await side.full()
        assert (result.done["adopt"], result.done["put"], result.done["delete"]) == (2, 0, 1)
        assert w.embedded == embedded
        assert w.changing == changing + 1
        assert await w.ids() == side.expected()
        assert (await side.full()).tables.plan.counts.total() == 0


async def test_a_vector_that_is_missing_is_made_up_for_from_memory(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = await in_step(w, a=guide(30))
        embedded = w.embedded
        await w.drop(sorted(await w.ids())[7])
        w.clock.now += 10
        result = await side.full()
        assert result.done["put"] == 1
        assert w.embedded == embedded
        assert await w.ids() == side.expected()
        assert (await side.full()).tables.plan.counts.total() == 0


async def test_all_vectors_of_a_file_gone_brings_them_back(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = await in_step(w, a=guide(30), b=guide(2))
        await w.drop(*sorted(await w.ids()))
        w.clock.now += 10
        assert (await side.full()).done["put"] == 2
        assert await w.ids() == side.expected()


@pytest.mark.parametrize("lag", [0.0, 3.0, 45.0])
async def test_what_the_index_has_not_processed_yet_is_not_sent_again(tmp_path: Path, lag: float) -> None:
    async with world(tmp_path, mutation_lag=lag) as w:
        side = w.side(chunk_size=400, chunk_overlap=50)
        side.write("a.md", guide(5))
        side.write("b.md", guide(6))
        await side.full()
        changing = w.changing
        assert (await side.full()).tables.plan.counts.total() == 0
        side.remove("b.md")
        await side.full()
        assert w.changing == changing + 1
        for _ in range(3):
            assert (await side.full()).tables.plan.counts.total() == 0
        side.write("b.md", guide(6))
        assert (await side.full()).done["put"] == 1
        for _ in range(3):
            assert (await side.full()).tables.plan.counts.total() == 0
        assert await w.ids() == side.expected()


async def test_strangers_vectors_are_left_alone_unless_all_is_to_be_pruned(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = await in_step(w, a=guide(2))
        await w.put("a.md")
        await w.put("3f2504e0-4f89-11d3-9a0c-0305e82c3301")
        w.clock.now += 10
        assert (await side.full()).tables.plan.counts.total() == 0
        side.section = side.section.model_copy(update={"prune": "all"})
        side.use()
        assert (await side.full()).done["delete"] == 2
        assert await w.ids() == side.expected()
        assert (await side.full()).tables.plan.counts.total() == 0


async def test_two_mirrors_share_an_index_without_touching_each_other(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        me, you, prefixed = w.side("me"), w.side("you"), w.side("third", owner="me", prefix="p/")
        for side in (me, you, prefixed):
            side.write("same.md", guide(3))
            side.write("left.md", "# Left\n\nAlone.\n")
            side.write("own.md", f"# Of {side.name}\n\nNobody else's.\n")
            await side.full()
            w.clock.now += 10
        for side in (me, you, prefixed):
            side.lose_journal()
            assert (await side.full()).done == {"adopt": 3}
        me.remove("same.md", "own.md")
        await me.full()
        assert await w.ids() == me.expected() | you.expected() | prefixed.expected()


async def test_takeover_replaces_the_vectors_of_another_owner(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        you = w.side("you")
        you.write("same.md", guide(3))
        you.write("theirs.md", "# Theirs\n\nAlone.\n")
        await you.full()
        me = w.side("me")
        me.write("same.md", guide(3))
        w.clock.now += 10
        await me.full()
        w.clock.now += 10
        assert await w.ids() == you.expected() | me.expected()
        me.use(takeover=True)
        await me.full()
        theirs = await w.ids() - me.expected()
        assert theirs
        assert theirs < you.expected()


@pytest.mark.parametrize("ahead_s", [-3600.0, -40.0, 40.0, 3600.0])
async def test_a_clock_that_is_wrong_has_nothing_sent_again(tmp_path: Path, ahead_s: float) -> None:
    async with world(tmp_path, mutation_lag=45.0) as w:
        side = w.side(chunk_size=400, chunk_overlap=50)
        target = side.mirror.target
        assert isinstance(target, VectorizeTarget)
        side.mirror.now = target.index.mutations.clock = lambda: w.clock() + ahead_s
        side.write("a.md", guide(5))
        side.write("b.md", guide(6))
        await side.full()
        for _ in range(3):
            assert (await side.full()).tables.plan.counts.total() == 0
        side.remove("b.md")
        assert (await side.full()).done["delete"] == 1
        # Somebody else's later change takes the place of ours as the last one that was processed.
        await w.put("3f2504e0-4f89-11d3-9a0c-0305e82c3301")
        for _ in range(8):
            assert (await side.full()).tables.plan.counts.total() == 0
        assert await target.index.mutations.processed()
        assert side.expected() < await w.ids()
