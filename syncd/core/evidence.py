"""Describes evidence: why an entry may be deleted, and how the content of an entry is known."""

from collections.abc import Collection
from dataclasses import dataclass, replace

from syncd.core.model import Delete, Entry, Excluded, Item, Local, Record
from syncd.core.plan import BRAKE_FLOOR, BrakeInput, Prune


@dataclass(frozen=True, slots=True)
class DeleteContext:
    """The context of the deletes of one pass, for the delete log.

    mirror, target: their names in the config. owner: the mark of the mirror.
    force, takeover, delete_excluded: the options of the command.
    """

    pass_id: int
    load: BrakeInput
    mirror: str = ""
    target: str = ""
    owner: str = ""
    force: bool = False
    delete_excluded: bool = False
    takeover: bool = False
    prune: Prune = "owned"


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
        "why": why(delete, context.pass_id, context.owner),
        "consent": _consent(context),
        "brake": _brake(context),
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
    gone = f"pass {pass_id} read the whole folder and there is no such file"
    match delete.evidence:
        case "excluded":
            return f"left out by {delete.detail}, and --delete-excluded was given"
        case "orphan":
            mark = f"it has the mark of owner {delete.detail!r}" if delete.detail else "it has no mark of an owner"
            whose = ", which is this mirror's" if delete.detail == owner else ' (prune = "all")'
            return f"{mark}{whose}, the journal has no row of it, and there is no such file"
        case "duplicate":
            return f"it is a second entry of its key; {delete.detail}, the one of the file, stays"
        case "seen_to_go":
            return "its path was marked for observation, and there is no such file"
    return gone


def _consent(context: DeleteContext) -> list[str]:
    given = {
        "--force": context.force,
        "--takeover": context.takeover,
        "--delete-excluded": context.delete_excluded,
        'prune = "all"': context.prune == "all",
    }
    return [name for name, is_given in given.items() if is_given]


def _brake(context: DeleteContext) -> dict[str, object]:
    load = context.load
    within = load.deletes + load.recent <= load.allowed
    return {
        "passed": "within max_delete" if within else "forced" if context.force else f"up to {BRAKE_FLOOR} always pass",
        "max_delete": load.max_delete,
        "allowed": load.allowed,
        "planned": load.deletes,
        "last_hour": load.recent,
        "known": load.known,
    }


def content_evidence(record: Record, digests: Collection[str], *, downloaded: bool) -> str:
    """Return the best evidence that the remote has the recorded content.

    digests: digests of the recorded bytes in the forms that remotes use as checksum; empty without the bytes.
    downloaded: whether the entry was adopted after a download of its content.
    """
    if record.marked:
        return "the mark of the entry has this sha-256"
    if record.version is not None and record.version.lower() in {*digests, record.checksum}:
        return "the remote's own checksum is a known digest of these bytes"
    if downloaded:
        return "it was downloaded and hashed when it was adopted"
    reported = [f"checksum {record.version}"] if record.version is not None else []
    reported += [f"{record.remote_size} bytes"] if record.remote_size is not None else []
    if reported:
        return f"the id is the same, and the remote reports the same values: {', '.join(reported)}"
    return "only the journal: the remote reports nothing about the content"
