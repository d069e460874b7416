"""A mirror over a temporary folder and a target in memory, with a clock that the test moves."""

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from syncd.core.errors import SyncdError
from syncd.core.model import HARMLESS, Content, Delete, Entry, IndexStatus, Problem, Put
from syncd.core.plan import Policy
from syncd.core.problems import Limits
from syncd.core.rules import Rules
from syncd.service.build import build_mirror
from syncd.state.db import open_state
from syncd.state.ownership import bind, forget_listing, reshard
from syncd.state.queue import Dirty
from syncd.sync.mirror import Hooks, Mirror, PassOptions, Result, Scope, Settings
from syncd.sync.reconcile import reconcile
from syncd.targets.base import ReadContents, ReportOutcomes
from tests.memory_target import Held, MemoryTarget

START = 1_800_000_000.0
IN_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) and shutil.disk_usage("/dev/shm").free >= 2**30 else None
"""A directory in memory, where SQLite does not wait for a disk. None if the system has none, or one below 1 GiB."""


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def reasons(result: Result) -> Counter[str]:
    """Return the number of actions of a pass by reason."""
    return Counter(action.reason for action, _ in result.tables.plan.actions())


def content(text: str) -> Content:
    return Content(text.encode(), sha(text))


@dataclass(slots=True)
class Clock:
    """The wall clock, which a test may set, and the age of the state, which only grows."""

    now: float = START
    age: float = START

    def __call__(self) -> float:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += seconds
        self.age += max(0.0, seconds)


@dataclass(slots=True)
class ScriptedTarget(MemoryTarget):
    """A memory target that records its calls, and fails where the test says so.

    failures: key -> outcomes given instead of carrying out, first to last. confirm_failures: the same for `confirm`.
    raises: what the next `apply` raises. unlisted: keys that listings leave out. numbers: what `counts` says next.
    """

    failures: dict[str, list[SyncdError]] = field(default_factory=dict)
    confirm_failures: dict[str, list[Exception]] = field(default_factory=dict)
    raises: list[BaseException] = field(default_factory=list)
    unlisted: set[str] = field(default_factory=set)
    numbers: list[dict[IndexStatus, int] | None] = field(default_factory=list)
    applied: list[Put | Delete] = field(default_factory=list)
    confirmed: list[str] = field(default_factory=list)
    verified: list[str] = field(default_factory=list)

    def listing(self) -> list[Entry]:
        return [entry for entry in MemoryTarget.listing(self) if entry.key not in self.unlisted]

    async def counts(self) -> dict[IndexStatus, int] | None:
        return self.numbers.pop(0) if self.numbers else await MemoryTarget.counts(self)

    async def confirm(self, key: str, ref: str | None) -> Entry | None:
        self.confirmed.append(key)
        if failures := self.confirm_failures.get(key):
            raise failures.pop(0)
        return await MemoryTarget.confirm(self, key, ref)

    async def checksum(self, entry: Entry, content: Content | None) -> str | None:
        self.verified.append(entry.key)
        return await MemoryTarget.checksum(self, entry, content)

    async def apply(self, batch: Sequence[Put | Delete], read: ReadContents, report: ReportOutcomes) -> None:
        if self.raises:
            raise self.raises.pop(0)
        for action in batch:
            self.applied.append(action)
            if failures := self.failures.get(action.key):
                if isinstance(action, Put):
                    await read([action])
                report({action: failures.pop(0)})
            else:
                await MemoryTarget.apply(self, [action], read, report)

    def texts(self) -> dict[str, str]:
        return {key: held.data.decode() for key, held in sorted(self.store.items())}

    def put_by(self, owner: str | None, key: str, text: str) -> None:
        """Write an entry as another writer, with an owner's mark or without a mark."""
        before = self.store.get(key)
        ref = before.ref if before else f"m{next(self._ids)}"
        self.store[key] = Held(ref, text.encode(), sha(text), owner, f"v{next(self._ids)}")

    def said(self) -> list[tuple[str, str, str]]:
        """Return the actions that were made or tried: (action, key, reason)."""
        return [(action.kind, action.key, action.reason) for action in self.applied]


