"""The base of every command: global options, loading the config, the event loop, choosing a mirror."""

import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click
from click.core import ParameterSource

from syncd import __version__
from syncd.cli import completion
from syncd.cli.completion import file_path
from syncd.core.errors import ConfigError
from syncd.core.keys import shown
from syncd.service import signals
from syncd.service.streams import LogFormat

if TYPE_CHECKING:
    import sqlite3

    from syncd.config.checks import Exposed
    from syncd.config.schema import Config

_T = TypeVar("_T")

_AFTER_SIGNAL = {
    "kv": "the request may have been carried out or not; ask again",
    "pull": "nothing was written",
    "retry": "the remaining items are kept; run it again",
    "demo": "the stand-in and everything in it are gone",
}
"""The effect of a signal on commands that change something and do not count it. Other commands change nothing."""


@dataclass(frozen=True, slots=True)
class GlobalOptions:
    """The global options of one command line."""

    config: Path | None
    verbose: int
    quiet: bool
    log_format: LogFormat

    def load(self, *, level: str | None = "WARNING", account_only: bool = False, warn: bool = True) -> "Config":
        """Read the config and set logging up.

        level: the lowest log level of this command without -v and -q; None: no logging.
        account_only: the config may have no mirror. warn: log files that other users can read or change.
        """
        from syncd.config.checks import ignored_variables
        from syncd.config.sources import load, secrets
        from syncd.core.plain_text import add_secrets

        config = load(self.config, account_only=account_only)
        add_secrets(secrets(config))
        exposed = self.exposed_files(config) if warn else []
        ignored = ignored_variables(os.environ) if warn else []
        # Importing the log library takes a large part of the time of a short command such as status.
        if level or exposed or ignored:
            self.set_up_logging(level or "WARNING")
        if exposed or ignored:
            _log_warnings(exposed, ignored)
        return config

    def exposed_files(self, config: "Config") -> "list[Exposed]":
        """Return the files of a loaded config that other users can read or change and should not."""
        from syncd.config.checks import exposed_files
        from syncd.config.file import config_path, file_values
        from syncd.config.sources import holds_secret

        path = config_path(self.config)
        return exposed_files(config, path, holds_secret=holds_secret(file_values(path)))

    def set_up_logging(self, level: str) -> None:
        """Set logging up. level: the lowest level logged without -v and -q."""
        import logging

        from syncd.service.logging import configure

        base = logging.getLevelNamesMapping()[level]
        chosen = logging.ERROR if self.quiet else max(logging.DEBUG, base - 10 * self.verbose)
        configure(self.log_format, chosen)


def _log_warnings(exposed: "Sequence[Exposed]", ignored: Sequence[str]) -> None:
    import structlog

    log = structlog.get_logger()
    for file in exposed:
        log.warning("secret.exposed", why=file.message, remedy=file.remedy)
    if ignored:
        why = "they resemble no config key; Kubernetes sets such variables for a service of this name"
        log.warning("environment.ignored", variables=ignored, why=why)


# -- the program

_COMMANDS = {
    "init": "syncd.cli.init:init",
    "check": "syncd.cli.check:check",
    "run": "syncd.cli.run:run",
    "reconcile": "syncd.cli.reconcile:reconcile",
    "plan": "syncd.cli.reconcile:plan",
    "approve": "syncd.cli.reconcile:approve",
    "reload": "syncd.cli.daemon:reload",
    "status": "syncd.cli.status:status",
    "log": "syncd.cli.log:log",
    "ls": "syncd.cli.items:list_items",
    "explain": "syncd.cli.items:explain",
    "search": "syncd.cli.items:search",
    "retry": "syncd.cli.items:retry",
    "verify": "syncd.cli.verify:verify",
    "pull": "syncd.cli.pull:pull",
    "rebuild": "syncd.cli.rebuild:rebuild",
    "notify": "syncd.cli.notify:notify",
    "mcp": "syncd.cli.mcp:mcp",
    "schema": "syncd.cli.init:schema",
    "kv": "syncd.cli.kv:group",
    "emulate": "syncd.cli.demo:emulate",
    "demo": "syncd.cli.demo:demo",
}
"""The module and function of each command. A module is imported when its command is called or its help is listed."""


def _as_given(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """Apply a global option that stands after the command: it wins over the same option before it."""
    if ctx.resilient_parsing:
        # A shell completes the command line. No command runs.
        if param.name == "config" and value:
            ctx.meta[completion.CONFIG] = value
        return value
    given: GlobalOptions = ctx.obj
    if param.name == "verbose":
        ctx.obj = replace(given, verbose=given.verbose + value)
    elif ctx.get_parameter_source(param.name or "") is not ParameterSource.DEFAULT:
        ctx.obj = replace(given, **{param.name or "": value})
    return value


def _global_options(*, after: bool) -> list[click.Option]:
    """Return the global options. after: as every command takes them, without a line in its help."""
    settings: dict[str, Any] = {"hidden": True, "expose_value": False, "callback": _as_given} if after else {}
    formats = click.Choice(get_args(LogFormat))
    return [
        click.Option(["-c", "--config"], metavar="PATH", type=file_path, help="Read this config file.", **settings),
        click.Option(
            ["-v", "--verbose"],
            count=True,
            help="Log more. Twice: log everything.",
            show_default=False,
            **settings,
        ),
        click.Option(["-q", "--quiet"], is_flag=True, help="Log errors only.", **settings),
        click.Option(["--log-format"], type=formats, default="auto", help="The format of the log.", **settings),
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_print_version,
            help="Show the version and exit.",
            hidden=after,
        ),
    ]


def _print_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(f"syncd {__version__}")
        ctx.exit()


_AFTER_COMMAND = _global_options(after=True)


