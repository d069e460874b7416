"""Why an entry may be deleted, and what makes us believe that the remote has some content, in words. PURE."""

from collections.abc import Collection
from dataclasses import dataclass, replace

from syncd.core.model import Delete, Entry, EvidenceKind, Excluded, Item, Local, Record
from syncd.core.plan import BRAKE_FLOOR, Prune, allowed_deletes


@dataclass(frozen=True, slots=True)
class BrakeInput:
    """What the brake weighs: deletes planned, those of the last hour, entries known, and the configured limit."""

    deletes: int
    recent: int
    known: int
    max_delete: str | int


@dataclass(frozen=True, slots=True)
class DeleteContext:
    """What stands behind the deletes of one pass: its number, what the brake weighed, whose they are, what a person
    agreed to. mirror, target: as the config names them. owner: the mirror's own mark.
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
    """Return the delete with the evidence for it.

    local: what was found when the key was looked for again. entry: what is to be deleted. everything: the pass looks
    at the whole folder. kept: the ref of another entry of the key, which stays if the key has a file.
    """
    kind, detail = _evidence(delete, local, entry, everything=everything, kept=kept)
    return replace(delete, evidence=kind, detail=detail)


def _evidence(
    delete: Delete, local: Local, entry: Entry | None, *, everything: bool, kept: str | None
) -> tuple[EvidenceKind, str]:
    if isinstance(local, Item) and kept is not None:
        return "duplicate", kept
    if isinstance(local, Excluded):
        return "excluded", local.rule
    if delete.reason == "orphan":
        return "orphan", (entry.owner if entry else None) or ""
    return ("absent" if everything else "seen_to_go"), ""


def delete_log_entry(delete: Delete, backing: DeleteContext) -> dict[str, object]:
    """Return what the log of deletes says of one, but for the time."""
    evidence: dict[str, object] = {"kind": delete.evidence, "pass": backing.pass_id}
    names = {"excluded": "rule", "orphan": "owner", "duplicate": "kept"}
    if delete.evidence in names:
        evidence[names[delete.evidence]] = delete.detail or None
    return {
        "mirror": backing.mirror,
        "target": backing.target,
        "key": delete.key,
        "ref": delete.ref,
        "reason": delete.reason,
        "evidence": evidence,
        "why": why(delete, backing.pass_id, backing.owner),
        "consent": _consent(backing),
        "brake": _brake(backing),
    }


def removal_log_entry(key: str, ref: str, kind: str, why: str) -> dict[str, object]:
    """Return what the log says of an entry that no plan deleted, but for the time and the place.

    kind: "replaced", "remainder", "misnamed" or "by_hand".
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
    """Return the evidence for a delete as a sentence without its end."""
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
            return "its place was marked to be looked at, and there is no such file any more"
    return gone


def _consent(backing: DeleteContext) -> list[str]:
    given = {
        "--force": backing.force,
        "--takeover": backing.takeover,
        "--delete-excluded": backing.delete_excluded,
        'prune = "all"': backing.prune == "all",
    }
    return [name for name, is_given in given.items() if is_given]


def _brake(backing: DeleteContext) -> dict[str, object]:
    load = backing.load
    allowed = allowed_deletes(load.known + load.recent, load.max_delete)
    within = load.deletes + load.recent <= allowed
    return {
        "passed": "within max_delete" if within else "forced" if backing.force else f"up to {BRAKE_FLOOR} always pass",
        "max_delete": load.max_delete,
        "allowed": allowed,
        "planned": load.deletes,
        "last_hour": load.recent,
        "known": load.known,
    }


def content_evidence(record: Record, digests: Collection[str], *, downloaded: bool) -> str:
    """Return what makes us believe that the remote has the recorded content, the best evidence first.

    digests: those of the recorded bytes that the remote may use as its own checksum, as far as the bytes are at hand.
    downloaded: the entry was adopted after its content was fetched and hashed.
    """
    if record.marked:
        return "our sha-256 stands in the entry's own marks"
    if record.version is not None and record.version.lower() in {*digests, record.checksum}:
        return "the remote's own checksum is a known digest of these bytes"
    if downloaded:
        return "it was downloaded and hashed then"
    said = [f"checksum {record.version}"] if record.version is not None else []
    said += [f"{record.remote_size} bytes"] if record.remote_size is not None else []
    if said:
        return f"same id, and the remote still says of it what it said then: {', '.join(said)}"
    return "our own journal only: the remote says nothing of its content"
