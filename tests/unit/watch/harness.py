"""A watcher with its inbox, and methods that wait for hints."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from syncd.core.model import EVERYTHING, Hint
from syncd.watch.observer import Inbox, Root, Watcher
from syncd.watch.polling import Ignore


class WatchHarness:
    """A watcher of one root. seen: the hints by mirror so far."""

    def __init__(self, tmp_path: Path) -> None:
        self.root = tmp_path / "root"
        self.root.mkdir()
        self.outside = tmp_path / "outside"
        self.outside.mkdir()
        self.inbox = Inbox(asyncio.get_running_loop())
        self.watcher = Watcher(self.inbox, identity_interval_s=0.05, patience_s=0.3, rebuild_rest_s=0.2)
        self.seen: dict[str, list[Hint]] = {}

    async def watch(
        self,
        mode: Literal["auto", "inotify", "poll", "off"] = "auto",
        *,
        poll_interval: float = 0.05,
        ignore: Ignore | None = None,
    ) -> None:
        self.watcher.add(Root("m", self.root, mode, poll_interval, ignore))
        self.watcher.start()
        for mirror in self.watcher._monitors:
            await self.watcher.ready(mirror)

    def collect(self) -> None:
        for mirror, hints in self.inbox.drain().items():
            self.seen.setdefault(mirror, []).extend(hints)

    async def until(self, condition: Callable[[], bool], within_s: float = 5.0) -> None:
        deadline = time.monotonic() + within_s
        while True:
            self.collect()
            if condition():
                return
            assert time.monotonic() < deadline, f"not within {within_s} s; seen {self.seen}"
            await asyncio.sleep(0.005)

    async def hinted(self, *paths: str, mirror: str = "m", within_s: float = 5.0) -> None:
        """Wait until each path has a hint, or is in a subtree (not the root) with a hint."""
        await self.until(lambda: all(covered(path, self.seen.get(mirror, [])) for path in paths), within_s)

    async def everything(self, mirror: str = "m", within_s: float = 5.0) -> None:
        await self.until(lambda: EVERYTHING in self.seen.get(mirror, []), within_s)

    async def settled(self) -> None:
        """Wait until the hints of all changes so far have arrived, and discard them."""
        marker = self.root / "marker"
        marker.write_text("x")
        await self.hinted("marker")
        marker.unlink()
        await self.quiet()
        self.seen.clear()

    async def quiet(self, for_s: float = 0.1) -> None:
        """Wait until no hint arrives for `for_s` seconds."""
        last, since = -1, time.monotonic()
        while time.monotonic() - since < for_s:
            self.collect()
            count = sum(map(len, self.seen.values()))
            if count != last:
                last, since = count, time.monotonic()
            await asyncio.sleep(0.005)

    async def inbox_silent(self, for_s: float) -> None:
        """Wait on the inbox as the daemon does. Fails if a hint arrives."""
        with contextlib.suppress(TimeoutError):
            batch = await asyncio.wait_for(self.inbox.get_batch(), for_s)
            raise AssertionError(f"came unasked: {batch}")


def covered(path: str, hints: list[Hint]) -> bool:
    return any(hint.path == path or (hint.subtree and hint.path and path.startswith(hint.path + "/")) for hint in hints)


def inotify_watches() -> list[int]:
    """Return the number of watches of each inotify descriptor of this process, from the kernel."""
    counts = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if link.readlink().name.endswith("inotify"):
                counts.append(Path(f"/proc/self/fdinfo/{link.name}").read_text().count("inotify wd:"))
    return counts
