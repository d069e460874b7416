"""What a mirror forgets when it is opened under another shard than last time."""

import sqlite3

import structlog

from syncd.shards import WHOLE, Shard
from syncd.state.claims import forget_listing
from syncd.state.db import Meta, transaction

log = structlog.get_logger()


def hand_over(db: sqlite3.Connection, mirror: str, shard: Shard) -> None:
    """Drop what is known of keys that other processes answer for now. Their entries stay: no row, no plan.

    Keys that came to us have no row yet; the next full pass adopts their entries by their marks.
    """
    meta = Meta(db, mirror)
    before = meta.get("shard") or str(WHOLE)
    if before == str(shard):
        return
    db.create_function("held", 1, shard.holds, deterministic=True)
    # Problems, refusals and checksums a full pass drops by itself. A hint may speak of a directory, which all look at.
    with transaction(db):
        forgotten, *_ = [
            db.execute(f"DELETE FROM {table} WHERE mirror = ? AND NOT held(key)", (mirror,)).rowcount  # noqa: S608
            for table in ("record", "tombstone", "reindex", "absence")
        ]
        meta.set("shard", str(shard))
        # It counts as others what is ours now.
        meta.set("audit", None)
        forget_listing(meta)
    log.info("shard.changed", mirror=mirror, before=before, now=str(shard), forgotten=forgotten)
