"""Files in another form: converted once, stored under a mapped name, and known by their source (core/names.py)."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.unit.targets import harness_ai_search as ai_search_harness
from tests.unit.targets import harness_kv as kv_harness

FORMS = {"convert": ("*.pptx",), "as_text": ("*.ts",), "converter": "test-1"}
NEWER = FORMS | {"converter": "test-2"}


@asynccontextmanager
async def ai(base: Path, **more: Any) -> AsyncIterator[tuple[Any, Any]]:
    async with ai_search_harness.open_harness(base, **more) as h:
        yield h, h.add_mirror()


@asynccontextmanager
async def kv(base: Path) -> AsyncIterator[tuple[Any, Any]]:
    async with kv_harness.open_harness(base) as h:
        yield h, h.add_mirror()


@asynccontextmanager
async def ai_without_overwrite(base: Path) -> AsyncIterator[tuple[Any, Any]]:
    async with ai(base, on_existing="conflict") as both:
        yield both


BOTH = pytest.mark.parametrize("opened", [ai, kv, ai_without_overwrite])


async def passed(h: Any, fixture: Any, **options: Any) -> Any:
    """Make a full pass after the lag. Return the planned actions."""
    h.clock.now += 120
    return dict((await fixture.full(**options)).tables.plan.counts)


async def contents(h: Any) -> dict[str, str]:
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in (await h.contents()).items()}


async def entries(fixture: Any) -> dict[str, str | None]:
    return {entry.key: entry.checksum async for entry in fixture.mirror.target.entries()}


def digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


@BOTH
async def test_files_are_stored_under_mapped_names_and_known_by_their_keys(
    tmp_path: Path, opened: Callable[..., Any]
) -> None:
    async with opened(tmp_path) as (h, fixture):
        fixture.send(**FORMS)
        fixture.write("a/talk.pptx", "slides", age_s=10)
        fixture.write("app.ts", "let x", age_s=10)
        fixture.write("b.md", "text", age_s=10)
        assert await passed(h, fixture) == {"put": 3}
        assert await contents(h) == {"a/talk.pptx.md": "Text: SLIDES", "app.ts.txt": "let x", "b.md": "text"}
        marks = {
            "a/talk.pptx": f"{digest('slides')}+test-1",
            "app.ts": f"{digest('let x')}+text",
            "b.md": digest("text"),
        }
        assert await entries(fixture) == marks
        assert await passed(h, fixture) == {}
        fixture.lose_journal()
        assert await passed(h, fixture) == {"adopt": 3}
        assert fixture.converted == ["a/talk.pptx"], "the mark proves the source, so nothing is converted again"
        fixture.write("a/talk.pptx", "others", age_s=5)
        assert await passed(h, fixture) == {"put": 1}
        fixture.remove("a/talk.pptx", "app.ts")
        assert await passed(h, fixture) == {"delete": 2}
        assert await contents(h) == {"b.md": "text"}


@BOTH
async def test_a_newer_converter_needs_consent(tmp_path: Path, opened: Callable[..., Any]) -> None:
    async with opened(tmp_path) as (h, fixture):
        fixture.send(**FORMS)
        fixture.write("talk.pptx", "slides", age_s=10)
        await passed(h, fixture)
        fixture.send(**NEWER)
        assert await passed(h, fixture) == {}
        fixture.mirror.files.invalidate()
        assert await passed(h, fixture) == {}, "also when the file is read again"
        fixture.lose_journal()
        assert await passed(h, fixture) == {"adopt": 1}
        assert await passed(h, fixture, full=True) == {"put": 1}
        assert await entries(fixture) == {"talk.pptx": f"{digest('slides')}+test-2"}
        assert await passed(h, fixture, full=True) == {}
        assert fixture.converted == ["talk.pptx"] * 2


@BOTH
async def test_a_file_that_cannot_be_converted_waits_for_a_change(tmp_path: Path, opened: Callable[..., Any]) -> None:
    async with opened(tmp_path) as (h, fixture):
        fixture.send(**FORMS)
        fixture.write("bad.pptx", "broken", age_s=10)
        fixture.write("good.pptx", "fine", age_s=10)
        await passed(h, fixture)
        assert fixture.problems() == {"bad.pptx": "refused"}
        await passed(h, fixture)
        await passed(h, fixture, full=True)
        assert fixture.converted.count("bad.pptx") == 1
        assert fixture.problems() == {"bad.pptx": "refused"}
        fixture.write("bad.pptx", "mended", age_s=5)
        await passed(h, fixture)
        assert fixture.problems() == {}
        assert await contents(h) == {"bad.pptx.md": "Text: MENDED", "good.pptx.md": "Text: FINE"}


@BOTH
async def test_two_files_of_one_name_are_both_a_problem(tmp_path: Path, opened: Callable[..., Any]) -> None:
    async with opened(tmp_path) as (h, fixture):
        fixture.send(**FORMS)
        fixture.write("app.ts", "let x", age_s=10)
        await passed(h, fixture)
        fixture.write("app.ts.txt", "notes", age_s=10)
        await passed(h, fixture)
        assert fixture.problems() == {"app.ts": "key_collision", "app.ts.txt": "key_collision"}
        assert await contents(h) == {"app.ts.txt": "let x"}
        fixture.remove("app.ts.txt")
        assert await passed(h, fixture) == {}
        assert fixture.problems() == {}


@BOTH
async def test_a_hint_ends_and_begins_a_collision(tmp_path: Path, opened: Callable[..., Any]) -> None:
    async with opened(tmp_path) as (h, fixture):
        fixture.send(**FORMS)
        fixture.write("app.ts", "let x", age_s=10)
        fixture.write("app.ts.txt", "notes", age_s=10)
        await passed(h, fixture)
        assert set(fixture.problems()) == {"app.ts", "app.ts.txt"}
        fixture.remove("app.ts.txt")
        await fixture.hint("app.ts.txt")
        assert fixture.problems() == {}
        assert await contents(h) == {"app.ts.txt": "let x"}
        fixture.write("app.ts.txt", "notes", age_s=10)
        await fixture.hint("app.ts.txt")
        assert set(fixture.problems()) == {"app.ts", "app.ts.txt"}
        assert await contents(h) == {"app.ts.txt": "let x"}


@BOTH
async def test_a_name_goes_from_one_file_to_another(tmp_path: Path, opened: Callable[..., Any]) -> None:
    async with opened(tmp_path) as (h, fixture):
        fixture.send(**FORMS)
        fixture.write("keep.md", "kept", age_s=10)
        for old, new in (("app.ts", "app.ts.txt"), ("app.ts.txt", "app.ts")):
            fixture.write(old, "one", age_s=10)
            while await passed(h, fixture):
                pass
            fixture.remove(old)
            fixture.write(new, "two", age_s=10)
            for _ in range(4):
                await passed(h, fixture)
            assert await contents(h) == {"app.ts.txt": "two", "keep.md": "kept"}
            assert await passed(h, fixture) == {}
            assert set(await entries(fixture)) == {new, "keep.md"}
            fixture.remove(new)
            await passed(h, fixture)
            assert await contents(h) == {"keep.md": "kept"}


@BOTH
async def test_an_entry_of_another_owner_under_the_mapped_name_is_foreign(
    tmp_path: Path, opened: Callable[..., Any]
) -> None:
    async with opened(tmp_path) as (h, fixture):
        fixture.send(**FORMS)
        upload = h.put if opened is kv else h.upload
        await upload("app.ts.txt", "theirs")
        fixture.write("app.ts", "let x", age_s=10)
        await passed(h, fixture)
        assert fixture.problems() == {"app.ts": "foreign"}
        assert await contents(h) == {"app.ts.txt": "theirs"}


@BOTH
async def test_patterns_come_and_go(tmp_path: Path, opened: Callable[..., Any]) -> None:
    async with opened(tmp_path) as (h, fixture):
        fixture.write("notes.md", "text", age_s=10)
        fixture.write("b.txt", "plain", age_s=10)
        await passed(h, fixture)
        fixture.send(as_text=("*.md",))
        await passed(h, fixture)
        for _ in range(3):
            await passed(h, fixture)
        assert await contents(h) == {"notes.md.txt": "text", "b.txt": "plain"}
        fixture.send()
        for _ in range(4):
            await passed(h, fixture)
        assert await contents(h) == {"notes.md": "text", "b.txt": "plain"}
        assert await passed(h, fixture) == {}


async def test_an_item_that_lost_its_metadata_is_found_by_its_name(tmp_path: Path) -> None:
    async with ai(tmp_path, metadata="refuse") as (h, fixture):
        fixture.send(**FORMS)
        fixture.write("talk.pptx", "slides", age_s=10)
        await passed(h, fixture)
        assert list(await entries(fixture)) == ["talk.pptx"]
        assert await passed(h, fixture) == {}
