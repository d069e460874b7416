"""The endpoints of AI Search for chats, and for the search in several instances of a namespace.

The stand-in has no language model: the answer to a chat quotes the best chunk.
"""

import json
import secrets
from typing import Any

from starlette.responses import Response

from syncd.emulator.ai_search_search import (
    last_question,
    number_of_results,
    read_query,
    returns_failures,
    search_instance,
)
from syncd.emulator.ai_search_store import ROOT, find_instance, instance_endpoints, instance_of, namespace_of
from syncd.emulator.limits import MAX_SEARCHED_INSTANCES
from syncd.emulator.requests import ApiError, Call, Endpoint, invalid, ok, plain

MODEL = "syncd-stand-in"


async def _search_namespace(call: Call) -> Response:
    body = await call.body()
    return ok(_search_several(call, read_query(body), body))


async def _chat_with_instance(call: Call) -> Response:
    instance = instance_of(call)
    body = await call.body()
    result, _ = search_instance(call, instance, _question(body), body)
    return _completion(call, body, result)


async def _chat_with_namespace(call: Call) -> Response:
    body = await call.body()
    return _completion(call, body, _search_several(call, _question(body), body))


def _search_several(call: Call, query: str, body: dict[str, Any]) -> dict[str, Any]:
    """Search each named instance; the best chunks of all are the result.

    ApiError 400/7074 for more than ten instances, 500/7049 if one fails and return_on_failure is false.
    """
    namespace = namespace_of(call)
    names = (body.get("ai_search_options") or {}).get("instance_ids")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise invalid("ai_search_options.instance_ids must be a list of instances")
    if len(names) > MAX_SEARCHED_INSTANCES:
        raise ApiError(400, 7074, "too_many_multi_search_instances")
    chunks, failed = [], []
    for name in names:
        instance = find_instance(call.backend, (call.path["account_id"], namespace, name))
        if instance is None or call.backend.options.fail_search:
            failed.append({"instance_id": name, "message": "search_failed"})
            continue
        found, _ = search_instance(call, instance, query, body)
        chunks += [chunk | {"instance_id": name} for chunk in found["chunks"]]
    if failed and not returns_failures(body):
        raise ApiError(500, 7049, "one_or_more_instance_searches_failed")
    chunks.sort(key=lambda chunk: -chunk["score"])
    shown = chunks[: number_of_results(body)]
    return {"search_query": query, "query_kind": "text", "chunks": shown, "errors": failed}


def _question(body: dict[str, Any]) -> str:
    if not isinstance(body.get("messages"), list):
        raise invalid("messages must be a list")
    question = last_question(body["messages"])
    if not question:
        raise ApiError(400, 7038, "missing_user_query")
    return question


def _completion(call: Call, body: dict[str, Any], found: dict[str, Any]) -> Response:
    """Return the answer, which has no envelope, or the same as a stream of events."""
    chunks = found["chunks"]
    content = f"The stand-in has no language model. Found: {chunks[0]['text']}" if chunks else "Nothing was found."
    head = {"id": secrets.token_hex(16), "model": body.get("model") or MODEL, "created": round(call.backend.clock())}
    if body.get("stream") is True:
        delta = {"index": 0, "delta": {"role": "assistant", "content": content}}
        event = head | {"object": "chat.completion.chunk", "choices": [delta]}
        lines = f"event: chunks\ndata: {json.dumps(chunks)}\n\ndata: {json.dumps(event)}\n\ndata: [DONE]\n\n"
        return Response(lines.encode(), media_type="text/event-stream")
    choice = {"index": 0, "message": {"role": "assistant", "content": content}}
    errors = {"errors": found["errors"]} if "errors" in found else {}
    return plain(head | {"object": "chat.completion", "choices": [choice], "chunks": chunks} | errors)


ENDPOINTS = [
    *instance_endpoints("POST", "/{id}/chat/completions", _chat_with_instance),
    Endpoint("POST", f"{ROOT}/namespaces/{{name}}/search", _search_namespace),
    Endpoint("POST", f"{ROOT}/namespaces/{{name}}/chat/completions", _chat_with_namespace),
]
