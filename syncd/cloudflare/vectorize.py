"""The Vectorize API, version 2: one method for each endpoint.

Every method repeats failed requests and raises the errors of Transport.attempts. A missing index raises TargetMissing.
The remote processes writes later. A write returns an id, which `info` shows after the remote has processed the write.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from functools import partial
from typing import Any, TypeVar

from syncd.cloudflare.decoding import decode, decode_rows, pages
from syncd.cloudflare.request import Request, path
from syncd.cloudflare.response import Answer
from syncd.cloudflare.transport import Transport
from syncd.cloudflare.vectorize_models import (
    DIMENSIONS_LIMIT,
    IndexDetails,
    IndexInfo,
    Match,
    StoredVector,
    VectorLines,
    VectorPage,
    check_id,
    metadata_indexes,
    mutation_id,
    query_matches,
)
from syncd.core.errors import NotFound, Park, Retry, TargetMissing, TooMuch

DELETE_LIMIT = 100
"""Maximum number of ids of one delete (error 40007, undocumented)."""
GET_LIMIT = 20
"""Maximum number of ids of one get (error 40007, undocumented)."""
LIST_LIMIT = 1000
"""Maximum number of ids of one page (Vectorize limits)."""
FULL_QUERY_LIMIT = 50
"""Maximum number of matches of one query with all metadata (Vectorize limits)."""
PAGES_LIMIT = 100_000
"""Maximum pages of one listing. An index holds up to 20,000,000 vectors, and a server may return 200 of them a page."""
WRITE_SLOW_S = 60.0
"""Additional seconds for a write. Cloudflare's edge answers 524 after 100 s, which tells the caller to send less."""

TOO_MANY_VECTORS = 40006
"""Error code of an upsert with too many vectors. A query gives the same code for wrong dimensions."""
NO_METADATA_INDEX = 40005
"""Error code of a missing metadata index. Any other 404 means a missing index."""

_EDIT = "Account / Vectorize:Edit"
_NDJSON = {"Content-Type": "application/x-ndjson"}
_GATEWAY_TIMEOUTS = frozenset({504, 524})
_T = TypeVar("_T")


