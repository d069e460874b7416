"""read: a part of a local file of a mirror as text. Only a file that the mirror sends can be read."""

from dataclasses import dataclass

from syncd.config.schema import Config
from syncd.core.errors import ConfigError, FileChanged
from syncd.core.keys import normal, shown, shown_path, to_os
from syncd.core.model import Content, Excluded, Item, Problem
from syncd.core.plain_text import decode
from syncd.local.walk import Tree
from syncd.queries.lookup import state_of

MOST_BYTES = 256 * 1024
"""The largest part that is returned (our own limit): more than an agent can use at a time."""


@dataclass(frozen=True, slots=True)
class Bytes:
    """A part of a text, in bytes of UTF-8."""

    offset: int
    limit: int


@dataclass(frozen=True, slots=True)
class Lines:
    """A part of a text, in lines. first: the number of the first line, from 1 on."""

    first: int
    count: int


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a text file.

    offset: the place of its first byte in the text. next_offset: the place of the next part, None at the end.
    size: bytes of the whole text. line: the number of its first line. All bytes are those of the text in UTF-8.
    """

    key: str
    path: str
    text: str
    offset: int
    next_offset: int | None
    size: int
    line: int


def read_source(config: Config, name: str, path: str, tree: Tree) -> tuple[Item, Content]:
    """Return the file at `path` (relative to the root) of mirror `name`, not yet converted. No request.

    tree: the folder of the mirror. Raises ConfigError if the mirror does not send the file, and Park, FileChanged or
    DiskRetry if it cannot be read now.
    """
    item = _readable(config, name, path, tree)
    try:
        return item, tree.read(item.path, allow_changing=True)[0]
    except FileChanged as error:
        raise FileChanged(f"{error}; list shows the files of the mirror") from error


def part_of(item: Item, content: Content, tree: Tree, wanted: Bytes | Lines) -> Part:
    """Return a part of a file, at most MOST_BYTES. It never ends within a character.

    content: as the mirror sends it, so a document is Markdown. Raises ConfigError if the file is no text.
    """
    try:
        data = decode(content.data).encode()
    except ValueError as error:
        raise ConfigError(
            f"{shown(item.key)} cannot be read as text: {error}. If the target has extracted text from it, search"
            " returns that text"
        ) from None
    start, end = _span(data, wanted)
    return Part(
        key=item.key,
        path=shown_path(tree.root / to_os(item.path)),
        text=data[start:end].decode(),
        offset=start,
        next_offset=end if end < len(data) else None,
        size=len(data),
        line=data.count(b"\n", 0, start) + 1,
    )


def _readable(config: Config, name: str, path: str, tree: Tree) -> Item:
    """Return the file at `path` if the mirror sends it. Raises ConfigError with the reason if not."""
    key = config.mirrors[name].key_prefix + normal(path)
    with state_of(config, name, tree):
        local = tree.look(key)
    match local:
        case Item() as item:
            return item
        case Problem(message=message):
            raise ConfigError(f"{shown(key)} is not mirrored, so it cannot be read here: {message}")
        case Excluded(rule=rule):
            raise ConfigError(f"{shown(key)} is left out of the mirror {name} by {rule}, so it cannot be read here")
        case None:
            raise ConfigError(f"the mirror {name} has no file {shown(key)}; list shows the files that it has")


def _span(data: bytes, wanted: Bytes | Lines) -> tuple[int, int]:
    """Return the start and the end of a part, neither of them within a character."""
    if isinstance(wanted, Lines):
        start = _after_lines(data, 0, wanted.first - 1)
        end = min(_after_lines(data, start, wanted.count), start + MOST_BYTES)
    else:
        start = _character_start(data, min(wanted.offset, len(data)))
        end = min(start + min(wanted.limit, MOST_BYTES), len(data))
    # A part that is shorter than its first character would never end, so it has this character.
    return start, max(_character_start(data, end), _character_end(data, start))


def _after_lines(data: bytes, start: int, count: int) -> int:
    """Return the place after `count` lines from `start` on, the end of the text if it has no more lines."""
    for _ in range(count):
        found = data.find(b"\n", start)
        if found < 0:
            return len(data)
        start = found + 1
    return start


def _character_start(data: bytes, place: int) -> int:
    """Return the start of the character at a place of a text in UTF-8."""
    while 0 < place < len(data) and data[place] & 0xC0 == 0x80:
        place -= 1
    return place


def _character_end(data: bytes, start: int) -> int:
    """Return the end of the character that begins at a place."""
    end = min(start + 1, len(data))
    while end < len(data) and data[end] & 0xC0 == 0x80:
        end += 1
    return end
