"""Metadata of a file for searches, from its front matter, its headings, its key and its modification time. PURE.

The config gives each field a name and a source:

    title        `title` of the front matter, else the first heading; HTML: `title`, else `h1`; else the file name
    description  `description` of the front matter; HTML: the `meta` tag; else no value
    modified     the modification time, such as 2026-11-22T10:00:00Z
    folder       the key up to its last slash
    front:NAME   the field NAME of the front matter; HTML: the `meta` tag

A value of front matter is the text as it is written: dates, numbers and `yes` are not interpreted. A list of plain
values becomes one text with commas. Nested values are left out.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any, Literal, NamedTuple

from syncd.core.key_digests import truncated
from syncd.core.model import FRONT_FIELD
from syncd.core.plain_text import utc_time
from syncd.text.sections import first_heading, front_span

FileKind = Literal["markdown", "html", "other"]

VALUE_LENGTH, VALUE_BYTES = 500, 1000
"""Maximum characters and maximum bytes of UTF-8 of a value. AI Search keeps 500 characters (its docs on metadata), and
all fields of an item share 10 KiB.
"""

SIZE_LIMIT = 16 * 1024
"""Maximum characters of front matter (our own limit: parsing takes a few milliseconds)."""
ITEMS_LIMIT = 50
"""Maximum number of values of one list (our own limit)."""
META_LIMIT = 100
"""Most `meta` tags of one page (our own limit)."""

_UNWRITABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


@dataclass(frozen=True, slots=True)
class MetadataInput:
    """A file. text: its start, None if it is no text. mtime_ns: nanoseconds since the epoch, None if unknown."""

    key: str
    kind: FileKind
    text: str | None
    mtime_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Metadata:
    """The fields with a value. fault: the reason why the front matter could not be read, None without a fault."""

    fields: Mapping[str, str]
    fault: str | None = None


def reads_text(sources: Mapping[str, str]) -> bool:
    """Return whether one of these sources needs the text of the file."""
    return any(source not in ("modified", "folder") for source in sources.values())


def describe(sources: Mapping[str, str], file: MetadataInput) -> Metadata:
    """Return the metadata of a file. sources: field -> source. A field without a value is left out."""
    own, heading, fault = _of_text(file) if reads_text(sources) else ({}, "", None)
    folder, slash, name = file.key.rpartition("/")
    values_by_source = {
        "title": own.get("title") or heading or name.rpartition(".")[0] or name,
        "description": own.get("description", ""),
        "modified": _time(file.mtime_ns),
        "folder": folder + slash,
    }
    values = {
        field: _clean(
            own.get(source.removeprefix(FRONT_FIELD).strip().lower(), "")
            if source.startswith(FRONT_FIELD)
            else values_by_source[source]
        )
        for field, source in sources.items()
    }
    return Metadata({field: value for field, value in values.items() if value}, fault)


def _of_text(file: MetadataInput) -> tuple[Mapping[str, str], str, str | None]:
    """Return the named fields of a text, its first heading, and the fault of its front matter."""
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
        return utc_time(mtime_ns // 1_000_000_000)
    except (ValueError, OverflowError, OSError):
        # Some file systems have years outside the range of datetime.
        return ""


def _clean(value: str) -> str:
    return truncated(" ".join(_UNWRITABLE.sub(" ", value).split()), VALUE_LENGTH, VALUE_BYTES).strip()


class Front(NamedTuple):
    """Front matter. fields: by names in lower case. fault: the reason why nothing could be read, else None."""

    fields: Mapping[str, str]
    fault: str | None = None


def read_front_matter(text: str) -> Front:
    """Return the front matter at the start of a text. Invalid front matter has no fields, but a fault."""
    span = front_span(text)
    if span is None:
        return Front({})
    inside = text[span.start : span.stop]
    if len(inside) > SIZE_LIMIT:
        return Front({}, f"it is over {SIZE_LIMIT} characters")
    try:
        values = _yaml(inside) if span.kind == "yaml" else tomllib.loads(inside)
    except Exception as error:  # noqa: BLE001 - any exception of a parser is a fault of the text
        return Front({}, " ".join(str(error).split()) or type(error).__name__)
    fields: dict[str, str] = {}
    for name, value in values.items() if isinstance(values, dict) else ():
        if isinstance(name, str) and (text_value := _plain_value(value)):
            fields.setdefault(name.strip().lower(), text_value)
    return Front(fields)


def _yaml(text: str) -> Any:
    # The import takes 10 ms, and few folders need it. The loader written in C has no limit of its depth.
    import yaml  # type: ignore[import-untyped]

    try:
        return yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - this loader creates texts, lists and mappings only
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _plain_value(value: object) -> str:
    if isinstance(value, list):
        texts = [_plain_value(item) for item in value[:ITEMS_LIMIT] if not isinstance(item, list)]
        return ", ".join(filter(None, texts))
    if isinstance(value, dict):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value).strip()
    return "" if text in {"~", "null"} else text


@dataclass(slots=True)
class HtmlHead:
    """The head of an HTML page. title, heading: "" for none. meta: the first content of each name in lower case.

    fault: the exception that ended the parsing, else None.
    """

    title: str = ""
    heading: str = ""
    meta: dict[str, str] = field(default_factory=dict)
    fault: str | None = None


def read_html_head(html: str) -> HtmlHead:
    """Return the title, the first heading and the `meta` tags at the start of a page."""
    parser = _HeadParser()
    try:
        parser.feed(html)
    except Exception as error:  # noqa: BLE001 - any exception of the parser is a fault of the page
        parser.page.fault = f"{type(error).__name__}: {error}"
    return parser.page


class _HeadParser(HTMLParser):
    """Reads the first `title` and `h1` with a text. Titles of SVG images come later, so they do not count."""

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
