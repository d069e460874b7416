"""Models of the Vectorize API. None means that the remote does not give the value."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal, Self, TypedDict

from pydantic import AliasPath, Field

from syncd.cloudflare.decoding import (
    NonemptyText,
    Number,
    OptionalInt,
    OptionalText,
    OptionalTime,
    RemoteMetadata,
    Text,
    as_object,
    decode,
    decode_page,
    decode_rows,
    parse_cursor,
    parse_flag,
    parse_list,
    parse_nonempty_text,
    parse_time,
    parse_whole_number,
    unexpected,
)
from syncd.cloudflare.response import Answer

Metric = Literal["cosine", "euclidean", "dot-product"]
IndexType = Literal["string", "number", "boolean"]
Values = tuple[Annotated[float, Field(strict=True, allow_inf_nan=False)], ...]


class QueryOptions(TypedDict, total=False):
    """Options of a query. filter: in the syntax of Vectorize, on fields that have a metadata index."""

    namespace: str | None
    filter: Mapping[str, Any] | None
    return_metadata: Literal["none", "indexed", "all"]
    return_values: bool


@dataclass(frozen=True, slots=True)
class IndexDetails:
    """One index. dimensions: number of values of each vector."""

    name: Text
    dimensions: Annotated[OptionalInt, Field(validation_alias=AliasPath("config", "dimensions"))] = None
    metric: Annotated[OptionalText, Field(validation_alias=AliasPath("config", "metric"))] = None
    description: OptionalText = None
    created_on: OptionalTime = None
    modified_on: OptionalTime = None

    @classmethod
    def parse(cls, answer: Answer, name: str) -> Self:
        """Decode an index. name: the requested name, because the name is optional in the schema of the answer."""
        result = as_object(answer.result, "index")
        return decode(cls, {**result, "name": parse_nonempty_text(result.get("name")) or name}, "index")


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """The progress of an index.

    processed_up_to_mutation: the id of the last processed write. processed_up_to: the time of that write.
    """

    dimensions: OptionalInt = None
    vector_count: Annotated[OptionalInt, Field(validation_alias="vectorCount")] = None
    processed_up_to_mutation: Annotated[NonemptyText, Field(validation_alias="processedUpToMutation")] = None
    processed_up_to: Annotated[OptionalTime, Field(validation_alias="processedUpToDatetime")] = None


@dataclass(frozen=True, slots=True)
class StoredVector:
    """One stored vector. metadata: {} if the vector has none."""

    id: Text
    values: Values | None = field(default=None, repr=False)
    metadata: RemoteMetadata = field(default_factory=dict)
    namespace: NonemptyText = None


@dataclass(frozen=True, slots=True)
class Match:
    """One vector that a query finds. score: by the metric of the index. metadata, values: only on request."""

    id: Text
    score: Number
    metadata: RemoteMetadata = field(default_factory=dict)
    values: Values | None = field(default=None, repr=False)
    namespace: NonemptyText = None


def query_matches(answer: Answer) -> list[Match]:
    """Decode the matches of a query."""
    return list(decode_rows(Match, parse_list(as_object(answer.result, "query result").get("matches")), "match"))


@dataclass(frozen=True, slots=True)
class _ListedVector:
    id: Text


@dataclass(frozen=True, slots=True)
class VectorPage:
    """One page of ids, and the cursor of the next page, None at the end. An empty page may have a next page.

    total: vectors of the whole index. expires: the time at which the cursor expires. faults: messages about unreadable
    rows.
    """

    ids: tuple[str, ...]
    cursor: str | None = None
    total: int | None = None
    expires: datetime | None = None
    faults: tuple[str, ...] = ()

    @classmethod
    def parse(cls, answer: Answer) -> Self:
        """Decode the page of an answer. Raises Retry for a truncated page without a cursor."""
        page = as_object(answer.result, "vector page")
        found = decode_page(_ListedVector, page.get("vectors"), "vector")
        truncated = parse_flag(page.get("isTruncated"))
        cursor = None if truncated is False else parse_cursor(page.get("nextCursor"))
        if truncated and cursor is None:
            # A part of a listing must not pass for the whole listing.
            raise unexpected("the listing is truncated, but has no cursor")
        total = parse_whole_number(page.get("totalCount"))
        expires = parse_time(page.get("cursorExpirationTimestamp"))
        return cls(tuple(vector.id for vector in found.rows), cursor, total, expires, found.faults)


@dataclass(frozen=True, slots=True)
class MetadataIndex:
    """One metadata field that queries can filter by. index_type: string, number or boolean."""

    property_name: Annotated[Text, Field(validation_alias="propertyName")]
    index_type: Annotated[OptionalText, Field(validation_alias="indexType")] = None


def metadata_indexes(answer: Answer) -> list[MetadataIndex]:
    """Decode the metadata indexes of an index."""
    rows = parse_list(as_object(answer.result, "metadata indexes").get("metadataIndexes"))
    return list(decode_rows(MetadataIndex, rows, "metadata index"))


def mutation_id(answer: Answer) -> str | None:
    """Decode the id of an accepted write, which the remote processes later."""
    if answer.result is None:
        return None
    return parse_nonempty_text(as_object(answer.result, "mutation").get("mutationId"))
