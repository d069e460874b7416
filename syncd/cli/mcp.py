"""mcp: the server by which agents search and read the mirrors."""

import os
import sys
from contextlib import aclosing
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from syncd.cli.completion import file_path
from syncd.cli.context import GlobalOptions, chosen_mirrors, command, mirror_option, run_async
from syncd.cli.output import print_line, print_note
from syncd.core.errors import EXIT_OK, ConfigError
from syncd.core.plain_text import add_secrets

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from syncd.agents.tools import Agent
    from syncd.config.schema import Config


LEAST_TOKEN = 16
"""Characters of the token of the HTTP server (our own limit)."""


@command()
@mirror_option
@click.option(
    "--http",
    "listen",
    metavar="HOST:PORT",
    help="Serve over HTTP at this loopback address instead, to clients with the token. Port 0 takes a free one.",
)
@click.option(
    "--token-file",
    type=file_path,
    metavar="PATH",
    help="The file with the token for --http. Default: the variable SYNCD_MCP_TOKEN.",
)
@click.pass_obj
def mcp(options: GlobalOptions, mirrors: tuple[str, ...], listen: str | None, token_file: Path | None) -> int:
    """Serve search, read, list, explain and status to agents.

    The server speaks the Model Context Protocol over stdin and stdout, and an agent starts it. With --http, it prints
    its URL, and runs until it is stopped.
    """
    if not find_spec("mcp"):
        raise ConfigError("mcp: needs the extra 'mcp'; install it: pip install 'syncd[mcp]'")
    if token_file and listen is None:
        raise click.UsageError("--token-file needs --http")
    config = options.load()
    if token_file:
        from syncd.config.checks import check_token_file

        check_token_file(config, token_file)
    names = chosen_mirrors(config, mirrors) if mirrors else []
    serve = _over_http(listen, token_file) if listen is not None else _over_stdio()
    run_async(_serve(_config_loader(options, config), names, serve))
    return EXIT_OK


async def _serve(load: "Callable[[], Config]", names: list[str], serve: "Callable[[Agent], Awaitable[None]]") -> None:
    from syncd.agents.tools import Agent

    async with aclosing(Agent(load, names)) as agent:
        await serve(agent)


def _over_stdio() -> "Callable[[Agent], Awaitable[None]]":
    from syncd.agents.stdio import serve

    if sys.stdin.isatty():
        print_note("mcp: waiting for an agent, which usually starts this: claude mcp add syncd -- syncd mcp")
    return serve


def _over_http(listen: str, token_file: Path | None) -> "Callable[[Agent], Awaitable[None]]":
    """Return the function that serves over HTTP. Raises ConfigError for a wrong address or token."""
    from syncd.config.values import listen_address

    try:
        listen_address(listen)
    except ValueError as error:
        raise ConfigError(f"--http {listen}: {error}") from None
    token = _token(token_file)

    async def serve_http(agent: "Agent") -> None:
        from syncd.agents.http import serve

        await serve(agent, listen, token, print_line)

    return serve_http


def _token(file: Path | None) -> str:
    """Return the token that clients of the HTTP server must send. It is never printed."""
    from syncd.config.file import MCP_TOKEN_VARIABLE
    from syncd.config.sources import read_secret

    token = read_secret(file, "--token-file") if file else os.environ.get(MCP_TOKEN_VARIABLE, "").strip()
    if not token:
        raise ConfigError(
            f"--http needs a token: set {MCP_TOKEN_VARIABLE}, or name the file that holds it: --token-file"
        )
    add_secrets([token])
    if len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(
            f"the token for --http should have at least {LEAST_TOKEN} ASCII characters and no spaces; make one:"
            " openssl rand -hex 32"
        )
    return token


def _config_loader(options: GlobalOptions, config: "Config") -> "Callable[[], Config]":
    """Return a function that returns the config, and reads it again if its file has changed."""
    from syncd.config.file import config_path

    path = config_path(options.config)
    known = _file_state(path), config

    def load() -> "Config":
        nonlocal known
        if (mark := _file_state(path)) != known[0]:
            known = mark, options.load(level=None, warn=False)
        return known[1]

    return load


def _file_state(path: Path) -> tuple[int, int, int] | None:
    """Return values that change with a file, None without a file."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
