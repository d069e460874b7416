"""The Vectorize API, version 2: a method for each endpoint, no decisions.

Every method tries again by itself (see Transport.attempts) and raises what it raises. An index that is not there is
TargetMissing. Writes are carried out later: they answer with an id, which `info` shows once it can be seen.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any, Literal, TypeVar, Unpack

from syncd.cloudflare.envelope import Answer
from syncd.cloudflare.fields import Fields, rows
from syncd.cloudflare.pages import pages
from syncd.cloudflare.request import Request, path
from syncd.cloudflare.transport import Transport
from syncd.cloudflare.vectorize_lines import DIMENSIONS_LIMIT, VectorLines, check_id
from syncd.cloudflare.vectorize_values import (
    Index,
    IndexInfo,
    IndexType,
    Match,
    MetadataIndex,
    Metric,
    QueryOptions,
    StoredVector,
    VectorPage,
    mutation_id,
)
from syncd.errors import NotFound, Park, Retry, TargetMissing, TooMuch

DELETE_LIMIT = 100
"""Most ids of one delete (error 40007; not documented)."""
GET_LIMIT = 20
"""Most ids of one get (error 40007; not documented)."""
LIST_LIMIT = 1000
"""Most ids of one page (Vectorize limits)."""
QUERY_LIMIT, FULL_QUERY_LIMIT = 100, 50
"""Most matches of one query, and of one with values or all metadata (Vectorize limits)."""
PAGES_LIMIT = 100_000
"""Most pages of one listing: an index holds at most 20,000,000 vectors, and a server may give only 200 a page."""
WRITE_SLOW_S = 60.0
"""A write may take so many seconds longer: Cloudflare's edge gives up after 100 s, and its 524 is worth waiting for."""

TOO_MANY_VECTORS = 40006
"""Error code of an upsert with too many vectors, which a query gives for wrong dimensions."""
NO_METADATA_INDEX = 40005
"""Error code of a metadata index that is not there; any other 404 means the index."""

_EDIT = "Account / Vectorize:Edit"
_NDJSON = {"Content-Type": "application/x-ndjson"}
_GATEWAY_TIMEOUTS = frozenset({504, 524})
_Unparsable = Literal["error", "discard"] | None
_T = TypeVar("_T")


