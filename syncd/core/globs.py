"""gitignore patterns as git reads them, matched in linear time.

A pattern becomes a regular expression that backtracks over at most one star: all stars of a segment but the last are
atomic groups, and so are all `**` but the last. The leftmost match of each piece is sufficient, because the next piece
may start anywhere after it. See docs/decisions/0032-patterns.md.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from syncd.core.keys import normal

_SEPARATOR = object()
_STAR = object()
_ANY = "[^/]"
_HEAD = re.compile(r"(?:\[\^/\]\*|\(\?:\[\^/\]\+\+/\)\*)?(?:\\.|\w)")
"""An optional star or leading `**`, and a plain character."""
_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": " \\t",
    "cntrl": "\\x00-\\x1f\\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": "!-/:-@\\[-`{-~",
    "space": "\\t-\\r ",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}
"""The character classes of git's wildmatch, such as [:alpha:]. They contain ASCII only."""

NumberedLine = tuple[int, str]
"""A line's number, from 1, and its text."""


class BadPattern(ValueError):
    """A line that git does not accept as a pattern, or an obvious mistake. number: from 1. why: the fault."""

    def __init__(self, number: int, text: str, why: str) -> None:
        super().__init__(f"line {number} ({ascii(text)[1:-1]}): {why}")
        self.why = why


class LastMatch(NamedTuple):
    """The last pattern that matches a path. positive: whether the pattern does not begin with "!"."""

    positive: bool
    pattern: str
    number: int


@dataclass(frozen=True)
class Pattern:
    """One pattern. A directory ends with "/".

    expression: matches the whole path if `anchored`, else its last name.
    last: the last name that all matching paths have; "" if it is not fixed. starred: `last` is only the ending of this
    name, such as ".md" for the pattern "*.md".
    """

    number: int
    text: str
    negated: bool
    anchored: bool
    expression: str
    last: str
    starred: bool

    @cached_property
    def matcher(self) -> re.Pattern[str]:
        """The compiled expression."""
        return re.compile(self.expression)


@dataclass(frozen=True)
class PatternList:
    """Patterns in the order of a file. The last pattern that matches decides.

    ignore_case: whether patterns and paths are compared in lower case.
    """

    patterns: tuple[Pattern, ...]
    ignore_case: bool = False

    @classmethod
    def of(cls, lines: Iterable[NumberedLine], *, ignore_case: bool = False) -> "PatternList":
        """Parse lines after a conversion to NFC. Raises BadPattern."""
        patterns = (parse(number, normal(text.lower() if ignore_case else text)) for number, text in lines)
        return cls(tuple(pattern for pattern in patterns if pattern), ignore_case)

    @cached_property
    def may_match(self) -> Callable[[str, str, int], bool]:
        """A function of (path, its last name, start). False: no pattern matches `path[start:]`. True: one may match.

        A call needs two set lookups and two searches, for any number of patterns.
        """
        names = frozenset(pattern.last for pattern in self.patterns if pattern.last and not pattern.starred)
        endings = frozenset(pattern.last for pattern in self.patterns if pattern.last and pattern.starred)
        others = [pattern for pattern in self.patterns if not pattern.last]
        of_name = _any(pattern.expression for pattern in others if not pattern.anchored)
        of_path = _any(pattern.expression for pattern in others if pattern.anchored)
        ignore_case = self.ignore_case

        def test(path: str, name: str, start: int) -> bool:
            if ignore_case:
                name = name.lower()
            bare = name.removesuffix("/")
            if bare in names or bare[bare.rfind(".") :] in endings or (of_name and of_name.fullmatch(name)):
                return True
            return of_path is not None and bool(of_path.fullmatch(path.lower() if ignore_case else path, start))

        return test

    def verdict(self, path: str, start: int = 0) -> LastMatch | None:
        """Return the last pattern that matches a path (a directory ends with "/"), or None. Does not check its parents.

        start: index in `path` at which the path for the patterns begins.
        """
        if not self.may_match(path, path[path.rfind("/", start, -1) + 1 or start :], start):
            return None
        path = path.lower() if self.ignore_case else path
        name = path.rfind("/", start, -1) + 1 or start
        for pattern in reversed(self.patterns):
            if pattern.matcher.fullmatch(path, start if pattern.anchored else name):
                return LastMatch(not pattern.negated, pattern.text, pattern.number)
        return None

    def nearest(self, path: str) -> LastMatch | None:
        """Return the verdict on a file, else on the nearest parent directory that a pattern matches, else None."""
        while path:
            if verdict := self.verdict(path):
                return verdict
            path = path[: path.rfind("/", 0, -1) + 1]
        return None

    def takes(self, path: str) -> bool:
        """Return whether the last pattern that matches a file, else its nearest parent directory, is not negated."""
        verdict = self.nearest(path)
        return verdict is not None and verdict.positive


def lines_of(text: str) -> list[NumberedLine]:
    """Return the numbered lines of a file. Line ends are LF, CR LF and CR, because no key contains a CR."""
    return list(enumerate(re.split(r"\r\n?|\n", text), 1))


def parse(number: int, line: str) -> Pattern | None:
    """Parse one line. None: the line is blank or a comment. Raises BadPattern."""
    if line.startswith("#"):
        return None
    text = _without_trailing_spaces(line)
    if not text:
        return None
    if fault := _fault(text):
        raise BadPattern(number, line, fault)
    body = text.removeprefix("!")
    directory = body.endswith("/")
    body = body.removesuffix("/")
    anchored = "/" in body
    body = body.removeprefix("/")
    if not body:
        raise BadPattern(number, line, "it names nothing")
    try:
        tokens = _tokens(body)
        expression = _expression(tokens)
    except ValueError as error:
        raise BadPattern(number, line, str(error)) from None
    end = "/" if directory else "/?"
    return Pattern(number, text, text.startswith("!"), anchored, expression + end, *_last(tokens))


