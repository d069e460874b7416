"""AI Search after the first pass: quiet second passes, lost journals, listings that lag and shift."""

from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.harness import reasons
from tests.unit.targets.harness_ai_search import ITEMS, Harness, MirrorFixture, open_harness, shows

MARKS: list[dict[str, Any]] = [
    {},
    {"list_metadata": False},
    {"metadata": "refuse"},
    {"metadata": "refuse", "list_metadata": False},
]
MANNERS: list[dict[str, Any]] = [
    {"checksum": checksum, **marks} for checksum, marks in product(("opaque", "zero", "md5", "sha256"), MARKS)
]


def name_of(manners: dict[str, Any]) -> str:
    return " ".join(f"{value}" for value in manners.values())


every_manner = pytest.mark.parametrize("manners", MANNERS, ids=name_of)


def downloads(h: Harness) -> int:
    return h.wire.count("GET", "/download")


async def in_step(h: Harness, *names: str, **options: Any) -> MirrorFixture:
    """Return a mirror that has uploaded these old files and has nothing to do."""
    fixture = h.add_mirror(**options)
    for name in names:
        fixture.write(name, f"text of {name}", age_s=60)
    result = await fixture.full()
    assert result.done == {"put": len(names)}
    h.wire.diary.clear()
    return fixture


@every_manner
async def test_a_second_pass_sends_nothing_reads_nothing_and_downloads_nothing(
    tmp_path: Path, manners: dict[str, Any]
) -> None:
    async with open_harness(tmp_path, index_delay=2, **manners) as h:
        fixture = await in_step(h, "a.md", "b/c.md", "d.txt")
        for seconds in (0, 1, 5):
            h.clock.now += seconds
            result = await fixture.full()
            assert (result.unchanged, result.files_read, result.problems) == (3, 0, {})
            assert result.tables.plan.counts.total() == 0
        assert h.wire.diary == ["GET /items"] * 3


@every_manner
async def test_a_second_pass_after_an_edit_is_as_quiet(tmp_path: Path, manners: dict[str, Any]) -> None:
    async with open_harness(tmp_path, on_existing="conflict", **manners) as h:
        fixture = await in_step(h, "a.md", "b.md")
        fixture.write("a.md", "edited", age_s=30)
        await fixture.hint("a.md")
        h.wire.diary.clear()
        assert (await fixture.full()).unchanged == 2
        assert h.wire.diary == ["GET /items"]


@every_manner
async def test_after_a_lost_journal_nothing_is_uploaded_again(tmp_path: Path, manners: dict[str, Any]) -> None:
    async with open_harness(tmp_path, **manners) as h:
        fixture = await in_step(h, "a.md", "b/c.md", "d.txt")
        before, changing = await h.items(), fixture.changing
        fixture.lose_journal()
        result = await fixture.full()
        assert result.done == {"adopt": 3}
        assert fixture.changing == changing
        assert await h.items() == before
        marked = manners.keys() <= {"checksum"}
        assert downloads(h) == (0 if marked or manners["checksum"] in ("md5", "sha256") else 3)
        h.wire.diary.clear()
        assert (await fixture.full()).unchanged == 3
        assert h.wire.diary == ["GET /items"]


@pytest.mark.parametrize("on_existing", ["overwrite", "conflict"])
async def test_a_local_change_after_a_lost_journal_is_uploaded_if_marks_prove_the_owner(
    tmp_path: Path, on_existing: str
) -> None:
    async with open_harness(tmp_path, on_existing=on_existing) as h:
        fixture = await in_step(h, "a.md", "b.md")
        fixture.lose_journal()
        fixture.write("a.md", "edited")
        fixture.remove("b.md")
        result = await fixture.full()
        assert result.done == {"put": 1, "delete": 1}
        assert await h.contents() == {"a.md": "edited"}


