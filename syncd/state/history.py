"""The past actions and passes of a mirror, its present state, and the last signs of life of daemon and remote."""

import json
import os
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

from syncd.core.model import HARMLESS, Action, Problem
from syncd.state.db import Meta, MirrorRows, placeholders, transaction

# All statements consist of constants.
# ruff: noqa: S608

ACTIONS_PER_KEY = 50
"""Maximum number of actions stored for one key."""
ACTIONS = 50_000
"""Maximum number of actions stored for a mirror after a full pass."""
LISTED_PER_PASS = 5_000
"""Maximum number of first uploads, of adopts and of new problems that a pass stores. The pass counts the others."""
PASSES = 5_000
"""Maximum number of passes stored for a mirror after a full pass."""
KEEP_S = 30 * 24 * 3600.0
"""Seconds after which a full pass deletes an action or a pass."""
DETAIL = 500
"""Maximum characters of an error, which can contain any answer of the remote."""
PROBLEM = "problem"
"""The action of a row that describes a new problem of a file."""
_COLUMNS = "at, key, action, reason, outcome, detail, pass"
_INSERT = (
    "INSERT INTO history SELECT ?1, ?2, coalesce(max(number), 0) + 1, ?3, ?4, ?5, ?6, ?7, ?8"
    " FROM history WHERE mirror = ?1 AND key = ?2"
)
_PRUNE_KEY = (
    "DELETE FROM history WHERE mirror = ?1 AND key = ?2 AND number <="
    " (SELECT max(number) FROM history WHERE mirror = ?1 AND key = ?2) - ?3"
)


class PastAction(NamedTuple):
    """One action that ended, or a new problem. outcome: done, failed or found. detail: the reason or the error.

    number: the number of the pass.
    """

    at: float
    key: str
    action: str
    reason: str
    outcome: str
    detail: str
    number: int


class PastPass(NamedTuple):
    """One pass that ended. keys: how many keys it looked at, None for all. outcome: done, refused or stopped.

    counts: finished actions by kind, "failed", "unchanged", "waiting" and "problems". times: how many passes in a row
    stopped for the same reason; `began` is the start of the first one.
    """

    number: int
    began: float
    ended: float
    keys: int | None
    outcome: str
    detail: str
    counts: Mapping[str, int]
    times: int = 1


class History(MirrorRows):
    """The last actions on the keys of one mirror, and the new problems of its files."""

    def __init__(self, db: sqlite3.Connection, mirror: str) -> None:
        super().__init__(db, mirror)
        self._pass = 0
        self._listed: Counter[str] = Counter()

    def add(self, action: Action, now: float, outcome: str, number: int, detail: str = "") -> None:
        """Store how an action of a pass ended, and delete older actions on the key beyond ACTIONS_PER_KEY."""
        first = outcome == "done" and action.reason == "new"
        adopted = outcome == "done" and action.kind == "adopt" and action.reason != "unverified"
        if (first or adopted) and not self._has_room(action.kind, number):
            return
        self._run(_INSERT, action.key, now, action.kind, action.reason, outcome, detail[:DETAIL], number)
        if not first:
            # A first upload deletes no older rows. The next action on the key does it.
            self._run(_PRUNE_KEY, action.key, ACTIONS_PER_KEY)

    def add_problems(self, problems: Iterable[Problem], now: float, number: int) -> None:
        """Store the problems that a pass found, except harmless ones and problems that the key had before."""
        with transaction(self._db):
            for problem in problems:
                if problem.kind in HARMLESS or self._is_known(problem) or not self._has_room(PROBLEM, number):
                    continue
                self._run(_INSERT, problem.key, now, PROBLEM, problem.kind, "found", problem.message[:DETAIL], number)
                self._run(_PRUNE_KEY, problem.key, ACTIONS_PER_KEY)

    def of(self, key: str, most: int = ACTIONS_PER_KEY) -> list[PastAction]:
        """Return the last actions on a key, oldest first."""
        rows = self._run(
            f"SELECT {_COLUMNS} FROM history WHERE mirror = ? AND key = ? ORDER BY number DESC LIMIT ?", key, most
        )
        return [PastAction(*row) for row in rows][::-1]

    def since(self, moment: float, kinds: Collection[str], most: int) -> list[PastAction]:
        """Return the last actions of `kinds` since a moment, newest first. "problem" includes failed actions."""
        if not kinds:
            return []
        rows = self._run(
            f"SELECT {_COLUMNS} {_since(kinds)} ORDER BY at DESC, pass DESC, key DESC LIMIT ?", moment, *kinds, most
        )
        return [PastAction(*row) for row in rows]

    def count_since(self, moment: float, kinds: Collection[str]) -> int:
        """Return the number of actions since a moment."""
        return self._count(f"SELECT count(*) {_since(kinds)}", moment, *kinds) if kinds else 0

    def prune(self, moment: float) -> None:
        """Delete the actions before a moment, and the oldest ones beyond ACTIONS."""
        self._run("DELETE FROM history WHERE mirror = ? AND at < ?", moment)
        last = self._time("SELECT at FROM history WHERE mirror = ? ORDER BY at DESC LIMIT 1 OFFSET ?", ACTIONS)
        if last is not None:
            self._run("DELETE FROM history WHERE mirror = ? AND at <= ?", last)

    def _has_room(self, kind: str, number: int) -> bool:
        """Count a row of a pass. Return whether the pass may store it."""
        if number != self._pass:
            self._pass, self._listed = number, Counter()
        self._listed[kind] += 1
        return self._listed[kind] <= LISTED_PER_PASS

    def _is_known(self, problem: Problem) -> bool:
        """Return whether the last row of the key describes this problem."""
        last = self.of(problem.key, 1)
        texts = (problem.message[:DETAIL], f"{problem.kind}: {problem.message}"[:DETAIL])
        return bool(last) and last[0].outcome != "done" and last[0].detail in texts


