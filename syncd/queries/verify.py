"""verify: compares local with remote by the plan of a dry run and, on request, by content. Changes nothing.

On request it also tests the search of the target: it asks questions and looks for the expected files among the hits.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from syncd.core.errors import EXIT_DIFFERENT, EXIT_OK, ConfigError, FileChanged, Halt, Park, SyncdError, Unreachable
from syncd.core.model import (
    HARMLESS,
    ON_THE_WAY,
    STORED_NOT_INDEXED,
    Action,
    Delete,
    Entry,
    Excluded,
    Item,
    Local,
    Problem,
    Put,
    Record,
)
from syncd.sync import once
from syncd.sync.mirror import Mirror, OnProgress, PassOptions, Result
from syncd.sync.observe import changed
from syncd.targets.base import Hit, Indexed, searchable

MISSING = frozenset({"new", "missing"})
"""Reasons of a put for a key that the remote does not have."""
NO_DIFFERENCE = HARMLESS | STORED_NOT_INDEXED
"""Problem kinds that are no difference: files that are never mirrored, and entries that are stored but not indexed."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One key that is not in step. difference: missing, changed, extra, foreign, changing, or a problem's kind."""

    key: str
    difference: str
    message: str


@dataclass(frozen=True, slots=True)
class Question:
    """A query and the key that should be among its hits."""

    query: str
    key: str


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """The answer to a question.

    rank: the place of the first hit with the key, from 1; None if there is none. why: the reason if it was not found.
    """

    question: Question
    hits: Sequence[Hit]
    rank: int | None
    why: str = ""

    @property
    def score(self) -> float | None:
        """The score of the first hit with the key."""
        return None if self.rank is None else self.hits[self.rank - 1].score


@dataclass(slots=True)
class Verdict:
    """The result of a comparison.

    files: the target keeps files, so that "deep" compares bytes. checked: the number of compared keys. error: the error
    that stopped it. answers: the answers to the questions. compared: False if only questions were asked.
    """

    deep: bool
    files: bool = True
    checked: int = 0
    differences: list[Difference] = field(default_factory=list)
    error: SyncdError | None = None
    answers: list[SearchAnswer] = field(default_factory=list)
    compared: bool = True

    @property
    def exit_code(self) -> int:
        """The contract's code for this mirror."""
        if self.error:
            return self.error.exit_code
        unfound = any(answer.rank is None for answer in self.answers)
        return EXIT_DIFFERENT if self.differences or unfound else EXIT_OK


async def verify(mirror: Mirror, on_progress: OnProgress, *, deep: bool = False) -> Verdict:
    """Compare the folder of a mirror with its target. deep: read every file and download every entry of this mirror.

    The mirror must come from a read-only session, which writes to its own copy of the state only.
    """
    verdict, report = Verdict(deep, mirror.target.limits.keeps_files), once.Report()
    await once.run(mirror, PassOptions(dry_run=True, full=deep, list_all=True), on_progress, report)
    if report.error or not report.results:
        verdict.error = report.error
        return verdict
    result = report.results[0]
    found = verdict.differences
    for action, _ in result.tables.plan.actions():
        if difference := _of_action(action):
            found.append(difference)
    problems = [problem for problem in report.problems(mirror) if problem.kind not in NO_DIFFERENCE]
    found += [Difference(problem.key, problem.kind, problem.message) for problem in problems]
    planned = result.tables.plan.counts
    verdict.checked = result.unchanged + planned["put"] + planned["adopt"] + planned["delete"] + len(problems)
    if result.changed_during_read:
        why = f"{result.changed_during_read} files changed while they were read and were not compared; run verify again"
        found.append(Difference("", "changing", why))
    if deep:
        try:
            found += [
                difference async for difference in _deep(mirror, result, {difference.key for difference in found})
            ]
        except SyncdError as error:
            verdict.error = error
    verdict.differences.sort(key=lambda difference: difference.key)
    return verdict


def _of_action(action: Action) -> Difference | None:
    if isinstance(action, Put) and action.reason in MISSING:
        return Difference(action.key, "missing", "the file is not in the target")
    if isinstance(action, Put):
        return Difference(action.key, "changed", "the target holds other content than the file")
    if isinstance(action, Delete):
        return Difference(action.key, "extra", "the target holds an entry that has no file")
    return None


