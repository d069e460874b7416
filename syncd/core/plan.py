"""The decision table of one key (docs/design.md), the brake on deletes, and the evidence in the delete log.

The inputs of a decision are the local file, the journal record and the remote entry of the key, and nothing else.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal

from syncd.core.model import Action, Adopt, Delete, Entry, Excluded, Forget, Item, Local, Problem, Put, Reason, Record
from syncd.core.names import WHOLE, Shard

Prune = Literal["owned", "all", "never"]
Source = Literal["listing", "key", "journal"]
"""The source of the entry: a listing, a request for its key, or only the journal record."""

BRAKE_FLOOR = 10
"""A plan with at most this many deletes passes, unless max_delete is 0 (contract)."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The policy of a mirror.

    owner: its mark. prefix: its key prefix. prune: the entries without a file that it deletes.
    takeover: whether it replaces foreign entries. shard: its part of the keys. mirror: its name, for messages.
    """

    owner: str
    prefix: str = ""
    prune: Prune = "owned"
    takeover: bool = False
    shard: Shard = WHOLE
    mirror: str = ""


Claim = tuple[str, str]
"""(ref, checksum) of an entry of this mirror without a record. The checksum is "" if it is unknown."""
UNKNOWN: Claim = ("", "")
"""The claim of a put whose outcome was not recorded."""


@dataclass(frozen=True, slots=True)
class Ask:
    """The evidence is not sufficient. confirm: request the entry by its key. verify: find out its checksum."""

    question: Literal["confirm", "verify"]


Decision = Action | Problem | Ask | None


def decide(local: Local, record: Record | None, entry: Entry | None, policy: Policy, seen: Source) -> Decision:
    """Return an action, a problem or a question for one key. None: the key is in step, or does not concern the mirror.

    local: an item must have its checksum if a record or an entry is given. A problem always protects the entry.
    seen: the source of the entry.
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
    """Return whether an entry belongs to this mirror: by its owner mark, or without a mark by a record of its ref.

    A record of another ref describes an earlier entry of the key.
    """
    if entry.of_other_writer:
        return False
    if entry.owner is not None:
        return entry.owner == policy.owner
    return record is not None and record.ref == entry.ref


def has_other_prefix(entry: Entry, policy: Policy) -> bool:
    """Return whether the entry has the mark of this owner and another key prefix, such as one before a change of it."""
    return entry.prefix not in (None, policy.prefix) and entry.owner == policy.owner


def is_of_another_writer(
    record: Record | None, entry: Entry, policy: Policy, claims: Collection[Claim], *, complete: bool
) -> bool:
    """Return whether another writer wrote an entry that has, or had at the time of the record, the mark of this mirror.

    complete: whether records and claims name every entry of this mirror. Otherwise an entry with its mark counts as its
    own.
    """
    if record is not None and record.marked and entry.marked is False and record.ref == entry.ref:
        return True
    if entry.owner != policy.owner or policy.takeover or not (complete or has_other_prefix(entry, policy)):
        return False
    if record is not None and record.ref == entry.ref and entry.checksum in (None, record.checksum):
        return False
    # Vectorize shows marks and no checksum, and has another ref for each content.
    by_ref, shown = entry.marked and entry.checksum is None, entry.checksum or ""
    is_claimed = any(ref == entry.ref and (by_ref or checksum == shown) for ref, checksum in claims)
    return not is_claimed and (has_other_prefix(entry, policy) or UNKNOWN not in claims)


def known_checksum(item: Item, record: Record | None, entry: Entry) -> str | None:
    """Return the known sha-256 of the entry, "" if it is unknown but cannot be the file's, None if nothing is known."""
    if entry.checksum is not None:
        return entry.checksum
    if entry.version == item.checksum:
        return item.checksum
    if record is not None and same_entry(record, entry):
        return record.checksum
    if record is None and entry.size is not None and entry.size != item.size:
        return ""
    return None


def same_entry(record: Record, entry: Entry) -> bool:
    """Return whether all values that the remote reports agree with the record of the entry."""
    return (
        record.ref == entry.ref
        and _agree(record.version, entry.version)
        and _agree(record.remote_size, entry.size)
        and not (record.marked and entry.marked is False)
    )