def _last(tokens: Sequence[object]) -> tuple[str, bool]:
    """Return `last` and `starred` of a pattern."""
    name = _split(tokens, _SEPARATOR)[-1]
    starred = name[0] is _STAR
    name = name[starred:]
    plain = "".join(token[-1] for token in name if isinstance(token, str) and len(token.removeprefix("\\")) == 1)
    fits = len(plain) == len(name) and (not starred or (plain.startswith(".") and plain.count(".") == 1))
    return plain if fits else "", starred


def _any(expressions: Iterable[str]) -> re.Pattern[str] | None:
    """Join expressions. Expressions with the same beginning are grouped, so that the beginning is searched for once."""
    alike: dict[str, list[str]] = {}
    for expression in expressions:
        head = _HEAD.match(expression)
        alike.setdefault(head[0] if head else "", []).append(expression[head.end() :] if head else expression)
    joined = "|".join(f"{head}(?:{'|'.join(rest)})" for head, rest in alike.items())
    return re.compile(joined) if joined else None


def _without_trailing_spaces(line: str) -> str:
    """Remove trailing spaces, except for a space after a backslash."""
    bare = line.rstrip(" ")
    backslashes = len(bare) - len(bare.rstrip("\\"))
    return bare + " " if backslashes % 2 and len(bare) < len(line) else bare


def _fault(text: str) -> str | None:
    """Return the reason why no key can match a pattern, None if there is none."""
    if text.isprintable():
        return None
    if any(unicodedata.category(char) == "Cc" for char in text):
        return "it has a control character (a tab?), and no mirrored name has one"
    if any("\ud800" <= char <= "\udfff" for char in text):
        return "it is not UTF-8; save the file as UTF-8"
    return None


def _tokens(body: str) -> list[object]:
    """Split a pattern into separators, stars, and expressions of one character."""
    tokens: list[object] = []
    at = 0
    while at < len(body):
        char = body[at]
        if char == "[":
            expression, at = _bracket(body, at)
            tokens.append(expression)
            continue
        if char == "\\":
            at += 1
            if at == len(body):
                raise ValueError("it ends with a backslash")
            char = body[at]
            tokens.append(_SEPARATOR if char == "/" else re.escape(char))
        else:
            tokens.append({"/": _SEPARATOR, "*": _STAR, "?": _ANY}.get(char) or re.escape(char))
        at += 1
    return tokens


def _bracket(body: str, start: int) -> tuple[str, int]:
    """Parse a bracket expression. Return its regular expression and the index after it. Raises ValueError."""
    at = start + 1
    negated = body[at : at + 1] in ("!", "^")
    at += negated
    members: list[str] = []
    before: str | None = None
    first = True
    while first or body[at : at + 1] != "]":
        first = False
        if named := re.compile(r"\[:([^\]]*):\]").match(body, at):
            if named[1] not in _CLASSES:
                raise ValueError(f"[:{named[1]}:] is no class of characters")
            members.append(_CLASSES[named[1]])
            at, before = named.end(), None
            continue
        dash = body[at : at + 1] == "-" and before is not None and body[at + 1 : at + 2] not in ("", "]")
        char, at = _member(body, at + dash)
        if dash and before is not None:
            if before > char:
                raise ValueError(f"its range {before}-{char} is empty")
            members.append(f"{re.escape(before)}-{re.escape(char)}")
            before = None
        else:
            members.append(re.escape(char))
            before = char
    inside = "".join(members)
    if negated:
        return f"[^/{inside}]", at + 1
    # A bracket never matches the separator.
    return (f"(?!/)[{inside}]" if re.match(f"[{inside}]", "/") else f"[{inside}]"), at + 1


def _member(body: str, at: int) -> tuple[str, int]:
    """Return the character at an index, after a backslash if there is one, and the index after it."""
    at += body[at : at + 1] == "\\"
    if at >= len(body):
        raise ValueError("its bracket is not closed")
    return body[at], at + 1


def _expression(tokens: Sequence[object]) -> str:
    """Return the expression of a whole pattern. Each piece between two `**` matches at its leftmost place."""
    pieces: list[list[str]] = [[]]
    for segment in _split(tokens, _SEPARATOR):
        if not segment:
            raise ValueError("it has an empty name between two slashes")
        if len(segment) > 1 and all(token is _STAR for token in segment):
            pieces.append([])
        else:
            pieces[-1].append(_segment(segment))
    first, *others = pieces
    if not others:
        return "/".join(first)
    *middle, last = others
    between = "".join(f"(?>(?:[^/]++/)*?{'/'.join(piece)}/)" for piece in middle if piece)
    return "/".join([*first, between]) + ("(?:[^/]++/)*" + "/".join(last) if last else "(?s:.+?)")


def _segment(tokens: Sequence[object]) -> str:
    """Return the expression of one name. Each piece between two stars matches leftmost, the last piece at the end."""
    first, *others = ["".join(map(str, piece)) for piece in _split(tokens, _STAR)]
    if not others:
        return first
    if not first and others == [""]:
        # A name is not empty: `docs/*` does not match the directory `docs/` itself.
        return "[^/]+"
    middle = "".join(f"(?>[^/]*?{piece})" for piece in others[:-1] if piece)
    return f"{first}{middle}[^/]*{others[-1]}"


def _split(tokens: Sequence[object], at: object) -> list[list[object]]:
    """Split tokens at each token that is `at`."""
    parts: list[list[object]] = [[]]
    for token in tokens:
        if token is at:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts
