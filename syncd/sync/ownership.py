"""Who wrote an entry: this journal, or another writer who carries the same mark or has written over ours."""

from collections.abc import Iterable

from syncd.core.model import Adopt, Entry, Record, Stored
from syncd.core.plan import UNKNOWN, Claim, has_other_prefix, is_of_another_writer
from syncd.core.short_names import remote_name
from syncd.sync.mirror import Mirror
from syncd.sync.observe import Triple


def mark_other_writers(mirror: Mirror, triples: list[Triple], *, delete_excluded: bool) -> list[Triple]:
    """Return the triples, with the entries marked that another writer put there.

    delete_excluded: a person wants gone what the settings leave out, and so what earlier ones wrote.
    """
    owner = mirror.policy.owner
    suspects = [
        each.key
        for each in triples
        if each.seen != "journal" and any(_suspect(entry, each.record, owner) for entry in _entries(each))
    ]
    if not suspects:
        return triples
    claims, complete, keys = mirror.claims.get(suspects), mirror.claims.complete, frozenset(suspects)

    def judged(triple: Triple, entry: Entry) -> Entry:
        known = claims.get(triple.key, set()) | _under_its_name(mirror, entry)
        if delete_excluded and has_other_prefix(entry, mirror.policy):
            return entry
        return entry._replace(
            another=is_of_another_writer(triple.record, entry, mirror.policy, known, complete=complete)
        )

    return [
        each._replace(
            entry=judged(each, each.entry) if each.entry else None,
            others=[judged(each, entry) for entry in each.others],
        )
        if each.key in keys
        else each
        for each in triples
    ]


def contradicts(mirror: Mirror, triple: Triple) -> bool:
    """True if the entry shows that another writer came after us: it is neither our write nor what that replaced."""
    entry = triple.entry
    if entry is None or not (entry.another or entry.owner not in (None, mirror.policy.owner)):
        return False
    return UNKNOWN not in mirror.claims.get([triple.key]).get(triple.key, ())


def leave(mirror: Mirror, key: str, held: Stored | Adopt | None) -> None:
    """Claim what was recorded until now, which a listing that lags may still show; the outcome of a put is known."""
    before = mirror.journal.get(key)
    if before and (held is None or (held.ref, held.checksum) != (before.ref, before.checksum)):
        mirror.claims.add(key, (before.ref, before.checksum), mirror.age())
    # What a takeover has written over may show for a while.
    if held is not None and not mirror.policy.takeover:
        mirror.claims.remove_put(key)


def _under_its_name(mirror: Mirror, entry: Entry) -> set[Claim]:
    """An entry of ours that is taken for one of a longer key, because its name could be short for that."""
    limits = mirror.target.limits
    name = remote_name(entry.key, limits.max_key_length, limits.max_key_bytes)
    record = mirror.journal.get(name) if name != entry.key else None
    return {(entry.ref, entry.checksum or "")} if record and record.ref == entry.ref else set()


def _entries(triple: Triple) -> Iterable[Entry]:
    return (triple.entry, *triple.others) if triple.entry else triple.others


def _suspect(entry: Entry, record: Record | None, owner: str) -> bool:
    """True if an entry needs a look at who wrote it: all but those that are as recorded, or another's by their mark."""
    if record is not None and record.ref == entry.ref:
        return bool(record.marked and entry.marked is False) or entry.checksum not in (None, record.checksum)
    return entry.owner == owner