@pytest.mark.parametrize("text", ["as long as ..md", "edited and longer"])
async def test_a_local_change_after_a_lost_journal_needs_a_takeover_without_marks(tmp_path: Path, text: str) -> None:
    async with open_harness(tmp_path, metadata="refuse") as h:
        fixture = await in_step(h, "a.md", "b.md")
        before = await h.contents()
        fixture.lose_journal()
        fixture.write("a.md", text[: len("text of a.md")] if text.startswith("as") else text)
        fixture.remove("b.md")
        await fixture.full()
        assert fixture.problems() == {"a.md": "foreign"}
        assert await h.contents() == before
        fixture.use(takeover=True)
        await fixture.full()
        assert (await h.contents())["a.md"] == (fixture.root / "a.md").read_text()
        assert fixture.problems() == {}


@every_manner
async def test_an_entry_of_ours_that_somebody_overwrote_is_theirs_where_marks_are_kept(
    tmp_path: Path, manners: dict[str, Any]
) -> None:
    async with open_harness(tmp_path, **manners) as h:
        fixture = await in_step(h, "a.md", "b.md")
        await fixture.full()
        await h.upload("a.md", "vandalised, and longer")
        if manners.keys() - {"checksum"}:
            assert (await fixture.full()).done == {"put": 1}
            assert (await h.contents())["a.md"] == "text of a.md"
            return
        for _ in range(2):
            assert (await fixture.full()).tables.plan.counts.total() == 0
            assert fixture.problems() == {"a.md": "foreign"}
        fixture.write("a.md", "edited")
        await fixture.hint("a.md")
        fixture.remove("a.md")
        await fixture.hint("a.md")
        await fixture.full()
        assert (await h.contents())["a.md"] == "vandalised, and longer"
        assert fixture.problems() == {}


@every_manner
@pytest.mark.parametrize("edited", [True, False])
async def test_an_entry_that_somebody_put_in_the_place_of_ours_is_theirs_until_a_takeover(
    tmp_path: Path, manners: dict[str, Any], *, edited: bool
) -> None:
    async with open_harness(tmp_path, on_existing="conflict", **manners) as h:
        fixture = await in_step(h, "a.md", "b.md")
        await h.delete("a.md")
        theirs = await h.upload("a.md", "theirs, and longer")
        if edited:
            fixture.write("a.md", "mine, edited")
            await fixture.hint("a.md")
        await fixture.full()
        assert fixture.problems() == {"a.md": "foreign"}
        assert await h.text(theirs) == "theirs, and longer"
        fixture.use(takeover=True)
        await fixture.full()
        assert (await h.contents())["a.md"] == (fixture.root / "a.md").read_text()
        assert fixture.problems() == {}


@every_manner
async def test_an_entry_of_ours_that_somebody_deleted_is_repaired(tmp_path: Path, manners: dict[str, Any]) -> None:
    async with open_harness(tmp_path, **manners) as h:
        fixture = await in_step(h, "a.md", "b.md")
        await h.delete("a.md")
        result = await fixture.full()
        assert reasons(result) == {"missing": 1}
        assert await h.contents() == {"a.md": "text of a.md", "b.md": "text of b.md"}
        assert (await fixture.full()).tables.plan.counts.total() == 0


