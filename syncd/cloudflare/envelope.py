"""Pure decoding of Cloudflare's envelope: bytes in, an Answer or an error by remedy out."""

import email.utils
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from syncd.cloudflare.remedies import (
    BUSY,
    CHALLENGED,
    CODES,
    EDGE_STATUSES,
    PASSING_STATUSES,
    REDIRECTED,
    REFUSED,
    STATUSES,
    STOPPED,
    UNEXPECTED,
    Remedy,
)
from syncd.errors import AuthHalt, Blocked, Conflict, Halt, NotFound, Park, Retry, TargetMissing

MESSAGE_LIMIT = 400
"""Longest error message, characters; a remote may send a page of HTML."""
HUGE_DIGITS = 20
"""No whole number of the API has so many digits."""
RETRY_AFTER_LIMIT_S = 3600.0
"""Longest Retry-After that is believed, s. Cloudflare's own block lasts five minutes (API rate limits)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A request that succeeded. result: whatever the endpoint gives; result_info: paging, {} when absent."""

    result: Any
    result_info: Mapping[str, Any] = field(default_factory=dict)
    messages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Context:
    """What an error message may need. permission: named when access is refused; hide: takes secrets out of a text;
    partial: whether a result that came with an error says by
    itself what was done and what was not; then it is an answer all the same.
    """

    permission: str = "for this API"
    hide: Callable[[str], str] = str
    partial: Callable[[Any], bool] | None = None


def decode(status: int, headers: Mapping[str, str], body: bytes, context: Context | None = None) -> Answer:
    """The Answer of one response, or the error by remedy that it means. Header names in lower case."""
    context = context or Context()
    envelope = None if "cf-mitigated" in headers else _parse(body)
    if envelope is None or envelope["success"] is not True or not 200 <= status < 300:
        if envelope is not None and _is_partial(status, envelope, context):
            return Answer(envelope.get("result"), {}, _texts(envelope.get("errors"), context))
        fail(status, headers, body, context)
    info = envelope.get("result_info")
    if info is not None and not isinstance(info, dict):
        _raise(UNEXPECTED, status, headers, "result_info is no object", context)
    return Answer(envelope.get("result"), info or {}, _texts(envelope.get("messages"), context))


def fail(status: int, headers: Mapping[str, str], body: bytes, context: Context | None = None) -> NoReturn:
    """Raise the error of a response that is no success (or of a success that is no envelope)."""
    context = context or Context()
    if "cf-mitigated" in headers:
        _raise(CHALLENGED, status, headers, "", context)
    if 300 <= status < 400:
        _raise(REDIRECTED, status, headers, "", context)
    envelope = _parse(body)
    if envelope is None:
        # A 2xx that ends early or holds HTML may well have been carried out.
        _raise(_outsider(status), status, headers, _shape(headers, body), context)
    code, said = _main_error(envelope)
    _raise(_remedy(status, code), status, headers, said, context, code)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds asked for by Retry-After (a number or an HTTP date), at most RETRY_AFTER_LIMIT_S; None when it says
    nothing that can be understood. A date is read against the answer's own Date: our clock may be wrong.
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


