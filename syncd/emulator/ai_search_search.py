"""The endpoints of AI Search for searches and chats, in one instance or in several, and the cache of their answers.

The stand-in has no embeddings: every retrieval type matches by words. It has no language model: the answer to a chat
quotes the best chunk.

A search uses the cache unless the instance or the request turns it off. Source: "AI Search: similarity cache". The
measure of similarity is unknown; here two queries are similar if they have the same words. An answer leaves the cache
when one of its items is changed or deleted. A new item removes no answer, so an answer may be stale.
"""

import json
import re
import secrets
from typing import Any, Literal

from pydantic import BaseModel, Field
from starlette.responses import Response

from syncd.emulator.ai_search_index import SYSTEM_FIELDS, cited_item, schema_of
from syncd.emulator.ai_search_instances import DEFAULTS, MAX_RESULTS, all_settings
from syncd.emulator.ai_search_store import (
    ROOT,
    InstanceRow,
    define_filter,
    find_instance,
    instance_endpoints,
    instance_of,
    namespace_of,
)
from syncd.emulator.requests import ApiError, Call, Endpoint, compact_json, invalid, json_response, ok, validate
from syncd.emulator.store import Backend

MODEL = "syncd-stand-in"
MAX_SEARCHED_INSTANCES = 10
"""Instances of one search in a namespace."""

MAX_ANSWERS = 1000
"""Number of answers that the cache keeps; the oldest goes first."""

_WORD = re.compile(r"\w+")
_MAX_WORDS = 100
_LOWEST_SCORE = 0.5
"""Every match scores above this value, and the best match scores 1. The service's default match_threshold is 0.4."""

_SQL = """
SELECT c.item, c.position, c.text, i.key, i.metadata, bm25(ai_words) AS rank
FROM ai_words JOIN ai_chunks c ON c.number = ai_words.rowid JOIN ai_items i ON i.id = c.item
WHERE ai_words MATCH :words AND i.valid_to IS NULL AND i.instance = :instance AND i.done_at <= :now
    AND i.error IS NULL AND accepted(i.filterable)
ORDER BY rank, c.number LIMIT :limit
"""


class _Retrieval(BaseModel):
    """None: the setting of the instance applies."""

    retrieval_type: Literal["vector", "keyword", "hybrid"] | None = None
    max_num_results: float | None = Field(default=None, ge=1, le=MAX_RESULTS)
    match_threshold: float | None = Field(default=None, ge=0, le=1)
    keyword_match_mode: Any = "and"
    context_expansion: float = Field(default=0, ge=0, le=3)
    filters: Any = None
    return_on_failure: bool = True


class _CacheOption(BaseModel):
    enabled: bool | None = None


class _Options(BaseModel):
    retrieval: _Retrieval = _Retrieval()
    cache: _CacheOption = _CacheOption()
    instance_ids: list[str] | None = None


class _Request(BaseModel):
    """A search."""

    query: str | None = None
    messages: list[Any] | None = None
    ai_search_options: _Options = _Options()


class _ChatRequest(_Request):
    messages: list[Any]
    model: str | None = None
    stream: bool | None = None


async def _search(call: Call) -> Response:
    instance = instance_of(call)
    request = validate(_Request, await call.body())
    result, cached = _search_instance(call, instance, _query(request, 7039), request.ai_search_options)
    response = ok(result)
    response.headers["cf-aig-cache-status"] = "HIT" if cached else "MISS"
    return response


async def _search_namespace(call: Call) -> Response:
    request = validate(_Request, await call.body())
    return ok(_search_several(call, _query(request, 7039), request.ai_search_options))


async def _chat_with_instance(call: Call) -> Response:
    instance = instance_of(call)
    request = validate(_ChatRequest, await call.body())
    result, _ = _search_instance(call, instance, _query(request, 7038), request.ai_search_options)
    return _completion(call, request, result)


async def _chat_with_namespace(call: Call) -> Response:
    request = validate(_ChatRequest, await call.body())
    return _completion(call, request, _search_several(call, _query(request, 7038), request.ai_search_options))


