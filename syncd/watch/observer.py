"""The interface of the daemon to the watch of all mirrors."""

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from syncd.core.model import WatchSetting
from syncd.watch.hints import Hint, Inbox
from syncd.watch.kernel import KernelWatch
from syncd.watch.monitor import Monitor, Root, WatchStatus
from syncd.watch.polling import Ignore

_log = structlog.get_logger()

_STOP_S = 1.0
"""Maximum seconds for a stop. A thread in a walk of a huge tree or on a hung file system ends with the process."""


class Watcher:
    """Watches the roots of all mirrors, and puts hints into an inbox. For use on the event loop only.

    identity_interval_s: seconds between two checks of the identity of a root. clock: monotonic seconds.
    patience_s: seconds without an answer after which `alive` considers a thread stuck.
    rebuild_rest_s: minimum seconds between two rebuilds after overflows.
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
        """The number of times that the kernel dropped events since the start."""
        return self._kernel.overflows

    def add(
        self,
        mirror: str,
        root: Path,
        mode: WatchSetting = "auto",
        *,
        poll_interval: float = 30.0,
        ignore: Ignore | None = None,
        unwanted: Callable[..., bool] | None = None,
    ) -> None:
        """Add the root of a mirror. The root may be missing. The watch starts with `start`, or at once after it.

        ignore: see `Ignore`. unwanted(path, directory=...): returns whether to drop a hint. It runs in the threads of
        the watch, so it must be fast and not access the disk. Raises ValueError if the mirror was added before.
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
        """Start, and return when all watches are set. A full pass that starts afterwards misses no change."""
        self._started = True
        self._kernel.start()
        for monitor in self._monitors.values():
            monitor.start()
        for mirror in list(self._monitors):
            await self.ready(mirror)

    async def ready(self, mirror: str) -> None:
        """Return when the first watch or snapshot of a mirror is complete."""
        await self._ready[mirror].wait()

    def status(self, mirror: str) -> WatchStatus:
        """Return the current mode of a mirror. Raises KeyError for an unknown mirror."""
        return self._monitors[mirror].status

    def alive(self) -> bool:
        """Return whether all threads run, and the reader and the dispatcher answered the last probe. Never blocks.

        Each call sends the next probe, so it must be called with each heartbeat. A stuck thread shows at the first call
        `patience_s` after its probe.
        """
        return self._started and self._kernel.alive() and all(monitor.is_alive() for monitor in self._monitors.values())

    async def stop(self) -> None:
        """Stop all threads within a second."""
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

        # Not in the executor of the loop, because the process would wait for it.
        threading.Thread(target=wind_down, name="watch-stop", daemon=True).start()
        try:
            await asyncio.wait_for(stopped.wait(), _STOP_S)
        except TimeoutError:
            _log.warning("watch.stop_slow", seconds=_STOP_S)


def _call_soon(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:
        # The loop is closed, so nothing waits for the call.
        return
