"""From a put and its bytes to the metadata fields that a mirror's map asks for."""

from collections.abc import Mapping

import structlog

from syncd.paths import shown
from syncd.targets.base import Content
from syncd.text.endings import HTML, MARKDOWN, ending
from syncd.text.metadata import File, Kind, describe, reads_text
from syncd.text.texts import head

log = structlog.get_logger()

HEAD_BYTES = 64 * 1024
"""So much of a file's start is searched for its title and its front matter (our own limit)."""


def described(sources: Mapping[str, str], key: str, content: Content) -> dict[str, str]:
    """The fields of one file; a front matter that cannot be read gives none and stops nothing. Slow: for a thread."""
    kind: Kind = "markdown" if ending(key) in MARKDOWN else "html" if ending(key) in HTML else "other"
    text = head(content.data, HEAD_BYTES) if kind != "other" and reads_text(sources) else None
    said = describe(sources, File(key, kind, text, content.mtime_ns))
    if said.fault:
        log.debug("front_matter.unread", key=shown(key), why=said.fault[:200])
    return dict(said.fields)
