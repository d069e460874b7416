"""The values of the program: files, entries, records, problems and actions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final, Literal, NamedTuple

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
"""Statuses of an entry that is not searchable yet. `skipped` is not among them, because it is final."""
NOT_INDEXED: frozenset[IndexStatus] = frozenset({"error", "skipped"})
"""Final statuses of an entry that is stored but not searchable. Each is a problem."""
EvidenceKind = Literal["seen_to_go", "absent", "excluded", "orphan", "duplicate"]
"""Why an entry may be deleted; see `core.plan.why`."""

HARMLESS: frozenset[ProblemKind] = frozenset({"unsupported_type", "empty"})
"""Problem kinds that are reported but do not set exit code 1 (contract)."""
STORED_NOT_INDEXED: frozenset[ProblemKind] = frozenset({"index_error", "skipped"})
"""Problem kinds of entries that are stored and not searchable."""

WatchMode = Literal["inotify", "poll", "off"]
"""A way to notice changes of a folder. watch/observer.py chooses it."""
WatchSetting = Literal["auto", WatchMode]
"""The setting `watch` of a mirror."""

FRONT_FIELD = "front:"
"""Prefix of a metadata source that names a field of the front matter."""
FIELD_SOURCES = ("title", "description", "modified", "folder")
"""The other metadata sources; text/documents.py describes them."""


def is_field_source(text: str) -> bool:
    """Return whether a text names a metadata source."""
    return text in FIELD_SOURCES or (text.startswith(FRONT_FIELD) and text.removeprefix(FRONT_FIELD).strip() != "")


def int64(number: int) -> int:
    """Return an unsigned 64-bit number of the kernel as a signed one for SQLite. Different numbers stay different."""
    return number if -(2**63) <= number < 2**63 else (number + 2**63) % 2**64 - 2**63


class Item(NamedTuple):
    """A local file at the time of observation. checksum: its sha-256 in hex, None before the bytes are read.

    Item and Entry are named tuples, because a pass creates hundreds of thousands of them, and the creation of a frozen
    dataclass takes three times as long.
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
    """A journal row: the content that syncd wrote or adopted under a key.

    version, remote_size: the checksum and the size that the remote reported. They are compared only with later
    listings, never with the local file.
    marked: whether the remote keeps our sha-256 and owner; None if this is unknown.
    written_at, requeued_at: seconds since the epoch. requeued_at: the start of the last indexing without an upload.
    searchable_s: seconds from the write until the entry was seen to be searchable.
    why: the remote's reason for its error; "" for none, None if syncd has not requested it yet.
    pass_id: the pass that wrote or adopted the entry. It distinguishes a later copy of a file from an earlier copy.
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
        """The start of the last indexing, in seconds since the epoch."""
        return self.written_at if self.requeued_at is None else self.requeued_at

    @staticmethod
    def of(key: str, held: "Stored | Adopt", written_at: float, pass_id: int) -> "Record":
        """Return the record of an entry that a put stored, or that was found with the content of the file.

        pass_id: the pass that put the entry. For an entry that was found: an earlier pass.
        """
        return Record(
            key=key,
            ref=held.ref,
            checksum=held.checksum,
            size=held.size,
            written_at=written_at,
            version=held.version,
            remote_size=held.remote_size,
            marked=held.marked,
            status=held.status,
            error=held.error,
            pass_id=pass_id,
        )

    def entry(self, owner: str) -> "Entry":
        """Return the entry that the record describes. owner: the mark of the mirror."""
        return Entry(
            key=self.key,
            ref=self.ref,
            checksum=self.checksum,
            version=self.version,
            size=self.remote_size,
            owner=owner,
            marked=self.marked,
            status=self.status,
            error=self.error,
        )


class Entry(NamedTuple):
    """A remote entry. A field is None if the remote does not report it.

    checksum: the sha-256 in our mark. version: the opaque checksum of the remote. size: bytes.
    owner: the owner in the mark. marked: whether the entry has a mark of syncd.
    prefix: the key prefix of the mirror that wrote the entry. It differs after a change of `key_prefix`.
    metadata: all metadata, for display only.
    of_other_writer: whether another writer wrote the entry, even with our mark; see `plan.is_of_another_writer`.
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
    of_other_writer: bool = False


@dataclass(frozen=True, slots=True)
class Content:
    """The bytes of a file as they are sent.

    checksum: their sha-256 in hex; for a file in another form the checksum of its source, see core/names.py.
    mtime_ns: the modification time of the file, None if unknown. suffix: the ending that the form adds to the name, ""
    without a form.
    """

    data: bytes
    checksum: str
    mtime_ns: int | None = None
    suffix: str = ""


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
    """The reason why a key is not in step. message: one line that names the remedy."""

    key: str
    kind: ProblemKind
    message: str


@dataclass(frozen=True, slots=True)
class Excluded:
    """The rules exclude this key. Its remote entry stays, except with --delete-excluded."""

    key: str
    rule: str


@dataclass(frozen=True, slots=True)
class Put:
    """Upload the file at `path`. ref: the entry that it replaces, None if none is known."""

    kind: ClassVar[Literal["put"]] = "put"
    key: str
    reason: Reason
    path: str
    size: int
    ref: str | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete the remote entry `ref`. path: the file that must still be absent.

    checksum: the sha-256 of the entry, None if unknown. The delete waits for an upload of the same content.
    detail: the rule of an excluded key, the owner in the mark of an orphan, or the remaining ref of a duplicate.
    size: bytes of the entry, None if unknown.
    counted: whether the delete counts against max_delete. A duplicate does not, because the file has another entry.
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

    @staticmethod
    def of(item: Item, checksum: str, entry: Entry) -> "Adopt":
        """Return the action for an entry that was found. checksum: the sha-256 of the file and of the entry."""
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


@dataclass(frozen=True, slots=True)
class Forget:
    """Delete the journal row of an entry that does not exist any more."""

    kind: ClassVar[Literal["forget"]] = "forget"
    key: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class ActionEvent:
    """The end of an action. kind "index": an entry became searchable, or could not be indexed.

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
"""The local state of a key. None: there is no file."""


@dataclass(frozen=True, slots=True)
class Hint:
    """A path to observe again. It does not say what happened there.

    path: relative to the root, as `keys.from_os` returns it (with surrogates for other bytes); "" is the root.
    subtree: whether to observe everything below the path too.
    """

    path: str
    subtree: bool


EVERYTHING: Final = Hint("", subtree=True)
"""The hint for a full pass."""
