"""What the mirrors of all rooms can do: their folder changes, they make passes, they start anew."""

import os
from pathlib import Path
from typing import Any

from syncd.cloudflare.transport import Transport
from syncd.state.directory import FILE_NAME
from syncd.sync.mirror import Mirror
from syncd.sync.passes import PassOptions, Result, Scope
from syncd.sync.reconcile import reconcile
from syncd.targets.base import Indexed, Searchable, searchable


class BaseSide:
    """One mirror; a room's own side says what it is made of, and its world how that is put together."""

    world: Any
    root: Path
    state: Path
    transport: Transport
    mirror: Mirror

    def write(self, path: str, data: str | bytes, *, age_s: float = 0.0) -> Path:
        """Write a file; with an age, its time is far enough back for the stat cache."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data.encode() if isinstance(data, str) else data)
        if age_s:
            then = file.stat().st_mtime_ns - int(age_s * 1e9)
            os.utime(file, ns=(then, then))
        return file

    def remove(self, *paths: str) -> None:
        for path in paths:
            (self.root / path).unlink()

    async def full(self, **options: bool) -> Result:
        """A full pass, a second later."""
        self.world.clock.now += 1
        return await reconcile(self.mirror, Scope(), PassOptions(**options))

    async def hint(self, *paths: str, after: float = 1.0) -> Result:
        """A pass over what a watcher has marked."""
        prefix = self.mirror.policy.prefix
        self.mirror.queue.mark([(prefix + path, False) for path in paths], self.world.clock.now)
        self.world.clock.now += after
        return await reconcile(self.mirror, Scope(self.mirror.queue.settled(self.world.clock.now)))

    def lose_journal(self) -> None:
        """Stop, delete the state file, start."""
        self.mirror.db.close()
        for file in self.state.glob(FILE_NAME + "*"):
            file.unlink()
        self.restart()

    def restart(self) -> None:
        """The same state file, in a new process so to speak."""
        self.mirror.db.close()
        self.mirror = self.world.assemble(self)

    def problems(self) -> dict[str, str]:
        return {problem.key: problem.kind for problem in self.mirror.journal.problems.all()}

    @property
    def indexed(self) -> Indexed:
        """The target, which has an index."""
        assert isinstance(self.mirror.target, Indexed)
        return self.mirror.target

    @property
    def searchable(self) -> Searchable:
        """The target, which has a search."""
        return searchable(self.mirror.target)

    @property
    def changing(self) -> int:
        """Requests so far that may have changed something."""
        return self.transport.counters.changing
