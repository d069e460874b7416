"""explain: for a file, a key or a directory, the rule that decides, its state, and what the next pass does."""

import os
from typing import TYPE_CHECKING

import click

from syncd.cli import completion
from syncd.cli.context import (
    GlobalOptions,
    chosen_mirrors,
    command,
    folders_of,
    mirror_option,
    mirrors_containing,
)
from syncd.cli.output import print_line
from syncd.core.errors import EXIT_OK, ConfigError
from syncd.core.keys import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from syncd.config.schema import Config
    from syncd.queries.lookup import Found


@command()
@click.argument(
    "name",
    metavar="PATH-OR-KEY",
    help="A file, a directory, or a key as another command shows it.",
    shell_complete=completion.files,
)
@mirror_option
@click.pass_obj
def explain(options: GlobalOptions, name: str, mirrors: tuple[str, ...]) -> int:
    """Show which rule includes or excludes a file, and its state.

    It also shows what the next pass does, and the history of the file, for every mirror that holds it.
    """
    config = options.load()
    from syncd.queries.explain import explain as explain_file
    from syncd.queries.lookup import explain_directory
    from syncd.service.build import build_tree

    for number, found in enumerate(_found(config, chosen_mirrors(config, mirrors), name)):
        if number:
            print_line("")
        explained = explain_directory if found.kind == "directory" else explain_file
        for label, value in explained(config, found.mirror, found.path, build_tree(config.mirrors[found.mirror])):
            print_line(f"{label:<10} {value}")
    return EXIT_OK


def _found(config: "Config", names: "Sequence[str]", text: str) -> "list[Found]":
    """Return the meaning of a path or key in each mirror that holds it. Raises ConfigError if no mirror holds it."""
    from syncd.queries.lookup import Found, Lookup
    from syncd.service.build import build_tree

    paths = dict(mirrors_containing(config, text))
    found = []
    for name in names:
        lookup = Lookup(config, name, build_tree(config.mirrors[name]))
        by_path = lookup.find_path(paths[name]) if name in paths else None
        if each := by_path or lookup.find(text):
            found.append(each)
    if found:
        return found
    # No mirror knows the path. The rules still decide about such a file.
    if places := [Found(name, path, "file") for name, path in paths.items() if name in names]:
        return places
    if len(names) == 1 and not os.path.isabs(text) and ".." not in text.split("/"):  # noqa: PTH117
        return [Found(names[0], os.path.normpath(text), "file")]
    raise ConfigError(
        f"{shown(text)} is in no mirrored folder and is no key; the mirrored folders are: {folders_of(config, names)}"
    )
