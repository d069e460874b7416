"""Operations on a mirror with any target: change its folder, make passes, restart."""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from pathlib import Path
from typing import Any, TypeVar

import httpx

from syncd.cloudflare.auth import Credentials
from syncd.cloudflare.gate import Gate
from syncd.cloudflare.transport import Transport
from syncd.core.errors import Park
from syncd.core.model import Content
from syncd.core.names import NO_FORMS, Forms
from syncd.core.problems import Limits
from syncd.emulator.options import EmulatorOptions
from syncd.emulator.server import Emulator
from syncd.service.build import build_mirror
from syncd.state.directory import FILE_NAME
from syncd.sync.mirror import Mirror, PassOptions, Result, Scope, Settings
from syncd.sync.reconcile import reconcile
from syncd.targets.base import Indexed, Searchable, Target, searchable

ACCOUNT = "0123456789abcdef0123456789abcdef"
BASE = "http://127.0.0.1/client/v4"
ROUNDS = 20
"""Turns of the event loop during a sleep: more than a request to the emulator takes."""

Forward = Callable[[], Awaitable[httpx.Response]]
Act = Callable[[httpx.Request, Forward], Awaitable[httpx.Response]]


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        # Other tasks run meanwhile.
        for _ in range(ROUNDS):
            await asyncio.sleep(0)


@dataclass(slots=True)
class Wire(httpx.AsyncBaseTransport):
    """The connection to the emulator. It records requests, and a test may replace an answer by an act.

    times: how often an act is played; None: always. clock: the remote's clock, for the times in answers.
    """

    inner: httpx.ASGITransport
    clock: Callable[[], float] | None = None
    diary: list[str] = field(default_factory=list)
    acts: list[tuple[str, str, Act, int | None]] = field(default_factory=list)

    def plays(self, method: str, suffix: str, act: Act, times: int | None = 1) -> None:
        self.acts.append((method, suffix, act, times))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        self.diary.append(f"{request.method} {request.url.path.rpartition('/instances/docs')[2] or '/'}")

        async def forward() -> httpx.Response:
            response = await self.inner.handle_async_request(request)
            await response.aread()
            if self.clock:
                response.headers["date"] = formatdate(self.clock(), usegmt=True)
            return response

        for place, (method, suffix, act, times) in enumerate(self.acts):
            if request.method == method and request.url.path.endswith(suffix):
                if times is not None:
                    self.acts[place] = (method, suffix, act, times - 1)
                    if times == 1:
                        del self.acts[place]
                return await act(request, forward)
        return await forward()

    def count(self, method: str, ending: str = "") -> int:
        return sum(line.startswith(method + " ") and line.endswith(ending) for line in self.diary)


@dataclass(slots=True)
class BaseHarness:
    """An emulator and its clients. `wire` carries the requests of the mirrors, `stranger` is another client.

    Subclasses add and assemble the mirrors of their target.
    """

    base: Path
    app: Emulator
    clock: Clock
    wire: Wire
    stranger: httpx.AsyncClient
    fixtures: list[Any] = field(default_factory=list)

    def transport(self, token: str = "any", retry_for: float = 30.0) -> Transport:
        """Return a transport of a mirror."""
        gate = Gate(0, 8, self.clock, self.clock.sleep)
        credentials = Credentials.bearer(token)
        return Transport(BASE, ACCOUNT, credentials, gate, retry_for=retry_for, http=self.wire, rng=lambda: 0.5)

    def build(self, fixture: Any, db: sqlite3.Connection, target: Target, settings: Settings) -> Mirror:
        """Return the mirror of a fixture, with the clock of the harness."""
        mirror = build_mirror(db, fixture.name, fixture.root, target, settings)
        mirror.now = self.clock
        mirror.age = self.clock
        mirror.chance = lambda: 0.5
        return mirror


H = TypeVar("H", bound=BaseHarness)


