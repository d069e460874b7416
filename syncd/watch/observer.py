"""The daemon's side of watching."""

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import structlog

from syncd.watch.hints import Hint, Inbox
from syncd.watch.kernel import KernelWatch
from syncd.watch.monitor import Monitor, Root, WatchStatus
from syncd.watch.polling import Ignore

_log = structlog.get_logger()

_STOP_S = 1.0
"""What is not down by then (a walk of a huge tree, a hung file system) ends with the process."""


class Watcher:
    """Watches the roots of all mirrors and puts hints into inbox. Made and used on the event loop.

    identity_interval_s: how often each root's identity is compared. clock: monotonic seconds.
    patience_s: after how long without an answer `alive` takes a thread for stuck.
    rebuild_rest_s: the least time between two rebuilds after overflows.
    """

    def __init__(
        self,
        inbox: Inbox,
        *,
        identity_interval_s: float = 1.0,
        patience_s: float = 30.0,
        rebuild_rest_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inbox = inbox
        self._identity_interval_s = identity_interval_s
        self._clock = clock
        self._kernel = KernelWatch(clock, rest_s=rebuild_rest_s, patience_s=patience_s)
        self._monitors: dict[str, Monitor] = {}
        self._ready: dict[str, asyncio.Event] = {}
        self._started = False

    @property
    def overflows(self) -> int:
        """How often the kernel dropped events since the start."""
        return self._kernel.overflows

    def add(
        self,
        mirror: str,
        root: Path,
        mode: Literal["auto", "inotify", "poll", "off"] = "auto",
        *,
        poll_interval: float = 30.0,
        ignore: Ignore | None = None,
        unwanted: Callable[..., bool] | None = None,
    ) -> None:
        """Registers a mirror's root, which need not exist yet. Before `start` it waits for it; afterwards it is
        watched at once (see `ready`). unwanted(path, directory=…): drops a hint; asked in the watching threads, so it
        must be quick and touch no disk. ValueError if the mirror is there already.
        """
        if mirror in self._monitors:
            raise ValueError(f"mirror {mirror} is watched already")
        ready, loop = asyncio.Event(), asyncio.get_running_loop()
        self._ready[mirror] = ready

        def put(hint: Hint) -> None:
            if not (unwanted and hint.path and unwanted(hint.path, directory=hint.subtree)):
                self._inbox.put(mirror, hint)

        monitor = Monitor(
            Root(mirror, root, mode, poll_interval, ignore),
            self._kernel,
            put,
            lambda: _call_soon(loop, ready.set),
            self._clock,
            self._identity_interval_s,
        )
        self._monitors[mirror] = monitor
        if self._started:
            monitor.start()

    async def start(self) -> None:
        """Starts watching and returns when all watches stand: a full pass begun after it misses nothing."""
        self._started = True
        self._kernel.start()
        for monitor in self._monitors.values():
            monitor.start()
        for mirror in list(self._monitors):
            await self.ready(mirror)

    async def ready(self, mirror: str) -> None:
        """Returns when this mirror's first watch or snapshot stands."""
        await self._ready[mirror].wait()

    def status(self, mirror: str) -> WatchStatus:
        """How the mirror is watched at this moment. KeyError for a mirror that was never added."""
        return self._monitors[mirror].status

    def alive(self) -> bool:
        """Whether every thread runs and the reader and the dispatcher have answered their last proof of life.

        Never blocks. Each call sends the next proof, so call it with every heartbeat; a stuck thread shows at the
        first call `patience_s` after the proof was sent.
        """
        return self._started and self._kernel.alive() and all(each.is_alive() for each in self._monitors.values())

    async def stop(self) -> None:
        """Ends all threads, within a second."""
        if not self._started:
            return
        self._started = False
        loop, stopped = asyncio.get_running_loop(), asyncio.Event()
        for monitor in self._monitors.values():
            monitor.stop_soon()

        def wind_down() -> None:
            self._kernel.stop()
            for monitor in self._monitors.values():
                monitor.join()
            _call_soon(loop, stopped.set)

        # Not in the loop's executor, which the process would wait for.
        threading.Thread(target=wind_down, name="watch-stop", daemon=True).start()
        try:
            await asyncio.wait_for(stopped.wait(), _STOP_S)
        except TimeoutError:
            _log.warning("watch.stop_slow", seconds=_STOP_S)


def _call_soon(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:
        # The loop is closed, so nobody waits for this any more.
        return
