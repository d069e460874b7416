"""Requests and answers: the envelope, the route from a request line to its handler, and the bodies that are read.

Paths are matched while they are percent-encoded, so that an encoded "/" stays within its segment.
"""

import json
import re
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser
from starlette.requests import Request
from starlette.responses import Response

from syncd.emulator.options import FormNames
from syncd.emulator.store import Backend

MAX_JSON_SIZE = 16 * 1024 * 1024
"""Maximum bytes of a JSON body (a limit of the stand-in)."""


class ApiError(Exception):
    """An error answer of the API: the HTTP status, the error code of the service, and a message.

    headers: additional headers of the answer.
    """

    def __init__(self, status: int, code: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers


def invalid(message: str) -> ApiError:
    """Return the error for a request that does not fit the schema.

    The service documents no code for it; 7001 is the code of the framework that it uses.
    """
    return ApiError(400, 7001, f"Input validation error: {message}")


def ok(result: Any, result_info: dict[str, Any] | None = None, *, status: int = 200) -> Response:
    """Return the answer with a `result`, and with a `result_info` unless it is None."""
    body = {"success": True, "errors": [], "messages": [], "result": result}
    if result_info is not None:
        body["result_info"] = result_info
    return json_response(body, status)


def page_of(rows: list[Any], page: int, per_page: int, total: int) -> Response:
    """Return the answer of a listing by page number."""
    return ok(rows, {"count": len(rows), "page": page, "per_page": per_page, "total_count": total})


def error(refusal: ApiError) -> Response:
    """Return the answer to a refused request; its `result` is null."""
    errors = [{"code": refusal.code, "message": refusal.message}]
    return json_response(
        {"success": False, "errors": errors, "messages": [], "result": None}, refusal.status, refusal.headers
    )


def json_response(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return an answer of JSON without the envelope."""
    return Response(compact_json(body), status, headers, media_type="application/json")


def compact_json(value: Any) -> str:
    """Return JSON without white space and without escapes of characters beyond ASCII. Raises ValueError for NaN."""
    return _COMPACT.encode(value)


_COMPACT = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def read_json(text: str | bytes) -> Any:
    """Parse JSON. Raises ValueError for invalid JSON, NaN, a lone surrogate and deep nesting."""
    value = _ANY.validate_json(text)
    compact_json(value)  # raises for NaN
    return value


_ANY = TypeAdapter(Any)


def timestamp(seconds: float) -> str:
    """Return seconds since 1970 as ISO 8601 in UTC with milliseconds, e.g. 2026-11-22T10:00:00.000Z."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Refusal = Callable[[str], ApiError]
"""A function that returns the error of an invalid request for a message. Each API has its own error code for it."""

Schema = TypeVar("Schema", bound=BaseModel)


@dataclass(frozen=True)
class Call:
    """One request: the backend, the request and the decoded parameters of its path."""

    backend: Backend
    request: Request
    path: dict[str, str]

    def query(self, name: str) -> str | None:
        """Return the query parameter, or None if it is absent."""
        return self.request.query_params.get(name)

    def number(self, name: str, default: int, low: int, high: int = 2**31, *, refuse: Refusal = invalid) -> int:
        """Return the query parameter as an integer. Raises ApiError unless low <= integer <= high."""
        text = self.query(name)
        if text is None:
            return default
        try:
            value = int(text)
        except ValueError:
            raise refuse(f"{name} must be an integer") from None
        if not low <= value <= high:
            raise refuse(f"{name} must be from {low} to {high}")
        return value

    def choice(self, name: str, allowed: Collection[str], *, refuse: Refusal = invalid) -> str:
        """Return the query parameter, or the first of `allowed` if it is absent. Raises ApiError for another value."""
        value = self.query(name)
        if value is None:
            return next(iter(allowed))
        if value not in allowed:
            raise refuse(f"{name} must be one of {', '.join(allowed)}")
        return value

    async def read(self, limit: int, *, refuse: Refusal = invalid) -> bytes:
        """Return the whole body. Raises ApiError 413 if it exceeds `limit` bytes.

        A body that is too large is read to its end. Otherwise a client that is still sending would see a broken
        connection in place of the answer.
        """
        pieces: list[bytes] = []
        size = 0
        async for piece in self.request.stream():
            size += len(piece)
            if size <= limit:
                pieces.append(piece)
            else:
                pieces.clear()
        if size > limit:
            refusal = refuse(f"The request is larger than {limit} bytes")
            raise ApiError(413, refusal.code, refusal.message)
        return b"".join(pieces)

    async def body(self, *, refuse: Refusal = invalid) -> dict[str, Any]:
        """Return the body as a JSON object. Raises ApiError for any other body."""
        try:
            value = read_json(await self.read(MAX_JSON_SIZE, refuse=refuse))
        except ValueError:
            raise refuse("the body is not JSON") from None
        if not isinstance(value, dict):
            raise refuse("the body must be a JSON object")
        return value


def page_rows(call: Call, rows: list[dict[str, Any]], most: int = 100, *, refuse: Refusal = invalid) -> Response:
    """Return the answer with the requested page of `rows`. most: the largest allowed `per_page`."""
    page, per_page = call.number("page", 1, 1, refuse=refuse), call.number("per_page", 20, 1, most, refuse=refuse)
    return page_of(rows[(page - 1) * per_page : page * per_page], page, per_page, len(rows))


def validate(
    schema: type[Schema], body: Any, *, refuse: Callable[[str], Exception] = invalid, strict: bool = True
) -> Schema:
    """Return the body as an instance of a schema. Raises the error of `refuse`, which names the first wrong field.

    body: a value, or bytes of JSON. strict: False for the parameters of a query, which are texts.
    """
    try:
        if isinstance(body, bytes):
            return schema.model_validate_json(body, strict=strict)
        return schema.model_validate(body, strict=strict)
    except ValidationError as problem:
        first = problem.errors()[0]
        raise refuse(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


Handler = Callable[[Call], Awaitable[Response]]


class Endpoint(NamedTuple):
    """One line in the table of an API. template: a path below /client/v4, e.g. /accounts/{account_id}/tokens/verify."""

    method: str
    template: str
    handler: Handler


class FormPart(NamedTuple):
    """One part of a multipart form. filename: None for a plain field."""

    filename: str | None
    data: bytes


def parse_form(content_type: str, body: bytes, names: FormNames = "backslash") -> dict[str, FormPart]:
    r"""Return the parts of a multipart form by name. The last one of several parts with the same name wins.

    names: the escapes in names. "backslash": backslashes escape, and percent signs do not, as in the runtime of the
    service (workerd). "percent": %22, %0A and %0D escape, and backslashes do not, as in the HTML standard. Raises
    ValueError if the body is not a multipart form.
    """
    boundary = _header_parameters(content_type.encode("latin-1", "replace")).get("boundary")
    if not content_type.lower().startswith("multipart/form-data") or not boundary:
        raise ValueError("the body is not multipart/form-data")
    raw: list[tuple[bytearray, bytearray]] = []  # the headers and the content of each part
    try:
        parser = MultipartParser(
            boundary.encode(),
            {
                "on_part_begin": lambda: raw.append((bytearray(), bytearray())),
                "on_header_field": lambda data, start, end: raw[-1][0].extend(b"\r\n" + data[start:end] + b":"),
                "on_header_value": lambda data, start, end: raw[-1][0].extend(data[start:end]),
                "on_part_data": lambda data, start, end: raw[-1][1].extend(data[start:end]),
            },
        )
        parser.write(body)
        parser.finalize()
    except FormParserError as reason:
        raise ValueError(str(reason)) from reason
    parts = {}
    for headers, content in raw:
        disposition = _DISPOSITION.search(headers)
        parameters = _header_parameters(disposition[1], names) if disposition else {}
        parts[parameters.get("name", "")] = FormPart(parameters.get("filename"), bytes(content))
    return parts


_DISPOSITION = re.compile(rb"\r\ncontent-disposition:(.*?)(?:\r\n|\Z)", re.DOTALL | re.IGNORECASE)
_PARAMETER = re.compile(rb';\s*([\w*]+)\s*=\s*(?:"((?:\\.|[^"\\])*)"|([^\s;]*))', re.DOTALL)
_ESCAPED = re.compile(r'\\(["\\])')
_PERCENT_ESCAPED = re.compile("%(22|0A|0D)", re.IGNORECASE)


def _header_parameters(header: bytes, names: FormNames = "backslash") -> dict[str, str]:
    """Return the parameters of a header, such as `name` and `filename`. names: see `parse_form`."""
    if names == "percent":
        header = header.replace(b"\\", b"\\\\")
    parameters = {}
    for name, quoted, plain in _PARAMETER.findall(header):
        text = _ESCAPED.sub(r"\1", (quoted or plain).decode(errors="replace"))
        if names == "percent":
            text = _PERCENT_ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)
        parameters[name.decode().lower()] = text
    return parameters
