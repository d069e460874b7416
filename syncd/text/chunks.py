"""Cutting one section of a text into pieces of a given size. PURE.

What is too long is cut into units: blocks, then lines or sentences, then words, then characters. Units are packed into
pieces. A piece ends, where it is at least half full, after the unit that has the smallest checksum among those of the
best rank: a rule that looks at the content only, so that after an edit borders soon fall where they fell before.
"""

import re
import unicodedata
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from syncd.text.sections import Block, Section, Span, front_end, paragraphs, sections, trimmed

Kind = Literal["markdown", "text"]

CHUNKS_VERSION = 1
"""Part of what ids prove: raise it when the same text would give other chunks."""

Ranked = tuple[int, int, int]
"""Start, end, and the rank of a border behind it; the lower, the better."""

_PARAGRAPH, _LINE, _WORD, _CHARACTER, _HEADING = range(5)

_GRAINS = 8
"""Words are taken together to an eighth of a piece: fine enough to fill it, and a long line stays cheap."""

_CLUSTER = 16
"""How many characters a cut steps back so as not to part a letter from its accents, or the parts of an emoji."""

_ZWJ = "\u200d"
_SPACE = re.compile(r"\s")
_SPACES = re.compile(r"\s*")
_LAST_SPACE = re.compile(r".*\s", re.DOTALL)
_NOT_EMPTY = re.compile(r"[^\n]+")
# Bounded, so that no run of full stops or quotes is read twice.
_SENTENCE_END = re.compile(r"[.!?…][\"'”’)\]]{0,4}(?=\s)|[。！？][\"'”’」』）]{0,4}")  # noqa: RUF001 - CJK full stops
_CLEAN_START = re.compile(rf"\n+|(?:{_SENTENCE_END.pattern})\s*")
# A Markdown paragraph whose lines are rows, items or quotes rather than prose.
_ROWS = re.compile(r"^[ \t]*(?:[|>]|[-*+][ \t]|\d{1,9}[.)][ \t])", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a text. `text` is what is embedded, never blank. `heading` is the path of the headings that it
    stands under ("Guide > Install > Linux"), "" if there are none.
    """

    text: str
    heading: str


def chunks(text: str, kind: Kind, size: int, overlap: int) -> list[Chunk]:
    """The chunks of a text, in order; none if it is blank. Nothing but white space and front matter is lost.

    size: the most characters of a chunk, overlap included. overlap: how many characters a chunk may repeat from the
    end of the one before, within one section. Line ends are line feeds. ValueError unless 0 <= overlap < size / 2.
    """
    if not 0 <= overlap * 2 < size:
        raise ValueError(f"overlap {overlap} must be less than half of size {size}")
    found = _sections(text, kind)
    return [Chunk(piece, section.heading) for section in found for piece in pieces(text, section, size, overlap)]


def is_blank(text: str, kind: Kind) -> bool:
    """Whether chunks() would give none."""
    start = front_end(text) if kind == "markdown" else 0
    return not text[start:].strip()


def _sections(text: str, kind: Kind) -> Iterator[Section]:
    if kind == "markdown":
        yield from sections(text)
    else:
        blocks = [Block(start, end, lined=True) for start, end in paragraphs(text, 0, len(text))]
        yield Section("", 0, 0, blocks)


def pieces(text: str, section: Section, size: int, overlap: int) -> Iterator[str]:
    """The section as pieces of at most `size` characters, each but the first with up to `overlap` characters of the
    one before. The first begins with the heading, which stands alone only if there is nothing below it, or if it
    takes three quarters of the room.
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
    tidy, units = _tidied(text, list(_units(text, section, limit)))
    before = 0
    for first, last in _packed(tidy, units, limit):
        begin, end = units[first][0], units[last][1]
        yield tidy[_repeat_from(tidy, before, begin, overlap) : end]
        before = begin


def _units(text: str, section: Section, limit: int) -> Iterator[Ranked]:
    """The section in units of at most `limit` characters."""
    lead, lead_end = section.lead, section.lead_end
    length = lead_end - lead
    room = limit
    if 0 < length <= limit * 3 // 4 and section.blocks:
        yield lead, lead_end, _HEADING
        # A blank line stands between the two. What comes first must fit, or the heading would stand alone.
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
    # The border behind the last unit is that of the block.
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
    """Where to cut: the last space within a grain, else the next one within the limit, else hard at the limit."""
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
    """`stop`, or a place a little before it that parts no character from what modifies it."""
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


def _tidied(text: str, units: Sequence[Ranked]) -> tuple[str, list[Ranked]]:
    """The units in a text of their own with at most one blank line between two, and where they are in it."""
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
    """Pieces as the first and the last unit of each."""
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
    """Which of the units first..after-1, these being all that fit, is the last of the piece."""
    half = (units[first][0] + units[after - 1][1] + 1) // 2
    window = after - 1
    while window > first and units[window - 1][1] >= half:
        window -= 1
    rank = min(units[each][2] for each in range(window, after))
    best, smallest = after - 1, 1 << 32
    for each in range(after - 1, window - 1, -1):
        start, end, own = units[each]
        if own == rank and (checksum := zlib.crc32(text[start:end].encode("utf-8", "surrogatepass"))) < smallest:
            best, smallest = each, checksum
    return best


def _repeat_from(text: str, before: int, begin: int, overlap: int) -> int:
    """Where a piece that begins at `begin` starts to repeat the one that began at `before`."""
    earliest = begin - overlap
    if earliest <= before:
        return before
    clean = _CLEAN_START.search(text, earliest - 1, begin - overlap // 2)
    if clean and clean.end() < begin:
        return clean.end()
    space = _SPACE.search(text, earliest - 1, begin)
    return _visible(text, space.end(), begin) if space else begin
