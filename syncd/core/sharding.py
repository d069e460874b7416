"""Which part of the keys a process answers for. PURE.

The part of a key is a pure function of its bytes, so that n processes that never talk to each other split a mirror
without a gap and without an overlap, and so that other tools can compute it, too:

    int.from_bytes(sha256(key in UTF-8).digest()[:8], "big") % n

The key is the whole remote name, prefix included, in NFC like every key that syncd writes. A key that stands at the
remote in another form is hashed as it stands. This may never change: it would hand keys over between running processes.
"""

import re
from dataclasses import dataclass
from hashlib import sha256

MAX_SHARDS = 1024
"""Parts at most: each part is a process that walks the whole folder and lists the whole target."""
SHARD_REMEDY = (
    f'should be "i/n" with 0 <= i < n <= {MAX_SHARDS}, such as "0/4" for the first of four, or "" for all keys'
)
_FORM = re.compile(r"([0-9]{1,4})/([0-9]{1,4})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Shard:
    """Part `index` of `count`, counted from 0 as Kubernetes counts its ordinals and completion indexes."""

    index: int
    count: int

    def holds(self, key: str) -> bool:
        """True if the key falls into this part."""
        return self.count == 1 or part(key, self.count) == self.index

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


WHOLE = Shard(0, 1)
"""All keys: what a process without `shard` answers for."""


def part(key: str, count: int) -> int:
    """The part of `count` that a key falls into."""
    # A stranger's key may hold half a surrogate pair.
    digest = sha256(key.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") % count


def parse(text: str) -> Shard:
    """The shard that "i/n" names, or WHOLE for "". Raises ValueError saying what would be right."""
    if not text:
        return WHOLE
    found = _FORM.fullmatch(text)
    shard = Shard(int(found[1]), int(found[2])) if found else None
    if shard is None or not shard.index < shard.count <= MAX_SHARDS:
        raise ValueError(SHARD_REMEDY)
    return shard
