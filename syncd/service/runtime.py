"""The objects at work under one configuration, and the tasks that connect them."""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from syncd.cloudflare.connection import find_fault
from syncd.core.errors import ConfigError, StateBusy, StateDamaged, StateGone, StateHalt
from syncd.core.keys import normal, shown
from syncd.core.plain_text import span
from syncd.core.rules import IGNORE_FILE
from syncd.local.walk import Tree
from syncd.service.build import Session
from syncd.service.idle_look import LIMIT_S, IdleLook
from syncd.service.lookout import DEGRADED_LONG_S, Lookout
from syncd.service.systemd import Notifier
from syncd.service.worker import MirrorWorker
from syncd.state.directory import FILE_NAME, data_version, writable
from syncd.state.history import MirrorState, keep_contact, keep_presence
from syncd.sync.mirror import Mirror
from syncd.sync.mirror_status import MirrorStatus
from syncd.watch.observer import Inbox, Root, Watcher

log = structlog.get_logger()

CREDENTIALS_EVERY_S = 2.0
"""Seconds between two reads of the token file."""
READY_S = 10.0
"""The service counts as started after this time, even if the watch of a folder is not set up yet."""
BEAT_EVERY_S = 1.0
PRESENCE_EVERY_S = 10.0
"""Seconds between two writes of a sign of life. Each of them also shows whether the state file can be written."""


@dataclass(slots=True, eq=False)
class Runtime:
    """The objects at work under the current configuration.

    idle_look: looks whether idle mirrors can reach the remote. watching: whether all watches are set up.
    state_fault: why the last sign of life could not be stored.
    """

    session: Session
    workers: Mapping[str, MirrorWorker]
    inbox: Inbox
    watcher: Watcher
    idle_look: IdleLook
    watching: bool = False
    state_fault: str | None = None

    def faults(self) -> list[str]:
        """Return the reasons why the daemon cannot work: the reasons of `dead`, and faults that need a person."""
        reasons = [reason for name, worker in self.workers.items() if (reason := _fault(name, worker.status))]
        # All mirrors share one state file, so its fault is named once.
        faults = {self.state_fault, *(worker.policy.state_fault for worker in self.workers.values())}
        reasons += sorted(fault for fault in faults if fault)
        return reasons + self.dead()

    def unready(self) -> list[str]:
        """Return the reasons why the daemon is not ready: the reasons of `faults`, and watches that are not set up."""
        return self.faults() + ([] if self.watching else ["the watches of the folders are being set up"])

    def dead(self) -> list[str]:
        """Return the reasons why the daemon should be started again: loops that are stuck, and a dead watcher."""
        reasons = [f"the loop of mirror {name} is stuck" for name in self.stuck()]
        if not self.watcher_alive():
            reasons.append("the watcher is dead")
        return reasons

    def stuck(self) -> list[str]:
        """Return the mirrors whose loops are stuck."""
        return [name for name, worker in self.workers.items() if not worker.is_alive()]

    def watcher_alive(self) -> bool:
        """Return whether the threads that watch the folders work. Before all watches are set up none can be dead."""
        return not self.watching or self.watcher.alive()

    def version(self) -> tuple[object, ...]:
        """Return a value that changes whenever this process or another one changes the state file."""
        db = self.session.db
        return self, db.total_changes, data_version(db)

    def request_full(self) -> None:
        """Make a full pass of every mirror."""
        for worker in self.workers.values():
            worker.request_full()


def _fault(name: str, status: MirrorStatus) -> str | None:
    """Return why a mirror cannot do its work, None if it can, or if it is degraded for a short time only."""
    if status.shown.state == "halted":
        return f"mirror {name} is halted: {status.shown.detail}"
    if (seconds := status.degraded_s()) >= DEGRADED_LONG_S:
        return f"mirror {name} is degraded for {span(seconds)}: {status.shown.detail}"
    return None


