"""Where a text is cut into parts. PURE.

A text that is too long is cut at its best border, and so is each side that still is too long. The best border is the
highest heading; among equals, that before the text with the smallest checksum. So a border depends on what follows it,
and neither on its place nor on other borders: an edit moves those next to it, and no others.
"""

import re
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

from syncd.parts import Kind
from syncd.text.chunk_markdown import front_end, structure
from syncd.text.chunk_text import Block

VERSION = 1
"""Raise it when the same text would be cut elsewhere."""

_TELLING = 64
"""Bytes behind a border that its checksum is made of: enough to tell one heading "Example" from the next."""
_FEW = 1 << 24
"""Of many borders, those with checksums below this are looked at first: every 256th, and the smallest among them."""
_ALL = 1 << 32
_NEAR = 8
"""No border is nearer to another than this part of the limit: parts of a few lines help nobody."""

_APART = rb"(?s:.{0,15})"
"""Borders are at least 16 bytes from each other, or a file of nothing but line ends would have a hundred million."""


def _pattern(border: bytes) -> re.Pattern[bytes]:
    """Borders are where group 1 ends."""
    return re.compile(border + _APART)


_BLANK_LINES = _pattern(rb"(\n[ \t\r]*\n)")
_LINES = _pattern(rb"(\n)")
_TAGS = _pattern(rb"()</?[a-zA-Z]")
_SPACES = _pattern(rb"([ \t\r\f\v]+)")
_MARKS = _pattern(rb"([,;:.!?)\]}>|&]+)")
_HTML = re.compile(
    rb"<(?:(section|article)|h([1-6])|(?:p|div|main|header|footer|nav|aside|table|tr|ul|ol|li|dl|dt|pre|blockquote|figure"
    rb"|details|hr))(?=[\s>/])",
    re.IGNORECASE,
)
_BLOCK = 7
"""The rank of what is neither a section nor a heading, but stands on its own."""
_WHOLE = re.compile(rb"<(?:(!--)|(pre|script|style|textarea)(?=[\s>]))", re.IGNORECASE)
_CLOSING = {name: re.compile(b"</" + name, re.IGNORECASE) for name in (b"pre", b"script", b"style", b"textarea")}

Span = tuple[int, int]
_Find = Callable[[int, int], Iterator[int]]


class _Found(NamedTuple):
    """Borders in order, and the checksum of what follows each."""

    places: list[int]
    checksums: list[int]


def cut(data: bytes, kind: Kind, limit: int) -> list[int]:
    """The lengths of the parts of a UTF-8 text: each at most `limit` bytes (at least 4) and none empty.

    The same text gives the same parts, whatever it was before.
    """
    open_spans = [(0, len(data))]
    borders: list[int] = []
    for find in _ranks(data, kind):
        for bound in (_FEW, _ALL):
            left: list[Span] = []
            for span in open_spans:
                found = _weighed(data, find(*span), bound) if span[1] - span[0] > limit else _Found([], [])
                left += _divided(found, span, limit, borders)
            open_spans = left
        if not open_spans:
            break
    for start, end in open_spans:
        borders += _hard(data, start, end, limit)
    places = [0, *sorted(borders), len(data)] if data else []
    return [end - start for start, end in pairwise(places)]


def _weighed(data: bytes, places: Iterator[int], bound: int) -> _Found:
    found = _Found([], [])
    for place in places:
        checksum = zlib.crc32(data[place : place + _TELLING])
        if checksum < bound:
            found.places.append(place)
            found.checksums.append(checksum)
    return found


