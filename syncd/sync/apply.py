"""Apply the plan of one pass, batch by batch: adopt and forget in the journal, put and delete at the target."""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from syncd.core.errors import Deferred, FileChanged, SyncdError
from syncd.core.evidence import DeleteContext, delete_log_entry
from syncd.core.keys import shown
from syncd.core.model import ActionEvent, Adopt, Content, Delete, Excluded, Forget, Problem, Put, Record
from syncd.core.unexpected import file_error, reraise_general, unexpected_error
from syncd.state.db import transaction
from syncd.sync.mirror import Mirror
from syncd.sync.outcomes import DeleteRecorder, Outcomes
from syncd.sync.ownership import claim_previous
from syncd.sync.passes import PassStats, Preemption
from syncd.sync.replacements import Replacements
from syncd.targets.base import Outcome

L = TypeVar("L", Adopt, Forget)


class Applier:
    """Applies the batches of one pass. replacements: postpones deletes until their content is searchable again."""

    def __init__(self, mirror: Mirror, stats: PassStats, preemption: Preemption) -> None:
        self._mirror = mirror
        self._stats = stats
        self._preemption = preemption
        self._started = mirror.now()
        self.replacements = Replacements(mirror, stats.tables)

    def adopt(self, batch: Sequence[tuple[int, Adopt]]) -> None:
        """Record entries that are in step and have no record."""
        # The age of an adopted entry is unknown, so the next pass renews it.
        now = self._mirror.now() - (self._mirror.target.limits.renew_s or 0.0)

        def store(adopts: Sequence[tuple[int, Adopt]]) -> None:
            self._mirror.history.adopted([adopt for _, adopt in adopts], now)
            for seq, adopt in adopts:
                claim_previous(self._mirror, adopt.key, adopt)
                self._mirror.journal.put(Record.of(adopt.key, adopt, now, self._stats.pass_id - 1))
                self._stats.tables.plan.set_outcome(seq, "adopt", "done")

        self._store_locally(batch, store)

    def forget(self, batch: Sequence[tuple[int, Forget]]) -> None:
        """Delete the records of entries that are gone."""

        def store(forgets: Sequence[tuple[int, Forget]]) -> None:
            for seq, forget in forgets:
                claim_previous(self._mirror, forget.key, None)
                self._mirror.journal.forget(forget.key)
                self._mirror.history.add(forget, self._mirror.now(), "done")
                self._stats.tables.plan.set_outcome(seq, "forget", "done")

        self._store_locally(batch, store)

    def _store_locally(self, batch: Sequence[tuple[int, L]], store: Callable[[Sequence[tuple[int, L]]], None]) -> None:
        """Store a batch in one transaction. If that fails, store each action in a transaction of its own."""
        try:
            with transaction(self._mirror.db):
                store(batch)
        except Exception as error:  # noqa: BLE001 - unexpected_error logs it
            reraise_general(error)
            if len(batch) == 1:
                self._fail_locally(*batch[0], unexpected_error(error, batch[0][1].key))
                return
            for numbered in batch:
                self._store_locally([numbered], store)
        else:
            for _, action in batch:
                self._stats.done[action.kind] += 1
                self._mirror.on_action(ActionEvent(action.kind, action.key, action.reason, "done"))

    def _fail_locally(self, seq: int, action: Adopt | Forget, error: SyncdError) -> None:
        self._mirror.try_later(action.key, None)
        self._mirror.journal.problems.add([Problem(action.key, "failed", str(error))], self._stats.pass_id)
        self._stats.problems["failed"] += 1
        self._stats.done["failed"] += 1
        self._stats.tables.plan.set_outcome(seq, action.kind, "failed")

    async def put(self, batch: Sequence[tuple[int, Put]]) -> None:
        """Upload a batch. Pending hints are served before the puts that have not begun."""
        left = batch
        while left:
            due = self._not_written_since(left)
            self._mirror.claims.add_puts([put.key for _, put in due], self._mirror.age())
            run = Run(self._mirror, Outcomes(self._mirror, self._stats, due), self._preemption)
            await run.apply([put for _, put in due])
            left = [(seq, put) for seq, put in due if put in run.deferred]
            if self._preemption.serve_pending:
                await self._preemption.serve_pending()

    def _not_written_since(self, batch: Sequence[tuple[int, Put]]) -> Sequence[tuple[int, Put]]:
        """Return the puts without the keys that the pass of a hint has written since this pass began."""
        # A record from a clock that was ahead is older than this plan, so the current time is the upper limit.
        keys = [put.key for _, put in batch]
        written = self._mirror.journal.written(keys, self._started, self._mirror.now())
        for seq, put in batch if written else ():
            if put.key in written:
                self._stats.tables.plan.set_outcome(seq, "put", "done")
                self._stats.done["put"] += 1
        return [(seq, put) for seq, put in batch if put.key not in written]

    async def delete(self, batch: Sequence[tuple[int, Delete]], context: DeleteContext) -> None:
        """Delete a batch, without the keys whose file is back and without deletes that wait for a replacement."""
        mirror = self._mirror
        due = self.replacements.without_waiting(await self._still_gone(batch, context))
        if due:
            deletes = [delete for _, delete in due]
            lines = {delete: delete_log_entry(delete, context) for delete in deletes}
            copies = mirror.absences.later_copies([delete.key for delete in deletes])
            consented = {
                delete
                for delete in deletes
                if context.force or not delete.counted or delete.key in copies or self._has_other_entry(delete)
            }
            # If the log has no room for all lines, nothing is deleted.
            with mirror.deletes.writing(lines.values()) as writer:
                recorder = DeleteRecorder(mirror, lines, writer, consented, copies)
                await Run(mirror, Outcomes(mirror, self._stats, due, recorder), self._preemption).apply(deletes)
        if self._preemption.serve_pending:
            await self._preemption.serve_pending()

    async def _still_gone(
        self, batch: Sequence[tuple[int, Delete]], context: DeleteContext
    ) -> list[tuple[int, Delete]]:
        """Look for the file of each delete at the last moment. Mark the keys whose file is back, and leave them out."""
        tree = self._mirror.tree
        looks = await asyncio.to_thread(lambda: [tree.look(delete.key) for _, delete in batch])
        due = []
        for (seq, delete), local in zip(batch, looks, strict=True):
            duplicate = delete.reason == "orphan" and self._has_other_entry(delete)
            if local is None or duplicate or (context.delete_excluded and isinstance(local, Excluded)):
                due.append((seq, delete))
            else:
                self._stats.tables.plan.set_outcome(seq, "delete", "again")
                self._mirror.queue.mark([(delete.key, False)], self._mirror.now())
        return due

    def _has_other_entry(self, delete: Delete) -> bool:
        record = self._mirror.journal.get(delete.key)
        return record is not None and record.ref != delete.ref


