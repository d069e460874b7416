"""Entries of ours that no record describes: claims, and superseded entries.

A claim tells our writes from those of another writer. Every put is claimed by its key before it is sent, so neither a
SIGKILL nor a lost answer makes its entry foreign. Further claims are earlier versions of an entry, which a listing that
lags may still show, and entries with our mark that a listing showed before the journal knew all of ours.

A superseded entry has to be deleted. A listing shows it too, but without a row here a delete that has to wait would
wait for the next full pass.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from syncd.core.model import Delete, Entry
from syncd.core.plan import UNKNOWN, Claim
from syncd.state.db import SUCCESSOR, Meta, transaction

_AT_ONCE = 500
_LISTED = "listed"

_SHOWN = """
    INSERT OR IGNORE INTO claim
    SELECT :mirror, entry.key, entry.ref, coalesce(entry.checksum, ''), :now FROM temp.remote AS entry
    WHERE entry.pass = :pass AND entry.owner = :owner AND entry.strange IS NULL
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
                      AND entry.ref = claim.ref AND coalesce(entry.checksum, '') = claim.checksum)
"""


@dataclass(frozen=True, slots=True)
class Listing:
    """A whole listing that a pass has processed. started: the age of the state file then, see `Age`.

    whole: no row can be missing. lag_s: seconds for which a listing may not show our own writes.
    """

    pass_id: int
    owner: str
    prefix: str
    started: float
    whole: bool
    lag_s: float


class Claims:
    """The claims of one mirror. Times are ages of the state file, so a change of the clock cannot end a claim."""

    def __init__(self, db: sqlite3.Connection, mirror: str) -> None:
        self._db = db
        self._mirror = mirror
        self._meta = Meta(db, mirror)

    def add_puts(self, keys: Iterable[str], now: float) -> None:
        """Claim the entries that puts are about to write under these keys. Returns after the claims are on disk."""
        rows = [(self._mirror, key, *UNKNOWN, now) for key in keys]
        # If a power cut lost the claim but not the upload, the entry would look like the entry of another writer.
        synced = not self._db.in_transaction
        if synced:
            self._db.execute("PRAGMA synchronous = FULL")
        try:
            with transaction(self._db):
                self._db.executemany("INSERT OR REPLACE INTO claim VALUES (?, ?, ?, ?, ?)", rows)
        finally:
            if synced:
                self._db.execute("PRAGMA synchronous = NORMAL")

    def remove_put(self, key: str) -> None:
        """Remove the claim of a put whose outcome is recorded, or that was not sent."""
        self._db.execute("DELETE FROM claim WHERE mirror = ? AND key = ? AND ref = ''", (self._mirror, key))

    def add(self, key: str, claim: Claim, now: float) -> None:
        """Claim an entry that was ours and has no record any more."""
        self._db.execute("INSERT OR REPLACE INTO claim VALUES (?, ?, ?, ?, ?)", (self._mirror, key, *claim, now))

    def add_records(self, now: float) -> None:
        """Claim all recorded entries, which an earlier setting wrote."""
        self._db.execute(
            "INSERT OR REPLACE INTO claim SELECT mirror, key, ref, checksum, ? FROM record WHERE mirror = ?",
            (now, self._mirror),
        )

    def get(self, keys: Sequence[str]) -> dict[str, set[Claim]]:
        """Return key -> claims, for the keys that have claims."""
        claims: dict[str, set[Claim]] = {}
        for start in range(0, len(keys), _AT_ONCE):
            some = keys[start : start + _AT_ONCE]
            marks = ", ".join("?" * len(some))
            for key, ref, checksum in self._db.execute(
                f"SELECT key, ref, checksum FROM claim WHERE mirror = ? AND key IN ({marks})",  # noqa: S608 - marks only
                (self._mirror, *some),
            ):
                claims.setdefault(key, set()).add((ref, checksum))
        return claims

    @property
    def complete(self) -> bool:
        """Whether records and claims name every entry of ours, because a whole listing was processed."""
        listed = self._meta.get(_LISTED)
        return isinstance(listed, dict) and not listed["open"]

    def apply_listing(self, listing: Listing, now: float, keep_s: float) -> None:
        """Claim our entries in a whole listing, and remove claims older than `keep_s` seconds that it does not show.

        A first listing can miss entries that were written just before it. If it shows entries of ours, or the state
        file was lost, the journal becomes complete only with a second listing, after `lag_s`.
        """
        terms = {"mirror": self._mirror, "pass": listing.pass_id, "owner": listing.owner}
        terms |= {"prefix": listing.prefix, "now": now}
        with transaction(self._db):
            self._db.execute(_SHOWN, terms | {"all": not self.complete})
            self._db.execute(_SETTLED, terms | {"started": listing.started, "keep": keep_s})
            self._note(listing)

    def _note(self, listing: Listing) -> None:
        last = self._meta.get(_LISTED)
        if not isinstance(last, dict):
            unsure = not listing.whole or self._had_any(listing) or Meta(self._db, "").get(SUCCESSOR)
            self._meta.set(_LISTED, {"at": listing.started, "open": bool(unsure)})
        elif last["open"] and listing.whole and abs(listing.started - last["at"]) > listing.lag_s:
            self._meta.set(_LISTED, {"at": listing.started, "open": False})

    def _had_any(self, listing: Listing) -> bool:
        row = self._db.execute(
            "SELECT EXISTS (SELECT 1 FROM temp.remote WHERE pass = ? AND owner = ?)", (listing.pass_id, listing.owner)
        ).fetchone()
        return bool(row[0])


def forget_listing(meta: Meta) -> None:
    """Mark the journal as incomplete, because it describes other keys or another target from now on."""
    meta.set(_LISTED, None)


class SupersededEntries:
    """The superseded entries of one mirror. owner: their owner mark."""

    def __init__(self, db: sqlite3.Connection, mirror: str, owner: str) -> None:
        self._db = db
        self._mirror = mirror
        self._owner = owner

    def keep(self, deletes: Iterable[Delete]) -> None:
        """Store the entries that these deletes will remove, until the journal records the delete."""
        rows = [(self._mirror, delete.key, delete.ref, delete.checksum) for delete in deletes]
        with transaction(self._db):
            self._db.executemany("INSERT OR REPLACE INTO superseded VALUES (?, ?, ?, ?)", rows)

    def of(self, keys: Sequence[str]) -> dict[str, list[Entry]]:
        """Return key -> entries for some keys, without an entry that is the recorded entry of its key now."""
        return self._entries(f"key IN ({', '.join('?' * len(keys))})", *keys)

    def between(self, after: str, upto: str | None, before: str) -> dict[str, list[Entry]]:
        """Return the same for after < key <= upto (None: to the end) and key < before."""
        return self._entries("key > ? AND key <= ? AND key < ?", after, before if upto is None else upto, before)

    def _entries(self, condition: str, *values: str) -> dict[str, list[Entry]]:
        entries: dict[str, list[Entry]] = {}
        rows = self._db.execute(
            f"SELECT key, ref, checksum FROM superseded AS left WHERE mirror = ? AND {condition}"  # noqa: S608
            " AND NOT EXISTS (SELECT 1 FROM record"
            " WHERE record.mirror = left.mirror AND record.key = left.key AND record.ref = left.ref)",
            (self._mirror, *values),
        )
        for key, ref, checksum in rows:
            entries.setdefault(key, []).append(Entry(key, ref, checksum, owner=self._owner, marked=True))
        return entries
