"""The cheap audit with the emulator: requests, other mirrors in the instance, and a remote that lags."""

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest

from syncd.cloudflare.ai_search import PER_PAGE
from syncd.sync import index
from syncd.sync.audit import PAGES
from syncd.sync.mirror import PassOptions
from syncd.sync.once import Report, run
from tests.harness import IN_MEMORY
from tests.unit.targets.harness_ai_search import Harness, MirrorFixture, answers, open_harness, shows
from tests.unit.targets.harness_mirrors import Clock

DAY_S = 86400.0
HOUR_S = 3600.0
FEW = PAGES * PER_PAGE
FILES = FEW + 10
PAGE_AND_NUMBERS = ["GET /items", "GET /stats"]


async def mirrored(h: Harness, files: int = FILES, **more: Any) -> MirrorFixture:
    """Return a mirror with so many files in step, all indexed some time ago."""
    fixture = h.add_mirror(audit_interval=DAY_S, **more)
    for number in range(files):
        fixture.write(f"{number}.md", f"text {number}", age_s=10)
    await fixture.full()
    h.clock.now += 2 * HOUR_S
    return fixture


@dataclass
class Template:
    """A directory with a mirror of FILES files in step: its folder, its state, and the store of the stand-in."""

    base: Path
    now: float = 0.0

    async def make(self) -> None:
        async with open_harness(self.base, store=self.base / "store") as h:
            await mirrored(h)
            self.now = h.clock.now
        self.changed_ns = {file.name: file.stat().st_ctime_ns for file in (self.base / "me").iterdir()}

    def restore_folder(self, fixture: MirrorFixture) -> None:
        """Undo the changes of the last test. Most files stay as they are, for the stat cache."""
        left = {file.name: file.stat().st_ctime_ns for file in fixture.root.iterdir()}
        for name in left.keys() - self.changed_ns.keys():
            fixture.remove(name)
        for name in {name for name, changed_ns in self.changed_ns.items() if left.get(name) != changed_ns}:
            fixture.write(name, f"text {name.removesuffix('.md')}", age_s=10)


@pytest.fixture(scope="module")
def template() -> Iterator[Template]:
    with TemporaryDirectory(dir=IN_MEMORY) as base:
        yield Template(Path(base))


@asynccontextmanager
async def in_step(tmp_path: Path, template: Template, **manners: Any) -> AsyncIterator[tuple[Harness, MirrorFixture]]:
    """Yield a mirror with FILES files in step as `mirrored` makes it, on a copy of a template that is made once."""
    if not template.now:
        await template.make()
    shutil.copytree(template.base / "state-me", tmp_path / "state-me")
    shutil.copy(template.base / "store", tmp_path)
    clock = Clock()
    clock.now = template.now
    async with open_harness(tmp_path, instance=False, clock=clock, store=tmp_path / "store", **manners) as h:
        fixture = h.add_mirror(root=template.base / "me", audit_interval=DAY_S)
        template.restore_folder(fixture)
        yield h, fixture


async def asked(h: Harness, fixture: MirrorFixture, *, audited: bool = True) -> list[str]:
    """Make a full pass, and return its requests."""
    h.wire.diary.clear()
    result = await fixture.full()
    assert result.audited == audited
    return h.wire.diary


async def test_a_pass_after_the_first_and_all_after_it_take_a_few_requests(tmp_path: Path) -> None:
    async with open_harness(tmp_path, index_delay=10) as h:
        fixture = await mirrored(h)
        assert fixture.mirror.journal.index.index_counts() == {"queued": FILES}
        assert await asked(h, fixture) == ["GET /items"] * PAGES + ["GET /stats"]
        assert fixture.mirror.journal.index.index_counts() == {"completed": FILES}
        h.clock.now += HOUR_S
        assert await asked(h, fixture) == PAGE_AND_NUMBERS
        fixture.restart()
        assert await asked(h, fixture) == PAGE_AND_NUMBERS


