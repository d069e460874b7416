"""The endpoint of AI Search that searches. The stand-in has no embeddings: every retrieval type matches by words."""

import re
from typing import Any, Literal

from pydantic import BaseModel, Field
from starlette.responses import Response

from syncd.emulator.ai_search_cache import SearchCache
from syncd.emulator.ai_search_index import SYSTEM_FIELDS, cited_item, read_schema
from syncd.emulator.ai_search_items import define_filter
from syncd.emulator.ai_search_settings import all_settings
from syncd.emulator.ai_search_store import InstanceRow, instance_endpoints, instance_of
from syncd.emulator.limits import MAX_RESULTS
from syncd.emulator.requests import ApiError, Call, invalid, ok, validate

_WORD = re.compile(r"\w+")
_MAX_WORDS = 100
DEFAULT_RESULTS = 10
"""Chunks of a search that does not say max_num_results."""

_LOWEST_SCORE = 0.5
"""Every match scores above this value, and the best match scores 1. The service's default match_threshold is 0.4."""

_SQL = """
SELECT c.item, c.position, c.text, i.key, i.metadata, bm25(ai_words) AS rank
FROM ai_words JOIN ai_chunks c ON c.number = ai_words.rowid JOIN ai_items i ON i.id = c.item
WHERE ai_words MATCH :words AND i.valid_to IS NULL AND i.instance = :instance AND i.done_at <= :now
    AND i.error IS NULL AND (NOT :filtered OR ai_filter(i.filterable))
ORDER BY rank, c.number LIMIT :limit
"""


class _Retrieval(BaseModel):
    retrieval_type: Literal["vector", "keyword", "hybrid"]
    keyword_match_mode: Any = "and"
    context_expansion: float = Field(default=0, ge=0, le=3)
    max_num_results: float = Field(ge=1, le=MAX_RESULTS)
    match_threshold: float = Field(ge=0, le=1)
    filters: Any = None
    return_on_failure: bool = True


async def _search(call: Call) -> Response:
    instance = instance_of(call)
    body = await call.body()
    query = read_query(body)
    result, cached = search_instance(call, instance, query, body)
    response = ok(result)
    response.headers["cf-aig-cache-status"] = "HIT" if cached else "MISS"
    return response