def one_line(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """`text` on one line, what cannot be printed escaped, cut to `limit` characters."""
    # Cut twice: an escape is up to ten times as long as its character, and a remote may send a page of HTML.
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text[: limit + 1])
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _parse(body: bytes) -> dict[str, Any] | None:
    """The envelope, or None for anything that is not one."""
    try:
        envelope = _json(body.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(envelope, dict) or not isinstance(envelope.get("success"), bool):
        return None
    return envelope


def _outsider(status: int) -> Remedy:
    """The remedy of an answer that is not the API's own."""
    if status in EDGE_STATUSES:
        return STATUSES[status]
    if status >= 500:
        return BUSY
    return STOPPED if 400 <= status < 500 and status not in PASSING_STATUSES else UNEXPECTED


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except ValueError:
        # One number of over 4,300 digits, which Python does not read, spoils no other.
        return json.loads(text, parse_int=lambda digits: int(digits) if len(digits) < HUGE_DIGITS else None)


def _remedy(status: int, code: int | None) -> Remedy:
    # A code that says "busy" under a status that says "wrong" is the service's framework refusing the request.
    if code is not None and code in CODES and not (CODES[code] is BUSY and 400 <= status < 500):
        return CODES[code]
    if status in STATUSES:
        return STATUSES[status]
    if status >= 500:
        return BUSY
    return REFUSED if 400 <= status < 500 else UNEXPECTED


def _is_partial(status: int, envelope: Mapping[str, Any], context: Context) -> bool:
    """Whether the result is worth more than the error: not when the error says what to do (wait, halt, send less)."""
    if context.partial is None or not context.partial(envelope.get("result")):
        return False
    code, _ = _main_error(envelope)
    return _remedy(status, code) in {REFUSED, BUSY, UNEXPECTED} and status not in STATUSES


def _main_error(envelope: Mapping[str, Any]) -> tuple[int | None, str]:
    """The first error whose code is listed, else the first."""
    errors = _errors(envelope)
    listed = next(((code, said) for code, said in errors if code in CODES), None)
    return listed or (errors[0] if errors else (None, ""))


def _errors(envelope: Mapping[str, Any]) -> list[tuple[int | None, str]]:
    """(code, message) of each error, with those of its error_chain in the message."""
    errors = envelope.get("errors")
    found = []
    for error in errors if isinstance(errors, list) else []:
        if not isinstance(error, dict):
            continue
        code, said = _code(error.get("code")), _word(error.get("message")) or _word(error.get("code"))
        chain = error.get("error_chain")
        for link in chain if isinstance(chain, list) else []:
            if isinstance(link, dict):
                said += f"; {_word(link.get('message'))} ({_word(link.get('code'))})"
        found.append((code, said))
    return found


def _word(value: object) -> str:
    """A text or a number of reasonable size; nothing of what else may stand there, such as lists in lists."""
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and abs(value) < 10**9 else ""


def _code(value: object) -> int | None:
    if isinstance(value, str) and value.isdecimal() and len(value) < 10:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _raise(
    remedy: Remedy, status: int, headers: Mapping[str, str], said: str, context: Context, code: int | None = None
) -> NoReturn:
    text = remedy.text.format(permission=context.permission)
    facts = [f"HTTP {status}"]
    if code is not None:
        facts.append(f"code {code}")
    if ray := headers.get("cf-ray"):
        facts.append(f"cf-ray {one_line(context.hide(ray), 64)}")
    said = one_line(context.hide(said), MESSAGE_LIMIT // 2)
    message = one_line(f"{text}{f': {said}' if said else ''} ({', '.join(facts)})")
    match remedy.action:
        case "halt":
            raise Halt(message)
        case "auth":
            raise AuthHalt(message)
        case "missing":
            raise TargetMissing(message)
        case "not_found":
            raise NotFound(message, code=code, status=status)
        case "conflict":
            raise Conflict(message, code=code, status=status)
        case "park":
            raise Park(remedy.kind, message, code=code, status=status)
        case "retry" | "blocked":
            asked = retry_after_s(headers)
            after_s = remedy.after_s if asked is None else asked
            kind = Blocked if remedy.action == "blocked" else Retry
            raise kind(message, after_s=after_s, ambiguous=remedy.ambiguous, status=status)


def _shape(headers: Mapping[str, str], body: bytes) -> str:
    """What came instead of an envelope, without quoting a page of it."""
    kind = headers.get("content-type", "").partition(";")[0].strip() or "no content type"
    return f"no API envelope but {len(body)} bytes of {kind}"


def _texts(messages: object, context: Context) -> tuple[str, ...]:
    rows = messages if isinstance(messages, list) else []
    said = (row.get("message") if isinstance(row, dict) else row for row in rows)
    return tuple(one_line(context.hide(text)) for text in said if isinstance(text, str))


def http_date(value: str) -> float | None:
    """Unix seconds of a date in a header, None if it is none."""
    try:
        return email.utils.parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
