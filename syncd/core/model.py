"""Frozen values that the whole program speaks in. PURE: no clock, disk, network, log."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple

ActionKind = Literal["put", "delete", "adopt", "forget"]
Reason = Literal["new", "changed", "missing", "drift", "stale", "orphan", "found", "gone", "unverified"]
ProblemKind = Literal[
    "too_large",
    "key_too_long",
    "invalid_key",
    "key_collision",
    "unsupported_type",
    "empty",
    "unreadable",
    "foreign",
    "refused",
    "failed",
    "index_error",
    "skipped",
]
IndexStatus = Literal["queued", "running", "completed", "error", "skipped", "outdated"]

ON_THE_WAY: frozenset[IndexStatus] = frozenset({"queued", "running", "outdated"})
"""Not searchable yet, but will be. `skipped` is an end: the remote leaves it out on purpose."""
NOT_INDEXED: frozenset[IndexStatus] = frozenset({"error", "skipped"})
"""Ends that leave an entry stored, but not searchable. Each is a problem."""
EvidenceKind = Literal["seen_to_go", "absent", "excluded", "orphan", "duplicate"]
"""Why an entry may be deleted; what each means is said in core/evidence.py."""

HARMLESS: frozenset[ProblemKind] = frozenset({"unsupported_type", "empty"})
"""Problem kinds that are reported and do not make the exit code 1 (contract)."""


FRONT_FIELD = "front:"
"""Prefix of a metadata source that names a field of the front matter."""
FIELD_SOURCES = ("title", "description", "modified", "folder")
"""The other metadata sources; text/metadata.py describes them."""


def is_field_source(text: str) -> bool:
    """Return whether a text names a metadata source."""
    return text in FIELD_SOURCES or (text.startswith(FRONT_FIELD) and text.removeprefix(FRONT_FIELD).strip() != "")


def int64(number: int) -> int:
    """A number of the kernel as SQLite keeps it, in 64 bits with a sign; equal numbers stay equal, others differ."""
    return (number + 2**63) % 2**64 - 2**63


class Item(NamedTuple):
    """A local file as it was when we looked. `checksum` is None until something needs it and the bytes are read.

    A named tuple, as an entry is one: they are made by the hundred thousand, at a third of a frozen dataclass's price.
    """

    key: str
    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    checksum: str | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """A journal row: what we wrote, or adopted, under a key.

    `version` and `remote_size` are the remote's own words about what we wrote; they are compared with later
    listings and never with the local file. `marked`: the remote kept our sha-256 and owner (None: it did not say).
    `requeued_at`: since when it is on its way into the index, if not since it was written. `searchable_s`: the seconds
    that took, as far as we saw. `why`: the remote's own reason for its error, "" if it gave none, None if not asked.
    `pass_id`: the pass that wrote or adopted it, so that a later copy of a file is told from one that was always there.
    """

    key: str
    ref: str
    checksum: str
    size: int
    written_at: float
    version: str | None = None
    remote_size: int | None = None
    marked: bool | None = None
    status: IndexStatus | None = None
    error: str | None = None
    requeued_at: float | None = None
    searchable_s: float | None = None
    why: str | None = None
    pass_id: int = 0

    @property
    def since(self) -> float:
        """Since when it is, or was, on its way into the index."""
        return self.written_at if self.requeued_at is None else self.requeued_at


class Entry(NamedTuple):
    """A remote entry. None means: the remote does not say.

    `checksum` is a sha-256 we can trust (our own mark), `version` the remote's opaque checksum, `marked` whether
    the entry carries our kind of marks at all, `metadata` all that is said of it: for people, no decision stands on it.
    `prefix`: the key prefix that the mirror had which wrote it, so that another setting is no reason to delete it.
    `another`: whoever's mark it carries, another writer put it there (see plan.another).
    """

    key: str
    ref: str
    checksum: str | None = None
    version: str | None = None
    size: int | None = None
    owner: str | None = None
    marked: bool | None = None
    status: IndexStatus | None = None
    error: str | None = None
    prefix: str | None = None
    metadata: Mapping[str, object] | None = None
    another: bool = False


@dataclass(frozen=True, slots=True)
class Content:
    """The bytes of a file as they are sent. checksum: their sha-256 in hex. mtime_ns: the file's, None if unknown."""

    data: bytes
    checksum: str
    mtime_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """The answer of the remote to a put. checksum: the sha-256 of the stored bytes. Other fields: see `Entry`."""

    ref: str
    checksum: str
    size: int
    version: str | None = None
    remote_size: int | None = None
    marked: bool | None = None
    status: IndexStatus | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a key is not in step. `message` names the remedy."""

    key: str
    kind: ProblemKind
    message: str


@dataclass(frozen=True, slots=True)
class Excluded:
    """The rules leave this key out. Excluded is not deleted, unless asked."""

    key: str
    rule: str


@dataclass(frozen=True, slots=True)
class Put:
    """Upload the file at `path`. `ref` is the entry it replaces, if one is known."""

    kind: ClassVar[Literal["put"]] = "put"
    key: str
    reason: Reason
    path: str
    size: int
    ref: str | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove the remote entry `ref`; `path` is where its file must still be absent.

    checksum: the sha-256 of what goes, as far as known, so that it does not go before what takes its place is found.
    detail: of an excluded key the rule, of an orphan the owner in its mark, of a duplicate the ref that stays.
    size: bytes of what goes, as far as known. counted: by the delete guard; not if it takes no file away.
    """

    kind: ClassVar[Literal["delete"]] = "delete"
    key: str
    reason: Reason
    path: str
    ref: str
    checksum: str | None = field(default=None, compare=False)
    evidence: EvidenceKind | None = None
    detail: str = ""
    size: int | None = field(default=None, compare=False)
    counted: bool = field(default=True, compare=False)


@dataclass(frozen=True, slots=True)
class Adopt:
    """Write a journal row for an entry whose content is known to equal the file."""

    kind: ClassVar[Literal["adopt"]] = "adopt"
    key: str
    reason: Reason
    ref: str
    checksum: str
    size: int
    version: str | None = None
    remote_size: int | None = None
    marked: bool | None = None
    status: IndexStatus | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Forget:
    """Drop the journal row of an entry that is gone."""

    kind: ClassVar[Literal["forget"]] = "forget"
    key: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class ActionEvent:
    """How an action ended. kind "index": an entry became searchable, or could not be indexed.

    size: number of bytes put. waited_s: seconds from the write until the entry was searchable.
    """

    kind: Literal["put", "delete", "adopt", "forget", "index"]
    key: str
    reason: str
    outcome: Literal["done", "again", "failed"]
    size: int = 0
    waited_s: float | None = None


Action = Put | Delete | Adopt | Forget
Local = Item | Problem | Excluded | None
