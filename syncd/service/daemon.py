"""The daemon: the one verb in a loop for each mirror. Knows signals, intervals and systemd, and no sync rules."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import structlog

from syncd.cloudflare.transport import Transport
from syncd.config.schema import Config
from syncd.config.sources import login
from syncd.core.errors import EXIT_OK, ConfigError, Locked, StateDamaged, StateGone, StateHalt, SyncdError
from syncd.core.excludes import IGNORE_FILE
from syncd.core.keys import normal
from syncd.local.walk import Tree
from syncd.service import signals
from syncd.service.build import Session, open_session
from syncd.service.systemd import Notifier
from syncd.service.webhook import Webhook
from syncd.service.worker import MirrorWorker
from syncd.state.db import OnDamage, data_version
from syncd.state.directory import FILE_NAME, writable
from syncd.watch.hints import Inbox
from syncd.watch.observer import Watcher

if TYPE_CHECKING:
    from syncd.web.server import WebServer

log = structlog.get_logger()

READY_S = 10.0
"""After this the service counts as started, even if some root has not answered yet."""
REBUILD_EVERY_S = 60.0
"""A state file that is damaged again sooner than this lies on a disk that needs a person."""
CREDENTIALS_S = 2.0
"""Seconds between two reads of the token file."""
PULSE_S = 1.0
"""How often the daemon looks after itself: liveness, status line, marks set by other processes."""


def serve(load: Callable[[], Config]) -> int:
    """Run until SIGTERM (0) or SIGINT (130). load: reads the config, again at every SIGHUP.

    Raises ConfigError or Locked if the daemon cannot start.
    """
    return asyncio.run(_Daemon(load).run())


class _Daemon:
    def __init__(self, load: Callable[[], Config]) -> None:
        self._load = load
        self._notify = Notifier.from_environ(os.environ)
        self._stop = asyncio.Event()
        self._reload = asyncio.Event()
        self._code = EXIT_OK
        self._watching = False
        self._webhook = Webhook()
        self._web_server: WebServer | None = None
        self._opened = False
        self._on_damage: OnDamage = "rebuild"
        self._rebuilt_at = -REBUILD_EVERY_S

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        with signals.acting(lambda number: loop.call_soon_threadsafe(self._end, signals.code(number))):
            try:
                return await self._run()
            finally:
                if self._web_server:
                    await self._web_server.close()

    async def _run(self) -> int:
        config = self._load()
        self._hear_hangup()
        log.info("daemon.start", pid=os.getpid(), mirrors=list(config.mirrors))
        former: Config | None = None
        while not self._stop.is_set():
            try:
                former, config = config, await self._live(config)
            except StateDamaged as error:
                self._rebuild(error)
            except (ConfigError, Locked, StateHalt) as error:
                # What a reload brought cannot be opened, such as its state_dir: back to what could.
                if former is None or isinstance(error, StateGone):
                    raise
                _invalid(error)
                config, former = former, None
        log.info("daemon.stop", code=self._code)
        return self._code

    def _hear_hangup(self) -> None:
        # Not by the loop's own handlers: they would take the pipe by which a loop that hangs is ended all the same.
        loop = asyncio.get_running_loop()
        signal.signal(signal.SIGHUP, lambda *_: loop.call_soon_threadsafe(self._reload.set))

    def _end(self, code: int) -> None:
        # Nothing is lost by leaving: an outcome that was not recorded is adopted or put again by the next start.
        self._code = code
        self._stop.set()
        self._notify.stopping()

    async def _reloaded(self, workers: dict[str, MirrorWorker]) -> Config:
        """Return the config that a SIGHUP brought. A broken one leaves everything at work, and gets its full pass."""
        while True:
            await self._reload.wait()
            self._reload.clear()
            self._notify.reloading()
            try:
                config = self._load()
                login(config)
            except ConfigError as error:
                _invalid(error)
                for worker in workers.values():
                    worker.request_full()
                self._notify.ready()
            else:
                return config

    async def _live(self, config: Config) -> Config:
        """Serve one configuration until a signal ends it; return the one to go on with."""
        self._watching = False
        on_damage, self._on_damage = self._on_damage, "rebuild"
        async with open_session(config, daemon=True, on_damage=on_damage) as session:
            await self._open_web(config.web.listen)
            inbox = Inbox(asyncio.get_running_loop())
            watcher = Watcher(inbox)
            try:
                return await self._work(session, inbox, watcher)
            finally:
                await watcher.stop()

    def _rebuild(self, error: StateDamaged) -> None:
        """Let the next start set the state file aside. Raises the error if a new one was damaged within moments."""
        now = asyncio.get_running_loop().time()
        if now < self._rebuilt_at + REBUILD_EVERY_S:
            raise error
        self._rebuilt_at = now
        self._on_damage = "discard"

    async def _open_web(self, listen: str) -> None:
        """Serve the status page there. A port in use is an error at the start and a warning later."""
        if listen and self._web_server is None:
            # Those who serve no page pay neither its imports nor its memory.
            from syncd.web.server import WebServer

            self._web_server = WebServer()
        try:
            if self._web_server:
                await self._web_server.open(listen)
        except ConfigError as error:
            if not self._opened:
                raise
            log.warning("web.refused", error=str(error), consequence="the page stays where it was")
        self._opened = True

    async def _work(self, session: Session, inbox: Inbox, watcher: Watcher) -> Config:
        workers = {
            name: MirrorWorker(mirror, session.config.mirrors[name].reconcile_interval, session.transport.gate)
            for name, mirror in session.mirrors.items()
        }
        for name, mirror in session.mirrors.items():
            section = session.config.mirrors[name]
            watcher.add(
                name,
                mirror.tree.root,
                section.watch,
                poll_interval=section.poll_interval,
                ignore=_ignore(mirror.tree),
                unwanted=_unwanted(mirror.tree),
            )
        tasks = [asyncio.create_task(self._start_watching(watcher, workers))]
        tasks += [asyncio.create_task(worker.run()) for worker in workers.values()]
        tasks.append(asyncio.create_task(_bridge(inbox, workers)))
        tasks.append(asyncio.create_task(self._pulse(session, watcher, workers)))
        if session.config.cloudflare.api_token_file:
            tasks.append(asyncio.create_task(_follow_credentials(session.transport, workers)))
        tasks.append(asyncio.create_task(self._webhook.run(session.config.notify.webhook.get_secret_value())))
        if self._web_server:
            from syncd.web.view import RuntimeView

            tasks.append(
                asyncio.create_task(
                    self._web_server.run(RuntimeView(session, workers, watcher, lambda: self._watching))
                )
            )
        reloaded = asyncio.create_task(self._reloaded(workers))
        signals: list[asyncio.Task[Any]] = [asyncio.create_task(self._stop.wait()), reloaded]
        try:
            await _until_any(signals, tasks)
            return reloaded.result() if reloaded.done() else session.config
        finally:
            for task in (*tasks, *signals):
                task.cancel()
            await asyncio.gather(*tasks, *signals, return_exceptions=True)

    async def _start_watching(self, watcher: Watcher, workers: dict[str, MirrorWorker]) -> None:
        """Watch first, then look at everything: what changes in between is a hint. A hung root holds up itself only."""

        async def begin(name: str, worker: MirrorWorker) -> None:
            await watcher.ready(name)
            status = watcher.status(name)
            log.info("watch.ready", mirror=name, mode=status.mode, detail=status.detail or None)
            worker.request_full()

        begun = [asyncio.create_task(begin(name, worker)) for name, worker in workers.items()]
        starting = asyncio.create_task(watcher.start())
        try:
            await asyncio.wait(begun, timeout=READY_S)
            self._notify.ready()
            await asyncio.gather(starting, *begun)
            self._watching = True
        finally:
            for task in (starting, *begun):
                task.cancel()

    async def _pulse(self, session: Session, watcher: Watcher, workers: dict[str, MirrorWorker]) -> None:
        """Feed the systemd watchdog while everything lives; show the state; notice marks made by `syncd retry`."""
        with writable():
            seen = data_version(session.db)
        said: dict[str, object] = {}
        fed = -1e9
        loop = asyncio.get_running_loop()
        while True:
            for name, worker in workers.items():
                status = watcher.status(name)
                shown = {"mode": status.mode, "detail": status.detail}
                if said.get(name) != shown:
                    # On a full disk it is said a second later, or whenever there is room again.
                    with contextlib.suppress(StateHalt), writable():
                        worker.mirror.meta.set("watch", shown)
                        said[name] = shown
                self._webhook.look(name, worker.status.state, worker.status.detail)
            _check_state(session)
            with writable():
                version = data_version(session.db)
            if version != seen:
                seen = version
                for worker in workers.values():
                    worker.state_changed()
            interval = self._notify.watchdog_interval_s
            if interval and loop.time() - fed >= interval and self._all_alive(watcher, workers):
                self._notify.watchdog()
                fed = loop.time()
            line = "; ".join(worker.status.summary for worker in workers.values())
            if said.get("") != line:
                said[""] = line
                self._notify.status(line)
            await asyncio.sleep(min(PULSE_S, interval / 2) if interval else PULSE_S)

    def _all_alive(self, watcher: Watcher, workers: dict[str, MirrorWorker]) -> bool:
        dead = [name for name, worker in workers.items() if not worker.is_alive()]
        # Until all watches stand there is nothing that could have stopped.
        watching = not self._watching or watcher.alive()
        if dead or not watching:
            log.error("daemon.stuck", mirrors=dead, watcher_alive=watching)
        return watching and not dead


def _invalid(error: SyncdError) -> None:
    log.error("config.invalid", error=str(error), consequence="the former config stays in force")


async def _follow_credentials(transport: Transport, workers: dict[str, MirrorWorker]) -> None:
    """Read the token file every few seconds. A new token is used at once, and restarts halted mirrors."""
    used = transport.login.credentials
    while True:
        await asyncio.sleep(CREDENTIALS_S)
        # While the file is being written or is missing, the former token stays in use.
        with contextlib.suppress(ConfigError):
            await asyncio.to_thread(transport.login.renew)
        if transport.login.credentials is not used:
            used = transport.login.credentials
            for worker in workers.values():
                if worker.status.state == "halted":
                    worker.request_full()


async def _bridge(inbox: Inbox, workers: dict[str, MirrorWorker]) -> None:
    while True:
        for name, hints in (await inbox.get_batch()).items():
            if name in workers:
                workers[name].hint(hints)


async def _until_any(signals: Sequence[asyncio.Task[Any]], tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Return at the first signal; raise what a task dies of. A task that ends well (the start) is no reason to end."""
    running: set[asyncio.Task[Any]] = {*signals, *tasks}
    while True:
        done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        if any(task in done for task in signals):
            return


def _ignore(tree: Tree) -> Callable[[str], bool]:
    """What need not be watched: paths that the config leaves out. What ignore files say may change at any time."""
    rules = tree.rules

    def ignore(path: str) -> bool:
        if rules.links and (path.endswith("/") or tree.links.at(path)):
            return rules.forbids(normal(path.rstrip("/"))) is not None
        return rules.excluded_deep(normal(path)) is not None and not path.endswith(IGNORE_FILE)

    return ignore


def _unwanted(tree: Tree) -> Callable[..., bool]:
    """Drops hints of what ignore files leave out, but for what a link leads through."""

    def unwanted(path: str, *, directory: bool) -> bool:
        return not tree.links.at(path) and tree.ignores.excludes(path, directory=directory)

    return unwanted


def _check_state(session: Session) -> None:
    """Raise StateGone if another syncd could take the state directory, StateDamaged if the file was removed."""
    state_dir = session.config.state_dir
    if session.lock is not None and session.lock.gone():
        raise StateGone(f"{state_dir} was removed or replaced while syncd was at work; start syncd anew")
    if not (state_dir / FILE_NAME).exists():
        raise StateDamaged(f"{state_dir / FILE_NAME} was removed while syncd was at work")
