"""Turns observed keys into decisions by the decision table, and asks the target if the table has a question.

A question is whether an entry still exists, or which content it has.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from syncd.core.errors import FileChanged, Halt, Park, Retry, Unreachable, unexpected_error
from syncd.core.keys import shown
from syncd.core.model import Action, Adopt, Delete, Entry, Excluded, Forget, Item, Problem, Put, Record
from syncd.core.names import converter_of, remote_name, same_source
from syncd.core.plan import (
    UNKNOWN,
    Ask,
    Claim,
    Decision,
    decide,
    has_other_prefix,
    is_of_another_writer,
    removal,
    with_evidence,
)
from syncd.core.problems import index_problem, unindexable
from syncd.sync.deletes import replacements_of
from syncd.sync.mirror import Mirror, Pass
from syncd.sync.observe import FileReader, Observed, ScopeTooLarge, too_many
from syncd.targets.base import for_each

_CONCURRENCY = 8
"""Maximum keys with a question to the target at a time. A verification may need the whole content in memory."""
_ROUNDS = 5
"""Maximum decisions for one key: the first one, and one after each answer. The table has at most four questions."""


class Resolved(NamedTuple):
    """The decision for a key.

    changed_during_read: whether the file is changing now, so that the next pass must look at it.
    extra: the deletes of further entries under the key.
    """

    observed: Observed
    decision: Action | Problem | None
    changed_during_read: bool = False
    extra: tuple[Delete, ...] = ()


class Resolver:
    """Decides the observed keys of one pass."""

    def __init__(self, current: Pass) -> None:
        self._mirror = current.mirror
        self._delete_excluded = current.options.delete_excluded
        self._everything = current.scope.everything
        self._convert_again = current.options.full
        self._reader = FileReader(current)
        self._questions = Questions(current, self._reader)

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
                resolved[place] = _without_refused_put(found, parked.get(observed.key))

        await for_each(range(len(judged)), resolve, _CONCURRENCY)
        return resolved

    async def _resolve(self, observed: Observed, *, waits: bool) -> Resolved:
        try:
            observed, decision = await self._decide(observed, waits=waits)
        except (Halt, Unreachable, ScopeTooLarge):
            raise
        except FileChanged:
            return Resolved(observed, None, changed_during_read=True)
        except Park as error:
            return Resolved(observed, Problem(observed.key, error.kind, str(error)))
        except Exception as error:  # noqa: BLE001 - unexpected_error logs it
            failure = error if isinstance(error, Retry) else unexpected_error(error, observed.key)
            self._mirror.try_later(observed.key, failure.after_s if isinstance(failure, Retry) else None)
            return Resolved(observed, Problem(observed.key, "failed", str(failure)))
        if isinstance(decision, (Delete, Forget)):
            return await self._look_again(observed, decision)
        return Resolved(observed, decision, extra=self._duplicates(observed))

    async def _decide(self, observed: Observed, *, waits: bool) -> tuple[Observed, Action | Problem | None]:
        """Return the decision of the table. While it has a question, ask the target, and then the table again."""
        policy, was_verified = self._mirror.policy, False
        if observed.seen == "listing":
            observed = self._questions.prefer_record(observed)
        for _ in range(_ROUNDS):
            observed = _as_converted(observed, again=self._convert_again)
            decision: Decision = decide(observed.local, observed.record, observed.entry, policy, observed.seen)
            if self._needs_confirmation(observed, decision, waits=waits):
                observed = await self._questions.confirm_first(observed)
            elif isinstance(decision, Ask):
                was_verified |= decision.question == "verify"
                ask = self._questions.confirm if decision.question == "confirm" else self._questions.verify
                observed = await ask(observed)
            else:
                if was_verified and observed.record is None and isinstance(decision, (Adopt, Put)):
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
        """Look for an absent file again, because the rules may exclude it, or it may have appeared after the walk."""
        tree = self._mirror.tree
        if observed.entry and await self._has_file_under_other_prefix(observed.entry):
            return Resolved(observed, None)
        local = await asyncio.to_thread(tree.look, observed.key)
        if isinstance(local, Excluded):
            # The resolved key gets the exclusion, so that the file does not count as absent.
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
        """Return whether the file of an entry exists that this mirror wrote under an earlier key prefix."""
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
        """Return deletes for further entries of the key: entries of this mirror, or all if a takeover puts the file.

        With prune = "never", only entries that a put has superseded are deleted.
        """
        policy, others = self._mirror.policy, observed.others
        if not others or isinstance(observed.local, (Problem, Excluded)):
            return ()
        if policy.prune == "never":
            superseded = {entry.ref for entry in self._mirror.superseded.of([observed.key]).get(observed.key, ())}
            others = [entry for entry in others if entry.ref in superseded]
        takes_over = policy.takeover and isinstance(observed.local, Item)
        kept = observed.entry.ref if observed.entry else None
        # A file that keeps its first entry loses no content, so these deletes do not count against max_delete.
        deletes = (
            (replace(removal(entry, "orphan", policy), counted=not isinstance(observed.local, Item)), entry)
            for entry in others
            if takes_over or (entry.owner == policy.owner and not entry.of_other_writer)
        )
        return tuple(
            with_evidence(delete, observed.local, entry, everything=self._everything, kept=kept)
            for delete, entry in deletes
        )


def _as_converted(observed: Observed, *, again: bool) -> Observed:
    """Return a file to convert with its recorded checksum, if the source is the same, so that it counts as unchanged.

    A checksum contains the version of the converter. A newer converter alone is no reason to upload a file. again: keep
    the checksum with the present version, so that the file counts as changed. Without a record, the size of the entry
    is left out, because it is not the size of the source.
    """
    local, record, entry = observed.local, observed.record, observed.entry
    if not isinstance(local, Item) or local.checksum is None or converter_of(local.checksum) is None:
        return observed
    if record is None and entry is not None and entry.size is not None:
        observed = observed._replace(entry=entry._replace(size=None))
    known = [held.checksum for held in (entry, record) if held is not None and held.checksum is not None]
    same = None if again else next((checksum for checksum in known if same_source(checksum, local.checksum)), None)
    return observed._replace(local=local._replace(checksum=same)) if same else observed


def _waiting_deletes(mirror: Mirror, block: Sequence[Observed]) -> set[str]:
    """Return the keys whose delete would wait until a replacement is searchable."""
    gone = [
        removal(observed.entry, "stale", mirror.policy, observed.record)
        for observed in block
        if observed.seen == "journal" and observed.local is None and observed.entry
    ]
    return {delete.key for delete in replacements_of(mirror.journal, gone)} if gone else set()


def _renew(mirror: Mirror, resolved: Resolved) -> Resolved:
    """Decide to put a file in step again if its entry is about to expire."""
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


def _without_refused_put(resolved: Resolved, parked: tuple[str, Problem] | None) -> Resolved:
    """Replace a put by a problem if the remote has refused this content, or cannot index it."""
    local, record = resolved.observed.local, resolved.observed.record
    if not isinstance(resolved.decision, Put) or not isinstance(local, Item):
        return resolved
    if parked and local.checksum == parked[0]:
        return resolved._replace(decision=parked[1])
    if record and unindexable(record, local.checksum):
        return resolved._replace(decision=index_problem(record.key, record.error, record.why))
    return resolved


# -- questions to the target


@dataclass(slots=True)
class Questions:
    """The questions of one pass. asked: the questions about entries that would be replaced or deleted."""

    current: Pass
    reader: FileReader
    asked: int = 0

    @property
    def mirror(self) -> Mirror:
        """The mirror."""
        return self.current.mirror

    def prefer_record(self, observed: Observed) -> Observed:
        """Return the recorded entry instead of the listed one, if the listing may predate our own write."""
        return self._as_recorded(observed) if self._is_outdated(observed) else observed

    async def confirm_first(self, observed: Observed) -> Observed:
        """Ask for an entry before it is replaced or deleted. Raises ScopeTooLarge if a listing would cost less."""
        self.asked += 1
        if too_many(self.mirror, self.asked):
            raise ScopeTooLarge
        confirmed = await self.confirm(observed)
        return self._as_recorded(observed) if self._is_outdated(confirmed) else confirmed

    async def confirm(self, observed: Observed) -> Observed:
        """Ask for the entry of a key. Raises FileChanged if its file is changing right now."""
        entry = await self.mirror.target.confirm(observed.key, observed.record.ref if observed.record else None)
        if entry and self._may_lag(self.mirror.journal.tombstones.deleted_at(entry.ref)):
            entry = None
        local = observed.local
        if entry and isinstance(local, Item) and local.checksum is None:
            found, changing = await self.reader.checksums([local])
            if changing:
                raise FileChanged(observed.key)
            local = found[observed.key]
        confirmed = observed._replace(entry=entry, local=local, seen="key", others=())
        # The other entries of the key were listed, or the journal remembers them as ours.
        (judged,) = mark_other_writers(self.mirror, [confirmed], delete_excluded=self.current.options.delete_excluded)
        return judged._replace(others=observed.others)

    async def verify(self, observed: Observed) -> Observed:
        """Ask for the checksum of an entry. Raises FileChanged if its file is changing now."""
        entry = observed.entry
        if entry is None or not isinstance(observed.local, Item):
            raise AssertionError(f"nothing to verify: {observed}")
        content = await self.reader.content(observed.local)
        checksum = await self.mirror.target.checksum(entry, content)
        if checksum:
            return observed._replace(entry=entry._replace(checksum=checksum), seen="key")
        # The listing showed an entry that is gone. Another one may have taken its place.
        confirmed = await self.confirm(observed)
        same = confirmed.entry is not None and confirmed.entry.ref == entry.ref
        return confirmed._replace(entry=None) if same else confirmed

    def _is_outdated(self, observed: Observed) -> bool:
        """Return whether the shown entry may be older than our last write. False if another writer replaced it."""
        record = observed.record
        return (
            record is not None and self._may_lag(record.written_at) and not is_replaced_by_other(self.mirror, observed)
        )

    def _as_recorded(self, observed: Observed) -> Observed:
        entry = observed.record.entry(self.mirror.policy.owner) if observed.record else None
        return observed._replace(entry=entry, seen="key")

    def _may_lag(self, changed_at: float | None) -> bool:
        """Return whether answers of the target may predate our own change of that time."""
        limits = self.mirror.target.limits
        return limits.reads_lag and changed_at is not None and abs(self.mirror.now() - changed_at) <= limits.lag_s


# -- other writers


def mark_other_writers(mirror: Mirror, block: list[Observed], *, delete_excluded: bool) -> list[Observed]:
    """Return the block with `of_other_writer` set in each entry that another writer has put.

    delete_excluded: whether excluded entries are deleted. An entry of an earlier key prefix counts as excluded, and is
    then not marked.
    """
    owner = mirror.policy.owner
    suspects = [
        observed.key
        for observed in block
        if observed.seen != "journal"
        and any(_is_suspect(entry, observed.record, owner) for entry in _entries(observed))
    ]
    if not suspects:
        return block
    claims, complete, keys = mirror.claims.get(suspects), mirror.claims.complete, frozenset(suspects)
    of_other_names = mirror.claims.of_other_names(suspects)

    def marked(observed: Observed, entry: Entry) -> Entry:
        if delete_excluded and has_other_prefix(entry, mirror.policy):
            return entry
        known = claims.get(observed.key, set()) | of_other_names.get(observed.key, set())
        known |= _claims_of_short_name(mirror, entry)
        of_other_writer = is_of_another_writer(observed.record, entry, mirror.policy, known, complete=complete)
        return entry._replace(of_other_writer=of_other_writer)

    return [
        observed._replace(
            entry=marked(observed, observed.entry) if observed.entry else None,
            others=[marked(observed, entry) for entry in observed.others],
        )
        if observed.key in keys
        else observed
        for observed in block
    ]


def is_replaced_by_other(mirror: Mirror, observed: Observed) -> bool:
    """Return whether another writer wrote the entry after our last write.

    False while the outcome of one of our puts is unknown, because the entry may then be our own.
    """
    entry = observed.entry
    if entry is None or not (entry.of_other_writer or entry.owner not in (None, mirror.policy.owner)):
        return False
    return UNKNOWN not in mirror.claims.get([observed.key]).get(observed.key, ())


def _claims_of_short_name(mirror: Mirror, entry: Entry) -> set[Claim]:
    """Return the claim of an entry with a record under its remote name, which may be the short name of a longer key."""
    limits = mirror.target.limits
    name = remote_name(entry.key, limits.max_key_length, limits.max_key_bytes)
    record = mirror.journal.get(name) if name != entry.key else None
    return {(entry.ref, entry.checksum or "")} if record and record.ref == entry.ref else set()


def _entries(observed: Observed) -> Iterable[Entry]:
    return (observed.entry, *observed.others) if observed.entry else observed.others


def _is_suspect(entry: Entry, record: Record | None, owner: str) -> bool:
    """Return whether another writer may have put the entry. False if it is as recorded, or has another owner's mark."""
    if record is not None and record.ref == entry.ref:
        return bool(record.marked and entry.marked is False) or entry.checksum not in (None, record.checksum)
    return entry.owner == owner
