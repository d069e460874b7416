"""The whole engine with a seed. The same seed gives the same trace.

Files, worker, target, transport and stand-in are the real ones; time, network, chance and threads the simulation's.
"""

import asyncio
import json
import random
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import httpx

from bench.virtual import VirtualLoop
from syncd.core.model import Hint
from syncd.service.worker import MirrorWorker
from syncd.sync.mirror import PassOptions, Result, Scope
from syncd.sync.reconcile import reconcile
from tests.unit.targets import harness_ai_search as ai_search_harness
from tests.unit.targets import harness_kv as kv_harness
from tests.unit.targets import harness_vectorize as vectorize_harness
from tests.unit.targets.harness_mirrors import Forward, Wire

START_S = 1_900_000_000.0
"""Later than the time of every file, so that the stat cache never returns a checksum by chance."""
FILES = [f"{folder}{name}.md" for folder in ("", "a/", "a/b/", "c/") for name in ("one", "two", "three")]
TAKEN = "taken.md"
"""A key that a stranger wrote before the first pass. The folder has a file with this key, too."""
INTERVAL_S = 600.0
FAULTS = ["refused", "gone", "page", "busy", "before", "after", "cut", "no success", "hang"]


@dataclass(slots=True)
class WallClock:
    """The wall clock of the machine in seconds since the epoch. A test may set it."""

    loop: asyncio.AbstractEventLoop
    set_by: float = 0.0

    @property
    def now(self) -> float:
        return START_S + self.loop.time() + self.set_by

    @now.setter
    def now(self, value: float) -> None:
        self.set_by = value - START_S - self.loop.time()

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class SimulatedTarget(Protocol):
    """One kind of target with its stand-in, as the engine uses it."""

    async def open(self, engine: "Engine") -> None: ...

    async def strange(self, key: str, text: str) -> None: ...

    async def held(self) -> Any: ...

    def wanted(self) -> Any: ...