async def _purge_cache(call: Call) -> Response:
    """Forget the answers of searches. The result of the service is unknown."""
    instance, answers = instance_of(call), call.backend.searches
    for key in [key for key in answers if key[:2] == (instance.number, instance.created_at)]:
        del answers[key]
    return ok(None)


def _query(request: _Request, missing: int) -> str:
    """Return the text of the query, or of the last user message. Raises ApiError 400/`missing` if there is none."""
    if request.query is not None and request.messages is not None:
        raise invalid("query and messages exclude each other")
    query = request.query if request.messages is None else _last_question(request.messages)
    if query is None or not query.strip():
        raise ApiError(400, missing, "missing_user_query")
    return query


def _last_question(messages: list[Any]) -> str | None:
    """Return the text of the last user message. Its content is a text or a list of typed parts."""
    questions = [message for message in messages if isinstance(message, dict) and message.get("role") == "user"]
    content = questions[-1].get("content") if questions else None
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        return " ".join(text for text in texts if isinstance(text, str))
    return content if isinstance(content, str) else None


def _search_instance(call: Call, instance: InstanceRow, query: str, options: _Options) -> tuple[dict[str, Any], bool]:
    """Return the result of a search, and whether it comes from the cache."""
    settings = all_settings(instance.config)
    wanted = _wanted(settings, options.retrieval)
    enabled = settings["cache"] if options.cache.enabled is None else options.cache.enabled
    use_cache = call.backend.options.search_cache and enabled
    words = " ".join(sorted(set(_WORD.findall(query.lower()))))
    # A number is used again after the deletion of its instance.
    key = (instance.number, instance.created_at, words, compact_json(wanted))
    if use_cache and (kept := _kept_answer(call.backend, key)) is not None:
        return kept, True
    result: dict[str, Any] = {"search_query": query, "query_kind": "text", "chunks": []}
    if call.backend.options.fail_search:
        if not options.retrieval.return_on_failure:
            raise ApiError(500, 7073, "all_search_methods_failed")
        return result, False
    result["chunks"] = _chunks(call, instance, query, wanted)
    if use_cache:
        _keep_answer(call.backend, key, result, settings["cache_ttl"])
    return result, False


def _wanted(settings: dict[str, Any], retrieval: _Retrieval) -> dict[str, Any]:
    """Return the options of the retrieval, with the settings of the instance where the request has none."""
    available = [name for name in ("vector", "keyword") if settings["index_method"][name]]
    defaults = {
        "retrieval_type": "hybrid" if len(available) > 1 else available[0],
        "max_num_results": settings["max_num_results"],
        "match_threshold": settings["score_threshold"],
    }
    wanted = defaults | retrieval.model_dump(exclude_none=True)
    if wanted["retrieval_type"] not in {defaults["retrieval_type"], *available}:
        raise ApiError(400, 7070, "invalid_retrieval_type")
    return wanted


def _chunks(call: Call, instance: InstanceRow, query: str, wanted: dict[str, Any]) -> list[dict[str, Any]]:
    filters = wanted.get("filters", {})
    define_filter(call, filters)
    _check_fields(filters, instance)
    rows = []
    if words := _WORD.findall(query)[:_MAX_WORDS]:
        # "and" applies to the keyword half of the service; its vector half finds looser matches, like "or" here.
        every = wanted["retrieval_type"] == "keyword" and wanted["keyword_match_mode"] == "and"
        values = {
            "words": (" AND " if every else " OR ").join(f'"{word}"' for word in words),
            "instance": instance.number,
            "now": call.backend.clock(),
            "limit": int(wanted["max_num_results"]),
        }
        rows = call.backend.store.all(_SQL, values)
    best = min((row["rank"] for row in rows), default=0.0) or -1.0
    chunks = []
    for number, row in enumerate(rows, start=1):
        score = round(_LOWEST_SCORE + (1 - _LOWEST_SCORE) * row["rank"] / best, 6)
        if score >= wanted["match_threshold"]:
            chunks.append(
                {
                    "id": f"{row['item']}-{row['position']}",
                    "type": "text",
                    "score": score,
                    "text": row["text"],
                    "item": cited_item(row["key"], row["metadata"]),
                    "scoring_details": _scoring_details(wanted["retrieval_type"], score, number),
                }
            )
    return chunks


