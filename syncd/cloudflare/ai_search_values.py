"""What AI Search answers, as frozen values. Times are the remote's own ISO 8601 texts; sizes are bytes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self, TypedDict, get_args

from syncd.cloudflare.envelope import Answer
from syncd.cloudflare.fields import Fields, rows, sound
from syncd.model import IndexStatus

_STATUSES: Mapping[str, IndexStatus] = {status: status for status in get_args(IndexStatus)}


class ListParams(TypedDict, total=False):
    """The query of one listing page. per_page: at most 50. key, search, metadata_filter need a server of July 2026."""

    page: int
    per_page: int
    item_id: str
    key: str
    search: str
    source: str
    status: IndexStatus
    sort_by: Literal["status", "modified_at"]
    metadata_filter: str


@dataclass(frozen=True, slots=True)
class Item:
    """One stored file. status None: one we do not know. source_id "builtin": uploaded, else from elsewhere.

    metadata None: the remote does not show it, as before July 2026.
    """

    id: str
    key: str
    status: IndexStatus | None = None
    checksum: str | None = None
    file_size: int | None = None
    source_id: str | None = None
    next_action: str | None = None
    error: str | None = None
    chunks_count: int | None = None
    created_at: str | None = None
    last_seen_at: str | None = None
    namespace: str | None = None
    metadata: Mapping[str, Any] | None = None

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        return cls(
            id=fields.text("id"),
            key=fields.text("key"),
            status=_STATUSES.get(fields.opt_text("status") or ""),
            checksum=fields.opt_text("checksum"),
            file_size=fields.opt_int("file_size"),
            source_id=fields.opt_text("source_id"),
            next_action=fields.opt_text("next_action"),
            error=fields.opt_text("error"),
            chunks_count=fields.opt_int("chunks_count"),
            created_at=fields.opt_text("created_at"),
            last_seen_at=fields.opt_text("last_seen_at"),
            namespace=fields.opt_text("namespace"),
            metadata=fields.said_map("metadata"),
        )


@dataclass(frozen=True, slots=True)
class ItemPage:
    """One page of a listing. total_count: items of the whole listing, None when the remote does not say.

    faults: what is wrong with rows that could not be read.
    """

    items: tuple[Item, ...]
    total_count: int | None = None
    page: int | None = None
    per_page: int | None = None
    faults: tuple[str, ...] = ()

    @classmethod
    def parse(cls, answer: Answer) -> Self:
        info = Fields(dict(answer.result_info), "result_info")
        found = sound(answer.result, "item", Item.parse)
        return cls(
            items=tuple(found.good),
            faults=found.faults,
            total_count=info.opt_int("total_count"),
            page=info.opt_int("page"),
            per_page=info.opt_int("per_page"),
        )


@dataclass(frozen=True, slots=True)
class UploadResult:
    """What became of an upload. warnings: metadata fields that were kept but cannot be filtered by."""

    item: Item
    warnings: tuple[str, ...] = ()

    @classmethod
    def parse(cls, result: object) -> Self:
        fields = Fields(result, "item")
        warnings = (Fields(row, "warning") for row in fields.opt_list("warnings") if isinstance(row, dict))
        said = tuple(f"{row.opt_text('code')}: {row.opt_text('field')}" for row in warnings)
        return cls(Item.parse(fields), said)


@dataclass(frozen=True, slots=True)
class Chunk:
    """One indexed piece of an item; bytes count in the converted text."""

    id: str
    text: str
    start_byte: int | None = None
    end_byte: int | None = None

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        return cls(
            fields.text("id"),
            fields.opt_text("text") or "",
            fields.opt_int("start_byte"),
            fields.opt_int("end_byte"),
        )


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One step of an item's indexing."""

    action: str
    timestamp: str | None = None
    message: str | None = None
    error_type: str | None = None
    chunk_count: int | None = None
    processing_time_ms: int | None = None

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        return cls(
            action=fields.text("action"),
            timestamp=fields.opt_text("timestamp"),
            message=fields.opt_text("message"),
            error_type=fields.opt_text("errorType"),
            chunk_count=fields.opt_int("chunkCount"),
            processing_time_ms=fields.opt_int("processingTimeMs"),
        )