async def test_an_entry_that_went_away_together_with_its_file_is_forgotten(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = await in_step(h, "a.md", "b.md")
        await h.delete("a.md")
        fixture.remove("a.md")
        result = await fixture.full()
        assert result.done == {"forget": 1}
        assert h.wire.count("DELETE") == 0


@pytest.mark.parametrize("list_metadata", [True, False])
async def test_a_version_that_changes_without_a_change_of_content_uploads_nothing(
    tmp_path: Path, *, list_metadata: bool
) -> None:
    async with open_harness(tmp_path, list_metadata=list_metadata) as h:
        fixture = await in_step(h, "a.md", "b.md")
        changing = fixture.changing

        def reborn(request: httpx.Request, body: Any) -> None:
            del request
            for row in body["result"]:
                row["checksum"] = "another-version"

        h.wire.plays("GET", "/items", shows(reborn), times=None)
        result = await fixture.full()
        assert fixture.changing == changing
        assert result.done == {"adopt": 2}
        assert downloads(h) == (0 if list_metadata else 2)
        h.wire.diary.clear()
        assert (await fixture.full()).unchanged == 2
        assert h.wire.diary == ["GET /items"]


# -- listings that lag


@pytest.mark.parametrize("list_metadata", [True, False], ids=["marks", "no marks"])
@pytest.mark.parametrize("on_existing", ["overwrite", "conflict"])
async def test_a_listing_that_does_not_know_our_latest_writes_changes_nothing(
    tmp_path: Path, on_existing: str, *, list_metadata: bool
) -> None:
    async with open_harness(tmp_path, list_lag=5, on_existing=on_existing, list_metadata=list_metadata) as h:
        fixture = h.add_mirror()
        for name in ("edited.md", "kept.md", "removed.md"):
            fixture.write(name, f"text of {name}", age_s=60)
        await fixture.full()
        h.clock.now += 100
        await fixture.full()
        fixture.write("edited.md", "edited", age_s=30)
        fixture.write("new.md", "new", age_s=30)
        fixture.remove("removed.md")
        await fixture.full()
        changing, deletes = fixture.changing, h.wire.count("DELETE")
        for _ in range(4):
            result = await fixture.full()
            assert fixture.problems() == {}
            assert result.tables.plan.counts["put"] == result.tables.plan.counts["delete"] == 0
        assert (fixture.changing, h.wire.count("DELETE")) == (changing, deletes)
        h.clock.now += 100
        await fixture.full()
        assert fixture.changing == changing
        assert await h.contents() == {"edited.md": "edited", "kept.md": "text of kept.md", "new.md": "new"}


# -- listings that shift


def pages(names: list[str], per_page: int = 2) -> list[list[str]]:
    return [names[start : start + per_page] for start in range(0, len(names), per_page)]


Script = Callable[[list[str]], Iterator[tuple[list[list[str]], list[int]]]]


def a_row_moves_to_a_page_already_read(names: list[str]) -> Iterator[tuple[list[list[str]], list[int]]]:
    """The first reading shows one row twice and misses another. The next reading is complete."""
    one, two, three, four = names
    yield [[one, two], [two, three]], [4, 4]
    yield [[one, four], [two, three]], [4, 4]


def the_total_moves(names: list[str]) -> Iterator[tuple[list[list[str]], list[int]]]:
    yield pages(names[:3]), [4, 3]
    yield pages(names), [4, 4]


def a_row_is_added_in_front(names: list[str]) -> Iterator[tuple[list[list[str]], list[int]]]:
    """Another shard uploads an item after the first page, so every later row moves down by one."""
    one, two, three, four = names
    while True:
        yield [[one, two], [two, three], [four]], [4, 5, 5]


def a_row_is_never_shown(names: list[str]) -> Iterator[tuple[list[list[str]], list[int]]]:
    while True:
        yield pages(names[:3]), [4, 4]


def half_of_it_is_never_shown_and_the_rest_twice(names: list[str]) -> Iterator[tuple[list[list[str]], list[int]]]:
    while True:
        yield [[names[0], names[1]], [names[1], names[0]]], [4, 5]


def no_row_is_shown(names: list[str]) -> Iterator[tuple[list[list[str]], list[int]]]:
    """Return a listing page without rows, but with a total."""
    while True:
        yield [[]], [len(names)]


def shift(h: Harness, rows: list[Any], script: Script) -> None:
    """Answer listings from a script. Each entry has the names and the total_count of each page."""
    by_key = {row["key"]: row for row in rows}
    readings = script(sorted(by_key))
    now: list[Any] = []

    def edit(request: httpx.Request, body: Any) -> None:
        if "key" in request.url.params:
            return
        number = int(request.url.params["page"])
        if number == 1:
            now[:] = next(readings)
        names = now[0][number - 1] if number <= len(now[0]) else []
        body["result"] = [by_key[name] for name in names]
        body["result_info"]["total_count"] = now[1][min(number, len(now[1])) - 1]

    h.wire.plays("GET", "/items", shows(edit), times=None)


SCRIPTS = [
    a_row_moves_to_a_page_already_read,
    the_total_moves,
    a_row_is_added_in_front,
    a_row_is_never_shown,
    half_of_it_is_never_shown_and_the_rest_twice,
    no_row_is_shown,
]


@pytest.mark.parametrize("script", SCRIPTS)
async def test_a_listing_that_shifts_between_its_pages_changes_nothing(tmp_path: Path, script: Script) -> None:
    async with open_harness(tmp_path) as h:
        fixture = await in_step(h, "a.md", "b.md", "c.md", "d.md")
        before, changing = await h.items(), fixture.changing
        shift(h, before, script)
        result = await fixture.full()
        assert (result.unchanged, result.problems) == (4, {})
        assert fixture.changing == changing
        assert h.wire.count("GET", "/items") <= 9


@pytest.mark.parametrize("script", SCRIPTS)
async def test_a_listing_that_shifts_uploads_nothing_twice_after_a_lost_journal(tmp_path: Path, script: Script) -> None:
    async with open_harness(tmp_path) as h:
        fixture = await in_step(h, "a.md", "b.md", "c.md", "d.md")
        before, changing = await h.items(), fixture.changing
        shift(h, before, script)
        fixture.lose_journal()
        await fixture.full()
        assert fixture.changing == changing
        assert await h.items() == before
        assert fixture.mirror.journal.count() == 4


@pytest.mark.parametrize("script", SCRIPTS)
async def test_a_listing_that_shifts_does_not_make_a_strangers_item_ours(tmp_path: Path, script: Script) -> None:
    async with open_harness(tmp_path) as h:
        names = ["a.md", "b.md", "c.md", "d.md"]
        for name in names:
            await h.upload(name, f"theirs {name}", owner="you", sha256="0" * 64)
        before = await h.items()
        shift(h, before, script)
        fixture = h.add_mirror()
        for name in names:
            fixture.write(name, "mine")
        await fixture.full()
        assert await h.items() == before
        assert fixture.problems() == dict.fromkeys(names, "foreign")
        assert fixture.changing == 0


async def test_a_listing_that_only_grows_is_read_once_and_trusted(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = await in_step(h, "a.md", "b.md", "c.md", "d.md")
        shift(h, await h.items(), a_row_is_added_in_front)
        fixture.write("e.md", "new")
        fixture.lose_journal()
        before = h.wire.count("GET", "/items")
        await fixture.full()
        assert h.wire.count("GET", "/items") - before == 3, "three pages, and no look before the upload"


async def test_a_remote_that_ignores_the_source_filter_is_listed_once(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = await in_step(h, "a.md")

        def also_crawled(request: httpx.Request, body: Any) -> None:
            del request
            body["result"] += [{"id": f"r{n}", "key": f"{n}.md", "source_id": "r2:bucket"} for n in range(9)]
            body["result_info"]["total_count"] += 9

        h.wire.plays("GET", "/items", shows(also_crawled), times=None)
        await fixture.full()
        assert h.wire.diary == ["GET /items"]


async def test_the_listing_asks_for_uploads_only_newest_first_fifty_at_a_time(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        asked = []
        h.wire.plays("GET", "/items", shows(lambda request, _: asked.append(dict(request.url.params))), times=None)
        await h.add_mirror().full()
        assert asked == [{"per_page": "50", "source": "builtin", "sort_by": "modified_at", "page": "1"}]
        assert ITEMS.endswith("/namespaces/default/instances/docs/items")
