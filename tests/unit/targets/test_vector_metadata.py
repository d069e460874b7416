"""Metadata fields of vectors."""

from dataclasses import replace
from pathlib import Path

from syncd.targets.base import Usage
from syncd.targets.vectorize.index import VectorStore
from syncd.targets.vectorize.target import VectorizeTarget
from tests.unit.targets.harness_vectorize import MirrorFixture, open_harness

TEXT = "---\ntitle: Front\nsection: Guides\n---\n# Heading\n\nA zebra crossing.\n"


def index_of(fixture: MirrorFixture) -> VectorStore:
    assert isinstance(fixture.mirror.target, VectorizeTarget)
    return fixture.mirror.target.index


async def test_fields_go_into_every_vector_and_get_an_index(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror(metadata={"name": "title", "folder": "folder", "section": "front:section"})
        fixture.write("docs/a.md", TEXT)
        fixture.write("b.md", "A zebra.")
        await fixture.full()
        h.clock.now += 60
        indexed = set(await index_of(fixture).api.list_metadata_indexes())
        assert indexed == {"owner", "name", "folder", "section"}
        assert await fixture.mirror.target.advice() == ()
        hits = {hit.key: hit for hit in await fixture.searchable.search("zebra", 5)}
        assert {key: hit.title for key, hit in hits.items()} == {"docs/a.md": "Front", "b.md": "b"}
        assert [hit.key for hit in await fixture.searchable.search("zebra", 5, "docs/")] == ["docs/a.md"]
        for filters, folder, found in (
            ({"name": "Front"}, "", ["docs/a.md"]),
            ({"name": "b"}, "docs/", []),
            ({"name": {"$in": ["b", "Front"]}}, "docs/", ["docs/a.md"]),
            # The owner of the mirror counts, and not another one that a filter names.
            ({"owner": "someone else", "name": "b"}, "", ["b.md"]),
        ):
            assert [hit.key for hit in await fixture.searchable.search("zebra", 5, folder, filters)] == found
        [vector] = [
            each for each in await index_of(fixture).read(list(await h.ids())) if each.metadata["key"] != "b.md"
        ]
        assert (vector.metadata["folder"], vector.metadata["section"]) == ("docs/", "Guides")


async def test_the_use_of_the_index_and_of_the_account_is_counted(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror()
        usage = fixture.mirror.target.usage
        indexes = Usage("Vectorize indexes", 0, 100, 50_000, 1, of_account=True)
        empty = Usage("vectors in the index", 0, 20_000_000, 20_000_000)
        assert await usage(account=False) == [empty, indexes]
        fixture.write("a.md", TEXT)
        await fixture.full()
        h.clock.now += 60
        vectors = replace(empty, used=len(await h.ids()))
        assert await usage(account=False) == [vectors]
        assert await usage(account=True) == [vectors, replace(indexes, used=1, to_come=0)]


async def test_another_map_embeds_nothing_and_an_index_that_lacks_one_is_advised_of(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror(metadata={})
        fixture.write("a.md", TEXT)
        await fixture.full()
        h.clock.now += 60
        embedded = h.embedded
        fixture.use(metadata={"name": "title"})
        assert (await fixture.full()).tables.plan.counts.total() == 0
        assert h.embedded == embedded
        [advice] = await fixture.mirror.target.advice()
        assert "no metadata index on name:" in advice.message


async def test_the_largest_fields_leave_room_for_the_text(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror(metadata={f"f{at}": "front:x" for at in range(9)})
        fixture.write("a.md", f"---\nx: {'y' * 900}\n---\n# A\n\n" + "word " * 60)
        assert not (await fixture.full()).problems
        h.clock.now += 60
        [vector] = await index_of(fixture).read(list(await h.ids()))
        assert sum(name.startswith("f") for name in vector.metadata) == 9
        assert vector.metadata["text"].count("word") == 60
