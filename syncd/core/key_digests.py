"""Digests of keys: the short name of a key that is too long for a target, and the shard of a key.

A short name is readable and proves the full key:

    guides/installation/a-very-long-na~3fa9c1d27b04~-the-whole-story.md
    start of the key                   its digest   end of the file name

The metadata of the entry contains the full key. syncd believes it only if it has the digest in the name.

The shard of a key is a pure function of its bytes. So n processes split a mirror without communication, without a gap
and without an overlap, and other tools can compute the shard:

    int.from_bytes(sha256(key in UTF-8).digest()[:8], "big") % n

The key is the whole remote key with its prefix, in NFC. A remote key in another form is hashed as it is. The function
must never change, because a change would move keys between running processes.
"""

import re
import unicodedata
from dataclasses import dataclass
from hashlib import sha256

from syncd.core.forms import SUFFIXES, keys_of

FULL_KEY_FIELD = "path"
"""The metadata field with the full key of an entry that has a short name."""
DIGITS = 12
"""Hex digits of the digest. In a folder of a million long keys that start and end alike, two collide with p = 1/500."""
LEAST_LENGTH = 64
"""Minimum characters of a short name. A shorter name is not readable and may lose its file name ending."""
MAX_SHARDS = 1024
"""Maximum shards (our own limit). Each shard is a process that walks the whole folder and lists the whole target."""
SHARD_REMEDY = (
    f'should be "i/n" with 0 <= i < n <= {MAX_SHARDS}, such as "0/4" for the first of four, or "" for all keys'
)
_SHARD = re.compile(r"([0-9]{1,4})/([0-9]{1,4})", re.ASCII)
_MARKED = re.compile(rf"~[0-9a-f]{{{DIGITS}}}~[^/]*\Z")


def prefix_of(key: str, marked_length: object) -> str:
    """Return the key prefix of the mirror that wrote an entry. marked_length: its length in the mark of the entry."""
    length = marked_length
    if isinstance(length, str) and length.isdecimal() and len(length) < 5:
        length = int(length)
    return key[:length] if isinstance(length, int) and 0 <= length <= len(key) else ""


def remote_name(key: str, length: int, max_bytes: int | None = None) -> str:
    """Return the key if it fits, else a short name of at most `length` characters and `max_bytes` bytes of UTF-8.

    A key that looks like a short name gets a short name too, so that two keys never have the same name.
    """
    if fits(key, length, max_bytes) and not looks_shortened(key):
        return key
    mark = _mark(key)
    room, room_bytes = length - len(mark), None if max_bytes is None else max_bytes - len(mark)
    tail = _end(key.rpartition("/")[2], room // 3, None if room_bytes is None else room_bytes // 3)
    left = None if room_bytes is None else room_bytes - len(tail.encode())
    return truncated(key[: len(key) - len(tail)], room - len(tail), left) + mark + tail


def full_key(name: str, marked_key: object) -> str:
    """Return the key of the entry with this name. marked_key: the full key in its metadata.

    The name is the key, its short name, or either of them for the key with the suffix of a form (core/forms.py).
    """
    if not isinstance(marked_key, str):
        return name
    if marked_key in keys_of(name):
        return marked_key
    whole = (marked_key, *(marked_key + suffix for suffix in SUFFIXES.values()))
    return marked_key if looks_shortened(name) and any(_is_short_name(name, each) for each in whole) else name


def _is_short_name(name: str, whole: str) -> bool:
    """Return whether a name is the short name of another name."""
    try:
        head, mark, tail = name.partition(_mark(whole))
    except UnicodeEncodeError:
        return False
    proved = bool(mark) and "/" not in tail and len(head) + len(tail) <= len(whole)
    return proved and whole.startswith(head) and whole.endswith(tail)


def looks_shortened(name: str) -> bool:
    """Return whether a name has the form of a short name."""
    return "~" in name and _MARKED.search(name) is not None


def fits(key: str, length: int, max_bytes: int | None = None) -> bool:
    """Return whether a key is within the limits of a target."""
    return len(key) <= length and (max_bytes is None or len(key.encode()) <= max_bytes)


def keeps_prefix(prefix: str, length: int, max_bytes: int | None = None) -> bool:
    """Return whether the short name of every key with this prefix starts with the prefix."""
    room, room_bytes = length - DIGITS - 2, None if max_bytes is None else max_bytes - DIGITS - 2
    return fits(prefix, room - room // 3, None if room_bytes is None else room_bytes - room_bytes // 3)


def truncated(text: str, length: int, max_bytes: int | None = None) -> str:
    """Return the start of a text, at most `length` characters and `max_bytes` bytes of UTF-8."""
    text = text[:length]
    if max_bytes is None or len(encoded := text.encode()) <= max_bytes:
        return text
    return encoded[:max_bytes].decode("utf-8", "ignore")


def _end(text: str, length: int, max_bytes: int | None) -> str:
    text = text[max(0, len(text) - length) :]
    if max_bytes is not None and len(encoded := text.encode()) > max_bytes:
        text = encoded[len(encoded) - max_bytes :].decode("utf-8", "ignore")
    # A combining accent without its letter would combine with the character before it.
    while text and unicodedata.combining(text[0]):
        text = text[1:]
    return text


def _mark(key: str) -> str:
    return f"~{sha256(key.encode()).hexdigest()[:DIGITS]}~"


# -- shards


@dataclass(frozen=True, slots=True)
class Shard:
    """Shard `index` of `count`. The index starts at 0, like an ordinal or a completion index of Kubernetes."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Return the shard of "i/n", or WHOLE for "". Raises ValueError with the remedy."""
        if not text:
            return WHOLE
        match = _SHARD.fullmatch(text)
        shard = cls(int(match[1]), int(match[2])) if match else None
        if shard is None or not shard.index < shard.count <= MAX_SHARDS:
            raise ValueError(SHARD_REMEDY)
        return shard

    def holds(self, key: str) -> bool:
        """Return whether the key belongs to this shard."""
        return self.count == 1 or shard_index(key, self.count) == self.index

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


WHOLE = Shard(0, 1)
"""All keys, for a process without `shard`."""


def shard_index(key: str, count: int) -> int:
    """Return the index of the shard of a key among `count` shards."""
    # A key of another writer may contain half a surrogate pair.
    digest = sha256(key.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") % count
