"""Names for keys that a target finds too long: readable, and with a proof of the full key. PURE.

    guides/installation/a-very-long-na~3fa9c1d27b04~-the-whole-story.md
    start of the key                   its digest   end of the file's name

The full key stands in the entry's metadata. It counts only if the name proves it, so a forged one leads nowhere.
"""

import hashlib
import re
import unicodedata

FULL_KEY_FIELD = "path"
"""The metadata field that holds the full key of an entry with a shortened name."""
DIGITS = 12
"""Hex digits of the digest: of a million long keys that begin and end alike, two share a name once in 500 folders."""
LEAST_LENGTH = 64
"""Characters that a shortened name must at least be given, so that it can be read and keeps any known ending."""

_MARKED = re.compile(rf"~[0-9a-f]{{{DIGITS}}}~[^/]*\Z")


def prefix_of(key: str, said: object) -> str:
    """The key prefix under which an entry of syncd's was written. said: its length, by the entry's own marks."""
    length = int(said) if isinstance(said, str) and said.isdecimal() and len(said) < 5 else said
    return key[:length] if isinstance(length, int) and 0 <= length <= len(key) else ""


def remote_name(key: str, length: int, max_bytes: int | None = None) -> str:
    """The key itself if it fits, else a name of at most `length` characters and `max_bytes` bytes of UTF-8.

    A key that looks like a shortened one gets a name of its own too, so that no key takes another one's.
    """
    if fits(key, length, max_bytes) and not looks_shortened(key):
        return key
    mark = _mark(key)
    room, room_bytes = length - len(mark), None if max_bytes is None else max_bytes - len(mark)
    tail = _end(key.rpartition("/")[2], room // 3, None if room_bytes is None else room_bytes // 3)
    left = None if room_bytes is None else room_bytes - len(tail.encode())
    return truncated(key[: len(key) - len(tail)], room - len(tail), left) + mark + tail


def full_key(name: str, said: object) -> str:
    """The key of the entry with this name. said: the full key by its metadata, believed if the name proves it."""
    if not isinstance(said, str) or not looks_shortened(name):
        return name
    try:
        head, mark, tail = name.partition(_mark(said))
    except UnicodeEncodeError:
        return name
    proved = mark and "/" not in tail and len(head) + len(tail) <= len(said)
    return said if proved and said.startswith(head) and said.endswith(tail) else name


def looks_shortened(name: str) -> bool:
    """Whether it is, or could be, a shortened name."""
    return "~" in name and _MARKED.search(name) is not None


def fits(key: str, length: int, max_bytes: int | None = None) -> bool:
    """Whether a target with these limits takes the key as it is."""
    return len(key) <= length and (max_bytes is None or len(key.encode()) <= max_bytes)


def keeps_prefix(prefix: str, length: int, max_bytes: int | None = None) -> bool:
    """Whether every key with this prefix keeps it when it is shortened."""
    room, room_bytes = length - DIGITS - 2, None if max_bytes is None else max_bytes - DIGITS - 2
    return fits(prefix, room - room // 3, None if room_bytes is None else room_bytes - room_bytes // 3)


def truncated(text: str, length: int, max_bytes: int | None = None) -> str:
    """As much of the start of a text as has at most so many characters and bytes of UTF-8."""
    text = text[:length]
    if max_bytes is None or len(encoded := text.encode()) <= max_bytes:
        return text
    return encoded[:max_bytes].decode("utf-8", "ignore")


def _end(text: str, length: int, max_bytes: int | None) -> str:
    text = text[max(0, len(text) - length) :]
    if max_bytes is not None and len(encoded := text.encode()) > max_bytes:
        text = encoded[len(encoded) - max_bytes :].decode("utf-8", "ignore")
    # An accent without its letter would join the mark before it.
    while text and unicodedata.combining(text[0]):
        text = text[1:]
    return text


def _mark(key: str) -> str:
    return f"~{hashlib.sha256(key.encode()).hexdigest()[:DIGITS]}~"
