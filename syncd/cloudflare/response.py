"""One response: its bytes, and their meaning: a result in Cloudflare's envelope, or an error named by its remedy.

The table of error codes is in error_codes.py.
"""

import email.utils
import json
import math
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, cast

import httpx

from syncd.cloudflare.error_codes import (
    BUSY,
    CHALLENGED,
    CODES,
    REDIRECTED,
    REFUSED,
    STATUSES,
    UNEXPECTED,
    Remedy,
    remedy_for,
    remedy_without_envelope,
)
from syncd.core.errors import (
    AuthHalt,
    Blocked,
    Conflict,
    Halt,
    Later,
    NotFound,
    Park,
    PausedHalt,
    QuotaHalt,
    Retry,
    TargetMissing,
)
from syncd.core.plain_text import printable, redact_text

MESSAGE_LIMIT = 400
"""Longest error message, in characters. A remote may send a page of HTML."""
RETRY_AFTER_LIMIT_S = 3600.0
"""Longest Retry-After that is used, in seconds. Cloudflare's own block lasts five minutes (API rate limits)."""
LONGEST_NUMBER = 20
"""Digits of a whole number that becomes None, if Python refuses to parse the answer. The API has no such numbers."""
_DAY_S = 86_400.0

_HALTS: Mapping[str, type[Halt]] = {"halt": Halt, "paused": PausedHalt, "missing": TargetMissing}


async def read_body(response: httpx.Response, limit: int) -> bytes:
    """Return the decoded body. If it is longer than limit, return its beginning of at least limit + 1 bytes.

    httpx's own decoders decompress a whole piece at once, which may be a thousand times as large.
    Raises httpx.DecodingError if the body is not compressed as the headers say, or if its encoding was not
    requested.
    """
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("gzip", "x-gzip", "identity"):
        raise httpx.DecodingError(f"the answer is encoded as {encoding[:50]!r}, which was not asked for")
    unpack = None if encoding == "identity" else zlib.decompressobj(16 + zlib.MAX_WBITS)
    parts: list[bytes] = []
    size = 0
    # A response that a test makes of bytes counts as read already, but its stream can still be iterated.
    async for piece in cast("httpx.AsyncByteStream", response.stream):
        if not piece:
            continue
        try:
            part = unpack.decompress(piece, limit + 1 - size) if unpack else piece
        except zlib.error as error:
            raise httpx.DecodingError(str(error)) from error
        parts.append(part)
        size += len(part)
        if size > limit:
            break
    if unpack and parts and size <= limit and not unpack.eof:
        raise httpx.DecodingError("the answer's encoding is cut short")
    return b"".join(parts)


