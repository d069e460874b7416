"""The Vectorize API, version 2: the lines of an upsert, the models of the answers, and one method for each endpoint.

Every method repeats failed requests and raises the errors of Transport.attempts. A missing index raises TargetMissing.
The remote processes writes later. A write returns an id, which `info` shows after the remote has processed the write.
None in a model means that the remote does not give the value.
"""

from array import array
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, TypeVar

from pydantic import Field

from syncd.cloudflare.decoding import (
    Number,
    OptionalInt,
    OptionalText,
    OptionalTime,
    Page,
    RemoteMetadata,
    Text,
    as_object,
    decode_page,
    decode_rows,
    object_of,
    pages,
    parse_cursor,
    parse_flag,
    parse_list,
    parse_text,
    rows_of,
    unexpected,
)
from syncd.cloudflare.request import Body, Request, compact_json, path
from syncd.cloudflare.response import Answer
from syncd.cloudflare.transport import Transport
from syncd.core.errors import NotFound, Park, Retry, TargetMissing, TooMuch

METADATA_LIMIT = 10 * 1024
"""Largest metadata of one vector, bytes of its compact JSON (Vectorize limits)."""
DIMENSIONS_LIMIT = 1536
"""Maximum number of values of one vector (Vectorize limits)."""
DELETE_LIMIT = 100
"""Maximum number of ids of one delete (error 40007, undocumented)."""
GET_LIMIT = 20
"""Maximum number of ids of one get (error 40007, undocumented)."""
LIST_LIMIT = 1000
"""Maximum number of ids of one page (Vectorize limits)."""
FULL_QUERY_LIMIT = 50
"""Maximum number of matches of one query with all metadata (Vectorize limits)."""
WRITE_SLOW_S = 60.0
"""Additional seconds for a write. Cloudflare's edge answers 524 after 100 s, after which the caller sends less."""

TOO_MANY_VECTORS = 40006
"""Error code of an upsert with too many vectors. A query gives the same code for wrong dimensions."""
NO_METADATA_INDEX = 40005
"""Error code of a missing metadata index. Any other 404 means a missing index."""

_request = partial(Request, permission="Account / Vectorize:Edit")
_NDJSON = {"Content-Type": "application/x-ndjson"}
_GATEWAY_TIMEOUTS = frozenset({504, 524})
_T = TypeVar("_T")


# -- lines


def encode_line(vector_id: str, values: "array[float]", metadata: Mapping[str, Any]) -> bytes:
    """Encode one vector as a line with its newline. Each value decodes to the same float32, which Vectorize stores.

    values: finite float32, 1 to DIMENSIONS_LIMIT. metadata: at most METADATA_LIMIT. Its names contain no "." and no
    quote, and do not start with "$" (Vectorize: metadata filtering). Raises Park("refused") if it is not valid Unicode.
    """
    try:
        encoded = compact_json(dict(metadata))
    except UnicodeEncodeError:
        raise Park("refused", "the metadata is not valid UTF-8: rename the file") from None
    # Nine digits identify every float32.
    numbers = b",".join(b"%.9g" % value for value in values)
    return b'{"id":' + compact_json(vector_id) + b',"values":[' + numbers + b'],"metadata":' + encoded + b"}\n"


# -- models


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
    processed_up_to_mutation: Annotated[OptionalText, Field(validation_alias="processedUpToMutation")] = None
    processed_up_to: Annotated[OptionalTime, Field(validation_alias="processedUpToDatetime")] = None


@dataclass(frozen=True, slots=True)
class StoredVector:
    """One stored vector. metadata: {} if the vector has none, and in a listing."""

    id: Text
    metadata: RemoteMetadata = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Match:
    """One vector that a query finds. score: by the metric of the index."""

    id: Text
    score: Number
    metadata: RemoteMetadata = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _MetadataIndex:
    name: Annotated[Text, Field(validation_alias="propertyName")]


# -- clients


