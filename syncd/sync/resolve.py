"""From a triple to a decision: fill in checksums, ask the target what the table asks for, heed what was refused."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from syncd.core.errors import DiskRetry, FileChanged, Halt, Park, Retry, Unreachable
from syncd.core.evidence import with_evidence
from syncd.core.index_errors import index_problem, unindexable
from syncd.core.keys import shown
from syncd.core.model import Action, Adopt, Content, Delete, Entry, Excluded, Forget, Item, Problem, Put
from syncd.core.plan import Ask, Decision, decide, entry_of, has_other_prefix, removal
from syncd.core.unexpected import unexpected_error
from syncd.sync.mirror import Mirror
from syncd.sync.observe import Triple, Wide, too_many
from syncd.sync.ownership import is_replaced_by_other, mark_other_writers
from syncd.sync.replacements import replacements_of
from syncd.targets.base import each

_AT_ONCE = 8
"""Keys asked about at once; to verify one may take its whole content into memory."""
_ROUNDS = 5
"""Questions per key: a look first, confirm, verify and their sequels; more would be a table that does not end."""


class Resolved(NamedTuple):
    """The decision about a key. again: the file is changing right now, so the next pass looks at it."""

    triple: Triple
    decision: Action | Problem | None
    again: bool = False
    extra: tuple[Delete, ...] = ()


class Resolver:
    """Decides blocks of triples for one pass. `files_read` counts the files whose bytes had to be read.

    everything: the pass looks at the whole folder, not at what hints named.
    """

    def __init__(self, mirror: Mirror, *, full: bool, delete_excluded: bool, everything: bool = True) -> None:
        self._mirror = mirror
        self._full = full
        self._delete_excluded = delete_excluded
        self._everything = everything
        self.files_read = 0
        self._asked = 0
        self._awaiting: set[str] = set()

    async def block(self, triples: list[Triple]) -> list[Resolved]:
        """Decide every triple of a block; questions to the target are asked side by side."""
        if not triples:
            return []
        keys = [triple.key for triple in triples]
        parked = self._mirror.journal.problems.parked(min(keys), max(keys))
        triples, changing = await self._with_checksums(
            mark_other_writers(self._mirror, triples, delete_excluded=self._delete_excluded), parked.keys()
        )
        self._awaiting = self._with_heirs(triples)
        resolved: list[Resolved] = [Resolved(triple, None) for triple in triples]

        async def one(place: int) -> None:
            found = await self._one(triples[place], changing)
            resolved[place] = self._heed_refusal(found, parked.get(found.triple.key))

        open_places = []
        for place, triple in enumerate(triples):
            if triple.key in changing or not self._in_step(triple):
                open_places.append(place)
            elif triple.others:
                resolved[place] = Resolved(triple, None, extra=self._duplicates(triple))
        await each(open_places, one, _AT_ONCE)
        if self._mirror.target.limits.renew_s is None:
            return resolved
        return [self._heed_refusal(self._renewed(found), parked.get(found.triple.key)) for found in resolved]

    def _renewed(self, resolved: Resolved) -> Resolved:
        """Put again what is in step and about to expire."""
        triple, renew_s = resolved.triple, self._mirror.target.limits.renew_s or 0.0
        local, record = triple.local, triple.record
        if resolved.decision or resolved.again or record is None or not isinstance(local, Item):
            return resolved
        if abs(self._mirror.now() - record.written_at) < renew_s:
            return resolved
        put = Put(triple.key, "missing", local.path, local.size, record.ref)
        return resolved._replace(decision=put)

    def _in_step(self, triple: Triple) -> bool:
        """True if there is nothing to do or to ask, which is all there is to say of most keys of most passes."""
        if triple.record and self._may_lag(triple.record.written_at):
            return False
        return decide(triple.local, triple.record, triple.entry, self._mirror.policy, triple.seen) is None

    async def _with_checksums(
        self, triples: list[Triple], parked: Iterable[str]
    ) -> tuple[list[Triple], frozenset[str]]:
        refused = set(parked)
        items = [
            triple.local
            for triple in triples
            if isinstance(triple.local, Item)
            and triple.local.checksum is None
            and (triple.record or triple.entry or triple.key in refused)
        ]
        found: dict[str, Item | Problem] = {} if self._full else dict(self._mirror.files.fill(items))
        fresh, changing = await self._read([item for item in items if item.key not in found])
        found |= fresh
        return [t._replace(local=found[t.key]) if t.key in found else t for t in triples], changing

    async def _read(self, items: list[Item]) -> tuple[dict[str, Item | Problem], frozenset[str]]:
        """Hash files in a thread; return what they are now, and the keys of those that would not hold still."""
        if not items:
            return {}, frozenset()
        tree = self._mirror.tree
        allow_changing = frozenset(item.key for item in items if self._mirror.settle_expired(item.key))
        found: dict[str, Item | Problem] = {}
        changing: set[str] = set()
        seen = []

        def work() -> None:
            for item in items:
                try:
                    content, stat = tree.read(item.path, allow_changing=item.key in allow_changing)
                except FileChanged:
                    changing.add(item.key)
                except (Park, DiskRetry) as error:
                    found[item.key] = Problem(item.key, error.kind, str(error))
                except Exception as error:  # noqa: BLE001 - what it is stands in the log
                    found[item.key] = Problem(item.key, "failed", str(unexpected_error(error, item.key)))
                else:
                    found[item.key] = item._replace(size=stat.st_size, checksum=content.checksum)
                    if item.key not in allow_changing:
                        seen.append((item.key, stat, content.checksum))

        await asyncio.to_thread(work)
        self.files_read += len(items)
        self._mirror.files.store(seen, time.time_ns())
        self._mark_twins({key: (stat.st_ino, checksum) for key, stat, checksum in seen if stat.st_nlink > 1})
        return found, frozenset(changing)

    def _mark_twins(self, read: Mapping[str, tuple[int, str]]) -> None:
        """Have the other names of changed files looked at: the kernel tells of the name that was written to only."""
        if self._everything or not read:
            return
        mirror, now = self._mirror, dict(read.values())
        told = [
            (key, False)
            for key, inode in mirror.files.twins(now)
            if key not in read and (record := mirror.journal.get(key)) and record.checksum != now[inode]
        ]
        mirror.queue.mark(told, mirror.now())

    async def _one(self, triple: Triple, changing: frozenset[str]) -> Resolved:
        if triple.key in changing:
            return Resolved(triple, None, again=True)
        try:
            triple, decision = await self._decide(triple)
        except (Halt, Unreachable, Wide):
            raise
        except FileChanged:
            return Resolved(triple, None, again=True)
        except Retry as error:
            self._mirror.try_later(triple.key, error.after_s)
            return Resolved(triple, Problem(triple.key, "failed", str(error)))
        except Park as error:
            return Resolved(triple, Problem(triple.key, error.kind, str(error)))
        except Exception as error:  # noqa: BLE001 - what it is stands in the log
            problem = Problem(triple.key, "failed", str(unexpected_error(error, triple.key)))
            self._mirror.try_later(triple.key, None)
            return Resolved(triple, problem)
        if isinstance(decision, (Delete, Forget)):
            return await self._look_twice(triple, decision)
        return Resolved(triple, decision, extra=self._duplicates(triple))

    async def _decide(self, triple: Triple) -> tuple[Triple, Action | Problem | None]:
        """Ask the table, and the target what the table asks."""
        asked: set[str] = set()
        if triple.seen == "listing" and self._trusted(triple):
            triple = self._as_recorded(triple)
        for _ in range(_ROUNDS):
            decision: Decision = decide(triple.local, triple.record, triple.entry, self._mirror.policy, triple.seen)
            if self._unseen(triple, decision):
                triple = await self._look_first(triple)
                continue
            if not isinstance(decision, Ask):
                if "verify" in asked and triple.record is None and isinstance(decision, (Adopt, Put)):
                    decision = replace(decision, reason="unverified")
                return triple, decision
            asked.add(decision.question)
            triple = await (self._confirm(triple) if decision.question == "confirm" else self._verify(triple))
        raise AssertionError(f"no decision after {_ROUNDS} questions: {triple}")

    def _trusted(self, triple: Triple) -> bool:
        """True if our write is so young that what the remote shows may predate it, and nothing speaks against it."""
        return bool(
            triple.record and self._may_lag(triple.record.written_at) and not is_replaced_by_other(self._mirror, triple)
        )

    def _as_recorded(self, triple: Triple) -> Triple:
        entry = entry_of(triple.record, self._mirror.policy.owner) if triple.record else None
        return triple._replace(entry=entry, seen="key")

    def _unseen(self, triple: Triple, decision: Decision) -> bool:
        """True if only the journal speaks of an entry that is to go and that others can have written over."""
        if triple.seen != "journal" or triple.entry is None or self._mirror.target.limits.page is None:
            return False
        return isinstance(decision, Put) or (isinstance(decision, Delete) and decision.ref not in self._awaiting)

    def _with_heirs(self, triples: list[Triple]) -> set[str]:
        """The refs of entries that wait for their heirs if they are to go: they do not go yet."""
        policy = self._mirror.policy
        gone = [each for each in triples if each.seen == "journal" and each.local is None and each.entry]
        deletes = [removal(each.entry, "stale", policy, each.record) for each in gone if each.entry]
        found = replacements_of(self._mirror.db, self._mirror.name, deletes) if deletes else {}
        return {delete.ref for delete in found}

    async def _look_first(self, triple: Triple) -> Triple:
        """Ask for an entry before it is written over or deleted. Raises Wide if a listing would cost less."""
        self._asked += 1
        if too_many(self._mirror, self._asked):
            raise Wide
        there = await self._confirm(triple)
        return self._as_recorded(triple) if self._trusted(there) else there

    async def _confirm(self, triple: Triple) -> Triple:
        entry = await self._mirror.target.confirm(triple.key, triple.record.ref if triple.record else None)
        if entry and self._may_lag(self._mirror.journal.tombstones.deleted_at(entry.ref)):
            entry = None
        local = triple.local
        if entry and isinstance(local, Item) and local.checksum is None:
            fresh, changing = await self._read([local])
            if changing:
                raise FileChanged(triple.key)
            local = fresh[triple.key]
        alone = triple._replace(entry=entry, local=local, seen="key", others=())
        # What is there besides was listed, or is remembered as ours.
        return mark_other_writers(self._mirror, [alone], delete_excluded=self._delete_excluded)[0]._replace(
            others=triple.others
        )

    def _may_lag(self, changed_at: float | None) -> bool:
        """True if nothing that can be asked is sure to know of our change of that time."""
        limits = self._mirror.target.limits
        return limits.reads_lag and changed_at is not None and abs(self._mirror.now() - changed_at) <= limits.lag_s

    async def _verify(self, triple: Triple) -> Triple:
        entry = triple.entry
        if entry is None or not isinstance(triple.local, Item):
            raise AssertionError(f"nothing to verify: {triple}")
        content = await self._content(triple.local)
        checksum = await self._mirror.target.checksum(entry, content)
        if checksum:
            return triple._replace(entry=entry._replace(checksum=checksum), seen="key")
        # A listing that lags showed an entry that is gone: what took its place must be asked for.
        there = await self._confirm(triple)
        return there._replace(entry=None) if there.entry and there.entry.ref == entry.ref else there

    async def _content(self, item: Item) -> Content:
        self.files_read += 1
        allow_changing = self._mirror.settle_expired(item.key)
        content, _ = await asyncio.to_thread(self._mirror.tree.read, item.path, allow_changing=allow_changing)
        return content

    async def _is_mirrored(self, entry: Entry) -> bool:
        """Whether the file is there that an earlier setting wrote this entry for, under another key prefix."""
        if not has_other_prefix(entry, self._mirror.policy) or self._delete_excluded:
            return False
        prefix, before = self._mirror.policy.prefix, entry.prefix or ""
        key = prefix + entry.key.removeprefix(before)
        return await asyncio.to_thread(self._mirror.tree.look, key) is not None

    async def _look_twice(self, triple: Triple, decision: Delete | Forget) -> Resolved:
        """An absent file may be one that the rules leave out, or one that came after the walk went by."""
        tree = self._mirror.tree
        if triple.entry and await self._is_mirrored(triple.entry):
            return Resolved(triple, None)
        local = await asyncio.to_thread(tree.look, triple.key)
        if isinstance(local, Excluded):
            # What the rules leave out is said with the answer: it is no file that is gone.
            triple = triple._replace(local=local)
            return Resolved(triple, self._proven(triple, decision) if self._delete_excluded else None)
        if isinstance(local, Problem):
            # The problem of a directory that is unreadable or closed is reported once, under its own key.
            told = (local.kind == "unreadable" and not tree.complete) or local.key != shown(triple.key)
            return Resolved(triple._replace(local=local), None if told else local)
        if local is not None:
            return Resolved(triple, None, again=True)
        return Resolved(triple, self._proven(triple, decision), extra=self._duplicates(triple))

    def _proven(self, triple: Triple, decision: Delete | Forget) -> Delete | Forget:
        if isinstance(decision, Forget):
            return decision
        return with_evidence(decision, triple.local, triple.entry, everything=self._everything)

    def _duplicates(self, triple: Triple) -> tuple[Delete, ...]:
        """Further entries of ours under the same key go; those of anybody else stay, but for a takeover of the key."""
        policy = self._mirror.policy
        if isinstance(triple.local, (Problem, Excluded)):
            return ()
        others = triple.others
        if policy.prune == "never":
            # What a put has left behind is replaced, not pruned.
            left = self._mirror.superseded.of([triple.key]).get(triple.key, ()) if others else ()
            others = [entry for entry in others if entry.ref in {each.ref for each in left}]
        return tuple(
            with_evidence(
                removal(entry, "orphan", policy),
                triple.local,
                entry,
                everything=self._everything,
                kept=triple.entry.ref if triple.entry else None,
            )
            for entry in others
            if (entry.owner == policy.owner and not entry.another)
            or (policy.takeover and isinstance(triple.local, Item))
        )

    @staticmethod
    def _heed_refusal(resolved: Resolved, parked: tuple[str, Problem] | None) -> Resolved:
        local = resolved.triple.local
        if not isinstance(resolved.decision, Put) or not isinstance(local, Item):
            return resolved
        if parked and local.checksum == parked[0]:
            return resolved._replace(decision=parked[1])
        record = resolved.triple.record
        if record and unindexable(record, local.checksum):
            return resolved._replace(decision=index_problem(record.key, record.error, record.why))
        return resolved