def build_runtime(session: Session) -> Runtime:
    """Return a worker for every mirror of a session, and a watcher for their folders that is not started yet."""
    inbox = Inbox(asyncio.get_running_loop())
    watcher, workers = Watcher(inbox), {}
    for name, mirror in session.mirrors.items():
        section = session.config.mirrors[name]
        workers[name] = MirrorWorker(mirror, section.reconcile_interval, session.transport.gate)
        tree = mirror.tree
        watcher.add(Root(name, tree.root, section.watch, section.poll_interval, _ignore(tree), _unwanted(tree)))
    base_url = session.transport.base_url
    idle_look = IdleLook(
        lambda: find_fault(base_url, handshake=False, limit_s=LIMIT_S),
        [*workers.values()],
        asyncio.get_running_loop().time,
    )
    return Runtime(session, workers, inbox, watcher, idle_look)


def _ignore(tree: Tree) -> Callable[[str], bool]:
    """Return the test for paths that need no watch, because the config excludes them.

    Ignore files have no effect here, because they may change.
    """
    rules = tree.rules

    def ignore(path: str) -> bool:
        if rules.links and (path.endswith("/") or tree.links.at(path)):
            return rules.forbids(normal(path.rstrip("/"))) is not None
        return rules.excluded_deep(normal(path)) is not None and not path.endswith(IGNORE_FILE)

    return ignore


def _unwanted(tree: Tree) -> Callable[..., bool]:
    """Return the test for hints to drop: hints on paths that ignore files exclude, unless a link leads through them."""

    def unwanted(path: str, *, directory: bool) -> bool:
        return not tree.links.at(path) and tree.ignores.excludes(path, directory=directory)

    return unwanted


async def start_watching(runtime: Runtime, on_ready: Callable[[], None]) -> None:
    """Set up the watches. Then start the full pass of each mirror, so that no change is lost in between.

    on_ready: called when all watches are set up, at the latest after READY_S. A hung folder delays its own mirror only.
    """

    async def begin(name: str, worker: MirrorWorker) -> None:
        await runtime.watcher.ready(name)
        status = runtime.watcher.status(name)
        log.info("watch.ready", mirror=name, mode=status.mode, detail=status.detail or None)
        worker.request_full()

    runtime.watcher.start()
    begun = [asyncio.create_task(begin(name, worker)) for name, worker in runtime.workers.items()]
    try:
        await asyncio.wait(begun, timeout=READY_S)
        on_ready()
        await asyncio.gather(*begun)
        runtime.watching = True
    finally:
        for task in begun:
            task.cancel()


async def deliver_hints(runtime: Runtime) -> None:
    """Pass the hints of the watcher on to the workers, until cancelled."""
    while True:
        for name, hints in (await runtime.inbox.get_batch()).items():
            if name in runtime.workers:
                runtime.workers[name].hint(hints)


async def follow_credentials(runtime: Runtime) -> None:
    """Read the token file every few seconds. A new token is used at once, and restarts halted mirrors."""
    login = runtime.session.transport.login
    used = login.credentials
    while True:
        await asyncio.sleep(CREDENTIALS_EVERY_S)
        # While the file is missing or being written, the former token stays in use.
        with contextlib.suppress(ConfigError):
            await asyncio.to_thread(login.renew)
        if login.credentials is not used:
            used = login.credentials
            for worker in runtime.workers.values():
                if worker.status.shown.state == "halted":
                    worker.request_full()