class Command(click.Command):
    """A command that takes the global options, too, and whose usage errors name its own help."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the parameters of the command and the global options."""
        return [*super().get_params(ctx), *_AFTER_COMMAND]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments. A usage error without a context, such as that of a missing value, gets this one."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            raise

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the epilog, and where the global options are described."""
        super().format_epilog(ctx, formatter)
        formatter.write_paragraph()
        formatter.write_text("Global options (-c, -v, -q, --log-format) may follow; see: syncd --help")


def command(name: str | None = None) -> Callable[[Callable[..., Any]], Command]:
    """Make a command of a function. name: its name if the function has another one."""
    return click.command(name, cls=Command)


class OrderedGroup(click.Group):
    """A group whose help lists the commands in the order of their definition."""

    command_class = Command

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names of the commands."""
        return list(self.commands)


class CommandGroup(Command, OrderedGroup):
    """A command that consists of other commands."""


class _Program(OrderedGroup):
    """The program. It imports a command when the command is called or its help is listed."""

    def __init__(self, places: Mapping[str, str], **settings: Any) -> None:
        # The library suggests and lists these names. It gets a command by `get_command` only.
        super().__init__(commands=dict.fromkeys(places), **settings)  # type: ignore[arg-type]
        self._places = places

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in self._places:
            return None
        module, _, attribute = self._places[cmd_name].partition(":")
        found: click.Command = getattr(import_module(module), attribute)
        return found


def _begin(config: Path | None, verbose: int, *, quiet: bool, log_format: LogFormat) -> None:
    """Note the global options that stand before the command."""
    context = click.get_current_context()
    context.obj = GlobalOptions(config, verbose, quiet, log_format)
    name = context.invoked_subcommand or ""
    signals.describe_with(lambda: f"{name}: {_AFTER_SIGNAL.get(name, 'nothing was changed')}")


program = _Program(
    _COMMANDS,
    name="syncd",
    callback=_begin,
    params=_global_options(after=False),
    help="Keep a local folder in step, one way, with Cloudflare AI Search, Workers KV or Vectorize.",
    epilog="These options may also stand after the command.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
)


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


async def change_state(config: "Config", change: "Callable[[sqlite3.Connection], _T]") -> _T:
    """Change the state file by a connection of its own, so that a running daemon keeps its state file."""
    from syncd.state.db import open_state
    from syncd.state.directory import FILE_NAME, when_free

    async def work() -> _T:
        with closing(open_state(config.state_dir)) as db:
            return change(db)

    return await when_free(work, config.state_dir / FILE_NAME)


# -- arguments that several commands take


class Duration(click.ParamType[float]):
    """A duration in seconds: a number, or a text such as "30s" or "1h". least: the shortest one."""

    name = "time"

    def __init__(self, least: float = 0.0) -> None:
        self._least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds."""
        from syncd.config.values import parse_duration

        try:
            found = parse_duration(value)
        except ValueError as error:
            self.fail(f"{value!r}: {error}", param, ctx)
        if found < self._least:
            self.fail(f"{value!r}: should be at least {self._least:g} seconds", param, ctx)
        return found


class Text(click.ParamType[str]):
    """A text that is sent to the service."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text."""
        if shown(value) != value:
            self.fail("it is not valid UTF-8; write it in the encoding of this shell", param, ctx)
        return str(value)


as_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def _add_mirrors(ctx: click.Context, _: click.Parameter, names: Sequence[str]) -> None:
    """Add names to the parameter `mirrors` of the command, which the option and the argument share."""
    ctx.params["mirrors"] = tuple(dict.fromkeys((*ctx.params.get("mirrors", ()), *names)))


_SHARED: dict[str, Any] = {"expose_value": False, "callback": _add_mirrors, "shell_complete": completion.mirrors}
mirror_option = click.option(
    "-m", "--mirror", metavar="NAME", multiple=True, help="Choose this mirror. May be repeated.", **_SHARED
)


def mirrors_argument(function: Callable[..., int]) -> Callable[..., int]:
    """Give a command the parameter `mirrors`: names as arguments, as values of -m, or both."""
    return _argument("[MIRROR]...", "Names of mirrors. Default: all.")(mirror_option(function))


def one_mirror_argument(function: Callable[..., int]) -> Callable[..., int]:
    """Give a command that works on one mirror the parameter `mirrors`, which `one_mirror` reads."""
    return _argument("[MIRROR]", "The name of the mirror. Default: the only one.")(mirror_option(function))


def _argument(metavar: str, text: str) -> Callable[[Callable[..., int]], Callable[..., int]]:
    return click.argument("mirror_names", metavar=metavar, nargs=-1, help=text, **_SHARED)


def chosen_mirrors(config: "Config", names: Sequence[str]) -> list[str]:
    """Return the named mirrors, all if none is named. Raises ConfigError for a name that is not configured."""
    from syncd.config.schema import mirror_config

    for name in names:
        mirror_config(config, name)
    return list(names or config.mirrors)


def one_mirror(config: "Config", names: Sequence[str]) -> str:
    """Return the name of the mirror that is meant.

    Raises ConfigError if it is not configured, if several are named, or if several are configured and none is named.
    """
    chosen = chosen_mirrors(config, names)
    if len(chosen) == 1:
        return chosen[0]
    why = "the command takes one mirror; name one of" if names else "which mirror? Name one of"
    raise ConfigError(f"{why}: {', '.join(chosen)}, such as -m {chosen[0]}")


def shard_field(config: "Config", name: str) -> dict[str, Any]:
    """Return the JSON field `shard` of a mirror, nothing if the mirror has all keys."""
    shard = config.mirrors[name].shard
    return {"shard": shard} if shard else {}
