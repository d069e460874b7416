"""Metadata fields of AI Search: title and others, and instances that refuse them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from syncd.emulator.ai_search_index import MAX_METADATA_SIZE
from syncd.targets.ai_search.writing import METADATA_LIMIT
from tests.unit.targets.harness_ai_search import INSTANCES, ITEMS, Harness, open_harness

FIELDS = {"title": "title", "description": "description", "modified": "modified"}
GUIDE = "---\ndescription: How to begin\n---\n# The guide\n\nA zebra crossing.\n"
CUSTOM = {"title", "description", "modified"}


async def shown(h: Harness, key: str) -> dict[str, Any]:
    """Return an item's metadata without the fields of the service."""
    [item] = [item for item in await h.items() if item["key"] == key]
    return {name: value for name, value in item["metadata"].items() if name not in {"timestamp", "filename", "folder"}}


async def test_title_description_and_time_go_up_with_the_marks(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror(fields=FIELDS)
        fixture.write("docs/guide.md", GUIDE)
        await fixture.full()
        metadata = await shown(h, "docs/guide.md")
        assert (metadata["title"], metadata["description"], metadata["owner"]) == ("The guide", "How to begin", "me")
        assert metadata["modified"].endswith("Z")
        assert len(metadata["sha256"]) == 64
        assert h.wire.count("POST", "/items") == 1


async def test_neither_a_new_map_nor_a_new_time_sends_the_same_bytes_again(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror()
        fixture.write("a.md", "# A\n\ntext")
        await fixture.full()
        fixture.marks = replace(fixture.marks, fields=FIELDS)
        fixture.restart()
        fixture.write("a.md", "# A\n\ntext", age_s=3600)
        assert (await fixture.full()).tables.plan.counts["put"] == 0
        assert not CUSTOM & (await shown(h, "a.md")).keys()
        fixture.write("a.md", "# B")
        await fixture.full()
        assert (await shown(h, "a.md"))["title"] == "B"


async def test_an_instance_that_is_made_declares_marks_and_fields(tmp_path: Path) -> None:
    async with open_harness(tmp_path, instance=False) as h:
        fixture = h.add_mirror(create=True, fields=FIELDS)
        fixture.write("a.md", "# A\n\ntext")
        await fixture.full()
        made = (await h.stranger.get(f"{INSTANCES}/docs")).json()["result"]["custom_metadata"]
        types = {"sha256": "text", "owner": "text", "title": "text", "description": "text", "modified": "datetime"}
        assert {field["field_name"]: field["data_type"] for field in made} == types
        assert "metadata" not in {advice.about for advice in await fixture.mirror.target.advice()}
        wish = {"title": {"$eq": "A"}, "modified": {"$gte": "2020-01-01T00:00:00Z"}}
        found = await h.stranger.get(ITEMS, params={"metadata_filter": json.dumps(wish)})
        assert [item["key"] for item in found.json()["result"]] == ["a.md"]


async def test_undeclared_fields_are_kept_and_named_in_the_advice(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror(fields={"title": "title"})
        fixture.write("a.md", "# A\n\ntext")
        await fixture.full()
        [advice] = [each for each in await fixture.mirror.target.advice() if each.about == "metadata"]
        assert "does not declare sha256, owner, title:" in advice.message
        assert advice.remedy
        assert "title text" in (advice.remedy or "")
        assert (await shown(h, "a.md"))["title"] == "A"


@pytest.mark.parametrize(
    ("manner", "kept", "tries"), [("keep", {"title"}, 2), ("declared", {"sha256", "owner"}, 3), ("refuse", set(), 4)]
)
async def test_refused_metadata_is_left_out_marks_last(tmp_path: Path, manner: str, kept: set[str], tries: int) -> None:
    async with open_harness(tmp_path, metadata=manner, instance=False) as h:
        marks = [{"field_name": name, "data_type": "text"} for name in ("sha256", "owner")]
        await h.stranger.post(INSTANCES, json={"id": "docs", "custom_metadata": marks})
        fixture = h.add_mirror(fields={"title": "title"})
        fixture.write("a.md", "# A\n\ntext")
        await fixture.full()
        fixture.write("b.md", "# B\n\ntext")
        result = await fixture.full()
        assert h.wire.count("POST", "/items") == tries, "refused metadata is not offered again"
        assert kept <= (await shown(h, "b.md")).keys()
        assert (await shown(h, "b.md")).keys() <= kept | {"sha256", "owner"}
        assert (await fixture.full()).tables.plan.counts.total() == 0
        assert not result.problems


async def test_every_value_is_a_text(tmp_path: Path) -> None:
    async with open_harness(tmp_path, metadata="texts") as h:
        fixture = h.add_mirror(fields=FIELDS | {"n": "front:n"})
        fixture.write("a.md", "---\nn: 7\n---\n# A\n\ntext")
        await fixture.full()
        assert (await shown(h, "a.md"))["n"] == "7"
        assert h.wire.count("POST", "/items") == 1


async def test_the_largest_metadata_is_taken(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror(prefix="p/", fields={f"f{at}": "front:x" for at in range(3)})
        fixture.shorten()
        fixture.write(
            "\u65e5" * 60 + "/" + "/".join(["\U0001f600" * 60] * 8) + ".md", "---\nx: '" + '"' * 500 + "'\n---\n# A"
        )
        await fixture.full()
        [item] = await h.items()
        assert set(item["metadata"]) > {"f0", "f1", "f2", "path"}
        assert METADATA_LIMIT + 1024 == MAX_METADATA_SIZE


async def test_bad_front_matter_stops_nothing(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror(fields=FIELDS)
        fixture.write("a.md", "---\na: [\n---\n# A\n\ntext")
        fixture.write("b.pdf", b"\x00\xff")
        assert not (await fixture.full()).problems
        assert (await shown(h, "a.md"))["title"] == "A"
        assert (await shown(h, "b.pdf"))["title"] == "b"


async def test_a_hit_knows_its_title_and_a_search_may_stay_in_a_folder(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror(fields={"name": "title"})
        folders = ["docs", "docs0", "docs-old", "docs/deep", "x" * 70, "x" * 70 + "/deep", "x" * 69 + "y"]
        for folder in folders:
            fixture.write(f"{folder}/a.md", GUIDE)
        await fixture.full()
        h.clock.now += 10

        async def keys(folder: str) -> set[str]:
            return {hit.key for hit in await fixture.searchable.search("zebra", 20, folder)}

        assert await keys("docs/") == {"docs/a.md", "docs/deep/a.md"}
        assert await keys("x" * 70 + "/") == {"x" * 70 + "/a.md", "x" * 70 + "/deep/a.md"}
        assert len(await keys("")) == len(folders)
        assert {hit.title for hit in await fixture.searchable.search("zebra", 20)} == {"The guide"}
        for filters, number in (({"timestamp": {"$gt": 0}}, 2), ({"timestamp": {"$lt": 0}}, 0)):
            assert len(await fixture.searchable.search("zebra", 20, "docs/", filters)) == number
