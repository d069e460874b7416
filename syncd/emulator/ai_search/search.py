"""POST /search: words in, ranked chunks out. A stand-in has no embeddings, so every retrieval type goes by words."""

import re
from typing import Any, NamedTuple

from starlette.responses import Response

from syncd.emulator.ai_search.items import cited, use_filter
from syncd.emulator.ai_search.places import Instance, both, instance_of
from syncd.emulator.envelope import invalid, ok
from syncd.emulator.limits import MAX_RESULTS
from syncd.emulator.routing import Call

_WORD = re.compile(r"\w+")
_KINDS = ("vector", "keyword", "hybrid")
_MAX_WORDS = 100
_FLOOR = 0.5
"""Any hit scores above the service's default match_threshold of 0.4, the best one scores 1."""

_SQL = """
SELECT c.item, c.position, c.text, i.key, i.metadata, bm25(ai_words) AS rank
FROM ai_words JOIN ai_chunks c ON c.number = ai_words.rowid JOIN ai_items i ON i.id = c.item
WHERE ai_words MATCH :words AND i.valid_to IS NULL AND i.instance = :instance AND i.done_at <= :now
    AND i.error IS NULL AND (NOT :filtered OR ai_filter(i.filterable))
ORDER BY rank, c.number LIMIT :limit
"""


class _Wish(NamedTuple):
    query: str
    kind: str
    limit: int
    threshold: float
    mode: str
    filters: Any


async def _search(call: Call) -> Response:
    instance = instance_of(call)
    wish = _read(await call.body(), instance)
    use_filter(call, wish.filters if wish.filters is not None else {})
    words = f" {wish.mode} ".join(f'"{word}"' for word in _WORD.findall(wish.query)[:_MAX_WORDS])
    rows = []
    if words:
        values = {
            "words": words,
            "instance": instance.number,
            "now": call.backend.clock(),
            "filtered": wish.filters is not None,
            "limit": wish.limit,
        }
        rows = call.backend.store.all(_SQL, values)
    best = min((row["rank"] for row in rows), default=0.0) or -1.0
    chunks = []
    for number, row in enumerate(rows, start=1):
        score = round(_FLOOR + (1 - _FLOOR) * row["rank"] / best, 6)
        if score >= wish.threshold:
            chunks.append(
                {
                    "id": f"{row['item']}-{row['position']}",
                    "type": "text",
                    "score": score,
                    "text": row["text"],
                    "item": cited(row["key"], row["metadata"]),
                    "scoring_details": _details(wish.kind, score, number),
                }
            )
    return ok({"search_query": wish.query, "query_kind": "text", "chunks": chunks})


def _details(kind: str, score: float, number: int) -> dict[str, float]:
    names = {"vector": ("vector",), "keyword": ("keyword",)}.get(kind, ("vector", "keyword"))
    return {f"{name}_{what}": value for name in names for what, value in (("score", score), ("rank", number))}


def _read(body: dict[str, Any], instance: Instance) -> _Wish:
    query, messages = body.get("query"), body.get("messages")
    if (query is None) == (messages is None):
        raise invalid("either query or messages must be given")
    if query is None:
        query = _last_question(messages)
    if not isinstance(query, str) or not query.strip():
        raise invalid("the query must be a text")
    options = _object(body, "ai_search_options")
    retrieval = _object(options, "retrieval")
    kind = retrieval.get("retrieval_type", "hybrid")
    if kind not in _KINDS:
        raise invalid("retrieval_type must be vector, keyword or hybrid")
    in_range(retrieval, "context_expansion", 0, (0, 3))
    return _Wish(
        query=query,
        kind=kind,
        limit=int(in_range(retrieval, "max_num_results", instance.config.get("max_num_results", 10), (1, MAX_RESULTS))),
        threshold=in_range(retrieval, "match_threshold", instance.config.get("score_threshold", 0.4), (0, 1)),
        # The service's "and" is for its keyword half; its vector half finds looser matches, as "or" does here.
        mode="AND" if kind == "keyword" and retrieval.get("keyword_match_mode", "and") == "and" else "OR",
        filters=retrieval.get("filters"),
    )


def _object(parent: dict[str, Any], name: str) -> dict[str, Any]:
    value = parent.get(name) or {}
    if not isinstance(value, dict):
        raise invalid(f"{name} must be an object")
    return value


def in_range(retrieval: dict[str, Any], name: str, default: float, span: tuple[float, float]) -> float:
    """The number under a name; ApiError 400 if it is none or outside the span, both ends included."""
    value = retrieval.get(name, default)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not span[0] <= value <= span[1]:
        raise invalid(f"{name} must be a number from {span[0]} to {span[1]}")
    return value


def _last_question(messages: Any) -> str | None:
    """The text of the last user message, whose content is a text or a list of typed parts."""
    if not isinstance(messages, list):
        return None
    questions = [message for message in messages if isinstance(message, dict) and message.get("role") == "user"]
    content = questions[-1].get("content") if questions else None
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        return " ".join(text for text in texts if isinstance(text, str))
    return content if isinstance(content, str) else None


ENDPOINTS = both("POST", "/{id}/search", _search)
