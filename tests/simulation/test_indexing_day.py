"""A day of slow and failing indexing in virtual time: uploads, requests and results."""

import asyncio
import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from bench.virtual import VirtualLoop
from syncd.core.model import Hint
from syncd.core.problems import TRIES_S
from syncd.service.worker import MirrorWorker
from syncd.sync import index
from tests.simulation.harness import WallClock
from tests.unit.targets import harness_ai_search as ai_search_harness
from tests.unit.targets.harness_mirrors import Forward

pytestmark = pytest.mark.usefixtures("no_threads")

HOUR_S = 3600.0
EDIT_S = 1200.0
"""Mean seconds between edits of a file."""
SLOW_S = 2 * HOUR_S
DAY_S = 24 * HOUR_S
KINDS = {"plain": 30, "late": 10, "never": 3, "locked": 10, "slow": 4}
"""Number of files for each course of indexing."""


@dataclass(slots=True)
class Day:
    """The mirror, and its uploads and requests for another indexing, by key and content."""

    harness: ai_search_harness.Harness
    fixture: ai_search_harness.MirrorFixture
    chance: random.Random
    content: dict[str, str] = field(default_factory=dict)
    uploads: Counter[tuple[str, str]] = field(default_factory=Counter)
    again: Counter[tuple[str, str]] = field(default_factory=Counter)
    keys: dict[str, str] = field(default_factory=dict)
    stored: dict[str, tuple[str, str]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    _running: asyncio.Task[None] | None = None
    _worker: MirrorWorker | None = None

    def watch(self) -> None:
        """Record every request."""

        async def upload(request: httpx.Request, carry: Forward) -> httpx.Response:
            await asyncio.sleep(0.1)
            response = await carry()
            found = re.search(rb"version \d+ of ([a-z0-9]+\.md)", request.content)
            assert found
            self.uploads[found[1].decode(), found[0].decode()] += 1
            self.keys[response.json()["result"]["id"]] = found[1].decode()
            return response

        async def patch(request: httpx.Request, carry: Forward) -> httpx.Response:
            key = self.keys[request.url.path.rpartition("/")[2]]
            self.again[key, self.content[key]] += 1
            if key.startswith("never"):
                # Every indexing of these items fails temporarily, like the first one.
                store = self.harness.wire.inner.app.backend.store  # type: ignore[attr-defined]
                store.execute("DELETE FROM ai_logs WHERE item = ?", (request.url.path.rpartition("/")[2],))
            return await carry()

        async def other(request: httpx.Request, carry: Forward) -> httpx.Response:
            del request
            await asyncio.sleep(0.1)
            return await carry()

        self.harness.wire.plays("POST", "/items", upload, times=None)
        self.harness.wire.plays("PATCH", "", patch, times=None)
        self.harness.wire.plays("GET", "", other, times=None)

    def edit(self, key: str, version: int) -> None:
        self.content[key] = f"version {version} of {key}"
        self.fixture.write(key, f"# {key}\n\n{self.content[key]}\n")
        if self._worker:
            self._worker.hint([Hint(key, subtree=False)])

    def start(self) -> None:
        self._worker = MirrorWorker(self.fixture.mirror, HOUR_S, self.fixture.transport.gate)
        self._worker.request_full()
        self._running = asyncio.ensure_future(self._worker.run())

    async def stop(self, then: Callable[[], None] = lambda: None) -> None:
        assert self._running
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        then()

    async def hours(self, count: float) -> None:
        """Let time pass with occasional edits."""
        until = asyncio.get_running_loop().time() + count * HOUR_S
        while (left := until - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(min(left, self.chance.expovariate(1 / EDIT_S)))
            self.edit(self.chance.choice(sorted(self.content)), self.chance.randrange(10**9))

    async def drop(self, kind: str) -> None:
        """Remove items that the remote could not index."""
        for row in await self.harness.items(status="error"):
            if kind in row["key"]:
                await self.harness.delete(row["key"])


async def lived(base: Path, seed: int) -> Day:
    clock = WallClock(asyncio.get_running_loop())
    manners: dict[str, Any] = {
        "index_delay": 20,
        "fail_index": "locked",
        "fail_index_transient": "late|never",
        "fail_index_times": 3,
        "slow_index": "slow",
        "slow_index_delay": SLOW_S,
    }
    async with ai_search_harness.open_harness(base, clock=clock, **manners) as harness:
        day = Day(harness, harness.add_mirror("me"), random.Random(seed))
        day.watch()
        for kind, count in KINDS.items():
            for number in range(count):
                day.edit(f"{kind}{number}.md", 0)
        day.start()
        await day.hours(5)
        await day.stop(day.fixture.restart)
        day.start()
        await day.hours(5)
        # After a lost state file, the listing shows the items with index errors. Then the remote removes them.
        await day.stop(day.fixture.lose_journal)
        day.start()
        await day.hours(3)
        await day.drop("locked")
        await day.hours(4)
        await day.stop(day.fixture.restart)
        day.start()
        await day.hours(7)
        await asyncio.sleep(SLOW_S + HOUR_S)
        await day.stop()
        day.stored = {row["key"]: (row["status"], await harness.text(row["id"])) for row in await harness.items()}
        day.problems = {problem.key: problem.message for problem in day.fixture.mirror.journal.problems.all()}
        return day


@pytest.mark.slow
def test_a_day_of_slow_and_failing_indexing(tmp_path: Path) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        day = runner.run(lived(tmp_path, 1))
    assert len(day.uploads) > len(day.content) + 40, "files were edited"
    assert set(day.uploads.values()) == {1}, "no bytes went up twice"
    # A lost state file forgets earlier tries.
    assert 0 < max(day.again.values()) <= 2 * len(TRIES_S)
    assert not any("locked" in key for key, _ in day.again)
    hopeless = {key for key in day.content if re.match("locked|never", key)}
    assert day.problems.keys() == hopeless
    searchable = {key: text for key, (status, text) in day.stored.items() if status == "completed"}
    wanted = {key: f"# {key}\n\n{text}\n" for key, text in day.content.items() if key not in hopeless}
    assert searchable == wanted, "everything that can be is searchable"
    assert {text for key, text in day.problems.items() if "never" in key and "in vain" not in text} == set()
    assert all("save it in another format" in text for key, text in day.problems.items() if "locked" in key)
    assert len(day.stored) < len(day.content), "some of the locked ones were thrown out and stay so"
    # A pass an hour and after each start, each of two pages and a question, and a look before an entry is changed; the
    # rest is following.
    changed = day.harness.wire.count("POST") + day.harness.wire.count("DELETE")
    asked = day.harness.wire.count("GET") - changed
    looks_at_most = DAY_S / index.LONGEST_POLL_S
    assert asked < looks_at_most, "less than a request a minute, with slow items on their way all day"
