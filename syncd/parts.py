"""The names of a file's parts, and what may be cut into some. PURE.

`guide.md` in parts is `guide~001.md`, `guide~002.md` and so on. A name of that form always leads back to its file,
by the name alone, so a file that is itself called so has no key where files are split.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from syncd.model import Problem
from syncd.text.endings import HTML, MARKDOWN, SUPPORTED, ending

Kind = Literal["markdown", "html", "text"]

MOST = 999
"""Parts of one file: their numbers have three digits, so that their keys sort in their order."""
WHOLE_LIMIT = 128 * 1024 * 1024
"""Bytes of a file that is cut (our own limit): while the borders are looked for, it lies in memory, Markdown twice."""
LEAST_LIMIT = 64
"""Bytes that a part must be allowed: room for a few words, and surely for any one character."""

_PART = re.compile(r"(?P<stem>[^/]*)~(?P<number>\d{3})(?P<ending>\.[^./]*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Naming:
    """Which keys belong to one file. split: whether files are split at all; else each key is a file of its own."""

    prefix: str = ""
    split: bool = False

    def part(self, file: str, number: int) -> str:
        """The key of a file's part; the first has number 1."""
        before, behind = self._around(file)
        return f"{before}~{number:03}{behind}"

    def _around(self, file: str) -> tuple[str, str]:
        """What stands before and behind the number in the keys of a file's parts."""
        folder, slash, name = file.removeprefix(self.prefix).rpartition("/")
        stem, dot, last = name.rpartition(".")
        return f"{self.prefix}{folder}{slash}{stem if dot else last}", dot + last if dot else ""

    def of(self, key: str) -> tuple[str, int]:
        """The key of the file that a key belongs to, and which part of it it is; 0 if it is the file's own."""
        if not self.split:
            return key, 0
        folder, slash, name = key.removeprefix(self.prefix).rpartition("/")
        found = _PART.fullmatch(name) if key.startswith(self.prefix) else None
        number = int(found["number"]) if found else 0
        if not found or not number:
            return key, 0
        name = found["stem"] + (found["ending"] or "")
        file = f"{self.prefix}{folder}{slash}{name}"
        # "a.md~001" would be a part of nothing: those of "a.md" are called otherwise.
        return (file, number) if name and self.part(file, number) == key else (key, 0)

    def file(self, key: str) -> str:
        """The key of the file that a key belongs to: its own, or that of the file it is a part of."""
        return self.of(key)[0]

    def span(self, file: str) -> tuple[str, str]:
        """The key range (after, upto) in which all parts of a file lie, and maybe others."""
        before = self._around(file)[0]
        return before + "~", before + chr(ord("~") + 1)


def kind_of(key: str) -> Kind | None:
    """How a file is cut, by its name: one without an ending may be text, and its bytes will tell. None: not at all."""
    found = ending(key)
    if found in MARKDOWN:
        return "markdown"
    if found in HTML:
        return "html"
    return "text" if found in SUPPORTED or not found else None


def unfit(key: str, size: int, limit: int) -> str | None:
    """Why a file of `size` bytes cannot be cut into parts of `limit` bytes, as far as that shows without reading it."""
    if kind_of(key) is None:
        return f"{ending(key)} files are not split; only Markdown, HTML and text are"
    if limit < LEAST_LIMIT:
        return f"parts of {limit} bytes are too small to split into; raise max_file_size"
    most = min(WHOLE_LIMIT, MOST * limit)
    return f"files over {most} bytes are not split; make smaller ones of it" if size > most else None


def by_file(problems: Iterable[Problem], names: Naming) -> list[Problem]:
    """The problems with those of a file's parts named by the file, and each kind of them once."""
    found: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        found.setdefault((names.file(problem.key), problem.kind), []).append(problem)
    return [_of_file(file, same, names) for (file, _), same in sorted(found.items())]


def _of_file(file: str, same: list[Problem], names: Naming) -> Problem:
    first = same[0]
    parts = [names.of(problem.key)[1] for problem in same]
    if first.key == file or first.kind == "invalid_key":
        return first
    return Problem(file, first.kind, f"{numbered(parts)}: {first.message}")


def numbered(parts: list[int]) -> str:
    """A file's parts for people: "part 2", "parts 2 and 3", "parts 2, 3 and 7 more"."""
    if len(parts) < 3:
        return ("part " if len(parts) == 1 else "parts ") + " and ".join(str(part) for part in parts)
    return f"parts {parts[0]}, {parts[1]} and {len(parts) - 2} more"


NOT_TEXT = "it is not split, because it is no UTF-8 text; save it as UTF-8"
TOO_MANY = f"it is not split, because it would take more than {MOST} parts; make smaller files of it"


def reserved(key: str) -> Problem:
    """What is wrong with a file that is called like a part."""
    why = "its name is that of a part of another file; rename it, or set oversize to reject"
    return Problem(key, "invalid_key", why)
