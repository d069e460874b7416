"""log: the actions, new problems and passes of some mirrors, from the state file alone."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from syncd.core.keys import shown
from syncd.core.plain_text import utc_time
from syncd.state.db import open_copy, open_state_to_read
from syncd.state.history import History, Passes, PastAction, PastPass

ACTIONS = ("put", "delete", "adopt", "forget", "problem")
KINDS = (*ACTIONS, "pass")


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of the log: an action, a new problem or a pass."""

    mirror: str
    past: PastAction | PastPass

    @property
    def order(self) -> tuple[float, int, bool]:
        """The place in the log. A pass stands after its actions of the same time."""
        if isinstance(self.past, PastPass):
            return (self.past.ended, self.past.number, True)
        return (self.past.at, self.past.number, False)

    def as_json(self) -> dict[str, Any]:
        """Return the entry as `log --json` prints it."""
        match self.past:
            case PastAction(at, key, action, reason, outcome, detail, number):
                fields = {"kind": action, "key": shown(key), "reason": reason, "outcome": outcome, "detail": detail}
                return {"time": utc_time(at, "milliseconds"), "mirror": self.mirror, **fields, "pass": number}
            case PastPass(number, began, ended, keys, outcome, detail, counts, times):
                return {
                    "time": utc_time(ended, "milliseconds"),
                    "mirror": self.mirror,
                    "kind": "pass",
                    "began": utc_time(began, "milliseconds"),
                    "scope": "all" if keys is None else keys,
                    "outcome": outcome,
                    "detail": detail,
                    "counts": dict(counts),
                    "times": times,
                    "pass": number,
                }


def read_log(
    state_dir: Path, mirrors: Sequence[str], since: float, kinds: Collection[str] = KINDS, most: int = -1
) -> tuple[list[LogLine], int]:
    """Return the last entries of mirrors since a moment, oldest first, and the number of entries left out.

    since: seconds since the epoch. kinds: "problem" also means actions that failed. most: the largest number of
    entries; negative: all. Sends no request.
    """
    actions = [kind for kind in ACTIONS if kind in kinds]
    found: list[LogLine] = []
    total = 0
    with closing(open_state_to_read(state_dir) or open_copy(state_dir)) as db:
        for name in mirrors:
            history, passes = History(db, name), Passes(db, name)
            found += (LogLine(name, action) for action in history.since(since, actions, most))
            total += history.count_since(since, actions)
            if "pass" in kinds:
                found += (LogLine(name, ended) for ended in passes.since(since, most))
                total += passes.count_since(since)
    found.sort(key=lambda entry: entry.order)
    kept = found if most < 0 else found[len(found) - min(most, len(found)) :]
    return kept, total - len(kept)


def summary(ended: PastPass) -> str:
    """Return the actions of a pass as text: "5 put, 1 delete, 120 unchanged, in 2.1 s"."""
    return ", ".join([*_counted(ended), f"in {max(0.0, ended.ended - ended.began):.1f} s"])


def _counted(ended: PastPass) -> Iterator[str]:
    for name, count in ended.counts.items():
        yield f"{count:,} {name.removesuffix('s') if name == 'problems' and count == 1 else name}"
