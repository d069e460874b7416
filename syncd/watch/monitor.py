"""One thread for each mirror: it checks the identity of the root, and polls a root without events."""

import errno
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from syncd.core.keys import shown_path
from syncd.core.model import WatchMode, WatchSetting
from syncd.local.mounts import mounts_below, network_filesystem
from syncd.local.read import root_identity
from syncd.watch.hints import EVERYTHING, Hint
from syncd.watch.kernel import KernelWatch, RootHandler
from syncd.watch.polling import Ignore, Poller

_log = structlog.get_logger()

_SYSCTL_DIR: Final = Path("/proc/sys/fs/inotify")
_RECOMMENDED_WATCHES: Final = 524_288
"""The watch limit that most distributions and editors recommend. The kernel needs about 0.5 GB for all of them."""


@dataclass(frozen=True, slots=True)
class WatchStatus:
    """The current mode of a watch. detail: the reason for a mode other than configured, "" for none."""

    mode: WatchMode
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Root:
    """A root to watch. setting, poll_interval_s: `watch` and `poll_interval` (seconds) of the config."""

    mirror: str
    path: Path
    setting: WatchSetting
    poll_interval_s: float
    ignore: Ignore | None = None


class Monitor(threading.Thread):
    """Watches one root with the best available mode until `stop_soon`.

    put: receives the hints. on_ready: called once after the first watch or snapshot is complete.
    clock: monotonic seconds. identity_interval_s: seconds between two checks of the identity of the root and of the
    mounts below it. No event reports a mount, an unmount or a rename of the root.
    """

    def __init__(
        self,
        root: Root,
        kernel: KernelWatch,
        put: Callable[[Hint], None],
        on_ready: Callable[[], None],
        clock: Callable[[], float],
        identity_interval_s: float,
    ) -> None:
        super().__init__(name=f"watch-{root.mirror}", daemon=True)
        self._root = root
        self._kernel = kernel
        self._put = put
        self._on_ready = on_ready
        self._clock = clock
        self._interval_s = identity_interval_s
        self._wake = threading.Event()
        self._stopped = False
        self._refused = threading.Event()
        self._identity: tuple[int, int] | None = None
        self._mounts: dict[str, str] = {}
        self._handler: RootHandler | None = None
        self._poller: Poller | None = None
        self._next_poll = 0.0
        self.status = WatchStatus("off", "starting")

    def stop_soon(self) -> None:
        """Ask the thread to end, without waiting for it."""
        self._stopped = True
        self._wake.set()

    def run(self) -> None:
        """Check the root once in each interval."""
        self._establish()
        self._on_ready()
        while not self._stopped:
            self._wake.wait(self._pause_s())
            self._wake.clear()
            if not self._stopped:
                self._check()

    def _pause_s(self) -> float:
        if self._poller is None:
            return self._interval_s
        return min(self._interval_s, max(0.0, self._next_poll - self._clock()))

    def _check(self) -> None:
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
            self._establish()
            # This hint follows the new watch, so that it covers every earlier change.
            self._put(EVERYTHING)
        elif self._poller is not None and self._clock() >= self._next_poll:
            self._poll(self._put)

    def _establish(self) -> None:
        if self._handler is not None:
            self._kernel.detach(self._handler)
        self._handler = self._poller = None
        # Read before the watch is set. If the root is replaced in between, the next check finds another identity.
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
            return f"{kind} gives no events of other machines: polled"
        # realpath, because watchdog would watch a symbolic link itself.
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
        self._refused.set()
        self._wake.set()

    def _poll(self, report: Callable[[Hint], None]) -> None:
        if self._poller is not None:
            self._poller.scan(report)
        self._next_poll = self._clock() + self._root.poll_interval_s


def watch_limit_advice(directories: int, sysctl_dir: Path = _SYSCTL_DIR) -> str:
    """Return the remedy, in one line, for a root with more directories than fs.inotify.max_user_watches permits."""
    limit = _limit(sysctl_dir / "max_user_watches")
    wanted = max(_RECOMMENDED_WATCHES, 1 << (limit + directories).bit_length())
    known = f" ({limit})" if limit else ""
    return (
        f"the inotify watch limit{known} is too low for {directories} directories: "
        f"sysctl fs.inotify.max_user_watches={wanted}, then restart"
    )


def instance_limit_advice(sysctl_dir: Path = _SYSCTL_DIR) -> str:
    """Return the remedy, in one line, for a process without an inotify descriptor."""
    limit = _limit(sysctl_dir / "max_user_instances")
    known = f" {limit}" if limit else ""
    return (
        f"no inotify instance is left (limit{known}, or the open-file limit is reached): "
        f"sysctl fs.inotify.max_user_instances={max(512, limit * 2)}, then restart"
    )


def _limit(path: Path) -> int:
    """Return a limit of the kernel. 0: it is unreadable, because the service unit hides most of /proc."""
    if sys.platform != "linux":
        return 0
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0
