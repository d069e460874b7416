"""Names: the key of a path, what a key may not be, and which paths the rules leave out. PURE."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from pathspec import GitIgnoreSpec

IGNORE_FILE = ".syncdignore"

BUILTIN_EXCLUDES: tuple[str, ...] = (
    # version control
    ".git",
    ".hg/",
    ".svn/",
    ".jj/",
    # secrets: AI Search would take and index them
    ".env",
    ".env.*",
    "!.env.example",
    ".netrc",
    ".npmrc",
    ".pypirc",
    ".ssh/",
    ".gnupg/",
    "*.pem",
    "*.key",
    "*.p12",
    "*.pfx",
    "*.kdbx",
    "id_rsa*",
    "id_dsa*",
    "id_ecdsa*",
    "id_ed25519*",
    # what editors and systems leave lying about
    "*.swp",
    "*.swo",
    "*.swx",
    "4913",
    "*~",
    ".#*",
    "\\#*#",
    ".DS_Store",
    "._*",
    "Thumbs.db",
    "desktop.ini",
    "lost+found/",
    "__pycache__/",
    # our own
    IGNORE_FILE,
    "syncd.toml",
)

_ANYWHERE = "^(?:.+/)?"
"""How pathspec begins the expression of a pattern that holds in every directory."""

NOT_UTF8 = "name is not valid UTF-8; rename the file"

INCLUDE_ALL: tuple[str, ...] = ("**/*",)


def normal(name: str) -> str:
    """A name in Unicode NFC, the form every key has, whatever form the file system uses."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def shown(name: str) -> str:
    """A file name made safe for people, JSON and SQLite: bytes that are not UTF-8 appear backslash-escaped."""
    for errors in ("strict", "surrogateescape"):
        try:
            return name.encode("utf-8", errors).decode("utf-8", "backslashreplace")
        except UnicodeEncodeError:
            continue
    # Half a surrogate pair, which no disk has, but a remote may.
    return name.encode("utf-8", "surrogatepass").decode("utf-8", "backslashreplace")


def name_fault(name: str) -> str | None:
    """Return why a path or a part of it cannot be (part of) a key, or None if it can."""
    if name.isascii() and name.isprintable():
        return None
    try:
        name.encode()
    except UnicodeEncodeError:
        return f"its {NOT_UTF8}"
    if any(unicodedata.category(char) == "Cc" for char in name):
        return "its name has a control character; rename the file"
    return None


@dataclass(frozen=True, slots=True)
class IgnoreFile:
    """The patterns of one .syncdignore, one for each line; `folder` is where it lies ("" or "a/b/")."""

    folder: str
    spec: GitIgnoreSpec

    @classmethod
    def parse(cls, folder: str, text: str) -> "IgnoreFile":
        """Read gitignore-style lines. Raises ValueError naming a line that is no pattern."""
        # Blank lines keep their places as comments: a pattern is named by its line.
        return cls(folder, _spec([line or "#" for line in text.splitlines()]))

    def verdict(self, path: str) -> tuple[bool, str] | None:
        """(left out?, the rule) for a path under `folder`, or None if no line speaks of it."""
        found = _last_match(self.spec, path.removeprefix(self.folder))
        if found is None:
            return None
        left_out, pattern, place = found
        return left_out, f"{self.folder}{IGNORE_FILE} line {place + 1}: {pattern}"


