"""From an observed key to a decision: asks the decision table, and the target where the table has a question."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from syncd.core.errors import FileChanged, Halt, Park, Retry, Unreachable
from syncd.core.evidence import with_evidence
from syncd.core.index_errors import index_problem, unindexable
from syncd.core.keys import shown
from syncd.core.model import Action, Adopt, Delete, Entry, Excluded, Forget, Item, Problem, Put
from syncd.core.plan import Ask, Decision, decide, has_other_prefix, removal
from syncd.core.unexpected import unexpected_error
from syncd.sync.hashing import FileReader
from syncd.sync.mirror import Mirror
from syncd.sync.observe import Observed, ScopeTooLarge
from syncd.sync.ownership import mark_other_writers
from syncd.sync.questions import Questions
from syncd.sync.replacements import replacements_of
from syncd.targets.base import for_each

_CONCURRENCY = 8
"""Keys that the target is asked about at the same time. Verifying one may need its whole content in memory."""
_ROUNDS = 5
"""Decisions for one key: the first one, and one after each answer. The table asks at most four questions."""


class Resolved(NamedTuple):
    """The decision for a key.

    changed_during_read: the file is changing right now, so the next pass looks at it.
    extra: the deletes of further entries under the key.
    """

    observed: Observed
    decision: Action | Problem | None
    changed_during_read: bool = False
    extra: tuple[Delete, ...] = ()


class Resolver:
    """Decides the observed keys of one pass.

    everything: the pass covers the whole folder. delete_excluded: a person wants to delete the entries of excluded
    files.
    """

    def __init__(self, mirror: Mirror, *, delete_excluded: bool, everything: bool = True) -> None:
        self._mirror = mirror
        self._delete_excluded = delete_excluded
        self._everything = everything
        self._reader = FileReader(mirror, everything=everything)
        self._questions = Questions(mirror, self._reader, delete_excluded=delete_excluded)

    @property
    def files_read(self) -> int:
        """The number of files that were read."""
        return self._reader.files_read

    async def block(self, block: Sequence[Observed]) -> list[Resolved]:
        """Decide the keys of a block. Questions about different keys are asked at the same time."""
        mirror, keys = self._mirror, [observed.key for observed in block]
        parked = mirror.journal.problems.parked(min(keys), max(keys))
        judged = mark_other_writers(mirror, list(block), delete_excluded=self._delete_excluded)
        judged, changing = await self._reader.add_checksums(judged, parked)
        waiting = _waiting_deletes(mirror, judged)
        resolved = [Resolved(observed, None, changed_during_read=True) for observed in judged]

        async def resolve(place: int) -> None:
            observed = judged[place]
            if observed.key not in changing:
                found = _renew(mirror, await self._resolve(observed, waits=observed.key in waiting))
                resolved[place] = _heed_refusal(found, parked.get(observed.key))

        await for_each(range(len(judged)), resolve, _CONCURRENCY)
        return resolved

    async def _resolve(self, observed: Observed, *, waits: bool) -> Resolved:
        try:
            observed, decision = await self._decide(observed, waits=waits)
        except (Halt, Unreachable, ScopeTooLarge):
            raise
        except FileChanged:
            return Resolved(observed, None, changed_during_read=True)
        except Retry as error:
            self._mirror.try_later(observed.key, error.after_s)
            return Resolved(observed, Problem(observed.key, "failed", str(error)))
        except Park as error:
            return Resolved(observed, Problem(observed.key, error.kind, str(error)))
        except Exception as error:  # noqa: BLE001 - unexpected_error logs it
            problem = Problem(observed.key, "failed", str(unexpected_error(error, observed.key)))
            self._mirror.try_later(observed.key, None)
            return Resolved(observed, problem)
        if isinstance(decision, (Delete, Forget)):
            return await self._look_again(observed, decision)
        return Resolved(observed, decision, extra=self._duplicates(observed))

    async def _decide(self, observed: Observed, *, waits: bool) -> tuple[Observed, Action | Problem | None]:
        """Ask the decision table; while it has a question, ask the target and then the table once more."""
        policy, asked = self._mirror.policy, set()
        if observed.seen == "listing":
            observed = self._questions.prefer_record(observed)
        for _ in range(_ROUNDS):
            decision: Decision = decide(observed.local, observed.record, observed.entry, policy, observed.seen)
            if self._needs_confirmation(observed, decision, waits=waits):
                observed = await self._questions.confirm_first(observed)
            elif isinstance(decision, Ask):
                asked.add(decision.question)
                ask = self._questions.confirm if decision.question == "confirm" else self._questions.verify
                observed = await ask(observed)
            else:
                if "verify" in asked and observed.record is None and isinstance(decision, (Adopt, Put)):
                    decision = replace(decision, reason="unverified")
                return observed, decision
        raise AssertionError(f"no decision after {_ROUNDS} questions: {observed}")

    def _needs_confirmation(self, observed: Observed, decision: Decision, *, waits: bool) -> bool:
        """Return whether an action would replace or delete an entry that only the journal knows.

        Another writer may have changed the entry. A delete that has to wait anyway is confirmed by a later pass.
        """
        if observed.seen != "journal" or observed.entry is None or self._mirror.target.limits.page is None:
            return False
        return isinstance(decision, Put) or (isinstance(decision, Delete) and not waits)

    async def _look_again(self, observed: Observed, decision: Delete | Forget) -> Resolved:
        """Look for an absent file once more: the rules may exclude it, or it may have come after the walk."""
        tree = self._mirror.tree
        if observed.entry and await self._has_file_under_other_prefix(observed.entry):
            return Resolved(observed, None)
        local = await asyncio.to_thread(tree.look, observed.key)
        if isinstance(local, Excluded):
            # The result shows excluded files: they are not absent.
            observed = observed._replace(local=local)
            return Resolved(observed, self._with_evidence(observed, decision) if self._delete_excluded else None)
        if isinstance(local, Problem):
            # The problem of a directory that is unreadable or closed is reported once, under its own key.
            reported = (local.kind == "unreadable" and not tree.complete) or local.key != shown(observed.key)
            return Resolved(observed._replace(local=local), None if reported else local)
        if local is not None:
            return Resolved(observed, None, changed_during_read=True)
        return Resolved(observed, self._with_evidence(observed, decision), extra=self._duplicates(observed))

    async def _has_file_under_other_prefix(self, entry: Entry) -> bool:
        """Return whether an entry that an earlier key prefix of this mirror wrote still has its file."""
        policy = self._mirror.policy
        if not has_other_prefix(entry, policy) or self._delete_excluded:
            return False
        key = policy.prefix + entry.key.removeprefix(entry.prefix or "")
        return await asyncio.to_thread(self._mirror.tree.look, key) is not None

    def _with_evidence(self, observed: Observed, decision: Delete | Forget) -> Delete | Forget:
        if isinstance(decision, Forget):
            return decision
        return with_evidence(decision, observed.local, observed.entry, everything=self._everything)

    def _duplicates(self, observed: Observed) -> tuple[Delete, ...]:
        """Return deletes for further entries under the key: those of this mirror, and all if a takeover puts the file.

        With prune = "never" only superseded entries go: a put replaced them.
        """
        policy, others = self._mirror.policy, observed.others
        if not others or isinstance(observed.local, (Problem, Excluded)):
            return ()
        if policy.prune == "never":
            superseded = {entry.ref for entry in self._mirror.superseded.of([observed.key]).get(observed.key, ())}
            others = [entry for entry in others if entry.ref in superseded]
        takes_over = policy.takeover and isinstance(observed.local, Item)
        kept = observed.entry.ref if observed.entry else None
        return tuple(
            with_evidence(
                removal(entry, "orphan", policy), observed.local, entry, everything=self._everything, kept=kept
            )
            for entry in others
            if takes_over or (entry.owner == policy.owner and not entry.of_other_writer)
        )


def _waiting_deletes(mirror: Mirror, block: Sequence[Observed]) -> set[str]:
    """Return the keys whose delete would wait until a replacement is searchable."""
    gone = [
        removal(each.entry, "stale", mirror.policy, each.record)
        for each in block
        if each.seen == "journal" and each.local is None and each.entry
    ]
    return {delete.key for delete in replacements_of(mirror.db, mirror.name, gone)} if gone else set()


def _renew(mirror: Mirror, resolved: Resolved) -> Resolved:
    """Put a file that is in step again if its entry is about to expire."""
    observed, renew_s = resolved.observed, mirror.target.limits.renew_s
    local, record = observed.local, observed.record
    if (
        renew_s is None
        or resolved.decision
        or resolved.changed_during_read
        or record is None
        or not isinstance(local, Item)
    ):
        return resolved
    if abs(mirror.now() - record.written_at) < renew_s:
        return resolved
    return resolved._replace(decision=Put(observed.key, "missing", local.path, local.size, record.ref))


def _heed_refusal(resolved: Resolved, parked: tuple[str, Problem] | None) -> Resolved:
    """Replace a put by a problem if the remote has refused this content, or cannot index it."""
    local, record = resolved.observed.local, resolved.observed.record
    if not isinstance(resolved.decision, Put) or not isinstance(local, Item):
        return resolved
    if parked and local.checksum == parked[0]:
        return resolved._replace(decision=parked[1])
    if record and unindexable(record, local.checksum):
        return resolved._replace(decision=index_problem(record.key, record.error, record.why))
    return resolved
