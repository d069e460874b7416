"""Shards: the part of the keys that a process is responsible for. PURE.

The shard of a key is a pure function of its bytes. So n processes split a mirror without communication, without a gap
and without an overlap, and other tools can compute the shard:

    int.from_bytes(sha256(key in UTF-8).digest()[:8], "big") % n

The key is the whole remote key with its prefix, in NFC. A remote key in another form is hashed as it is. The function
must never change, because a change would move keys between running processes.
"""

import re
from dataclasses import dataclass
from hashlib import sha256

MAX_SHARDS = 1024
"""Maximum shards (our own limit). Each shard is a process that walks the whole folder and lists the whole target."""
SHARD_REMEDY = (
    f'should be "i/n" with 0 <= i < n <= {MAX_SHARDS}, such as "0/4" for the first of four, or "" for all keys'
)
_FORM = re.compile(r"([0-9]{1,4})/([0-9]{1,4})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Shard:
    """Shard `index` of `count`. The index starts at 0, like an ordinal or a completion index of Kubernetes."""

    index: int
    count: int

    def holds(self, key: str) -> bool:
        """Return whether the key belongs to this shard."""
        return self.count == 1 or part(key, self.count) == self.index

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


WHOLE = Shard(0, 1)
"""All keys, for a process without `shard`."""


def part(key: str, count: int) -> int:
    """Return the index of the shard of a key among `count` shards."""
    # A key of another writer may contain half a surrogate pair.
    digest = sha256(key.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") % count


def parse(text: str) -> Shard:
    """Return the shard of "i/n", or WHOLE for "". Raises ValueError with the remedy."""
    if not text:
        return WHOLE
    match = _FORM.fullmatch(text)
    shard = Shard(int(match[1]), int(match[2])) if match else None
    if shard is None or not shard.index < shard.count <= MAX_SHARDS:
        raise ValueError(SHARD_REMEDY)
    return shard
