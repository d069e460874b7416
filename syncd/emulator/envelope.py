"""The shape of every answer: {"success", "errors", "messages", "result", "result_info"}."""

import json
from datetime import UTC, datetime
from typing import Any

from starlette.responses import Response


class ApiError(Exception):
    """A refusal in Cloudflare's terms: the HTTP status, the service's own code and a sentence for people."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


def ok(result: Any, result_info: dict[str, Any] | None = None, *, status: int = 200) -> Response:
    """The answer that carries `result`; `result_info` is left out where the endpoint has none."""
    body = {"success": True, "errors": [], "messages": [], "result": result}
    if result_info is not None:
        body["result_info"] = result_info
    return _json(body, status)


def error(refusal: ApiError) -> Response:
    """The answer to a refused request; `result` is null."""
    errors = [{"code": refusal.code, "message": refusal.message}]
    return _json({"success": False, "errors": errors, "messages": [], "result": None}, refusal.status)


def invalid(message: str) -> ApiError:
    """A request that does not fit the schema. The service documents no code for it; this is its framework's."""
    return ApiError(400, 7001, f"Input validation error: {message}")


def timestamp(seconds: float) -> str:
    """Seconds since 1970 as ISO 8601 in UTC with milliseconds, e.g. 2026-11-22T10:00:00.000Z."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read_json(text: str | bytes) -> Any:
    """JSON from the wire. ValueError also for what Python would take and JSON has not (NaN, half a surrogate pair)
    and for nesting beyond reason.
    """
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
        json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def plain(body: Any) -> Response:
    """JSON without the envelope: for what is not part of Cloudflare's API."""
    return _json(body, 200)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _json(body: Any, status: int) -> Response:
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return Response(text.encode(), status, media_type="application/json")
