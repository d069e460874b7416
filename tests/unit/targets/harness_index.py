"""Many items on their way into the index, put there without uploading each."""

import json
from typing import Any

from syncd.core.model import Record
from syncd.emulator.ai_search_store import BUILTIN, ItemRow, queue_item
from syncd.emulator.options import matches
from syncd.state.db import transaction
from tests.unit.targets.harness_ai_search import Side, World

MINUTE_S = 60.0


def backend(world: World) -> Any:
    return world.wire.inner.app.state.backend  # type: ignore[attr-defined]


def filled(world: World, side: Side, count: int, start: int = 0) -> list[str]:
    """So many files of the mirror are stored and queued, one after the other within a minute; return their refs."""
    store, refs = backend(world).store, []
    with store.transaction(), transaction(side.mirror.db):
        for number in range(start, start + count):
            at = world.clock.now + MINUTE_S * (number - start) / count
            refs.append(_store(world, number, at))
            side.mirror.journal.put(
                Record(f"{number:06}.md", refs[-1], "c", 4, at, version="0", remote_size=4, status="queued")
            )
    world.clock.now += MINUTE_S
    return refs


def strange(world: World, count: int, source: str = BUILTIN) -> None:
    """Items that are none of ours."""
    with backend(world).store.transaction():
        for number in range(count):
            _store(world, 900_000 + number, world.clock.now, source)


def _store(world: World, number: int, at: float, source: str = BUILTIN) -> str:
    key, ref = f"{number:06}.md", f"{number:032x}"
    shown = json.dumps({"filename": key, "folder": "", "timestamp": 0})
    failing = matches(backend(world).options.fail_index, key)
    error = "unable_to_convert_to_markdown" if failing else None
    item = ItemRow(ref, 1, key, source, "0", 4, shown, "{}", 0, error, at, at, at, at, at)
    queue_item(backend(world), item, at)
    return ref


def restate(world: World, ref: str, **columns: float | str | None) -> None:
    """What became of an item, against what its age says: times as in the stand-in's table."""
    terms = ", ".join(f"{name} = :{name}" for name in columns)
    backend(world).store.run(f"UPDATE ai_items SET {terms} WHERE id = :ref", {**columns, "ref": ref})


def done(world: World, refs: list[str], error: str | None = None) -> None:
    """The indexing of these has just ended."""
    with backend(world).store.transaction():
        for ref in refs:
            restate(world, ref, started_at=world.clock.now - 1, done_at=world.clock.now, error=error)
