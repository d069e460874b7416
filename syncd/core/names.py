"""The names of entries: suffixes for files in another form, and short names for long keys; and the shards of keys.

A file is sent as it is, converted to Markdown, or as text under a name with another ending. Its key never changes. Only
the name of its entry, and thus its type, has the suffix of the form:

    slides/talk.pptx -> slides/talk.pptx.md     convert
    src/app.ts       -> src/app.ts.txt          as_text

The checksum of such a file proves its source and its converter: the sha-256 of the source, "+", and the name and
version of the converter. A file that is sent as text has "text" in place of the converter.

A key that is too long for a target has a short name. It is readable and proves the full key:

    guides/installation/a-very-long-na~3fa9c1d27b04~-the-whole-story.md
    start of the key                   its digest   end of the file name

The metadata of the entry contains the full key. syncd believes it only if it has the digest in the name.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Literal

from syncd.core.globs import PatternList
from syncd.core.plain_text import truncated

Form = Literal["convert", "text"]

SUFFIXES: dict[Form, str] = {"convert": ".md", "text": ".txt"}
"""The suffix of the entry's name. Every target takes both types."""
CONVERTIBLE = frozenset(
    ".doc .docx .docm .eml .epub .ipynb .odt .ods .pdf .pptx .pptm .ppsx .rtf .xlsx .xlsm".split()  # noqa: SIM905
)
"""The endings of files that can be converted, in lower case with the dot."""
MAX_SOURCE = 32 * 1024 * 1024
"""Maximum bytes of a file to convert (our own limit). Two of them are in memory at a time."""
_TEXT = "text"


@dataclass(frozen=True)
class Forms:
    """The patterns of the files that are sent in another form.

    convert, as_text: gitignore-style patterns, in which the last match decides. `convert` has priority.
    prefix: the key prefix of the mirror. converter: the name and version of the converter, such as kreuzberg-4.10.4.
    renames: whether the target stores an entry under the name that `name` returns. If not, the name of an entry is
    its key, and no two entries have the same name.
    """

    convert: tuple[str, ...] = ()
    as_text: tuple[str, ...] = ()
    prefix: str = ""
    converter: str = ""
    renames: bool = True

    def __bool__(self) -> bool:
        """Return whether any file is sent in another form."""
        return bool(self.convert or self.as_text)

    def of(self, key: str) -> Form | None:
        """Return the form of a file, None if it is sent as it is."""
        if not self or not key.startswith(self.prefix):
            return None
        path = key.removeprefix(self.prefix)
        if self.convert and self._convert.takes(path):
            return "convert"
        return "text" if self.as_text and self._as_text.takes(path) else None

    def name(self, key: str) -> str:
        """Return the name of the entry of a file. The ending of the name shows the type of the content."""
        return entry_name(key, self.of(key))

    def checksum(self, key: str, sha256: str) -> str:
        """Return the checksum of a file. sha256: of its bytes on the disk."""
        form = self.of(key)
        return f"{sha256}+{_TEXT if form == 'text' else self.converter}" if form else sha256

    def rivals(self, key: str) -> Iterator[str]:
        """Yield the keys whose entry would have the same name as the entry of this key, if they have a file."""
        if not self or not self.renames:
            return
        name = self.name(key)
        if name == key:
            yield from self.sources(key)
        elif self.of(name) is None:
            yield name

    def sources(self, name: str) -> Iterator[str]:
        """Yield the keys of files in another form whose entry has this name."""
        yield from (key for key in keys_of(name) if key != name and self.name(key) == name)

    @property
    def patterns(self) -> list[list[str]]:
        """The patterns as JSON, to find out whether they have changed."""
        return [list(self.convert), list(self.as_text)]

    @cached_property
    def _convert(self) -> PatternList:
        return PatternList.of(enumerate(self.convert, 1))

    @cached_property
    def _as_text(self) -> PatternList:
        return PatternList.of(enumerate(self.as_text, 1))


NO_FORMS = Forms()


def entry_name(key: str, form: Form | None) -> str:
    """Return the name of the entry of a file in this form, None for the file as it is."""
    return key + SUFFIXES[form] if form else key


def keys_of(name: str) -> Iterator[str]:
    """Yield the keys whose entry may have this name under any patterns: the name, and the name without a suffix."""
    yield name
    for suffix in SUFFIXES.values():
        if name.endswith(suffix):
            yield name.removesuffix(suffix)


def neighbours(key: str) -> Iterator[str]:
    """Yield the other keys whose entry may have the same name as the entry of this key, under any patterns."""
    yield from (name for name in keys_of(key) if name != key)
    yield from (key + suffix for suffix in SUFFIXES.values())


def can_convert(key: str) -> bool:
    """Return whether the converter knows this type of file."""
    return any(key.lower().endswith(ending) for ending in CONVERTIBLE)


def converter_of(checksum: str) -> str | None:
    """Return the converter that a checksum names, None for a file that was not converted."""
    converter = checksum.partition("+")[2]
    return None if converter in ("", _TEXT) else converter


def same_source(one: str | None, other: str | None) -> bool:
    """Return whether two checksums prove the same content, or the same source in two versions of the converter."""
    if one is None or other is None or one == other:
        return one == other is not None
    both = converter_of(one) is not None and converter_of(other) is not None
    return both and one.partition("+")[0] == other.partition("+")[0]


def shown_checksum(checksum: str) -> str:
    """Return a checksum for people."""
    digest, _, how = checksum.partition("+")
    if not how:
        return f"{digest} (sha-256)"
    return f"{digest} (sha-256 of the file), {'sent as text' if how == _TEXT else f'converted by {how}'}"


# -- short names

FULL_KEY_FIELD = "path"
"""The metadata field with the full key of an entry that has a short name."""
DIGITS = 12
"""Hex digits of the digest. In a folder of a million long keys that start and end alike, two collide with p = 1/500."""
LEAST_LENGTH = 64
"""Minimum characters of a short name. A shorter name is not readable and may lose its file name ending."""
_MARKED = re.compile(rf"~[0-9a-f]{{{DIGITS}}}~[^/]*\Z")


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

    The name is the key, its short name, or either of them for the key with the suffix of a form.
    """
    if not isinstance(marked_key, str):
        return name
    if marked_key in keys_of(name):
        return marked_key
    whole = (marked_key, *(marked_key + suffix for suffix in SUFFIXES.values()))
    return marked_key if looks_shortened(name) and any(_is_short_name(name, key) for key in whole) else name


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
#
# The shard of a key is a pure function of its bytes. So n processes split a mirror without communication, without a gap
# and without an overlap, and other tools can compute the shard: the first eight bytes of the sha-256 of the key in
# UTF-8, as a big-endian number modulo n. The key is the whole remote key with its prefix, in NFC. A remote key in
# another form is hashed as it is. The function must never change, because a change would move keys between running
# processes.

MAX_SHARDS = 1024
"""Maximum shards (our own limit). Each shard is a process that walks the whole folder and lists the whole target."""
SHARD_REMEDY = (
    f'should be "i/n" with 0 <= i < n <= {MAX_SHARDS}, such as "0/4" for the first of four, or "" for all keys'
)
_SHARD = re.compile(r"([0-9]{1,4})/([0-9]{1,4})", re.ASCII)


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
    # A key of another writer may contain a lone surrogate.
    digest = sha256(key.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") % count
