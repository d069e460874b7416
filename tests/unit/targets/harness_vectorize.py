"""Mirrors into Vectorize with real files and the emulator, in one process, with a clock that the test sets."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from syncd.config.schema import MirrorConfig
from syncd.core.errors import Park
from syncd.core.model import Content, Put
from syncd.service.build import Grants, build_settings, build_target, removal_log
from syncd.state.db import open_state
from syncd.state.deletions import DeleteLog
from syncd.sync.mirror import Mirror
from syncd.targets.vectorize.target import VectorizeTarget
from syncd.targets.vectorize.writing import VectorWritePolicy, split_file
from tests.unit.targets.harness_mirrors import ACCOUNT, BASE, BaseHarness, BaseMirrorFixture, emulated

INDEXES = f"{BASE}/accounts/{ACCOUNT}/vectorize/v2/indexes"
INDEX = f"{INDEXES}/docs"
MODEL = "@cf/baai/bge-small-en-v1.5"


@dataclass(slots=True)
class MirrorFixture(BaseMirrorFixture):
    """One mirror into Vectorize."""

    section: MirrorConfig
    grants: Grants

    def write(self, path: str, data: str | bytes, *, age_s: float = 60.0) -> Path:
        # Young files are read again in every pass; these tests count the reads.
        return BaseMirrorFixture.write(self, path, data, age_s=age_s)

    def use(self, *, takeover: bool = False, reembed: bool = False, **target: Any) -> None:
        """Restart with other keys in the config's target section, or with other grants."""
        self.mirror.db.close()
        changed = self.section.target.model_copy(update=target)
        self.section = self.section.model_copy(update={"target": changed})
        self.grants = Grants(takeover, reembed)
        self.mirror = self.harness.assemble(self)

    def expected(self) -> set[str]:
        """Return the ids of the folder, by its files alone."""
        target = self.mirror.target
        assert isinstance(target, VectorizeTarget)
        found: set[str] = set()
        for file in sorted(path for path in self.root.rglob("*") if path.is_file()):
            found |= ids_of(target, self.section.key_prefix + file.relative_to(self.root).as_posix(), file.read_bytes())
        return found


def ids_of(target: VectorizeTarget, key: str, data: bytes) -> set[str]:
    """Return the ids of all vectors of a file under a key, none for a file without text."""
    maker, how = target._writer._maker, target._writer._settings
    content = Content(data, hashlib.sha256(data).hexdigest())
    try:
        return {
            piece.id
            for piece in split_file(Put(key, "new", key, len(data)), content, maker, how, VectorWritePolicy(""))
        }
    except Park:
        return set()


@dataclass(slots=True)
class Harness(BaseHarness):
    """An emulator of Vectorize and its clients."""

    def add_mirror(
        self, name: str = "me", *, owner: str = "", prefix: str = "", prune: str = "owned", **target: Any
    ) -> MirrorFixture:
        """Add a mirror of a new folder. target: keys of the config's target section."""
        folder = self.base / name
        folder.mkdir()
        section = MirrorConfig.model_validate(
            {
                "path": folder,
                "owner": owner or name,
                "key_prefix": prefix,
                "prune": prune,
                "max_delete": "100%",
                "target": {"type": "vectorize", "index": "docs", "model": MODEL, "create": True, **target},
            }
        )
        made = MirrorFixture(self, name, folder, self.base / f"state-{name}", self.transport(), section, Grants())
        made.mirror = self.assemble(made)
        self.fixtures.append(made)
        return made

    def assemble(self, fixture: MirrorFixture) -> Mirror:
        db = open_state(fixture.state)
        open_log = removal_log(DeleteLog(fixture.state), fixture.name, fixture.section.target.spec)
        target = build_target(fixture.transport, db, fixture.name, fixture.section, fixture.grants, open_log)
        assert isinstance(target, VectorizeTarget)
        target.index.mutations.clock, target.index.mutations.sleep = self.clock, self.clock.sleep
        return self.build(fixture, db, target, build_settings(fixture.section, fixture.grants))

    @property
    def embedded(self) -> int:
        """The number of texts embedded so far."""
        count: int = self.app.backend.requests.embedded_texts
        return count

    @property
    def changing(self) -> int:
        """The number of requests so far that may have changed the remote."""
        count: int = self.app.backend.requests.changing
        return count

    # -- another client

    async def ids(self) -> set[str]:
        """Advance the clock until every change is processed, and return all ids."""
        self.clock.now += 60
        found: set[str] = set()
        cursor = None
        while True:
            got = await self.stranger.get(f"{INDEX}/list", params={"cursor": cursor} if cursor else {})
            page = got.raise_for_status().json()["result"]
            found |= {row["id"] for row in page["vectors"]}
            cursor = page.get("nextCursor")
            if not page["isTruncated"]:
                return found

    async def drop(self, *ids: str) -> None:
        """Delete vectors without syncd."""
        (await self.stranger.post(f"{INDEX}/delete_by_ids", json={"ids": list(ids)})).raise_for_status()

    async def put(self, vector_id: str, dimensions: int = 384) -> None:
        """Write a vector without syncd."""
        line = f'{{"id": "{vector_id}", "values": {[0.5] * dimensions}}}\n'
        headers = {"Content-Type": "application/x-ndjson"}
        (await self.stranger.post(f"{INDEX}/upsert", content=line, headers=headers)).raise_for_status()


@asynccontextmanager
async def open_harness(base: Path, *, clock: Any = None, **manners: Any) -> AsyncIterator[Harness]:
    """Start an emulator without an index."""
    async with emulated(Harness, base, clock, dated=True, **manners) as made:
        yield made
