"""The type of a document by its file name, and its text."""

import codecs
from dataclasses import dataclass
from importlib.util import find_spec

from syncd.core.errors import Park, Retry
from syncd.core.plain_text import MARKS
from syncd.text.chunks import TextKind, is_blank

HTML_REMEDY = "pip install 'syncd[vectorize]'"


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
    text = _decode(data)
    kind: TextKind = "markdown" if ending(key) in MARKDOWN | HTML else "text"
    if ending(key) in HTML:
        text = _from_html(text)
    if is_blank(text, kind):
        raise Park("empty", "the file has no text to embed")
    return Document(text, kind)


def decode_head(data: bytes, size: int) -> str | None:
    """Return the text of the first `size` bytes of a file. None: the file is no text."""
    mark, encoding = _encoding(data)
    part = data[len(mark) : len(mark) + size]
    try:
        # An incomplete character at the end is left out.
        text = codecs.getincrementaldecoder(encoding)().decode(part, final=len(part) < size)
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text.replace("\r\n", "\n").replace("\r", "\n")


def _encoding(data: bytes) -> tuple[bytes, str]:
    return next((mark for mark in MARKS if data.startswith(mark[0])), (b"", "utf-8"))


def _decode(data: bytes) -> str:
    mark, encoding = _encoding(data)
    try:
        text = data[len(mark) :].decode(encoding)
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise Park("unsupported_type", "the file is not UTF-8 text; save it as UTF-8")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def can_convert_html() -> bool:
    """Return whether the packages of the extra `vectorize` are installed."""
    return all(find_spec(name) for name in ("bs4", "markdownify"))


def _from_html(text: str) -> str:
    if not can_convert_html():
        # Not Park: a parked file is retried only after a change of the file, not after the extra is installed.
        raise Retry(f"converting HTML needs the extra 'vectorize': {HTML_REMEDY}, then start syncd again")
    # Imported late, because few folders contain HTML.
    from syncd.text.converter import converter

    return converter.markdown(text)
