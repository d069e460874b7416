"""What kind of text a file is, by its name, and its bytes decoded."""

import codecs
from dataclasses import dataclass
from importlib.util import find_spec

from syncd.core.errors import Park, Retry
from syncd.core.plain_text import MARKS
from syncd.text.chunks import Kind, is_blank

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
"""The endings, lower case and with the dot, of files that have a text to embed."""


def ending(key: str) -> str:
    """What follows the last dot of the name, lower case and with the dot; "" if there is none."""
    _, dot, last = key.rpartition("/")[2].lower().rpartition(".")
    return dot + last if dot and last else ""


@dataclass(frozen=True, slots=True)
class Document:
    """A file's text with line feeds as line ends, and how it is to be cut."""

    text: str
    kind: Kind


def read_document(key: str, data: bytes) -> Document:
    """The text of a file; HTML becomes Markdown.

    Raises Park("unsupported_type") if it is no text, Park("empty") if it would give no chunks, and Retry for HTML if
    the extra `vectorize` is not installed.
    """
    text = _decoded(data)
    kind: Kind = "markdown" if ending(key) in MARKDOWN | HTML else "text"
    if ending(key) in HTML:
        text = _from_html(text)
    if is_blank(text, kind):
        raise Park("empty", "the file has no text to embed")
    return Document(text, kind)


def decode_head(data: bytes, size: int) -> str | None:
    """The text that the first `size` bytes of a file hold, None if it is no text."""
    mark, encoding = _encoding(data)
    part = data[len(mark) : len(mark) + size]
    try:
        # A character that is cut in two at the end is left out.
        text = codecs.getincrementaldecoder(encoding)().decode(part, final=len(part) < size)
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text.replace("\r\n", "\n").replace("\r", "\n")


def _encoding(data: bytes) -> tuple[bytes, str]:
    return next((each for each in MARKS if data.startswith(each[0])), (b"", "utf-8"))


def _decoded(data: bytes) -> str:
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
        # Not Park: a parked file is tried again only after it changes, but this one can go up once the extra is there.
        raise Retry(f"converting HTML needs the extra 'vectorize': {HTML_REMEDY}, then start syncd again")
    # Few folders hold HTML.
    from syncd.text.converter import converter

    return converter.markdown(text)
