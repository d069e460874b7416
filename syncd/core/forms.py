"""The form in which a file is sent: as it is, converted to Markdown, or as text under a name with another ending.

The key of a file never changes. Only the name of its entry, and thus its type, has the suffix of the form:

    slides/talk.pptx -> slides/talk.pptx.md     convert
    src/app.ts       -> src/app.ts.txt          as_text

The checksum of such a file proves its source and its converter: the sha-256 of the source, "+", and the name and
version of the converter. A file that is sent as text has "text" in place of the converter.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from syncd.core.globs import PatternList
from syncd.core.keys import normal

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
    renames: whether the target stores an entry under the name of `name`. Otherwise no two names can collide.
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
        if self.convert and _matches(self._convert, path):
            return "convert"
        return "text" if self.as_text and _matches(self._as_text, path) else None

    def name(self, key: str) -> str:
        """Return the name of the entry of a file, whose ending is the type of the content."""
        form = self.of(key)
        return key + SUFFIXES[form] if form else key

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
        return _patterns(self.convert)

    @cached_property
    def _as_text(self) -> PatternList:
        return _patterns(self.as_text)


NO_FORMS = Forms()


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


def _patterns(patterns: tuple[str, ...]) -> PatternList:
    return PatternList.of((number, normal(text)) for number, text in enumerate(patterns, 1))


def _matches(patterns: PatternList, path: str) -> bool:
    """Return whether the last pattern that matches a file, else its nearest parent directory, takes it."""
    while path:
        if verdict := patterns.verdict(path):
            return verdict.out
        path = path[: path.rfind("/", 0, -1) + 1]
    return False
