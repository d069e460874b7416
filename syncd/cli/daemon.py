"""Asks the running daemon to carry out a command, such as `reload`."""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from syncd.cli.context import GlobalOptions, command, run_async
from syncd.cli.output import print_note, progress
from syncd.core.errors import EXIT_OK, EXIT_PROBLEMS, ConfigError, ConfigFaults, Locked, StateHalt
from syncd.service import signals

ALIVE_S = 5.0
"""Seconds in which a daemon that is not stuck answers a health check."""
FORMER_STAYS = "the config cannot be used; a daemon that is running goes on with the former one"
LOOK_S = 1.5
"""Seconds for which `status` waits until the daemon has looked at its remote."""


async def ask_daemon(state_dir: Path, request: Mapping[str, Any], *, quiet: bool = False) -> int | None:
    """Let the daemon of a state directory carry out a request. Return its exit code, None if no daemon is running."""
    from syncd.service.control import ask

    events = await ask(state_dir, request)
    if events is None:
        return None
    name = request["command"]
    signals.describe_with(lambda: f"{name}: the daemon continues; to see its progress: syncd status")
    with progress(quiet=quiet) as bar:
        async for event in events:
            if "progress" in event:
                bar.show(*event["progress"])
            else:
                bar.clear()
            if "out" in event:
                click.echo(event["out"], nl=False)
            if "err" in event:
                click.echo(event["err"], nl=False, err=True)
            if "exit_code" in event:
                return int(event["exit_code"])
    raise Locked("the daemon ended before it answered; see its log")


def let_daemon_look(state_dir: Path) -> None:
    """Let the daemon check whether idle mirrors can reach their remote, and wait at most LOOK_S for the result.

    Without a daemon, or if this user may not use its socket, nothing happens.
    """
    from syncd.state.directory import holder

    # Without a daemon, asyncio and the log library need not be imported.
    with contextlib.suppress(StateHalt):
        held = holder(state_dir)
        if not held or not held.daemon:
            return
    from syncd.service.control import LOOK, ask

    async def look() -> None:
        import asyncio

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                if events := await ask(state_dir, {"command": LOOK}):
                    async for _ in events:
                        pass

    run_async(look())


async def check_alive(state_dir: Path) -> int:
    """Return 0 if a syncd with this state directory is at work and not stuck, else print the reason and return 1."""
    import asyncio

    from syncd.service.control import ALIVE
    from syncd.state.directory import holder

    held = holder(state_dir)
    if held and not held.daemon:
        return EXIT_OK
    try:
        async with asyncio.timeout(ALIVE_S):
            code = await ask_daemon(state_dir, {"command": ALIVE}, quiet=True)
    except TimeoutError:
        print_note(f"the daemon does not answer within {ALIVE_S:.0f} s; restart it")
        return EXIT_PROBLEMS
    if code is None:
        print_note(f"no daemon listens in {state_dir}; start it with: syncd run")
        return EXIT_PROBLEMS
    return code


@command()
@click.pass_obj
def reload(options: GlobalOptions) -> int:
    """Let the daemon read its config again and make a full pass.

    If the config cannot be used, the reason is printed, and the daemon goes on with the former one.
    """
    from syncd.config.sources import CREDENTIALS_DIRECTORY, load
    from syncd.service.control import is_forbidden

    # Only the daemon reads the token: systemd lets no other process of the unit read its credentials.
    environ = {name: value for name, value in os.environ.items() if name != CREDENTIALS_DIRECTORY}
    try:
        config = load(options.config, environ)
    except ConfigError as error:
        raise ConfigFaults([f"{FORMER_STAYS}:", *error.lines]) from None

    async def ask() -> int:
        code = await ask_daemon(config.state_dir, {"command": "reload"}, quiet=options.quiet)
        if code is None and is_forbidden(config.state_dir):
            raise ConfigError(f"only its own user and root may ask the daemon of {config.state_dir}: sudo syncd reload")
        if code is None:
            raise ConfigError(
                f"no daemon is running with state_dir {config.state_dir}; start it with: systemctl start syncd"
                " (if it is a service), or: syncd run"
            )
        return code

    return run_async(ask())
