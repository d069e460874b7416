"""verify: compares local with remote by the plan of a dry run and, on request, by content. Changes nothing."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from syncd.core.errors import EXIT_DIFFERENT, EXIT_OK, FileChanged, Halt, Park, SyncdError, Unreachable, most_serious
from syncd.core.model import HARMLESS, STORED_NOT_INDEXED, Action, Delete, Entry, Item, Put
from syncd.core.names import same_source
from syncd.core.plain_text import counted
from syncd.queries.retrieval import Measurement
from syncd.sync import once
from syncd.sync.mirror import Mirror, OnProgress, PassOptions, Result
from syncd.sync.observe import changed

MISSING = frozenset({"new", "missing"})
"""Reasons of a put for a key that the remote does not have."""
NO_DIFFERENCE = HARMLESS | STORED_NOT_INDEXED
"""Problem kinds that are no difference: files that are never mirrored, and entries that are stored, but not indexed."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One key that is not in step. difference: missing, changed, extra, foreign, changing, or a problem's kind."""

    key: str
    difference: str
    message: str


@dataclass(slots=True)
class Verdict:
    """The result of a comparison.

    files: whether the target keeps files, so that "deep" compares bytes. checked: the number of compared keys.
    error: the error that stopped the comparison. search: the answers to the questions. compared: whether the folder was
    compared; False if only questions were asked.
    """

    deep: bool
    files: bool = True
    checked: int = 0
    differences: list[Difference] = field(default_factory=list)
    error: SyncdError | None = None
    search: Measurement | None = None
    compared: bool = True

    @property
    def exit_code(self) -> int:
        """The exit code for this mirror."""
        codes = self.search.exit_codes if self.search else set()
        codes |= {self.error.exit_code} if self.error else {EXIT_DIFFERENT} if self.differences else {EXIT_OK}
        return most_serious(codes)


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
        changed = counted(result.changed_during_read, "file")
        why = f"{changed} changed during the read, so the comparison leaves them out; run verify again"
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
        pairs: dict[str, tuple[Item, list[Entry]]] = {}
        for observed in block:
            own = observed.record.entry(mirror.policy.owner) if observed.record else None
            # If the listing lags, it lacks the entry of our own record, or has the entry that this one replaced.
            entries = [entry for entry in (observed.entry, own) if entry]
            if isinstance(observed.local, Item) and entries and observed.key not in known:
                pairs[observed.key] = observed.local, entries if entries[0].ref != entries[-1].ref else entries[:1]
        async for item, entry, checksum in _held(mirror, pairs):
            if checksum is None:
                yield Difference(item.key, "missing", "the target listed it, but does not have it")
            elif isinstance(checksum, SyncdError):
                yield Difference(item.key, "failed", f"it cannot be downloaded: {checksum}")
            elif difference := await _compare(mirror, item, entry, checksum):
                yield difference


async def _held(
    mirror: Mirror, pairs: Mapping[str, tuple[Item, list[Entry]]]
) -> AsyncIterator[tuple[Item, Entry, str | SyncdError | None]]:
    """Yield the first entry of each key that the target has, with its checksum, or the last one if it has none."""
    wanted = {key: entries[0] for key, (_, entries) in pairs.items()}
    while wanted:
        following: dict[str, Entry] = {}
        async for found, checksum in _checksums(mirror, list(wanted.values())):
            item, entries = pairs[found.key]
            if checksum is None and wanted[found.key] is not entries[-1]:
                following[found.key] = entries[-1]
            else:
                yield item, wanted[found.key], checksum
        wanted = following


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


async def _compare(mirror: Mirror, item: Item, entry: Entry, checksum: str) -> Difference | None:
    try:
        own = await asyncio.to_thread(_checksum_sent, mirror, item, entry)
    except FileChanged:
        return Difference(item.key, "changing", "the file changed while it was compared; run verify again")
    except Park as error:
        return Difference(item.key, error.kind, str(error))
    if own is None or same_source(checksum, own):
        return None
    why = "the target holds other content than the file"
    record, limits = mirror.journal.get(item.key), mirror.target.limits
    if record and limits.reads_lag and mirror.now() <= record.written_at + limits.lag_s:
        why += f"; it was written less than {limits.lag_s:.0f} s ago and may not be readable yet, so verify again"
    return Difference(item.key, "changed", why)


def _checksum_sent(mirror: Mirror, item: Item, entry: Entry) -> str | None:
    """Return the checksum of a file that the target holds if it is in step. Converts the file if necessary.

    None: another version of the converter made the text, so that only the mark of its source can be compared.
    """
    content, _ = mirror.tree.read(item.path)
    limits = mirror.target.limits
    if not limits.keeps_files:
        return content.checksum
    known = entry.checksum
    if known is not None and known != content.checksum and same_source(known, content.checksum):
        return None
    return hashlib.sha256(mirror.convert(item.key, content, limits).data).hexdigest()
