"""/ai/run/MODEL: texts in, vectors out."""

from typing import Any

from starlette.responses import Response

from syncd.emulator.counters import Requests
from syncd.emulator.envelope import ApiError, ok, read_json
from syncd.emulator.routing import Call, Endpoint
from syncd.emulator.workers_ai.features import embed
from syncd.emulator.workers_ai.models import MODELS, Model, count_tokens

_BAD_INPUT = 5006
_NO_MODEL = 5007
_TOO_LONG = 5021
_BATCH_TOO_LONG = 3030


async def _run(call: Call) -> Response:
    """The name stands in the path as it is, or as one segment with its "/" encoded."""
    name = call.path.get("model_name") or "/".join(call.path[part] for part in ("scope", "author", "name"))
    given = await call.request.body()
    model = MODELS.get(name)
    if model is None:
        raise ApiError(400, _NO_MODEL, f"No such model {name} or task")
    body = _object(given)
    texts, pooling = _texts(model, body), _pooling(model, body)
    _check_lengths(model, texts)
    # Every model has vectors of its own, and so has every pooling: they must not be compared.
    vectors = embed(texts, model.dimensions, f"{name} {pooling}")
    requests: Requests = call.request.app.state.requests
    requests.embedded_texts += len(texts)
    result: dict[str, Any] = {"shape": [len(texts), model.dimensions], "data": vectors}
    if pooling is not None:
        result["pooling"] = pooling
    return ok(result)


def _object(given: bytes) -> dict[str, Any]:
    try:
        body = read_json(given)
    except ValueError:
        raise _bad_input("the body is no JSON") from None
    if not isinstance(body, dict):
        raise _bad_input("Type mismatch of '/', 'object' not in the body")
    return body


def _texts(model: Model, body: dict[str, Any]) -> list[str]:
    names = [name for name in model.names if name in body]
    if len(names) != 1:
        raise _bad_input(f"required properties at '/' are one of {', '.join(model.names)}")
    texts = body[names[0]]
    if isinstance(texts, str):
        texts = [texts]
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise _bad_input(f"Type mismatch of '/{names[0]}', expected a text or an array of texts")
    if not 1 <= len(texts) <= model.texts:
        raise _bad_input(f"Length of '/{names[0]}' must be from 1 to {model.texts}")
    if not all(texts):
        raise _bad_input(f"Length of a text in '/{names[0]}' must be >= 1")
    return texts


def _pooling(model: Model, body: dict[str, Any]) -> str | None:
    """A model without a choice does not look at what is asked for."""
    default = model.poolings[0] if model.poolings else None
    if len(model.poolings) < 2 or body.get("pooling") is None:
        return default
    if body["pooling"] not in model.poolings:
        raise _bad_input(f"'/pooling' must be one of {', '.join(model.poolings)}")
    return str(body["pooling"])


def _check_lengths(model: Model, texts: list[str]) -> None:
    counts = [count_tokens(text) for text in texts]
    longest, total = max(counts), sum(counts)
    if longest > model.context:
        message = f"The estimated number of input tokens ({longest}) exceeded this model context window limit"
        raise ApiError(400, _TOO_LONG, f"AiError: {message} ({model.context})")
    if model.batch is not None and total > model.batch:
        message = f"Max context reached {total} tokens but model supports only {model.batch}"
        raise ApiError(400, _BATCH_TOO_LONG, f"AiError: {message}")


def _bad_input(reason: str) -> ApiError:
    return ApiError(400, _BAD_INPUT, f"AiError: Bad input: Error: {reason}")


_RUN = "/accounts/{account_id}/ai/run"
ENDPOINTS = [
    Endpoint("POST", f"{_RUN}/{{model_name}}", _run),
    Endpoint("POST", f"{_RUN}/{{scope}}/{{author}}/{{name}}", _run),
]
