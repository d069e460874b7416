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
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any, Literal, NamedTuple

from syncd.core.model import FRONT_FIELD
from syncd.core.short_names import truncated
from syncd.text.sections import first_heading, front_span

Kind = Literal["markdown", "html", "other"]

VALUE_LENGTH, VALUE_BYTES = 500, 1000
"""A value is cut to so many characters, and bytes of UTF-8. AI Search keeps 500 characters of a text (its docs on
metadata), and all fields of an item share 10 KiB.
"""

SIZE_LIMIT = 16 * 1024
"""Characters of front matter that are parsed (our own limit: the parsers take a few milliseconds for so much)."""
ITEMS_LIMIT = 50
"""Values of one list that are taken (our own limit)."""
META_LIMIT = 100
"""`meta` tags of one page that are looked at (our own limit)."""

_UNWRITABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


@dataclass(frozen=True, slots=True)
class MetadataInput:
    """What the fields are found in. text: its start, None if it is no text. mtime_ns: since the epoch, if known."""

    key: str
    kind: Kind
    text: str | None
    mtime_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Metadata:
    """The fields, each a text that is not empty. fault: why the front matter could not be read."""

    fields: Mapping[str, str]
    fault: str | None = None


def reads_text(sources: Mapping[str, str]) -> bool:
    """Whether any of these sources needs the file's text."""
    return any(source not in ("modified", "folder") for source in sources.values())


def describe(sources: Mapping[str, str], file: MetadataInput) -> Metadata:
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
    return Metadata({field: value for field, value in values.items() if value}, fault)


def fit_metadata(marks: Mapping[str, Any], fields: Mapping[str, str], limit: int) -> dict[str, Any]:
    """Marks, and as many fields with them as `limit` bytes of compact JSON take; the longest are left out first."""
    kept = dict(fields)
    while kept and json_size({**kept, **marks}) > limit:
        del kept[max(kept, key=lambda name: len(name.encode()) + len(kept[name].encode()))]
    return {**kept, **marks}


def json_size(value: Mapping[str, Any]) -> int:
    """Bytes of compact JSON in UTF-8."""
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass"))


def _of_text(file: MetadataInput) -> tuple[Mapping[str, str], str, str | None]:
    """What a text says of itself by name, its first heading, and why its front matter could not be read."""
    if file.text is None or file.kind == "other":
        return {}, "", None
    if file.kind == "html":
        page = read_html_head(file.text)
        return {**page.meta, "title": page.title}, page.heading, page.fault
    front = read_front_matter(file.text)
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
    return truncated(" ".join(_UNWRITABLE.sub(" ", value).split()), VALUE_LENGTH, VALUE_BYTES).strip()


class Front(NamedTuple):
    """fields: by their names in lower case. end: where the text proper begins. fault: why nothing could be read."""

    fields: Mapping[str, str]
    end: int = 0
    fault: str | None = None


def read_front_matter(text: str) -> Front:
    """The front matter at the very start of a text. What cannot be read gives no fields, and says why."""
    span = front_span(text)
    if span is None:
        return Front({})
    inside = text[span.start : span.stop]
    if len(inside) > SIZE_LIMIT:
        return Front({}, span.end, f"it is over {SIZE_LIMIT} characters")
    try:
        found = _yaml(inside) if span.kind == "yaml" else tomllib.loads(inside)
    except Exception as error:  # noqa: BLE001 - whatever a text makes a parser raise, it is the text's
        return Front({}, span.end, " ".join(str(error).split()) or type(error).__name__)
    fields: dict[str, str] = {}
    for name, value in found.items() if isinstance(found, dict) else ():
        if isinstance(name, str) and (said := _plain_value(value)):
            fields.setdefault(name.strip().lower(), said)
    return Front(fields, span.end)


def _yaml(text: str) -> Any:
    # It takes 10 ms to import, and most folders hold none. The loader written in C has no limit to its depth.
    import yaml  # type: ignore[import-untyped]

    try:
        return yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - makes texts, lists and mappings only
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _plain_value(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(
            said for each in value[:ITEMS_LIMIT] if not isinstance(each, list) and (said := _plain_value(each))
        )
    if isinstance(value, dict):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    said = str(value).strip()
    return "" if said in {"~", "null"} else said


@dataclass(slots=True)
class HtmlHead:
    """title, heading: "" if there is none. meta: content by name, lower case; the first of a name counts.

    fault: why the page was not read further, if it was not.
    """

    title: str = ""
    heading: str = ""
    meta: dict[str, str] = field(default_factory=dict)
    fault: str | None = None


def read_html_head(html: str) -> HtmlHead:
    """Read the start of a page; whatever is wrong with it, what was understood until then is returned."""
    parser = _HeadParser()
    try:
        parser.feed(html)
    except Exception as error:  # noqa: BLE001 - whatever a page makes the parser raise, it is the page's
        parser.page.fault = f"{type(error).__name__}: {error}"
    return parser.page


class _HeadParser(HTMLParser):
    """Takes the first `title` and `h1` that hold text. Those of an SVG in the page come later, so they do not count."""

    def __init__(self) -> None:
        super().__init__()
        self.page = HtmlHead()
        self._open = ""
        self._text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "meta":
            self._take_meta({name: value or "" for name, value in attrs})
        elif (tag == "title" and not self.page.title) or (tag == "h1" and not self.page.heading):
            self._open, self._text = tag, []

    def handle_data(self, data: str) -> None:
        if self._open:
            self._text.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag and tag == self._open:
            text = " ".join("".join(self._text).split())
            if tag == "title":
                self.page.title = text
            else:
                self.page.heading = text
            self._open = ""

    def _take_meta(self, attrs: dict[str, str]) -> None:
        name = attrs.get("name", "").strip().lower()
        if name and len(self.page.meta) < META_LIMIT:
            self.page.meta.setdefault(name, attrs.get("content", ""))
