"""Stores many queued items in the emulator without an upload of each."""

import json
from typing import Any

from syncd.core.model import Record
from syncd.emulator.ai_search_store import BUILTIN, ItemRow, queue_item
from syncd.emulator.options import matches
from syncd.state.db import transaction
from tests.unit.targets.harness_ai_search import Harness, MirrorFixture

MINUTE_S = 60.0


def backend(harness: Harness) -> Any:
    return harness.wire.inner.app.backend  # type: ignore[attr-defined]


def filled(harness: Harness, fixture: MirrorFixture, count: int, start: int = 0) -> list[str]:
    """Store and queue so many files of the mirror within a minute, and return their refs."""
    store, refs = backend(harness).store, []
    with store.transaction(), transaction(fixture.mirror.db):
        for number in range(start, start + count):
            at = harness.clock.now + MINUTE_S * (number - start) / count
            refs.append(_store(harness, number, at))
            fixture.mirror.journal.put(
                Record(f"{number:06}.md", refs[-1], "c", 4, at, version="0", remote_size=4, status="queued")
            )
    harness.clock.now += MINUTE_S
    return refs


def strange(harness: Harness, count: int, source: str = BUILTIN) -> None:
    """Store foreign items."""
    with backend(harness).store.transaction():
        for number in range(count):
            _store(harness, 900_000 + number, harness.clock.now, source)


def _store(harness: Harness, number: int, at: float, source: str = BUILTIN) -> str:
    key, ref = f"{number:06}.md", f"{number:032x}"
    shown = json.dumps({"filename": key, "folder": "", "timestamp": 0})
    failing = matches(backend(harness).options.fail_index, key)
    error = "unable_to_convert_to_markdown" if failing else None
    item = ItemRow(ref, 1, key, source, shown, "{}", 0, error, at, at, size=4)
    queue_item(backend(harness), item, at)
    return ref


def restate(harness: Harness, ref: str, **columns: float | str | None) -> None:
    """Set columns of an item in the table of the emulator, such as its times."""
    terms = ", ".join(f"{name} = :{name}" for name in columns)
    backend(harness).store.execute(f"UPDATE ai_items SET {terms} WHERE id = :ref", {**columns, "ref": ref})


def done(harness: Harness, refs: list[str], error: str | None = None) -> None:
    """Set the end of indexing of these items to now."""
    with backend(harness).store.transaction():
        for ref in refs:
            restate(harness, ref, started_at=harness.clock.now - 1, done_at=harness.clock.now, error=error)
