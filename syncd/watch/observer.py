"""Watches the roots of all mirrors in one thread each, by events or polling, and collects hints in an inbox."""

import asyncio
import errno
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from syncd.core.keys import shown_path
from syncd.core.model import EVERYTHING, Hint, WatchMode, WatchSetting
from syncd.core.plain_text import counted
from syncd.local.mounts import mounts_below, network_filesystem
from syncd.local.read import Identity, root_identity
from syncd.watch.kernel import KernelWatch, RootHandler
from syncd.watch.polling import Ignore, Poller

_log = structlog.get_logger()

_STOP_S = 1.0
"""Maximum seconds that `Watcher.stop` waits for the threads. A thread that still runs ends with the process."""
_SYSCTL_DIR: Final = Path("/proc/sys/fs/inotify")
_RECOMMENDED_WATCHES: Final = 524_288
"""The watch limit that most distributions and editors recommend. The kernel needs about 0.5 GB for all of them."""


class Inbox:
    """Holds the hints of each mirror without duplicates. `put` is thread-safe. The other methods are for the
    event loop.

    limit: maximum hints of one mirror (our own limit; 10,000 take about 2 MB). A further hint replaces all of them by
    `EVERYTHING`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: int = 10_000) -> None:
        self._loop = loop
        self._limit = limit
        self._lock = threading.Lock()
        self._hints: dict[str, dict[Hint, None]] = {}
        self._filled = asyncio.Event()

    def put(self, mirror: str, hint: Hint) -> None:
        """Add a hint for a mirror. Never waits for the consumer, and never raises."""
        with self._lock:
            was_empty = not self._hints
            hints = self._hints.setdefault(mirror, {})
            if EVERYTHING not in hints:
                hints[hint] = None
                if hint == EVERYTHING or len(hints) > self._limit:
                    self._hints[mirror] = {EVERYTHING: None}
        if was_empty:
            _call_soon(self._loop, self._filled.set)

    def drain(self) -> dict[str, list[Hint]]:
        """Remove and return all hints by mirror, in the order of their arrival."""
        with self._lock:
            batch, self._hints = self._hints, {}
        return {mirror: list(hints) for mirror, hints in batch.items()}

    async def get_batch(self) -> dict[str, list[Hint]]:
        """Wait until there is a hint, then remove and return all hints."""
        while not (batch := self.drain()):
            # A hint that arrives from here on sets the event again, in a later step of the event loop.
            self._filled.clear()
            await self._filled.wait()
        return batch


@dataclass(frozen=True, slots=True)
class WatchStatus:
    """The current mode of a watch. detail: the reason for a mode other than the configured one, "" for none."""

    mode: WatchMode
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Root:
    """A root to watch, which may be missing.

    setting, poll_interval_s: `watch` and `poll_interval` (seconds) of the config. ignore: see `Ignore`.
    unwanted(path, directory=...): returns whether to drop a hint. It runs in the threads of the watch, so it must be
    fast and not access the disk.
    """

    mirror: str
    path: Path
    setting: WatchSetting = "auto"
    poll_interval_s: float = 30.0
    ignore: Ignore | None = None
    unwanted: Callable[..., bool] | None = None


class Monitor(threading.Thread):
    """Watches one root with the best available mode until `stop_soon`.

    put: receives the hints. ready: set in `loop` when the first watch or snapshot is complete.
    identity_interval_s: seconds between two checks of the identity of the root and of the mounts below it. No event
    reports a mount, an unmount or a rename of the root.
    """

    def __init__(
        self,
        root: Root,
        kernel: KernelWatch,
        put: Callable[[Hint], None],
        loop: asyncio.AbstractEventLoop,
        identity_interval_s: float,
    ) -> None:
        super().__init__(name=f"watch-{root.mirror}", daemon=True)
        self._root = root
        self._kernel = kernel
        self._put = put
        self._loop = loop
        self._interval_s = identity_interval_s
        self._wake = threading.Event()
        self._stopped = False
        self._refused = threading.Event()
        self._identity: Identity | None = None
        self._mounts: dict[str, str] = {}
        self._handler: RootHandler | None = None
        self._poller: Poller | None = None
        self._next_poll = 0.0
        self.status = WatchStatus("off", "starting")
        self.ready = asyncio.Event()

    def stop_soon(self) -> None:
        """Ask the thread to end, without waiting for it."""
        self._stopped = True
        self._wake.set()

    def run(self) -> None:
        """Check the root once in each interval."""
        self._set_up()
        _call_soon(self._loop, self.ready.set)
        while not self._stopped:
            self._wake.wait(self._pause_s())
            self._wake.clear()
            if not self._stopped:
                self._check()

    def _pause_s(self) -> float:
        if self._poller is None:
            return self._interval_s
        return min(self._interval_s, max(0.0, self._next_poll - time.monotonic()))

    def _check(self) -> None:
        """Set a new watch if the root, the mounts below it or the old watch changed. Poll if a poll is due."""
        if self._handler is not None:
            self._kernel.rebuild_after_loss()
        identity = root_identity(self._root.path)
        lost = self._handler is not None and (self._refused.is_set() or not self._kernel.holds(self._handler))
        mounted = mounts_below(self._root.path) != self._mounts
        if identity != self._identity or lost or mounted:
            _log.info(
                "watch.renew",
                mirror=self._root.mirror,
                found=identity is not None,
                mounted=mounted,
                refused=self._refused.is_set(),
            )
            self._set_up()
            # The hint comes after the new watch is set, so that it covers every change before.
            self._put(EVERYTHING)
        elif self._poller is not None and time.monotonic() >= self._next_poll:
            self._poll(self._put)

    def _set_up(self) -> None:
        """Set the watch in the best available mode, in place of an earlier one."""
        if self._handler is not None:
            self._kernel.detach(self._handler)
        self._handler = self._poller = None
        # The identity is read before the watch is set. If the root is replaced in between, the next check notices it.
        self._identity, self._mounts = root_identity(self._root.path), mounts_below(self._root.path)
        if self._identity is None:
            self.status = WatchStatus("off", f"the root is missing: {shown_path(self._root.path)}")
        elif self._root.setting == "off":
            self.status = WatchStatus("off")
        else:
            self._watch_or_poll()
        _log.info("watch.mode", mirror=self._root.mirror, mode=self.status.mode, detail=self.status.detail)

    def _watch_or_poll(self) -> None:
        reason = "" if self._root.setting == "poll" else self._attach()
        if self._handler is not None:
            self.status = WatchStatus("inotify")
            return
        self._poller = Poller(self._root.path, self._root.ignore, lambda: self._stopped)
        self._poll(lambda _: None)
        if self._refused.is_set():
            reason = watch_limit_advice(self._poller.directories)
        self.status = WatchStatus("poll", reason)

    def _attach(self) -> str:
        """Set self._handler, or return the reason why there is no event source."""
        if self._root.setting == "auto" and (kind := network_filesystem(self._root.path)) is not None:
            return f"{kind} reports no changes by other machines, so syncd polls"
        # The handler has the real path, because watchdog would watch a symbolic link and not its target.
        handler = RootHandler(os.path.realpath(self._root.path), self._put, self._refuse, self._root.ignore)
        if self._refused.is_set():
            return ""
        try:
            self._kernel.attach(handler)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                self._refused.set()
            return instance_limit_advice() if error.errno == errno.EMFILE else f"inotify refused the root: {error}"
        if self._refused.is_set():
            self._kernel.detach(handler)
            return ""
        self._handler = handler
        return ""

    def _refuse(self) -> None:
        """Note that the kernel refused a watch, and wake the thread. Any thread may call it."""
        self._refused.set()
        self._wake.set()

    def _poll(self, report: Callable[[Hint], None]) -> None:
        if self._poller is not None:
            self._poller.scan(report)
        self._next_poll = time.monotonic() + self._root.poll_interval_s


class Watcher:
    """Watches the roots of all mirrors, and puts hints into an inbox. For use on the event loop only.

    identity_interval_s: seconds between two checks of the identity of a root. patience_s: seconds without an answer
    after which `alive` considers a thread stuck. rebuild_rest_s: minimum seconds between two rebuilds after overflows.
    """

    def __init__(
        self,
        inbox: Inbox,
        *,
        identity_interval_s: float = 1.0,
        patience_s: float = 30.0,
        rebuild_rest_s: float = 5.0,
    ) -> None:
        self._inbox = inbox
        self._identity_interval_s = identity_interval_s
        self._kernel = KernelWatch(rest_s=rebuild_rest_s, patience_s=patience_s)
        self._monitors: dict[str, Monitor] = {}
        self._started = False

    @property
    def overflows(self) -> int:
        """The number of times that the kernel dropped events since the start."""
        return self._kernel.overflows

    def add(self, root: Root) -> None:
        """Add the root of a mirror. The watch begins with `start`."""

        def put(hint: Hint) -> None:
            if not (root.unwanted and hint.path and root.unwanted(hint.path, directory=hint.subtree)):
                self._inbox.put(root.mirror, hint)

        loop = asyncio.get_running_loop()
        self._monitors[root.mirror] = Monitor(root, self._kernel, put, loop, self._identity_interval_s)

    def start(self) -> None:
        """Start the watches."""
        self._started = True
        for monitor in self._monitors.values():
            monitor.start()

    async def ready(self, mirror: str) -> None:
        """Wait until the watch of a mirror is set. A full pass that starts afterwards misses no change."""
        await self._monitors[mirror].ready.wait()

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

        def stop_threads() -> None:
            self._kernel.stop()
            for monitor in self._monitors.values():
                # A machine without threads has not started every monitor.
                if monitor.ident is not None:
                    monitor.join()
            _call_soon(loop, stopped.set)

        # This is no thread of the executor of the loop, because the process would wait for it at its end.
        try:
            threading.Thread(target=stop_threads, name="watch-stop", daemon=True).start()
        except RuntimeError:
            # No thread is left.
            stop_threads()
        try:
            await asyncio.wait_for(stopped.wait(), _STOP_S)
        except TimeoutError:
            _log.warning("watch.stop_slow", seconds=_STOP_S)


def _call_soon(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:
        # The loop is closed, so nothing waits for the call. The next start makes a full pass.
        return


def watch_limit_advice(directories: int, sysctl_dir: Path = _SYSCTL_DIR) -> str:
    """Return the remedy, in one line, for a root with more directories than fs.inotify.max_user_watches permits."""
    limit = _limit(sysctl_dir / "max_user_watches")
    watches = max(_RECOMMENDED_WATCHES, 1 << (limit + directories).bit_length())
    present = f" ({limit})" if limit else ""
    return (
        f"the inotify watch limit{present} is too low for {counted(directories, 'directory')}: "
        f"sysctl fs.inotify.max_user_watches={watches}, then restart"
    )


def instance_limit_advice(sysctl_dir: Path = _SYSCTL_DIR) -> str:
    """Return the remedy, in one line, for a process without an inotify descriptor."""
    limit = _limit(sysctl_dir / "max_user_instances")
    present = f" {limit}" if limit else ""
    return (
        f"no inotify instance is left (limit{present}, or the open-file limit is reached): "
        f"sysctl fs.inotify.max_user_instances={max(512, limit * 2)}, then restart"
    )


def _limit(path: Path) -> int:
    """Return a limit of the kernel, 0 if it is unreadable. A service unit can hide most of /proc."""
    if sys.platform != "linux":
        return 0
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0
