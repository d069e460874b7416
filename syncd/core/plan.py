"""The brain: one table, per key (docs/design.md, section 4). PURE.

L is the local file, J the journal row, R the remote entry. A key's fate depends on nothing else.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from syncd.core.model import Action, Adopt, Delete, Entry, Excluded, Forget, Item, Local, Problem, Put, Reason, Record
from syncd.core.sharding import WHOLE, Shard

Prune = Literal["owned", "all", "never"]
Source = Literal["listing", "key", "journal"]
"""Where R was seen: in a listing, asked for by its key just now, or not at all (R is what J says)."""

BRAKE_FLOOR = 10
"""Plans with at most this many deletes always pass, unless max_delete is 0 (contract)."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What the mirror may do: the mark it writes, what it prunes, whether foreign entries are taken over; and for
    which part of the keys.
    """

    owner: str
    prefix: str = ""
    prune: Prune = "owned"
    takeover: bool = False
    shard: Shard = WHOLE


Claim = tuple[str, str]
"""(ref, checksum) of an entry that is ours though no record speaks of it; the checksum is "" if it is not known."""
UNKNOWN: Claim = ("", "")
"""What a put may have left under its key: its outcome was not recorded."""


@dataclass(frozen=True, slots=True)
class Ask:
    """The table cannot decide on this evidence. `confirm`: ask for the entry by key. `verify`: learn its checksum."""

    question: Literal["confirm", "verify"]


@dataclass(frozen=True, slots=True)
class Different:
    """Evidence that the remote content is not the file, without knowing what it is."""


Decision = Action | Problem | Ask | None


def decide(local: Local, record: Record | None, entry: Entry | None, policy: Policy, seen: Source) -> Decision:
    """Return what to do for one key: an action, a problem, a question about R, or None (in step, or not ours).

    `local` must carry its checksum if a record or an entry is given. A Problem protects R whatever J and R say.
    """
    match local:
        case Problem():
            return local
        case Excluded():
            return None
        case Item():
            if entry is None:
                return _upload_or_ask(local, record, seen)
            return _compare(local, record, entry, policy, seen)
        case None:
            return _without_file(record, entry, policy, seen)


def is_ours(record: Record | None, entry: Entry, policy: Policy) -> bool:
    """True if the entry carries our owner mark, or carries none and a live record speaks of it. A mark beats a record.

    A record of another ref speaks of an entry that is gone: under its key somebody has put a new one.
    """
    if entry.another:
        return False
    if entry.owner is not None:
        return entry.owner == policy.owner
    return record is not None and record.ref == entry.ref


def has_other_prefix(entry: Entry, policy: Policy) -> bool:
    """True if a mirror of our owner with another key prefix wrote the entry: this one's earlier setting, or another."""
    return entry.prefix not in (None, policy.prefix) and entry.owner == policy.owner


def is_of_another_writer(
    record: Record | None, entry: Entry, policy: Policy, claims: Collection[Claim], *, complete: bool
) -> bool:
    """True if another writer put an entry there that carries our mark, or that carried our marks when we recorded it.

    complete: records and claims name every entry of ours. Until then our mark is proof enough.
    """
    if record is not None and record.marked and entry.marked is False and record.ref == entry.ref:
        return True
    if entry.owner != policy.owner or policy.takeover or not (complete or has_other_prefix(entry, policy)):
        return False
    if record is not None and record.ref == entry.ref and entry.checksum in (None, record.checksum):
        return False
    if has_other_prefix(entry, policy):
        return (entry.ref, entry.checksum or "") not in claims
    return UNKNOWN not in claims and (entry.ref, entry.checksum or "") not in claims


def known_checksum(item: Item, record: Record | None, entry: Entry) -> str | Different | None:
    """Return the sha-256 that R is known to have, Different if it cannot be the file's, None if nothing is known."""
    if entry.checksum is not None:
        return entry.checksum
    if entry.version == item.checksum:
        return item.checksum
    if record is not None and same_entry(record, entry):
        return record.checksum
    if record is None and entry.size is not None and entry.size != item.size:
        return Different()
    return None


def same_entry(record: Record, entry: Entry) -> bool:
    """True if nothing the remote says speaks against R still being what J recorded."""
    return (
        record.ref == entry.ref
        and _agree(record.version, entry.version)
        and _agree(record.remote_size, entry.size)
        and not (record.marked and entry.marked is False)
    )


def entry_of(record: Record, owner: str) -> Entry:
    """R as J remembers it, for scopes without a listing."""
    return Entry(
        key=record.key,
        ref=record.ref,
        checksum=record.checksum,
        version=record.version,
        size=record.remote_size,
        owner=owner,
        marked=record.marked,
        status=record.status,
        error=record.error,
    )


