"""Mirrors into AI Search with real files and the emulator, in one process, with a clock that the test sets."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx

from syncd.cloudflare.ai_search import AISearch
from syncd.core.model import Item
from syncd.core.plan import Policy
from syncd.core.rules import Rules
from syncd.local.walk import Tree
from syncd.service.build import LONG_KEY_LENGTH, removal_log
from syncd.state.caches import StoredAnswers
from syncd.state.db import open_state
from syncd.state.deletions import DeleteLog
from syncd.state.journal import Journal
from syncd.sync.mirror import Mirror, Settings
from syncd.targets.ai_search.items import ItemWritePolicy
from syncd.targets.ai_search.target import AISearchTarget, limits
from syncd.targets.base import MirrorRecords
from tests.unit.targets.harness_mirrors import ACCOUNT, BASE, Act, BaseHarness, BaseMirrorFixture, Forward, emulated

INSTANCES = f"{BASE}/accounts/{ACCOUNT}/ai-search/namespaces/default/instances"
ITEMS = f"{INSTANCES}/docs/items"
MIB = 1024 * 1024


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
    """One mirror into AI Search."""

    marks: ItemWritePolicy
    settings: Settings
    learned: StoredAnswers = field(init=False)

    def use(self, *, takeover: bool) -> None:
        self.marks = replace(self.marks, takeover=takeover)
        old = self.settings.policy
        self.settings = Settings(Policy(old.owner, old.prefix, old.prune, takeover), Rules(), max_delete="100%")
        self.restart()


@dataclass(slots=True)
class Harness(BaseHarness):
    """An emulator of AI Search and its clients."""

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
        transport = self.transport(token, retry_for)
        policy = Policy(name, prefix, prune)
        settings = Settings(policy, Rules(), max_delete="100%", create=create, audit_interval=audit_interval)
        state = self.base / f"state-{name}"
        marks = ItemWritePolicy(name, prefix, fields=fields or {})
        made = MirrorFixture(self, name, folder, state, transport, marks, settings)
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
        mirror = self.build(fixture, db, target, fixture.settings)
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
    async with emulated(Harness, base, clock, **{"index_delay": 0.0, **manners}) as made:
        if instance:
            (await made.stranger.post(INSTANCES, json={"id": "docs"})).raise_for_status()
        yield made
