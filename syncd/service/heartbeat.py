"""The work of the daemon in every second, besides the mirrors: checks that they live, and shows their states."""

import asyncio
import contextlib
import math

import structlog

from syncd.core.errors import StateDamaged, StateGone, StateHalt
from syncd.service.build import Session
from syncd.service.runtime import Runtime
from syncd.service.systemd import Notifier
from syncd.service.webhook import Webhook
from syncd.state.db import data_version
from syncd.state.directory import FILE_NAME, writable

log = structlog.get_logger()

EVERY_S = 1.0


class Heartbeat:
    """Feeds the watchdog of systemd, and passes on the states of the mirrors and changes of the state file."""

    def __init__(self, runtime: Runtime, notifier: Notifier, webhook: Webhook) -> None:
        self._runtime = runtime
        self._notifier = notifier
        self._webhook = webhook
        self._stored: dict[str, dict[str, str]] = {}
        self._summary = ""
        self._fed_at = -math.inf

    async def run(self) -> None:
        """Beat until cancelled. Raises StateGone or StateDamaged if the state directory or file was removed."""
        session = self._runtime.session
        interval = self._notifier.watchdog_interval_s
        with writable():
            seen = data_version(session.db)
        while True:
            self._store_watch_status()
            for name, worker in self._runtime.workers.items():
                self._webhook.update(name, worker.status.state, worker.status.detail)
            _check_state(session)
            with writable():
                version = data_version(session.db)
            if version != seen:
                # Another process has changed the state file, as `syncd retry` does.
                seen = version
                for worker in self._runtime.workers.values():
                    worker.state_changed()
            self._feed_watchdog()
            self._show_summary()
            await asyncio.sleep(min(EVERY_S, interval / 2) if interval else EVERY_S)

    def _store_watch_status(self) -> None:
        """Store how each folder is watched, for `status`. On a full disk it is stored when there is room again."""
        for name, worker in self._runtime.workers.items():
            status = self._runtime.watcher.status(name)
            stored = {"mode": status.mode, "detail": status.detail}
            if self._stored.get(name) != stored:
                with contextlib.suppress(StateHalt), writable():
                    worker.mirror.meta.set("watch", stored)
                    self._stored[name] = stored

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
        summary = "; ".join(worker.status.summary for worker in self._runtime.workers.values())
        if summary != self._summary:
            self._summary = summary
            self._notifier.status(summary)


def _check_state(session: Session) -> None:
    """Raise StateGone if another syncd could take the state directory, StateDamaged if the file was removed."""
    state_dir = session.config.state_dir
    if session.lock is not None and session.lock.gone():
        raise StateGone(f"{state_dir} was removed or replaced while syncd was at work; start syncd anew")
    if not (state_dir / FILE_NAME).exists():
        raise StateDamaged(f"{state_dir / FILE_NAME} was removed while syncd was at work")
