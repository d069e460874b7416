"""What a row of AI Search says, as the core understands it: whose it is, what it holds, whether it is there at all."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from syncd.cloudflare.ai_search import BUILTIN
from syncd.cloudflare.ai_search_models import StoredItem
from syncd.core.model import Content, Entry, Stored
from syncd.core.short_names import prefix_of

SHA256, OWNER, PREFIX = "sha256", "owner", "prefix"
"""Our marks: metadata fields of every item we upload, both text."""


@dataclass(frozen=True, slots=True)
class ItemWritePolicy:
    """What this mirror writes on its items, and whether it may take over those of others.

    fields: the metadata fields besides the marks, each with its source (see text/metadata).
    """

    owner: str
    prefix: str = ""
    takeover: bool = False
    fields: Mapping[str, str] = field(default_factory=dict)


def there(item: StoredItem) -> bool:
    """Whether it was uploaded (a listing may ignore the source filter) and stays: what is being deleted is gone."""
    return item.source_id == BUILTIN and item.next_action != "DELETE"


def digests(data: bytes) -> frozenset[str]:
    """What a remote's checksum may be, if it is a plain digest of the content."""
    return frozenset(hashlib.new(name, data, usedforsecurity=False).hexdigest() for name in ("md5", "sha1", "sha256"))


def entry_of(item: StoredItem) -> Entry:
    """The item as an entry."""
    marks = item.metadata
    owner = marks.get(OWNER) if marks else None
    checksum = marks.get(SHA256) if marks else None
    return Entry(
        key=item.key,
        ref=item.id,
        checksum=str(checksum) if checksum else None,
        version=item.checksum,
        # A size of 0 is one that is not known yet: empty files are never sent.
        size=item.file_size or None,
        owner=str(owner) if owner is not None else None,
        marked=None if marks is None else checksum is not None,
        status=item.status,
        error=item.error,
        prefix=prefix_of(item.key, marks.get(PREFIX)) if marks and checksum is not None else None,
        metadata=marks,
    )


def stored(item: StoredItem, content: Content) -> Stored:
    """Return the facts to remember of an item that is known to hold this content."""
    entry = entry_of(item)
    return Stored(
        ref=item.id,
        checksum=content.checksum,
        size=len(content.data),
        version=entry.version,
        remote_size=entry.size,
        # What an upload's answer does not show, the next listing may: only a yes is remembered.
        marked=entry.marked or None,
        status=item.status,
        error=item.error,
    )