def _divided(found: _Found, span: Span, limit: int, borders: list[int]) -> list[Span]:
    """Divide a span at the found borders until each side fits; return the sides that are too long and have none."""
    near = max(1, limit // _NEAR)
    waiting, left = [span], []
    while waiting:
        start, end = waiting.pop()
        if end - start <= limit:
            continue
        first = bisect_left(found.places, start + near)
        last = bisect_right(found.places, end - near)
        if first >= last:
            left.append((start, end))
            continue
        place = found.places[_best(found, first, last, (start + end) // 2)]
        borders.append(place)
        waiting += [(start, place), (place, end)]
    return left


def _best(found: _Found, first: int, last: int, middle: int) -> int:
    """The border with the smallest checksum; of several, as between equal lines, that nearest the middle."""
    checksums = found.checksums
    smallest = min(checksums[first:last])
    if checksums[first:last].count(smallest) == 1:
        return checksums.index(smallest, first, last)
    beyond = bisect_left(found.places, middle, first, last)
    nearest = []
    if smallest in checksums[beyond:last]:
        nearest.append(checksums.index(smallest, beyond, last))
    if smallest in checksums[first:beyond]:
        nearest.append(beyond - 1 - checksums[first:beyond][::-1].index(smallest))
    return min(nearest, key=lambda each: abs(found.places[each] - middle))


def _hard(data: bytes, start: int, end: int, limit: int) -> Iterator[int]:
    """Borders in what has none, such as base64: between two characters, every three quarters of the limit."""
    step = max(4, limit * 3 // 4)
    while end - start > limit:
        start += step
        while data[start] & 0xC0 == 0x80:
            start -= 1
        yield start


# -- borders, from the best to the worst


def _ranks(data: bytes, kind: Kind) -> Iterator[_Find]:
    if kind == "markdown":
        yield from _markdown(data)
    elif kind == "html":
        yield from _html(data)
    for pattern in (_BLANK_LINES, _LINES, *((_TAGS,) if kind == "html" else ()), _SPACES, _MARKS):
        yield _behind(data, pattern, [])


def _markdown(data: bytes) -> Iterator[_Find]:
    """Headings by level, then what is not in a fenced block."""
    # A character for each byte, so that places in the text are places in the file. All marks of Markdown are ASCII.
    text = data.decode("latin-1")
    blocks: list[Span] = []
    headings: dict[int, list[int]] = {}
    for each in structure(text, front_end(text)):
        if isinstance(each, Block):
            blocks.append((each.start, each.end))
        elif each.start == 0 or text[each.start - 1] == "\n":
            headings.setdefault(each.level, []).append(each.start)
    for level in sorted(headings):
        yield _among(headings[level])
    if blocks:
        yield _behind(data, _BLANK_LINES, blocks)
        yield _behind(data, _LINES, blocks)


def _html(data: bytes) -> Iterator[_Find]:
    """Sections, headings by level, blocks, then what is not in a script and the like."""
    whole = list(_whole(data))
    ranks: dict[int, list[int]] = {_BLOCK: [start for start, _ in whole]}
    for tag in _HTML.finditer(data):
        rank = 0 if tag[1] else int(tag[2] or _BLOCK)
        if not _inside(whole, tag.start()):
            ranks.setdefault(rank, []).append(tag.start())
    for rank in sorted(ranks):
        yield _among(sorted(ranks[rank]))
    if whole:
        yield _behind(data, _BLANK_LINES, whole)
        yield _behind(data, _LINES, whole)


def _whole(data: bytes) -> Iterator[Span]:
    """Comments, scripts and the like, in which a tag is none."""
    unclosed: set[bytes] = set()
    start = 0
    while opening := _WHOLE.search(data, start):
        start = opening.end()
        name = (opening[1] or opening[2]).lower()
        # Once one is not closed, no later one is.
        if name in unclosed:
            continue
        if opening[1]:
            closed = data.find(b"-->", start)
        else:
            end = _CLOSING[name].search(data, start)
            closed = end.start() if end else -1
        if closed < 0:
            unclosed.add(name)
        else:
            yield opening.start(), closed
            start = closed


def _among(places: list[int]) -> _Find:
    def find(start: int, end: int) -> Iterator[int]:
        yield from places[bisect_right(places, start) : bisect_left(places, end)]

    return find


def _behind(data: bytes, pattern: re.Pattern[bytes], blocks: list[Span]) -> _Find:
    """Where the pattern has a border, but for places inside one of the blocks."""

    def find(start: int, end: int) -> Iterator[int]:
        for each in pattern.finditer(data, start, end):
            place = each.end(1)
            if not (blocks and _inside(blocks, place)):
                yield place

    return find


def _inside(blocks: list[Span], place: int) -> bool:
    """Whether a place is inside one of the blocks, which are in order, and not at its start."""
    number = bisect_left(blocks, (place, 0)) - 1
    return number >= 0 and place < blocks[number][1]
