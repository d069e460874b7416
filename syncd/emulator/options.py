"""What is undocumented about the real service, or a matter of taste, as values."""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Options:
    """How the stand-in behaves.

    store: the SQLite file; None keeps everything in memory, for the life of the app.
    token: the only accepted API token (or global key); None accepts any.
    on_existing: what an upload under an existing key meets: the item is overwritten, or the answer is 409/7042.
    checksum: the item's `checksum`: "opaque" is new at every write, "zero" is "0", md5 and sha256 are of the content.
    index_delay: seconds from an upload to its end of indexing; one half queued, one half running.
    fail_index: regular expression searched in the key; what matches ends with the status "error" for its content: a PDF
    as locked with a password, others as unable_to_convert_to_markdown.
    fail_index_transient: the same for errors that pass: the first fail_index_times indexings of what matches end in
    unknown_error, 0 means all of them.
    skip_index: regular expression searched in the key; what matches is stored, and ends with the status "skipped".
    slow_index: regular expression searched in the key; the indexing of what matches takes slow_index_delay seconds.
    list_lag: seconds by which the listings of items and of keys are behind.
    latency: seconds from a request to its answer, at least.
    metadata: "refuse" answers 7056 to every upload that brings metadata of its own, "declared" to one with a field that
    the instance does not declare, "texts" to one with a number or a boolean.
    list_metadata: False leaves `metadata` out of every item, as the API did before July 2026.
    create_instances: True makes an instance (and its namespace) spring into being on first use.

    Of KV alone:
    kv_write_limit: True answers 429 to a write (single or bulk) of a key that was written less than a second ago.
    unsuccessful: share, 0 to 1, of the keys of bulk writes and deletes that fail: nothing happens to them and they are
    named in unsuccessful_keys. Which ones follows from the key and the number of the attempt, so a retry may succeed.
    bulk_max_bytes: bulk bodies over this many bytes are answered 413; None leaves the service's own 100 MB.
    bulk_fail_over: bulk writes and deletes of more items than this are answered 524 in HTML, and nothing is stored.
    empty_pages: True puts a page without keys, but with a cursor, before every page of the listing of keys.

    Of Vectorize alone:
    mutation_lag: seconds from a change of an index, of its vectors or of its metadata indexes, until anyone sees it.
    """

    store: Path | None = None
    token: str | None = field(default=None, repr=False)
    on_existing: Literal["overwrite", "conflict"] = "overwrite"
    checksum: Literal["opaque", "zero", "md5", "sha256"] = "opaque"
    index_delay: float = 0.2
    fail_index: str | None = None
    fail_index_transient: str | None = None
    fail_index_times: int = 2
    skip_index: str | None = None
    slow_index: str | None = None
    slow_index_delay: float = 3600.0
    list_lag: float = 0
    latency: float = 0
    metadata: Literal["keep", "texts", "declared", "refuse"] = "keep"
    list_metadata: bool = True
    create_instances: bool = False
    kv_write_limit: bool = False
    unsuccessful: float = 0.0
    bulk_max_bytes: int | None = None
    bulk_fail_over: int | None = None
    empty_pages: bool = False
    mutation_lag: float = 0.2

    def __post_init__(self) -> None:
        """ValueError names the option that cannot be."""
        for name in ("index_delay", "slow_index_delay", "list_lag", "latency", "mutation_lag"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be 0 or more seconds")
        if not 0 <= self.unsuccessful <= 1:
            raise ValueError("unsuccessful must be from 0 to 1")
        for name in ("bulk_max_bytes", "bulk_fail_over", "fail_index_times"):
            if (getattr(self, name) or 0) < 0:
                raise ValueError(f"{name} must be 0 or more")
        for name in ("fail_index", "fail_index_transient", "skip_index", "slow_index"):
            try:
                re.compile(getattr(self, name) or "")
            except re.error as reason:
                raise ValueError(f"{name} is no regular expression: {reason}") from reason