@dataclass(frozen=True, slots=True)
class LogPage:
    """Log entries and the cursor of the next page, None at the end."""

    entries: tuple[LogEntry, ...]
    cursor: str | None = None

    @classmethod
    def parse(cls, answer: Answer) -> Self:
        info = Fields(dict(answer.result_info), "result_info")
        return cls(tuple(LogEntry.parse(row) for row in rows(answer.result, "log entry")), info.cursor("cursor"))


@dataclass(frozen=True, slots=True)
class Stats:
    """Items by index status. degraded: the remote could not count; then the counts are None."""

    queued: int | None = None
    running: int | None = None
    completed: int | None = None
    error: int | None = None
    skipped: int | None = None
    outdated: int | None = None
    degraded: bool = False
    last_activity: str | None = None
    object_count: int | None = None
    payload_bytes: int | None = None
    vectors_count: int | None = None

    @classmethod
    def parse(cls, result: object) -> Self:
        fields = Fields(result, "stats")
        engine = Fields(fields.opt_map("engine"), "engine")
        stored = Fields(engine.opt_map("r2"), "r2")
        vectors = Fields(engine.opt_map("vectorize"), "vectorize")
        return cls(
            queued=fields.opt_int("queued"),
            running=fields.opt_int("running"),
            completed=fields.opt_int("completed"),
            error=fields.opt_int("error"),
            skipped=fields.opt_int("skipped"),
            outdated=fields.opt_int("outdated"),
            degraded=fields.opt_bool("degraded") or False,
            last_activity=fields.opt_text("last_activity"),
            object_count=stored.opt_int("objectCount"),
            payload_bytes=stored.opt_int("payloadSizeBytes"),
            vectors_count=vectors.opt_int("vectorsCount"),
        )


@dataclass(frozen=True, slots=True)
class SearchHit:
    """One found chunk. key None: the remote did not say which item it is from. score: higher is better."""

    id: str
    score: float
    text: str
    key: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        item = Fields(fields.opt_map("item"), "item")
        return cls(
            id=fields.text("id"),
            score=fields.opt_number("score") or 0.0,
            text=fields.opt_text("text") or "",
            key=item.opt_text("key"),
            metadata=item.opt_map("metadata"),
        )


@dataclass(frozen=True, slots=True)
class Instance:
    """One AI Search instance. type None: built-in storage. custom_metadata: field name -> data type."""

    id: str
    namespace: str | None = None
    type: str | None = None
    source: str | None = None
    status: str | None = None
    paused: bool = False
    custom_metadata: Mapping[str, str] = field(default_factory=dict)
    created_at: str | None = None

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        declared = (Fields(row, "field") for row in fields.opt_list("custom_metadata") if isinstance(row, dict))
        return cls(
            id=fields.text("id"),
            namespace=fields.opt_text("namespace"),
            type=fields.opt_text("type"),
            source=fields.opt_text("source"),
            status=fields.opt_text("status"),
            paused=fields.opt_bool("paused") or False,
            custom_metadata={row.text("field_name"): row.opt_text("data_type") or "text" for row in declared},
            created_at=fields.opt_text("created_at"),
        )


@dataclass(frozen=True, slots=True)
class Namespace:
    """One AI Search namespace."""

    name: str
    description: str | None = None
    created_at: str | None = None

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        return cls(fields.text("name"), fields.opt_text("description"), fields.opt_text("created_at"))


@dataclass(frozen=True, slots=True)
class TokenStatus:
    """What Cloudflare says of a token. status: active, disabled or expired. kind: whose token it is.

    It says nothing of permissions.
    """

    id: str | None
    status: str
    kind: Literal["user", "account"]
    expires_on: str | None = None
    not_before: str | None = None

    @classmethod
    def parse(cls, result: object, kind: Literal["user", "account"]) -> Self:
        fields = Fields(result, "token")
        return cls(
            id=fields.opt_text("id"),
            status=fields.text("status"),
            kind=kind,
            expires_on=fields.opt_text("expires_on"),
            not_before=fields.opt_text("not_before"),
        )
