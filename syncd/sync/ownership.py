"""The writer of an entry: this mirror, or another writer that uses the same mark or has replaced our entry."""

from collections.abc import Iterable

from syncd.core.model import Adopt, Entry, Record, Stored
from syncd.core.plan import UNKNOWN, Claim, has_other_prefix, is_of_another_writer
from syncd.core.short_names import remote_name
from syncd.sync.mirror import Mirror
from syncd.sync.observe import Observed


def mark_other_writers(mirror: Mirror, block: list[Observed], *, delete_excluded: bool) -> list[Observed]:
    """Return the block with `another` set in each entry that another writer has put.

    delete_excluded: a person wants excluded entries deleted. This includes entries of an earlier key prefix, so they
    are not marked.
    """
    owner = mirror.policy.owner
    suspects = [
        observed.key
        for observed in block
        if observed.seen != "journal"
        and any(_is_suspect(entry, observed.record, owner) for entry in _entries(observed))
    ]
    if not suspects:
        return block
    claims, complete, keys = mirror.claims.get(suspects), mirror.claims.complete, frozenset(suspects)

    def marked(observed: Observed, entry: Entry) -> Entry:
        if delete_excluded and has_other_prefix(entry, mirror.policy):
            return entry
        known = claims.get(observed.key, set()) | _claims_of_short_name(mirror, entry)
        of_other_writer = is_of_another_writer(observed.record, entry, mirror.policy, known, complete=complete)
        return entry._replace(of_other_writer=of_other_writer)

    return [
        observed._replace(
            entry=marked(observed, observed.entry) if observed.entry else None,
            others=[marked(observed, entry) for entry in observed.others],
        )
        if observed.key in keys
        else observed
        for observed in block
    ]


def is_replaced_by_other(mirror: Mirror, observed: Observed) -> bool:
    """Return whether another writer wrote the entry after our last write: it is neither ours nor its predecessor."""
    entry = observed.entry
    if entry is None or not (entry.of_other_writer or entry.owner not in (None, mirror.policy.owner)):
        return False
    return UNKNOWN not in mirror.claims.get([observed.key]).get(observed.key, ())


def claim_previous(mirror: Mirror, key: str, held: Stored | Adopt | None) -> None:
    """Claim the entry that was recorded until now, because a listing may still show it. held: the new facts.

    The claim of an unfinished put ends, because its outcome is known.
    """
    before = mirror.journal.get(key)
    if before and (held is None or (held.ref, held.checksum) != (before.ref, before.checksum)):
        mirror.claims.add(key, (before.ref, before.checksum), mirror.age())
    # After a takeover a listing may still show the entry of the other writer.
    if held is not None and not mirror.policy.takeover:
        mirror.claims.remove_put(key)


def _claims_of_short_name(mirror: Mirror, entry: Entry) -> set[Claim]:
    """Return the claim of an entry that is recorded under its remote name, the possible short name of a longer key."""
    limits = mirror.target.limits
    name = remote_name(entry.key, limits.max_key_length, limits.max_key_bytes)
    record = mirror.journal.get(name) if name != entry.key else None
    return {(entry.ref, entry.checksum or "")} if record and record.ref == entry.ref else set()


def _entries(observed: Observed) -> Iterable[Entry]:
    return (observed.entry, *observed.others) if observed.entry else observed.others


def _is_suspect(entry: Entry, record: Record | None, owner: str) -> bool:
    """Return whether another writer may have put the entry. False if it is as recorded, or has another owner's mark."""
    if record is not None and record.ref == entry.ref:
        return bool(record.marked and entry.marked is False) or entry.checksum not in (None, record.checksum)
    return entry.owner == owner
