"""File name endings by the kind of text they stand for. PURE."""


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
