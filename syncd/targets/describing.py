"""From a put and its bytes to the metadata fields that a mirror's map asks for."""

import asyncio
from collections.abc import Mapping

import structlog

from syncd.core.keys import shown
from syncd.core.model import Content
from syncd.text.documents import HTML, MARKDOWN, decode_head, ending
from syncd.text.metadata import Kind, MetadataInput, describe, reads_text

log = structlog.get_logger()

HEAD_BYTES = 64 * 1024
"""So much of a file's start is searched for its title and its front matter (our own limit)."""
AT_ONCE_BYTES = 8 * 1024
"""A file of at most so many bytes is described where one stands: the trip to a thread would take longer."""


async def description(sources: Mapping[str, str], key: str, content: Content) -> dict[str, str]:
    """Like `described`, without holding up what else is under way."""
    if not sources:
        return {}
    if len(content.data) <= AT_ONCE_BYTES:
        return described(sources, key, content)
    return await asyncio.to_thread(described, sources, key, content)


def described(sources: Mapping[str, str], key: str, content: Content) -> dict[str, str]:
    """The fields of one file; a front matter that cannot be read gives none and stops nothing. Slow for a large one."""
    kind: Kind = "markdown" if ending(key) in MARKDOWN else "html" if ending(key) in HTML else "other"
    text = decode_head(content.data, HEAD_BYTES) if kind != "other" and reads_text(sources) else None
    said = describe(sources, MetadataInput(key, kind, text, content.mtime_ns))
    if said.fault:
        log.debug("front_matter.unread", key=shown(key), why=said.fault[:200])
    return dict(said.fields)
