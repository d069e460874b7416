"""The program's frame: global options and the list of commands. Commands import what they need when they run."""

import os
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from syncd import __version__
from syncd.core.os_names import to_os
from syncd.service import signals

if TYPE_CHECKING:
    from syncd.config.checks import Exposed
    from syncd.config.schema import Config

_T = TypeVar("_T")


class LogFormat(StrEnum):
    """How the log on stderr looks; auto: console on a terminal, JSON otherwise."""

    AUTO = "auto"
    CONSOLE = "console"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Globals:
    """The global options of one call."""

    config: Path | None
    verbose: int
    quiet: bool
    log_format: LogFormat

    def load(self, *, level: str | None = "WARNING", account_only: bool = False, warn: bool = True) -> "Config":
        """Read the config and set logging up. level: what this command logs unless told otherwise; None: nothing.

        account_only: no mirror has to be configured. warn: log what others can read or change and should not.
        """
        from syncd.config.sources import load, secrets
        from syncd.core.redact import hide

        config = load(self.config, account_only=account_only)
        hidden = secrets(config)
        hide(hidden)
        found = self.loose(config) if warn else []
        strange = _strange_variables() if warn else []
        # A question is answered sooner without importing what logs.
        if level or found or strange:
            self.log(level or "WARNING", hidden)
        if found:
            self._warn(found)
        if strange:
            _warn_of_variables(strange)
        return config

    def loose(self, config: "Config") -> "list[Exposed]":
        """Return which files around a loaded config others can read or change and should not."""
        from syncd.config.checks import exposed_files
        from syncd.config.sources import config_path, file_values, holds_secret

        path = config_path(self.config)
        return exposed_files(config, path, holds_secret=holds_secret(file_values(path)))

    def _warn(self, found: "list[Exposed]") -> None:
        import structlog

        for each in found:
            structlog.get_logger().warning("secret.exposed", why=each.message, remedy=each.remedy)

    def log(self, level: str, secrets: Sequence[str] = ()) -> None:
        """Set logging up."""
        import logging

        from syncd.service.logs import configure

        base = logging.getLevelNamesMapping()[level]
        chosen = logging.ERROR if self.quiet else max(logging.DEBUG, base - 10 * self.verbose)
        configure(self.log_format.value, chosen, secrets)


def _strange_variables() -> list[str]:
    from syncd.config.checks import ignored_variables

    return ignored_variables(os.environ)


def _warn_of_variables(names: Sequence[str]) -> None:
    import structlog

    why = "they resemble no config key; Kubernetes sets such for a service of this name"
    structlog.get_logger().warning("environment.ignored", variables=names, why=why)


_LEFT = {
    "kv": "what was asked for may have been done or not; ask again",
    "pull": "the files that were written are whole; run it again for the others",
    "retry": "what is left is kept; run it again",
    "demo": "the stand-in and all that it held are gone",
}
"""What a signal leaves behind, of commands that change something and do not count it."""

app = typer.Typer(
    name="syncd",
    help="Keep a local folder in step, one way, with Cloudflare AI Search, Workers KV or Vectorize.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Help in plain text: the coloured boxes take longer to import than everything else together.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"syncd {__version__}")
        raise typer.Exit


def os_path(text: str) -> Path:
    """A path of the command line, which `main` has made UTF-8 text, as the operating system takes it."""
    return Path(to_os(text))


@app.callback()
def frame(
    ctx: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option("-c", "--config", metavar="PATH", parser=os_path, help="The config file.", show_default=False),
    ] = None,
    verbose: Annotated[
        int, typer.Option("-v", "--verbose", count=True, help="Log more; twice: everything.", show_default=False)
    ] = 0,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Log errors only.")] = False,
    log_format: Annotated[LogFormat, typer.Option("--log-format", help="How the log looks.")] = LogFormat.AUTO,
    version: Annotated[  # noqa: ARG001 - eager: it answers by itself
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Keep a local folder in step, one way, with Cloudflare AI Search, Workers KV or Vectorize."""
    ctx.obj = Globals(config, verbose, quiet, log_format)
    signals.tell(lambda: f"{ctx.invoked_subcommand}: {_LEFT.get(ctx.invoked_subcommand or '', 'nothing was changed')}")


def await_(work: Coroutine[None, None, _T]) -> _T:
    """Run a coroutine to its end. Here, so that a command that needs no event loop does not import one."""
    import asyncio

    async def cancellable() -> _T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        with signals.acting(lambda _: task and loop.call_soon_threadsafe(task.cancel)):
            try:
                return await work
            finally:
                # Also if it has come to its end all the same: what follows shall not begin.
                if number := signals.received():
                    raise signals.Interrupted(number) from None

    try:
        with asyncio.Runner() as runner:
            # Before there is a coroutine that waits for it: it may be refused.
            runner.get_loop()
            return runner.run(cancellable())
    finally:
        # Nothing happens to a coroutine that has ended. One that never began would be complained of.
        work.close()


def with_optional_values(arguments: Sequence[str]) -> list[str]:
    """Give a bare `--wait` its value: the library knows no option whose value may be left out."""
    given = list(arguments)
    for place, argument in enumerate(given):
        if argument == "--":
            break
        if argument == "--wait":
            follower = given[place + 1] if place + 1 < len(given) else ""
            given[place] = "--wait=inf" if not follower.replace(".", "", 1).isdigit() else "--wait"
    return given


from syncd.cli import compare, demo, kv, kv_keys, look, setup, standin, sync  # noqa: E402 - each adds its commands to `app`

__all__ = ["app", "compare", "demo", "kv", "kv_keys", "look", "setup", "standin", "sync"]
