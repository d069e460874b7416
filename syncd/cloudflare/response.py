"""Decodes one answer: the result in Cloudflare's envelope, or the error, named by its remedy, that it reports.

The table of error codes is in error_codes.py.
"""

import email.utils
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

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
from syncd.core.plain_text import printable

MESSAGE_LIMIT = 400
"""Longest error message, in characters. A remote may send a page of HTML."""
RETRY_AFTER_LIMIT_S = 3600.0
"""Longest Retry-After that is used, in seconds. Cloudflare's own block lasts five minutes (API rate limits)."""
LONGEST_NUMBER = 20
"""Digits from which a whole number is read as None if Python refuses to read it. The API has no such numbers."""
_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Context:
    """The parts of a request that an error may need.

    permission: named in the message if access is refused. hide: removes secrets from a text. partial: returns whether
    the result of a failed request lists its done and its undone parts; such a result is an answer.
    """

    permission: str = "for this API"
    hide: Callable[[str], str] = str
    partial: Callable[[Any], bool] | None = None


_HALTS: Mapping[str, type[Halt]] = {"halt": Halt, "paused": PausedHalt, "missing": TargetMissing}


def raise_error(
    remedy: Remedy, status: int, headers: Mapping[str, str], reason: str, context: Context, code: int | None = None
) -> NoReturn:
    """Raise the error of a remedy. reason: the remote's own message. Header names are in lower case."""
    text = remedy.text.format(permission=context.permission)
    facts = [f"HTTP {status}"]
    if code is not None:
        facts.append(f"code {code}")
    if ray := headers.get("cf-ray"):
        facts.append(f"cf-ray {one_line(context.hide(ray), 64)}")
    reason = one_line(context.hide(reason), MESSAGE_LIMIT // 2)
    message = one_line(f"{text}{f': {reason}' if reason else ''} ({', '.join(facts)})")
    match remedy.action:
        case "halt" | "paused" | "missing":
            raise _HALTS[remedy.action](message)
        case "day_quota":
            raise QuotaHalt(message, again_s=_seconds_to_midnight(headers))
        case "auth":
            raise AuthHalt(message, status=status)
        case "not_found":
            raise NotFound(message, code=code, status=status)
        case "conflict":
            raise Conflict(message, code=code, status=status)
        case "park":
            raise Park(remedy.kind, message, code=code, status=status)
        case "retry" | "blocked" | "later":
            requested_s = retry_after_s(headers)
            after_s = remedy.after_s if requested_s is None else requested_s
            error = {"blocked": Blocked, "later": Later}.get(remedy.action, Retry)
            raise error(message, after_s=after_s, ambiguous=remedy.ambiguous, status=status, scope=remedy.scope)


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
    """Return `text` on one line of at most `limit` characters, with unprintable characters escaped."""
    # The text is cut before and after: an escape is up to ten times as long as its character.
    line = printable(text[: limit + 1])
    return line if len(line) <= limit else line[: limit - 1] + "…"


@dataclass(frozen=True, slots=True)
class Answer:
    """A request that succeeded. result: the endpoint's value. result_info: paging, {} if absent."""

    result: Any
    result_info: Mapping[str, Any] = field(default_factory=dict)


def decode(status: int, headers: Mapping[str, str], body: bytes, context: Context) -> Answer:
    """Return the Answer of one response, or raise the error that it means. Header names are in lower case."""
    envelope = None if "cf-mitigated" in headers else _parse(body)
    if envelope is None or envelope["success"] is not True or not 200 <= status < 300:
        if envelope is not None and _is_partial(status, envelope, context):
            return Answer(envelope.get("result"))
        fail(status, headers, body, context)
    info = envelope.get("result_info")
    if info is not None and not isinstance(info, dict):
        raise_error(UNEXPECTED, status, headers, "result_info is no object", context)
    return Answer(envelope.get("result"), info or {})


def fail(status: int, headers: Mapping[str, str], body: bytes, context: Context) -> NoReturn:
    """Raise the error of a response that is no success, or of a success without an envelope."""
    if "cf-mitigated" in headers:
        raise_error(CHALLENGED, status, headers, "", context)
    if 300 <= status < 400:
        raise_error(REDIRECTED, status, headers, "", context)
    envelope = _parse(body)
    if envelope is None:
        # The answer may be HTML, or a 2xx that is cut short. The remote may have carried out the request.
        remedy = remedy_without_envelope(status, json="json" in headers.get("content-type", ""))
        raise_error(remedy, status, headers, _shape(headers, body), context)
    code, reason = _main_error(envelope)
    raise_error(remedy_for(status, code), status, headers, reason, context, code)


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
    return f"{len(body)} bytes of {kind} in place of an answer of the API"
