"""What `check --excludes` prints: the built-in list. Needs no config and no network."""

import json

import typer

from syncd.core.errors import EXIT_OK


def print_excludes(*, as_json: bool) -> int:
    """Print the built-in excludes by group."""
    from syncd.core.excludes import GROUPS

    if as_json:
        typer.echo(json.dumps({"excludes": GROUPS, "exit_code": EXIT_OK}, indent=2))
        return EXIT_OK
    for group, patterns in GROUPS.items():
        typer.echo(f"# {group}")
        for pattern in patterns:
            typer.echo(pattern)
        typer.echo()
    typer.echo('# Case does not count. To take one back: exclude = ["!PATTERN"], or !PATTERN in a .syncdignore file.')
    return EXIT_OK
