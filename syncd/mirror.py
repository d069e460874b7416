"""One mirror: a local folder, its rules, its memory and its target, put together."""

import random
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from syncd.backoff import delay_s
from syncd.disk import Identity
from syncd.evidence import taken_away
from syncd.model import Ending
from syncd.parts import Naming
from syncd.plan import Policy
from syncd.rules import Rules
from syncd.scan import Tree
from syncd.state.absences import Absences
from syncd.state.claims import Claims
from syncd.state.cuts import Cuts
from syncd.state.db import Meta, directory_of
from syncd.state.deletions import DeleteLog, log_path
from syncd.state.files import StatCache
from syncd.state.gaps import Gaps
from syncd.state.history import History
from syncd.state.journal import Journal
from syncd.state.queue import FAR_S, Queue
from syncd.state.remnants import Remnants
from syncd.state.steady import Age, boot_id, uptime_s
from syncd.targets.base import Noted, Noting, Removed, Target


@dataclass(frozen=True, slots=True)
class Settings:
    """What a person decided for a mirror, beyond what its parts were given. create: make a target that is missing.

    delete_after: seconds for which a file must have been gone in `run`.
    audit_interval: seconds from one whole listing to the next, see sync/audit.py; 0: every full pass lists everything.
    split: cut oversize texts into parts.
    spec: the target, as the config names it.
    """

    policy: Policy
    rules: Rules
    max_delete: str | int = "25%"
    settle: float = 0.5
    settle_max: float = 30.0
    delete_after: float = 0.0
    create: bool = False
    audit_interval: float = 0.0
    split: bool = False
    spec: str = ""


@dataclass(slots=True)
class Mirror:
    """A mirror at work. Everything in it belongs to one serial loop.

    root_seen: who the root was when this process last looked at it, and mount_seen the mount that it lay on; see
    sync/guard.py. age: seconds that no change of the wall clock moves; see state/steady.py. heard: is told how each
    action ended; it may not raise or block.
    """

    name: str
    tree: Tree
    target: Target
    settings: Settings
    db: sqlite3.Connection
    journal: Journal
    queue: Queue
    files: StatCache
    meta: Meta
    remnants: Remnants
    gaps: Gaps
    history: History
    deletes: DeleteLog
    absences: Absences
    age: Callable[[], float]
    keep_age: Callable[[], None]
    claims: Claims
    root_seen: Identity | None = None
    mount_seen: str = ""
    now: Callable[[], float] = time.time
    chance: Callable[[], float] = random.random
    heard: Callable[[Ending], None] = lambda _: None

    @property
    def policy(self) -> Policy:
        """What the mirror may do to which entries."""
        return self.settings.policy

    def never_rests(self, key: str) -> bool:
        """True if a file has been changing for `settle_max`, so that it is taken as it is."""
        seen = [self.queue.first_seen(each) for each in {key, self.tree.names.file(key)}]
        return any(first is not None and self.now() - first >= self.settings.settle_max for first in seen)

    def try_later(self, key: str, asked_s: float | None) -> tuple[float, int]:
        """Put a key that failed off; return for how many seconds, and after how many failed tries."""
        attempts = self.queue.attempts(key) + 1
        wait = min(delay_s(attempts, self.chance(), asked_s=asked_s), FAR_S)
        self.queue.retry(key, self.now() + wait, attempts, subtree=key == self.policy.prefix)
        return wait, attempts


def assemble(db: sqlite3.Connection, name: str, root: Path, target: Target, settings: Settings) -> Mirror:
    """Put a mirror together over an open state file."""
    prefix = settings.policy.prefix
    deletes = DeleteLog(log_path(directory_of(db)))
    target.log_removals(_noting(deletes, name, settings.spec))
    age = Age(db, boot_id(), uptime_s())
    cuts = Cuts(Naming(prefix, split=True), db, name) if settings.split else None
    tree = Tree(root, settings.rules, target.limits, prefix, cuts)
    tree.ignores = tree.ignores.settling(settings.settle, settings.settle_max)
    return Mirror(
        name=name,
        tree=tree,
        target=target,
        settings=settings,
        db=db,
        journal=Journal(db, name),
        queue=Queue(db, name, settings.settle, settings.settle_max),
        files=StatCache(db, name),
        meta=Meta(db, name),
        remnants=Remnants(db, name, settings.policy.owner),
        gaps=Gaps(db, name),
        history=History(db, name),
        deletes=deletes,
        absences=Absences(db, name),
        age=lambda: age.at(uptime_s()),
        keep_age=lambda: age.keep(uptime_s()),
        claims=Claims(db, name),
    )


def _noting(deletes: DeleteLog, mirror: str, target: str) -> Noting:
    """What a target enters in the log of deletes by itself."""

    @contextmanager
    def noting(removed: Sequence[Removed]) -> Iterator[Noted]:
        lines = {each: taken_away(each.key, each.ref, each.kind, each.why) for each in removed}
        place = {"mirror": mirror, "target": target}
        with deletes.writing([place | line for line in lines.values()]) as pen:
            yield lambda each: pen.write(place | lines[each], time.time())

    return noting