class Passes(MirrorRows):
    """The last passes of one mirror."""

    def add(self, ended: PastPass) -> None:
        """Store a pass. A pass that stopped for the same reason as the one before is counted with it."""
        detail, counts = ended.detail[:DETAIL], json.dumps(ended.counts)
        last = next(iter(self.since(0.0, 1)), None)
        values: tuple[Any, ...] = (ended.number, ended.began, ended.ended, ended.keys, ended.outcome, detail, counts, 1)
        with transaction(self._db):
            if last and _is_repeated(last, ended._replace(detail=detail)):
                values = (*values[:1], last.began, *values[2:-1], last.times + 1)
                self._run("DELETE FROM pass WHERE mirror = ? AND number = ?", last.number)
            self._run("INSERT OR REPLACE INTO pass VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", *values)

    def since(self, moment: float, most: int) -> list[PastPass]:
        """Return the last passes that ended since a moment, newest first."""
        rows = self._run(
            "SELECT number, began, ended, keys, outcome, detail, counts, times FROM pass"
            " WHERE mirror = ? AND ended >= ? ORDER BY number DESC LIMIT ?",
            *(moment, most),
        )
        return [
            PastPass(number, began, ended, keys, outcome, detail, json.loads(counts), times)
            for number, began, ended, keys, outcome, detail, counts, times in rows
        ]

    def count_since(self, moment: float) -> int:
        """Return the number of passes that ended since a moment."""
        return self._count("SELECT count(*) FROM pass WHERE mirror = ? AND ended >= ?", moment)

    def prune(self, moment: float) -> None:
        """Delete the passes before a moment, and the oldest ones beyond PASSES."""
        self._run("DELETE FROM pass WHERE mirror = ? AND ended < ?", moment)
        self._run(
            "DELETE FROM pass WHERE mirror = ?1 AND number <= (SELECT number FROM pass WHERE mirror = ?1"
            " ORDER BY number DESC LIMIT 1 OFFSET ?2)",
            PASSES,
        )


def _since(kinds: Collection[str]) -> str:
    """Return a part of a statement. Its parameters are the mirror, a moment and the kinds."""
    failed = " OR outcome = 'failed'" if PROBLEM in kinds else ""
    return f"FROM history WHERE mirror = ? AND at >= ? AND (action IN ({placeholders(kinds)}){failed})"


def _is_repeated(last: PastPass, ended: PastPass) -> bool:
    """Return whether both passes stopped for the same reason and changed nothing."""
    same = (last.outcome, last.detail, last.keys) == (
        "stopped",
        ended.detail,
        ended.keys,
    ) and ended.outcome == "stopped"
    kinds = ("put", "delete", "adopt", "forget", "failed")
    return same and not any(last.counts.get(kind) or ended.counts.get(kind) for kind in kinds)


# -- the present state

State = Literal["idle", "syncing", "degraded", "halted"]


@dataclass(frozen=True, slots=True)
class MirrorState:
    """The state of a mirror. detail: why it is halted or degraded. remaining: planned actions that are not done yet.

    until: the expected end of the pass. next_try: when a degraded mirror tries again. since: when the state began.
    These times are seconds since the epoch, None if unknown. stored: the number of entries in step. under_way: whether
    a pass is under way.
    """

    state: State
    detail: str | None = None
    remaining: int = 0
    until: float | None = None
    next_try: float | None = None
    since: float | None = None
    stored: int | None = None
    under_way: bool = False


def keep_state(meta: Meta, state: MirrorState) -> None:
    """Store the state of a mirror, with the process, because a pass belongs to the process that makes it."""
    meta.set("state", asdict(state) | {"pid": os.getpid()})


def stored_state(meta: Meta) -> dict[str, Any]:
    """Return the fields of the state that was stored last, and its `pid`; empty if there was none."""
    return meta.values("state")


class Presence(NamedTuple):
    """The last sign of life of a daemon. at: seconds since the epoch. ended: whether it ended by itself."""

    at: float
    ended: bool


def keep_presence(db: sqlite3.Connection, now: float, *, ended: bool = False) -> None:
    """Note that the daemon of this process is alive, or that it ends."""
    Meta(db, "").set("daemon", {"at": round(now, 1), "ended": ended})


def last_presence(db: sqlite3.Connection) -> Presence | None:
    """Return the last sign of life of a daemon, None if there was never one."""
    stored = Meta(db, "").values("daemon")
    return Presence(float(stored["at"]), bool(stored["ended"])) if stored else None


def keep_contact(meta: Meta, at: float | None) -> None:
    """Store when the remote last answered a request of a mirror. None changes nothing."""
    if at is not None and last_contact(meta) != round(at):
        meta.set("contact", round(at))


def last_contact(meta: Meta) -> float | None:
    """Return when the remote last answered a request of a mirror (seconds since the epoch), None for never."""
    stored = meta.get("contact")
    return stored if isinstance(stored, (int, float)) else None
