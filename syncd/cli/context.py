"""The base of every command: global options, loading the config, the event loop, choosing a mirror."""

import os
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.core import TyperGroup
from typer.main import get_command

from syncd import __version__
from syncd.core.errors import ConfigError
from syncd.core.keys import from_os, shown_path, to_os
from syncd.service import signals

if TYPE_CHECKING:
    from syncd.config.checks import Exposed
    from syncd.config.schema import Config

_T = TypeVar("_T")

_AFTER_SIGNAL = {
    "kv": "the request may have been carried out or not; ask again",
    "pull": "the files that were written are whole; run it again for the others",
    "retry": "the remaining items are kept; run it again",
    "demo": "the stand-in and everything in it are gone",
}
"""The effect of a signal on commands that change something and do not count it. Other commands change nothing."""


class LogFormat(StrEnum):
    """The format of the log on stderr; auto: console on a terminal, JSON otherwise."""

    AUTO = "auto"
    CONSOLE = "console"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class GlobalOptions:
    """The global options of one command line."""

    config: Path | None
    verbose: int
    quiet: bool
    log_format: LogFormat

    def load(self, *, level: str | None = "WARNING", account_only: bool = False, warn: bool = True) -> "Config":
        """Read the config and set logging up.

        level: the lowest log level of this command unless -v or -q says otherwise; None: no logging.
        account_only: the config may have no mirror. warn: log files that other users can read or change.
        """
        from syncd.config.checks import ignored_variables
        from syncd.config.sources import load, secrets
        from syncd.core.plain_text import add_secrets

        config = load(self.config, account_only=account_only)
        hidden = secrets(config)
        add_secrets(hidden)
        exposed = self.exposed_files(config) if warn else []
        ignored = ignored_variables(os.environ) if warn else []
        # Importing the log library takes a large part of the time of a short command such as status.
        if level or exposed or ignored:
            self.set_up_logging(level or "WARNING", hidden)
        if exposed or ignored:
            _log_warnings(exposed, ignored)
        return config

    def exposed_files(self, config: "Config") -> "list[Exposed]":
        """Return the files of a loaded config that other users can read or change and should not."""
        from syncd.config.checks import exposed_files
        from syncd.config.sources import config_path, file_values, holds_secret

        path = config_path(self.config)
        return exposed_files(config, path, holds_secret=holds_secret(file_values(path)))

    def set_up_logging(self, level: str, secrets: Sequence[str] = ()) -> None:
        """Set logging up. level: the lowest level logged without -v and -q. secrets: never logged."""
        import logging

        from syncd.service.logging import configure

        base = logging.getLevelNamesMapping()[level]
        chosen = logging.ERROR if self.quiet else max(logging.DEBUG, base - 10 * self.verbose)
        configure(self.log_format.value, chosen, secrets)


def _log_warnings(exposed: "Sequence[Exposed]", ignored: Sequence[str]) -> None:
    import structlog

    log = structlog.get_logger()
    for file in exposed:
        log.warning("secret.exposed", why=file.message, remedy=file.remedy)
    if ignored:
        why = "they resemble no config key; Kubernetes sets such variables for a service of this name"
        log.warning("environment.ignored", variables=ignored, why=why)


# -- the program


@cache
def _load_command(name: str, place: str) -> Any:
    """Import a command. place: its "module:attribute"."""
    module, _, attribute = place.partition(":")
    found = getattr(import_module(module), attribute)
    if isinstance(found, typer.Typer):
        return get_command(found)
    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    single.command(name)(found)
    return get_command(single)


