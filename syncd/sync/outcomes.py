"""The outcomes of actions: journal row, tombstone, problem, retry, history and log line of each."""

import logging
import os
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import structlog

from syncd.core.errors import Conflict, FileChanged, NotFound, Park, Retry, SyncdError
from syncd.core.index_errors import not_indexed
from syncd.core.keys import shown
from syncd.core.model import NOT_INDEXED, ActionEvent, Delete, Problem, Put, Record, Stored
from syncd.core.unexpected import unexpected_error
from syncd.state.db import savepoint, transaction
from syncd.state.history import DeleteLogLine, DeleteLogWriter
from syncd.sync.index import report_failure
from syncd.sync.mirror import Mirror
from syncd.sync.ownership import claim_previous
from syncd.sync.passes import PassStats
from syncd.targets.base import Done, Outcome

log = structlog.get_logger()

LINES = 20
"""Actions of one batch that are logged one by one at level info. The other actions are counted."""
MORE = 100
"""Actions that one line of the log counts."""

# Complete names, so that a search for an event name finds it in the source.
_DONE = {"put": "put.done", "delete": "delete.done"}
_AGAIN = {"put": "put.again", "delete": "delete.again"}
_FAILED = {"put": "put.failed", "delete": "delete.failed"}
_MORE = {"put": "put.more", "delete": "delete.more"}


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


class DeleteRecorder:
    """Records the finished deletes of one batch in the delete log, the history and the tombstones.

    lines: the line of the delete log for each delete. consented: deletes that do not count for later passes: a person
    forced them, or they lose no content. copies: deleted key -> a key that has the same content.
    """

    def __init__(
        self,
        mirror: Mirror,
        lines: Mapping[Delete, DeleteLogLine],
        writer: DeleteLogWriter,
        consented: Collection[Delete],
        copies: Mapping[str, str],
    ) -> None:
        self._mirror = mirror
        self._lines = lines
        self._writer = writer
        self._consented = consented
        self._copies = dict(copies)

    def record(self, delete: Delete) -> str:
        """Record a finished delete. Return the evidence for it in words."""
        mirror, now, line = self._mirror, self._mirror.now(), self._lines[delete]
        why = str(line["why"])
        self._writer.write(line, now)
        mirror.history.add(delete, now, "done", why)
        consented = delete in self._consented
        mirror.journal.tombstones.record_delete(delete.key, delete.ref, now, consented=consented, age=mirror.age())
        if copy := self._copies.pop(delete.key, None):
            # Not earlier: a delete without an answer is planned again, and still needs its copy then.
            mirror.absences.use_copy(copy)
        mirror.keep_age()
        return why


