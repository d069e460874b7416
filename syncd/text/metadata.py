"""What is said of a file beside its bytes, for searches to show and to filter by. PURE.

Fields have names that the user chose, and sources:

    title        front matter's `title`, else the first heading; of HTML `title`, else `h1`; else the file's name
    description  front matter's `description`, of HTML that `meta` tag; else there is none
    modified     when the file was changed last, 2026-11-22T10:00:00Z
    folder       the key up to its last slash
    front:NAME   that field of the front matter, of HTML that `meta` tag
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from syncd.core import short_names
from syncd.core.model import FRONT_FIELD
from syncd.text import front_matter, html_head
from syncd.text.chunk_markdown import first_heading

Kind = Literal["markdown", "html", "other"]

VALUE_LENGTH, VALUE_BYTES = 500, 1000
"""A value is cut to so many characters, and bytes of UTF-8. AI Search keeps 500 characters of a text (its docs on
metadata), and all fields of an item share 10 KiB.
"""

_UNWRITABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


@dataclass(frozen=True, slots=True)
class File:
    """What the fields are found in. text: its start, None if it is no text. mtime_ns: since the epoch, if known."""

    key: str
    kind: Kind
    text: str | None
    mtime_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """The fields, each a text that is not empty. fault: why the front matter could not be read."""

    fields: Mapping[str, str]
    fault: str | None = None


def reads_text(sources: Mapping[str, str]) -> bool:
    """Whether any of these sources needs the file's text."""
    return any(source not in ("modified", "folder") for source in sources.values())


def describe(sources: Mapping[str, str], file: File) -> Said:
    """Find the fields of a file. sources: field -> where its value comes from. A field without a value is left out."""
    own, heading, fault = _of_text(file) if reads_text(sources) else ({}, "", None)
    folder, slash, name = file.key.rpartition("/")
    found = {
        "title": own.get("title") or heading or name.rpartition(".")[0] or name,
        "description": own.get("description", ""),
        "modified": _time(file.mtime_ns),
        "folder": folder + slash,
    }
    values = {
        field: _clean(
            own.get(source.removeprefix(FRONT_FIELD).strip().lower(), "")
            if source.startswith(FRONT_FIELD)
            else found[source]
        )
        for field, source in sources.items()
    }
    return Said({field: value for field, value in values.items() if value}, fault)


def fitted(marks: Mapping[str, Any], fields: Mapping[str, str], limit: int) -> dict[str, Any]:
    """Marks, and as many fields with them as `limit` bytes of compact JSON take; the longest are left out first."""
    kept = dict(fields)
    while kept and json_size({**kept, **marks}) > limit:
        del kept[max(kept, key=lambda name: len(name.encode()) + len(kept[name].encode()))]
    return {**kept, **marks}


def json_size(value: Mapping[str, Any]) -> int:
    """Bytes of compact JSON in UTF-8."""
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass"))


def _of_text(file: File) -> tuple[Mapping[str, str], str, str | None]:
    """What a text says of itself by name, its first heading, and why its front matter could not be read."""
    if file.text is None or file.kind == "other":
        return {}, "", None
    if file.kind == "html":
        page = html_head.read(file.text)
        return {**page.meta, "title": page.title}, page.heading, page.fault
    front = front_matter.read(file.text)
    return front.fields, first_heading(file.text) or "", front.fault


def _time(mtime_ns: int | None) -> str:
    if mtime_ns is None:
        return ""
    try:
        return datetime.fromtimestamp(mtime_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        # Some file systems know years that no calendar does.
        return ""


def _clean(value: str) -> str:
    return short_names.start(" ".join(_UNWRITABLE.sub(" ", value).split()), VALUE_LENGTH, VALUE_BYTES).strip()