async def _deep(mirror: Mirror, result: Result, known: set[str]) -> AsyncIterator[Difference]:
    """Yield the entries of this mirror whose content differs from their file. known: keys to skip."""
    async for block in changed(mirror, result.tables, "listing", full=True):
        pairs: dict[str, tuple[Item, Entry]] = {}
        for observed in block:
            # If the listing lags, the entry of our own record is downloaded instead.
            entry = observed.entry or (observed.record.entry(mirror.policy.owner) if observed.record else None)
            if isinstance(observed.local, Item) and entry and observed.key not in known:
                pairs[observed.key] = observed.local, entry
        async for entry, checksum in _checksums(mirror, [entry for _, entry in pairs.values()]):
            item = pairs[entry.key][0]
            if checksum is None:
                yield Difference(entry.key, "missing", "the target listed it, but does not have it")
            elif isinstance(checksum, SyncdError):
                yield Difference(entry.key, "failed", f"it cannot be downloaded: {checksum}")
            elif difference := await _compare(mirror, item, checksum):
                yield difference


async def _checksums(mirror: Mirror, entries: list[Entry]) -> AsyncIterator[tuple[Entry, str | SyncdError | None]]:
    """Yield the checksum of each entry: of its bytes, or from its metadata if the target keeps no bytes."""
    if mirror.target.limits.keeps_files:
        async for entry, data in mirror.target.fetch(entries):
            yield entry, hashlib.sha256(data).hexdigest() if isinstance(data, bytes) else data
        return
    for entry in entries:
        try:
            yield entry, await mirror.target.checksum(entry, None)
        except (Halt, Unreachable):
            raise
        except SyncdError as error:
            yield entry, error


async def _compare(mirror: Mirror, item: Item, checksum: str) -> Difference | None:
    try:
        content, _ = await asyncio.to_thread(mirror.tree.read, item.path)
    except FileChanged:
        return Difference(item.key, "changing", "the file changed while it was compared; run verify again")
    except Park as error:
        return Difference(item.key, error.kind, str(error))
    if checksum == content.checksum:
        return None
    why = "the target holds other content than the file"
    record, limits = mirror.journal.get(item.key), mirror.target.limits
    if record and limits.reads_lag and mirror.now() <= record.written_at + limits.lag_s:
        why += f"; it was written less than {limits.lag_s:.0f} s ago and may not be readable yet, so verify again"
    return Difference(item.key, "changed", why)


# -- the search


async def ask_questions(mirror: Mirror, questions: Sequence[Question], top: int, verdict: Verdict) -> None:
    """Ask the target of a mirror for at most `top` hits of each query, and add the answers to the verdict.

    Raises ConfigError if the target has no search.
    """
    target = searchable(mirror.target)
    try:
        for question in questions:
            hits = list(await target.search(question.query, top))[:top]
            rank = next((place for place, hit in enumerate(hits, 1) if hit.key == question.key), None)
            why = "" if rank else await _why(mirror, question.key)
            verdict.answers.append(SearchAnswer(question, hits, rank, why))
    except ConfigError:
        raise
    except SyncdError as error:
        verdict.error = error


async def _why(mirror: Mirror, key: str) -> str:
    local = await asyncio.to_thread(mirror.tree.look, key)
    if isinstance(local, Problem):
        return f"{local.kind}: {local.message}"
    record = mirror.journal.get(key)
    if record is None or not isinstance(local, Item):
        return _unsent(mirror, key, local, record)
    if trouble := await _index_trouble(mirror, record):
        return trouble
    if await _changed(mirror, local, record):
        return "it has changed since it was sent; run: syncd reconcile"
    return "it is in the index; the search ranks other text higher"


async def _index_trouble(mirror: Mirror, record: Record) -> str | None:
    """Return why an entry is not in the index, None if it is. Asks the target unless the record says completed."""
    status, error = record.status, record.error
    target = mirror.target
    if status not in (None, "completed") and isinstance(target, Indexed):
        shown = await target.statuses(frozenset({record.ref}))
        entry = shown.get(record.ref)
        if record.ref in shown and entry is None:
            return "it was uploaded, but the target does not have it any more; run: syncd reconcile"
        status, error = (entry.status, entry.error) if entry else (status, error)
    if status == "error":
        return f"it could not be indexed ({error or 'no reason given'}); try again with: syncd retry"
    if status in ON_THE_WAY:
        return f"it is uploaded, and still on its way into the index ({status})"
    return "the target took it, but skipped it when indexing" if status == "skipped" else None


def _unsent(mirror: Mirror, key: str, local: Local, record: Record | None) -> str:
    if isinstance(local, Excluded):
        return f"left out by {local.rule}"
    if local is None:
        return "there is no such file" + ("; the next pass removes its entry" if record else "")
    problem = next((problem for problem in mirror.journal.problems.all() if problem.key == key), None)
    return f"{problem.kind}: {problem.message}" if problem else "it was never uploaded; run: syncd reconcile"


async def _changed(mirror: Mirror, item: Item, record: Record) -> bool:
    try:
        content, _ = await asyncio.to_thread(mirror.tree.read, item.path)
    except (FileChanged, Park):
        return True
    return content.checksum != record.checksum
