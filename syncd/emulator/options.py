"""The options of the stand-in: behaviour of the service that is undocumented or differs between accounts."""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from syncd.emulator.ai_search_files import INDEXING_ERRORS
from syncd.emulator.quota import read_quota

FormNames = Literal["backslash", "percent"]

_SLOW_EXPRESSION = re.compile(r"\)[*+{]|(?:[*+{].*){4}", re.DOTALL)
"""An expression that repeats a group, or that has more than three repeats. Such a search can take years for one key."""


@dataclass(frozen=True, kw_only=True)
class EmulatorOptions:
    r"""How the stand-in behaves.

    store: the SQLite file; None keeps the data in memory for the life of the app.
    token: the only accepted API token (or global key); None accepts any.
    on_existing: the answer to an upload under an existing key: "overwrite" replaces the item, "conflict" is 409/7042.
    overwritten_id: the id of an item after an overwrite: "keep" is the former one, "new" another one.
    form_names: how the filename of an upload is read: "backslash" takes \ as an escape and %22 as it is, "percent"
    takes %22, %0A and %0D as escapes and \ as it is.
    delete_delay: seconds until a deleted item is gone. Until then it is shown with next_action "DELETE" and found.
    checksum: the field `checksum` of an item: "opaque" is new at every write, "zero" is "0", "md5" and "sha256" are
    digests of the content.
    index_delay: seconds from an upload to the end of indexing; the first half is "queued", the second half "running".
    fail_index: a regular expression. Indexing of each key in which it is found ends with the status "error": a PDF as
    locked with a password, any other file as unable_to_convert_to_markdown.
    fail_index_transient: a regular expression. The first fail_index_times indexings of each key in which it is found
    end in unknown_error; 0 means every indexing.
    skip_index: a regular expression. Each key in which it is found is stored and ends with the status "skipped".
    index_error: texts REGEX=CODE. Indexing of each key in which the expression is found ends with this documented
    error; the first text that matches decides. An error that concerns the instance pauses it, too.
    slow_index: a regular expression. Indexing of each key in which it is found takes slow_index_delay seconds.
    list_lag: seconds by which the listings of items and of keys are behind.
    latency: the least number of seconds from a request to its answer.
    quota: "N/S", e.g. "1200/300": more than N requests in any S seconds are answered 429/971, as are all requests of
    the next S seconds. None: no limit.
    quota_headers: False omits the Ratelimit headers from answers under a quota; Retry-After remains.
    permissions: the permissions of the token for AI Search. Without "run", searches are refused with 10000. Without
    "edit", all other requests are refused. permission_status: the HTTP status of this refusal, which is undocumented.
    paused: True pauses each instance until a client updates it with {"paused": false}.
    show_defaults: False omits the settings of an instance that no client has set from answers.
    builtin_storage: False makes instances that cannot take uploads (7053), like instances from before 2026-04-16.
    permanent: the answer to an update of an instance that changes its embedding model or type, which is undocumented:
    "refuse" is 400/7001, "ignore" keeps the old value.
    oversize: the answer to an upload over the limit of its type: "refuse" is 413/7054, "skip" stores an item with the
    status "skipped", "error" stores an item with the error over_size.
    search_cache: True keeps the answers of searches, and answers a similar query from them, as the service does.
    fail_search: True fails the retrieval of every search: an empty list, or 500/7073 if return_on_failure is false.
    metadata: "refuse" answers 7056 to an upload with custom metadata, "declared" to an upload with a field that the
    instance does not declare, "texts" to an upload with a number or a boolean.
    degraded: True answers statistics without counts, with `degraded` true.
    list_metadata: False omits `metadata` from every item, as the API did before July 2026.

    For KV only:
    kv_write_limit: True answers 429 to a write (single or bulk) of a key that was written less than a second ago.
    unsuccessful: the share, 0 to 1, of the keys of bulk writes and deletes that fail. A failed key is unchanged and is
    listed in unsuccessful_keys. A retry may succeed.
    bulk_max_bytes: a bulk body of more bytes is answered 413; None means the limit of the service, 100 MB.
    bulk_fail_over: a bulk write or delete of more items is answered 524 in HTML and stores nothing.
    empty_pages: True inserts a page without keys, but with a cursor, before every page of the listing of keys.

    For Vectorize only:
    mutation_lag: seconds until a change of vectors or of metadata indexes is visible.
    """

    store: Path | None = None
    token: str | None = field(default=None, repr=False)
    on_existing: Literal["overwrite", "conflict"] = "overwrite"
    overwritten_id: Literal["keep", "new"] = "keep"
    form_names: FormNames = "backslash"
    delete_delay: float = 0
    checksum: Literal["opaque", "zero", "md5", "sha256"] = "opaque"
    index_delay: float = 0.2
    fail_index: str | None = None
    fail_index_transient: str | None = None
    fail_index_times: int = 2
    skip_index: str | None = None
    slow_index: str | None = None
    slow_index_delay: float = 3600.0
    index_error: tuple[str, ...] = ()
    list_lag: float = 0
    latency: float = 0
    quota: str | None = None
    quota_headers: bool = True
    permissions: Literal["edit+run", "edit", "run"] = "edit+run"
    permission_status: Literal[403, 401] = 403
    paused: bool = False
    show_defaults: bool = True
    builtin_storage: bool = True
    permanent: Literal["refuse", "ignore"] = "refuse"
    oversize: Literal["refuse", "skip", "error"] = "refuse"
    search_cache: bool = True
    fail_search: bool = False
    metadata: Literal["keep", "texts", "declared", "refuse"] = "keep"
    list_metadata: bool = True
    degraded: bool = False
    kv_write_limit: bool = False
    unsuccessful: float = 0.0
    bulk_max_bytes: int | None = None
    bulk_fail_over: int | None = None
    empty_pages: bool = False
    mutation_lag: float = 0.2

    def __post_init__(self) -> None:
        """Raise ValueError, which names the option, for a value out of range."""
        for name in ("index_delay", "slow_index_delay", "delete_delay", "list_lag", "latency", "mutation_lag"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be 0 or more seconds")
        if not 0 <= self.unsuccessful <= 1:
            raise ValueError("unsuccessful must be from 0 to 1")
        for name in ("bulk_max_bytes", "bulk_fail_over", "fail_index_times"):
            if (getattr(self, name) or 0) < 0:
                raise ValueError(f"{name} must be 0 or more")
        for name in ("fail_index", "fail_index_transient", "skip_index", "slow_index"):
            _check_expression(name, getattr(self, name) or "")
        for text in self.index_error:
            expression, equals, code = text.rpartition("=")
            if not equals or code not in INDEXING_ERRORS:
                raise ValueError(f"index_error must be REGEX=CODE with one of {', '.join(INDEXING_ERRORS)}")
            _check_expression("index_error", expression)
        if self.quota is not None:
            read_quota(self.quota)

    def chosen_error(self, key: str) -> str | None:
        """Return the error that the option index_error gives to this key, or None."""
        pairs = (text.rpartition("=") for text in self.index_error)
        return next((code for expression, _, code in pairs if matches(expression, key)), None)


def _check_expression(name: str, expression: str) -> None:
    try:
        re.compile(expression)
    except re.error as reason:
        raise ValueError(f"{name} is not a regular expression: {reason}") from reason
    if _SLOW_EXPRESSION.search(expression):
        raise ValueError(f"{name} may have three repeats (*, +, {{}}) and may not repeat a group; simplify it")


def matches(expression: str | None, key: str) -> bool:
    """Return whether the regular expression of an option is found in the key. None is never found."""
    return expression is not None and re.search(expression, key) is not None
