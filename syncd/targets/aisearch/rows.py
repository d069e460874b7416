"""What a row of AI Search says, as the core understands it: whose it is, what it holds, whether it is there at all."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from syncd.cloudflare.ai_search import BUILTIN
from syncd.cloudflare.ai_search_values import Item
from syncd.cloudflare.content_types import SUPPORTED
from syncd.model import Entry
from syncd.names import prefix_of
from syncd.targets.base import Content, Stored

SHA256, OWNER, PREFIX = "sha256", "owner", "prefix"
"""Our marks: metadata fields of every item we upload, both text."""
NEXT = ".next"
NAME_LENGTH = 128
"""Characters of an item's name (API, code 7072)."""


@dataclass(frozen=True, slots=True)
class Marks:
    """What this mirror writes on its items, and whether it may take over those of others.

    alternate: changed content goes under the key's other name, beside the item that is found until then. fields: of
    the metadata, besides the marks -> their sources (see metadata).
    """

    owner: str
    prefix: str = ""
    takeover: bool = False
    alternate: bool = False
    fields: Mapping[str, str] = field(default_factory=dict)


def alternate(key: str) -> str:
    """The other name of a key: "x.next.md" for "x.md". It ends as the key does, for the service goes by the ending."""
    folder, slash, name = key.rpartition("/")
    places = [place for place, char in enumerate(name) if char == "." and name[place:].lower() in SUPPORTED]
    end = places[0] if places else len(name)
    return f"{folder}{slash}{name[:end]}{NEXT}{name[end:]}"


def names(key: str) -> tuple[str, ...]:
    """The names that an item of this key may have, its own first."""
    other = alternate(key)
    return (key, other) if len(other) <= NAME_LENGTH else (key,)


def may_be_another(key: str) -> bool:
    """Whether a key looks like the other name of some key."""
    return key == alternate(key[::-1].replace(NEXT[::-1], "", 1)[::-1])


def alternate_of(name: str, said: object) -> str:
    """The key whose other name this is. said: that key by the metadata, believed if the name fits; else the name."""
    return said if isinstance(said, str) and name in names(said) else name


def there(item: Item) -> bool:
    """Whether it was uploaded (a listing may ignore the source filter) and stays: what is being deleted is gone."""
    return item.source_id == BUILTIN and item.next_action != "DELETE"


def digests(data: bytes) -> frozenset[str]:
    """What a remote's checksum may be, if it is a plain digest of the content."""
    return frozenset(hashlib.new(name, data, usedforsecurity=False).hexdigest() for name in ("md5", "sha1", "sha256"))


def entry_of(item: Item) -> Entry:
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


def stored(item: Item, content: Content, leaves: str | None = None) -> Stored:
    """What to remember of an item that is known to hold this content. leaves: the item whose place it takes."""
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
        leaves=leaves,
    )