def brake(deletes: int, recent: int, known: int, max_delete: str | int, floor: int = BRAKE_FLOOR) -> int | None:
    """Return the allowed number of deletes if the plan exceeds it, None if the plan may pass.

    deletes: planned now; recent: done in the last hour without consent; known: entries the mirror has;
    max_delete: a count, or a percentage of `known` such as "25%". floor: so many always pass, unless it is 0.
    """
    allowed = allowed_deletes(known + recent, max_delete)
    total = deletes + recent
    if deletes == 0 or (total <= allowed) or (total <= floor and not _nothing(max_delete)):
        return None
    return allowed


def allowed_deletes(known: int, max_delete: str | int) -> int:
    """The number of deletes that `max_delete` means for a mirror of `known` entries."""
    if isinstance(max_delete, str) and max_delete.endswith("%"):
        return int(known * float(max_delete[:-1]) / 100)
    return int(max_delete)


def _upload_or_ask(item: Item, record: Record | None, seen: Source) -> Decision:
    if record is None:
        # Without a listing nobody has looked whether the key is taken by someone else.
        return Ask("confirm") if seen == "journal" else _put(item, "new")
    if record.checksum != item.checksum:
        return _put(item, "changed", record.ref)
    # Absent from one listing is not gone: pages shift and listings lag.
    return _put(item, "missing") if seen == "key" else Ask("confirm")


def _compare(item: Item, record: Record | None, entry: Entry, policy: Policy, seen: Source) -> Decision:
    if entry.owner not in (None, policy.owner):
        if policy.takeover:
            return _put(item, "drift", entry.ref)
        return _foreign(item.key, f"belongs to owner {entry.owner!r}")
    known = known_checksum(item, record, entry)
    if known == item.checksum:
        return _in_step_or_adopt(item, record, entry)
    if record is not None and record.checksum != item.checksum and is_ours(record, entry, policy):
        return _put(item, "changed", entry.ref)
    if known is None:
        return Ask("verify")
    if not (is_ours(record, entry, policy) or policy.takeover):
        theirs = "was put there by someone else, with other content"
        return _foreign(item.key, _TWIN if entry.owner == policy.owner else theirs)
    if record is None:
        return _put(item, "changed" if is_ours(record, entry, policy) else "drift", entry.ref)
    return _put(item, "drift", entry.ref) if seen == "key" else Ask("confirm")


def _in_step_or_adopt(item: Item, record: Record | None, entry: Entry) -> Action | None:
    checksum = item.checksum
    if checksum is None or (record is not None and record.checksum == checksum and same_entry(record, entry)):
        return None
    return Adopt(
        key=item.key,
        reason="found",
        ref=entry.ref,
        checksum=checksum,
        size=item.size,
        version=entry.version,
        remote_size=entry.size,
        marked=entry.marked,
        status=entry.status,
        error=entry.error,
    )


def _without_file(record: Record | None, entry: Entry | None, policy: Policy, seen: Source) -> Decision:
    if entry is None:
        if record is None:
            return None
        return Ask("confirm") if seen == "listing" else Forget(record.key, "gone")
    if policy.prune == "never":
        return None
    if policy.prune == "all" or is_ours(record, entry, policy):
        reason: Reason = "stale" if record is not None else "orphan"
        return removal(entry, reason, policy, record)
    if entry.another and entry.owner == policy.owner and not has_other_prefix(entry, policy):
        return _foreign(entry.key, _TWIN)
    return Forget(entry.key, "gone") if record is not None else None


def removal(entry: Entry, reason: Reason, policy: Policy, record: Record | None = None) -> Delete:
    """The delete of an entry, with the checksum of what goes if it is known."""
    known = record if record is not None and record.ref == entry.ref else None
    # What a stranger wrote there may be anything; only what could be a digest is compared with others.
    theirs = entry.checksum if entry.checksum and entry.checksum.isascii() else None
    checksum, size = (theirs or known.checksum, known.size) if known else (theirs, entry.size)
    return Delete(entry.key, reason, entry.key.removeprefix(policy.prefix), entry.ref, checksum, size=size)


def _put(item: Item, reason: Reason, ref: str | None = None) -> Put:
    return Put(item.key, reason, item.path, item.size, ref)


_TWIN = (
    "carries this mirror's mark, but another writer put it there (owner stands for one folder alone: give each its own)"
)


def _foreign(key: str, why: str) -> Problem:
    return Problem(
        key,
        "foreign",
        f"the remote entry {why}; it is left alone. To make it this mirror's: syncd reconcile --takeover",
    )


def _agree(ours: object, theirs: object) -> bool:
    return ours is None or theirs is None or ours == theirs


def _nothing(max_delete: str | int) -> bool:
    return float(str(max_delete).rstrip("%")) == 0