@dataclass(slots=True)
class Engine:
    """One run. trace: all events in order, in virtual seconds."""

    seed: int
    clock: WallClock
    chance: random.Random
    fixture: Any
    simulated: SimulatedTarget
    trace: list[str] = field(default_factory=list)
    strange: dict[str, str] = field(default_factory=dict)
    fault_rate: float = 0.0
    faults: dict[str, int] = field(default_factory=dict)
    crashes: int = 0
    _running: asyncio.Task[None] | None = None
    _worker: MirrorWorker | None = None

    def note(self, text: str) -> None:
        self.trace.append(f"{self.clock.loop.time():.3f} {text}")

    # -- the network

    def intercept(self, wire: Wire) -> None:
        """Add the faults of this engine between the mirror and the stand-in."""

        async def stormy(request: httpx.Request, carry: Forward) -> httpx.Response:
            await asyncio.sleep(self.chance.uniform(0.01, 0.2))
            fault = self.chance.choice(FAULTS) if self.chance.random() < self.fault_rate else ""
            # Random ids of the stand-in are not part of the trace.
            line = f"{request.method} {re.sub('[0-9a-f]{32}', 'ID', request.url.path)}"
            if not fault:
                response = await carry()
                self.note(f"{line} {response.status_code}")
                return response
            self.faults[fault] = self.faults.get(fault, 0) + 1
            self.note(f"{line} {fault}")
            return await self._weather(fault, request, carry)

        for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            wire.plays(method, "", stormy, times=None)

    async def _weather(self, fault: str, request: httpx.Request, carry: Forward) -> httpx.Response:
        if fault == "refused":
            return httpx.Response(500, json={"success": False, "errors": [{"code": 7001, "message": "x"}]})
        if fault == "page":
            return httpx.Response(502, html="<html>bad gateway</html>")
        if fault == "busy":
            return httpx.Response(429, headers={"Retry-After": "2"}, json={"success": False, "errors": []})
        if fault == "before":
            raise httpx.ConnectError("refused", request=request)
        if fault == "hang":
            await asyncio.sleep(1e6)
        response = await carry()
        await response.aread()
        if fault == "cut":
            return httpx.Response(response.status_code, content=response.content[: len(response.content) // 2])
        if fault == "no success":
            return httpx.Response(200, json={"success": False, "errors": [{"code": 1, "message": "x"}], "result": None})
        if fault == "gone":
            return httpx.Response(524, html="<html>time-out</html>")
        raise httpx.ReadError("connection reset", request=request)

    # -- the process

    def start(self) -> None:
        """Start a new process, which begins with a full pass as the daemon does."""
        self._worker = MirrorWorker(self.fixture.mirror, INTERVAL_S, self.fixture.transport.gate)
        self._worker.request_full()
        self._running = asyncio.ensure_future(self._worker.run())

    async def kill(self, *, lose_state: bool = False) -> None:
        """Kill the process at its present step."""
        if self._running:
            self._running.cancel()
            with suppress(asyncio.CancelledError):
                await self._running
            self._running = None
        if lose_state:
            self.fixture.lose_journal()
        else:
            self.fixture.restart()

    def hint(self, path: str) -> None:
        if self._worker:
            self._worker.hint([Hint(path, subtree=self.chance.random() < 0.2)])

    # -- the user

    def act(self) -> None:
        """Change the folder. Some changes give no hint."""
        path = self.chance.choice(FILES)
        file = self.fixture.root / path
        kind = self.chance.choice(["write", "write", "write", "atomic", "delete", "move", "drop folder"])
        self.note(f"user: {kind} {path}")
        if kind in {"write", "atomic"}:
            file.parent.mkdir(parents=True, exist_ok=True)
            text = f"# {path}\n\nVersion {self.chance.randrange(5)} of {path}.\n"
            beside = file.with_name(".new.swp") if kind == "atomic" else file
            beside.write_text(text, encoding="utf-8")
            beside.replace(file)
        elif kind == "delete":
            file.unlink(missing_ok=True)
        elif kind == "move" and file.exists():
            other = self.fixture.root / self.chance.choice(FILES)
            other.parent.mkdir(parents=True, exist_ok=True)
            file.replace(other)
            self.hint(other.relative_to(self.fixture.root).as_posix())
        elif kind == "drop folder" and "/" in path:
            shutil.rmtree(self.fixture.root / path.partition("/")[0], ignore_errors=True)
        if self.chance.random() < 0.7:
            self.hint(path)

    async def storm(self, steps: int) -> None:
        """Make changes, faults, crashes, lost state, clock changes, and writes of a stranger."""
        self.fault_rate = 0.15
        self.start()
        for _ in range(steps):
            await asyncio.sleep(self.chance.expovariate(1 / 5))
            dice = self.chance.random()
            if dice < 0.05:
                self.note("crash")
                self.crashes += 1
                await self.kill(lose_state=self.chance.random() < 0.3)
                self.start()
            elif dice < 0.08:
                self.clock.set_by += self.chance.uniform(-7200, 7200)
                self.note("clock set")
            elif dice < 0.15:
                key = f"theirs/{self.chance.randrange(4)}.md"
                self.strange[key] = f"# Theirs\n\n{self.chance.randrange(1000)}\n"
                self.note(f"stranger: {key}")
                await self.simulated.strange(key, self.strange[key])
            else:
                self.act()

    async def peace(self) -> None:
        """End the faults, wait for pending work, and crash once more."""
        self.fault_rate = 0.0
        await asyncio.sleep(2 * INTERVAL_S)
        await self.kill()

    async def passes(self, count: int) -> Result:
        """Make clean passes, far enough apart to end every lag. Return the last result."""
        result = None
        for _ in range(count):
            await asyncio.sleep(120)
            result = await reconcile(self.fixture.mirror, Scope(), PassOptions())
            self.note(f"pass: {sorted(result.tables.plan.counts.items())}")
        assert result is not None
        return result

    def folder(self) -> dict[str, str]:
        """Return the content that the mirror must have, by key."""
        root: Path = self.fixture.root
        found = {path.relative_to(root).as_posix(): path for path in root.rglob("*.md")}
        return {key: path.read_text(encoding="utf-8") for key, path in found.items() if key != TAKEN}


@dataclass(slots=True)
class SimulatedAISearch:
    harness: ai_search_harness.Harness
    engine: Engine | None = None

    async def open(self, engine: Engine) -> None:
        self.engine = engine

    async def strange(self, key: str, text: str) -> None:
        with suppress(ValueError):
            await self.harness.delete(key)
        await self.harness.upload(key, text)

    async def held(self) -> Any:
        rows = await self.harness.items(source="builtin")
        contents = {row["key"]: await self.harness.text(row["id"]) for row in rows}
        assert len(contents) == len(rows), "a key stands twice"
        return contents

    def wanted(self) -> Any:
        assert self.engine
        return {**self.engine.folder(), **self.engine.strange}


@dataclass(slots=True)
class SimulatedKV:
    harness: kv_harness.Harness
    engine: Engine | None = None

    async def open(self, engine: Engine) -> None:
        self.engine = engine

    async def strange(self, key: str, text: str) -> None:
        await self.harness.put(key, text)

    async def held(self) -> Any:
        return {key: (value or b"").decode() for key, value in (await self.harness.contents()).items()}

    def wanted(self) -> Any:
        assert self.engine
        return {**self.engine.folder(), **self.engine.strange}


@dataclass(slots=True)
class SimulatedVectorize:
    harness: vectorize_harness.Harness
    engine: Engine | None = None

    async def open(self, engine: Engine) -> None:
        self.engine = engine
        body = {"name": "docs", "config": {"dimensions": 384, "metric": "cosine"}}
        (await self.harness.stranger.post(vectorize_harness.INDEXES, json=body)).raise_for_status()

    async def strange(self, key: str, text: str) -> None:
        del text
        await self.harness.put(key)

    async def held(self) -> Any:
        await asyncio.sleep(60)
        return await self.harness.ids()

    def wanted(self) -> Any:
        # Vectors of another owner are not entries, so a stranger cannot hold a key.
        assert self.engine
        return self.engine.fixture.expected() | set(self.engine.strange)


async def run(kind: str, seed: int, base: Path, steps: int) -> Engine:
    """Make one run from the first file to the last check."""
    random.seed(seed)
    chance = random.Random(seed)
    clock = WallClock(asyncio.get_running_loop())
    existing, checksum = chance.choice(["overwrite", "conflict"]), chance.choice(["opaque", "zero"])
    delay_s = chance.choice([0.0, 20.0])
    kinds: dict[str, tuple[Any, Any, dict[str, Any]]] = {
        "ai-search": (
            ai_search_harness.open_harness,
            SimulatedAISearch,
            {"on_existing": existing, "checksum": checksum, "index_delay": delay_s},
        ),
        "kv": (kv_harness.open_harness, SimulatedKV, {"unsuccessful": 0.1, "list_lag": 5.0}),
        "vectorize": (vectorize_harness.open_harness, SimulatedVectorize, {"mutation_lag": 3.0}),
    }
    opened, made, manners = kinds[kind]
    async with opened(base, clock=WallClock(clock.loop), **manners) as harness:
        # The stand-in has its own clock. Only the clock of the mirror's machine is changed.
        harness.clock = clock
        simulated: SimulatedTarget = made(harness)
        target = {"model": vectorize_harness.MODEL} if kind == "vectorize" else {}
        engine = Engine(seed, clock, chance, harness.add_mirror("me", **target), simulated)
        await simulated.open(engine)
        engine.note(json.dumps(manners))
        (engine.fixture.root / TAKEN).write_text("# Ours\n\nOf this name.\n", encoding="utf-8")
        engine.strange[TAKEN] = "# Theirs\n\nOf this name.\n"
        await simulated.strange(TAKEN, engine.strange[TAKEN])
        await asyncio.sleep(60)
        engine.intercept(harness.wire)
        await engine.storm(steps)
        await engine.peace()
        await engine.passes(3)
        assert await simulated.held() == simulated.wanted()
        last = await engine.passes(1)
        assert last.tables.plan.counts.total() == 0
        return engine


def play(kind: str, seed: int, base: Path, steps: int) -> Engine:
    """Run one seed on a new event loop."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(run(kind, seed, base, steps))
