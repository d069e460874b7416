"""What is at work under the configuration in force, and what can be known of it without asking the remote."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from syncd.answers.status import snapshot
from syncd.keeper import Keeper
from syncd.service.build import Session
from syncd.watch.watcher import Watcher

LEAST_S = 1.0
"""Facts younger than this are shown again; who asks more often gets the same answer."""
SHARE = 0.05
"""Counting a large state file takes no more than this share of the time."""
PROBLEMS = 50
"""So many problems of a mirror are shown."""


@dataclass(slots=True, eq=False)
class Live:
    """What the daemon has at work. watching: False until all watches stand. over: its state file is closed."""

    session: Session
    keepers: Mapping[str, Keeper]
    watcher: Watcher
    watching: Callable[[], bool]
    over: bool = False

    def faults(self) -> list[str]:
        """Why not all is well: what needs a person, and what is stuck."""
        found = [
            f"mirror {name} is halted: {keeper.said[1]}"
            for name, keeper in self.keepers.items()
            if keeper.said[0] == "halted"
        ]
        # The same file for all of them: it is said once.
        found += sorted({keeper.state_fault for keeper in self.keepers.values() if keeper.state_fault})
        found += [f"the loop of mirror {name} is stuck" for name, keeper in self.keepers.items() if not keeper.alive()]
        if self.watching() and not self.watcher.alive():
            found.append("the watcher is dead")
        return found

    def version(self) -> tuple[object, ...]:
        """Changes whenever the state file has: by us, or by another process."""
        db = self.session.db
        (by_others,) = db.execute("PRAGMA data_version").fetchone()
        return self, db.total_changes, by_others


class Facts:
    """The object of `status --json`, counted anew when something has changed, and not too often.

    Counting happens in a thread with a connection of its own: the daemon's loop does not wait for it.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = asyncio.Lock()
        self._version: tuple[object, ...] = ()
        self._mirrors: dict[str, Any] = {}
        self._next = 0.0

    async def mirrors(self, live: Live) -> dict[str, Any]:
        """Name -> what `status --json` says of the mirror, and `oldest_at` (seconds since the epoch, or None)."""
        async with self._lock:
            if live.over:
                return self._mirrors
            version = live.version()
            reloaded = version[:1] != self._version[:1]
            if reloaded or (version != self._version and self._clock() >= self._next):
                began = self._clock()
                self._mirrors = await asyncio.to_thread(_counted, live)
                ended = self._clock()
                self._version, self._next = version, ended + max(LEAST_S, (ended - began) / SHARE)
            return self._mirrors


def _counted(live: Live) -> dict[str, Any]:
    mirrors: dict[str, Any] = snapshot(live.session.config, PROBLEMS)["mirrors"]
    for mirror in mirrors.values():
        # A moment, for what is shown later: no age that was true when it was counted.
        waiting_s = mirror.pop("oldest_pending_s")
        mirror["oldest_at"] = None if waiting_s is None else round(time.time() - waiting_s)
    return mirrors
