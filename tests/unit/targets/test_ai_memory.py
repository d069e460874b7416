"""What is known of what was written: quiet second passes, lost journals, listings that lag and shift."""

from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.unit.targets.harness_ai_search import ITEMS, Side, World, shows, world

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


def downloads(w: World) -> int:
    return w.wire.count("GET", "/download")


async def in_step(w: World, *names: str, **options: Any) -> Side:
    """A mirror that has uploaded these files, long written, and is at rest."""
    side = w.side(**options)
    for name in names:
        side.write(name, f"text of {name}", age_s=60)
    result = await side.full()
    assert result.done == {"put": len(names)}
    w.wire.diary.clear()
    return side


@every_manner
async def test_a_second_pass_sends_nothing_reads_nothing_and_downloads_nothing(
    tmp_path: Path, manners: dict[str, Any]
) -> None:
    async with world(tmp_path, index_delay=2, **manners) as w:
        side = await in_step(w, "a.md", "b/c.md", "d.txt")
        for seconds in (0, 1, 5):
            w.clock.now += seconds
            result = await side.full()
            assert (result.unchanged, result.files_read, result.problems) == (3, 0, {})
            assert result.tables.plan.counts.total() == 0
        assert w.wire.diary == ["GET /items"] * 3


@every_manner
async def test_a_second_pass_after_an_edit_is_as_quiet(tmp_path: Path, manners: dict[str, Any]) -> None:
    async with world(tmp_path, on_existing="conflict", **manners) as w:
        side = await in_step(w, "a.md", "b.md")
        side.write("a.md", "edited", age_s=30)
        await side.hint("a.md")
        w.wire.diary.clear()
        assert (await side.full()).unchanged == 2
        assert w.wire.diary == ["GET /items"]


@every_manner
async def test_after_a_lost_journal_nothing_is_uploaded_again(tmp_path: Path, manners: dict[str, Any]) -> None:
    async with world(tmp_path, **manners) as w:
        side = await in_step(w, "a.md", "b/c.md", "d.txt")
        before, changing = await w.items(), side.changing
        side.lose_journal()
        result = await side.full()
        assert result.done == {"adopt": 3}
        assert side.changing == changing
        assert await w.items() == before
        marked = manners.keys() <= {"checksum"}
        assert downloads(w) == (0 if marked or manners["checksum"] in ("md5", "sha256") else 3)
        w.wire.diary.clear()
        assert (await side.full()).unchanged == 3
        assert w.wire.diary == ["GET /items"]


@pytest.mark.parametrize("on_existing", ["overwrite", "conflict"])
async def test_a_local_change_after_a_lost_journal_goes_up_where_marks_say_whose_it_is(
    tmp_path: Path, on_existing: str
) -> None:
    async with world(tmp_path, on_existing=on_existing) as w:
        side = await in_step(w, "a.md", "b.md")
        side.lose_journal()
        side.write("a.md", "edited")
        side.remove("b.md")
        result = await side.full()
        assert result.done == {"put": 1, "delete": 1}
        assert await w.contents() == {"a.md": "edited"}


@pytest.mark.parametrize("text", ["as long as ..md", "edited and longer"])
async def test_a_local_change_after_a_lost_journal_waits_for_a_takeover_where_nothing_says_whose_it_is(
    tmp_path: Path, text: str
) -> None:
    async with world(tmp_path, metadata="refuse") as w:
        side = await in_step(w, "a.md", "b.md")
        before = await w.contents()
        side.lose_journal()
        side.write("a.md", text[: len("text of a.md")] if text.startswith("as") else text)
        side.remove("b.md")
        await side.full()
        assert side.problems() == {"a.md": "foreign"}
        assert await w.contents() == before
        side.use(takeover=True)
        await side.full()
        assert (await w.contents())["a.md"] == (side.root / "a.md").read_text()
        assert side.problems() == {}


