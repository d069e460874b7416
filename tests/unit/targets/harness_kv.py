"""Mirrors into Workers KV over real files and the stand-in, in one process, with a clock of the test's own."""

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from syncd.cloudflare.auth import Credentials
from syncd.cloudflare.gate import Gate
from syncd.cloudflare.kv import KV
from syncd.cloudflare.transport import Seams, Transport
from syncd.core.plan import Policy
from syncd.core.rules import Rules
from syncd.emulator.app import create_app
from syncd.emulator.options import EmulatorOptions
from syncd.service.build import build_mirror
from syncd.state.db import open_state
from syncd.sync.mirror import Mirror, Settings
from syncd.sync.passes import Result
from syncd.targets.kv.target import KVTarget, NamespaceChoice, limits, long_key_bytes
from syncd.targets.kv.writing import ValueWritePolicy
from tests.unit.targets.harness_ai_search import ACCOUNT, BASE, Act, Clock, Forward, Wire
from tests.unit.targets.harness_owners import BaseSide

NAMESPACES = f"{BASE}/accounts/{ACCOUNT}/storage/kv/namespaces"
MIB = 1024 * 1024
LAG_S = 60
CHANGES = ("/bulk", "/bulk/delete")


@dataclass(slots=True)
class Side(BaseSide):
    """One mirror: its folder, its state, its own transport."""

    world: "World"
    name: str
    root: Path
    state: Path
    place: NamespaceChoice
    terms: ValueWritePolicy
    sizes: tuple[int, int]
    settings: Settings
    transport: Transport
    mirror: Mirror
    long_names: bool = False

    def shorten(self, *, on: bool = True) -> None:
        """Restart with long_names = "shorten", or "reject"."""
        self.long_names = on
        self.restart()

    async def later(self) -> Result:
        """A full pass when everything written so far can be seen."""
        self.world.clock.now += LAG_S + 1
        return await self.full()


@dataclass(slots=True)
class World:
    """A stand-in, and whoever works with it. `wire` carries what the mirrors send, `stranger` has a way of its own."""

    base: Path
    clock: Clock
    wire: Wire
    stranger: httpx.AsyncClient
    namespace: str = ""
    sides: list[Side] = field(default_factory=list)

    def side(
        self,
        name: str = "me",
        *,
        owner: str = "",
        prefix: str = "",
        prune: Any = "owned",
        place: NamespaceChoice | None = None,
        sizes: tuple[int, int] = (512, 4 * MIB),
        create: bool = False,
        max_delete: str = "100%",
        takeover: bool = False,
        **ttls: Any,
    ) -> Side:
        """A mirror of a folder of its own. sizes: characters of a key, bytes of a file; ttls: of the policy."""
        folder = self.base / name
        folder.mkdir()
        transport = Transport(
            BASE,
            ACCOUNT,
            Credentials.bearer("any"),
            Gate(0, 8, self.clock, self.clock.sleep),
            retry_for=30.0,
            seams=Seams(self.wire, rng=lambda: 0.5),
        )
        terms = ValueWritePolicy(owner or name, prefix, **ttls)
        policy = Policy(terms.owner, prefix, prune, takeover)
        settings = Settings(policy, Rules(), max_delete=max_delete, create=create)
        where = place or NamespaceChoice(namespace_id=self.namespace)
        state = self.base / f"state-{name}"
        made = Side(self, name, folder, state, where, terms, sizes, settings, transport, None)  # type: ignore[arg-type]
        made.mirror = self.assemble(made)
        self.sides.append(made)
        return made

    def assemble(self, side: Side) -> Mirror:
        most = limits(*side.sizes)
        if side.long_names:
            most = replace(most, long_key_length=1024, long_key_bytes=long_key_bytes(side.terms.owner))
        target = KVTarget(KV(side.transport), side.place, side.terms, most)
        target.writer.clock, target.writer.sleep = self.clock, self.clock.sleep
        mirror = build_mirror(open_state(side.state), side.name, side.root, target, side.settings)
        mirror.now = self.clock
        mirror.age = self.clock
        mirror.chance = lambda: 0.5
        return mirror

    def changes(self) -> list[str]:
        """The requests so far that were to change values."""
        return [line for line in self.wire.diary if line.endswith(CHANGES)]

    # -- the stranger

    def url(self, key: str, kind: str = "values") -> str:
        return f"{NAMESPACES}/{self.namespace}/{kind}/{quote(key, safe='')}"

    async def make(self, title: str) -> str:
        made = await self.stranger.post(NAMESPACES, json={"title": title})
        return str(made.raise_for_status().json()["result"]["id"])

    async def put(self, key: str, data: str | bytes) -> None:
        """Somebody writes a value without syncd."""
        (await self.stranger.put(self.url(key), content=data)).raise_for_status()

    async def drop(self, key: str) -> None:
        (await self.stranger.delete(self.url(key))).raise_for_status()

    async def value(self, key: str) -> bytes | None:
        got = await self.stranger.get(self.url(key))
        return None if got.status_code == 404 else got.raise_for_status().content

    async def marks(self, key: str) -> Any:
        return (await self.stranger.get(self.url(key, "metadata"))).raise_for_status().json()["result"]

    async def rows(self) -> dict[str, Any]:
        """The listing, by name."""
        found: dict[str, Any] = {}
        cursor = ""
        while True:
            params = {"cursor": cursor} if cursor else {}
            got = (await self.stranger.get(f"{NAMESPACES}/{self.namespace}/keys", params=params)).json()
            found |= {row["name"]: row for row in got["result"]}
            cursor = got["result_info"]["cursor"]
            if not cursor:
                return found

    async def contents(self) -> dict[str, bytes | None]:
        """Key -> what is stored, of all that the listing shows and that is still there."""
        found = {key: await self.value(key) for key in await self.rows()}
        return {key: value for key, value in found.items() if value is not None}


def refuses_key(key: str) -> Act:
    """400/10001 to every bulk body that holds the key."""

    async def act(request: httpx.Request, forward: Forward) -> httpx.Response:
        body = json.loads(request.content)
        if any((item["key"] if isinstance(item, dict) else item) == key for item in body):
            errors = [{"code": 10001, "message": "this value will not do"}]
            return httpx.Response(400, json={"success": False, "errors": errors, "messages": [], "result": None})
        return await forward()

    return act


def sent(request: httpx.Request) -> dict[str, bytes]:
    """Key -> value of a bulk body."""
    return {
        pair["key"]: base64.b64decode(pair["value"]) if pair.get("base64") else pair["value"].encode()
        for pair in json.loads(request.content)
    }


def keeps(book: list[dict[str, bytes]]) -> Act:
    """Enters what each bulk write carries, and lets it through."""

    async def act(request: httpx.Request, forward: Forward) -> httpx.Response:
        book.append(sent(request))
        return await forward()

    return act


@asynccontextmanager
async def world(base: Path, *, title: str | None = "docs", clock: Any = None, **manners: Any) -> AsyncIterator[World]:
    """A stand-in with one namespace, unless it is not wanted."""
    clock = clock or Clock()
    app = create_app(EmulatorOptions(**manners), clock=clock, sleep=clock.sleep)
    wire = Wire(httpx.ASGITransport(app=app))
    headers = {"Authorization": "Bearer any"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), headers=headers) as stranger:
        made = World(base, clock, wire, stranger)
        try:
            if title is not None:
                made.namespace = await made.make(title)
            yield made
        finally:
            for side in made.sides:
                side.mirror.db.close()
                await side.transport.aclose()
            app.state.backend.store.close()
