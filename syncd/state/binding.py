"""What a mirror forgets when it is built with another target, key prefix or shard than before."""

import sqlite3

import structlog

from syncd.shards import WHOLE, Shard
from syncd.state.claims import Claims, forget_listing
from syncd.state.db import Meta, transaction
from syncd.state.journal import Journal
from syncd.state.steady import Age, boot_id, uptime_s

log = structlog.get_logger()


def bind(db: sqlite3.Connection, mirror: str, location: str, prefix: str) -> None:
    """Clear the journal if it describes another target or key prefix.

    location: the account and the target. After a change of the prefix alone, the entries stay claimed: their files may
    still be in the folder.
    """
    journal, meta, binding = Journal(db, mirror), Meta(db, mirror), [location, prefix]
    before = meta.get("binding")
    if before not in (None, binding):
        log.warning("journal.rebound", before=before, now=binding)
        same_target = isinstance(before, list) and before[0] == location
        if same_target:
            Claims(db, mirror).inherit(Age(db, boot_id(), uptime_s()).at(uptime_s()))
        journal.clear(but=("claim",) if same_target else ())
        forget_listing(meta)
    if before != binding:
        meta.set("binding", binding)


def reshard(db: sqlite3.Connection, mirror: str, shard: Shard) -> None:
    """Delete the records of keys that belong to other shards now. No request is made: a key without a row has no plan.

    Keys that this shard gained have no row yet. The next full pass adopts their entries by their owner marks.
    """
    meta = Meta(db, mirror)
    before = meta.get("shard") or str(WHOLE)
    if before == str(shard):
        return
    db.create_function("held", 1, shard.holds, deterministic=True)
    # A full pass drops problems, refusals and checksums. Hints stay, since a hint can name a directory of all shards.
    with transaction(db):
        forgotten, *_ = [
            db.execute(f"DELETE FROM {table} WHERE mirror = ? AND NOT held(key)", (mirror,)).rowcount  # noqa: S608
            for table in ("record", "tombstone", "reindex", "absence")
        ]
        meta.set("shard", str(shard))
        # The stored audit counts entries of this shard as entries of others.
        meta.set("audit", None)
        forget_listing(meta)
    log.info("shard.changed", mirror=mirror, before=before, now=str(shard), forgotten=forgotten)
