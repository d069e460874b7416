"""One turn of a plan: hand a batch to the target, verify at the last moment, record every outcome as it comes."""

import asyncio
import logging
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import structlog

from syncd.core.errors import Conflict, Deferred, FileChanged, Halt, NotFound, Park, Retry, SyncdError
from syncd.core.evidence import DeleteContext, delete_log_entry
from syncd.core.index_errors import not_indexed
from syncd.core.keys import shown
from syncd.core.model import (
    NOT_INDEXED,
    ActionEvent,
    Adopt,
    Content,
    Delete,
    Excluded,
    Forget,
    Problem,
    Put,
    Record,
    Stored,
)
from syncd.core.unexpected import reraise_general, unexpected_error
from syncd.state.db import savepoint, transaction
from syncd.state.history import DeleteLogWriter, Line
from syncd.state.pass_tables import PassTables
from syncd.sync.index import report_failure
from syncd.sync.mirror import Mirror
from syncd.sync.ownership import leave
from syncd.sync.replacements import Replacements
from syncd.targets.base import Done, Outcome

log = structlog.get_logger()

L = TypeVar("L", Adopt, Forget)

LINES = 20
"""Actions of one batch that are logged one by one at level info; the log counts the others, MORE in a line."""
MORE = 100

# Complete names, so that a search for an event name finds it in the source.
_DONE = {"put": "put.done", "delete": "delete.done"}
_AGAIN = {"put": "put.again", "delete": "delete.again"}
_FAILED = {"put": "put.failed", "delete": "delete.failed"}
_MORE = {"put": "put.more", "delete": "delete.more"}


@dataclass(frozen=True, slots=True)
class PassStats:
    """Where a pass writes what came of its plan: done by action kind (and "failed"), problems by their kind.

    tick: called after outcomes, once for those that are reported together.
    """

    tables: PassTables
    pass_id: int
    done: Counter[str]
    problems: Counter[str]
    tick: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Preemption:
    """Lets a long pass serve changes that come in meanwhile.

    serve_pending: serves them, awaited between batches. has_pending: returns whether there are any.
    """

    serve_pending: Callable[[], Awaitable[None]] | None = None
    has_pending: Callable[[], bool] = lambda: False


class LogThrottle:
    """Chooses the log level of each action of one batch, so that a first upload of 100,000 files logs few lines."""

    def __init__(self, mirror: str) -> None:
        self._mirror = mirror
        self._lines = 0
        self._more: Counter[str] = Counter()

    def level(self, kind: str) -> int:
        """Return the level of the next line: info for the first LINES actions, debug for the others."""
        self._lines += 1
        if self._lines <= LINES:
            return logging.INFO
        self._more[kind] += 1
        if self._more.total() >= MORE:
            self.flush()
        return logging.DEBUG

    def flush(self) -> None:
        """Log how many actions were not logged one by one since the last call."""
        for kind, count in self._more.items():
            log.info(_MORE[kind], mirror=self._mirror, count=count)
        self._more.clear()


