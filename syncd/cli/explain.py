"""explain: for a file, a key or a directory, the rule that decides, its state, and what the next pass does."""

import click

from syncd.cli import completion
from syncd.cli.context import GlobalOptions, chosen_mirrors, command, mirror_option
from syncd.cli.output import print_line
from syncd.core.errors import EXIT_OK


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
    from syncd.queries.lookup import explain_found, find_all
    from syncd.service.build import build_tree

    for number, found in enumerate(find_all(config, chosen_mirrors(config, mirrors), name, build_tree)):
        if number:
            print_line("")
        for label, value in explain_found(config, found, build_tree):
            print_line(f"{label:<10} {value}")
    return EXIT_OK
