"""One mirror with its folder, rules, state and target, and the values of one pass: scope, options, hooks and result."""

import math
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from syncd.core.errors import retry_delay_s
from syncd.core.model import ActionEvent, Content, Problem
from syncd.core.plan import Policy
from syncd.core.problems import Limits
from syncd.core.rules import Rules
from syncd.local.read import Identity
from syncd.local.walk import Tree
from syncd.state.caches import StatCache
from syncd.state.db import Meta
from syncd.state.deletions import Absences, DeleteLog
from syncd.state.history import History, Passes
from syncd.state.journal import Journal
from syncd.state.ownership import Claims, SupersededEntries
from syncd.state.pass_tables import PassTables
from syncd.state.queue import FAR_S, Dirty, Queue
from syncd.targets.base import Target

CONVERSIONS = 2
"""Maximum files to convert that are read at the same time (our own limit).

Their bytes are in memory, and reading more files would not speed up the conversion.
"""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a mirror that a pass needs. create: create a missing target.

    settle, settle_max: seconds, see config/schema.py.
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

    files: the checksums of files that have not changed.
    root_seen, mount_seen: identity and mount of the root at the last check of this process, see sync/guard.py.
    now: returns seconds since the epoch. chance: returns a random number in [0, 1).
    age: returns the age of the state file in seconds, see `state.db.Age`. keep_age: stores it.
    on_action: called with the outcome of each action. It must not raise or block.
    convert: returns the content to send of the file with a key. It blocks, and raises SyncdError.
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
    passes: Passes
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
    convert: Callable[[str, Content, Limits], Content] = lambda _key, content, _limits: content

    @property
    def policy(self) -> Policy:
        """The rules for which entries this mirror may change."""
        return self.settings.policy

    def settle_expired(self, key: str) -> bool:
        """Return whether a file has kept changing for `settle_max`, so that a pass reads it as it is."""
        row = self.queue.get(key)
        return row is not None and self.now() - row.first_seen >= self.settings.settle_max

    def note(self, problems: Sequence[Problem], pass_id: int) -> None:
        """Store the problems that a pass found, and add the new ones to the history."""
        self.journal.problems.add(problems, pass_id)
        self.history.add_problems(problems, self.now(), pass_id)

    def try_later(self, key: str, asked_s: float | None) -> tuple[float, int]:
        """Reschedule a key that failed. Return the wait in seconds and the number of failed tries."""
        row = self.queue.get(key)
        attempts = row.attempts + 1 if row else 1
        wait = min(retry_delay_s(attempts, self.chance(), asked_s=asked_s), FAR_S)
        self.queue.retry(key, self.now() + wait, attempts, subtree=key == self.policy.prefix)
        return wait, attempts


# -- one pass


@dataclass(frozen=True, slots=True)
class Scope:
    """The keys that a pass looks at: all keys (a full pass), or the keys of the given rows of the queue."""

    rows: Sequence[Dirty] | None = None

    @property
    def everything(self) -> bool:
        """Whether the pass is a full pass."""
        return self.rows is None


@dataclass(frozen=True, slots=True)
class PassOptions:
    """The options of one pass. full: use no cache. list_all: list the whole remote, which `full` includes.

    force: accept the root and the mounts as they are, and make all deletes, because a person wants it.
    approved: the id of the plan whose deletes a person wants. Any other plan is refused.
    delete_after: seconds for which a file must be missing before its entry is deleted (only `run`).
    """

    dry_run: bool = False
    force: bool = False
    full: bool = False
    list_all: bool = False
    delete_excluded: bool = False
    delete_after: float = 0.0
    approved: str | None = None


@dataclass(slots=True)
class Result:
    """The result of a pass. The plan with its outcomes stays in `tables` until it is dropped.

    began: the age of the state file when the pass began.
    complete: whether every directory could be read.
    changed_during_read: files that changed while they were read, so that the next pass looks at them.
    unrecorded: entries of this mirror that have no record in the journal.
    known: entries of the mirror before the pass.
    fresh: whether no full pass has ended with this state file.
    done: finished actions by kind, and "failed". problems: problems by kind.
    unsent: key -> checksum of each file that was read and not put.
    plan_id: the id of the plan, "" if it deletes nothing.
    refusal: why the brake refuses the deletes (in a dry run: would refuse them).
    held_back: whether deletes were postponed. Only a full pass plans them again.
    waiting: deletes that wait until the content is uploaded and searchable under another key or entry.
    audited: whether an audit replaced the listing. unsettled: entries that were not indexed yet at the audit.
    """

    tables: PassTables
    pass_id: int
    dry_run: bool
    began: float = 0.0
    complete: bool = True
    unchanged: int = 0
    changed_during_read: int = 0
    unrecorded: int = 0
    known: int = 0
    fresh: bool = False
    files_read: int = 0
    done: Counter[str] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)
    unsent: dict[str, str] = field(default_factory=dict)
    plan_id: str = ""
    refusal: str | None = None
    held_back: bool = False
    waiting: int = 0
    audited: bool = False
    unsettled: int = 0

    @property
    def remaining(self) -> int:
        """The number of planned actions that are not done."""
        return self.tables.plan.counts.total() - self.done.total()

    def start_over(self) -> None:
        """Drop the plan and the evidence for it."""
        self.tables.reset()
        self.unchanged = self.changed_during_read = self.unrecorded = self.files_read = 0
        self.problems.clear()


OnProgress = Callable[[Result], None]
"""A function that receives the growing result of a pass."""


async def _serve_nothing() -> None:
    """Serve no changes."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """Functions that a pass calls while it runs.

    serve_pending: serves changes that arrive during a long full pass; the pass awaits it between batches.
    has_pending: returns whether such changes are due.
    bulk: whether the requests of the pass leave a part of the budget to edits, and give way to changes that are due.
    longest_wait_s: if the remote asks to wait longer before a put or delete, the action fails for now, so that edits do
    not wait for it.
    on_progress: called with the growing result after every step. Its owner drops the tables of the result, also after
    an error.
    """

    serve_pending: Callable[[], Awaitable[None]] = _serve_nothing
    has_pending: Callable[[], bool] = lambda: False
    on_progress: OnProgress | None = None
    bulk: bool = False
    longest_wait_s: float = math.inf

    def tick(self, result: Result) -> None:
        """Call `on_progress`."""
        if self.on_progress:
            self.on_progress(result)


DEFAULT_OPTIONS = PassOptions()
NO_HOOKS = Hooks()


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass under way: the values that its steps share.

    rows: the rows of the queue that it covers. started: seconds since the epoch. root: the identity of the folder at
    the start.
    """

    mirror: Mirror
    scope: Scope
    options: PassOptions
    hooks: Hooks
    result: Result
    rows: Sequence[Dirty]
    started: float
    root: Identity | None

    def tick(self) -> None:
        """Report progress."""
        self.hooks.tick(self.result)
