"""The jobs of the buttons: one at a time for each mirror, and an end for each of them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from syncd.core.errors import Brake, SyncdError
from syncd.core.model import Delete
from syncd.service import jobs
from syncd.sync.mirror import PassOptions, Result
from syncd.sync.once import Report
from tests.unit.web.harness import Room, open_web_room


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    async with open_web_room(tmp_path) as opened:
        yield opened
        await opened.web.feed.jobs.close()


async def ended(room: Room, name: str = "docs") -> jobs.Job:
    """Wait for the end of a job."""
    async with asyncio.timeout(10):
        await asyncio.gather(*room.web.feed.jobs._tasks)
    job = room.web.feed.jobs.last(name)
    assert job is not None
    assert not job.running
    return job


async def test_a_preview_is_made_once_and_then_shown(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = asyncio.Event()

    async def run(_mirror: Any, options: PassOptions, _on_progress: Any, report: Report) -> None:
        assert options == PassOptions(dry_run=True)
        await go_on.wait()
        first = [Delete("a\n.md", "stale", "", "1"), Delete("b.md", "orphan", "", "2")]
        plan = SimpleNamespace(counts={"delete": 7, "put": 1}, first_deletes=lambda _: first)
        tables: Any = SimpleNamespace(plan=plan)
        report.add(Result(tables, 1, dry_run=True, plan_id="docs-0123456789ab", refusal="too many"))

    monkeypatch.setattr("syncd.sync.once.run", run)
    assert (await room.press("docs", "plan")).status_code == 202
    assert (await room.press("docs", "plan")).status_code == 409
    assert (await room.press("docs", "approve", plan="docs-0123456789ab")).status_code == 409
    assert (await room.press("settings", "plan")).status_code == 202, "each mirror has jobs of its own"
    assert (await room.ask("docs", "plan")).status_code == 404
    go_on.set()
    assert (await ended(room)).good
    assert (await room.ask("docs", "plan")).json() == {
        "plan_id": "docs-0123456789ab",
        "refused": True,
        "deletes": 7,
        "puts": 1,
        "first": [{"key": "a\\n.md", "reason": "stale"}, {"key": "b.md", "reason": "orphan"}],
    }


@pytest.mark.parametrize(
    ("deleted", "error", "good", "text"),
    [
        (1, None, True, "1 entry was deleted, as approved."),
        (40, None, True, "40 entries were deleted, as approved."),
        (0, Brake("the plan has changed"), False, "the plan has changed"),
    ],
)
async def test_the_end_of_an_approval_is_shown(
    room: Room, monkeypatch: pytest.MonkeyPatch, deleted: int, error: SyncdError | None, *, good: bool, text: str
) -> None:
    approved: list[str] = []

    async def approve(_: Any, plan: str) -> int:
        approved.append(plan)
        if error:
            raise error
        return deleted

    monkeypatch.setattr(jobs, "approve", approve)
    await room.press("docs", "approve", plan="docs-0123456789ab")
    job = await ended(room)
    assert (approved, job.good, job.text) == (["docs-0123456789ab"], good, text)


async def test_a_reload_ends_an_approval_with_a_reason(room: Room) -> None:
    await room.press("docs", "approve", plan="docs-0123456789ab")
    loop = asyncio.create_task(room.workers["docs"].run())
    await asyncio.sleep(0)
    loop.cancel()
    job = await ended(room)
    assert (job.good, "read its config again" in job.text) == (False, True)


async def test_a_bug_in_a_job_is_logged_and_shown(
    room: Room, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(jobs, "preview", lambda *_: 1 / 0)
    await room.press("docs", "plan")
    job = await ended(room)
    assert (job.good, job.text.startswith("unexpected ZeroDivisionError")) == (False, True)
    assert "web.job_failed" in capsys.readouterr().out
