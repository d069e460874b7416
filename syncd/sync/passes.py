"""One pass as values: where it looks, what a person asked for, what came of it, and who hears of it."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from syncd.core.model import HARMLESS
from syncd.state.pass_tables import PassTables
from syncd.state.queue import Dirty
from syncd.sync.apply import Preemption


@dataclass(frozen=True, slots=True)
class Scope:
    """Where to look: everything (with a remote listing), or only the given dirty rows."""

    rows: Sequence[Dirty] | None = None

    @property
    def everything(self) -> bool:
        """True for a full pass."""
        return self.rows is None


@dataclass(frozen=True, slots=True)
class PassOptions:
    """What a person asked for this once. full: trust no cache; whole: list everything, which `full` does too.

    delete_after: seconds for which a file must have been gone before its entry goes (`run`).
    """

    dry_run: bool = False
    force: bool = False
    full: bool = False
    whole: bool = False
    delete_excluded: bool = False
    delete_after: float = 0.0


@dataclass(slots=True)
class Result:
    """How a pass ended. The plan with its outcomes stays in `tables` until it is dropped.

    began: the age of the state file at its start. unrecorded: entries of ours that the journal does not know.
    known: how many entries the mirror had before; fresh: the state had seen no whole pass. refusal: why the delete
    guard refuses the deletes, or would. held_back: deletes were put off, and a full pass has to plan them again.
    waiting: so many deletes were put off, until what takes the place of the entries is up and searchable. audited:
    nothing was listed; unsettled: how many entries were then still on their way into the index, as far as is known.
    """

    tables: PassTables
    pass_id: int
    dry_run: bool
    began: float = 0.0
    complete: bool = True
    unchanged: int = 0
    again: int = 0
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
        """Forget what was planned, and on what evidence."""
        self.tables.reset()
        self.unchanged = self.again = self.unrecorded = 0
        self.reasons.clear()
        self.problems.clear()

    @property
    def clean(self) -> bool:
        """True if nothing stands in the way but what the contract calls harmless."""
        return not any(count for kind, count in self.problems.items() if kind not in HARMLESS)


Watch = Callable[[Result], None]


@dataclass(frozen=True, slots=True)
class Hooks:
    """Functions that a pass calls while it is under way.

    preemption: serves settled hints during a long full pass. watch: called with the growing result after every step;
    its owner drops the plan of the result, also after an error.
    """

    preemption: Preemption = field(default_factory=Preemption)
    watch: Watch | None = None

    def tick(self, result: Result) -> None:
        """Call `watch`."""
        if self.watch:
            self.watch(result)


DEFAULT_OPTIONS = PassOptions()
NO_HOOKS = Hooks()
