"""The bodies of requests and answers: JSON, the envelope of every answer, and multipart forms."""

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser
from starlette.responses import Response


class ApiError(Exception):
    """A refusal in Cloudflare's terms: the HTTP status, the service's own code and a sentence for people."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


def invalid(message: str) -> ApiError:
    """Return the error for a request that does not fit the schema.

    The service documents no code for it; 7001 is the code of the framework that it uses.
    """
    return ApiError(400, 7001, f"Input validation error: {message}")


def ok(result: Any, result_info: dict[str, Any] | None = None, *, status: int = 200) -> Response:
    """Return the answer that carries `result`. None omits `result_info`."""
    body = {"success": True, "errors": [], "messages": [], "result": result}
    if result_info is not None:
        body["result_info"] = result_info
    return plain(body, status)


def page_of(rows: list[Any], page: int, per_page: int, total: int) -> Response:
    """Return the answer of a listing by page number."""
    return ok(rows, {"count": len(rows), "page": page, "per_page": per_page, "total_count": total})


def error(refusal: ApiError) -> Response:
    """Return the answer to a refused request; its `result` is null."""
    errors = [{"code": refusal.code, "message": refusal.message}]
    return plain({"success": False, "errors": errors, "messages": [], "result": None}, refusal.status)


def plain(body: Any, status: int = 200) -> Response:
    """Return an answer of JSON without the envelope."""
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return Response(text.encode(), status, media_type="application/json")


def compact_json(value: Any) -> str:
    """Return JSON without white space and without escapes of characters beyond ASCII; ValueError for NaN."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def read_json(text: str | bytes) -> Any:
    """Parse JSON strictly.

    ValueError for invalid JSON, also if Python would accept it (NaN, half a surrogate pair), and for deep nesting.
    """
    try:
        value = json.loads(text, parse_constant=refuse_constant)
        json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def refuse_constant(name: str) -> None:
    """Raise ValueError. It is the `parse_constant` of json.loads: NaN and Infinity are not JSON."""
    raise ValueError(f"{name} is not JSON")


def timestamp(seconds: float) -> str:
    """Return seconds since 1970 as ISO 8601 in UTC with milliseconds, e.g. 2026-11-22T10:00:00.000Z."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass
class FormPart:
    """One part of a multipart form. filename: None for a plain field."""

    name: str = ""
    filename: str | None = None
    data: bytearray = field(default_factory=bytearray)

    @property
    def text(self) -> str:
        """The content as UTF-8; invalid bytes are replaced."""
        return self.data.decode(errors="replace")


def parse_form(content_type: str, body: bytes) -> dict[str, FormPart]:
    r"""Return the parts of a multipart form by name; the last of several parts with one name wins.

    The form is read like in the service's runtime (workerd): backslashes escape in names, percent signs do not.
    ValueError if the body is not a multipart form.
    """
    boundary = _header_parameters(content_type.encode("latin-1", "replace")).get("boundary")
    if not content_type.lower().startswith("multipart/form-data") or not boundary:
        raise ValueError("the body is not multipart/form-data")
    collector = _FormCollector()
    try:
        parser = MultipartParser(
            boundary.encode(),
            {
                "on_part_begin": collector.begin_part,
                "on_header_field": collector.add_header_name,
                "on_header_value": collector.add_header_value,
                "on_header_end": collector.end_header,
                "on_part_data": collector.add_content,
            },
        )
        parser.write(body)
        parser.finalize()
    except FormParserError as reason:
        raise ValueError(str(reason)) from reason
    return {part.name: part for part in collector.parts}


class _FormCollector:
    """The callbacks of the multipart parser."""

    def __init__(self) -> None:
        self.parts: list[FormPart] = []
        self._name = b""
        self._value = b""

    def begin_part(self) -> None:
        self.parts.append(FormPart())

    def add_header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def add_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def end_header(self) -> None:
        if self._name.lower() == b"content-disposition":
            parameters = _header_parameters(self._value)
            self.parts[-1].name = parameters.get("name", "")
            self.parts[-1].filename = parameters.get("filename")
        self._name = self._value = b""

    def add_content(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1].data += data[start:end]


_PARAMETER = re.compile(rb';\s*([\w*]+)\s*=\s*(?:"((?:\\.|[^"\\])*)"|([^\s;]*))', re.DOTALL)
_ESCAPED = re.compile(r'\\(["\\])')


def _header_parameters(header: bytes) -> dict[str, str]:
    parameters = {}
    for match in _PARAMETER.finditer(header):
        quoted = match[2] is not None
        text = (match[2] if quoted else match[3]).decode(errors="replace")
        if quoted:
            text = _ESCAPED.sub(r"\1", text)
        parameters[match[1].decode().lower()] = text
    return parameters