class _Commands(Mapping[str, Any]):
    """The commands of the program by name. A command is imported when it is looked up."""

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = places

    def __getitem__(self, name: str) -> Any:
        return _load_command(name, self._places[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def make_program(places: Mapping[str, str]) -> TyperGroup:
    """Return the program. places: "module:attribute" of each command; a command is imported when it is needed."""
    app = typer.Typer(
        name="syncd",
        no_args_is_help=True,
        # Help is plain text: the library for coloured boxes takes longer to import than everything else together.
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_set_global_options)
    program = get_command(app)
    assert isinstance(program, TyperGroup)  # noqa: S101 - an app with a callback is a group
    program.commands = _Commands(places)  # type: ignore[assignment]  # the library only reads it
    return program


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"syncd {__version__}")
        raise typer.Exit


def os_path(text: str) -> Path:
    """Return a path of the command line, which `main` decoded as UTF-8, as the operating system takes it."""
    return Path(to_os(text))


def _set_global_options(
    ctx: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option("-c", "--config", metavar="PATH", parser=os_path, help="The config file.", show_default=False),
    ] = None,
    verbose: Annotated[
        int, typer.Option("-v", "--verbose", count=True, help="Log more; twice: everything.", show_default=False)
    ] = 0,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Log errors only.")] = False,
    log_format: Annotated[LogFormat, typer.Option("--log-format", help="The format of the log.")] = LogFormat.AUTO,
    version: Annotated[  # noqa: ARG001 - eager: its callback prints the version and exits
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Keep a local folder in step, one way, with Cloudflare AI Search, Workers KV or Vectorize."""
    ctx.obj = GlobalOptions(config, verbose, quiet, log_format)
    name = ctx.invoked_subcommand or ""
    signals.describe_with(lambda: f"{name}: {_AFTER_SIGNAL.get(name, 'nothing was changed')}")


def with_optional_values(arguments: Sequence[str]) -> list[str]:
    """Give a bare `--wait` its value, since the library has no options with an optional value."""
    given = list(arguments)
    for place, argument in enumerate(given):
        if argument == "--":
            break
        if argument == "--wait":
            follower = given[place + 1] if place + 1 < len(given) else ""
            given[place] = "--wait=inf" if not follower.replace(".", "", 1).isdigit() else "--wait"
    return given


def run_async(work: Coroutine[None, None, _T]) -> _T:
    """Run a coroutine to its end. asyncio is imported here, so that other commands do not import it."""
    import asyncio

    async def cancellable() -> _T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        with signals.calling(lambda _: task and loop.call_soon_threadsafe(task.cancel)):
            try:
                return await work
            finally:
                # A signal also counts if the coroutine ended in spite of it: the next step must not begin.
                if number := signals.received():
                    raise signals.Interrupted(number) from None

    try:
        with asyncio.Runner() as runner:
            # Creating the loop can fail. It is created before a coroutine exists that nothing would await.
            runner.get_loop()
            return runner.run(cancellable())
    finally:
        # This does nothing to a coroutine that ended. Python warns of one that never began.
        work.close()


# -- arguments that several commands take

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
MirrorName = Annotated[str | None, typer.Argument(metavar="MIRROR", show_default=False)]
MirrorNames = Annotated[list[str] | None, typer.Argument(metavar="MIRROR", show_default=False)]


def one_mirror(config: "Config", name: str | None) -> str:
    """Return the name of the mirror that is meant. Raises ConfigError if several are configured and none is named."""
    from syncd.service.build import mirror_config

    if name is not None:
        mirror_config(config, name)
        return name
    if len(config.mirrors) == 1:
        return next(iter(config.mirrors))
    raise ConfigError(f"which mirror? Name one of: {', '.join(config.mirrors)}")


def mirror_containing(config: "Config", path: Path) -> tuple[str, str] | None:
    """Return the mirror whose folder contains a path and the path relative to that folder, None if no mirror does."""
    path = os_path(str(path)).expanduser()
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - removes ".." without following links
    for candidate in (absolute, path.parent.resolve() / absolute.name):
        for name, section in config.mirrors.items():
            for root in (section.path, section.path.resolve()):
                if candidate.is_relative_to(root) and candidate != root:
                    return name, from_os(candidate.relative_to(root).as_posix())
    return None


def folders_of(config: "Config", names: Sequence[str]) -> str:
    """Return the folders of some mirrors for a message."""
    return ", ".join(shown_path(config.mirrors[name].path) for name in names)


def shard_field(config: "Config", name: str) -> dict[str, Any]:
    """Return the JSON field `shard` of a mirror, nothing if the mirror has all keys."""
    shard = config.mirrors[name].shard
    return {"shard": shard} if shard else {}
