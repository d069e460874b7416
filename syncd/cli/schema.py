"""schema: the JSON Schema of the config, for editors. It is generated with the release and needs no config."""

import json
from pathlib import Path

import click

from syncd.cli.context import command
from syncd.core.errors import EXIT_OK

SCHEMA = Path(__file__).parents[1] / "config" / "syncd.schema.json"


def schema_url() -> str:
    """Return the address of the schema on the project's site."""
    url: str = json.loads(SCHEMA.read_text(encoding="utf-8"))["$id"]
    return url


@command()
def schema() -> int:
    """Print the JSON Schema of the config.

    Editors use it for completion and hints. Every config that `syncd init` writes names its address in the first line.
    """
    click.echo(SCHEMA.read_text(encoding="utf-8"), nl=False)
    return EXIT_OK
