"""One mirror: a local folder, its rules, its memory and its target, put together."""

import random
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from syncd.db import Meta
from syncd.files import StatCache
from syncd.journal import Journal
from syncd.paths import Rules
from syncd.plan import Policy
from syncd.queue import Queue
from syncd.scan import Identity, Tree
from syncd.targets.base import Target


@dataclass(frozen=True, slots=True)
class Settings:
    """What a person decided for a mirror, beyond what its parts were given."""

    policy: Policy
    rules: Rules
    max_delete: str | int = "25%"
    settle: float = 0.5
    settle_max: float = 30.0


@dataclass(slots=True)
class Mirror:
    """A mirror at work. Everything in it belongs to one serial loop.

    root_seen: who the root was when this process first looked at it; see reconcile.guard.
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
    root_seen: Identity | None = None
    now: Callable[[], float] = time.time
    chance: Callable[[], float] = random.random

    @property
    def policy(self) -> Policy:
        """What the mirror may do to which entries."""
        return self.settings.policy


def assemble(db: sqlite3.Connection, name: str, root: Path, target: Target, settings: Settings) -> Mirror:
    """Put a mirror together over an open state file."""
    return Mirror(
        name=name,
        tree=Tree(root, settings.rules, target.limits, settings.policy.prefix),
        target=target,
        settings=settings,
        db=db,
        journal=Journal(db, name),
        queue=Queue(db, name, settings.settle, settings.settle_max),
        files=StatCache(db, name),
        meta=Meta(db, name),
    )
