"""Models of the AI Search API. Times are ISO 8601 texts of the remote; sizes are bytes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal, Self, TypedDict, get_args

from pydantic import AliasPath, Field, PlainValidator

from syncd.cloudflare.decoding import (
    Flag,
    NumberOrZero,
    OptionalInt,
    OptionalRemoteMetadata,
    OptionalText,
    RemoteMetadata,
    Text,
    TextOrEmpty,
    as_object,
    decode,
    decode_page,
    decode_rows,
    parse_whole_number,
)
from syncd.cloudflare.response import Answer
from syncd.core.errors import Retry
from syncd.core.model import IndexStatus

_STATUSES: Mapping[str, IndexStatus] = {status: status for status in get_args(IndexStatus)}


class ListParams(TypedDict, total=False):
    """The query of one listing page. per_page: at most 50. key and search need a server of July 2026."""

    page: int
    per_page: int
    key: str
    search: str
    source: str
    status: IndexStatus
    sort_by: Literal["status", "modified_at"]


def _status(value: object) -> IndexStatus | None:
    return _STATUSES.get(value) if isinstance(value, str) else None


@dataclass(frozen=True, slots=True)
class StoredItem:
    """One stored file.

    status: None if syncd does not know the status. source_id: "builtin" for an uploaded file. metadata: None if the
    remote does not show metadata, which servers before July 2026 do not.
    """

    id: Text
    key: Text
    status: Annotated[IndexStatus | None, PlainValidator(_status)] = None
    checksum: OptionalText = None
    file_size: OptionalInt = None
    source_id: OptionalText = None
    next_action: OptionalText = None
    error: OptionalText = None
    created_at: OptionalText = None
    last_seen_at: OptionalText = None
    metadata: OptionalRemoteMetadata = None


@dataclass(frozen=True, slots=True)
class ItemPage:
    """One page of a listing.

    total_count: items of the whole listing, None if the remote does not give it. faults: messages about unreadable
    rows.
    """

    items: tuple[StoredItem, ...]
    total_count: int | None = None
    faults: tuple[str, ...] = ()

    @classmethod
    def parse(cls, answer: Answer) -> Self:
        """Decode the page of an answer."""
        found = decode_page(StoredItem, answer.result, "item")
        return cls(found.rows, parse_whole_number(answer.result_info.get("total_count")), found.faults)


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One step in the indexing of an item."""

    action: Text
    timestamp: OptionalText = None
    message: OptionalText = None
    error_type: Annotated[OptionalText, Field(validation_alias="errorType")] = None


@dataclass(frozen=True, slots=True)
class Stats:
    """Items by index status. degraded: the remote cannot count, and the counts are None."""

    queued: OptionalInt = None
    running: OptionalInt = None
    completed: OptionalInt = None
    error: OptionalInt = None
    skipped: OptionalInt = None
    outdated: OptionalInt = None
    degraded: Flag = False


@dataclass(frozen=True, slots=True)
class FoundChunk:
    """One chunk that matches a search. key: None if the remote does not name the item. score: higher is better."""

    id: Text
    score: NumberOrZero = 0.0
    text: TextOrEmpty = ""
    key: Annotated[OptionalText, Field(validation_alias=AliasPath("item", "key"))] = None
    metadata: Annotated[RemoteMetadata, Field(validation_alias=AliasPath("item", "metadata"))] = field(
        default_factory=dict
    )


def search_hits(answer: Answer) -> tuple[FoundChunk, ...]:
    """Decode the hits of a search. Raises Retry for an answer without a list: no hits are an empty list."""
    chunks = as_object(answer.result, "search result").get("chunks")
    if not isinstance(chunks, list):
        raise Retry("unexpected answer: the search result has no list of chunks")
    return decode_rows(FoundChunk, chunks, "chunk")


@dataclass(frozen=True, slots=True)
class Namespace:
    """One AI Search namespace."""

    name: Text


@dataclass(frozen=True, slots=True)
class TokenStatus:
    """The state of a token, without its permissions. status: active, disabled or expired. kind: who owns the token."""

    status: Text
    kind: Literal["user", "account"]

    @classmethod
    def parse(cls, answer: Answer, kind: Literal["user", "account"]) -> Self:
        """Decode the answer about a token."""
        return decode(cls, {**as_object(answer.result, "token"), "kind": kind}, "token")
