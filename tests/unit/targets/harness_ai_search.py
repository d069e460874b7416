"""Mirrors into AI Search with real files and the emulator, in one process, with a clock that the test sets."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

import httpx

from syncd.cloudflare.ai_search import AISearch
from syncd.cloudflare.auth import Credentials
from syncd.cloudflare.gate import Gate
from syncd.cloudflare.transport import Transport
from syncd.core.model import Item
from syncd.core.names import NO_FORMS, Forms
from syncd.core.plan import Policy
from syncd.core.rules import Rules
from syncd.emulator.options import EmulatorOptions
from syncd.emulator.server import Emulator
from syncd.local.walk import Tree
from syncd.service.build import LONG_KEY_LENGTH, build_mirror, removal_log
from syncd.state.caches import StoredAnswers
from syncd.state.db import open_state
from syncd.state.deletions import DeleteLog
from syncd.state.journal import Journal
from syncd.sync.mirror import Mirror, Settings
from syncd.targets.ai_search.items import ItemWritePolicy
from syncd.targets.ai_search.target import AISearchTarget, limits
from syncd.targets.base import MirrorRecords
from tests.unit.targets.harness_mirrors import BaseMirrorFixture

ACCOUNT = "0123456789abcdef0123456789abcdef"
BASE = "http://127.0.0.1/client/v4"
INSTANCES = f"{BASE}/accounts/{ACCOUNT}/ai-search/namespaces/default/instances"
ITEMS = f"{INSTANCES}/docs/items"
MIB = 1024 * 1024
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


def answers(status: int, code: int, message: str = "said") -> Act:
    """Return an answer without forwarding the request."""

    async def act(request: httpx.Request, forward: Forward) -> httpx.Response:
        del request, forward
        body = {"success": False, "errors": [{"code": code, "message": message}], "messages": [], "result": None}
        return httpx.Response(status, json=body)

    return act


def done_but_says(status: int, code: int) -> Act:
    """Forward the request, but answer with an error."""

    async def act(request: httpx.Request, forward: Forward) -> httpx.Response:
        await forward()
        return await answers(status, code)(request, forward)

    return act


async def done_but_cut_off(request: httpx.Request, forward: Forward) -> httpx.Response:
    """Forward the request, but end the connection before the answer."""
    await forward()
    raise httpx.ReadError("connection reset", request=request)


def shows(edit: Callable[[httpx.Request, Any], None]) -> Act:
    """Forward the request, and let `edit` change the JSON of the answer in place."""

    async def act(request: httpx.Request, forward: Forward) -> httpx.Response:
        response = await forward()
        body = json.loads(response.content)
        edit(request, body)
        return httpx.Response(response.status_code, json=body)

    return act


def only_for(name: bytes, act: Act) -> Act:
    """Return an act for uploads whose body contains `name`. Other uploads are forwarded."""

    async def chosen(request: httpx.Request, forward: Forward) -> httpx.Response:
        return await act(request, forward) if name in request.content else await forward()

    return chosen


@dataclass(slots=True)
class MirrorFixture(BaseMirrorFixture):
    """One mirror: its folder, its state, its transport."""

    harness: "Harness"
    name: str
    root: Path
    state: Path
    marks: ItemWritePolicy
    settings: Settings
    transport: Transport
    mirror: Mirror
    long_names: bool = False
    forms: Forms = NO_FORMS
    converted: list[str] = field(default_factory=list)
    learned: StoredAnswers = field(init=False)

    def shorten(self, *, on: bool = True) -> None:
        """Restart with long_names = "shorten", or "reject"."""
        self.long_names = on
        self.restart()

    def use(self, *, takeover: bool) -> None:
        self.marks = replace(self.marks, takeover=takeover)
        old = self.settings.policy
        self.settings = Settings(Policy(old.owner, old.prefix, old.prune, takeover), Rules(), max_delete="100%")
        self.restart()


@dataclass(slots=True)
class Harness:
    """An emulator and its clients. `wire` carries the requests of the mirrors, `stranger` is another client."""

    base: Path
    clock: Clock
    wire: Wire
    stranger: httpx.AsyncClient
    fixtures: list[MirrorFixture] = field(default_factory=list)

    def add_mirror(
        self,
        name: str = "me",
        *,
        prefix: str = "",
        prune: Any = "owned",
        root: Path | None = None,
        instance: str = "docs",
        create: bool = False,
        token: str = "any",
        retry_for: float = 30.0,
        audit_interval: float = 0.0,
        fields: dict[str, str] | None = None,
    ) -> MirrorFixture:
        """Add a mirror whose max_delete is 100%. Its owner is its name by default. fields: of the metadata."""
        folder = root or self.base / name
        folder.mkdir(exist_ok=True)
        transport = Transport(
            BASE,
            ACCOUNT,
            Credentials.bearer(token),
            Gate(0, 8, self.clock, self.clock.sleep),
            retry_for=retry_for,
            http=self.wire,
            rng=lambda: 0.5,
        )
        policy = Policy(name, prefix, prune)
        settings = Settings(policy, Rules(), max_delete="100%", create=create, audit_interval=audit_interval)
        state = self.base / f"state-{name}"
        marks = ItemWritePolicy(name, prefix, fields=fields or {})
        made = MirrorFixture(self, name, folder, state, marks, settings, transport, None)  # type: ignore[arg-type]
        made.mirror = self.assemble(made, instance)
        self.fixtures.append(made)
        return made

    def assemble(self, fixture: MirrorFixture, instance: str = "docs") -> Mirror:
        api = AISearch(fixture.transport, "default", instance)
        db, most = open_state(fixture.state), limits(128, 10 * MIB)
        if fixture.long_names:
            most = replace(most, long_key_length=LONG_KEY_LENGTH)
        most = replace(most, forms=fixture.forms)
        tree = Tree(fixture.root, Rules(), most, fixture.marks.prefix)
        records = MirrorRecords(
            Journal(db, fixture.name).keys,
            lambda: [each.key for each in tree.walk() if isinstance(each, Item)],
            removal_log(DeleteLog(fixture.state), fixture.name, fixture.settings.spec),
        )
        fixture.learned = StoredAnswers(db, f"{ACCOUNT} {instance}", self.clock)
        target = AISearchTarget(api, fixture.marks, most, records=records, learned=fixture.learned)
        mirror = build_mirror(db, fixture.name, fixture.root, target, fixture.settings)
        mirror.now = self.clock
        mirror.age = self.clock
        mirror.chance = lambda: 0.5
        mirror.convert = fixture.convert
        return mirror

    # -- another client

    async def upload(self, key: str, data: str | bytes, **metadata: str) -> str:
        """Write an item without syncd, and return its id."""
        response = await self.stranger.post(
            ITEMS,
            files={"file": (key, data.encode() if isinstance(data, str) else data)},
            data={"metadata": json.dumps(metadata)} if metadata else {},
        )
        assert response.is_success, response.text
        return str(response.json()["result"]["id"])

    async def delete(self, key: str) -> None:
        [item] = await self.items(key=key)
        (await self.stranger.delete(f"{ITEMS}/{item['id']}")).raise_for_status()

    async def items(self, **params: str) -> list[Any]:
        """Return the rows of the listing by key."""
        rows: list[Any] = []
        for page in range(1, 100):
            got = await self.stranger.get(ITEMS, params={"per_page": "50", "page": str(page), **params})
            rows += got.json()["result"]
            if len(got.json()["result"]) < 50:
                break
        return sorted(rows, key=lambda row: str(row["key"]))

    async def contents(self) -> dict[str, str]:
        """Return the texts of all uploaded items by key."""
        return {row["key"]: await self.text(row["id"]) for row in await self.items(source="builtin")}

    async def text(self, item_id: str) -> str:
        return (await self.stranger.get(f"{ITEMS}/{item_id}/download")).content.decode()


@asynccontextmanager
async def open_harness(
    base: Path, *, instance: bool = True, clock: Any = None, **manners: Any
) -> AsyncIterator[Harness]:
    """Start an emulator. instance: with the instance "docs"."""
    clock = clock or Clock()
    app = Emulator(EmulatorOptions(**{"index_delay": 0.0, **manners}), clock=clock, sleep=clock.sleep)
    wire = Wire(httpx.ASGITransport(app=app))
    headers = {"Authorization": f"Bearer {manners.get('token') or 'any'}"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), headers=headers) as stranger:
        made = Harness(base, clock, wire, stranger)
        try:
            if instance:
                (await stranger.post(INSTANCES, json={"id": "docs"})).raise_for_status()
            yield made
        finally:
            for fixture in made.fixtures:
                fixture.mirror.db.close()
                await fixture.transport.aclose()
            app.backend.store.close()