@dataclass(slots=True)
class Core:
    """One mirror with its folder, target and clock."""

    root: Path
    state: Path
    target: ScriptedTarget
    mirror: Mirror
    clock: Clock

    def write(self, path: str, text: str, *, age_s: float = 0.0) -> Path:
        """Write a file. age_s: seconds since its modification, for the stat cache."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        if age_s:
            found = file.stat()
            os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns - int(age_s * 1e9)))
        return file

    def remove(self, *paths: str) -> None:
        for path in paths:
            (self.root / path).unlink()

    async def full(self, hooks: Hooks | None = None, **options: Any) -> Result:
        """Make a full pass a second later."""
        self.clock.forward(1)
        return await reconcile(self.mirror, Scope(), PassOptions(**options), hooks or Hooks())

    def mark(self, *paths: str, subtree: bool = False) -> None:
        prefix = self.mirror.policy.prefix
        self.mirror.queue.mark([(prefix + path, subtree) for path in paths], self.clock.now)

    async def hint(self, *paths: str, subtree: bool = False) -> Result:
        """Mark keys, let them settle, and make a pass over the settled keys."""
        self.mark(*paths, subtree=subtree)
        self.clock.forward(1)
        return await reconcile(self.mirror, Scope(self.mirror.queue.settled(self.clock.now)))

    def waiting(self) -> list[tuple[str, bool]]:
        return [(row.key, row.subtree) for row in self.mirror.queue.every()]

    def problems(self) -> dict[str, str]:
        return {problem.key: problem.kind for problem in self.mirror.journal.problems.all()}

    def problem(self, key: str) -> Problem:
        return next(problem for problem in self.mirror.journal.problems.all() if problem.key == key)

    def row(self, key: str) -> Dirty:
        """Return the row of a key in the queue."""
        row = self.mirror.queue.get(key)
        assert row is not None
        return row

    def forget_listing(self) -> None:
        """Forget the complete listing, as after a lost state file. Then the mark alone proves ownership."""
        forget_listing(self.mirror.meta)

    def restart(self) -> None:
        """Open the same state file and target again, as a new process does."""
        self.mirror.db.close()
        self.mirror = _mirror(self.root, self.state, self.target, self.mirror.settings, self.clock)

    def rename(self, name: str, *, location: str = "target") -> None:
        """Restart with another name of the mirror in the config, and record the location of the target."""
        self.mirror.db.close()
        self.mirror = _mirror(self.root, self.state, self.target, self.mirror.settings, self.clock, name)
        bind(self.mirror.db, name, location, "")

    def use(self, **changes: Any) -> None:
        """Restart with other settings: fields of the policy or of the settings."""
        old = self.mirror.settings
        names = ("owner", "prefix", "prune", "takeover", "shard")
        policy = {name: changes.pop(name) for name in names if name in changes}
        new = replace(old, policy=replace(Policy("me", old.policy.prefix), **policy), **changes)
        self.target.owner, self.target.prefix = new.policy.owner, new.policy.prefix
        self.mirror.db.close()
        self.mirror = _mirror(self.root, self.state, self.target, new, self.clock)


def _mirror(
    root: Path, state: Path, target: ScriptedTarget, settings: Settings, clock: Clock, name: str = "docs"
) -> Mirror:
    mirror = build_mirror(open_state(state), name, root, target, settings)
    reshard(mirror.db, name, settings.policy.shard)
    mirror.now = clock
    mirror.age = lambda: clock.age
    mirror.chance = lambda: 0.5
    return mirror


@contextmanager
def open_core(base: Path, limits: Limits | None = None, **settled: Any) -> Iterator[Core]:
    """Yield a mirror named "docs" with the owner "me" that may delete all its entries."""
    root, state, clock = base / "root", base / "state", Clock()
    root.mkdir()
    target = ScriptedTarget(owner="me", limits=limits or Limits(max_file_size=1000))
    settings = Settings(Policy(owner="me"), Rules(), max_delete="100%", **settled)
    made = Core(root, state, target, _mirror(root, state, target, settings, clock), clock)
    with closing(made.mirror.db):
        try:
            yield made
        finally:
            made.mirror.db.close()


# The results of a pass.


def planned(result: Result) -> dict[str, int]:
    return {kind: count for kind, count in result.tables.plan.counts.items() if count}


def plan(result: Result) -> list[tuple[str, str, str]]:
    return [(action.kind, action.key, action.reason) for action, _ in result.tables.plan.actions()]


def outcomes(result: Result) -> dict[str, str | None]:
    return {action.key: outcome for action, outcome in result.tables.plan.actions()}


def is_clean(result: Result) -> bool:
    """Return whether a pass found no problem, or only harmless ones (see the contract)."""
    return HARMLESS.issuperset(+result.problems)


async def in_step(core: Core, **files: str) -> None:
    """Upload these files and bring the mirror in step."""
    for name, text in files.items():
        core.write(name, text)
    await core.full()
    core.target.applied.clear()
    core.target.changes = 0
