"""Passes over a Vectorize index: their number of requests, and the ids at their end."""

from pathlib import Path

import pytest

from syncd.sync import index
from syncd.sync.mirror import Scope
from syncd.sync.reconcile import reconcile
from syncd.targets.vectorize.index import LATER_S
from syncd.targets.vectorize.target import VectorizeTarget
from tests.unit.targets.harness_vectorize import Harness, MirrorFixture, open_harness

SECTION = "## Section {n}\n\nThis is what section {n} says about {word}, in a sentence or two.\n\n"
WORDS = ("anchors", "boats", "currents", "docks", "eddies")


def guide(sections: int, **changed: str) -> str:
    """Return a Markdown file. changed: other words of single sections, by "s" and the number."""
    text = "".join(
        SECTION.format(n=n, word=changed.get(f"s{n}", WORDS[n % len(WORDS)] + str(n))) for n in range(sections)
    )
    return f"# Guide\n\n{text}"


async def in_step(h: Harness, **files: str) -> MirrorFixture:
    fixture = h.add_mirror(chunk_size=400, chunk_overlap=50)
    for name, text in files.items():
        fixture.write(name + ".md", text)
    await fixture.full()
    assert await h.ids() == fixture.expected()
    h.wire.diary.clear()
    return fixture


async def test_the_index_is_created_and_holds_the_vectors_of_the_folder(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror(chunk_size=400, chunk_overlap=50)
        fixture.write("guide.md", guide(20))
        fixture.write("deep/er/notes.txt", "One paragraph.\n\nAnother one.\n")
        fixture.write("empty.md", "")
        fixture.write("blank.md", " \n\n")
        fixture.write("picture.png", b"\x89PNG")
        fixture.write("latin.txt", "café".encode("latin-1"))
        result = await fixture.full()
        assert result.done["put"] == 2
        assert fixture.problems() == {
            "empty.md": "empty",
            "blank.md": "empty",
            "picture.png": "unsupported_type",
            "latin.txt": "unsupported_type",
        }
        ids = await h.ids()
        assert ids == fixture.expected()
        assert len(ids) > 20


async def test_vectors_stay_ours_while_another_owner_is_configured_for_some_time(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = await in_step(h, same=guide(2), edited=guide(5), gone=guide(3))
        await fixture.full()
        first = fixture.section
        fixture.section = first.model_copy(update={"owner": "you"})
        fixture.use()
        await fixture.full()
        assert fixture.problems() == dict.fromkeys(["same.md", "edited.md", "gone.md"], "foreign")
        fixture.section = first
        fixture.use()
        fixture.write("edited.md", guide(4, s1="other"))
        (fixture.root / "gone.md").unlink()
        await fixture.full()
        assert fixture.problems() == {}
        assert await h.ids() == fixture.expected()


async def test_a_pass_with_nothing_to_do_is_one_listing(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = await in_step(h, a=guide(5), b=guide(30))
        await fixture.full()
        h.wire.diary.clear()
        embedded = h.embedded
        result = await fixture.full()
        assert (result.tables.plan.counts.total(), result.unchanged, result.files_read) == (0, 2, 0)
        assert len(h.wire.diary) == 1
        assert h.wire.diary[0].endswith("/list")
        assert h.embedded == embedded


async def test_an_edit_of_one_section_of_two_hundred_embeds_two_pieces_at_most(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = await in_step(h, guide=guide(200))
        before, embedded = await h.ids(), h.embedded
        fixture.write("guide.md", guide(200, s100="nothing that was said before"))
        result = await fixture.full()
        assert result.done["put"] == 1
        assert 1 <= h.embedded - embedded <= 2
        assert await h.ids() == fixture.expected() != before


async def test_a_file_renamed_shortened_and_deleted_leaves_nothing_behind(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = await in_step(h, guide=guide(60), other=guide(3))
        embedded = h.embedded
        (fixture.root / "guide.md").rename(fixture.root / "manual.md")
        assert (await fixture.full()).waiting == 1
        assert fixture.expected() < await h.ids(), "the old vectors stay until the new ones are processed"
        h.clock.now += 60
        await index.poll(fixture.mirror)
        await reconcile(fixture.mirror, Scope(fixture.mirror.queue.settled(h.clock.now)))
        assert await h.ids() == fixture.expected()
        assert h.embedded == embedded, "the same texts have the same vectors"
        fixture.write("manual.md", guide(2))
        await fixture.full()
        assert await h.ids() == fixture.expected()
        fixture.remove("manual.md")
        await fixture.full()
        assert await h.ids() == fixture.expected()
        assert len(await h.ids()) < 10


async def test_hints_give_the_same_result_as_a_full_pass(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = await in_step(h, guide=guide(10))
        fixture.write("new.md", guide(4))
        assert (await fixture.hint("new.md")).done["put"] == 1
        fixture.write("guide.md", guide(11))
        assert (await fixture.hint("guide.md")).done["put"] == 1
        assert await h.ids() == fixture.expected()
        fixture.remove("guide.md")
        assert (await fixture.hint("guide.md")).done["delete"] == 1
        assert await h.ids() == fixture.expected()


async def test_without_journal_and_memory_nothing_is_embedded_that_the_index_proves(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = await in_step(h, a=guide(30), b=guide(3), c="# Short\n\nVery.\n")
        embedded, changing = h.embedded, h.changing
        fixture.remove("c.md")
        fixture.lose_journal()
        result = await fixture.full()
        assert (result.done["adopt"], result.done["put"], result.done["delete"]) == (2, 0, 1)
        assert h.embedded == embedded
        assert h.changing == changing + 1
        assert await h.ids() == fixture.expected()
        assert (await fixture.full()).tables.plan.counts.total() == 0


async def test_a_missing_vector_is_written_again_from_the_cache(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = await in_step(h, a=guide(30))
        embedded = h.embedded
        await h.drop(sorted(await h.ids())[7])
        h.clock.now += 10
        result = await fixture.full()
        assert result.done["put"] == 1
        assert h.embedded == embedded
        assert await h.ids() == fixture.expected()
        assert (await fixture.full()).tables.plan.counts.total() == 0


async def test_all_vectors_of_a_file_gone_brings_them_back(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = await in_step(h, a=guide(30), b=guide(2))
        h.clock.now += LATER_S
        await h.drop(*sorted(await h.ids()))
        h.clock.now += 10
        assert (await fixture.full()).done["put"] == 2
        assert await h.ids() == fixture.expected()


@pytest.mark.parametrize("lag", [0.0, 3.0, 45.0])
async def test_changes_that_the_index_has_not_processed_are_not_sent_again(tmp_path: Path, lag: float) -> None:
    async with open_harness(tmp_path, mutation_lag=lag) as h:
        fixture = h.add_mirror(chunk_size=400, chunk_overlap=50)
        fixture.write("a.md", guide(5))
        fixture.write("b.md", guide(6))
        await fixture.full()
        changing = h.changing
        assert (await fixture.full()).tables.plan.counts.total() == 0
        fixture.remove("b.md")
        await fixture.full()
        assert h.changing == changing + 1
        for _ in range(3):
            assert (await fixture.full()).tables.plan.counts.total() == 0
        fixture.write("b.md", guide(6))
        assert (await fixture.full()).done["put"] == 1
        for _ in range(3):
            assert (await fixture.full()).tables.plan.counts.total() == 0
        assert await h.ids() == fixture.expected()


async def test_strangers_vectors_are_left_alone_unless_all_is_to_be_pruned(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = await in_step(h, a=guide(2))
        await h.put("a.md")
        await h.put("3f2504e0-4f89-11d3-9a0c-0305e82c3301")
        h.clock.now += 10
        assert (await fixture.full()).tables.plan.counts.total() == 0
        fixture.section = fixture.section.model_copy(update={"prune": "all"})
        fixture.use()
        assert (await fixture.full()).done["delete"] == 2
        assert await h.ids() == fixture.expected()
        assert (await fixture.full()).tables.plan.counts.total() == 0


async def test_two_mirrors_share_an_index_without_touching_each_other(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        me, you, prefixed = h.add_mirror("me"), h.add_mirror("you"), h.add_mirror("third", owner="me", prefix="p/")
        for fixture in (me, you, prefixed):
            fixture.write("same.md", guide(3))
            fixture.write("left.md", "# Left\n\nAlone.\n")
            fixture.write("own.md", f"# Of {fixture.name}\n\nNobody else's.\n")
            await fixture.full()
            h.clock.now += 10
        for fixture in (me, you, prefixed):
            fixture.lose_journal()
            assert (await fixture.full()).done == {"adopt": 3}
        me.remove("same.md", "own.md")
        await me.full()
        assert await h.ids() == me.expected() | you.expected() | prefixed.expected()


async def test_takeover_replaces_the_vectors_of_another_owner(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        you = h.add_mirror("you")
        you.write("same.md", guide(3))
        you.write("theirs.md", "# Theirs\n\nAlone.\n")
        await you.full()
        me = h.add_mirror("me")
        me.write("same.md", guide(3))
        h.clock.now += 10
        await me.full()
        h.clock.now += 10
        assert await h.ids() == you.expected() | me.expected()
        me.use(takeover=True)
        await me.full()
        theirs = await h.ids() - me.expected()
        assert theirs
        assert theirs < you.expected()


@pytest.mark.parametrize("after_s", [10.0, 20.0, 50.0])
async def test_an_earlier_change_of_another_writer_that_is_processed_late_proves_nothing(
    tmp_path: Path, after_s: float
) -> None:
    async with open_harness(tmp_path, mutation_lag=58.0) as h:
        fixture = await in_step(h, a=guide(5), b=guide(6))
        h.clock.now += 90
        await fixture.full()
        fixture.remove("b.md")
        began = h.clock.now
        await h.put("3f2504e0-4f89-11d3-9a0c-0305e82c3301")
        h.clock.now = began + after_s
        assert (await fixture.full()).done["delete"] == 1
        # The index has processed the other change. It still shows the vectors that it is about to delete.
        h.clock.now = began + 59
        fixture.write("b.md", guide(6))
        await fixture.full()
        assert fixture.expected() < await h.ids()


@pytest.mark.parametrize("ahead_s", [-3600.0, -40.0, 40.0, 3600.0])
async def test_a_clock_that_is_wrong_has_nothing_sent_again(tmp_path: Path, ahead_s: float) -> None:
    async with open_harness(tmp_path, mutation_lag=45.0) as h:
        fixture = h.add_mirror(chunk_size=400, chunk_overlap=50)
        target = fixture.mirror.target
        assert isinstance(target, VectorizeTarget)
        fixture.mirror.now = target.index.mutations.clock = lambda: h.clock() + ahead_s
        fixture.write("a.md", guide(5))
        fixture.write("b.md", guide(6))
        await fixture.full()
        for _ in range(3):
            assert (await fixture.full()).tables.plan.counts.total() == 0
        fixture.remove("b.md")
        assert (await fixture.full()).done["delete"] == 1
        # A later change of somebody else replaces ours as the last processed one.
        h.clock.now += LATER_S
        await h.put("3f2504e0-4f89-11d3-9a0c-0305e82c3301")
        for _ in range(8):
            assert (await fixture.full()).tables.plan.counts.total() == 0
        assert await target.index.mutations.processed()
        assert fixture.expected() < await h.ids()