class Outcomes:
    """Records the outcomes of one batch of puts or deletes. deletes: records finished deletes, if the batch has any."""

    def __init__(
        self,
        mirror: Mirror,
        stats: PassStats,
        batch: Sequence[tuple[int, Put | Delete]],
        deletes: DeleteRecorder | None = None,
    ) -> None:
        self._mirror = mirror
        self._stats = stats
        self._deletes = deletes
        self._seqs = {action: seq for seq, action in batch}
        self._read: dict[str, tuple[str, os.stat_result | None]] = {}
        self._throttle = LogThrottle(mirror.name)

    def note_read(self, key: str, checksum: str, status: os.stat_result | None) -> None:
        """Remember the file that a put reads. status: None if the file kept changing, so that no cache may hold it."""
        self._read[key] = (checksum, status)

    def record(self, outcomes: Mapping[Put | Delete, Outcome]) -> None:
        """Record outcomes in one transaction. An action whose outcome cannot be recorded fails alone."""
        with transaction(self._mirror.db):
            for action, outcome in outcomes.items():
                try:
                    with savepoint(self._mirror.db):
                        self._record(action, outcome)
                except Exception as error:  # noqa: BLE001 - unexpected_error logs it
                    self._fail(action, unexpected_error(error, action.key))
        self._stats.tick()

    def flush(self) -> None:
        """Log how many actions were not logged one by one."""
        self._throttle.flush()

    def _record(self, action: Put | Delete, outcome: Outcome) -> None:
        match outcome:
            case Done(stored=Stored() as stored):
                self._record_put(action, stored)
                self._finish(action, checksum=stored.checksum, unchanged=outcome.unchanged)
            case Done() if isinstance(action, Delete) and self._deletes:
                why = self._deletes.record(action)
                self._finish(action, evidence=action.evidence, why=why)
            case Done():
                raise AssertionError(f"the outcome does not fit the action: {action}")
            case FileChanged():
                self._mark_again(action, outcome)
            case Park() as refusal if not isinstance(outcome, (NotFound, Conflict)):
                self._refuse(action, refusal)
            case _:
                self._fail(action, outcome)

    def _record_put(self, action: Put | Delete, stored: Stored) -> None:
        key, now, mirror = action.key, self._mirror.now(), self._mirror
        claim_previous(mirror, key, stored)
        mirror.journal.put(Record.of(key, stored, now, self._stats.pass_id))
        if stored.status in NOT_INDEXED:
            if stored.status == "error":
                report_failure(mirror, key, stored.error)
            problem = not_indexed(key, stored.status, stored.error)
            mirror.journal.problems.add([problem], self._stats.pass_id)
            self._stats.problems[problem.kind] += 1
        # The record alone is the history of a new entry, so that a first upload writes fewer rows.
        if action.reason != "new":
            mirror.history.add(action, now, "done")
        checksum, status = self._read.get(key, ("", None))
        if status:
            mirror.files.store([(key, status, checksum)], time.time_ns())

    def _mark_again(self, action: Put | Delete, error: FileChanged) -> None:
        self._mirror.claims.remove_put(action.key)
        self._mirror.queue.mark([(action.key, False)], self._mirror.now())
        self._stats.tables.plan.set_outcome(self._seqs[action], action.kind, "again")
        self._mirror.on_action(ActionEvent(action.kind, action.key, action.reason, "again"))
        log.info(_AGAIN[action.kind], key=shown(action.key), why=str(error))

    def _refuse(self, action: Put | Delete, refusal: Park) -> None:
        code = f" (code {refusal.code})" if refusal.code else ""
        problem = Problem(action.key, refusal.kind, f"{refusal}{code}")
        checksum, _ = self._read.get(action.key, (None, None))
        # The owner of an entry can change without a change of the file, so every pass asks for a foreign entry again.
        if checksum and refusal.kind != "foreign":
            self._mirror.journal.problems.park(problem, checksum)
        self._mirror.queue.clear(action.key)
        self._add_problem(action, problem)

    def _fail(self, action: Put | Delete, error: SyncdError) -> None:
        wait, attempts = self._mirror.try_later(action.key, error.after_s if isinstance(error, Retry) else None)
        problem = Problem(action.key, "failed", str(error))
        self._add_problem(action, problem, retry_s=round(wait, 1), attempts=attempts)

    def _add_problem(self, action: Put | Delete, problem: Problem, **fields: object) -> None:
        if isinstance(action, Put) and action.key in self._read:
            self._stats.unsent[action.key] = self._read[action.key][0]
        self._mirror.journal.problems.add([problem], self._stats.pass_id)
        self._stats.problems[problem.kind] += 1
        self._stats.done["failed"] += 1
        self._stats.tables.plan.set_outcome(self._seqs[action], action.kind, "failed")
        self._mirror.on_action(ActionEvent(action.kind, action.key, action.reason, "failed"))
        self._mirror.history.add(action, self._mirror.now(), "failed", f"{problem.kind}: {problem.message}")
        why = {"reason": action.reason, "kind": problem.kind, "error": problem.message}
        log.warning(_FAILED[action.kind], mirror=self._mirror.name, key=shown(action.key), **why, **fields)

    def _finish(self, action: Put | Delete, **fields: object) -> None:
        self._mirror.queue.clear(action.key)
        if isinstance(action, Put):
            self._mirror.queue.restart_settling(action.key, self._mirror.now())
        self._stats.done[action.kind] += 1
        self._stats.tables.plan.set_outcome(self._seqs[action], action.kind, "done")
        size = {"bytes": action.size} if isinstance(action, Put) else {}
        self._mirror.on_action(ActionEvent(action.kind, action.key, action.reason, "done", size.get("bytes", 0)))
        names = {"mirror": self._mirror.name, "key": shown(action.key), "reason": action.reason}
        log.log(self._throttle.level(action.kind), _DONE[action.kind], **names, **size, **fields)
