"""Ownership: the owner, target, prefix and shard of a mirror, and the entries that belong to it.

Claims and superseded entries are entries of ours that no record describes. A claim distinguishes our writes from
the writes of others. Every put is claimed by its key before it is sent, so neither a SIGKILL nor a lost answer makes
its entry foreign. Further claims are earlier versions of an entry, which a listing that lags may still show, and
entries with our mark that a listing showed before the journal was complete.

A superseded entry has to be deleted. Its row lets a pass over single keys repeat a delete that had to wait. Without the
row, only the listing of the next full pass would show the entry.
"""

import hashlib
import os
import socket
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from syncd.core.keys import from_os, to_os
from syncd.core.model import Delete, Entry
from syncd.core.names import WHOLE, Shard
from syncd.core.plan import UNKNOWN, Claim
from syncd.state.db import SUCCESSOR, Age, Meta, MirrorRows, in_parts, placeholders, transaction
from syncd.state.directory import installation
from syncd.state.journal import Journal

MACHINE_ID_FILES: Sequence[Path] = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))
UNDECIDED = "no machine id and no state directory yet"
"""The machine id that a read-only command uses before the first pass. No entry can have its owner mark."""
_HEX = frozenset("0123456789abcdef")
_DIGITS = 8
_NAME_LENGTH = 64 - _DIGITS - 1
"""Maximum characters of the mirror's name in a derived owner, which has at most 64."""
OWNERS = "owners"
LISTED = "listed"
BINDING = "binding"
"""Names of stored values: the owner of each folder, the state of `Claims.complete`, the binding of the journal."""
_INSERT = "INSERT OR REPLACE INTO claim VALUES (?, ?, ?, ?, ?)"

_SHOWN = """
    INSERT OR IGNORE INTO claim
    SELECT :mirror, entry.key, entry.ref, coalesce(entry.checksum, ''), :now FROM temp.remote AS entry
    WHERE entry.pass = :pass AND entry.owner = :owner AND entry.serialized IS NULL
      AND coalesce(entry.prefix, :prefix) = :prefix
      AND (:all OR EXISTS (SELECT 1 FROM claim WHERE claim.mirror = :mirror AND claim.key = entry.key
                           AND claim.ref = ''))
      AND NOT EXISTS (SELECT 1 FROM record WHERE record.mirror = :mirror AND record.key = entry.key
                      AND record.ref = entry.ref)
      AND NOT EXISTS (SELECT 1 FROM tombstone WHERE tombstone.mirror = :mirror AND tombstone.ref = entry.ref)
"""

_SETTLED = """
    DELETE FROM claim
    WHERE mirror = :mirror AND at NOT BETWEEN :started - :keep AND :now + :keep
      AND NOT EXISTS (SELECT 1 FROM temp.remote AS entry WHERE entry.pass = :pass AND entry.key = claim.key
                      AND entry.ref = claim.ref AND coalesce(entry.checksum, claim.checksum) = claim.checksum)
"""

