"""The error codes of the API and the HTTP statuses, and the remedy that each of them stands for.

The error codes come from AI Search ("API error codes", October 2026), Workers KV, Workers AI ("Errors") and the global
API. Vectorize documents no codes; its codes come from reports of users. A code that is not listed here is judged by
its HTTP status.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from syncd.core.errors import RetryScope
from syncd.core.model import ProblemKind

ErrorAction = Literal[
    "halt", "day_quota", "paused", "auth", "missing", "park", "retry", "later", "blocked", "not_found", "conflict"
]

ALLOCATION_PAUSE_S = 900.0
"""Seconds before a request is made again after 402/7094. AI Search says "retry later" and names no time."""


@dataclass(frozen=True, slots=True)
class Remedy:
    """The error that an answer means.

    text: the beginning of the message; `{permission}` is filled in. kind: problem kind of a Park. after_s: seconds
    that a Retry waits if the answer names none. ambiguous: whether a Retry is ambiguous. scope: see Retry.
    """

    action: ErrorAction
    text: str
    kind: ProblemKind = "refused"
    after_s: float | None = None
    ambiguous: bool = False
    scope: RetryScope = "account"


PAUSED = "the AI Search instance is paused: see its error in the dashboard, and resume it; syncd then goes on by itself"
_AUTH = Remedy(
    "auth",
    "authentication refused: check the API token, its permission {permission}, and account_id",
)
BUSY = Remedy("retry", "Cloudflare could not carry out the request now", ambiguous=True)
_BLOCKED = Remedy("retry", "over Cloudflare's request limit; lower quota if this goes on", after_s=300.0)
_NEURONS = Remedy("day_quota", "the Workers AI quota of this day is used up: wait for 00:00 UTC or upgrade the plan")
# The client of Workers AI turns these two into a Halt that names the model.
_NO_MODEL = Remedy("not_found", "Workers AI has no such model")
_NO_ACCESS = Remedy("park", "the account may not use this model")
# AI Search reports a time-out of a model with status 400, and documents "retry" for it.
_MODEL_TIMEOUT = Remedy("retry", "a model behind AI Search took too long", ambiguous=True)
_CHANGED_MEANWHILE = Remedy("retry", "another request changed it at the same time", scope="request")
_OVERLOADED = Remedy("retry", "the AI Search instance is overloaded and asks for fewer requests", scope="instance")

NO_ACCESS_CODES: frozenset[int] = frozenset({3041, 5016, 5018, 5028, 5035})
"""Codes of a model that this account may not use: private, retired, on another plan, or without agreement."""

CODES: Mapping[int, Remedy] = {
    **dict.fromkeys((10000, 9106, 9109, 6003), _AUTH),
    # The target.
    7002: Remedy(
        "missing",
        "the AI Search instance does not exist: correct its name, or set create = true and run syncd reconcile",
    ),
    7063: Remedy(
        "missing",
        "the AI Search namespace does not exist: correct its name, or set create = true and run syncd reconcile",
    ),
    # A service answers 7000 for an endpoint that it does not offer. The target still exists.
    7000: Remedy("park", "Cloudflare does not offer this endpoint"),
    7003: Remedy(
        "halt", "Cloudflare does not know this path: check account_id, namespace and instance with `syncd check`"
    ),
    7012: Remedy("halt", "AI Search refuses the service token of the instance: register another one in the dashboard"),
    7013: Remedy("halt", "the account has no room for another AI Search instance: delete one, or use an existing one"),
    7018: Remedy("halt", "the AI Gateway of the instance does not exist: set ai_gateway_id to an existing gateway"),
    7032: Remedy("paused", PAUSED),
    7053: Remedy("halt", "the AI Search instance has no built-in storage: use a newly created instance"),
    7062: Remedy("halt", "the account has no room for another AI Search namespace: delete one, or use an existing one"),
    7066: Remedy("park", "the AI Search namespace is not empty: move or delete its instances first"),
    7069: Remedy("halt", "the AI Search quota of this month is used up: wait for its reset or upgrade the plan"),
    10048: Remedy("day_quota", "the KV quota of this day is used up: wait for 00:00 UTC or upgrade the plan"),
    10013: Remedy(
        "missing",
        "the KV namespace does not exist: correct its name, or set create = true and run syncd reconcile",
    ),
    3000: Remedy(
        "missing",
        "the Vectorize index does not exist: correct its name, or set create = true and run syncd reconcile",
    ),
    3005: Remedy("missing", "the Vectorize index was deleted: create = true creates a new one"),
    40012: Remedy(
        "halt", "the vectors do not fit the Vectorize index: set a model of its dimensions, or another index"
    ),
    # The model.
    **dict.fromkeys((5007, 3042), _NO_MODEL),
    **dict.fromkeys(NO_ACCESS_CODES, _NO_ACCESS),
    **dict.fromkeys((3036, 4006), _NEURONS),
    3023: Remedy("halt", "Workers AI is blocked for this account: see the account's notices in the dashboard"),
    # The models behind AI Search. The API token is not the cause of these refusals.
    7010: Remedy("park", "AI Search does not know the model: set a supported one on the instance"),
    7019: Remedy("park", "Workers AI refused the request of AI Search: check the models of the instance"),
    7071: Remedy(
        "halt",
        "AI Search cannot use its own Vectorize index: check the instance and its service token in the dashboard",
    ),
    7077: Remedy(
        "halt", "AI Gateway refuses the credentials of the model provider: check the provider's key in AI Gateway"
    ),
    7078: Remedy("halt", "the model provider asks for payment: check the provider's billing in AI Gateway"),
    7079: Remedy("park", "the text is too long for the model: use a shorter one"),
    7117: Remedy("halt", "AI Gateway has no credentials of the model provider: add the provider's key in AI Gateway"),
    2016: Remedy("park", "Guardrails of AI Gateway blocked the prompt: see the rules of the gateway"),
    2017: Remedy("park", "Guardrails of AI Gateway blocked the answer: see the rules of the gateway"),
    # The item.
    7041: Remedy("not_found", "the item does not exist"),
    7021: Remedy("not_found", "the job does not exist"),
    7075: Remedy("not_found", "the service token does not exist"),
    10009: Remedy("not_found", "the key does not exist"),
    7042: Remedy("conflict", "the key exists already"),
    7022: Remedy("conflict", "the instance exists already"),
    7064: Remedy("conflict", "the namespace exists already"),
    10014: Remedy("conflict", "a KV namespace with this title exists already"),
    3002: Remedy("conflict", "a Vectorize index with this name exists already"),
    40005: Remedy("not_found", "the metadata index does not exist"),
    # The content.
    7054: Remedy("park", "the file is too large for the target", kind="too_large"),
    7060: Remedy("park", "the target does not take this file type", kind="unsupported_type"),
    7072: Remedy("park", "the key is too long for the target", kind="key_too_long"),
    7036: Remedy("park", "the embedding model does not take this chunk_size: set a smaller one"),
    7055: Remedy("park", "the upload was refused: no file part"),
    7056: Remedy("park", "the metadata was refused"),
    7058: Remedy("park", "the metadata filter was refused"),
    7059: Remedy("park", "the target returns only files that were uploaded to it"),
    7070: Remedy("park", "the instance has no index for this kind of search: see its index_method"),
    7100: Remedy("park", "the target has no full text of this page"),
    7105: Remedy("park", "the filter names a field that the instance does not declare"),
    3006: Remedy("park", "too much text for one request", kind="too_large"),
    3030: Remedy("park", "too much text for one request", kind="too_large"),
    5021: Remedy("park", "the text is too long for the model", kind="too_large"),
    # In an upsert 40006 means too many vectors, in a query a vector of other dimensions.
    40006: Remedy("park", "Vectorize refused the number of vectors, or of dimensions"),
    40007: Remedy("park", "too many ids for one request", kind="too_large"),
    40008: Remedy("park", "the id of a vector is too long"),
    40016: Remedy("park", "the metadata of a vector is too large"),
    40023: Remedy("park", "Vectorize could not read the vectors"),
    # Temporary failures.
    **dict.fromkeys((7001, 7009, 7017, 7044, 7068, 7115), BUSY),
    7073: Remedy("retry", "every search method of the instance failed", ambiguous=True),
    # 7095 and 7114 have status 429. They concern one item or one instance, so other requests go on.
    7095: Remedy("retry", "AI Search asks to write this item later", scope="request"),
    7114: _OVERLOADED,
    **dict.fromkeys((7099, 7104), _CHANGED_MEANWHILE),
    **dict.fromkeys((7030, 7031), _MODEL_TIMEOUT),
    7094: Remedy(
        "later",
        "AI Search has used up its allocation of Workers AI: syncd tries again later; contact support if this goes on",
        after_s=ALLOCATION_PAUSE_S,
        scope="request",
    ),
    7113: Remedy("retry", "the connection ended before AI Search had the whole file", ambiguous=True, scope="request"),
    7020: Remedy("retry", "a sync job ran less than 30 s ago", after_s=30.0, scope="request"),
    # After 971 and 10100 Cloudflare refuses every request for five minutes. They come without Retry-After.
    **dict.fromkeys((971, 10100), _BLOCKED),
    10429: Remedy("retry", "Cloudflare asks for fewer requests"),
    40041: Remedy("retry", "Vectorize asks for fewer requests"),  # also comes with status 400
    3040: Remedy("retry", "Workers AI has no capacity left at the moment"),
}

LIMIT_CODES: frozenset[int] = frozenset({7069, 7020, 7095, 7114, 10048, 3036, 4006, 3040, 971, 10100, 10429, 40041})
"""Codes that are documented with status 429, or observed with it. A 429 with any other code is a rate limit."""
_SERVICE_CODES: frozenset[int] = frozenset(code for code, remedy in CODES.items() if remedy in (BUSY, _OVERLOADED))
"""Codes of trouble in the service. With a status 4xx they come from its framework, which refuses the request."""
_CERTAIN: frozenset[ErrorAction] = frozenset(
    {"auth", "halt", "day_quota", "paused", "missing", "not_found", "conflict"}
)
"""Actions that need an answer of the service. A service in trouble (5xx) cannot be certain of them."""

STATUSES: Mapping[int, Remedy] = {
    401: _AUTH,
    402: Remedy("halt", "Cloudflare asks for payment: see the account's billing"),
    403: _AUTH,
    404: Remedy(
        "retry", "Cloudflare reports 404 without an error code that syncd knows; check base_url if this goes on"
    ),
    408: BUSY,
    409: Remedy("conflict", "exists already"),
    413: Remedy("park", "too large for the target", kind="too_large"),
    414: Remedy("park", "the key is too long for the target", kind="key_too_long"),
    429: Remedy("retry", "Cloudflare asks for fewer requests"),
    499: Remedy("retry", "Cloudflare saw the connection end before the whole request", ambiguous=True),
}

REFUSED = Remedy("park", "refused")
REDIRECTED = Remedy("blocked", "redirected; the API never redirects: check base_url and the network")
CHALLENGED = Remedy("blocked", "stopped by a bot challenge before it reached the API: allow this host in the firewall")
UNEXPECTED = Remedy("retry", "unexpected answer", ambiguous=True)
NOT_THE_API = Remedy(
    "retry", "the answer does not come from the API: check base_url, and the proxies on the way", ambiguous=True
)
STOPPED = Remedy(
    "blocked",
    "refused before it reached the API: check base_url, and the proxies and firewalls on the way",
    ambiguous=True,
)

PASSING_STATUSES: frozenset[int] = frozenset({401, 407, 425, 499})
"""Statuses 4xx that concern the sender or the moment, not the content, if a proxy and not the API answered."""

EDGE_STATUSES: frozenset[int] = frozenset({408, 413, 414, 429})
"""Statuses that mean the same from the API and from a proxy. 401, 403, 404 and 409 count only in an envelope of the
API: an HTML page with status 404 must not be read as "the item does not exist"."""


def remedy_for(status: int, code: int | None) -> Remedy:
    """Return the remedy of an error that the API itself reports. code: None if it gives none."""
    remedy = CODES.get(code) if code is not None else None
    if remedy is None or not _counts(status, code, remedy):
        return _by_status(status)
    # After an answer of a service in trouble (5xx), it is unknown whether the request was carried out.
    return replace(remedy, ambiguous=True) if status >= 500 and remedy.action == "retry" else remedy


def _counts(status: int, code: int | None, remedy: Remedy) -> bool:
    """Return whether a code counts with this status, so that the status alone does not decide."""
    if status == 429:
        return code in LIMIT_CODES
    if status >= 500:
        return remedy.action not in _CERTAIN
    return not (400 <= status < 500 and code in _SERVICE_CODES)


def _by_status(status: int) -> Remedy:
    if status in STATUSES:
        return STATUSES[status]
    if status >= 500:
        return BUSY
    return REFUSED if 400 <= status < 500 else UNEXPECTED


def remedy_without_envelope(status: int, *, json: bool) -> Remedy:
    """Return the remedy of an answer that is no envelope of the API, such as the page of a proxy.

    json: the answer claims to be JSON, so it may be one of the API that was cut short.
    """
    if status in EDGE_STATUSES:
        return STATUSES[status]
    if status >= 500:
        return BUSY
    if status < 300 and not json:
        return NOT_THE_API
    return STOPPED if 400 <= status < 500 and status not in PASSING_STATUSES else UNEXPECTED
