"""Mirrors into Workers KV with real files and the emulator, in one process, with a clock that the test sets."""

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from syncd.cloudflare.kv import BULK_GET_LIMIT, KV
from syncd.core.model import Item
from syncd.core.plan import Policy
from syncd.core.rules import Rules
from syncd.local.walk import Tree
from syncd.state.db import open_state
from syncd.state.journal import Journal
from syncd.sync.mirror import Mirror, Result, Settings
from syncd.targets.base import MirrorRecords
from syncd.targets.kv.target import KVTarget, NamespaceChoice, limits, long_key_bytes
from syncd.targets.kv.writing import ValueWritePolicy
from tests.unit.targets.harness_mirrors import ACCOUNT, BASE, Act, BaseHarness, BaseMirrorFixture, Forward, emulated

NAMESPACES = f"{BASE}/accounts/{ACCOUNT}/storage/kv/namespaces"
MIB = 1024 * 1024
LAG_S = 60
CHANGES = ("/bulk", "/bulk/delete")


@dataclass(slots=True)
class MirrorFixture(BaseMirrorFixture):
    """One mirror into KV."""

    place: NamespaceChoice
    terms: ValueWritePolicy
    sizes: tuple[int, int]
    settings: Settings

    async def later(self) -> Result:
        """Make a full pass after the lag, so that the remote shows every write."""
        self.harness.clock.now += LAG_S + 1
        return await self.full()


@dataclass(slots=True)
class Harness(BaseHarness):
    """An emulator of KV and its clients. namespace: the id of its namespace."""

    namespace: str = ""

    def add_mirror(
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
    ) -> MirrorFixture:
        """Add a mirror of a new folder. sizes: most characters of a key and bytes of a file. ttls: of the policy."""
        folder = self.base / name
        folder.mkdir()
        transport = self.transport()
        terms = ValueWritePolicy(owner or name, prefix, **ttls)
        policy = Policy(terms.owner, prefix, prune, takeover)
        settings = Settings(policy, Rules(), max_delete=max_delete, create=create)
        where = place or NamespaceChoice(namespace_id=self.namespace)
        state = self.base / f"state-{name}"
        made = MirrorFixture(self, name, folder, state, transport, where, terms, sizes, settings)
        made.mirror = self.assemble(made)
        self.fixtures.append(made)
        return made

    def assemble(self, fixture: MirrorFixture) -> Mirror:
        most = limits(*fixture.sizes)
        if fixture.long_names:
            most = replace(most, long_key_length=1024, long_key_bytes=long_key_bytes(fixture.terms.owner))
        most = replace(most, forms=fixture.forms)
        db, tree = open_state(fixture.state), Tree(fixture.root, Rules(), most, fixture.terms.prefix)

        def walked() -> list[str]:
            return [each.key for each in tree.walk() if isinstance(each, Item)]

        records = MirrorRecords(Journal(db, fixture.name).keys, walked)
        target = KVTarget(KV(fixture.transport), fixture.place, fixture.terms, most, records=records)
        target.writer.clock, target.writer.sleep = self.clock, self.clock.sleep
        mirror = self.build(fixture, db, target, fixture.settings)
        mirror.convert = fixture.convert
        return mirror

    def changes(self) -> list[str]:
        """Return the requests so far that change values."""
        return [line for line in self.wire.diary if line.endswith(CHANGES)]

    # -- another client

    def url(self, key: str, kind: str = "values") -> str:
        return f"{NAMESPACES}/{self.namespace}/{kind}/{quote(key, safe='')}"

    async def make(self, title: str) -> str:
        made = await self.stranger.post(NAMESPACES, json={"title": title})
        return str(made.raise_for_status().json()["result"]["id"])

    async def put(self, key: str, data: str | bytes) -> None:
        """Write a value without syncd."""
        (await self.stranger.put(self.url(key), content=data)).raise_for_status()

    async def drop(self, key: str) -> None:
        (await self.stranger.delete(self.url(key))).raise_for_status()

    async def value(self, key: str) -> bytes | None:
        got = await self.stranger.get(self.url(key))
        return None if got.status_code == 404 else got.raise_for_status().content

    async def marks(self, key: str) -> Any:
        return (await self.stranger.get(self.url(key, "metadata"))).raise_for_status().json()["result"]

    async def rows(self) -> dict[str, Any]:
        """Return the rows of the listing by name."""
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
        """Return the stored values by key, of the keys in the listing that still exist."""
        names = list(await self.rows())
        found: dict[str, bytes | None] = {}
        for part in (names[start : start + BULK_GET_LIMIT] for start in range(0, len(names), BULK_GET_LIMIT)):
            got = await self.stranger.post(f"{NAMESPACES}/{self.namespace}/bulk/get", json={"keys": part})
            if got.is_success:
                found |= {key: value and value.encode() for key, value in got.json()["result"]["values"].items()}
            else:  # one of them is no text
                found |= {key: await self.value(key) for key in part}
        return {key: value for key, value in found.items() if value is not None}


def refuses_key(key: str) -> Act:
    """Answer 400 with code 10001 to every bulk body that contains the key."""

    async def act(request: httpx.Request, forward: Forward) -> httpx.Response:
        body = json.loads(request.content)
        if any((item["key"] if isinstance(item, dict) else item) == key for item in body):
            errors = [{"code": 10001, "message": "this value will not do"}]
            return httpx.Response(400, json={"success": False, "errors": errors, "messages": [], "result": None})
        return await forward()

    return act


def sent(request: httpx.Request) -> dict[str, bytes]:
    """Return the values of a bulk body by key."""
    return {
        pair["key"]: base64.b64decode(pair["value"]) if pair.get("base64") else pair["value"].encode()
        for pair in json.loads(request.content)
    }


def keeps(book: list[dict[str, bytes]]) -> Act:
    """Record the content of each bulk write, and forward it."""

    async def act(request: httpx.Request, forward: Forward) -> httpx.Response:
        book.append(sent(request))
        return await forward()

    return act


@asynccontextmanager
async def open_harness(
    base: Path, *, title: str | None = "docs", clock: Any = None, **manners: Any
) -> AsyncIterator[Harness]:
    """Start an emulator. title: the title of its namespace, None for no namespace."""
    async with emulated(Harness, base, clock, **manners) as made:
        if title is not None:
            made.namespace = await made.make(title)
        yield made
