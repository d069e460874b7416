"""Reads the meaning of one answer: a result in Cloudflare's envelope, or the error by remedy that it stands for.

The error codes come from AI Search ("API error codes", "Indexing error codes"), Workers KV, Workers AI ("Errors") and
the global API. Vectorize documents no codes; its codes come from reports of users. A code that is not listed here is
judged by its HTTP status.
"""

import email.utils
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn

from syncd.core.errors import AuthHalt, Blocked, Conflict, Halt, NotFound, Park, Retry, TargetMissing
from syncd.core.model import ProblemKind
from syncd.core.plain_text import printable

MESSAGE_LIMIT = 400
"""Longest error message, in characters. A remote may send a page of HTML."""
RETRY_AFTER_LIMIT_S = 3600.0
"""Longest Retry-After that is used, in seconds. Cloudflare's own block lasts five minutes (API rate limits)."""
LONGEST_NUMBER = 20
"""Digits from which a whole number is read as None if Python refuses to read it. The API has no such numbers."""

ErrorAction = Literal["halt", "auth", "missing", "park", "retry", "blocked", "not_found", "conflict"]


@dataclass(frozen=True, slots=True)
class Remedy:
    """Says which error an answer means.

    text: the beginning of the message; `{permission}` is filled in. kind: problem kind of a Park. after_s: seconds
    that a Retry waits if the answer names none. ambiguous: whether a Retry is ambiguous.
    """

    action: ErrorAction
    text: str
    kind: ProblemKind = "refused"
    after_s: float | None = None
    ambiguous: bool = False


@dataclass(frozen=True, slots=True)
class Context:
    """The parts of a request that an error may need.

    permission: named in the message if access is refused. hide: removes secrets from a text. partial: returns whether
    the result of a failed request lists its done and its undone parts; such a result is an answer.
    """

    permission: str = "for this API"
    hide: Callable[[str], str] = str
    partial: Callable[[Any], bool] | None = None


_AUTH = Remedy(
    "auth",
    "authentication refused: check the API token, that it has the permission {permission}, and account_id",
)
BUSY = Remedy("retry", "Cloudflare could not carry out the request now", ambiguous=True)
_BLOCKED = Remedy("retry", "over Cloudflare's request limit; lower quota if this stays", after_s=300.0)
_NEURONS = Remedy("halt", "the Workers AI quota of this day is used up: wait for 00:00 UTC or upgrade the plan")
# The client of Workers AI turns these two into a Halt that names the model.
_NO_MODEL = Remedy("not_found", "Workers AI has no such model")
_NO_ACCESS = Remedy("park", "the account may not use this model")

CODES: Mapping[int, Remedy] = {
    # credentials
    10000: _AUTH,
    9106: _AUTH,
    9109: _AUTH,
    6003: _AUTH,
    # target
    7002: Remedy(
        "missing", "the AI Search instance does not exist: `syncd check` shows its name, create = true creates it"
    ),
    7063: Remedy(
        "missing", "the AI Search namespace does not exist: `syncd check` shows its name, create = true creates it"
    ),
    # A service answers 7000 for an endpoint that it does not offer. The target still exists.
    7000: Remedy("park", "Cloudflare does not offer this endpoint"),
    7003: Remedy(
        "halt", "Cloudflare does not know this path: check account_id, namespace and instance with `syncd check`"
    ),
    7013: Remedy("halt", "the account has no room for another AI Search instance: delete one, or use an existing one"),
    7032: Remedy("halt", "the AI Search instance is paused: see its error in the dashboard and resume it"),
    7053: Remedy("halt", "the AI Search instance has no built-in storage: use a newly created instance"),
    7069: Remedy("halt", "the AI Search quota of this month is used up: wait for its reset or upgrade the plan"),
    10048: Remedy("halt", "the KV quota of this day is used up: wait for 00:00 UTC or upgrade the plan"),
    10013: Remedy("missing", "the KV namespace does not exist: `syncd check` shows its name, create = true creates it"),
    3000: Remedy(
        "missing", "the Vectorize index does not exist: `syncd check` shows its name, create = true creates it"
    ),
    3005: Remedy("missing", "the Vectorize index was deleted: create = true creates a new one"),
    40012: Remedy(
        "halt", "the vectors do not fit the Vectorize index: set a model of its dimensions, or another index"
    ),
    # model
    5007: _NO_MODEL,
    3042: _NO_MODEL,
    3041: _NO_ACCESS,
    5016: _NO_ACCESS,
    5018: _NO_ACCESS,
    5028: _NO_ACCESS,
    5035: _NO_ACCESS,
    3023: Remedy("halt", "Workers AI is blocked for this account: see the account's notices in the dashboard"),
    3036: _NEURONS,
    4006: _NEURONS,
    # item
    7041: Remedy("not_found", "the item does not exist"),
    10009: Remedy("not_found", "the key does not exist"),
    7042: Remedy("conflict", "the key exists already"),
    7022: Remedy("conflict", "the instance exists already"),
    10014: Remedy("conflict", "a KV namespace of this title exists already"),
    3002: Remedy("conflict", "a Vectorize index of this name exists already"),
    40005: Remedy("not_found", "the metadata index does not exist"),
    # content
    7054: Remedy("park", "the file is too large for the target", kind="too_large"),
    7060: Remedy("park", "the target does not take this file type", kind="unsupported_type"),
    7072: Remedy("park", "the key is too long for the target", kind="key_too_long"),
    7055: Remedy("park", "the upload was refused: no file part"),
    7056: Remedy("park", "the metadata was refused"),
    7058: Remedy("park", "the metadata filter was refused"),
    7059: Remedy("park", "the target returns only files that were uploaded to it"),
    3006: Remedy("park", "too much text for one request", kind="too_large"),
    3030: Remedy("park", "too much text for one request", kind="too_large"),
    5021: Remedy("park", "the text is too long for the model", kind="too_large"),
    # In an upsert 40006 means too many vectors, in a query a vector of other dimensions.
    40006: Remedy("park", "Vectorize refused the number of vectors, or of dimensions"),
    40007: Remedy("park", "too many ids for one request", kind="too_large"),
    40008: Remedy("park", "the id of a vector is too long"),
    40016: Remedy("park", "the metadata of a vector is too large"),
    40023: Remedy("park", "Vectorize could not read the vectors"),
    # temporary
    7001: BUSY,
    7009: BUSY,
    7017: BUSY,
    7044: BUSY,
    7068: BUSY,
    7114: BUSY,
    7020: Remedy("retry", "a sync job ran less than 30 s ago", after_s=30.0),
    # After 971 and 10100 Cloudflare refuses every request for five minutes. They come without Retry-After.
    971: _BLOCKED,
    10100: _BLOCKED,
    10429: Remedy("retry", "Cloudflare asks for fewer requests"),
    40041: Remedy("retry", "Vectorize asks for fewer requests"),  # also comes with status 400
    3040: Remedy("retry", "Workers AI has no capacity left at the moment"),
}

