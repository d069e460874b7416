"""check --types and --excludes: the file types that each target takes, and the built-in excludes. Needs no config."""

import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from syncd.cli.output import print_json, print_line
from syncd.core.errors import EXIT_OK
from syncd.core.plain_text import shown_size

_WIDTH = 100
"""Characters of a line of extensions."""
_TITLES = {
    "ai-search": "AI Search",
    "kv": "Workers KV (max_file_size is 4 MiB by default)",
    "vectorize": "Vectorize (max_file_size is 4 MiB by default)",
}


@dataclass(frozen=True, slots=True)
class TypeClass:
    """File types of one target with the same limit.

    group: their name. max_bytes: of a file. max_bytes_with_ocr: of a file in an AI Search instance with use_ocr.
    extensions: endings of file names, None for every name.
    """

    group: str
    max_bytes: int
    max_bytes_with_ocr: int
    extensions: list[str] | None


def type_classes() -> dict[str, list[TypeClass]]:
    """Return the classes of each kind of target."""
    from syncd.cloudflare.file_types import GROUPS
    from syncd.cloudflare.kv_bodies import VALUE_LIMIT
    from syncd.config.target_sections import VECTORIZE_MAX_FILE_SIZE
    from syncd.text.documents import HTML, MARKDOWN, PLAIN

    vectorize = {
        "Markdown": MARKDOWN,
        "HTML, with the extra vectorize": HTML,
        "plain text and code in UTF-8": PLAIN,
    }
    return {
        "ai-search": [TypeClass(name, small, ocr, sorted(endings)) for name, small, ocr, endings in GROUPS],
        "kv": [TypeClass("every file, also an empty one", VALUE_LIMIT, VALUE_LIMIT, None)],
        "vectorize": [
            TypeClass(name, VECTORIZE_MAX_FILE_SIZE, VECTORIZE_MAX_FILE_SIZE, sorted(endings))
            for name, endings in vectorize.items()
        ],
    }


def print_types(*, as_json: bool) -> int:
    """Print all classes. Return the exit code."""
    classes = type_classes()
    if as_json:
        types = {target: [asdict(type_class) for type_class in found] for target, found in classes.items()}
        print_json({"types": types, "exit_code": EXIT_OK})
        return EXIT_OK
    for target, found in classes.items():
        print_line(f"# {_TITLES[target]}")
        for type_class in found:
            for line in _lines(type_class):
                print_line(line)
        print_line("")
    print_line("# Case does not matter. max_file_size of the config is another limit (docs/reference/file-types.md).")
    return EXIT_OK


def _lines(type_class: TypeClass) -> Iterator[str]:
    size = shown_size(type_class.max_bytes)
    if type_class.max_bytes_with_ocr != type_class.max_bytes:
        size += f", or {shown_size(type_class.max_bytes_with_ocr)} if the instance has use_ocr"
    yield f"{type_class.group}: up to {size}"
    if type_class.extensions:
        yield from textwrap.wrap(
            " ".join(type_class.extensions), _WIDTH, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False
        )


def print_excludes(*, as_json: bool) -> int:
    """Print the built-in excludes by group. Return the exit code."""
    from syncd.core.rules import GROUPS

    if as_json:
        print_json({"excludes": GROUPS, "exit_code": EXIT_OK})
        return EXIT_OK
    for group, patterns in GROUPS.items():
        print_line(f"# {group}")
        for pattern in patterns:
            print_line(pattern)
        print_line("")
    print_line('# Case is ignored. To include such a file: exclude = ["!PATTERN"], or !PATTERN in a .syncdignore file.')
    return EXIT_OK
