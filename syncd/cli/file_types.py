"""check --types and --excludes: the file types that each target takes, and the built-in excludes. Needs no config."""

import textwrap
from collections.abc import Iterator
from typing import Any

from syncd.cli.output import print_json, print_line
from syncd.cloudflare.file_types import GROUPS, TypeGroup
from syncd.cloudflare.kv_bodies import VALUE_LIMIT
from syncd.core.errors import EXIT_OK
from syncd.core.plain_text import shown_size

_WIDTH = 100
"""Characters of a line of extensions."""
_TITLES = {
    "ai-search": "AI Search",
    "kv": "Workers KV (max_file_size is 4 MiB by default)",
    "vectorize": "Vectorize (max_file_size is 4 MiB by default)",
}


def type_groups() -> dict[str, list[TypeGroup]]:
    """Return the types of each kind of target by their limits. A group without extensions is every file."""
    from syncd.config.target_sections import VECTORIZE_MAX_FILE_SIZE
    from syncd.text.documents import HTML, MARKDOWN, PLAIN

    vectorize = {
        "Markdown": MARKDOWN,
        "HTML, with the extra vectorize": HTML,
        "plain text and code in UTF-8": PLAIN,
    }
    return {
        "ai-search": [*GROUPS],
        "kv": [TypeGroup("every file, also an empty one", VALUE_LIMIT, VALUE_LIMIT, ())],
        "vectorize": [
            TypeGroup(name, VECTORIZE_MAX_FILE_SIZE, VECTORIZE_MAX_FILE_SIZE, tuple(endings))
            for name, endings in vectorize.items()
        ],
    }


def print_types(*, as_json: bool) -> int:
    """Print all types. Return the exit code."""
    groups = type_groups()
    if as_json:
        types = {target: [_group_object(group) for group in found] for target, found in groups.items()}
        print_json({"types": types, "exit_code": EXIT_OK})
        return EXIT_OK
    for target, found in groups.items():
        print_line(f"# {_TITLES[target]}")
        for group in found:
            for line in _lines(group):
                print_line(line)
        print_line("")
    print_line("# Case does not matter. max_file_size of the config is another limit (docs/reference/file-types.md).")
    return EXIT_OK


def _group_object(group: TypeGroup) -> dict[str, Any]:
    return {
        "group": group.name,
        "max_bytes": group.max_size,
        "max_bytes_with_ocr": group.max_size_ocr,
        "extensions": sorted(group.extensions) or None,
    }


def _lines(group: TypeGroup) -> Iterator[str]:
    size = shown_size(group.max_size)
    if group.max_size_ocr != group.max_size:
        size += f", or {shown_size(group.max_size_ocr)} if the instance has use_ocr"
    yield f"{group.name}: up to {size}"
    extensions = " ".join(sorted(group.extensions))
    yield from textwrap.wrap(extensions, _WIDTH, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)


def print_excludes(*, as_json: bool) -> int:
    """Print the built-in excludes by group. Return the exit code."""
    from syncd.core import rules

    if as_json:
        print_json({"excludes": {**rules.GROUPS, "reserved names": rules.RESERVED}, "exit_code": EXIT_OK})
        return EXIT_OK
    for group, patterns in rules.GROUPS.items():
        print_line(f"# {group}")
        for pattern in patterns:
            print_line(pattern)
        print_line("")
    print_line('# Case is ignored. To include such a file: exclude = ["!PATTERN"], or !PATTERN in a .syncdignore file.')
    print_line("")
    print_line("# reserved names, which no pattern includes")
    for pattern in rules.RESERVED:
        print_line(pattern)
    return EXIT_OK