@asynccontextmanager
async def emulated(
    kind: type[H], base: Path, clock: Any = None, *, dated: bool = False, **manners: Any
) -> AsyncIterator[H]:
    """Start an emulator, and yield its harness. dated: let the answers tell the time."""
    clock = clock or Clock()
    app = Emulator(EmulatorOptions(**manners), clock=clock, sleep=clock.sleep)
    wire = Wire(httpx.ASGITransport(app=app), clock if dated else None)
    headers = {"Authorization": f"Bearer {manners.get('token') or 'any'}"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), headers=headers) as stranger:
        made = kind(base, app, clock, wire, stranger)
        try:
            yield made
        finally:
            for fixture in made.fixtures:
                fixture.mirror.db.close()
                await fixture.transport.aclose()
            app.backend.store.close()


@dataclass(slots=True)
class BaseMirrorFixture:
    """One mirror: its folder, its state, its transport. Subclasses add the parts of their target.

    harness: the harness, which assembles the mirror.
    """

    harness: Any
    name: str
    root: Path
    state: Path
    transport: Transport
    mirror: Mirror = field(init=False)
    long_names: bool = field(init=False, default=False)
    forms: Forms = field(init=False, default=NO_FORMS)
    converted: list[str] = field(init=False, default_factory=list)

    def convert(self, key: str, content: Content, limits: Limits) -> Content:
        """Convert a file without a library. A file whose text contains "broken" cannot be converted."""
        if limits.forms.of(key) != "convert":
            return content
        self.converted.append(key)
        if b"broken" in content.data:
            raise Park("refused", "the file is no readable document")
        return replace(content, data=b"Text: " + content.data.upper())

    def shorten(self, *, on: bool = True) -> None:
        """Restart with long_names = "shorten", or "reject"."""
        self.long_names = on
        self.restart()

    def send(self, **forms: Any) -> None:
        """Restart with these values of Forms."""
        self.forms = Forms(**forms)
        self.restart()

    def write(self, path: str, data: str | bytes, *, age_s: float = 0.0) -> Path:
        """Write a file. age_s: the age of its time, which the stat cache needs."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data.encode() if isinstance(data, str) else data)
        if age_s:
            then = file.stat().st_mtime_ns - int(age_s * 1e9)
            os.utime(file, ns=(then, then))
        return file

    def remove(self, *paths: str) -> None:
        for path in paths:
            (self.root / path).unlink()

    async def full(self, **options: Any) -> Result:
        """Make a full pass, a second later."""
        self.harness.clock.now += 1
        return await reconcile(self.mirror, Scope(), PassOptions(**options))

    async def hint(self, *paths: str, after: float = 1.0) -> Result:
        """Make a pass over marked paths."""
        prefix = self.mirror.policy.prefix
        self.mirror.queue.mark([(prefix + path, False) for path in paths], self.harness.clock.now)
        self.harness.clock.now += after
        return await reconcile(self.mirror, Scope(self.mirror.queue.settled(self.harness.clock.now)))

    def lose_journal(self) -> None:
        """Stop, delete the state file, and start."""
        self.mirror.db.close()
        for file in self.state.glob(FILE_NAME + "*"):
            file.unlink()
        self.restart()

    def restart(self) -> None:
        """Close the state file and assemble the mirror again, like a new process."""
        self.mirror.db.close()
        self.mirror = self.harness.assemble(self)

    def problems(self) -> dict[str, str]:
        return {problem.key: problem.kind for problem in self.mirror.journal.problems.all()}

    @property
    def indexed(self) -> Indexed:
        """The target as one with an index."""
        assert isinstance(self.mirror.target, Indexed)
        return self.mirror.target

    @property
    def searchable(self) -> Searchable:
        """The target as one with a search."""
        return searchable(self.mirror.target)

    @property
    def changing(self) -> int:
        """The number of requests so far that may have changed the remote."""
        return self.transport.counters.changing