def _upload_or_ask(item: Item, record: Record | None, seen: Source) -> Decision:
    if record is None:
        # Without a listing the key may have a foreign entry.
        return Ask("confirm") if seen == "journal" else _put(item, "new")
    if record.checksum != item.checksum:
        return _put(item, "changed", record.ref)
    # Absence from one listing is no evidence: pages shift and listings lag.
    return _put(item, "missing") if seen == "key" else Ask("confirm")


def _compare(item: Item, record: Record | None, entry: Entry, policy: Policy, seen: Source) -> Decision:
    if entry.owner not in (None, policy.owner):
        if policy.takeover:
            return _put(item, "drift", entry.ref)
        return _foreign(item.key, f"belongs to owner {entry.owner!r}", policy)
    known = known_checksum(item, record, entry)
    if known == item.checksum:
        return _in_step_or_adopt(item, record, entry)
    if record is not None and record.checksum != item.checksum and is_ours(record, entry, policy):
        return _put(item, "changed", entry.ref)
    if known is None:
        return Ask("verify")
    if not (is_ours(record, entry, policy) or policy.takeover):
        theirs = "was put there by someone else, with other content"
        return _foreign(item.key, _WRITTEN_BY_OTHER if entry.owner == policy.owner else theirs, policy)
    if record is None:
        return _put(item, "changed" if is_ours(record, entry, policy) else "drift", entry.ref)
    return _put(item, "drift", entry.ref) if seen == "key" else Ask("confirm")


def _in_step_or_adopt(item: Item, record: Record | None, entry: Entry) -> Action | None:
    checksum = item.checksum
    if checksum is None or (record is not None and record.checksum == checksum and same_entry(record, entry)):
        return None
    return Adopt.of(item, checksum, entry)


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
    if entry.of_other_writer and entry.owner == policy.owner and not has_other_prefix(entry, policy):
        return _foreign(entry.key, _WRITTEN_BY_OTHER, policy)
    return Forget(entry.key, "gone") if record is not None else None


def removal(entry: Entry, reason: Reason, policy: Policy, record: Record | None = None) -> Delete:
    """Return the delete of an entry, with the checksum of the entry if it is known."""
    known = record if record is not None and record.ref == entry.ref else None
    # A foreign writer may store any text as checksum. Only a text that can be a digest is compared.
    theirs = entry.checksum if entry.checksum and entry.checksum.isascii() else None
    checksum, size = (theirs or known.checksum, known.size) if known else (theirs, entry.size)
    return Delete(entry.key, reason, entry.key.removeprefix(policy.prefix), entry.ref, checksum, size=size)


def _put(item: Item, reason: Reason, ref: str | None = None) -> Put:
    return Put(item.key, reason, item.path, item.size, ref)


_WRITTEN_BY_OTHER = (
    "has the mark of this mirror, but another writer wrote it (each folder needs its own `owner` in the config)"
)


def _foreign(key: str, why: str, policy: Policy) -> Problem:
    message = f"the remote entry {why}; it is left alone. To make it this mirror's: syncd reconcile --takeover"
    return Problem(key, "foreign", f"{message} {policy.mirror}".rstrip())


def _agree(ours: object, theirs: object) -> bool:
    return ours is None or theirs is None or ours == theirs


# -- the brake


@dataclass(frozen=True, slots=True)
class BrakeInput:
    """The input of the brake.

    deletes: the number of planned or waiting deletes that lose a content. recent: the number of deletes in the last
    hour without consent. known: the number of entries of the mirror.
    max_delete: a count, or a percentage of `known` such as "25%".
    fresh: whether no full pass has ended with this state file yet. Then a small plan does not pass by its size.
    """

    deletes: int
    recent: int
    known: int
    max_delete: str | int
    fresh: bool = False

    @property
    def allowed(self) -> int:
        """The number of deletes that max_delete allows. The entries deleted in the last hour count as known."""
        if isinstance(self.max_delete, str) and self.max_delete.endswith("%"):
            return int((self.known + self.recent) * float(self.max_delete[:-1]) / 100)
        return int(self.max_delete)

    @property
    def floor(self) -> int:
        """The number of deletes that always pass. 0 if max_delete is 0, or if the mirror is fresh."""
        nothing = float(str(self.max_delete).rstrip("%")) == 0
        return 0 if self.fresh or nothing else BRAKE_FLOOR