@dataclass(frozen=True)
class Rules:
    """A mirror's include and exclude patterns (gitignore style); the built-in list stands before the excludes."""

    include: tuple[str, ...] = INCLUDE_ALL
    exclude: tuple[str, ...] = ()

    def excluded(self, path: str, ignores: Sequence[IgnoreFile] = ()) -> str | None:
        """Return the rule that leaves `path` out (directories end with "/"), or None.

        The last word counts, as in git: the deepest .syncdignore, then those above it, then `exclude`, then the
        built-in list. Directories are never judged by `include`. Does not look at the parents: see `excluded_deep`.
        """
        for ignore in reversed(ignores):
            if path.startswith(ignore.folder) and (verdict := ignore.verdict(path)):
                return verdict[1] if verdict[0] else self._not_included(path)
        if self._any_exclude.search(path) and (found := _last_match(self._exclude_spec, path)):
            return _of_exclude(found) if found[0] else self._not_included(path)
        return self._not_included(path)

    def doubt(self, ignores: Sequence[IgnoreFile] = ()) -> Callable[[str], object]:
        """Return a quick test for many paths under the same ignore files: what it denies, nothing leaves out."""
        return bool if ignores or self.include != INCLUDE_ALL else self._any_exclude.search

    def excluded_deep(self, path: str, ignores: Sequence[IgnoreFile] = ()) -> str | None:
        """Like `excluded`, for a path whose parents have not been judged yet."""
        for end, char in enumerate(path):
            if char == "/" and end + 1 < len(path) and (rule := self.excluded(path[: end + 1], ignores)):
                return rule
        return self.excluded(path, ignores)

    def taken_by(self, path: str, ignores: Sequence[IgnoreFile] = ()) -> str | None:
        """Return the pattern that brings a file in which is not left out; None if nothing speaks of it."""
        for ignore in reversed(ignores):
            if path.startswith(ignore.folder) and (verdict := ignore.verdict(path)):
                return verdict[1]
        if found := _last_match(self._exclude_spec, path):
            return _of_exclude(found)
        if self.include != INCLUDE_ALL and (found := _last_match(self._include_spec, path)):
            return f"include: {found[1]}"
        return None

    def _not_included(self, path: str) -> str | None:
        if path.endswith("/") or self.include == INCLUDE_ALL or self._include_spec.match_file(path):
            return None
        return "include: no pattern takes it"

    @cached_property
    def _any_exclude(self) -> re.Pattern[str]:
        """Finds whether any pattern of the excludes speaks of a path; one search is faster than one for each.

        Most may begin in any directory. They share that beginning, so that it is tried once for all of them.
        """
        expressions = [pattern.regex.pattern for pattern in self._exclude_spec.patterns if pattern.regex]
        # Groups have names, which may stand only once.
        expressions = [re.sub(r"[(][?]P<[^>]+>", "(?:", each) for each in expressions]
        anywhere = "|".join(each.removeprefix(_ANYWHERE) for each in expressions if each.startswith(_ANYWHERE))
        others = [f"(?:{each})" for each in expressions if not each.startswith(_ANYWHERE)]
        return re.compile("|".join([f"{_ANYWHERE}(?:{anywhere})", *others]))

    @cached_property
    def _exclude_spec(self) -> GitIgnoreSpec:
        return _spec((*BUILTIN_EXCLUDES, *self.exclude))

    @cached_property
    def _include_spec(self) -> GitIgnoreSpec:
        return _spec(self.include)


def _spec(lines: Sequence[str]) -> GitIgnoreSpec:
    try:
        return GitIgnoreSpec.from_lines([normal(line) for line in lines])
    except re.error as error:
        raise ValueError(f"a pattern cannot be understood: {error}") from error


def _of_exclude(found: tuple[bool, str, int]) -> str:
    _, pattern, place = found
    return f"{'built-in exclude' if place < len(BUILTIN_EXCLUDES) else 'exclude'}: {pattern}"


def _last_match(spec: GitIgnoreSpec, path: str) -> tuple[bool, str, int] | None:
    """The pattern with the last word on a path, if there is one: whether it takes it, its text, its place."""
    result = spec.check_file(path)
    if result.include is None or result.index is None:
        return None
    pattern = spec.patterns[result.index]
    return result.include, str(getattr(pattern, "pattern", "")), result.index


def taken_as(path: str, *, subtree: bool) -> tuple[str, bool]:
    """Return the normal path to look at for a hint, and whether to look at all below it."""
    if name_fault(path):
        # Such a name has no key; the directory it lies in has one, and reports it.
        while path and name_fault(path):
            path = path.rpartition("/")[0]
        subtree = True
    elif path.rpartition("/")[2] == IGNORE_FILE:
        path, subtree = path.rpartition("/")[0], True
    return normal(path), subtree
