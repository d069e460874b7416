"""Apply the plan of one pass batch by batch, and record the outcome of each action in the state and in the log."""

import asyncio
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext

import structlog

from syncd.core.errors import (
    Conflict,
    Deferred,
    FileChanged,
    NotFound,
    Park,
    Retry,
    SyncdError,
    file_error,
    reraise_general,
    unexpected_error,
)
from syncd.core.keys import shown
from syncd.core.model import (
    NOT_INDEXED,
    Action,
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
from syncd.core.names import neighbours
from syncd.core.plan import DeleteContext, delete_log_entry
from syncd.core.problems import not_indexed
from syncd.core.requests import Priority, requests_at
from syncd.state.db import savepoint, transaction
from syncd.sync.deletes import Replacements
from syncd.sync.index import report_failure
from syncd.sync.mirror import CONVERSIONS, Mirror, Pass
from syncd.targets.base import Done, Outcome

log = structlog.get_logger()

# Complete names, so that a search for an event name finds it in the source.
_DONE = {"put": "put.done", "delete": "delete.done"}
_AGAIN = {"put": "put.again", "delete": "delete.again"}
_FAILED = {"put": "put.failed", "delete": "delete.failed"}
_MORE = {"put": "put.more", "delete": "delete.more"}
LINES = 20
"""Actions of one batch that are logged one by one at level info. The other actions are counted."""
MORE = 100
"""Actions that one line of the log counts."""


# -- outcomes


class Outcomes:
    """Records the outcomes of one batch of actions.

    record_delete: records a finished delete, and returns the evidence for it. unsure: keys that an earlier put may have
    written.
    """

    def __init__(
        self,
        current: Pass,
        batch: Sequence[tuple[int, Action]],
        record_delete: Callable[[Delete], str] | None = None,
        unsure: Collection[str] = (),
    ) -> None:
        self._pass = current
        self._mirror = current.mirror
        self._result = current.result
        self._record_delete = record_delete
        self._unsure = unsure
        self._seqs = {action: seq for seq, action in batch}
        self._read: dict[str, tuple[str, os.stat_result | None]] = {}
        self.throttle = LogThrottle(current.mirror.name)

    def note_read(self, key: str, checksum: str, status: os.stat_result | None) -> None:
        """Remember the file that a put reads.

        status: None if the file kept changing. Then the checksum is not stored in the file cache.
        """
        self._read[key] = (checksum, status)

    def requests_left(self) -> int:
        """Return about how many requests the pass still needs."""
        planned, done = self._result.tables.plan.counts, self._result.done
        puts, deletes = (max(0, planned[kind] - done[kind]) for kind in ("put", "delete"))
        return self._mirror.target.requests(puts, deletes)

    def record(self, outcomes: Mapping[Action, Outcome]) -> None:
        """Record outcomes in one transaction. An action whose outcome cannot be recorded fails alone."""
        with transaction(self._mirror.db):
            for action, outcome in outcomes.items():
                try:
                    with savepoint(self._mirror.db):
                        self._record(action, outcome)
                except Exception as error:  # noqa: BLE001 - unexpected_error logs it
                    self._fail(action, unexpected_error(error, action.key))
        self._pass.tick()

    def _record(self, action: Action, outcome: Outcome) -> None:
        match outcome:
            case Done(stored=Stored() as stored):
                self._record_put(action, stored)
                self._finish(action, checksum=stored.checksum, unchanged=outcome.unchanged)
            case Done() if isinstance(action, Delete) and self._record_delete:
                self._finish(action, evidence=action.evidence, why=self._record_delete(action))
            case Done() if isinstance(action, (Adopt, Forget)):
                self._record_known(action)
                self._finish(action)
            case Done():
                raise AssertionError(f"the outcome does not fit the action: {action}")
            case FileChanged():
                self._mark_again(action, outcome)
            case Park() as refusal if not isinstance(outcome, (NotFound, Conflict)):
                self._refuse(action, refusal)
            case _:
                self._fail(action, outcome)

    def _record_known(self, action: Adopt | Forget) -> None:
        """Record an entry that is in step and has no record, or delete the record of an entry that is gone."""
        mirror, now = self._mirror, self._mirror.now()
        if isinstance(action, Adopt):
            claim_previous(mirror, action.key, action)
            # The age of an adopted entry is unknown, so the next pass renews it.
            written_at = now - (mirror.target.limits.renew_s or 0.0)
            mirror.journal.put(Record.of(action.key, action, written_at, self._result.pass_id - 1))
        else:
            claim_previous(mirror, action.key, None)
            mirror.journal.forget(action.key)
        mirror.history.add(action, now, "done", self._result.pass_id)

    def _record_put(self, action: Action, stored: Stored) -> None:
        key, now, mirror = action.key, self._mirror.now(), self._mirror
        claim_previous(mirror, key, stored, unsure=key in self._unsure)
        mirror.journal.put(Record.of(key, stored, now, self._result.pass_id))
        if stored.status in NOT_INDEXED:
            if stored.status == "error":
                report_failure(mirror, key, stored.error)
            problem = not_indexed(key, stored.status, stored.error)
            mirror.note([problem], self._result.pass_id)
            self._result.problems[problem.kind] += 1
        mirror.history.add(action, now, "done", self._result.pass_id)
        checksum, status = self._read.get(key, ("", None))
        if status:
            mirror.files.store([(key, status, checksum)], time.time_ns())

    def _mark_again(self, action: Action, error: FileChanged) -> None:
        if action.key not in self._unsure:
            self._mirror.claims.remove_put(action.key)
        self._mirror.queue.mark([(action.key, False)], self._mirror.now())
        self._result.tables.plan.set_outcome(self._seqs[action], action.kind, "again")
        self._mirror.on_action(ActionEvent(action.kind, action.key, action.reason, "again"))
        log.info(_AGAIN[action.kind], key=shown(action.key), why=str(error))

    def _refuse(self, action: Action, refusal: Park) -> None:
        code = f" (code {refusal.code})" if refusal.code else ""
        problem = Problem(action.key, refusal.kind, f"{refusal}{code}")
        checksum, _ = self._read.get(action.key, (None, None))
        # The owner of an entry can change without a change of the file, so every pass asks for a foreign entry again.
        if checksum and refusal.kind != "foreign":
            self._mirror.journal.problems.park(problem, checksum)
        self._mirror.queue.clear(action.key)
        self._add_problem(action, problem)

    def _fail(self, action: Action, error: SyncdError) -> None:
        wait, attempts = self._mirror.try_later(action.key, error.after_s if isinstance(error, Retry) else None)
        problem = Problem(action.key, "failed", str(error))
        self._add_problem(action, problem, retry_s=round(wait, 1), attempts=attempts)

    def _add_problem(self, action: Action, problem: Problem, **fields: object) -> None:
        if isinstance(action, Put) and action.key in self._read:
            self._result.unsent[action.key] = self._read[action.key][0]
        self._mirror.journal.problems.add([problem], self._result.pass_id)
        self._result.problems[problem.kind] += 1
        self._result.done["failed"] += 1
        self._result.tables.plan.set_outcome(self._seqs[action], action.kind, "failed")
        self._mirror.on_action(ActionEvent(action.kind, action.key, action.reason, "failed"))
        text = f"{problem.kind}: {problem.message}"
        self._mirror.history.add(action, self._mirror.now(), "failed", self._result.pass_id, text)
        if action.kind in _FAILED:
            why = {"reason": action.reason, "kind": problem.kind, "error": problem.message}
            log.warning(_FAILED[action.kind], mirror=self._mirror.name, key=shown(action.key), **why, **fields)

    def _finish(self, action: Action, **fields: object) -> None:
        self._mirror.queue.clear(action.key)
        if isinstance(action, Put):
            self._mirror.queue.restart_settling(action.key, self._mirror.now())
        self._result.done[action.kind] += 1
        self._result.tables.plan.set_outcome(self._seqs[action], action.kind, "done")
        size = {"bytes": action.size} if isinstance(action, Put) else {}
        self._mirror.on_action(ActionEvent(action.kind, action.key, action.reason, "done", size.get("bytes", 0)))
        if action.kind in _DONE:
            names = {"mirror": self._mirror.name, "key": shown(action.key), "reason": action.reason}
            log.log(self.throttle.level(action.kind), _DONE[action.kind], **names, **size, **fields)


def claim_previous(mirror: Mirror, key: str, held: Stored | Adopt | None, *, unsure: bool = False) -> None:
    """Claim the entry that was recorded until now, because a listing may still show it.

    held: the entry to record now, None for none. unsure: whether an earlier put may have written the key. The claim of
    an unfinished put ends, but not if a target without files may still show the entry of the earlier put.
    """
    before = mirror.journal.get(key)
    if before and (held is None or (held.ref, held.checksum) != (before.ref, before.checksum)):
        mirror.claims.add(key, (before.ref, before.checksum), mirror.age())
    # After a takeover a listing may still show the entry of the other writer.
    beside = unsure and not mirror.target.limits.keeps_files
    if held is not None and not mirror.policy.takeover and not beside:
        mirror.claims.remove_put(key)


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


# -- batches


class Applier:
    """Applies the puts and deletes of one pass."""

    def __init__(self, current: Pass) -> None:
        self._pass = current
        self._mirror = current.mirror
        self._plan = current.result.tables.plan
        self._replacements = Replacements(current)

    async def put(self, batch: Sequence[tuple[int, Put]]) -> None:
        """Upload a batch. Pending hints are served before the puts that have not begun."""
        left = batch
        unsure = self._mirror.claims.puts([put.key for _, put in batch])
        while left:
            due = self._not_written_since(left)
            self._mirror.claims.add_puts([put.key for _, put in due], self._mirror.age())
            deferred = await Run(self._pass, Outcomes(self._pass, due, unsure=unsure)).apply([put for _, put in due])
            left = [(seq, put) for seq, put in due if put in deferred]
            await self._pass.hooks.serve_pending()

    def _not_written_since(self, batch: Sequence[tuple[int, Put]]) -> Sequence[tuple[int, Put]]:
        """Return the puts without the keys that the pass of a hint has written since this pass began."""
        # A record from a clock that was ahead is older than this plan, so the current time is the upper limit.
        keys = [put.key for _, put in batch]
        written = self._mirror.journal.written(keys, self._pass.started, self._mirror.now())
        for seq, put in batch if written else ():
            if put.key in written:
                self._plan.set_outcome(seq, "put", "done")
                self._pass.result.done["put"] += 1
        return [(seq, put) for seq, put in batch if put.key not in written]

    async def delete(self, batch: Sequence[tuple[int, Delete]], context: DeleteContext) -> None:
        """Delete a batch, without the keys whose file is back and without deletes that wait for a replacement.

        Pending hints are served before the deletes that have not begun.
        """
        left = batch
        while left:
            due = self._replacements.without_waiting(await self._still_gone(self.not_deleted_since(left), context))
            deferred = await self._delete(due, context) if due else set()
            left = [(seq, delete) for seq, delete in due if delete in deferred]
            await self._pass.hooks.serve_pending()

    def not_deleted_since(self, batch: Sequence[tuple[int, Delete]]) -> Sequence[tuple[int, Delete]]:
        """Return the deletes, except for deletes that the pass of a hint has made since this pass began.

        They leave the plan, so each delete is logged once, and the brake counts it once.
        """
        refs = [delete.ref for _, delete in batch]
        gone = self._mirror.journal.tombstones.deleted_between(refs, self._pass.started, self._mirror.now())
        if gone:
            self._plan.remove("delete", [seq for seq, delete in batch if delete.ref in gone])
        return [(seq, delete) for seq, delete in batch if delete.ref not in gone]

    async def _delete(self, due: Sequence[tuple[int, Delete]], context: DeleteContext) -> Collection[Put | Delete]:
        """Delete entries. Return the deletes that have not begun because hints are pending."""
        mirror, deletes = self._mirror, [delete for _, delete in due]
        lines = {delete: delete_log_entry(delete, context) for delete in deletes}
        copies = mirror.absences.later_copies([delete.key for delete in deletes])
        # These deletes do not count for later passes: a person forced them, or they lose no content.
        consented = {
            delete
            for delete in deletes
            if context.force or not delete.counted or delete.key in copies or self._has_other_entry(delete)
        }

        def record(delete: Delete) -> str:
            now, line = mirror.now(), lines[delete]
            why = str(line["why"])
            writer.write(line, now)
            mirror.history.add(delete, now, "done", context.pass_id, why)
            mirror.journal.tombstones.record_delete(
                delete.key, delete.ref, now, consented=delete in consented, age=mirror.age()
            )
            if copy := copies.pop(delete.key, None):
                # A delete without an answer is planned again and needs the copy then, so the copy is used up only here.
                mirror.absences.use_copy(copy)
            mirror.keep_age()
            return why

        # If the disk has no room for the lines of the log, nothing is deleted.
        with mirror.deletes.writing(lines.values()) as writer:
            return await Run(self._pass, Outcomes(self._pass, due, record)).apply(deletes)

    async def _still_gone(
        self, batch: Sequence[tuple[int, Delete]], context: DeleteContext
    ) -> list[tuple[int, Delete]]:
        """Look for the file of each delete at the last moment. Mark the keys whose file is back, and leave them out."""
        tree = self._mirror.tree
        looks = await asyncio.to_thread(lambda: [tree.look(delete.key) for _, delete in batch])
        due = []
        for (seq, delete), local in zip(batch, looks, strict=True):
            duplicate = delete.reason == "orphan" and self._has_other_entry(delete)
            wanted = local is None or duplicate or (context.delete_excluded and isinstance(local, Excluded))
            if wanted and not self._is_of_other_file(delete):
                due.append((seq, delete))
            else:
                self._plan.set_outcome(seq, "delete", "again")
                self._mirror.queue.mark([(delete.key, False)], self._mirror.now())
        return due

    def _is_of_other_file(self, delete: Delete) -> bool:
        """Return whether the entry now holds another file, whose entry has the same name because of its form."""
        records = (self._mirror.journal.get(key) for key in neighbours(delete.key))
        return any(record is not None and record.ref == delete.ref for record in records)

    def _has_other_entry(self, delete: Delete) -> bool:
        record = self._mirror.journal.get(delete.key)
        return record is not None and record.ref != delete.ref


class Run:
    """Passes one batch to the target."""

    def __init__(self, current: Pass, outcomes: Outcomes) -> None:
        self._mirror = current.mirror
        self._outcomes = outcomes
        self._hooks = current.hooks
        self._open: set[Put | Delete] = set()
        self._has_read = False
        self._converting = asyncio.Semaphore(CONVERSIONS)
        self._deferred: set[Put | Delete] = set()

    async def apply(self, actions: Sequence[Put | Delete]) -> Collection[Put | Delete]:
        """Apply the actions. Return the actions that have not begun because hints are pending."""
        try:
            if actions:
                with requests_at(self._priority()):
                    await self._hand_over(actions)
        finally:
            self._outcomes.throttle.flush()
        return self._deferred

    def _priority(self) -> Priority:
        hooks = self._hooks
        if not hooks.bulk:
            return Priority(longest_wait_s=hooks.longest_wait_s)
        return Priority(
            bulk=True,
            gives_way=hooks.has_pending,
            left=self._outcomes.requests_left,
            longest_wait_s=hooks.longest_wait_s,
        )

    async def _hand_over(self, actions: Sequence[Put | Delete]) -> None:
        """Let the target apply actions.

        After an unexpected exception, halves of the batch are tried until the action that raises it is found.
        """
        self._open = set(actions)
        try:
            await self._mirror.target.apply(actions, self._read, self._report)
        except Deferred:
            # A request gave way to pending hints before the first change of the target.
            self._deferred |= self._open
        except Exception as error:
            reraise_general(error)
            left = [action for action in actions if action in self._open]
            if not left:
                raise
            if len(left) == 1:
                self._report({left[0]: unexpected_error(error, left[0].key)})
                return
            for half in (left[: len(left) // 2], left[len(left) // 2 :]):
                await self._hand_over(half)

    async def _read(self, puts: Sequence[Put]) -> list[Content | SyncdError]:
        """Read the bytes to send. After `settle_max` a file that keeps changing is read as it is."""
        # The first call always reads. Otherwise a folder that keeps changing could stop the pass.
        if self._has_read and self._hooks.has_pending():
            return [Deferred() for _ in puts]
        self._has_read = True
        changing = {put.key for put in puts if self._mirror.settle_expired(put.key)}
        forms = self._mirror.target.limits.forms
        # A thread that waits for a conversion would keep other files waiting.
        async with self._converting if any(forms.of(put.key) == "convert" for put in puts) else nullcontext():
            return await asyncio.to_thread(
                lambda: [self._read_one(put, allow_changing=put.key in changing) for put in puts]
            )

    def _read_one(self, put: Put, *, allow_changing: bool) -> Content | SyncdError:
        tree = self._mirror.tree
        try:
            if tree.is_excluded(put.path):
                # An ignore file has changed since the plan was made.
                return FileChanged(f"{shown(put.path)} may be left out by now")
            content, status = tree.read(put.path, allow_changing=allow_changing)
            self._outcomes.note_read(put.key, content.checksum, None if allow_changing else status)
            return self._mirror.convert(put.key, content, self._mirror.target.limits)
        except Exception as error:  # noqa: BLE001 - file_error logs an unexpected one
            return file_error(error, put.key)

    def _report(self, outcomes: Mapping[Put | Delete, Outcome]) -> None:
        """Record outcomes. Keep the deferred actions for another batch."""
        self._open.difference_update(outcomes)
        deferred = {action for action, outcome in outcomes.items() if isinstance(outcome, Deferred)}
        self._deferred |= deferred
        self._outcomes.record({action: outcome for action, outcome in outcomes.items() if action not in deferred})
