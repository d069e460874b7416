"""The lines of a Vectorize upsert, each encoded once and of exact size, and the models of the answers.

None in a model means that the remote does not give the value.
"""

import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated, Any, Self

from pydantic import Field

from syncd.cloudflare.decoding import (
    NonemptyText,
    Number,
    OptionalInt,
    OptionalTime,
    RemoteMetadata,
    Text,
    as_object,
    decode_page,
    decode_rows,
    parse_cursor,
    parse_flag,
    parse_list,
    parse_nonempty_text,
    unexpected,
)
from syncd.cloudflare.kv_models import compact_json, in_blocks
from syncd.cloudflare.response import Answer
from syncd.core.errors import Park

ID_LIMIT = 64
"""Longest id of a vector, bytes of UTF-8 (Vectorize limits)."""
METADATA_LIMIT = 10 * 1024
"""Largest metadata of one vector, bytes of its compact JSON (Vectorize limits)."""
DIMENSIONS_LIMIT = 1536
"""Maximum number of values of one vector (Vectorize limits)."""
VECTORS_LIMIT = 5000
"""Maximum number of vectors of one upsert over HTTP (Vectorize limits)."""
BODY_LIMIT = 100_000_000
"""Largest body of an upsert, bytes: 100 decimal megabytes (Vectorize limits)."""


def encode_line(
    id: str,  # noqa: A002 - the name in the API
    values: Sequence[float],
    metadata: Mapping[str, Any] | None = None,
) -> bytes:
    """Encode one vector as a line with its newline. Each value decodes to the same float32, which Vectorize stores.

    Raises Park("refused") for an id or metadata that Vectorize does not accept. Raises ValueError unless the values are
    1 to DIMENSIONS_LIMIT finite float32, and for metadata that is no JSON.
    """
    check_id(id)
    line = b'{"id":' + compact_json(id) + b',"values":' + _encode_values(values)
    if metadata is not None:
        line += b',"metadata":' + _encode_metadata(metadata)
    return line + b"}\n"


class VectorLines:
    """The lines of an upsert, in the order of adding. A Stream, which requests can send repeatedly.

    max_lines, max_bytes: limits of the body, at most the limits of the API. size: exact bytes of all lines. A caller
    adds no line during a request.
    """

    def __init__(self, max_lines: int = VECTORS_LIMIT, max_bytes: int = BODY_LIMIT) -> None:
        if not (1 <= max_lines <= VECTORS_LIMIT and 1 <= max_bytes <= BODY_LIMIT):
            raise ValueError(f"an upsert holds 1 to {VECTORS_LIMIT} lines and 1 to {BODY_LIMIT} bytes")
        self._max_lines = max_lines
        self._max_bytes = max_bytes
        self.size = 0
        self._lines: list[bytes] = []

    def fits(self, line: bytes) -> bool:
        """Whether the body has room for this line."""
        return len(self._lines) < self._max_lines and self.size + len(line) <= self._max_bytes

    def add(self, line: bytes) -> None:
        """Add a line of encode_line(). Raises ValueError if the line does not fit, or is not one line."""
        if not self.fits(line):
            raise ValueError(f"an upsert holds at most {self._max_lines} lines and {self._max_bytes} bytes")
        if line.find(b"\n") != len(line) - 1 or len(line) < 2:
            raise ValueError("a line ends with its only newline")
        self._lines.append(line)
        self.size += len(line)

    def __len__(self) -> int:
        return len(self._lines)

    def __iter__(self) -> Iterator[bytes]:
        return in_blocks(self._lines)


def check_id(vector_id: str) -> None:
    """Raise Park("refused") for an id that is empty, over ID_LIMIT or not valid Unicode."""
    try:
        size = len(vector_id.encode())
    except UnicodeEncodeError:
        raise Park("refused", "the id of a vector is not valid UTF-8") from None
    if not 1 <= size <= ID_LIMIT:
        raise Park("refused", f"the id of a vector has {size} bytes, Vectorize takes 1 to {ID_LIMIT}")


def _encode_values(values: Sequence[float]) -> bytes:
    if not 1 <= len(values) <= DIMENSIONS_LIMIT:
        raise ValueError(f"a vector has 1 to {DIMENSIONS_LIMIT} values, not {len(values)}")
    stored = array("f", values)
    if not math.isfinite(sum(stored)):  # the sum of float32 values stays in the range of a double
        raise ValueError("a vector holds a value that is no finite float32")
    return _template(len(stored)) % tuple(stored)


@lru_cache(maxsize=8)
def _template(count: int) -> bytes:
    """Return the format of `count` values. Nine digits identify every float32. Bytes are a third faster than text."""
    return b"[" + b",".join([b"%.9g"] * count) + b"]"


def _encode_metadata(metadata: Mapping[str, Any]) -> bytes:
    _check_names(metadata)
    try:
        encoded = compact_json(dict(metadata))
    except UnicodeEncodeError:
        raise Park("refused", "the metadata is not valid UTF-8: rename the file") from None
    if len(encoded) > METADATA_LIMIT:
        message = f"the metadata of a vector has {len(encoded)} bytes, Vectorize takes {METADATA_LIMIT}"
        raise Park("refused", f"{message}: set a smaller chunk_size, or less metadata")
    return encoded


def _check_names(value: object) -> None:
    """Check the names of metadata, also of nested objects (Vectorize: metadata filtering)."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if not name or "." in name or '"' in name or name.startswith("$"):
                raise Park(
                    "refused",
                    f'Vectorize refuses the metadata name {name!r}: no name has a "." or a quote, or starts with "$"',
                )
            _check_names(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _check_names(inner)


@dataclass(frozen=True, slots=True)
class IndexDetails:
    """One index."""

    name: Text


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
    metadata: RemoteMetadata = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Match:
    """One vector that a query finds. score: by the metric of the index."""

    id: Text
    score: Number
    metadata: RemoteMetadata = field(default_factory=dict)


def query_matches(answer: Answer) -> list[Match]:
    """Decode the matches of a query."""
    return list(decode_rows(Match, parse_list(as_object(answer.result, "query result").get("matches")), "match"))


@dataclass(frozen=True, slots=True)
class _ListedVector:
    id: Text


@dataclass(frozen=True, slots=True)
class VectorPage:
    """One page of ids, and the cursor of the next page, None at the end. An empty page may have a next page.

    faults: messages about unreadable rows.
    """

    ids: tuple[str, ...]
    cursor: str | None = None
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
        return cls(tuple(vector.id for vector in found.rows), cursor, found.faults)


@dataclass(frozen=True, slots=True)
class _MetadataIndex:
    name: Annotated[Text, Field(validation_alias="propertyName")]


def metadata_indexes(answer: Answer) -> list[str]:
    """Return the names of the fields that have a metadata index."""
    rows = parse_list(as_object(answer.result, "metadata indexes").get("metadataIndexes"))
    return [index.name for index in decode_rows(_MetadataIndex, rows, "metadata index")]


def mutation_id(answer: Answer) -> str | None:
    """Decode the id of an accepted write, which the remote processes later."""
    if answer.result is None:
        return None
    return parse_nonempty_text(as_object(answer.result, "mutation").get("mutationId"))
