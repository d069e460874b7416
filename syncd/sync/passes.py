"""The values of one pass: scope, options, result, and the functions that it calls while it runs."""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from syncd.core.model import HARMLESS
from syncd.state.pass_tables import PassTables
from syncd.state.queue import Dirty


@dataclass(frozen=True, slots=True)
class Scope:
    """The keys that a pass looks at: all of them (with a remote listing), or the given rows of the queue."""

    rows: Sequence[Dirty] | None = None

    @property
    def everything(self) -> bool:
        """True for a full pass."""
        return self.rows is None


@dataclass(frozen=True, slots=True)
class PassOptions:
    """The options of one pass. full: use no cache. list_all: list the whole remote, which `full` includes.

    delete_after: seconds for which a file must be missing before its entry is deleted (only `run`).
    """

    dry_run: bool = False
    force: bool = False
    full: bool = False
    list_all: bool = False
    delete_excluded: bool = False
    delete_after: float = 0.0


@dataclass(slots=True)
class Result:
    """The result of a pass. The plan with its outcomes stays in `tables` until it is dropped.

    began: the age of the state file when the pass began.
    changed_during_read: files that changed while they were read, so that the next pass looks at them.
    unrecorded: entries of this mirror that have no record in the journal.
    known: entries of the mirror before the pass.
    fresh: no full pass has ended with this state file.
    refusal: why the brake refuses the deletes (in a dry run: would refuse them).
    held_back: deletes were postponed, and only a full pass plans them again.
    waiting: deletes that wait until the content is uploaded and searchable under another key or entry.
    audited: an audit took the place of the listing. unsettled: entries that were not indexed yet at that time.
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
    reasons: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)
    refusal: str | None = None
    held_back: bool = False
    waiting: int = 0
    audited: bool = False
    unsettled: int = 0

    def start_over(self) -> None:
        """Drop the plan and the evidence for it."""
        self.tables.reset()
        self.unchanged = self.changed_during_read = self.unrecorded = 0
        self.reasons.clear()
        self.problems.clear()

    @property
    def clean(self) -> bool:
        """True if the pass found no problem, or only harmless ones (see the contract)."""
        return not any(count for kind, count in self.problems.items() if kind not in HARMLESS)


@dataclass(frozen=True, slots=True)
class PassStats:
    """The tables and counters that the outcomes of a pass go to.

    done: finished actions by kind, and "failed". problems: problems by kind.
    tick: called after outcomes, once for outcomes that are reported together.
    unsent: key -> checksum of each file that was read and not put.
    """

    tables: PassTables
    pass_id: int
    done: Counter[str]
    problems: Counter[str]
    tick: Callable[[], None]
    unsent: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Preemption:
    """Lets a long pass process changes that arrive during the pass.

    serve_pending: processes them; the pass awaits it between batches. has_pending: returns whether changes are due.
    """

    serve_pending: Callable[[], Awaitable[None]] | None = None
    has_pending: Callable[[], bool] = lambda: False


OnProgress = Callable[[Result], None]
"""A function that receives the growing result of a pass."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """Functions that a pass calls while it runs.

    preemption: serves settled hints during a long full pass.
    on_progress: called with the growing result after every step. Its owner drops the tables of the result, also after
    an error.
    """

    preemption: Preemption = field(default_factory=Preemption)
    on_progress: OnProgress | None = None

    def tick(self, result: Result) -> None:
        """Call `on_progress`."""
        if self.on_progress:
            self.on_progress(result)


DEFAULT_OPTIONS = PassOptions()
NO_HOOKS = Hooks()
