"""The daemon: a worker for each mirror, until a signal. Reloads the config, and replaces a damaged state file."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol

import structlog

from syncd.config.schema import Config, Web
from syncd.config.sources import login
from syncd.core.errors import (
    EXIT_OK,
    EXIT_PROBLEMS,
    ConfigError,
    Locked,
    StateDamaged,
    StateFull,
    StateGone,
    StateHalt,
    SyncdError,
    is_shortage,
)
from syncd.service import signals
from syncd.service.build import open_session
from syncd.service.control import ALIVE, Channel, ControlServer, reading_request
from syncd.service.lookout import Lookout
from syncd.service.outbox import apprise
from syncd.service.runtime import Heartbeat, Runtime, build_runtime, deliver_hints, follow_credentials, start_watching
from syncd.service.systemd import Notifier
from syncd.service.worker import is_cancelled
from syncd.state.db import OnDamage

log = structlog.get_logger()

ROOM_AGAIN_S = 10.0
"""Seconds between two tries to start while the disk of the state file has no room, or no descriptor is left."""
REBUILD_EVERY_S = 60.0
"""If a new state file is damaged within this time, the daemon ends: a person must check the disk."""


class StatusPage(Protocol):
    """The status page. The command line passes it in, so that the daemon does not import it."""

    async def open(self, web: Web) -> None:
        """Serve at these addresses. Raises ConfigError if one is in use."""

    async def run(self, runtime: Runtime) -> None:
        """Show these objects until cancelled."""

    async def close(self) -> None:
        """Stop serving."""


Command = Callable[[Runtime, Mapping[str, Any], Channel], Awaitable[int]]
"""Carries out a request of the control socket and returns its exit code. The command line passes it in."""


def serve(
    load: Callable[[], Config], make_page: Callable[[], StatusPage], commands: Mapping[str, Command] | None = None
) -> int:
    """Run until SIGTERM (0) or SIGINT (130).

    load: reads the config, again at every SIGHUP. make_page: called if the config wants a status page. commands: the
    requests that the control socket takes besides "reload" and "alive".
    Raises ConfigError or Locked if the daemon cannot start.
    """
    return asyncio.run(_Daemon(load, make_page, commands or {}).run())


class _Daemon:
    """The daemon process, from its start to its end. It outlives the reloads of the config."""

    def __init__(
        self, load: Callable[[], Config], make_page: Callable[[], StatusPage], commands: Mapping[str, Command]
    ) -> None:
        self._load = load
        self._reload = asyncio.Event()
        self._requests = _Requests(commands, self._reload.set)
        self._control = ControlServer(self._requests.answer)
        self._make_page = make_page
        self._page: StatusPage | None = None
        self._notifier = Notifier(os.environ)
        self._lookout = Lookout()
        self._stop = asyncio.Event()
        self._exit_code = EXIT_OK
        self._started = False
        self._on_damage: OnDamage = "rebuild"
        self._rebuilt_at = -REBUILD_EVERY_S

    async def run(self) -> int:
        """Serve until a signal. Return the exit code."""
        loop = asyncio.get_running_loop()
        with signals.calling(lambda number: loop.call_soon_threadsafe(self._stop_with, signals.exit_code(number))):
            try:
                return await self._run()
            finally:
                await self._control.close()
                if self._page:
                    await self._page.close()

    async def _run(self) -> int:
        # loop.add_signal_handler would replace the pipe with which signals.py ends a loop that hangs.
        loop = asyncio.get_running_loop()
        signal.signal(signal.SIGHUP, lambda *_: loop.call_soon_threadsafe(self._reload.set))
        config: Config | None = None
        former: Config | None = None
        while not self._stop.is_set():
            try:
                if config is None:
                    config = self._load()
                    log.info("daemon.start", pid=os.getpid(), mirrors=list(config.mirrors))
                former, config = config, await self._serve_config(config)
            except StateDamaged as error:
                self._plan_new_state(error)
            except (ConfigError, Locked, StateHalt, OSError, MemoryError, RuntimeError) as error:
                if is_shortage(error):
                    await self._wait_a_moment(error)
                elif not isinstance(error, SyncdError):
                    raise
                elif former is not None and not isinstance(error, StateGone):
                    # A reloaded config that cannot be opened, for example because of its state_dir, is dropped.
                    self._reject_config(error)
                    config, former = former, None
                elif isinstance(error, StateFull):
                    await self._wait_a_moment(error)
                else:
                    raise
        log.info("daemon.stop", code=self._exit_code)
        return self._exit_code

    def _stop_with(self, exit_code: int) -> None:
        # Nothing is lost: the next start adopts an outcome that was not recorded, or uploads the file again.
        self._exit_code = exit_code
        self._stop.set()
        self._notifier.stopping()

    async def _serve_config(self, config: Config) -> Config:
        """Serve one config until a signal. Return the next config."""
        on_damage, self._on_damage = self._on_damage, "rebuild"
        # Wrong addresses are known before anything is opened.
        apprise([url.get_secret_value() for url in config.notify.urls])
        async with open_session(config, daemon=True, on_damage=on_damage) as session:
            await self._open_page(config.web)
            self._requests.runtime = runtime = build_runtime(session)
            await self._control.open(config.state_dir)
            self._requests.end_reloads(None)
            try:
                return await self._serve_runtime(runtime)
            finally:
                await self._requests.end_commands()
                await runtime.watcher.stop()

    async def _serve_runtime(self, runtime: Runtime) -> Config:
        config = runtime.session.config
        work: list[Coroutine[Any, Any, None]] = [
            start_watching(runtime, self._notifier.ready),
            *(worker.run() for worker in runtime.workers.values()),
            deliver_hints(runtime),
            Heartbeat(runtime, self._notifier, self._lookout).run(),
            self._lookout.run(config.notify),
            runtime.idle_look.run(),
        ]
        if config.cloudflare.api_token_file:
            work.append(follow_credentials(runtime))
        if self._page:
            work.append(self._page.run(runtime))
        tasks = [asyncio.create_task(coroutine) for coroutine in work]
        reloaded = asyncio.create_task(self._reload_config(runtime))
        ends: list[asyncio.Task[Any]] = [asyncio.create_task(self._stop.wait()), reloaded]
        try:
            await _wait_for_any(ends, tasks)
            return reloaded.result() if reloaded.done() else config
        finally:
            for task in (*tasks, *ends):
                task.cancel()
            await asyncio.gather(*tasks, *ends, return_exceptions=True)

    async def _reload_config(self, runtime: Runtime) -> Config:
        """Wait for SIGHUP and return the new config. After an invalid config all mirrors continue with a full pass."""
        while True:
            await self._reload.wait()
            self._reload.clear()
            self._notifier.reloading()
            try:
                config = self._load()
                login(config)
            except ConfigError as error:
                self._reject_config(error)
                runtime.request_full()
                self._notifier.ready()
            else:
                return config

    def _reject_config(self, error: SyncdError) -> None:
        log.error("config.invalid", error=str(error), consequence="the former config stays in force")
        self._requests.end_reloads(error)

    async def _open_page(self, web: Web) -> None:
        """Serve the status page and the metrics. A port in use is an error at the start, and a warning later."""
        if (web.listen or web.metrics_listen) and self._page is None:
            self._page = self._make_page()
        try:
            if self._page:
                await self._page.open(web)
        except ConfigError as error:
            if not self._started:
                raise
            log.warning("web.refused", error=str(error), consequence="the page stays where it was")
        self._started = True

    async def _wait_a_moment(self, error: Exception) -> None:
        """Wait before the next try, or until the signal that ends the daemon.

        Ending here would not help: systemd gives a service up after some starts.
        """
        consequence = f"the next try is made in {ROOM_AGAIN_S:g} s"
        if isinstance(error, StateFull):
            log.error("state.full", error=str(error), consequence=consequence)
        else:
            remedy = "raise the limits (LimitNOFILE, TasksMax, MemoryMax; ulimit -n and -u)"
            log.error("machine.short", error=str(error), remedy=remedy, consequence=consequence)
        self._requests.end_reloads(error)
        self._notifier.status(str(error))
        self._notifier.watchdog()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ROOM_AGAIN_S):
                await self._stop.wait()

    def _plan_new_state(self, error: StateDamaged) -> None:
        """Let the next start replace the state file. Raises the error if it did so a short time ago."""
        now = asyncio.get_running_loop().time()
        if now < self._rebuilt_at + REBUILD_EVERY_S:
            raise error
        self._rebuilt_at = now
        self._on_damage = "discard"


class _Requests:
    """The requests of the control socket. reload: lets the daemon read its config again.

    runtime: the objects at work, None between two configurations.
    """

    def __init__(self, commands: Mapping[str, Command], reload: Callable[[], None]) -> None:
        self._commands = commands
        self._reload = reload
        self.runtime: Runtime | None = None
        self._under_way: set[asyncio.Future[int]] = set()
        self._reloads: list[asyncio.Future[None]] = []

    async def answer(self, request: Mapping[str, Any], channel: Channel) -> int:
        """Carry out a request and return its exit code."""
        if request["command"] == "reload":
            return await self._reload_config(channel)
        if request["command"] == ALIVE:
            return self._report_stuck(channel)
        if self.runtime is None:
            raise Locked("the daemon is starting or re-reads its config; try again")
        with reading_request():
            carry_out = self._commands[request["command"]]
        command = asyncio.ensure_future(carry_out(self.runtime, request, channel))
        self._under_way.add(command)
        try:
            return await command
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            raise Locked("the daemon ended or re-read its config before the command was done; run it again") from None
        finally:
            self._under_way.discard(command)

    async def end_commands(self) -> None:
        """End the commands under way, because the state file that they use is closed next."""
        self.runtime = None
        commands = [*self._under_way]
        for command in commands:
            command.cancel()
        await asyncio.gather(*commands, return_exceptions=True)

    def _report_stuck(self, channel: Channel) -> int:
        """Send the reasons to start the daemon again. Like /livez, it has none while the config is read again."""
        reasons = self.runtime.dead() if self.runtime else []
        for reason in reasons:
            channel.err(f"syncd: {reason}\n")
        return EXIT_PROBLEMS if reasons else EXIT_OK

    async def _reload_config(self, channel: Channel) -> int:
        """Re-read the config as after SIGHUP. Raises the error of a config that cannot be used."""
        reloaded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._reloads.append(reloaded)
        self._reload()
        try:
            await reloaded
        except SyncdError:
            channel.err("syncd: the config cannot be used; the daemon goes on with the former one:\n")
            raise
        channel.out("the daemon uses the config as it is now, and makes a full pass of every mirror\n")
        return EXIT_OK

    def end_reloads(self, error: Exception | None) -> None:
        """End the requests for a reload. error: why the config cannot be used, None if it is used now."""
        for reloaded in self._reloads:
            if not reloaded.done():
                reloaded.set_exception(error) if error else reloaded.set_result(None)
        self._reloads.clear()


async def _wait_for_any(ends: Sequence[asyncio.Task[Any]], tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Return when one of the ends is done. Raises the error of any task. Other tasks may return before."""
    running: set[asyncio.Task[Any]] = {*ends, *tasks}
    while True:
        done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        if any(task in done for task in ends):
            return