class Vectorize:
    """The indexes of one account."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self._base = _indexes(transport)

    async def list_indexes(self) -> list[IndexDetails]:
        """Return all indexes. The listing has no pages."""
        request = Request("GET", self._base, permission=_EDIT)
        return await self.transport.ask(request, lambda answer: list(decode_rows(IndexDetails, answer.result, "index")))

    async def create_index(self, name: str, dimensions: int) -> None:
        """Create an index. Raises Conflict if the name exists. After an ambiguous Retry the index may exist.

        Dimensions outside of 1 to DIMENSIONS_LIMIT raise ValueError. They cannot change later.
        """
        if not 1 <= dimensions <= DIMENSIONS_LIMIT:
            raise ValueError(f"an index has 1 to {DIMENSIONS_LIMIT} dimensions")
        body = {"name": name, "config": {"dimensions": dimensions, "metric": "cosine"}}
        await self.transport.request(Request("POST", self._base, json=body, permission=_EDIT))

    async def delete_index(self, name: str) -> None:
        """Delete an index with its vectors.

        Raises TargetMissing if the index does not exist. After a lost answer this means success.
        """
        request = Request("DELETE", self._base + path(name), permission=_EDIT)
        await self.transport.ask(request, lambda _: None, partial(_of_index, name))


class VectorizeIndex:
    """The vectors of one index. The class has one method for each endpoint.

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
        return await self._ask(
            Request("GET", self._base + "/info", permission=_EDIT),
            lambda answer: decode(IndexInfo, answer.result, "index info"),
        )

    # vectors

    async def upsert(self, lines: VectorLines) -> str | None:
        """Write the vectors and replace existing vectors with the same ids. No lines: no request and no id."""
        if not lines:
            return None
        url = self._base + "/upsert"
        request = Request("POST", url, content=lines, headers=_NDJSON, permission=_EDIT, safe=True, slow_s=WRITE_SLOW_S)
        return await self._ask(request, mutation_id, len(lines))

    async def delete_by_ids(self, ids: Sequence[str]) -> str | None:
        """Delete up to DELETE_LIMIT vectors; more raise ValueError. Absent ids are no error. No ids: no request."""
        _check_ids(ids, DELETE_LIMIT)
        if not ids:
            return None
        url = self._base + "/delete_by_ids"
        body = {"ids": list(ids)}
        request = Request("POST", url, json=body, permission=_EDIT, safe=True, slow_s=WRITE_SLOW_S)
        return await self._ask(request, mutation_id, len(ids))

    async def get_by_ids(self, ids: Sequence[str]) -> list[StoredVector]:
        """Return the existing vectors of up to GET_LIMIT ids; more raise ValueError. No ids: no request."""
        _check_ids(ids, GET_LIMIT)
        if not ids:
            return []
        url = self._base + "/get_by_ids"
        request = Request("POST", url, json={"ids": list(ids)}, permission=_EDIT, reads=True)
        vectors = await self._ask(request, lambda answer: decode_rows(StoredVector, answer.result, "vector"), len(ids))
        return list(vectors)

    async def list_vectors(self, count: int = LIST_LIMIT, cursor: str | None = None) -> VectorPage:
        """Return one page of ids. Without a cursor a new snapshot begins. count: 1 to LIST_LIMIT, else ValueError."""
        if not 1 <= count <= LIST_LIMIT:
            raise ValueError(f"count must be 1 to {LIST_LIMIT}")
        params = {"count": str(count)} | ({"cursor": cursor} if cursor else {})
        request = Request("GET", self._base + "/list", params=params, permission=_EDIT)
        return await self._ask(request, VectorPage.parse)

    async def iter_ids(self) -> AsyncIterator[str]:
        """Yield the ids of one snapshot. The listing ends at a page without a cursor.

        Raises CursorRefused if the remote refuses a later cursor, because cursors expire. Raises Retry for a repeated
        cursor or more than PAGES_LIMIT pages. After both errors the caller lists again from the start.
        """
        self.faults = []
        async with aclosing(pages(lambda cursor: self.list_vectors(LIST_LIMIT, cursor), PAGES_LIMIT)) as listing:
            async for page in listing:
                self.faults += page.faults
                for vector_id in page.ids:
                    yield vector_id

    async def query(
        self, vector: Sequence[float], top_k: int, conditions: Mapping[str, Any] | None = None
    ) -> list[Match]:
        """Return the top_k nearest vectors with all their metadata, the best first.

        top_k over FULL_QUERY_LIMIT raises ValueError. conditions: in the syntax of Vectorize, on fields that have a
        metadata index.
        """
        if not 1 <= top_k <= FULL_QUERY_LIMIT:
            raise ValueError(f"top_k must be 1 to {FULL_QUERY_LIMIT}")
        body: dict[str, Any] = {"vector": list(vector), "topK": top_k, "returnMetadata": "all", "returnValues": False}
        if conditions:
            body["filter"] = dict(conditions)
        request = Request("POST", self._base + "/query", json=body, permission=_EDIT, reads=True)
        return await self._ask(request, query_matches)

    # metadata indexes

    async def create_metadata_index(self, name: str) -> str | None:
        """Let queries filter later vectors by a metadata field of texts. An existing metadata index is no error."""
        url, body = self._base + "/metadata_index/create", {"propertyName": name, "indexType": "string"}
        return await self._ask(Request("POST", url, json=body, permission=_EDIT, safe=True), mutation_id)

    async def list_metadata_indexes(self) -> list[str]:
        """Return the names of the metadata fields that queries can filter by."""
        request = Request("GET", self._base + "/metadata_index/list", permission=_EDIT)
        return await self._ask(request, metadata_indexes)

    async def _ask(self, request: Request, parse: Callable[[Answer], _T], count: int = 1) -> _T:
        return await self.transport.ask(request, parse, partial(_of_index, self.name, count))


@contextmanager
def _of_index(name: str, count: int = 1) -> Iterator[None]:
    """Name the index in an error. Raise TooMuch if half of `count` vectors will more likely succeed than a retry."""
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


def _check_ids(ids: Sequence[str], limit: int) -> None:
    if len(ids) > limit:
        raise ValueError(f"at most {limit} ids at once")
    for vector_id in ids:
        check_id(vector_id)