@every_manner
async def test_an_entry_of_ours_that_somebody_overwrote_is_theirs_where_marks_are_kept(
    tmp_path: Path, manners: dict[str, Any]
) -> None:
    async with world(tmp_path, **manners) as w:
        side = await in_step(w, "a.md", "b.md")
        await side.full()
        await w.upload("a.md", "vandalised, and longer")
        if manners.keys() - {"checksum"}:
            assert (await side.full()).done == {"put": 1}
            assert (await w.contents())["a.md"] == "text of a.md"
            return
        for _ in range(2):
            assert (await side.full()).tables.plan.counts.total() == 0
            assert side.problems() == {"a.md": "foreign"}
        side.write("a.md", "edited")
        await side.hint("a.md")
        side.remove("a.md")
        await side.hint("a.md")
        await side.full()
        assert (await w.contents())["a.md"] == "vandalised, and longer"
        assert side.problems() == {}


@every_manner
@pytest.mark.parametrize("edited", [True, False])
async def test_an_entry_that_somebody_put_in_the_place_of_ours_is_theirs_until_a_takeover(
    tmp_path: Path, manners: dict[str, Any], *, edited: bool
) -> None:
    async with world(tmp_path, on_existing="conflict", **manners) as w:
        side = await in_step(w, "a.md", "b.md")
        await w.delete("a.md")
        theirs = await w.upload("a.md", "theirs, and longer")
        if edited:
            side.write("a.md", "mine, edited")
            await side.hint("a.md")
        await side.full()
        assert side.problems() == {"a.md": "foreign"}
        assert await w.text(theirs) == "theirs, and longer"
        side.use(takeover=True)
        await side.full()
        assert (await w.contents())["a.md"] == (side.root / "a.md").read_text()
        assert side.problems() == {}


@every_manner
async def test_an_entry_of_ours_that_somebody_deleted_is_repaired(tmp_path: Path, manners: dict[str, Any]) -> None:
    async with world(tmp_path, **manners) as w:
        side = await in_step(w, "a.md", "b.md")
        await w.delete("a.md")
        result = await side.full()
        assert result.reasons == {"missing": 1}
        assert await w.contents() == {"a.md": "text of a.md", "b.md": "text of b.md"}
        assert (await side.full()).tables.plan.counts.total() == 0


