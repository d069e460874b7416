"""read: a part of a local file of a mirror as text. Only a file that the mirror sends can be read."""

from typing import Any

from syncd.config.schema import Config
from syncd.core.errors import ConfigError, FileChanged
from syncd.core.keys import normal, shown, shown_path, to_os
from syncd.core.model import Content, Excluded, Item, Problem
from syncd.core.plain_text import decode
from syncd.local.walk import Tree
from syncd.queries.lookup import state_of

MOST_BYTES = 256 * 1024
"""The largest part that is returned (our own limit): more than an agent can use at a time."""


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


def part_of(  # noqa: PLR0913 - the parameters of the tool
    item: Item, content: Content, tree: Tree, *, offset: int, limit: int, line: int | None, lines: int
) -> dict[str, Any]:
    """Return a part of a file, at most MOST_BYTES. It never ends within a character.

    content: as the mirror sends it, so a document is Markdown. line: the first of `lines` lines, from 1 on; None: the
    part has `limit` bytes from `offset` on. Offsets and sizes count the bytes of the text in UTF-8. In the result,
    `next_offset` is the offset of the next part, None at the end; `size` is the size of the whole text; `line` is the
    number of the first line.
    Raises ConfigError if the file is no text.
    """
    try:
        data = decode(content.data).encode()
    except ValueError as error:
        raise ConfigError(
            f"{shown(item.key)} cannot be read as text: {error}. If the target has extracted text from it, search"
            " returns that text"
        ) from None
    start, end = _bytes_of(data, offset, limit) if line is None else _bytes_of_lines(data, line, lines)
    # A part has at least one character. Otherwise `next_offset` would never advance.
    end = max(_character_start(data, end), _character_end(data, start))
    return {
        "key": item.key,
        "path": shown_path(tree.root / to_os(item.path)),
        "text": data[start:end].decode(),
        "offset": start,
        "next_offset": end if end < len(data) else None,
        "size": len(data),
        "line": data.count(b"\n", 0, start) + 1,
    }


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


def _bytes_of(data: bytes, offset: int, limit: int) -> tuple[int, int]:
    """Return the start of a part, which is the start of a character, and the end of the part."""
    start = _character_start(data, min(offset, len(data)))
    return start, min(start + min(limit, MOST_BYTES), len(data))


def _bytes_of_lines(data: bytes, first: int, count: int) -> tuple[int, int]:
    start = _after_lines(data, 0, first - 1)
    return start, min(_after_lines(data, start, count), start + MOST_BYTES)


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
