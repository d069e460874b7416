"""One mirror: its folder, rules, state and target. One serial loop uses them."""

import random
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass

from syncd.core.errors import retry_delay_s
from syncd.core.model import ActionEvent
from syncd.core.plan import Policy
from syncd.core.rules import Rules
from syncd.local.read import Identity
from syncd.local.walk import Tree
from syncd.state.caches import StatCache
from syncd.state.db import Meta
from syncd.state.history import DeleteLog, History
from syncd.state.journal import Journal
from syncd.state.ownership import Claims, SupersededEntries
from syncd.state.queue import FAR_S, Absences, Queue
from syncd.targets.base import Target


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a mirror that a pass needs. create: create a missing target.

    delete_after: seconds that a file must be gone before `run` deletes its entry.
    audit_interval: seconds between two full listings, see sync/audit.py. 0: every full pass makes one.
    spec: the target as the config names it.
    """

    policy: Policy
    rules: Rules
    max_delete: str | int = "25%"
    settle: float = 0.5
    settle_max: float = 30.0
    delete_after: float = 0.0
    create: bool = False
    audit_interval: float = 0.0
    spec: str = ""


@dataclass(slots=True)
class Mirror:
    """A mirror. Only one serial loop uses it.

    root_seen, mount_seen: identity and mount of the root when this process last looked, see sync/guard.py.
    age: returns seconds that do not depend on the wall clock, see state/ownership.py.
    on_action: called with the outcome of each action. It must not raise or block.
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
    superseded: SupersededEntries
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
    on_action: Callable[[ActionEvent], None] = lambda _: None

    @property
    def policy(self) -> Policy:
        """The rules for which entries this mirror may change."""
        return self.settings.policy

    def settle_expired(self, key: str) -> bool:
        """Return whether a file has kept changing for `settle_max`, so that a pass reads it as it is."""
        first = self.queue.first_seen(key)
        return first is not None and self.now() - first >= self.settings.settle_max

    def try_later(self, key: str, asked_s: float | None) -> tuple[float, int]:
        """Reschedule a key that failed. Return the wait in seconds and the number of failed tries."""
        attempts = self.queue.attempts(key) + 1
        wait = min(retry_delay_s(attempts, self.chance(), asked_s=asked_s), FAR_S)
        self.queue.retry(key, self.now() + wait, attempts, subtree=key == self.policy.prefix)
        return wait, attempts