class Run:
    """Hands one batch over to the target. deferred: puts that the target has not begun because hints are pending."""

    def __init__(self, mirror: Mirror, outcomes: Outcomes, preemption: Preemption) -> None:
        self._mirror = mirror
        self._outcomes = outcomes
        self._preemption = preemption
        self._open: set[Put | Delete] = set()
        self._has_read = False
        self.deferred: set[Put] = set()

    async def apply(self, actions: Sequence[Put | Delete]) -> None:
        """Apply the actions, and log how many of them the log does not name."""
        try:
            if actions:
                await self._hand_over(actions)
        finally:
            self._outcomes.flush()

    async def _hand_over(self, actions: Sequence[Put | Delete]) -> None:
        """Let the target apply actions. An unexpected exception is narrowed by halves to the action that raises it."""
        self._open = set(actions)
        try:
            await self._mirror.target.apply(actions, self._read, self._report)
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
        # The first call always reads, so that a folder that keeps changing cannot stop the pass.
        if self._has_read and self._preemption.serve_pending and self._preemption.has_pending():
            return [Deferred(put.key) for put in puts]
        self._has_read = True
        changing = {put.key for put in puts if self._mirror.settle_expired(put.key)}
        contents = await asyncio.to_thread(
            lambda: [self._read_one(put, allow_changing=put.key in changing) for put in puts]
        )
        for put, (content, status) in zip(puts, contents, strict=True):
            if isinstance(content, Content):
                self._outcomes.note_read(put.key, content.checksum, None if put.key in changing else status)
        return [content for content, _ in contents]

    def _read_one(self, put: Put, *, allow_changing: bool) -> tuple[Content | SyncdError, os.stat_result | None]:
        tree = self._mirror.tree
        try:
            if tree.is_excluded(put.path):
                # An ignore file has changed since the plan was made.
                return FileChanged(f"{shown(put.path)} may be left out by now"), None
            return tree.read(put.path, allow_changing=allow_changing)
        except Exception as error:  # noqa: BLE001 - file_error logs an unexpected one
            return file_error(error, put.key), None

    def _report(self, outcomes: Mapping[Put | Delete, Outcome]) -> None:
        """Record outcomes. Keep the deferred puts for another batch."""
        self._open.difference_update(outcomes)
        deferred = {put for put, outcome in outcomes.items() if isinstance(put, Put) and isinstance(outcome, Deferred)}
        self.deferred |= deferred
        self._outcomes.record({action: outcome for action, outcome in outcomes.items() if action not in deferred})