class Vectorize:
    """The indexes of one account."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self._base = _indexes(transport)

    async def list_indexes(self) -> tuple[IndexDetails, ...]:
        """Return all indexes. The listing has no pages."""
        return await self.transport.ask(_request("GET", self._base), rows_of(IndexDetails, "index"))

    async def create_index(self, name: str, dimensions: int) -> None:
        """Create an index. Raises Conflict if the name exists. After an ambiguous Retry the index may exist.

        dimensions: 1 to DIMENSIONS_LIMIT. They cannot change later.
        """
        body = {"name": name, "config": {"dimensions": dimensions, "metric": "cosine"}}
        await self.transport.request(_request("POST", self._base, json=body))


class VectorizeIndex:
    """The vectors of one index. The class has one method for each endpoint. No list that a method takes is empty.

    Writes raise TooMuch if the remote refuses (413, 40006, 40007) or does not finish (504, 524) more than one vector;
    the caller then sends two halves. Writes are idempotent. faults: messages about unreadable rows of the latest
    listing.
    """

    def __init__(self, transport: Transport, name: str) -> None:
        self.transport = transport
        self.name = name
        self.faults: list[str] = []
        self._base = _indexes(transport) + path(name)

    async def info(self) -> IndexInfo:
        """Return the size of the index and the id of the last processed write."""
        return await self._ask(_request("GET", self._base + "/info"), object_of(IndexInfo, "index info"))

    # vectors

    async def upsert(self, lines: Sequence[bytes]) -> str | None:
        """Write the vectors of lines of `encode_line`, and replace existing vectors with the same ids.

        lines: at most 5,000 with 100 MB (Vectorize limits).
        """
        url, body = self._base + "/upsert", Body(lines)
        request = _request("POST", url, content=body, headers=_NDJSON, safe=True, slow_s=WRITE_SLOW_S)
        return await self._ask(request, _mutation_id, len(lines))

    async def delete_by_ids(self, ids: Sequence[str]) -> str | None:
        """Delete up to DELETE_LIMIT vectors. Absent ids are no error."""
        url, body = self._base + "/delete_by_ids", {"ids": list(ids)}
        request = _request("POST", url, json=body, safe=True, slow_s=WRITE_SLOW_S)
        return await self._ask(request, _mutation_id, len(ids))

    async def get_by_ids(self, ids: Sequence[str]) -> tuple[StoredVector, ...]:
        """Return the existing vectors of up to GET_LIMIT ids."""
        request = _request("POST", self._base + "/get_by_ids", json={"ids": list(ids)}, reads=True)
        return await self._ask(request, rows_of(StoredVector, "vector"), len(ids))

    async def list_vectors(self, cursor: str | None = None) -> Page[StoredVector]:
        """Return one page of LIST_LIMIT ids. Without a cursor a new snapshot begins."""
        request = _request("GET", self._base + "/list", params={"count": LIST_LIMIT, "cursor": cursor})
        return await self._ask(request, _page)

    async def iter_ids(self) -> AsyncGenerator[str, None]:
        """Yield the ids of one snapshot. The listing ends at a page without a cursor.

        Raises CursorRefused if the remote refuses a later cursor, because cursors expire. Raises Retry for a repeated
        cursor or more than PAGES_LIMIT pages. After both errors the caller lists again from the start.
        """
        self.faults = []
        async with aclosing(pages(self.list_vectors)) as listing:
            async for page in listing:
                self.faults += page.faults
                for vector in page.rows:
                    yield vector.id

    async def query(
        self, vector: Sequence[float], top_k: int, conditions: Mapping[str, Any] | None = None
    ) -> tuple[Match, ...]:
        """Return the top_k nearest vectors with all their metadata, the best first.

        top_k: 1 to FULL_QUERY_LIMIT. conditions: in the syntax of Vectorize, on fields that have a metadata index.
        """
        body: dict[str, Any] = {"vector": list(vector), "topK": top_k, "returnMetadata": "all", "returnValues": False}
        if conditions:
            body["filter"] = dict(conditions)
        request = _request("POST", self._base + "/query", json=body, reads=True)
        return await self._ask(request, _matches)

    # metadata indexes

    async def create_metadata_index(self, name: str) -> str | None:
        """Let queries filter later vectors by a metadata field of texts. An existing metadata index is no error."""
        url, body = self._base + "/metadata_index/create", {"propertyName": name, "indexType": "string"}
        return await self._ask(_request("POST", url, json=body, safe=True), _mutation_id)

    async def list_metadata_indexes(self) -> list[str]:
        """Return the names of the metadata fields that queries can filter by."""
        return await self._ask(_request("GET", self._base + "/metadata_index/list"), _metadata_indexes)

    async def _ask(self, request: Request, parse: Callable[[Answer], _T], count: int = 1) -> _T:
        return await self.transport.ask(request, parse, partial(_of_index, self.name, count))


def _matches(answer: Answer) -> tuple[Match, ...]:
    return decode_rows(Match, parse_list(as_object(answer.result, "query result").get("matches")), "match")


def _page(answer: Answer) -> Page[StoredVector]:
    """Decode a page of ids. Raises Retry for a truncated page without a cursor."""
    page = as_object(answer.result, "vector page")
    truncated = parse_flag(page.get("isTruncated"))
    cursor = None if truncated is False else parse_cursor(page.get("nextCursor"))
    if truncated and cursor is None:
        # A part of a listing must not pass for the whole listing.
        raise unexpected("the listing is truncated, but has no cursor")
    return decode_page(StoredVector, page.get("vectors"), "vector", cursor=cursor)


def _metadata_indexes(answer: Answer) -> list[str]:
    """Return the names of the fields that have a metadata index."""
    rows = parse_list(as_object(answer.result, "metadata indexes").get("metadataIndexes"))
    return [index.name for index in decode_rows(_MetadataIndex, rows, "metadata index")]


def _mutation_id(answer: Answer) -> str | None:
    """Decode the id of an accepted write, which the remote processes later."""
    if answer.result is None:
        return None
    return parse_text(as_object(answer.result, "mutation").get("mutationId")) or None


@contextmanager
def _of_index(name: str, count: int) -> Iterator[None]:
    """Name the index in the error of the block. Raise TooMuch for an error that half of the vectors probably avoid.

    count: the number of vectors in the request.
    """
    try:
        yield
    except TargetMissing as error:
        message = f"the Vectorize index {name!r} does not exist: create = true creates it"
        raise TargetMissing(f"{message}: {error}") from error
    except (Park, Retry) as error:
        if isinstance(error, NotFound) and error.code != NO_METADATA_INDEX:
            # An error code of another API says nothing about this index.
            raise Retry(f"unexpected answer: {error}", status=error.status) from error
        if count > 1 and _is_too_much(error):
            raise TooMuch(f"too much for one request of {count} vectors: {error}", status=error.status) from error
        raise


def _is_too_much(error: Park | Retry) -> bool:
    if isinstance(error, Park):
        return error.kind == "too_large" or error.code == TOO_MANY_VECTORS
    return error.status in _GATEWAY_TIMEOUTS


def _indexes(transport: Transport) -> str:
    return path("accounts", transport.account_id, "vectorize", "v2", "indexes")