_OF_OTHER_NAMES = f"""
    SELECT key, ref, checksum FROM record
    WHERE mirror IN (SELECT other.mirror FROM meta AS other JOIN meta AS own USING (name, value)
                     WHERE own.mirror = ?1 AND name = '{BINDING}' AND other.mirror != ?1)
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Listing:
    """A listing that a pass has read to its end. started: the start of the pass, as an `Age`.

    whole: whether no row can be missing. lag_s: seconds for which a listing may not show our own writes.
    """

    pass_id: int
    owner: str
    prefix: str
    started: float
    whole: bool
    lag_s: float


class Claims(MirrorRows):
    """The claims of one mirror. Times are ages of the state file, so a change of the clock cannot end a claim."""

    def __init__(self, db: sqlite3.Connection, mirror: str) -> None:
        super().__init__(db, mirror)
        self._meta = Meta(db, mirror)

    def add_puts(self, keys: Iterable[str], now: float) -> None:
        """Claim the entries that puts are about to write under these keys. Returns after the claims are on disk."""
        # If a power cut lost the claim but not the upload, the entry would look like the entry of another writer.
        synced = not self._db.in_transaction
        if synced:
            self._db.execute("PRAGMA synchronous = FULL")
        try:
            self._run_each(_INSERT, ((key, *UNKNOWN, now) for key in keys))
        finally:
            if synced:
                self._db.execute("PRAGMA synchronous = NORMAL")

    def puts(self, keys: Sequence[str]) -> set[str]:
        """Return the keys of a put that was claimed and whose outcome is not recorded."""
        return {key for key, claims in self.get(keys).items() if UNKNOWN in claims}

    def remove_put(self, key: str) -> None:
        """Remove the claim of a put whose outcome is recorded, or that was not sent."""
        self._run("DELETE FROM claim WHERE mirror = ? AND key = ? AND ref = ''", key)

    def add(self, key: str, claim: Claim, now: float) -> None:
        """Claim an entry that was ours and has no record any more."""
        self._run(_INSERT, key, *claim, now)

    def add_records(self, now: float) -> None:
        """Claim all recorded entries, which an earlier setting wrote."""
        self._run(
            "INSERT OR REPLACE INTO claim SELECT mirror, key, ref, checksum, ?2 FROM record WHERE mirror = ?1", now
        )

    def get(self, keys: Sequence[str]) -> dict[str, set[Claim]]:
        """Return key -> claims, for the keys that have claims."""
        return self._by_key("SELECT key, ref, checksum FROM claim WHERE mirror = ?1", keys)

    def of_other_names(self, keys: Sequence[str]) -> dict[str, set[Claim]]:
        """Return key -> entries that this state file records under other names of mirrors, for the same target.

        If a mirror is renamed and gets its former name back, its records under that name are old.
        """
        return self._by_key(_OF_OTHER_NAMES, keys)

    def _by_key(self, select: str, keys: Sequence[str]) -> dict[str, set[Claim]]:
        claims: dict[str, set[Claim]] = {}
        for part in in_parts(keys):
            for key, ref, checksum in self._run(f"{select} AND key IN ({placeholders(part)})", *part):
                claims.setdefault(key, set()).add((ref, checksum))
        return claims

    @property
    def complete(self) -> bool:
        """Whether records and claims name every entry of ours, because a whole listing was processed."""
        return self._meta.values(LISTED).get("open") is False

    def apply_listing(self, listing: Listing, now: float, keep_s: float) -> None:
        """Claim our entries in a whole listing, and remove claims older than `keep_s` seconds that it does not show.

        A first listing can miss entries that were written just before it. If it shows entries of ours, or the state
        file was lost, the journal becomes complete only with a second listing, after `lag_s`.
        """
        terms = {"mirror": self._mirror, "pass": listing.pass_id, "owner": listing.owner, "prefix": listing.prefix}
        terms |= {"all": not self.complete, "started": listing.started, "now": now, "keep": keep_s}
        with transaction(self._db):
            self._db.execute(_SHOWN, terms)
            self._db.execute(_SETTLED, terms)
            self._note(listing)

    def _note(self, listing: Listing) -> None:
        last = self._meta.values(LISTED)
        if not last:
            unsure = not listing.whole or self._shows_ours(listing) or Meta(self._db, "").get(SUCCESSOR)
            self._meta.set(LISTED, {"at": listing.started, "open": bool(unsure)})
        elif last["open"] and listing.whole and abs(listing.started - last["at"]) > listing.lag_s:
            self._meta.set(LISTED, {"at": listing.started, "open": False})

    def _shows_ours(self, listing: Listing) -> bool:
        ours = "SELECT 1 FROM temp.remote WHERE pass = ? AND owner = ? LIMIT 1"
        return self._db.execute(ours, (listing.pass_id, listing.owner)).fetchone() is not None


def forget_listing(meta: Meta) -> None:
    """Mark the journal as incomplete after a change of the target or of the keys that it describes."""
    meta.set(LISTED, None)


class SupersededEntries(MirrorRows):
    """The superseded entries of one mirror. owner: their owner mark."""

    def __init__(self, db: sqlite3.Connection, mirror: str, owner: str) -> None:
        super().__init__(db, mirror)
        self._owner = owner

    def keep(self, deletes: Iterable[Delete]) -> None:
        """Store the entries that these deletes will remove, until the journal records the delete."""
        self._run_each(
            "INSERT OR REPLACE INTO superseded VALUES (?, ?, ?, ?)",
            ((delete.key, delete.ref, delete.checksum) for delete in deletes),
        )

    def of(self, keys: Sequence[str]) -> dict[str, list[Entry]]:
        """Return key -> superseded entries for some keys, except for an entry that the journal has recorded again."""
        entries: dict[str, list[Entry]] = {}
        rows = self._run(
            f"SELECT key, ref, checksum FROM superseded AS left WHERE mirror = ? AND key IN ({placeholders(keys)})"  # noqa: S608
            " AND NOT EXISTS (SELECT 1 FROM record"
            " WHERE record.mirror = left.mirror AND record.key = left.key AND record.ref = left.ref)",
            *keys,
        )
        for key, ref, checksum in rows:
            entries.setdefault(key, []).append(Entry(key, ref, checksum, owner=self._owner, marked=True))
        return entries


def machine(state_dir: Path) -> str | None:
    """Return an id of this machine, None if it has none before the state directory is made.

    It includes the host name, because machines made from one image can have the same machine id.
    """
    known = _machine_id() or installation(state_dir)
    return f"{known} {socket.gethostname()}" if known else None


def _machine_id() -> str | None:
    for place in MACHINE_ID_FILES:
        try:
            text = place.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue
        # systemd writes "uninitialized" before the first boot. In an image the file can be empty or zeros.
        if len(text) == 32 and set(text) <= _HEX and set(text) != {"0"}:
            return text
    return None


def derived(name: str, folder: Path, machine: str) -> str:
    """Return the default owner of a mirror. The hash includes the name, because a long name is cut."""
    identity = "\0".join(("syncd owner", machine, from_os(str(folder)), name)).encode("utf-8", "surrogateescape")
    return f"{name[:_NAME_LENGTH]}-{hashlib.sha256(identity).hexdigest()[:_DIGITS]}"


def owner_of(name: str, folder: Path, meta: Meta, machine: str | None) -> str | None:
    """Return the owner of a mirror without a configured one: the stored owner of its folder, else a derived one.

    None: there is neither a state nor a machine id. The first pass decides.
    """
    return _remembered(folder, meta) or (derived(name, folder, machine) if machine else None)


def known_or_derived(name: str, folder: Path, meta: Meta, state_dir: Path) -> str:
    """Return the stored owner of a folder, else a derived one."""
    return _remembered(folder, meta) or derived(name, folder, machine(state_dir) or UNDECIDED)


def remember(owner: str, folder: Path, meta: Meta) -> None:
    """Store the derived owner of a folder.

    The owner then survives a change of the machine id, for example in a new container.
    """
    kept = {**_kept(meta), from_os(str(folder)): (owner, _inode(folder))}
    if kept != _kept(meta):
        meta.set(OWNERS, kept)


def _remembered(folder: Path, meta: Meta) -> str | None:
    kept = _kept(meta)
    if from_os(str(folder)) in kept:
        return kept[from_os(str(folder))][0]
    inode = _inode(folder)
    moved = [owner for path, (owner, known) in kept.items() if known == inode and not os.path.lexists(to_os(path))]
    # The same directory under another name is the same folder.
    return moved[0] if inode is not None and len(moved) == 1 else None


def _kept(meta: Meta) -> dict[str, tuple[str, int | None]]:
    return {path: (owner, inode) for path, (owner, inode) in meta.values(OWNERS).items()}


def _inode(folder: Path) -> int | None:
    try:
        return folder.stat().st_ino
    except OSError:
        return None


def is_bound(db: sqlite3.Connection, mirror: str, location: str, prefix: str) -> bool:
    """Return whether the journal, if there is any, describes this target and key prefix."""
    return Meta(db, mirror).get(BINDING) in (None, [location, prefix])


def bind(db: sqlite3.Connection, mirror: str, location: str, prefix: str) -> None:
    """Clear the journal if it describes another target or key prefix.

    location: the account and the target. After a change of the prefix alone, the entries stay claimed: their files may
    still be in the folder.
    """
    journal, meta, binding = Journal(db, mirror), Meta(db, mirror), [location, prefix]
    before = meta.get(BINDING)
    if before not in (None, binding):
        import structlog

        remedy = "if another config has a mirror of this name and the same state_dir, set another state_dir in one"
        log = structlog.get_logger()
        log.warning("journal.rebound", mirror=mirror, before=before, now=binding, remedy=remedy)
        same_target = isinstance(before, list) and before[0] == location
        if same_target:
            Claims(db, mirror).add_records(Age(db).now())
        journal.clear(kept_tables=("claim",) if same_target else ())
        forget_listing(meta)
    if before != binding:
        meta.set(BINDING, binding)


def reshard(db: sqlite3.Connection, mirror: str, shard: Shard) -> None:
    """Delete the records of keys that belong to other shards now. Their entries stay, because no pass observes them.

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
    import structlog

    structlog.get_logger().info("shard.changed", mirror=mirror, before=before, now=str(shard), forgotten=forgotten)
