"""Chunks: pieces of a text for an embedding model, each with the path of its headings. It has no side effects.

A section that is too long is cut into units: blocks, then lines or sentences, then words, then characters. Units are
packed into chunks. The candidates for the end of a chunk are the units of the best rank in its second half. The chunk
ends after the candidate with the smallest checksum. A border depends only on the content near it and not on its place
in the file, so an edit changes few chunks.
"""

import re
import unicodedata
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from syncd.text.sections import Block, Section, Span, front_end, paragraphs, sections, trimmed

TextKind = Literal["markdown", "text"]

CHUNKS_VERSION = 1
"""A part of the ids of vectors. Increase it when the same text gives other chunks."""

Ranked = tuple[int, int, int]
"""(start, end, rank) of a unit. A lower rank is a better border after the unit."""

_PARAGRAPH, _LINE, _WORD, _CHARACTER, _HEADING = range(5)

_GRAINS = 8
"""Groups of words have at most 1/8 of the size of a chunk. Smaller groups would make long lines slow."""

_CLUSTER = 16
"""Maximum characters that a cut moves back, to keep a letter with its accents or an emoji in one piece."""

_ZWJ = "\u200d"
_SPACE = re.compile(r"\s")
_SPACES = re.compile(r"\s*")
_LAST_SPACE = re.compile(r".*\s", re.DOTALL)
_NOT_EMPTY = re.compile(r"[^\n]+")
# The repetition is bounded, so that a long run of full stops or quotes takes linear time.
_SENTENCE_END = re.compile(r"[.!?…][\"'”’)\]]{0,4}(?=\s)|[。！？][\"'”’」』）]{0,4}")  # noqa: RUF001 - CJK full stops
_CLEAN_START = re.compile(rf"\n+|(?:{_SENTENCE_END.pattern})\s*")
# A Markdown paragraph of rows, items or quotes.
_ROWS = re.compile(r"^[ \t]*(?:[|>]|[-*+][ \t]|\d{1,9}[.)][ \t])", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a text.

    text: the text to embed, never blank. heading: the path of its headings ("Guide > Install > Linux"), "" for none.
    """

    text: str
    heading: str


def chunks(text: str, kind: TextKind, size: int, overlap: int) -> list[Chunk]:
    """Return the chunks of a text in order. They contain the whole text except for front matter and white space.

    text: with line feeds as line ends. size: maximum characters of a chunk with its overlap. overlap: maximum
    characters that a chunk repeats from the previous chunk of its section. Raises ValueError unless
    0 <= overlap < size / 2.
    """
    if not 0 <= overlap * 2 < size:
        raise ValueError(f"overlap {overlap} must be less than half of size {size}")
    if kind == "markdown":
        parts = sections(text)
    else:
        blocks = [Block(start, end, lined=True) for start, end in paragraphs(text, 0, len(text))]
        parts = iter([Section("", 0, 0, blocks)])
    return [Chunk(piece, section.heading) for section in parts for piece in pieces(text, section, size, overlap)]


def is_blank(text: str, kind: TextKind) -> bool:
    """Return whether a text has no chunks."""
    start = front_end(text) if kind == "markdown" else 0
    return not text[start:].strip()


def pieces(text: str, section: Section, size: int, overlap: int) -> Iterator[str]:
    """Yield the texts of the chunks of a section, each with at most `size` characters.

    The first one starts with the heading. The heading is a chunk of its own only if the section is empty, or if the
    heading takes three quarters of the size.
    """
    lead, lead_end, blocks = section.lead, section.lead_end, section.blocks
    if lead == lead_end and not blocks:
        return
    start = lead if lead < lead_end else blocks[0].start
    end = blocks[-1].end if blocks else lead_end
    if end - start <= size:
        yield text[start:end]
        return
    limit = size - overlap
    tidy, units = _join_units(text, list(_units(text, section, limit)))
    before = 0
    for first, last in _packed(tidy, units, limit):
        begin, end = units[first][0], units[last][1]
        yield tidy[_repeat_from(tidy, before, begin, overlap) : end]
        before = begin


def _units(text: str, section: Section, limit: int) -> Iterator[Ranked]:
    """Yield the section in units of at most `limit` characters."""
    lead, lead_end = section.lead, section.lead_end
    length = lead_end - lead
    room = limit
    if 0 < length <= limit * 3 // 4 and section.blocks:
        yield lead, lead_end, _HEADING
        # Two characters are for the blank line after the heading. The first unit must fit after it.
        room = max(1, limit - length - 2)
    elif length:
        yield from _lines(text, lead, lead_end, limit)
    for block in section.blocks:
        yield from _block(text, block, room)
        room = limit


def _block(text: str, block: Block, limit: int) -> Iterator[Ranked]:
    start, end, lined = block
    if end - start <= limit:
        yield start, end, _PARAGRAPH
        return
    if lined is None:
        lined = _ROWS.search(text, start, end) is not None
    # The border after the last unit is the border of the block.
    last: Ranked | None = None
    for unit in (_lines if lined else _sentences)(text, start, end, limit):
        if last is not None:
            yield last
        last = unit
    if last is not None:
        yield last[0], last[1], _PARAGRAPH


def _lines(text: str, start: int, end: int, limit: int) -> Iterator[Ranked]:
    for line in _NOT_EMPTY.finditer(text, start, end):
        for first, last in trimmed(text, line.start(), line.end()):
            if last - first <= limit:
                yield first, last, _LINE
            else:
                yield from _sentences(text, first, last, limit)


def _sentences(text: str, start: int, end: int, limit: int) -> Iterator[Ranked]:
    stops = (stop.end() for stop in _SENTENCE_END.finditer(text, start, end))
    begin = start
    for stop in (*stops, end):
        if stop - begin > limit:
            yield from _words(text, begin, stop, limit)
        elif begin < stop:
            yield begin, stop, _LINE
        begin = _visible(text, stop, end)


def _words(text: str, start: int, end: int, limit: int) -> Iterator[Ranked]:
    grain = max(1, limit // _GRAINS)
    begin = _visible(text, start, end)
    while begin < end:
        stop, rank = _word_border(text, begin, end, (grain, limit))
        yield begin, begin + len(text[begin:stop].rstrip()), rank
        begin = _visible(text, stop, end)


def _word_border(text: str, begin: int, end: int, room: tuple[int, int]) -> tuple[int, int]:
    """Return the cut and its rank: the last space in a grain, else the next space within the limit, else the limit."""
    grain, limit = room
    if end - begin <= grain:
        return end, _WORD
    within = _LAST_SPACE.match(text, begin, begin + grain)
    if within:
        return within.end(), _WORD
    beyond = _SPACE.search(text, begin + grain, min(end, begin + limit + 1))
    if beyond:
        return beyond.start(), _WORD
    if end - begin <= limit:
        return end, _WORD
    return _between_clusters(text, begin, begin + limit), _CHARACTER


def _between_clusters(text: str, begin: int, stop: int) -> int:
    """Return `stop`, or an index shortly before it that does not separate a character from its modifiers."""
    for place in range(stop, max(begin, stop - _CLUSTER), -1):
        if not _modifies(text[place]) and text[place - 1] != _ZWJ:
            return place
    return stop


def _modifies(character: str) -> bool:
    skin_tone = "\U0001f3fb" <= character <= "\U0001f3ff"
    return character == _ZWJ or skin_tone or unicodedata.category(character).startswith("M")


def _visible(text: str, start: int, end: int) -> int:
    spaces = _SPACES.match(text, start, end)
    return spaces.end() if spaces else start


def _join_units(text: str, units: Sequence[Ranked]) -> tuple[str, list[Ranked]]:
    """Return a text of the units with at most one blank line between two units, and the units in this text."""
    parts: list[str] = []
    placed: list[Ranked] = []
    length = 0
    before = units[0][0]
    for start, end, rank in units:
        gap = text[before:start]
        joint = "\n" * min(2, gap.count("\n")) or gap[:1]
        parts += (joint, text[start:end])
        length += len(joint)
        placed.append((length, length + end - start, rank))
        length += end - start
        before = end
    return "".join(parts), placed


def _packed(text: str, units: Sequence[Ranked], limit: int) -> Iterator[Span]:
    """Yield the index of the first and the last unit of each chunk."""
    first = 0
    while first < len(units):
        begin = units[first][0]
        after = first + 1
        while after < len(units) and units[after][1] - begin <= limit:
            after += 1
        last = after - 1 if after == len(units) else _border(text, units, first, after)
        yield first, last
        first = last + 1


def _border(text: str, units: Sequence[Ranked], first: int, after: int) -> int:
    """Return the index of the last unit of a chunk. The units from `first` to `after - 1` fit into the chunk."""
    half = (units[first][0] + units[after - 1][1] + 1) // 2
    window = after - 1
    while window > first and units[window - 1][1] >= half:
        window -= 1
    rank = min(units[index][2] for index in range(window, after))
    best, smallest = after - 1, 1 << 32
    for index in range(after - 1, window - 1, -1):
        start, end, own = units[index]
        if own == rank and (checksum := zlib.crc32(text[start:end].encode("utf-8", "surrogatepass"))) < smallest:
            best, smallest = index, checksum
    return best


def _repeat_from(text: str, before: int, begin: int, overlap: int) -> int:
    """Return the start of the overlap of a chunk. before, begin: the starts of the previous chunk and of this one."""
    earliest = begin - overlap
    if earliest <= before:
        return before
    clean = _CLEAN_START.search(text, earliest - 1, begin - overlap // 2)
    if clean and clean.end() < begin:
        return clean.end()
    space = _SPACE.search(text, earliest - 1, begin)
    return _visible(text, space.end(), begin) if space else begin
