"""What Vectorize answers, as frozen values. None means that the remote does not say."""

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Self, TypedDict

from syncd.cloudflare.envelope import Answer
from syncd.cloudflare.fields import Fields, sound
from syncd.errors import Retry

Metric = Literal["cosine", "euclidean", "dot-product"]
IndexType = Literal["string", "number", "boolean"]


class QueryOptions(TypedDict, total=False):
    """What a query may say besides its vector. filter: in the syntax of Vectorize, on fields that have an index."""

    namespace: str | None
    filter: Mapping[str, Any] | None
    return_metadata: Literal["none", "indexed", "all"]
    return_values: bool


@dataclass(frozen=True, slots=True)
class Index:
    """One index. dimensions: values of each of its vectors."""

    name: str
    dimensions: int | None = None
    metric: str | None = None
    description: str | None = None
    created_on: datetime | None = None
    modified_on: datetime | None = None

    @classmethod
    def parse(cls, fields: Fields, name: str | None = None) -> Self:
        """name: the one that was asked for, if there was one; the schema has it optional."""
        config = Fields(fields.opt_map("config"), "config")
        return cls(
            name=fields.opt_text("name") or name or fields.text("name"),
            dimensions=config.opt_int("dimensions"),
            metric=config.opt_text("metric"),
            description=fields.opt_text("description"),
            created_on=_time(fields, "created_on"),
            modified_on=_time(fields, "modified_on"),
        )


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """How far an index is. processed_up_to_mutation: the id of the last write that was carried out, processed_up_to:
    when that was.
    """

    dimensions: int | None = None
    vector_count: int | None = None
    processed_up_to_mutation: str | None = None
    processed_up_to: datetime | None = None

    @classmethod
    def parse(cls, answer: Answer) -> Self:
        fields = Fields(answer.result, "index info")
        return cls(
            dimensions=fields.opt_int("dimensions"),
            vector_count=fields.opt_int("vectorCount"),
            processed_up_to_mutation=fields.opt_text("processedUpToMutation") or None,
            processed_up_to=_time(fields, "processedUpToDatetime"),
        )


@dataclass(frozen=True, slots=True)
class StoredVector:
    """One stored vector. metadata: {} when it has none."""

    id: str
    values: tuple[float, ...] | None = field(default=None, repr=False)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    namespace: str | None = None

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        return cls(fields.text("id"), _values(fields), fields.opt_map("metadata"), fields.opt_text("namespace") or None)


@dataclass(frozen=True, slots=True)
class Match:
    """One vector that a query found. score: by the metric of the index; metadata and values when asked for."""

    id: str
    score: float
    metadata: Mapping[str, Any] = field(default_factory=dict)
    values: tuple[float, ...] | None = field(default=None, repr=False)
    namespace: str | None = None

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        score = fields.opt_number("score")
        if score is None:
            raise Retry("unexpected answer: a match without a score", ambiguous=True)
        return cls(
            id=fields.text("id"),
            score=score,
            metadata=fields.opt_map("metadata"),
            values=_values(fields),
            namespace=fields.opt_text("namespace") or None,
        )


@dataclass(frozen=True, slots=True)
class VectorPage:
    """One page of ids, and the cursor of the next page, None at the end; a page may be empty and have a next one.

    total: vectors of the whole index. expires: when the cursor does. faults: what is wrong with rows that could not be
    read.
    """

    ids: tuple[str, ...]
    cursor: str | None = None
    total: int | None = None
    expires: datetime | None = None
    faults: tuple[str, ...] = ()

    @classmethod
    def parse(cls, answer: Answer) -> Self:
        fields = Fields(answer.result, "vector page")
        found = sound(fields.any("vectors"), "vector", lambda row: row.text("id"))
        truncated = fields.opt_bool("isTruncated")
        cursor = None if truncated is False else fields.cursor("nextCursor")
        if truncated and cursor is None:
            # Half a listing must not read as a whole one.
            raise Retry("unexpected answer: the listing goes on, but has no cursor", ambiguous=True)
        expires = _time(fields, "cursorExpirationTimestamp")
        return cls(tuple(found.good), cursor, fields.opt_int("totalCount"), expires, found.faults)


@dataclass(frozen=True, slots=True)
class MetadataIndex:
    """One metadata field that queries can filter by. index_type: string, number or boolean."""

    property_name: str
    index_type: str | None = None

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        return cls(fields.text("propertyName"), fields.opt_text("indexType"))


def mutation_id(answer: Answer) -> str | None:
    """The id of a write that will be carried out later."""
    return None if answer.result is None else Fields(answer.result, "mutation").opt_text("mutationId") or None


def _values(fields: Fields) -> tuple[float, ...] | None:
    values = fields.any("values")
    if values is None:
        return None
    if isinstance(values, list) and set(map(type, values)) <= {int, float}:
        with suppress(OverflowError):
            numbers = tuple(float(value) for value in values)
            if all(map(math.isfinite, numbers)):
                return numbers
    raise Retry("unexpected answer: the values of a vector are no list of finite numbers", ambiguous=True)


def _time(fields: Fields, name: str) -> datetime | None:
    """An ISO 8601 text as a time with its zone, UTC when it names none."""
    try:
        said = datetime.fromisoformat(fields.opt_text(name) or "")
    except ValueError:
        return None
    return said if said.tzinfo else said.replace(tzinfo=UTC)