def search_instance(call: Call, instance: InstanceRow, query: str, body: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """Return the result of a search, and whether it comes from the cache. body: the request with ai_search_options."""
    retrieval = _retrieval(body, instance)
    cache: SearchCache = call.request.app.state.searches
    use_cache = call.backend.options.search_cache and _cache_enabled(body, instance)
    wanted = retrieval.model_dump()
    if use_cache and (kept := cache.find(call.backend, instance, query, wanted)) is not None:
        return kept, True
    if call.backend.options.fail_search:
        if not retrieval.return_on_failure:
            raise ApiError(500, 7073, "all_search_methods_failed")
        return {"search_query": query, "query_kind": "text", "chunks": []}, False
    chunks = _chunks(call, instance, query, retrieval)
    result = {"search_query": query, "query_kind": "text", "chunks": chunks}
    if use_cache:
        cache.keep(call.backend, instance, query, wanted, result)
    return result, False


def _chunks(call: Call, instance: InstanceRow, query: str, retrieval: _Retrieval) -> list[dict[str, Any]]:
    filters = {} if retrieval.filters is None else retrieval.filters
    define_filter(call, filters)
    _check_fields(filters, instance)
    rows = []
    if words := _WORD.findall(query)[:_MAX_WORDS]:
        # "and" applies to the keyword half of the service; its vector half finds looser matches, like "or" here.
        every = retrieval.retrieval_type == "keyword" and retrieval.keyword_match_mode == "and"
        values = {
            "words": (" AND " if every else " OR ").join(f'"{word}"' for word in words),
            "instance": instance.number,
            "now": call.backend.clock(),
            "filtered": retrieval.filters is not None,
            "limit": int(retrieval.max_num_results),
        }
        rows = call.backend.store.all(_SQL, values)
    best = min((row["rank"] for row in rows), default=0.0) or -1.0
    chunks = []
    for number, row in enumerate(rows, start=1):
        score = round(_LOWEST_SCORE + (1 - _LOWEST_SCORE) * row["rank"] / best, 6)
        if score >= retrieval.match_threshold:
            chunks.append(
                {
                    "id": f"{row['item']}-{row['position']}",
                    "type": "text",
                    "score": score,
                    "text": row["text"],
                    "item": cited_item(row["key"], row["metadata"]),
                    "scoring_details": _scoring_details(retrieval.retrieval_type, score, number),
                }
            )
    return chunks


def _check_fields(filters: dict[str, Any], instance: InstanceRow) -> None:
    """Raise ApiError 400/7105 for a field that is neither the system's nor declared by the instance."""
    known = SYSTEM_FIELDS | read_schema(instance.config.get("custom_metadata") or []).keys()
    unknown = [field for field in filters if field.lower() not in known]
    if unknown:
        raise ApiError(400, 7105, f"metadata_filter_unknown_field: {unknown[0]}")


def _scoring_details(kind: str, score: float, rank: int) -> dict[str, float]:
    halves = ("vector", "keyword") if kind == "hybrid" else (kind,)
    return {f"{half}_{name}": value for half in halves for name, value in (("score", score), ("rank", rank))}


def read_query(body: dict[str, Any]) -> str:
    """Return the text of the query, or of the last message of the user; ApiError 400 if there is none."""
    query, messages = body.get("query"), body.get("messages")
    if query is not None and messages is not None:
        raise invalid("query and messages exclude each other")
    if messages is not None:
        if not isinstance(messages, list):
            raise invalid("messages must be a list")
        query = last_question(messages)
    if query is None:
        raise ApiError(400, 7039, "missing_user_query")
    if not isinstance(query, str):
        raise invalid("the query must be a text")
    if not query.strip():
        raise ApiError(400, 7039, "missing_user_query")
    return query


def _retrieval(body: dict[str, Any], instance: InstanceRow) -> _Retrieval:
    methods = all_settings(instance.config)["index_method"]
    available = [name for name in ("vector", "keyword") if methods[name]]
    defaults = {
        "retrieval_type": "hybrid" if len(available) > 1 else available[0],
        "max_num_results": instance.config.get("max_num_results", DEFAULT_RESULTS),
        "match_threshold": instance.config.get("score_threshold", 0.4),
    }
    retrieval = validate(_Retrieval, defaults | _object(_object(body, "ai_search_options"), "retrieval"))
    if retrieval.retrieval_type not in {defaults["retrieval_type"], *available}:
        raise ApiError(400, 7070, "invalid_retrieval_type")
    return retrieval


def _cache_enabled(body: dict[str, Any], instance: InstanceRow) -> bool:
    enabled = _object(_object(body, "ai_search_options"), "cache").get("enabled", instance.config.get("cache", True))
    if not isinstance(enabled, bool):
        raise invalid("cache.enabled must be true or false")
    return enabled


def _object(parent: dict[str, Any], name: str) -> dict[str, Any]:
    value = parent.get(name) or {}
    if not isinstance(value, dict):
        raise invalid(f"{name} must be an object")
    return value


def returns_failures(body: dict[str, Any]) -> bool:
    """Return the option return_on_failure of a request. It is true by default."""
    return _object(_object(body, "ai_search_options"), "retrieval").get("return_on_failure") is not False


def number_of_results(body: dict[str, Any]) -> int:
    """Return the option max_num_results of a request, which a search has checked."""
    return int(_object(_object(body, "ai_search_options"), "retrieval").get("max_num_results", DEFAULT_RESULTS))


def last_question(messages: list[Any]) -> str | None:
    """Return the text of the last user message. Its content is a text or a list of typed parts."""
    questions = [message for message in messages if isinstance(message, dict) and message.get("role") == "user"]
    content = questions[-1].get("content") if questions else None
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        return " ".join(text for text in texts if isinstance(text, str))
    return content if isinstance(content, str) else None


ENDPOINTS = instance_endpoints("POST", "/{id}/search", _search)