@pytest.mark.parametrize(("files", "audited"), [(FEW - 1, False), (FEW, False), (FEW + 1, True)])
async def test_an_instance_that_a_few_pages_show_is_listed(tmp_path: Path, files: int, *, audited: bool) -> None:
    async with open_harness(tmp_path) as h:
        fixture = await mirrored(h, files)
        assert len(await asked(h, fixture, audited=audited)) <= PAGES + 1


async def test_edits_and_deletes_need_no_listing(tmp_path: Path, template: Template) -> None:
    async with in_step(tmp_path, template) as (h, fixture):
        await fixture.full()
        fixture.write("0.md", "edited", age_s=5)
        fixture.write("new.md", "new", age_s=5)
        fixture.remove("1.md")
        lines = await asked(h, fixture)
        assert sorted(line.split()[0] for line in lines[2:]) == ["DELETE", "GET", "GET", "GET", "POST", "POST"]
        h.clock.now += 2 * HOUR_S
        assert await asked(h, fixture) == PAGE_AND_NUMBERS


@pytest.mark.parametrize("on_existing", ["overwrite", "conflict"])
async def test_hints_between_two_audits_are_accounted_for(tmp_path: Path, template: Template, on_existing: str) -> None:
    async with in_step(tmp_path, template, on_existing=on_existing) as (h, fixture):
        fixture.write("0.md", "edited")
        fixture.write("new.md", "new")
        fixture.remove("1.md")
        await fixture.hint("0.md", "new.md", "1.md")
        h.clock.now += 2 * HOUR_S
        await asked(h, fixture)
        h.clock.now += 2 * HOUR_S
        assert await asked(h, fixture) == PAGE_AND_NUMBERS


async def stored(h: Harness, key: str) -> str:
    [item] = await h.items(key=key)
    return await h.text(item["id"])


async def gone(h: Harness) -> None:
    await h.delete("7.md")


async def gone_and_one_of_theirs_added(h: Harness) -> None:
    await h.delete("7.md")
    await h.upload("theirs.md", "text", owner="you")


async def replaced(h: Harness) -> None:
    await h.upload("7.md", "other text", owner="me", sha256="0" * 64)


async def replaced_without_a_mark(h: Harness) -> None:
    await h.upload("7.md", "other text")


async def deleted_and_made_anew(h: Harness) -> None:
    await h.delete("7.md")
    await h.upload("7.md", "other text", owner="me", sha256="0" * 64)


@pytest.mark.parametrize("deed", [replaced, replaced_without_a_mark, deleted_and_made_anew])
async def test_an_item_that_somebody_put_in_place_of_ours_is_noticed_and_foreign(
    tmp_path: Path, template: Template, deed: Callable[[Harness], Awaitable[None]]
) -> None:
    async with in_step(tmp_path, template) as (h, fixture):
        await fixture.full()
        h.clock.now += 2 * HOUR_S
        await deed(h)
        await asked(h, fixture, audited=False)
        assert await stored(h, "7.md") == "other text"
        assert fixture.problems() == {"7.md": "foreign"}


@pytest.mark.parametrize("deed", [gone, gone_and_one_of_theirs_added])
async def test_a_change_of_our_item_by_somebody_else_is_repaired(
    tmp_path: Path, template: Template, deed: Callable[[Harness], Awaitable[None]]
) -> None:
    async with in_step(tmp_path, template) as (h, fixture):
        await fixture.full()
        h.clock.now += 2 * HOUR_S
        await deed(h)
        await asked(h, fixture, audited=False)
        assert await stored(h, "7.md") == "text 7"


