"""The request budget: a first pass within the rate limit of the service, edits during it, and restarts.

The short pass is the real program on real clocks, against a stand-in that counts as the service does. The long passes
take up to half an hour, so they run the gate, the budget and its file in virtual time, and the window of the stand-in
counts their requests.
"""

import asyncio
import itertools
import tempfile
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from bench.table import Figure, percentile
from bench.virtual import VirtualLoop
from bench.workspace import Sizes, Standin, workspace
from syncd.cloudflare.gate import Budget, Gate
from syncd.config.schema import Cloudflare
from syncd.core.errors import Deferred
from syncd.core.requests import Priority, Quota, parse_quota, requests_at, seconds_for
from syncd.emulator.quota import QuotaWindow, read_quota
from syncd.state.spent import SpentRequests

SERVICE = "1200/300"
"""Requests of a user or of an account token, in seconds. Source: Cloudflare's "API rate limits"."""
LATENCY_S = 0.1
START_S = 0.625
"""The part of the goal for the start of the program: 15 s for 1,000 files."""
EXTRA, EXTRA_LONG = 1.15, 1.03
EDIT_REACH_S = 2.0
EDIT_REQUESTS = 2
"""An edit is an upload, and a look at its entry."""
LANES = 14
"""Puts of one pass that wait at the same time. More than the requests in flight."""
GIVEN_WAY_S = 0.25
"""Pause of a put that gave way to an edit."""
RESTART_S = 60.0
SETTINGS = Cloudflare(account_id="0" * 32)


def short(sizes: Sizes) -> list[Figure]:
    """Measure a first pass with the default settings, and count what the stand-in refused."""
    n = sizes.budget_files
    with Standin(latency=LATENCY_S, quota=SERVICE) as standin, workspace(standin, n) as here:
        here.use_default_limits()
        run = here.reconcile(log=True)
        counted = standin.requests()["window"]
    floor = n / SETTINGS.transfers * LATENCY_S
    title = f"first pass of {n:,} files at {LATENCY_S * 1e3:.0f} ms, default quota, the service's own limit"
    return [
        Figure(title, run.elapsed_s, "s", EXTRA * floor + START_S, floor=floor),
        Figure("… most requests in any 300 s", counted["most"], reach=_quota().requests, exact=True),
        Figure("… answers 429", counted["refused"], reach=0, exact=True),
    ]


def long(sizes: Sizes) -> list[Figure]:
    """Simulate first passes over several windows: without edits, with edits, and with a restart every minute."""
    n = sizes.budget_long
    figures = []
    for edit_s, restart_s in [(0, 0), (30, 0), (10, 0), (5, 0), (0, RESTART_S), (10, RESTART_S)]:
        figures += _figures(n, float(edit_s), float(restart_s))
    return figures


def _figures(files: int, edit_s: float, restart_s: float) -> list[Figure]:
    with (
        tempfile.TemporaryDirectory(prefix="syncd-bench-") as state,
        asyncio.Runner(loop_factory=VirtualLoop) as runner,
    ):
        sent = runner.run(_simulated(files, edit_s, restart_s, Path(state)))
    parts = [f"first pass of {files:,} files, simulated"]
    parts += [f"an edit every {edit_s:g} s"] if edit_s else []
    parts += [f"a kill every {restart_s:g} s"] if restart_s else []
    allowed = seconds_for(sent.requests, _quota(), [], 0.0, SETTINGS.transfers / LATENCY_S)
    figures = [Figure(", ".join(parts), sent.elapsed_s, "s", EXTRA_LONG * allowed, exact=True, floor=allowed)]
    if sent.edits:
        p99 = percentile(sent.edits, 99)
        figures.append(Figure("… an edit at the remote, p99", p99, "s", EDIT_REACH_S, exact=True))
    return [
        *figures,
        Figure("… most requests in any 300 s", sent.window.most, reach=_quota().requests, exact=True),
        Figure("… answers 429", sent.window.refused, reach=0, exact=True),
    ]


@dataclass(slots=True)
class Sent:
    """The requests of a simulation, as the service counts them. edits: seconds from each edit to its last answer."""

    window: QuotaWindow
    requests: int = 0
    elapsed_s: float = 0.0
    edits: list[float] = field(default_factory=list)


class _Process:
    """One run of the program. left: the puts that no process has ended yet. waiting: the edits that none has sent."""

    def __init__(self, state: Path, left: deque[int], waiting: deque[float], sent: Sent) -> None:
        self._clock = asyncio.get_running_loop().time
        self._left, self._waiting, self._sent = left, waiting, sent
        # A machine has one clock, and its wall clock shows the same time here.
        quota = _quota()
        self._spent = SpentRequests(
            state, quota.window_s, clock=self._clock, wall=self._clock, boot=lambda: "one start of the machine"
        )
        budget = Budget(quota, self._spent)
        self._gate = Gate(SETTINGS.tpslimit, SETTINGS.transfers, self._clock, budget=budget)

    async def run(self) -> None:
        """Put all files, and send edits as they come, until nothing is left."""
        try:
            edits = asyncio.create_task(self._edits())
            try:
                await asyncio.gather(*(self._puts() for _ in range(LANES)))
            finally:
                edits.cancel()
                with suppress(asyncio.CancelledError):
                    await edits
        finally:
            self._spent.close()

    async def _puts(self) -> None:
        bulk = Priority(bulk=True, gives_way=lambda: bool(self._waiting), left=lambda: len(self._left) + LANES)
        while self._left:
            number = self._left.popleft()
            try:
                with requests_at(bulk):
                    await self._request()
            except Deferred:
                self._left.append(number)
                await asyncio.sleep(GIVEN_WAY_S)
            except asyncio.CancelledError:
                # The next process does not know whether the file has arrived.
                self._left.append(number)
                raise

    async def _edits(self) -> None:
        while True:
            while self._waiting:
                for _ in range(EDIT_REQUESTS):
                    await self._request()
                self._sent.edits.append(self._clock() - self._waiting.popleft())
            await asyncio.sleep(GIVEN_WAY_S)

    async def _request(self) -> None:
        async with self._gate.slot():
            self._sent.window.admit()
            self._sent.requests += 1
            await asyncio.sleep(LATENCY_S)


async def _simulated(files: int, edit_s: float, restart_s: float, state: Path) -> Sent:
    """Make a first pass. edit_s, restart_s: seconds between two edits and between two kills, 0 for none."""
    loop = asyncio.get_running_loop()
    sent = Sent(QuotaWindow(read_quota(SERVICE), loop.time))
    left, waiting = deque(range(files)), deque[float]()

    async def edit() -> None:
        for number in itertools.count(1):
            await asyncio.sleep(number * edit_s - loop.time())
            waiting.append(loop.time())

    editor = asyncio.create_task(edit()) if edit_s else None
    while left:
        process = _Process(state, left, waiting, sent)
        with suppress(TimeoutError):
            async with asyncio.timeout(restart_s or None):
                await process.run()
    sent.elapsed_s = loop.time()
    if editor:
        editor.cancel()
    return sent


def _quota() -> Quota:
    quota = parse_quota(SETTINGS.quota)
    if quota is None:
        raise AssertionError("the default settings have a quota")
    return quota
