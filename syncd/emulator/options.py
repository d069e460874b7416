"""What is undocumented about the real service, or a matter of taste, as values."""

import math
import re
from dataclasses import dataclass
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
    fail_index: regular expression searched in the key; what matches ends with the status "error".
    list_lag: seconds by which the item listing is behind.
    latency: seconds before any request is looked at.
    metadata: "refuse" answers 7056 to every upload that brings metadata of its own.
    list_metadata: False leaves `metadata` out of every item, as the API did before July 2026.
    create_instances: True makes an instance (and its namespace) spring into being on first use.
    """

    store: Path | None = None
    token: str | None = None
    on_existing: Literal["overwrite", "conflict"] = "overwrite"
    checksum: Literal["opaque", "zero", "md5", "sha256"] = "opaque"
    index_delay: float = 0.2
    fail_index: str | None = None
    list_lag: float = 0
    latency: float = 0
    metadata: Literal["keep", "refuse"] = "keep"
    list_metadata: bool = True
    create_instances: bool = False

    def __post_init__(self) -> None:
        """ValueError names the option that cannot be."""
        for name in ("index_delay", "list_lag", "latency"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be 0 or more seconds")
        try:
            re.compile(self.fail_index or "")
        except re.error as reason:
            raise ValueError(f"fail_index is no regular expression: {reason}") from reason