class Heartbeat:
    """Feeds the watchdog of systemd, and passes on the states of the mirrors and changes of the state file."""

    def __init__(self, runtime: Runtime, notifier: Notifier, lookout: Lookout) -> None:
        self._runtime = runtime
        self._notifier = notifier
        self._lookout = lookout
        self._stored_watch: dict[str, dict[str, str]] = {}
        self._summaries = {name: (worker.status.shown, f"{name}: starting") for name, worker in runtime.workers.items()}
        self._summary = ""
        self._fed_at = self._kept_at = -math.inf

    async def run(self) -> None:
        """Beat until cancelled. Raises StateGone or StateDamaged if the state directory or file was removed."""
        try:
            await self._beat()
        finally:
            with contextlib.suppress(StateHalt):
                self._keep_presence(ended=True)

    async def _beat(self) -> None:
        session, interval = self._runtime.session, self._notifier.watchdog_interval_s
        with writable():
            version = data_version(session.db)
        while True:
            self._keep_presence()
            self._store_watch_status()
            # A process that is killed stores nothing at its end.
            session.keep_known_credentials()
            for worker in self._runtime.workers.values():
                worker.status.look()
            gate, problems = session.transport.gate, session.config.notify.problems
            self._lookout.look(self._runtime.workers, gate, problems)
            _check_state(session)
            before = version
            with writable():
                version = data_version(session.db)
            if version != before:
                # Another process has changed the state file, as `syncd retry` does.
                for worker in self._runtime.workers.values():
                    worker.state_changed()
            self._feed_watchdog()
            self._show_summary()
            await asyncio.sleep(min(BEAT_EVERY_S, interval / 2) if interval else BEAT_EVERY_S)

    def _keep_presence(self, *, ended: bool = False) -> None:
        """Store a sign of life every PRESENCE_EVERY_S, and at the end. Note whether the state file can be written."""
        now = asyncio.get_running_loop().time()
        if not ended and now - self._kept_at < PRESENCE_EVERY_S:
            return
        self._kept_at = now
        try:
            with writable(self._runtime.session.config.state_dir / FILE_NAME):
                keep_presence(self._runtime.session.db, time.time(), ended=ended)
                for worker in self._runtime.workers.values():
                    keep_contact(worker.mirror.meta, worker.status.contact.answered_at)
        except StateBusy:
            log.debug("presence.busy")
        except StateDamaged:
            raise
        except StateHalt as error:
            self._runtime.state_fault = str(error)
        else:
            self._runtime.state_fault = None

    def _store_watch_status(self) -> None:
        """Store how each folder is watched, for `status`. On a full disk it is stored when there is room again."""
        for name, worker in self._runtime.workers.items():
            status = self._runtime.watcher.status(name)
            stored = {"mode": status.mode, "detail": status.detail}
            if self._stored_watch.get(name) != stored:
                with contextlib.suppress(StateHalt), writable():
                    worker.mirror.meta.set("watch", stored)
                    self._stored_watch[name] = stored

    def _feed_watchdog(self) -> None:
        interval, now = self._notifier.watchdog_interval_s, asyncio.get_running_loop().time()
        if not interval or now - self._fed_at < interval:
            return
        stuck, watcher_alive = self._runtime.stuck(), self._runtime.watcher_alive()
        if stuck or not watcher_alive:
            log.error("daemon.stuck", mirrors=stuck, watcher_alive=watcher_alive)
            return
        self._notifier.watchdog()
        self._fed_at = now

    def _show_summary(self) -> None:
        for name, worker in self._runtime.workers.items():
            if self._summaries[name][0] is not (shown_now := worker.status.shown):
                with contextlib.suppress(StateHalt), writable():
                    self._summaries[name] = shown_now, summary_of(worker.mirror, shown_now)
        summary = "; ".join(text for _, text in self._summaries.values())
        if summary != self._summary:
            self._summary = summary
            self._notifier.status(summary)


def summary_of(mirror: Mirror, state: MirrorState) -> str:
    """Return the part of the status line for one mirror."""
    parts = [state.state, f"{mirror.journal.in_step()} in step"]
    parts += [f"{state.remaining} to go"] if state.remaining else []
    parts += [f"about {span(state.until - mirror.now())} left"] if state.until else []
    why = f" ({shown(state.detail)})" if state.detail else ""
    return f"{mirror.name}: {', '.join(parts)}{why}"


def _check_state(session: Session) -> None:
    """Raise StateGone if another syncd could take the state directory, StateDamaged if the file was removed."""
    state_dir = session.config.state_dir
    if session.lock is not None and session.lock.gone():
        raise StateGone(f"{state_dir} was removed or replaced while syncd was running; start syncd again")
    if not (state_dir / FILE_NAME).exists():
        raise StateDamaged(f"{state_dir / FILE_NAME} was removed while syncd was running")
