"""Operations on a mirror with any target: change its folder, make passes, restart."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from syncd.cloudflare.transport import Transport
from syncd.core.errors import Park
from syncd.core.model import Content
from syncd.core.names import Forms
from syncd.core.problems import Limits
from syncd.state.directory import FILE_NAME
from syncd.sync.mirror import Mirror, PassOptions, Result, Scope
from syncd.sync.reconcile import reconcile
from syncd.targets.base import Indexed, Searchable, searchable


class BaseMirrorFixture:
    """One mirror. Subclasses add the parts of their target, and their harness assembles the mirror."""

    harness: Any
    root: Path
    state: Path
    transport: Transport
    mirror: Mirror
    forms: Forms
    converted: list[str]

    def convert(self, key: str, content: Content, limits: Limits) -> Content:
        """Convert a file without a library. A file whose text contains "broken" cannot be converted."""
        if limits.forms.of(key) != "convert":
            return content
        self.converted.append(key)
        if b"broken" in content.data:
            raise Park("refused", "the file is no readable document")
        return replace(content, data=b"Text: " + content.data.upper())

    def send(self, **forms: Any) -> None:
        """Restart with these values of Forms."""
        self.forms = Forms(**forms)
        self.restart()

    def write(self, path: str, data: str | bytes, *, age_s: float = 0.0) -> Path:
        """Write a file. age_s: the age of its time, which the stat cache needs."""
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

    async def full(self, **options: Any) -> Result:
        """Make a full pass, a second later."""
        self.harness.clock.now += 1
        return await reconcile(self.mirror, Scope(), PassOptions(**options))

    async def hint(self, *paths: str, after: float = 1.0) -> Result:
        """Make a pass over marked paths."""
        prefix = self.mirror.policy.prefix
        self.mirror.queue.mark([(prefix + path, False) for path in paths], self.harness.clock.now)
        self.harness.clock.now += after
        return await reconcile(self.mirror, Scope(self.mirror.queue.settled(self.harness.clock.now)))

    def lose_journal(self) -> None:
        """Stop, delete the state file, and start."""
        self.mirror.db.close()
        for file in self.state.glob(FILE_NAME + "*"):
            file.unlink()
        self.restart()

    def restart(self) -> None:
        """Close the state file and assemble the mirror again, like a new process."""
        self.mirror.db.close()
        self.mirror = self.harness.assemble(self)

    def problems(self) -> dict[str, str]:
        return {problem.key: problem.kind for problem in self.mirror.journal.problems.all()}

    @property
    def indexed(self) -> Indexed:
        """The target as one with an index."""
        assert isinstance(self.mirror.target, Indexed)
        return self.mirror.target

    @property
    def searchable(self) -> Searchable:
        """The target as one with a search."""
        return searchable(self.mirror.target)

    @property
    def changing(self) -> int:
        """The number of requests so far that may have changed the remote."""
        return self.transport.counters.changing
