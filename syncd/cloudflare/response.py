"""Reads one answer: its headers, its body up to a limit, and Cloudflare's envelope."""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import httpx

from syncd.cloudflare.errors import (
    BUSY,
    CHALLENGED,
    CODES,
    REDIRECTED,
    REFUSED,
    STATUSES,
    UNEXPECTED,
    Context,
    one_line,
    raise_error,
    remedy_for,
    remedy_without_envelope,
)

LONGEST_NUMBER = 20
"""Digits from which a whole number is read as None if Python refuses to read it. The API has no such numbers."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A request that succeeded. result: the endpoint's value. result_info: paging, {} if absent."""

    result: Any
    result_info: Mapping[str, Any] = field(default_factory=dict)
    messages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Raw:
    """An answer that is no envelope: its body, and its headers with names in lower case."""

    content: bytes = field(repr=False)
    headers: Mapping[str, str]


def headers_of(response: httpx.Response) -> dict[str, str]:
    """Return the headers with names in lower case. Values are read as Latin-1; repeated headers are joined."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in response.headers.raw:
        name, value = raw_name.lower().decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


async def read(response: httpx.Response, headers: Mapping[str, str], limit: int) -> bytes:
    """Return the decoded body. If it is longer than limit, return its beginning of at least limit + 1 bytes.

    httpx's own decoders decompress a whole piece at once, which may be a thousand times as large.
    Raises httpx.DecodingError if the body is not compressed as the headers say, or in a way that was not requested.
    """
    parts: list[bytes] = []
    size = 0
    decoder = _Decoder(headers["content-encoding"]) if "content-encoding" in headers else None
    # A response that a test makes of bytes counts as read already; its stream can still be iterated.
    stream = response.stream
    async for piece in stream if isinstance(stream, httpx.AsyncByteStream) else response.aiter_raw():
        part = decoder.decode(piece, limit + 1 - size) if decoder else piece
        parts.append(part)
        size += len(part)
        if size > limit:
            break
    if decoder and size <= limit:
        decoder.end()
    return b"".join(parts)


def decode(status: int, headers: Mapping[str, str], body: bytes, context: Context | None = None) -> Answer:
    """Return the Answer of one response, or raise the error that it means. Header names are in lower case."""
    context = context or Context()
    envelope = None if "cf-mitigated" in headers else _parse(body)
    if envelope is None or envelope["success"] is not True or not 200 <= status < 300:
        if envelope is not None and _is_partial(status, envelope, context):
            return Answer(envelope.get("result"), {}, _texts(envelope.get("errors"), context))
        fail(status, headers, body, context)
    info = envelope.get("result_info")
    if info is not None and not isinstance(info, dict):
        raise_error(UNEXPECTED, status, headers, "result_info is no object", context)
    return Answer(envelope.get("result"), info or {}, _texts(envelope.get("messages"), context))


def fail(status: int, headers: Mapping[str, str], body: bytes, context: Context | None = None) -> NoReturn:
    """Raise the error of a response that is no success, or of a success without an envelope."""
    context = context or Context()
    if "cf-mitigated" in headers:
        raise_error(CHALLENGED, status, headers, "", context)
    if 300 <= status < 400:
        raise_error(REDIRECTED, status, headers, "", context)
    envelope = _parse(body)
    if envelope is None:
        # The answer may be a 2xx that is cut short or is HTML. The remote may have carried out such a request.
        raise_error(remedy_without_envelope(status), status, headers, _shape(headers, body), context)
    code, reason = _main_error(envelope)
    raise_error(remedy_for(status, code), status, headers, reason, context, code)


class _Decoder:
    """Decompresses one gzip or deflate body, at most as many bytes at a time as the caller accepts."""

    def __init__(self, encoding: str) -> None:
        name = encoding.strip().lower()
        if name not in ("gzip", "x-gzip", "deflate", "identity"):
            raise httpx.DecodingError(f"the answer is encoded as {name[:50]!r}, which was not asked for")
        self._begun = False
        self._plain = name == "identity"
        # 32 makes zlib detect gzip and zlib headers.
        self._zlib = zlib.decompressobj(32 + zlib.MAX_WBITS)

    def decode(self, piece: bytes, room: int) -> bytes:
        """Return the decompressed piece, cut to `room` bytes."""
        if self._plain or not piece:
            return piece
        begun, self._begun = self._begun, True
        try:
            return self._zlib.decompress(piece, room)
        except zlib.error as error:
            if begun:
                raise httpx.DecodingError(str(error)) from error
            return self._without_header(piece, room)

    def _without_header(self, piece: bytes, room: int) -> bytes:
        """Decompress a first piece as raw deflate, which some servers send under the name of deflate."""
        self._zlib = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            return self._zlib.decompress(piece, room)
        except zlib.error as error:
            raise httpx.DecodingError(str(error)) from error

    def end(self) -> None:
        """Raise httpx.DecodingError if the body was cut short."""
        if not self._plain and self._begun and not self._zlib.eof:
            raise httpx.DecodingError("the answer's encoding is cut short")


def _parse(body: bytes) -> dict[str, Any] | None:
    """Return the envelope, or None if the body is none."""
    try:
        envelope = _json(body.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(envelope, dict) or not isinstance(envelope.get("success"), bool):
        return None
    return envelope


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except ValueError:
        # Python refuses to read a number of over 4,300 digits. This reads the other values nevertheless.
        return json.loads(text, parse_int=lambda digits: int(digits) if len(digits) < LONGEST_NUMBER else None)


def _is_partial(status: int, envelope: Mapping[str, Any], context: Context) -> bool:
    """Return whether to use the result of a failed request. False if the remedy is to wait, to halt or to send less."""
    if context.partial is None or not context.partial(envelope.get("result")):
        return False
    code, _ = _main_error(envelope)
    return remedy_for(status, code) in {REFUSED, BUSY, UNEXPECTED} and status not in STATUSES


def _main_error(envelope: Mapping[str, Any]) -> tuple[int | None, str]:
    """Return the first error whose code is listed, else the first error."""
    errors = _errors(envelope)
    listed = next(((code, reason) for code, reason in errors if code in CODES), None)
    return listed or (errors[0] if errors else (None, ""))


def _errors(envelope: Mapping[str, Any]) -> list[tuple[int | None, str]]:
    """Return the code and the message of each error; the message includes the error's error_chain."""
    rows = envelope.get("errors")
    errors = []
    for row in rows if isinstance(rows, list) else []:
        if not isinstance(row, dict):
            continue
        code, reason = _code(row.get("code")), _text_or_number(row.get("message")) or _text_or_number(row.get("code"))
        chain = row.get("error_chain")
        for link in chain if isinstance(chain, list) else []:
            if isinstance(link, dict):
                reason += f"; {_text_or_number(link.get('message'))} ({_text_or_number(link.get('code'))})"
        errors.append((code, reason))
    return errors


def _text_or_number(value: object) -> str:
    """Return a text, or a number of reasonable size as text; the empty text for any other value."""
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and abs(value) < 10**9 else ""


def _code(value: object) -> int | None:
    if isinstance(value, str) and value.isdecimal() and len(value) < 10:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _shape(headers: Mapping[str, str], body: bytes) -> str:
    """Describe a body that is no envelope, without quoting it."""
    kind = headers.get("content-type", "").partition(";")[0].strip() or "no content type"
    return f"no API envelope but {len(body)} bytes of {kind}"


def _texts(messages: object, context: Context) -> tuple[str, ...]:
    rows = messages if isinstance(messages, list) else []
    texts = (row.get("message") if isinstance(row, dict) else row for row in rows)
    return tuple(one_line(context.hide(text)) for text in texts if isinstance(text, str))