@dataclass(frozen=True, slots=True)
class Answer:
    """A request that succeeded. result: the endpoint's value. result_info: paging, {} if absent."""

    result: Any
    result_info: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Response:
    """One whole response. headers: names in any case. permission: named by an error if access is refused."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    permission: str = "for this API"

    def answer(self, is_partial: Callable[[Any], bool] | None = None) -> Answer:
        """Return the Answer in the envelope, or raise the error that the response means. is_partial: see Request."""
        envelope = None if "cf-mitigated" in self.headers else _parse(self.body)
        if envelope is None or envelope["success"] is not True or not 200 <= self.status < 300:
            if envelope is not None and is_partial and self._counts_as_partial(envelope, is_partial):
                return Answer(envelope.get("result"))
            self.fail()
        info = envelope.get("result_info")
        if info is not None and not isinstance(info, dict):
            self._raise(UNEXPECTED, "result_info is no object")
        return Answer(envelope.get("result"), info or {})

    def content(self) -> bytes:
        """Return the body of a success as it is, or raise the error that the response means."""
        if self.status != httpx.codes.OK or "cf-mitigated" in self.headers:
            self.fail()
        return self.body

    def fail(self) -> NoReturn:
        """Raise the error of a response that is no success, or of a success without an envelope."""
        if "cf-mitigated" in self.headers:
            self._raise(CHALLENGED)
        if 300 <= self.status < 400:
            self._raise(REDIRECTED)
        envelope = _parse(self.body)
        if envelope is None:
            # The answer may be HTML, or a 2xx that is cut short. The remote may have carried out the request.
            kind = self.headers.get("content-type", "")
            shape = f"{len(self.body)} bytes of {kind.partition(';')[0].strip() or 'no content type'}"
            remedy = remedy_without_envelope(self.status, json="json" in kind)
            self._raise(remedy, f"{shape} in place of an answer of the API")
        code, reason = _main_error(envelope)
        self._raise(remedy_for(self.status, code), reason, code)

    def _counts_as_partial(self, envelope: Mapping[str, Any], is_partial: Callable[[Any], bool]) -> bool:
        """Return whether the result of a failed request counts, and the remedy is not to wait, halt or send less."""
        code, _ = _main_error(envelope)
        may_count = self.status not in STATUSES and remedy_for(self.status, code) in {REFUSED, BUSY, UNEXPECTED}
        return may_count and is_partial(envelope.get("result"))

    def _raise(self, remedy: Remedy, reason: str = "", code: int | None = None) -> NoReturn:
        """Raise the error of a remedy. reason: the remote's own message."""
        facts = [f"HTTP {self.status}"]
        if code is not None:
            facts.append(f"code {code}")
        if ray := self.headers.get("cf-ray"):
            facts.append(f"cf-ray {one_line(ray, 64)}")
        text = remedy.text.format(permission=self.permission)
        reason = one_line(reason, MESSAGE_LIMIT // 2)
        message = one_line(f"{text}{f': {reason}' if reason else ''} ({', '.join(facts)})")
        match remedy.action:
            case "halt" | "paused" | "missing":
                raise _HALTS[remedy.action](message)
            case "day_quota":
                raise QuotaHalt(message, again_s=_seconds_to_midnight(self.headers))
            case "auth":
                raise AuthHalt(message, status=self.status)
            case "not_found":
                raise NotFound(message, code=code, status=self.status)
            case "conflict":
                raise Conflict(message, code=code, status=self.status)
            case "park":
                raise Park(remedy.kind, message, code=code, status=self.status)
            case "retry" | "blocked" | "later":
                requested_s = retry_after_s(self.headers)
                after_s = remedy.after_s if requested_s is None else requested_s
                error = {"blocked": Blocked, "later": Later}.get(remedy.action, Retry)
                raise error(
                    message, after_s=after_s, ambiguous=remedy.ambiguous, status=self.status, scope=remedy.scope
                )


def _parse(body: bytes) -> dict[str, Any] | None:
    """Return the envelope, None if the body has another form."""
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
        # Python refuses to read a number of over 4,300 digits. Such a number becomes None.
        return json.loads(text, parse_int=lambda digits: int(digits) if len(digits) < LONGEST_NUMBER else None)


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


def _seconds_to_midnight(headers: Mapping[str, str]) -> float:
    """Return the seconds until 00:00 UTC by the answer's own Date, else by the local clock."""
    now = http_date(headers.get("date", ""))
    return _DAY_S - (time.time() if now is None else now) % _DAY_S


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of Retry-After (a number or an HTTP date), at most RETRY_AFTER_LIMIT_S.

    Return None if there is none or if it cannot be read. A date is compared with the answer's own Date, because the
    local clock may be wrong.
    """
    value = headers.get("retry-after", "").strip()
    if value.replace(".", "", 1).isdecimal():
        seconds = float(value)
    else:
        until, now = http_date(value), http_date(headers.get("date", ""))
        if until is None or now is None:
            return None
        seconds = until - now
    return min(max(seconds, 0.0), RETRY_AFTER_LIMIT_S) if math.isfinite(seconds) else RETRY_AFTER_LIMIT_S


def http_date(value: str) -> float | None:
    """Return the date in a header as Unix seconds, None if it is no date."""
    try:
        return email.utils.parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def one_line(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """Return `text` on one line of at most `limit` characters, without secrets and unprintable characters."""
    # The text is cut before and after: an escape is up to ten times as long as its character.
    line = printable(redact_text(text)[: limit + 1])
    return line if len(line) <= limit else line[: limit - 1] + "…"
