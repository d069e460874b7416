"""The lines of `check`, and the one about whose the entries are."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import sqlite3

    from syncd.config.schema import Config


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `check`. remedy: what to do, if it is not ok."""

    what: str
    level: Literal["ok", "warn", "FAIL"]
    message: str
    remedy: str | None = None


def check_owners(config: "Config") -> list[Finding]:
    """Return the owner mark of each mirror, with a warning if entries of others are in its way."""
    from syncd.state.db import open_state_to_read

    db = open_state_to_read(config.state_dir)
    try:
        return [_check_owner(config, name, db) for name in config.mirrors]
    finally:
        if db:
            db.close()


def _check_owner(config: "Config", name: str, db: "sqlite3.Connection | None") -> Finding:
    from syncd.core.keys import shown
    from syncd.queries.status import foreign, owner_shown

    section, what = config.mirrors[name], f"{name}: owner"
    mark = owner_shown(config, name, db)
    if keys := foreign(name, db):
        message = f"{mark}: {len(keys)} entries of others stand in this mirror's place, such as {shown(keys[0])}"
        remedy = f"give each its own key_prefix, or make them this mirror's: syncd reconcile --takeover {name}"
        return Finding(what, "warn", message, remedy)
    if mark is None:
        return Finding(what, "ok", "decided by the first pass, from the mirror's name and its state directory")
    if section.shard and not section.owner:
        remedy = f'owner = "{name}", or any other mark, in the config that all shards share'
        return Finding(what, "warn", f"{mark}, which holds for shards on this machine only", remedy)
    source = "set in the config" if section.owner else "from the mirror's name, this machine and the folder"
    return Finding(what, "ok", f"{mark} ({source})")