STATUSES: Mapping[int, Remedy] = {
    401: _AUTH,
    402: Remedy("halt", "Cloudflare asks for payment: see the account's billing"),
    403: _AUTH,
    404: Remedy("retry", "Cloudflare reports 404 without an error code; check base_url if this stays"),
    408: BUSY,
    409: Remedy("conflict", "exists already"),
    413: Remedy("park", "too large for the target", kind="too_large"),
    414: Remedy("park", "the key is too long for the target", kind="key_too_long"),
    429: Remedy("retry", "Cloudflare asks for fewer requests"),
}

REFUSED = Remedy("park", "refused")
REDIRECTED = Remedy("blocked", "redirected; the API never redirects: check base_url and the network")
CHALLENGED = Remedy("blocked", "stopped by a bot challenge before it reached the API: allow this host in the firewall")
UNEXPECTED = Remedy("retry", "unexpected answer", ambiguous=True)
STOPPED = Remedy(
    "blocked", "refused before it reached the API: see the proxies and firewalls on the way", ambiguous=True
)

PASSING_STATUSES: frozenset[int] = frozenset({401, 407, 425})
"""Statuses 4xx that concern the sender or the moment, not the content, if something before the API answered."""

EDGE_STATUSES: frozenset[int] = frozenset({408, 413, 414, 429})
"""Statuses that mean the same from the API and from a proxy. 401, 403, 404 and 409 count only in an envelope of the
API: an HTML page with status 404 must not be read as "the item does not exist"."""


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
            requested_s = retry_after_s(headers)
            after_s = remedy.after_s if requested_s is None else requested_s
            error = Blocked if remedy.action == "blocked" else Retry
            raise error(message, after_s=after_s, ambiguous=remedy.ambiguous, status=status)


def remedy_for(status: int, code: int | None) -> Remedy:
    """Return the remedy of an error that the API itself reports. code: None if it gives none."""
    # A status 4xx with a code that means "busy" comes from the service's framework, which refuses the request.
    if code is not None and code in CODES and not (CODES[code] is BUSY and 400 <= status < 500):
        return CODES[code]
    if status in STATUSES:
        return STATUSES[status]
    if status >= 500:
        return BUSY
    return REFUSED if 400 <= status < 500 else UNEXPECTED


def remedy_without_envelope(status: int) -> Remedy:
    """Return the remedy of an answer that is no envelope of the API, such as the page of a proxy."""
    if status in EDGE_STATUSES:
        return STATUSES[status]
    if status >= 500:
        return BUSY
    return STOPPED if 400 <= status < 500 and status not in PASSING_STATUSES else UNEXPECTED


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
    messages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Raw:
    """An answer that is no envelope: its body, and its headers with names in lower case."""

    content: bytes = field(repr=False)
    headers: Mapping[str, str]


def decode(status: int, headers: Mapping[str, str], body: bytes, context: Context) -> Answer:
    """Return the Answer of one response, or raise the error that it means. Header names are in lower case."""
    envelope = None if "cf-mitigated" in headers else _parse(body)
    if envelope is None or envelope["success"] is not True or not 200 <= status < 300:
        if envelope is not None and _is_partial(status, envelope, context):
            return Answer(envelope.get("result"), {}, _texts(envelope.get("errors"), context))
        fail(status, headers, body, context)
    info = envelope.get("result_info")
    if info is not None and not isinstance(info, dict):
        raise_error(UNEXPECTED, status, headers, "result_info is no object", context)
    return Answer(envelope.get("result"), info or {}, _texts(envelope.get("messages"), context))


def fail(status: int, headers: Mapping[str, str], body: bytes, context: Context) -> NoReturn:
    """Raise the error of a response that is no success, or of a success without an envelope."""
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
