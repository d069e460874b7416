"""What each vector says of its file besides its text."""

from pathlib import Path

from syncd.targets.vectorize.index import VectorStore
from syncd.targets.vectorize.target import VectorizeTarget
from tests.unit.targets.harness_vectorize import Side, world

TEXT = "---\ntitle: Front\nsection: Guides\n---\n# Heading\n\nA zebra crossing.\n"


def index_of(side: Side) -> VectorStore:
    assert isinstance(side.mirror.target, VectorizeTarget)
    return side.mirror.target.index


async def test_fields_go_into_every_vector_and_get_an_index(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side(metadata={"name": "title", "folder": "folder", "section": "front:section"})
        side.write("docs/a.md", TEXT)
        side.write("b.md", "A zebra.")
        await side.full()
        w.clock.now += 60
        indexed = {each.property_name for each in await index_of(side).api.list_metadata_indexes()}
        assert indexed == {"owner", "name", "folder", "section"}
        assert await side.mirror.target.advice() == ()
        hits = {hit.key: hit for hit in await side.searchable.search("zebra", 5)}
        assert {key: hit.title for key, hit in hits.items()} == {"docs/a.md": "Front", "b.md": "b"}
        assert [hit.key for hit in await side.searchable.search("zebra", 5, "docs/")] == ["docs/a.md"]
        [vector] = [each for each in await index_of(side).read(list(await w.ids())) if each.metadata["key"] != "b.md"]
        assert (vector.metadata["folder"], vector.metadata["section"]) == ("docs/", "Guides")


async def test_another_map_embeds_nothing_and_an_index_that_lacks_one_is_advised_of(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side(metadata={})
        side.write("a.md", TEXT)
        await side.full()
        w.clock.now += 60
        embedded = w.embedded
        side.use(metadata={"name": "title"})
        assert (await side.full()).tables.plan.counts.total() == 0
        assert w.embedded == embedded
        [advice] = await side.mirror.target.advice()
        assert "no metadata index on name:" in advice.message


async def test_the_largest_fields_leave_room_for_the_text(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side(metadata={f"f{at}": "front:x" for at in range(9)})
        side.write("a.md", f"---\nx: {'y' * 900}\n---\n# A\n\n" + "word " * 60)
        assert not (await side.full()).problems
        w.clock.now += 60
        [vector] = await index_of(side).read(list(await w.ids()))
        assert sum(name.startswith("f") for name in vector.metadata) == 9
        assert vector.metadata["text"].count("word") == 60
