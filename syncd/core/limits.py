"""The limits of a target: the lengths of keys, the sizes and types of files. PURE."""

from dataclasses import dataclass

from syncd.core.model import Problem
from syncd.core.plain_text import megabytes

KV_KEY_BYTES = 512
"""Longest key of Workers KV, in bytes of UTF-8 (KV limits)."""
_SHORTEN = 'long_names = "shorten"'


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a target.

    max_key_length: characters of a key. max_key_bytes: bytes of a key in UTF-8, None for no limit.
    max_file_size: bytes of a file.
    lag_s: seconds for which a listing may miss a write of our own. reads_lag: whether a request for a single key has
    the same lag.
    extensions: the file name endings that the target indexes, in lower case with a dot; None for all.
    empty: whether the target takes empty files. keeps_files: whether it returns stored bytes unchanged.
    turn, delete_turn: puts and deletes in one batch.
    page: entries in one request of a listing; None if a request for a single key costs nothing.
    listed: files in one request of a listing, for forecasts.
    long_key_length, long_key_bytes: the limits of a key that the target stores under a shortened name
    (core/short_names.py); None if the target does not shorten names.
    renew_s: seconds after which an entry is written again before it expires; None if entries do not expire.
    """

    max_key_length: int = 128
    max_file_size: int = 4 * 1024 * 1024
    lag_s: float = 0.0
    extensions: frozenset[str] | None = None
    empty: bool = True
    max_key_bytes: int | None = None
    turn: int = 256
    delete_turn: int = 256
    reads_lag: bool = False
    keeps_files: bool = True
    page: int | None = None
    long_key_length: int | None = None
    long_key_bytes: int | None = None
    listed: int = 1000
    renew_s: float | None = None

    def refuse(self, key: str, size: int) -> Problem | None:
        """Return the problem of a file with this key and size in bytes. None: the target takes the file."""
        if over := self._too_long(key):
            return Problem(key, "key_too_long", over)
        if not self._takes_type(key):
            return Problem(key, "unsupported_type", "the target does not index this type of file")
        if size > self.max_file_size:
            over = f"{megabytes(size)} is over the target's {megabytes(self.max_file_size)}"
            return Problem(key, "too_large", f"{over}; make the file smaller, or raise max_file_size")
        if size == 0 and not self.empty:
            return Problem(key, "empty", "the file is empty, so there is nothing to index")
        return None

    def _too_long(self, key: str) -> str | None:
        length, most_bytes, remedy = self.long_key_length, self.long_key_bytes, "shorten it"
        if length is None:
            length, most_bytes, remedy = self.max_key_length, self.max_key_bytes, f"{remedy}, or set {_SHORTEN}"
        if len(key) > length:
            return f"the name has {len(key)} characters, the target takes {length}; {remedy}"
        if most_bytes is not None and len(key.encode()) > most_bytes:
            return f"the name has {len(key.encode())} bytes, the target takes {most_bytes}; {remedy}"
        return None

    def _takes_type(self, key: str) -> bool:
        if self.extensions is None:
            return True
        name = key.rpartition("/")[2].lower()
        parts = name.split(".")
        # ".gitignore" consists of an ending only. "a.log.gz" has two endings: ".log.gz" and ".gz".
        return any("." + ".".join(parts[start:]) in self.extensions for start in range(1, len(parts)))