def brake(figures: BrakeInput) -> int | None:
    """Return the allowed number of deletes if the plan exceeds it, None if the plan may pass.

    Up to `floor` deletes always pass.
    """
    total = figures.deletes + figures.recent
    if figures.deletes == 0 or total <= max(figures.allowed, figures.floor):
        return None
    return figures.allowed


# -- the evidence of deletes


@dataclass(frozen=True, slots=True)
class DeleteContext:
    """The context of the deletes of one pass, for the delete log.

    mirror, target: their names in the config. force, delete_excluded: the consent of a person.
    """

    pass_id: int
    figures: BrakeInput
    mirror: str
    target: str
    policy: Policy
    force: bool = False
    delete_excluded: bool = False


def with_evidence(
    delete: Delete, local: Local, entry: Entry | None, *, everything: bool, kept: str | None = None
) -> Delete:
    """Return the delete with its evidence.

    local: the local state of the key at the second look. entry: the entry to delete. everything: whether the pass
    observes the whole folder. kept: the ref of another entry of the key, which stays if the key has a file.
    """
    if isinstance(local, Item) and kept is not None:
        return replace(delete, evidence="duplicate", detail=kept)
    if isinstance(local, Excluded):
        return replace(delete, evidence="excluded", detail=local.rule)
    if delete.reason == "orphan":
        return replace(delete, evidence="orphan", detail=(entry.owner if entry else None) or "")
    return replace(delete, evidence="absent" if everything else "seen_to_go", detail="")


def delete_log_entry(delete: Delete, context: DeleteContext) -> dict[str, object]:
    """Return the line of the delete log for a planned delete, without its time."""
    evidence: dict[str, object] = {"kind": delete.evidence, "pass": context.pass_id}
    consent = {
        "--force": context.force,
        "--takeover": context.policy.takeover,
        "--delete-excluded": context.delete_excluded,
        'prune = "all"': context.policy.prune == "all",
    }
    names = {"excluded": "rule", "orphan": "owner", "duplicate": "kept"}
    if delete.evidence in names:
        evidence[names[delete.evidence]] = delete.detail or None
    return {
        "mirror": context.mirror,
        "target": context.target,
        "key": delete.key,
        "ref": delete.ref,
        "reason": delete.reason,
        "evidence": evidence,
        "why": why(delete, context.pass_id, context.policy.owner),
        "consent": [name for name, is_given in consent.items() if is_given],
        "brake": _passed(context),
    }


def removal_log_entry(key: str, ref: str, kind: str, why: str) -> dict[str, object]:
    """Return the line of the delete log for an unplanned removal, without its time, mirror and target.

    kind: "replaced", "remainder", "misnamed", "leftover" or "by_hand".
    """
    return {
        "key": key,
        "ref": ref,
        "reason": kind,
        "evidence": {"kind": kind},
        "why": why,
        "consent": [],
        "brake": None,
    }


def why(delete: Delete, pass_id: int, owner: str) -> str:
    """Return the evidence for a delete as a sentence without a full stop."""
    match delete.evidence:
        case "excluded":
            return f"left out by {delete.detail}, and --delete-excluded was given"
        case "orphan":
            mark = f"it has the mark of owner {delete.detail!r}" if delete.detail else "it has no mark of an owner"
            whose = ", which is this mirror's" if delete.detail == owner else ' (prune = "all")'
            return f"{mark}{whose}, the journal has no row of it, and there is no such file"
        case "duplicate":
            return f"it is a second entry of its key; the entry {delete.detail} of the file stays"
        case "seen_to_go":
            return "its path was marked for observation, and there is no such file"
    return f"pass {pass_id} read the whole folder and there is no such file"


def _passed(context: DeleteContext) -> dict[str, object]:
    figures = context.figures
    within = figures.deletes + figures.recent <= figures.allowed
    return {
        "passed": "within max_delete" if within else "forced" if context.force else f"up to {BRAKE_FLOOR} always pass",
        "max_delete": figures.max_delete,
        "allowed": figures.allowed,
        "planned": figures.deletes,
        "last_hour": figures.recent,
        "known": figures.known,
    }
