"""A document: its type by its file name, its text, and its metadata for searches."""

import codecs
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from importlib.util import find_spec
from typing import Any

from syncd.core.errors import Park, Retry
from syncd.core.model import FRONT_FIELD, Content
from syncd.core.plain_text import BYTE_ORDER_MARKS, truncated, utc_time
from syncd.text.chunks import TextKind, is_blank
from syncd.text.sections import first_heading, front_span

HEAD_BYTES = 64 * 1024
"""Bytes at the start of a file in which syncd looks for its title and its front matter (our own limit)."""
VALUE_LENGTH, VALUE_BYTES = 500, 1000
"""Maximum characters and maximum UTF-8 bytes of a value.

AI Search keeps 500 characters of a value (its docs on metadata), and all fields of an item share 10 KiB.
"""
FRONT_MATTER_LIMIT = 16 * 1024
"""Maximum characters of front matter (our own limit: parsing takes a few milliseconds)."""
ITEMS_LIMIT = 50
"""Maximum number of values of one list (our own limit)."""
META_LIMIT = 100
"""Maximum number of `meta` tags of one page (our own limit)."""

HTML_REMEDY = "pip install 'syncd[vectorize]'"

_UNWRITABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


def _endings(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


MARKDOWN = _endings(".md .markdown .mdx .mdoc .mkd .qmd .rmd")
HTML = _endings(".html .htm .xhtml")
PLAIN = _endings(
    # prose and notes
    ".txt .text .rst .adoc .asciidoc .org .textile .wiki .tex .latex .bib .log .srt .vtt .diff .patch "
    # data and settings
    ".csv .tsv .json .jsonl .ndjson .json5 .geojson .yaml .yml .toml .ini .cfg .conf .env .properties .xml .xsd "
    ".xsl .sgml .plist .editorconfig .gitignore .gitattributes .dockerignore .dockerfile .mk .cmake .gradle .tf "
    ".tfvars .hcl .nix .proto .graphql .gql .thrift .service "
    # programs
    ".py .pyi .js .mjs .cjs .ts .mts .cts .tsx .jsx .vue .svelte .astro .css .scss .sass .less .go .rs .java .kt "
    ".kts .scala .groovy .c .h .cc .cpp .cxx .hh .hpp .hxx .m .mm .cs .fs .fsx .vb .swift .dart .rb .php .pl .pm "
    ".lua .r .jl .sh .bash .zsh .fish .ps1 .psm1 .bat .cmd .awk .sql .ex .exs .erl .hrl .hs .lhs .ml .mli .clj "
    ".cljs .edn .el .lisp .scm .rkt .vim .zig .nim .d .f90 .pas .asm .s .v .sv .vhd .sol .cu .glsl .hlsl .wgsl"
)

SUPPORTED: frozenset[str] = MARKDOWN | HTML | PLAIN
"""The endings of files with a text to embed, in lower case with the dot."""


def ending(key: str) -> str:
    """Return the ending of a file name from its last dot, in lower case; "" without an ending."""
    _, dot, last = key.rpartition("/")[2].lower().rpartition(".")
    return dot + last if dot and last else ""


@dataclass(frozen=True, slots=True)
class Document:
    """The text of a file, with line feeds as line ends. kind: how it is cut into chunks."""

    text: str
    kind: TextKind


def read_document(key: str, data: bytes) -> Document:
    """Return the text of a file. HTML is converted to Markdown.

    Raises Park("unsupported_type") if the file is no text, Park("empty") if it has no text to embed, and Retry for HTML
    if the extra `vectorize` is not installed.
    """
    text = _decode(data, len(data) + 1)
    if text is None:
        raise Park("unsupported_type", "the file is not UTF-8 text; save it as UTF-8")
    kind: TextKind = "markdown" if ending(key) in MARKDOWN | HTML else "text"
    if ending(key) in HTML:
        if not can_convert_html():
            # Retry, because a parked file would be retried only after a change of the file.
            raise Retry(f"converting HTML needs the extra 'vectorize': {HTML_REMEDY}, then start syncd again")
        # Imported late, because few folders contain HTML.
        from syncd.text.converter import converter

        text = converter.markdown(text)
    if is_blank(text, kind):
        raise Park("empty", "the file has no text to embed")
    return Document(text, kind)


def _decode(data: bytes, size: int) -> str | None:
    """Return the text of the first `size` bytes of a file. None: the file is no text."""
    mark, encoding = next((mark for mark in BYTE_ORDER_MARKS if data.startswith(mark[0])), (b"", "utf-8"))
    part = data[len(mark) : len(mark) + size]
    try:
        # The decoder drops an incomplete character at the end of a part.
        text = codecs.getincrementaldecoder(encoding)().decode(part, final=len(part) < size)
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text.replace("\r\n", "\n").replace("\r", "\n")


def can_convert_html() -> bool:
    """Return whether the packages of the extra `vectorize` are installed."""
    return all(find_spec(name) for name in ("bs4", "markdownify"))


# -- metadata


def describe(sources: Mapping[str, str], key: str, content: Content) -> tuple[dict[str, str], str | None]:
    """Return the metadata of a file, and why its front matter could not be read (else None).

    A field without a value is left out.

    sources: field -> one of these sources:

        title        `title` of the front matter, else the first heading; HTML: `title`, else `h1`; else the file name
        description  `description` of the front matter; HTML: the `meta` tag; else no value
        modified     the modification time, such as 2026-11-22T10:00:00Z
        folder       the key up to its last slash
        front:NAME   the field NAME of the front matter; HTML: the `meta` tag

    A value of front matter is the text as it is written: dates, numbers and `yes` are not interpreted. A list of plain
    values becomes one text with commas. Nested values are left out.
    """
    head = _read_head(key + content.suffix, content.data) if set(sources.values()) - {"modified", "folder"} else Head()
    folder, slash, name = key.rpartition("/")
    values_by_source = {
        "title": head.fields.get("title") or head.heading or name.rpartition(".")[0] or name,
        "description": head.fields.get("description", ""),
        "modified": _time(content.mtime_ns),
        "folder": folder + slash,
    }
    values = {
        field: _clean(
            head.fields.get(source.removeprefix(FRONT_FIELD).strip().lower(), "")
            if source.startswith(FRONT_FIELD)
            else values_by_source[source]
        )
        for field, source in sources.items()
    }
    return {field: value for field, value in values.items() if value}, head.fault


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


@dataclass(slots=True)
class Head:
    """The start of a document.

    fields: name in lower case -> value, from the front matter, or from the `title` and the `meta` tags of a page.
    heading: "" for none. fault: why the front matter or the rest of the page could not be read, else None.
    """

    fields: dict[str, str] = field(default_factory=dict)
    heading: str = ""
    fault: str | None = None


def _read_head(key: str, data: bytes) -> Head:
    if ending(key) not in MARKDOWN | HTML:
        return Head()
    text = _decode(data, HEAD_BYTES)
    if text is None:
        return Head()
    return read_html_head(text) if ending(key) in HTML else read_markdown_head(text)


def read_markdown_head(text: str) -> Head:
    """Return the front matter and the first heading of a text. Invalid front matter has no fields, but a fault."""
    head = Head(heading=first_heading(text) or "")
    span = front_span(text)
    if span is None:
        return head
    front_matter = text[span.start : span.stop]
    if len(front_matter) > FRONT_MATTER_LIMIT:
        head.fault = f"it is over {FRONT_MATTER_LIMIT} characters"
        return head
    try:
        values = _yaml(front_matter) if span.kind == "yaml" else tomllib.loads(front_matter)
    except Exception as error:  # noqa: BLE001 - any exception of a parser is a fault of the text
        head.fault = " ".join(str(error).split()) or type(error).__name__
        return head
    for name, value in values.items() if isinstance(values, dict) else ():
        if isinstance(name, str) and (text_value := _plain_value(value)):
            head.fields.setdefault(name.strip().lower(), text_value)
    return head


def _yaml(text: str) -> Any:
    # The import takes 10 ms, and few folders need it. The loader that is written in C does not limit the depth.
    import yaml  # type: ignore[import-untyped]

    return yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - this loader creates texts, lists and mappings only


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


def read_html_head(html: str) -> Head:
    """Return the title, the first heading and the first `meta` tag of each name at the start of a page."""
    parser = _HeadParser()
    try:
        parser.feed(html)
    except Exception as error:  # noqa: BLE001 - any exception of the parser is a fault of the page
        parser.head.fault = f"{type(error).__name__}: {error}"
    return parser.head


class _HeadParser(HTMLParser):
    """Reads the first `title` and the first `h1` with a text. The titles of SVG images come later, and do not count."""

    def __init__(self) -> None:
        super().__init__()
        # A `meta` tag is never the title.
        self.head = Head({"title": ""})
        self._open = ""
        self._text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "meta":
            values = {name: value or "" for name, value in attrs}
            name = values.get("name", "").strip().lower()
            if name and len(self.head.fields) <= META_LIMIT:
                self.head.fields.setdefault(name, values.get("content", ""))
        elif (tag == "title" and not self.head.fields["title"]) or (tag == "h1" and not self.head.heading):
            self._open, self._text = tag, []

    def handle_data(self, data: str) -> None:
        if self._open:
            self._text.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag and tag == self._open:
            text = " ".join("".join(self._text).split())
            if tag == "title":
                self.head.fields["title"] = text
            else:
                self.head.heading = text
            self._open = ""