def _check_fields(filters: dict[str, Any], instance: InstanceRow) -> None:
    """Raise ApiError 400/7105 for a field that is neither the system's nor declared by the instance."""
    known = SYSTEM_FIELDS | schema_of(instance.config).keys()
    unknown = [field for field in filters if field.lower() not in known]
    if unknown:
        raise ApiError(400, 7105, f"metadata_filter_unknown_field: {unknown[0]}")


def _scoring_details(kind: str, score: float, rank: int) -> dict[str, float]:
    halves = ("vector", "keyword") if kind == "hybrid" else (kind,)
    return {f"{half}_{name}": value for half in halves for name, value in (("score", score), ("rank", rank))}


def _kept_answer(backend: Backend, key: tuple[Any, ...]) -> Any | None:
    kept_until, _, answer = backend.searches.get(key, (0.0, frozenset(), None))
    return answer if kept_until > backend.clock() else None


def _keep_answer(backend: Backend, key: tuple[Any, ...], answer: dict[str, Any], seconds: float) -> None:
    while len(backend.searches) >= MAX_ANSWERS:
        del backend.searches[next(iter(backend.searches))]
    items = frozenset(chunk["id"].rpartition("-")[0] for chunk in answer["chunks"])
    backend.searches[key] = (backend.clock() + seconds, items, answer)


def _search_several(call: Call, query: str, options: _Options) -> dict[str, Any]:
    """Search each named instance; the best chunks of all are the result.

    ApiError 400/7074 for more than ten instances, 500/7049 if one fails and return_on_failure is false.
    """
    namespace, names = namespace_of(call), options.instance_ids
    if not names:
        raise invalid("ai_search_options.instance_ids must be a list of instances")
    if len(names) > MAX_SEARCHED_INSTANCES:
        raise ApiError(400, 7074, "too_many_multi_search_instances")
    chunks, failed = [], []
    for name in names:
        instance = find_instance(call.backend, (call.path["account_id"], namespace, name))
        if instance is None or call.backend.options.fail_search:
            failed.append({"instance_id": name, "message": "search_failed"})
            continue
        found, _ = _search_instance(call, instance, query, options)
        chunks += [chunk | {"instance_id": name} for chunk in found["chunks"]]
    if failed and not options.retrieval.return_on_failure:
        raise ApiError(500, 7049, "one_or_more_instance_searches_failed")
    chunks.sort(key=lambda chunk: -chunk["score"])
    shown = chunks[: int(options.retrieval.max_num_results or DEFAULTS["max_num_results"])]
    return {"search_query": query, "query_kind": "text", "chunks": shown, "errors": failed}


def _completion(call: Call, request: _ChatRequest, found: dict[str, Any]) -> Response:
    """Return the answer, which has no envelope, or the same as a stream of events."""
    chunks = found["chunks"]
    content = f"The stand-in has no language model. Found: {chunks[0]['text']}" if chunks else "Nothing was found."
    head = {"id": secrets.token_hex(16), "model": request.model or MODEL, "created": round(call.backend.clock())}
    if request.stream:
        delta = {"index": 0, "delta": {"role": "assistant", "content": content}}
        event = head | {"object": "chat.completion.chunk", "choices": [delta]}
        lines = f"event: chunks\ndata: {json.dumps(chunks)}\n\ndata: {json.dumps(event)}\n\ndata: [DONE]\n\n"
        return Response(lines.encode(), media_type="text/event-stream")
    choice = {"index": 0, "message": {"role": "assistant", "content": content}}
    errors = {"errors": found["errors"]} if "errors" in found else {}
    return json_response(head | {"object": "chat.completion", "choices": [choice], "chunks": chunks} | errors)


ENDPOINTS = [
    *instance_endpoints("POST", "/{id}/search", _search),
    *instance_endpoints("POST", "/{id}/chat/completions", _chat_with_instance),
    *instance_endpoints("POST", "/{id}/purge_cache", _purge_cache),
    Endpoint("POST", f"{ROOT}/namespaces/{{name}}/search", _search_namespace),
    Endpoint("POST", f"{ROOT}/namespaces/{{name}}/chat/completions", _chat_with_namespace),
]