class Turn:
    """Applies the turns of one pass and enters every outcome in journal, queue and ledger."""

    def __init__(self, mirror: Mirror, ledger: PassStats, preemption: Preemption = Preemption()) -> None:
        self._mirror = mirror
        self._ledger = ledger
        self._preemption = preemption
        self._started = mirror.now()
        self._seq: dict[Put | Delete, int] = {}
        self._open: set[Put | Delete] = set()
        self._sent: dict[str, tuple[str, os.stat_result | None]] = {}
        self._told: dict[Delete, Line] = {}
        self._pen: DeleteLogWriter | None = None
        self._consented: set[Delete] = set()
        self._copies: dict[str, str] = {}
        self.unsent: dict[str, str] = {}
        """Keys of files that were read and could not be put -> the checksum."""
        self._begun = 0
        self._deferred: list[tuple[int, Put]] = []
        self._throttle = LogThrottle(mirror.name)
        self.heirs = Replacements(mirror, ledger.tables)

    def adopts(self, batch: Sequence[tuple[int, Adopt]]) -> None:
        """Write down what is in step already."""
        # How long an entry has lived that others know of is not known: it is renewed by the next pass.
        now = self._mirror.now() - (self._mirror.target.limits.renew_s or 0.0)

        def enter(some: Sequence[tuple[int, Adopt]]) -> None:
            self._mirror.history.adopted([adopt for _, adopt in some], now)
            for seq, adopt in some:
                leave(self._mirror, adopt.key, adopt)
                self._mirror.journal.put(recorded(adopt.key, adopt, now, self._ledger.pass_id - 1))
                self._ledger.tables.plan.set_outcome(seq, "adopt", "done")

        self._locally(batch, enter)

    def forgets(self, batch: Sequence[tuple[int, Forget]]) -> None:
        """Drop what is remembered of entries that are gone."""

        def enter(some: Sequence[tuple[int, Forget]]) -> None:
            for seq, forget in some:
                leave(self._mirror, forget.key, None)
                self._mirror.journal.forget(forget.key)
                self._mirror.history.add(forget, self._mirror.now(), "done")
                self._ledger.tables.plan.set_outcome(seq, "forget", "done")

        self._locally(batch, enter)

    def _locally(self, batch: Sequence[tuple[int, L]], enter: Callable[[Sequence[tuple[int, L]]], None]) -> None:
        """Enter all of a batch in one transaction, or what can be entered in one each."""
        try:
            with transaction(self._mirror.db):
                enter(batch)
        except Exception as error:  # noqa: BLE001 - what it is stands in the log
            reraise_general(error)
            if len(batch) > 1:
                for each in batch:
                    self._locally([each], enter)
                return
            self._not_entered(*batch[0], unexpected_error(error, batch[0][1].key))
        else:
            self._locally_done(batch)

    def _not_entered(self, seq: int, action: Adopt | Forget, error: SyncdError) -> None:
        self._mirror.try_later(action.key, None)
        self._mirror.journal.problems.add([Problem(action.key, "failed", str(error))], self._ledger.pass_id)
        self._ledger.problems["failed"] += 1
        self._ledger.done["failed"] += 1
        self._ledger.tables.plan.set_outcome(seq, action.kind, "failed")

    def _locally_done(self, batch: Sequence[tuple[int, Adopt | Forget]]) -> None:
        for _, action in batch:
            self._ledger.done[action.kind] += 1
            self._mirror.on_action(ActionEvent(action.kind, action.key, action.reason, "done"))

    async def puts(self, batch: Sequence[tuple[int, Put]]) -> None:
        """Upload a batch. Whenever something presses, what has not begun yet waits until it is served."""
        left = batch
        while left:
            self._begun = 0
            self._deferred = []
            due = self._not_overtaken(left)
            self._mirror.claims.add_puts([put.key for _, put in due], self._mirror.age())
            await self._apply(due)
            left = self._deferred
            if self._preemption.serve_pending:
                await self._preemption.serve_pending()

    def _not_overtaken(self, batch: Sequence[tuple[int, Put]]) -> Sequence[tuple[int, Put]]:
        """Leave out keys that a hint's own pass has brought up since this plan was made."""
        # Not those from a clock that was ahead: they are older than this plan.
        keys = [put.key for _, put in batch]
        overtaken = self._mirror.journal.written(keys, self._started, self._mirror.now())
        for seq, put in batch if overtaken else ():
            if put.key in overtaken:
                self._ledger.tables.plan.set_outcome(seq, "put", "done")
                self._ledger.done["put"] += 1
        return [each for each in batch if each[1].key not in overtaken]

    async def deletes(self, batch: Sequence[tuple[int, Delete]], backing: DeleteContext) -> None:
        """Delete a batch, but for keys whose file is there again, and what has to wait for its heir."""
        tree = self._mirror.tree
        looks = await asyncio.to_thread(lambda: [tree.look(each.key) for _, each in batch])
        due = []
        for (seq, delete), local in zip(batch, looks, strict=True):
            duplicate = delete.reason == "orphan" and self._has_another(delete)
            if local is None or duplicate or (backing.delete_excluded and isinstance(local, Excluded)):
                due.append((seq, delete))
            else:
                self._ledger.tables.plan.set_outcome(seq, "delete", "again")
                self._mirror.queue.mark([(delete.key, False)], self._mirror.now())
        due = self.heirs.awaited(due)
        if due:
            # Where a delete could not be accounted for, none is sent.
            self._told = {delete: delete_log_entry(delete, backing) for _, delete in due}
            self._copies = self._mirror.absences.later_copies([delete.key for _, delete in due])
            self._consented = {
                delete
                for _, delete in due
                if backing.force or not delete.counted or delete.key in self._copies or self._has_another(delete)
            }
            with self._mirror.deletes.writing(self._told.values()) as self._pen:
                await self._apply(due)
        if self._preemption.serve_pending:
            await self._preemption.serve_pending()

    def _write(self, told: Line, now: float) -> None:
        if self._pen is None:
            raise AssertionError("the log of deletes is not open")
        self._pen.write(told, now)

    def _has_another(self, delete: Delete) -> bool:
        record = self._mirror.journal.get(delete.key)
        return record is not None and record.ref != delete.ref

    async def _apply(self, batch: Sequence[tuple[int, Put]] | Sequence[tuple[int, Delete]]) -> None:
        self._seq = {action: seq for seq, action in batch}
        self._sent.clear()
        if batch:
            self._throttle = LogThrottle(self._mirror.name)
            try:
                await self._hand_over([action for _, action in batch])
            finally:
                self._throttle.flush()

    async def _hand_over(self, actions: Sequence[Put | Delete]) -> None:
        """Have the target carry actions out. What it raises unexpectedly is narrowed to the action that is to blame."""
        self._open = set(actions)
        try:
            await self._mirror.target.apply(actions, self.read, self.report)
        except Exception as error:
            reraise_general(error)
            left = [action for action in actions if action in self._open]
            if not left:
                raise
            if len(left) == 1:
                self.report({left[0]: unexpected_error(error, left[0].key)})
                return
            for half in (left[: len(left) // 2], left[len(left) // 2 :]):
                await self._hand_over(half)

    async def read(self, puts: Sequence[Put]) -> list[Content | SyncdError]:
        """Read the very bytes to send. A file that never rests is taken as it is after `settle_max`."""
        # At least one call reads in each batch, so that a folder that never rests cannot starve the pass.
        if self._begun and self._preemption.serve_pending and self._preemption.has_pending():
            return [Deferred(put.key) for put in puts]
        self._begun += 1
        changing = {put.key for put in puts if self._mirror.settle_expired(put.key)}
        found = await asyncio.to_thread(lambda: [self._read(put, allow_changing=put.key in changing) for put in puts])
        for put, (content, seen) in zip(puts, found, strict=True):
            if isinstance(content, Content):
                self._sent[put.key] = (content.checksum, None if put.key in changing else seen)
        return [content for content, _ in found]

    def _read(self, put: Put, *, allow_changing: bool) -> tuple[Content | SyncdError, os.stat_result | None]:
        tree = self._mirror.tree
        try:
            if tree.is_excluded(put.path):
                # An ignore file has changed since the plan was made.
                return FileChanged(f"{shown(put.path)} may be left out by now"), None
            return tree.read(put.path, allow_changing=allow_changing)
        except Halt:
            raise
        except SyncdError as error:
            return error, None
        except Exception as error:  # noqa: BLE001 - of_one_file logs it
            return unexpected_error(error, put.key), None

    def report(self, outcomes: Mapping[Put | Delete, Outcome]) -> None:
        """Record outcomes in one transaction: journal row, tombstone, parked content or a later try of each action."""
        with transaction(self._mirror.db):
            for action, outcome in outcomes.items():
                self._open.discard(action)
                if isinstance(outcome, Deferred) and isinstance(action, Put):
                    self._deferred.append((self._seq[action], action))
                else:
                    self._report(action, outcome)
        self._ledger.tick()

    def _report(self, action: Put | Delete, outcome: Outcome) -> None:
        try:
            with savepoint(self._mirror.db):
                self._enter(action, outcome)
        except Exception as error:  # noqa: BLE001 - of_one_file logs it
            self._failed(action, unexpected_error(error, action.key))

    def _enter(self, action: Put | Delete, outcome: Outcome) -> None:
        match outcome:
            case Done(stored=Stored() as stored):
                now = self._mirror.now()
                self._stored(action.key, stored, now)
                # What was new is told by its record alone: a first upload writes no row more than it must.
                if action.reason != "new":
                    self._mirror.history.add(action, now, "done")
                self._remember_read(action.key)
                self._end(action, checksum=stored.checksum, unchanged=outcome.unchanged)
            case Done() if isinstance(action, Delete):
                now, told = self._mirror.now(), self._told[action]
                self._write(told, now)
                self._mirror.history.add(action, now, "done", str(told["why"]))
                consented, age = action in self._consented, self._mirror.age()
                self._mirror.journal.tombstones.record_delete(action.key, action.ref, now, consented=consented, age=age)
                if copy := self._copies.pop(action.key, None):
                    # Only now: a delete whose answer was lost is planned again, and is no loss then either.
                    self._mirror.absences.use_copy(copy)
                self._mirror.keep_age()
                self._end(action, evidence=action.evidence, why=told["why"])
            case FileChanged():
                self._mirror.claims.remove_put(action.key)
                self._mirror.queue.mark([(action.key, False)], self._mirror.now())
                self._ledger.tables.plan.set_outcome(self._seq[action], action.kind, "again")
                self._mirror.on_action(ActionEvent(action.kind, action.key, action.reason, "again"))
                log.info(_AGAIN[action.kind], key=shown(action.key), why=str(outcome))
            case Done():
                raise AssertionError(f"a put ended without saying what is stored: {action}")
            case Park() as refusal if not isinstance(outcome, (NotFound, Conflict)):
                self._refused(action, refusal)
            case _:
                self._failed(action, outcome)

    def _stored(self, key: str, stored: Stored, now: float) -> None:
        leave(self._mirror, key, stored)
        self._mirror.journal.put(recorded(key, stored, now, self._ledger.pass_id))
        if stored.status in NOT_INDEXED:
            if stored.status == "error":
                report_failure(self._mirror, key, stored.error)
            problem = not_indexed(key, stored.status, stored.error)
            self._mirror.journal.problems.add([problem], self._ledger.pass_id)
            self._ledger.problems[problem.kind] += 1

    def _remember_read(self, key: str) -> None:
        checksum, seen = self._sent.get(key, ("", None))
        if seen:
            self._mirror.files.store([(key, seen, checksum)], time.time_ns())

    def _refused(self, action: Put | Delete, refusal: Park) -> None:
        code = f" (code {refusal.code})" if refusal.code else ""
        problem = Problem(action.key, refusal.kind, f"{refusal}{code}")
        checksum, _ = self._sent.get(action.key, (None, None))
        # Whose an entry is can change without the file changing, so a foreign entry is met anew in every pass.
        if checksum and refusal.kind != "foreign":
            self._mirror.journal.problems.park(problem, checksum)
        self._mirror.queue.clear(action.key)
        self._problem(action, problem)

    def _failed(self, action: Put | Delete, error: SyncdError) -> None:
        wait, attempts = self._mirror.try_later(action.key, error.after_s if isinstance(error, Retry) else None)
        self._problem(action, Problem(action.key, "failed", str(error)), retry_s=round(wait, 1), attempts=attempts)

    def _problem(self, action: Put | Delete, problem: Problem, **fields: object) -> None:
        if isinstance(action, Put) and action.key in self._sent:
            self.unsent[action.key] = self._sent[action.key][0]
        self._mirror.journal.problems.add([problem], self._ledger.pass_id)
        self._ledger.problems[problem.kind] += 1
        self._ledger.done["failed"] += 1
        self._ledger.tables.plan.set_outcome(self._seq[action], action.kind, "failed")
        self._mirror.on_action(ActionEvent(action.kind, action.key, action.reason, "failed"))
        self._mirror.history.add(action, self._mirror.now(), "failed", f"{problem.kind}: {problem.message}")
        why = {"reason": action.reason, "kind": problem.kind, "error": problem.message}
        log.warning(_FAILED[action.kind], mirror=self._mirror.name, key=shown(action.key), **why, **fields)

    def _end(self, action: Put | Delete, **fields: object) -> None:
        self._mirror.queue.clear(action.key)
        if isinstance(action, Put):
            self._mirror.queue.taken(action.key, self._mirror.now())
        self._ledger.done[action.kind] += 1
        self._ledger.tables.plan.set_outcome(self._seq[action], action.kind, "done")
        size = {"bytes": action.size} if isinstance(action, Put) else {}
        self._mirror.on_action(ActionEvent(action.kind, action.key, action.reason, "done", size.get("bytes", 0)))
        named = {"mirror": self._mirror.name, "key": shown(action.key), "reason": action.reason}
        log.log(self._throttle.level(action.kind), _DONE[action.kind], **named, **size, **fields)


def recorded(key: str, held: Stored | Adopt, now: float, pass_id: int) -> Record:
    """The journal row of what the remote holds under a key, whether we put it there or found it in step.

    pass_id: the pass that put it there; of what was found, an earlier one.
    """
    return Record(
        key=key,
        ref=held.ref,
        checksum=held.checksum,
        size=held.size,
        written_at=now,
        version=held.version,
        remote_size=held.remote_size,
        marked=held.marked,
        status=held.status,
        error=held.error,
        pass_id=pass_id,
    )