async def test_an_entry_that_went_away_together_with_its_file_is_forgotten(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = await in_step(w, "a.md", "b.md")
        await w.delete("a.md")
        side.remove("a.md")
        result = await side.full()
        assert result.done == {"forget": 1}
        assert w.wire.count("DELETE") == 0


@pytest.mark.parametrize("list_metadata", [True, False])
async def test_a_version_that_changes_without_a_change_of_content_uploads_nothing(
    tmp_path: Path, *, list_metadata: bool
) -> None:
    async with world(tmp_path, list_metadata=list_metadata) as w:
        side = await in_step(w, "a.md", "b.md")
        changing = side.changing

        def reborn(request: httpx.Request, body: Any) -> None:
            del request
            for row in body["result"]:
                row["checksum"] = "another-version"

        w.wire.plays("GET", "/items", shows(reborn), times=None)
        result = await side.full()
        assert side.changing == changing
        assert result.done == {"adopt": 2}
        assert downloads(w) == (0 if list_metadata else 2)
        w.wire.diary.clear()
        assert (await side.full()).unchanged == 2
        assert w.wire.diary == ["GET /items"]


# -- listings that lag


@pytest.mark.parametrize("list_metadata", [True, False], ids=["marks", "no marks"])
@pytest.mark.parametrize("on_existing", ["overwrite", "conflict"])
async def test_a_listing_that_does_not_know_our_latest_writes_changes_nothing(
    tmp_path: Path, on_existing: str, *, list_metadata: bool
) -> None:
    async with world(tmp_path, list_lag=5, on_existing=on_existing, list_metadata=list_metadata) as w:
        side = w.side()
        for name in ("edited.md", "kept.md", "removed.md"):
            side.write(name, f"text of {name}", age_s=60)
        await side.full()
        w.clock.now += 100
        await side.full()
        side.write("edited.md", "edited", age_s=30)
        side.write("new.md", "new", age_s=30)
        side.remove("removed.md")
        await side.full()
        changing, deletes = side.changing, w.wire.count("DELETE")
        for _ in range(4):
            result = await side.full()
            assert side.problems() == {}
            assert result.tables.plan.counts["put"] == result.tables.plan.counts["delete"] == 0
        assert (side.changing, w.wire.count("DELETE")) == (changing, deletes)
        w.clock.now += 100
        await side.full()
        assert side.changing == changing
        assert await w.contents() == {"edited.md": "edited", "kept.md": "text of kept.md", "new.md": "new"}


# -- listings that shift


def pages(names: list[str], per_page: int = 2) -> list[list[str]]:
    return [names[start : start + per_page] for start in range(0, len(names), per_page)]


Script = Callable[[list[str]], Iterator[tuple[list[list[str]], list[int]]]]


def a_row_moves_to_a_page_already_read(names: list[str]) -> Iterator[tuple[list[list[str]], list[int]]]:
    """The first reading shows one row twice and never another; the next is whole."""
    one, two, three, four = names
    yield [[one, two], [two, three]], [4, 4]
    yield [[one, four], [two, three]], [4, 4]


def the_total_moves(names: list[str]) -> Iterator[tuple[list[list[str]], list[int]]]:
    yield pages(names[:3]), [4, 3]
    yield pages(names), [4, 4]


def a_row_is_added_in_front(names: list[str]) -> Iterator[tuple[list[list[str]], list[int]]]:
    """By another shard, while the first page is taken in: every later row shows one place further on."""
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
    """A listing without rows that counts them all the same."""
    while True:
        yield [[]], [len(names)]


def shift(w: World, rows: list[Any], script: Script) -> None:
    """Answer listings from a script of (names on each page, total_count of each page)."""
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

    w.wire.plays("GET", "/items", shows(edit), times=None)


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
    async with world(tmp_path) as w:
        side = await in_step(w, "a.md", "b.md", "c.md", "d.md")
        before, changing = await w.items(), side.changing
        shift(w, before, script)
        result = await side.full()
        assert (result.unchanged, result.problems) == (4, {})
        assert side.changing == changing
        assert w.wire.count("GET", "/items") <= 9


@pytest.mark.parametrize("script", SCRIPTS)
async def test_a_listing_that_shifts_uploads_nothing_twice_after_a_lost_journal(tmp_path: Path, script: Script) -> None:
    async with world(tmp_path) as w:
        side = await in_step(w, "a.md", "b.md", "c.md", "d.md")
        before, changing = await w.items(), side.changing
        shift(w, before, script)
        side.lose_journal()
        await side.full()
        assert side.changing == changing
        assert await w.items() == before
        assert side.mirror.journal.count() == 4


@pytest.mark.parametrize("script", SCRIPTS)
async def test_a_listing_that_shifts_does_not_make_a_strangers_item_ours(tmp_path: Path, script: Script) -> None:
    async with world(tmp_path) as w:
        names = ["a.md", "b.md", "c.md", "d.md"]
        for name in names:
            await w.upload(name, f"theirs {name}", owner="you", sha256="0" * 64)
        before = await w.items()
        shift(w, before, script)
        side = w.side()
        for name in names:
            side.write(name, "mine")
        await side.full()
        assert await w.items() == before
        assert side.problems() == dict.fromkeys(names, "foreign")
        assert side.changing == 0


async def test_a_listing_that_only_grows_is_read_once_and_trusted(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = await in_step(w, "a.md", "b.md", "c.md", "d.md")
        shift(w, await w.items(), a_row_is_added_in_front)
        side.write("e.md", "new")
        side.lose_journal()
        before = w.wire.count("GET", "/items")
        await side.full()
        assert w.wire.count("GET", "/items") - before == 3, "three pages, and no look before the upload"


async def test_a_remote_that_ignores_the_source_filter_is_listed_once(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = await in_step(w, "a.md")

        def also_crawled(request: httpx.Request, body: Any) -> None:
            del request
            body["result"] += [{"id": f"r{n}", "key": f"{n}.md", "source_id": "r2:bucket"} for n in range(9)]
            body["result_info"]["total_count"] += 9

        w.wire.plays("GET", "/items", shows(also_crawled), times=None)
        await side.full()
        assert w.wire.diary == ["GET /items"]


async def test_the_listing_asks_for_uploads_only_newest_first_fifty_at_a_time(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        asked = []
        w.wire.plays("GET", "/items", shows(lambda request, _: asked.append(dict(request.url.params))), times=None)
        await w.side().full()
        assert asked == [{"per_page": "50", "source": "builtin", "sort_by": "modified_at", "page": "1"}]
        assert ITEMS.endswith("/namespaces/default/instances/docs/items")
