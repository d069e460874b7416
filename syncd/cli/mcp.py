"""mcp: the server by which agents search and read the mirrors."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from syncd.cli.context import GlobalOptions, chosen_mirrors, command, mirror_option, run_async
from syncd.core.errors import EXIT_OK, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from syncd.config.schema import Config


@command()
@mirror_option
@click.pass_obj
def mcp(options: GlobalOptions, mirrors: tuple[str, ...]) -> int:
    """Serve search, read, list, explain and status to agents.

    The server speaks the Model Context Protocol over stdin and stdout. An agent starts it.
    """
    if not find_spec("mcp"):
        raise ConfigError("mcp: needs the extra 'mcp'; install it: pip install 'syncd[mcp]'")
    config = options.load()
    names = chosen_mirrors(config, mirrors) if mirrors else []
    run_async(_serve(_following(options, config), names))
    return EXIT_OK


async def _serve(load: "Callable[[], Config]", names: list[str]) -> None:
    from syncd.agents.server import make_server
    from syncd.agents.stdio import serve
    from syncd.agents.tools import open_agent

    async with open_agent(load, names) as agent:
        await serve(make_server(agent))


def _following(options: GlobalOptions, config: "Config") -> "Callable[[], Config]":
    """Return a function that returns the config, and reads it again if its file has changed."""
    from syncd.config.file import config_path

    path = config_path(options.config)
    known = _mark(path), config

    def load() -> "Config":
        nonlocal known
        if (mark := _mark(path)) != known[0]:
            known = mark, options.load(level=None, warn=False)
        return known[1]

    return load


def _mark(path: Path) -> tuple[int, int, int] | None:
    """Return values that change with a file, None without a file."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
