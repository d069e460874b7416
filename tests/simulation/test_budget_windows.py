"""First passes over several windows of the request budget in virtual time: their duration, edits, kills, the window."""

import asyncio
import re
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from bench.virtual import VirtualLoop
from syncd.cloudflare.gate import Budget
from syncd.core.model import Hint
from syncd.core.requests import Quota, seconds_for
from syncd.service.worker import MirrorWorker
from syncd.state.spent import SpentRequests
from tests.simulation.harness import WallClock
from tests.unit.targets import harness_ai_search as ai_search_harness
from tests.unit.targets.harness_mirrors import Forward

pytestmark = pytest.mark.usefixtures("no_threads")

QUOTA = Quota(200, 60.0)
SERVICE = "228/60"
"""The stand-in refuses more requests than this, and blocks everybody for a window. syncd leaves a share to others."""
REQUEST_S = 0.1


@dataclass(slots=True)
class FirstPass:
    """One mirror with its worker. arrived: file name -> time at which its content was at the remote, in seconds."""

    harness: ai_search_harness.Harness
    fixture: ai_search_harness.MirrorFixture
    closing: ExitStack
    edited: dict[str, float] = field(default_factory=dict)
    arrived: dict[str, float] = field(default_factory=dict)
    statuses: set[int] = field(default_factory=set)
    requests: int = 0
    _worker: MirrorWorker | None = None
    _running: asyncio.Task[None] | None = None

    def watch(self) -> None:
        async def any_request(request: httpx.Request, carry: Forward) -> httpx.Response:
            await asyncio.sleep(REQUEST_S)
            self.requests += 1
            response = await carry()
            self.statuses.add(response.status_code)
            if request.method == "POST" and response.is_success and (name := re.search(rb"\w+\.md", request.content)):
                self.arrived[name[0].decode()] = now()
            return response

        for method in ("GET", "POST", "PATCH", "PUT", "DELETE"):
            self.harness.wire.plays(method, "", any_request, times=None)

    def start(self) -> None:
        """Start a process on the state directory of the one before."""
        spent = SpentRequests(self.fixture.state, QUOTA.window_s, clock=now, wall=now, boot=lambda: "boot")
        self.closing.callback(spent.close)
        self.fixture.transport.gate.budget = Budget(QUOTA, spent)
        self._worker = MirrorWorker(self.fixture.mirror, 3600.0, self.fixture.transport.gate)
        self._worker.request_full()
        self._running = asyncio.ensure_future(self._worker.run())

    async def kill(self) -> None:
        assert self._running
        self._running.cancel()
        with suppress(asyncio.CancelledError):
            await self._running
        self.fixture.restart()

    def edit(self, name: str) -> None:
        self.edited[name] = now()
        self.fixture.write(name, f"# {name}\n\nSome words about it.\n")
        if self._worker:
            self._worker.hint([Hint(name, subtree=False)])

    def has_arrived(self, files: int) -> bool:
        return len(self.arrived) >= files + len(self.edited)


def now() -> float:
    return asyncio.get_running_loop().time()


async def first_pass(base: Path, files: int, edit_s: float, kill_s: float) -> tuple[FirstPass, float, Any]:
    """Make a first pass. Return it, the seconds that it took, and the window of the stand-in."""
    clock = WallClock(asyncio.get_running_loop())
    with ExitStack() as closing:
        async with ai_search_harness.open_harness(base, clock=clock, index_delay=1.0, quota=SERVICE) as harness:
            made = FirstPass(harness, harness.add_mirror("me"), closing)
            made.watch()
            for number in range(files):
                made.fixture.write(f"page{number:04d}.md", f"# {number}\n\nSome words about it.\n", age_s=-1e6)
            made.start()
            next_edit, next_kill = edit_s or 1e9, kill_s or 1e9
            while not made.has_arrived(files) and now() < 3600:
                await asyncio.sleep(min(next_edit, next_kill, now() + 1.0) - now())
                if now() >= next_edit:
                    made.edit(f"edit{len(made.edited):04d}.md")
                    next_edit += edit_s
                if now() >= next_kill:
                    await made.kill()
                    made.start()
                    next_kill += kill_s
            took = max(made.arrived.values())
            await made.kill()
            window = harness.wire.inner.app.backend.window  # type: ignore[attr-defined]
            return made, took, window


@pytest.mark.slow
@pytest.mark.parametrize(
    ("edit_s", "kill_s"),
    [(0.0, 0.0), (10.0, 0.0), (30.0, 13.0)],
    ids=["alone", "edited", "killed and edited"],
)
def test_a_first_pass_goes_as_fast_as_the_window_allows(tmp_path: Path, edit_s: float, kill_s: float) -> None:
    files = 520
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        made, took, window = runner.run(first_pass(tmp_path, files, edit_s, kill_s))
    assert made.has_arrived(files)
    # A kill also costs the requests that had no answer yet, and a new process looks at the remote again.
    allowed = seconds_for(made.requests, QUOTA, [], 0.0, 80.0)
    assert took <= 1.03 * allowed + 2.0
    assert window.most <= QUOTA.requests + 1
    assert window.refused == 0
    assert 429 not in made.statuses
    late = [made.arrived[name] - at for name, at in made.edited.items()]
    # A new process compares the folder with the remote before it serves edits.
    assert max(late, default=0.0) <= (QUOTA.window_s if kill_s else 2.0)
