"""The error map as data: what each Cloudflare error code means for us.

Codes: AI Search "API error codes" and "Indexing error codes", Workers KV, Workers AI "Errors", global API; those of
Vectorize as others have met them, as they are not documented. A code that is not listed is judged by its HTTP status.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from syncd.model import ProblemKind

Action = Literal["halt", "auth", "missing", "park", "retry", "blocked", "not_found", "conflict"]


@dataclass(frozen=True, slots=True)
class Remedy:
    """What to do about an error.

    text: begins the message; `{permission}` is filled in. kind: of a Park. after_s: seconds a Retry waits when the
    answer names none. ambiguous: of a Retry.
    """

    action: Action
    text: str
    kind: ProblemKind = "refused"
    after_s: float | None = None
    ambiguous: bool = False


_AUTH = Remedy(
    "auth",
    "authentication refused: check the API token, that it has the permission {permission}, and account_id",
)
_BUSY = Remedy("retry", "Cloudflare could not do it now", ambiguous=True)
_BLOCKED = Remedy("retry", "over Cloudflare's request limit; lower tpslimit if this stays", after_s=300.0)
_NEURONS = Remedy("halt", "the Workers AI quota of this day is used up: wait for 00:00 UTC or upgrade the plan")
# Not halts, as the client of Workers AI makes them one that names the model.
_NO_MODEL = Remedy("not_found", "Workers AI has no such model")
_NO_ACCESS = Remedy("park", "the account may not use this model")

CODES: Mapping[int, Remedy] = {
    # who we are
    10000: _AUTH,
    9106: _AUTH,
    9109: _AUTH,
    6003: _AUTH,
    # where it should go
    7002: Remedy(
        "missing", "the AI Search instance is not there: `syncd check` shows its name, create = true makes it"
    ),
    7063: Remedy(
        "missing", "the AI Search namespace is not there: `syncd check` shows its name, create = true makes it"
    ),
    # Of a service that does not offer all that is asked for; nothing is gone.
    7000: Remedy("park", "Cloudflare has no such path"),
    7003: Remedy("halt", "Cloudflare knows no such path: check account_id, namespace and instance with `syncd check`"),
    7013: Remedy("halt", "the account has no room for another AI Search instance: delete one, or use an existing one"),
    7032: Remedy("halt", "the AI Search instance is paused: see its error in the dashboard and resume it"),
    7053: Remedy("halt", "the AI Search instance has no built-in storage: use a newly created instance"),
    7069: Remedy("halt", "the AI Search quota of this month is used up: wait for its reset or upgrade the plan"),
    10048: Remedy("halt", "the KV quota of this day is used up: wait for 00:00 UTC or upgrade the plan"),
    10013: Remedy("missing", "the KV namespace is not there: `syncd check` shows its name, create = true makes it"),
    3000: Remedy("missing", "the Vectorize index is not there: `syncd check` shows its name, create = true makes it"),
    3005: Remedy("missing", "the Vectorize index was deleted: create = true makes it anew"),
    40012: Remedy(
        "halt", "the vectors do not fit the Vectorize index: set a model of its dimensions, or another index"
    ),
    # which model
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
    # which item
    7041: Remedy("not_found", "the item is not there"),
    10009: Remedy("not_found", "the key is not there"),
    7042: Remedy("conflict", "the key exists already"),
    7022: Remedy("conflict", "the instance exists already"),
    10014: Remedy("conflict", "a KV namespace of this title exists already"),
    3002: Remedy("conflict", "a Vectorize index of this name exists already"),
    40005: Remedy("not_found", "the metadata index is not there"),
    # what is in it
    7054: Remedy("park", "the file is too large for the target", kind="too_large"),
    7060: Remedy("park", "the target does not take this file type", kind="unsupported_type"),
    7072: Remedy("park", "the key is too long for the target", kind="key_too_long"),
    7055: Remedy("park", "the upload was refused: no file part"),
    7056: Remedy("park", "the metadata was refused"),
    7058: Remedy("park", "the metadata filter was refused"),
    7059: Remedy("park", "the target gives out only what was uploaded to it"),
    3006: Remedy("park", "too much text for one request", kind="too_large"),
    3030: Remedy("park", "too much text for one request", kind="too_large"),
    5021: Remedy("park", "the text is too long for the model", kind="too_large"),
    # Of an upsert: too many vectors; of a query: a vector of other dimensions.
    40006: Remedy("park", "Vectorize refused the number of vectors, or of dimensions"),
    40007: Remedy("park", "too many ids for one request", kind="too_large"),
    40008: Remedy("park", "the id of a vector is too long"),
    40016: Remedy("park", "the metadata of a vector is too large"),
    40023: Remedy("park", "Vectorize could not read the vectors"),
    # try again
    7001: _BUSY,
    7009: _BUSY,
    7017: _BUSY,
    7044: _BUSY,
    7068: _BUSY,
    7114: _BUSY,
    7020: Remedy("retry", "a sync job ran less than 30 s ago", after_s=30.0),
    # 971 and 10100 refuse everything for the next five minutes, and come without Retry-After.
    971: _BLOCKED,
    10100: _BLOCKED,
    10429: Remedy("retry", "Cloudflare asks for fewer requests"),
    40041: Remedy("retry", "Vectorize asks for fewer requests"),  # comes with 400 too
    3040: Remedy("retry", "Workers AI has no capacity left at the moment"),
}

STATUSES: Mapping[int, Remedy] = {
    401: _AUTH,
    402: Remedy("halt", "Cloudflare asks for payment: see the account's billing"),
    403: _AUTH,
    404: Remedy("retry", "Cloudflare says that something is not there, but not what; check base_url if this stays"),
    408: _BUSY,
    409: Remedy("conflict", "exists already"),
    413: Remedy("park", "too large for the target", kind="too_large"),
    414: Remedy("park", "the key is too long for the target", kind="key_too_long"),
    429: Remedy("retry", "Cloudflare asks for fewer requests"),
}

REFUSED = Remedy("park", "refused")
BUSY = _BUSY
REDIRECTED = Remedy("blocked", "redirected, which the API never does: check base_url and the network")
CHALLENGED = Remedy("blocked", "stopped by a bot challenge before it reached the API: allow this host in the firewall")
UNEXPECTED = Remedy("retry", "unexpected answer", ambiguous=True)
STOPPED = Remedy(
    "blocked", "refused before it reached the API: see the proxies and firewalls on the way", ambiguous=True
)

PASSING_STATUSES: frozenset[int] = frozenset({401, 407, 425})
"""Statuses 4xx that speak of the sender or the moment, never of what was sent, when the API did not say so itself."""

EDGE_STATUSES: frozenset[int] = frozenset({408, 413, 414, 429})
"""Statuses that mean the same whoever answered. 401, 403, 404, 409 count only when the API itself said so: an HTML
404 of something in between must never read as "the item is gone"."""