class Vectorize:
    """The indexes of one account."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self._base = _indexes(transport)

    async def list_indexes(self) -> list[Index]:
        """All indexes; there are no pages."""
        request = Request("GET", self._base, permission=_EDIT)
        return await self.transport.ask(request, lambda answer: [Index.parse(row) for row in _list(answer, "index")])

    async def create_index(
        self, name: str, dimensions: int, metric: Metric = "cosine", description: str | None = None
    ) -> Index:
        """Make an index; Conflict when it is there. An ambiguous Retry may have made it.

        ValueError when dimensions are not 1 to DIMENSIONS_LIMIT. Neither they nor the metric can be changed later.
        """
        if not 1 <= dimensions <= DIMENSIONS_LIMIT:
            raise ValueError(f"an index has 1 to {DIMENSIONS_LIMIT} dimensions")
        body: dict[str, Any] = {"name": name, "config": {"dimensions": dimensions, "metric": metric}}
        if description is not None:
            body["description"] = description
        request = Request("POST", self._base, json=body, permission=_EDIT)
        return await self.transport.ask(request, lambda answer: _index(answer, name))

    async def read_index(self, name: str) -> Index:
        """One index; TargetMissing when absent."""
        request = Request("GET", self._base + path(name), permission=_EDIT)
        return await _of_index(self.transport, name, request, lambda answer: _index(answer, name))

    async def delete_index(self, name: str) -> None:
        """Remove an index and all that is in it; TargetMissing when absent, which after a lost answer means done."""
        request = Request("DELETE", self._base + path(name), permission=_EDIT)
        await _of_index(self.transport, name, request, lambda _: None)


class VectorizeIndex:
    """The vectors of one index.

    Writes raise TooMuch when the remote does not take (413, 40006, 40007) or manage (504, 524) more than one vector
    at once: send them in two halves. They may be sent again: the same write twice changes nothing more.
    """

    def __init__(self, transport: Transport, name: str) -> None:
        self.transport = transport
        self.name = name
        self.faults: list[str] = []
        self._base = _indexes(transport) + path(name)

    async def info(self) -> IndexInfo:
        """Its size, and which write was the last to be carried out."""
        return await self._ask(Request("GET", self._base + "/info", permission=_EDIT), IndexInfo.parse)

    # vectors

    async def upsert(self, lines: VectorLines, unparsable: _Unparsable = None) -> str | None:
        """Write the vectors, each in place of what has its id, metadata included. No lines, no request and no id.

        unparsable: whether one line that cannot be read fails all (the API's default) or is left out.
        """
        return await self._write("/upsert", lines, unparsable)

    async def insert(self, lines: VectorLines, unparsable: _Unparsable = None) -> str | None:
        """Like upsert, but what has the id of a vector already stays."""
        return await self._write("/insert", lines, unparsable)

    async def delete_by_ids(self, ids: Sequence[str]) -> str | None:
        """Remove up to DELETE_LIMIT vectors (ValueError over it); absent ones are no error. No ids, no request."""
        _check_ids(ids, DELETE_LIMIT)
        if not ids:
            return None
        where = self._base + "/delete_by_ids"
        body = {"ids": list(ids)}
        request = Request("POST", where, json=body, permission=_EDIT, safe=True, slow_s=WRITE_SLOW_S)
        return await self._ask(request, mutation_id, len(ids))

    async def get_by_ids(self, ids: Sequence[str]) -> list[StoredVector]:
        """Those of up to GET_LIMIT vectors (ValueError over it) that are there. No ids, no request."""
        _check_ids(ids, GET_LIMIT)
        if not ids:
            return []
        where = self._base + "/get_by_ids"
        request = Request("POST", where, json={"ids": list(ids)}, permission=_EDIT, reads=True)
        parse = StoredVector.parse
        return await self._ask(request, lambda answer: [parse(row) for row in _list(answer, "vector")], len(ids))

    async def list_vectors(self, count: int = LIST_LIMIT, cursor: str | None = None) -> VectorPage:
        """One page of ids; count 1 to LIST_LIMIT, else ValueError. Without a cursor a new snapshot begins."""
        if not 1 <= count <= LIST_LIMIT:
            raise ValueError(f"count must be 1 to {LIST_LIMIT}")
        params = {"count": str(count)} | ({"cursor": cursor} if cursor else {})
        request = Request("GET", self._base + "/list", params=params, permission=_EDIT)
        return await self._ask(request, VectorPage.parse)

    async def iter_ids(self) -> AsyncIterator[str]:
        """All ids of one snapshot; the cursor alone says where it ends.

        CursorRefused when the snapshot's cursor is refused half-way (they expire), Retry when a cursor comes again or
        there are over PAGES_LIMIT pages: list again from the start. faults: of the rows of the latest listing.
        """
        self.faults = []
        async with aclosing(pages(lambda cursor: self.list_vectors(LIST_LIMIT, cursor), PAGES_LIMIT)) as found:
            async for page in found:
                self.faults += page.faults
                for vector_id in page.ids:
                    yield vector_id

    async def query(self, vector: Sequence[float], top_k: int, **options: Unpack[QueryOptions]) -> list[Match]:
        """The top_k nearest vectors, best first; ValueError over QUERY_LIMIT, or over FULL_QUERY_LIMIT with
        return_values or return_metadata "all". return_metadata is "none" unless given.
        """
        metadata, values = options.get("return_metadata", "none"), options.get("return_values", False)
        most = FULL_QUERY_LIMIT if values or metadata == "all" else QUERY_LIMIT
        if not 1 <= top_k <= most:
            raise ValueError(f"top_k must be 1 to {most}")
        body: dict[str, Any] = {"vector": list(vector), "topK": top_k}
        body |= {"returnMetadata": metadata, "returnValues": values}
        if namespace := options.get("namespace"):
            body["namespace"] = namespace
        if wanted := options.get("filter"):
            body["filter"] = dict(wanted)
        request = Request("POST", self._base + "/query", json=body, permission=_EDIT, reads=True)
        return await self._ask(request, _matches)

    # metadata indexes

    async def create_metadata_index(self, property_name: str, index_type: IndexType) -> str | None:
        """Let queries filter by a metadata field, for vectors written from now on; one that is there is no error."""
        body = {"propertyName": property_name, "indexType": index_type}
        return await self._ask(self._metadata_index("/create", body), mutation_id)

    async def list_metadata_indexes(self) -> list[MetadataIndex]:
        """The metadata fields that queries can filter by."""
        request = Request("GET", self._base + "/metadata_index/list", permission=_EDIT)
        return await self._ask(request, _metadata_indexes)

    async def delete_metadata_index(self, property_name: str) -> str | None:
        """Undo create_metadata_index; NotFound when absent, which after a lost answer means done."""
        return await self._ask(self._metadata_index("/delete", {"propertyName": property_name}), mutation_id)

    def _metadata_index(self, what: str, body: dict[str, str]) -> Request:
        return Request("POST", self._base + "/metadata_index" + what, json=body, permission=_EDIT, safe=True)

    async def _write(self, where: str, lines: VectorLines, unparsable: _Unparsable) -> str | None:
        if not lines:
            return None
        request = Request(
            "POST",
            self._base + where,
            params={"unparsable-behavior": unparsable} if unparsable else {},
            content=lines,
            headers=_NDJSON,
            permission=_EDIT,
            safe=True,
            slow_s=WRITE_SLOW_S,
        )
        return await self._ask(request, mutation_id, len(lines))

    async def _ask(self, request: Request, parse: Callable[[Answer], _T], count: int = 1) -> _T:
        return await _of_index(self.transport, self.name, request, parse, count)


async def _of_index(
    transport: Transport, name: str, request: Request, parse: Callable[[Answer], _T], count: int = 1
) -> _T:
    """Like Transport.ask; TooMuch at once where fewer vectors would do better than the same request again."""
    async for attempt in transport.attempts(safe=request.repeatable, method=request.method, path=request.path):
        with attempt:
            try:
                return parse(await transport.once(request))
            except TargetMissing as error:
                said = f"the Vectorize index {name!r} is not there: create = true makes it"
                raise TargetMissing(f"{said}: {error}") from error
            except (Park, Retry) as error:
                if isinstance(error, NotFound) and error.code != NO_METADATA_INDEX:
                    # Codes of another API prove nothing about this index.
                    raise Retry(f"unexpected answer: {error}", status=error.status) from error
                if count > 1 and _is_too_much(error):
                    said = f"too much for one request of {count} vectors: {error}"
                    raise TooMuch(said, status=error.status) from error
                raise
    raise AssertionError("attempts() ends with an answer or an error")


def _is_too_much(error: Park | Retry) -> bool:
    if isinstance(error, Park):
        return error.kind == "too_large" or error.code == TOO_MANY_VECTORS
    return error.status in _GATEWAY_TIMEOUTS


def _indexes(transport: Transport) -> str:
    return path("accounts", transport.account_id, "vectorize", "v2", "indexes")


def _index(answer: Answer, name: str) -> Index:
    return Index.parse(Fields(answer.result, "index"), name)


def _list(answer: Answer, what: str) -> list[Fields]:
    return rows(answer.result, what)


def _matches(answer: Answer) -> list[Match]:
    found = Fields(answer.result, "query result").opt_list("matches")
    return [Match.parse(row) for row in rows(found, "match")]


def _metadata_indexes(answer: Answer) -> list[MetadataIndex]:
    found = Fields(answer.result, "metadata indexes").opt_list("metadataIndexes")
    return [MetadataIndex.parse(row) for row in rows(found, "metadata index")]


def _check_ids(ids: Sequence[str], most: int) -> None:
    if len(ids) > most:
        raise ValueError(f"at most {most} ids at once")
    for vector_id in ids:
        check_id(vector_id)