async def test_two_mirrors_in_one_instance_audit_past_each_other(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = await mirrored(h, prefix="a/")
        await fixture.full()
        h.clock.now += 2 * HOUR_S
        other = h.add_mirror("other", prefix="b/")
        for number in range(20):
            other.write(f"{number}.md", f"their text {number}", age_s=10)
        await other.full()
        assert await asked(h, fixture) == PAGE_AND_NUMBERS
        h.clock.now += 2 * HOUR_S
        other.write("0.md", "their new text", age_s=5)
        await other.full()
        assert await asked(h, fixture) == PAGE_AND_NUMBERS
        other.remove("1.md")
        await other.full()
        await asked(h, fixture, audited=False)
        h.clock.now += 2 * HOUR_S
        assert await asked(h, fixture) == PAGE_AND_NUMBERS


async def test_items_of_other_sources_are_not_in_the_way(tmp_path: Path, template: Template) -> None:
    async with in_step(tmp_path, template) as (h, fixture):

        def more(request: httpx.Request, body: Any) -> None:
            del request
            body["result"]["completed"] += 1000

        h.wire.plays("GET", "/stats", shows(more), times=None)
        await asked(h, fixture)


async def test_a_remote_that_does_not_show_our_last_write_is_listed(tmp_path: Path, template: Template) -> None:
    async with in_step(tmp_path, template, list_lag=30) as (h, fixture):
        await fixture.full()
        h.clock.now += 2 * HOUR_S
        fixture.write("new.md", "new")
        await fixture.hint("new.md")
        await asked(h, fixture, audited=False)
        h.clock.now += 60
        await fixture.full()
        h.clock.now += 2 * HOUR_S
        await asked(h, fixture)
        assert h.wire.count("POST") == 0


@pytest.mark.parametrize(
    "act", [answers(404, 7041), answers(400, 7999), shows(lambda _, body: body["result"].update(degraded=True))]
)
async def test_unavailable_counts_lead_to_a_listing(tmp_path: Path, template: Template, act: Any) -> None:
    async with in_step(tmp_path, template) as (h, fixture):
        h.wire.plays("GET", "/stats", act)
        await asked(h, fixture, audited=False)


async def test_a_missing_total_leads_to_a_listing(tmp_path: Path, template: Template) -> None:
    async with in_step(tmp_path, template) as (h, fixture):
        h.wire.plays("GET", "/items", shows(lambda _, body: body["result_info"].pop("total_count")))
        await asked(h, fixture, audited=False)


async def test_newest_pages_that_shift_while_they_are_read_lead_to_a_listing(
    tmp_path: Path, template: Template
) -> None:
    async with in_step(tmp_path, template) as (h, fixture):

        def one_more(request: httpx.Request, body: Any) -> None:
            body["result_info"]["total_count"] += request.url.params["page"] == "2"

        h.wire.plays("GET", "/items", shows(one_more), times=2)
        await asked(h, fixture, audited=False)


async def test_an_index_status_that_the_counts_do_not_show_is_requested_by_a_single_pass(tmp_path: Path) -> None:
    async with open_harness(tmp_path, index_delay=10, fail_index="^7.md") as h:
        fixture = await mirrored(h)
        report = Report()
        await run(fixture.mirror, PassOptions(), lambda _: None, report)
        assert report.results[0].audited
        assert fixture.problems() == {"7.md": "index_error"}
        assert fixture.mirror.journal.index.unfinished() < report.results[0].unsettled
        h.clock.now += HOUR_S
        assert await asked(h, fixture) == PAGE_AND_NUMBERS
        assert fixture.problems() == {"7.md": "index_error"}


async def test_a_pass_that_looks_for_nothing_new_does_not_follow_its_own_puts(tmp_path: Path) -> None:
    async with open_harness(tmp_path, index_delay=10) as h:
        fixture = await mirrored(h)
        await fixture.full()
        h.clock.now += 2 * HOUR_S
        fixture.write("new.md", "new", age_s=5)
        h.wire.diary.clear()
        await run(fixture.mirror, PassOptions(), lambda _: None, Report())
        assert [line.split()[0] for line in h.wire.diary] == ["GET", "GET", "GET", "POST"]
        assert await index.poll(fixture.mirror) == 1
