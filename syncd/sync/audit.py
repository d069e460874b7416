"""The remote side of a full pass: a listing, or the journal if an audit finds that the journal equals the remote.

The audit makes a few requests. It needs a target that shows how many entries it has and which entries changed last,
such as AI Search. docs/decisions/0018-cheap-audit.md describes its proof, and what it cannot notice.
"""

from dataclasses import asdict, dataclass, replace
from typing import Literal

import structlog

from syncd.core.errors import TargetMissing
from syncd.core.model import ON_THE_WAY, IndexStatus
from syncd.core.plan import has_other_prefix, same_entry
from syncd.state.db import transaction
from syncd.state.pass_tables import PassTables
from syncd.sync import observe
from syncd.sync.index import store_status
from syncd.sync.mirror import Mirror, Pass
from syncd.targets.base import Newest, Ordered

log = structlog.get_logger()

PAGES = 3
"""Maximum pages of newest entries in an audit. A target with no more pages is listed, which costs the same."""
SETTLED_S = 3600.0
"""An indexed entry that was written this many seconds before the last audit has not changed since that audit. The
newest changes come first, so no entry below it in the listing has changed either."""
UNSENT = ("foreign", "refused", "failed")
"""Problem kinds of keys that need one request each if the target is not listed."""

RowKind = Literal["settled", "ours", "other", "added", "unexpected"]
"""A row of the newest entries.

ours: as recorded. settled: as recorded, and unchanged since the last audit. other: an old entry without a record.
added: an entry without a record that another writer has created since the last audit. unexpected: any other row.
"""


@dataclass(frozen=True, slots=True)
class Baseline:
    """The numbers of the last full listing, updated by each audit since.

    listed: the time of the last full listing. at: the time of the last listing or audit. Both in seconds since the
    epoch.
    others: entries of the remote that are not in the journal.
    newest: the creation of the newest entry, by the clock of the remote; None if the remote does not report it.
    """

    listed: float
    at: float
    others: int
    newest: float | None


@dataclass(slots=True)
class _Findings:
    """The findings about the newest entries.

    total: entries of the remote. added, others, settled: rows of these kinds, see `RowKind`. unfinished: whether a row
    is not indexed yet. newest: see `Baseline`.
    """

    total: int | None = None
    added: int = 0
    others: bool = False
    settled: bool = False
    unfinished: bool = False
    newest: float | None = None


async def fill_remote(current: Pass, *, listing: bool) -> None:
    """Fill the remote table of a full pass: from the journal if an audit finds nothing to list, else by a listing.

    listing: always list.
    """
    mirror, result = current.mirror, current.result
    result.audited, result.unsettled = False, 0
    try:
        why = "a full listing was requested" if listing else await why_list(mirror)
    except TargetMissing:
        why = "the target is missing"
    if why is None:
        result.audited, result.unsettled = True, mirror.journal.index.unfinished()
        observe.fill_from_journal(mirror, result.tables, observe.ROOT)
        return
    log.debug("audit.listing", mirror=mirror.name, why=why)
    invalidate(mirror)
    try:
        await observe.fill_from_listing(current)
    except TargetMissing:
        if not mirror.settings.create:
            raise
        # A dry run plans against an empty listing, as if the target had just been created.
        if not current.options.dry_run:
            await mirror.target.create()
            await observe.fill_from_listing(current)


async def why_list(mirror: Mirror) -> str | None:
    """Audit the remote. Return the reason for a full listing, None if the journal can take its place.

    With None, the journal also has the index status that the remote shows. Raises the errors of the target.
    """
    now = mirror.now()
    base = baseline(mirror)
    if base is None:
        return "there is no earlier listing to compare with"
    if why := _why_not_audit(mirror, base, now):
        return why
    target = mirror.target
    if not isinstance(target, Ordered):
        return "the target does not show which entries changed last"
    findings = await _read_newest(mirror, target, base)
    if isinstance(findings, str):
        return findings
    if findings.total != mirror.journal.count() + base.others + findings.added:
        return "the number of entries differs"
    counts = await target.counts()
    if counts is None or sum(counts.values()) < findings.total:
        return "the numbers by index status are unknown"
    if not _store_counts(mirror, counts, unfinished=findings.unfinished):
        return "the numbers by index status differ"
    base = replace(base, at=now, others=base.others + findings.added, newest=findings.newest)
    mirror.meta.set("audit", asdict(base))
    return None


def _why_not_audit(mirror: Mirror, base: Baseline, now: float) -> str | None:
    """Return why everything is listed without an audit, None if an audit may take place."""
    # After a clock was set back, the age of the listing is unknown.
    if not (0 <= now - base.listed < mirror.settings.audit_interval and base.at <= now):
        return "the last full listing is too old"
    if mirror.policy.takeover or mirror.policy.prune == "all":
        return "the policy needs the entries of others"
    limits = mirror.target.limits
    if mirror.journal.count() <= PAGES * (limits.page or 0):
        return "there are few entries"
    if mirror.journal.tombstones.any_about(now, limits.lag_s):
        return "the remote may not show recent deletes yet"
    problems = mirror.journal.problems.counts()
    if sum(problems.get(kind, 0) for kind in UNSENT) > observe.FEW_KEYS:
        return "too many files would be asked for one by one"
    return None


async def _read_newest(mirror: Mirror, target: Ordered, base: Baseline) -> _Findings | str:
    """Read the newest entries, down to a settled one, and store their index status.

    Return the findings, or the reason for a full listing.
    """
    findings = _Findings(newest=base.newest)
    seen: set[str] = set()
    pages = 0
    async for page in target.newest():
        if page.total is None or findings.total not in (None, page.total):
            return "the number of entries changes right now"
        findings.total = page.total
        rows = [row for row in page.rows if row.entry.ref not in seen]
        seen.update(row.entry.ref for row in rows)
        if why := _judge_all(mirror, rows, base, findings):
            return why
        pages += 1
        if findings.settled:
            return findings
        if pages == PAGES:
            # Only this mirror has changed entries, and all rows so far are as recorded.
            return "others have changed many entries" if findings.others else findings
    return (
        findings if findings.total is not None and len(seen) >= findings.total else "the newest entries end too early"
    )


def _judge_all(mirror: Mirror, rows: list[Newest], base: Baseline, findings: _Findings) -> str | None:
    """Add the rows of a page to the findings. Return the reason for a full listing, None if there is none."""
    with transaction(mirror.db):
        for row in rows:
            kind = _judge(mirror, row, base)
            if kind == "unexpected":
                return f"the entry of {row.entry.key!r} differs from its record"
            findings.added += kind == "added"
            findings.others |= kind in ("added", "other")
            findings.settled |= kind == "settled"
            findings.unfinished |= row.entry.status in ON_THE_WAY
            findings.newest = (
                None if row.created_at is None or findings.newest is None else max(findings.newest, row.created_at)
            )
    return None


def _judge(mirror: Mirror, row: Newest, base: Baseline) -> RowKind:
    """Return the kind of a row. Store the index status of a row that is as recorded."""
    entry, policy = row.entry, mirror.policy
    record = mirror.journal.get(entry.key)
    if record is None:
        # A pass must decide about an entry with our mark, and about a deleted entry that exists again.
        lost = (
            entry.key.startswith(policy.prefix)
            and entry.owner == policy.owner
            and not has_other_prefix(entry, policy)
            and policy.shard.holds(entry.key)
        )
        if (
            lost
            or row.created_at is None
            or base.newest is None
            or mirror.journal.tombstones.deleted_at(entry.ref) is not None
        ):
            return "unexpected"
        return "added" if row.created_at > base.newest else "other"
    agree = same_entry(record, entry) and entry.checksum in (None, record.checksum)
    if not (row.present and agree and entry.owner in (None, policy.owner)):
        return "unexpected"
    store_status(mirror, record, entry, loud=False)
    same = entry.status == record.status == "completed"
    return "settled" if same and record.written_at <= base.at - SETTLED_S else "ours"


def _store_counts(mirror: Mirror, counts: dict[IndexStatus, int], *, unfinished: bool) -> bool:
    """Store the index status that the numbers prove. Return False if they contradict the records."""
    total = sum(counts.values())
    if counts.get("completed", 0) == total and not unfinished:
        # Recent writes are left out, because the numbers may not contain them yet.
        mirror.journal.index.mark_all_completed(mirror.now(), mirror.target.limits.lag_s)
    known = mirror.journal.index.index_counts()
    # If the remote has entries without a record, its numbers cannot be compared.
    whole = sum(known.values()) == total == mirror.journal.count()
    # Entries that are not indexed yet are polled anyway (see sync/index.py).
    if not whole or mirror.journal.index.unfinished():
        return True
    return known == {status: count for status, count in counts.items() if count}


# -- the baseline


def baseline(mirror: Mirror) -> Baseline | None:
    """Return the baseline of the last full listing, None if there is none."""
    kept = mirror.meta.values("audit")
    return Baseline(**kept) if kept else None


def invalidate(mirror: Mirror) -> None:
    """Forget the baseline, so that the next full pass lists everything."""
    mirror.meta.set("audit", None)


def remember(mirror: Mirror, tables: PassTables, started: float) -> None:
    """Store a new baseline after a complete pass with a full listing.

    A baseline needs that each record was written in this pass or agrees with the listing, and that every listed entry
    with our mark has a record. Otherwise the next pass must list again, because this pass left a difference.
    """
    target = mirror.target
    if not (isinstance(target, Ordered) and mirror.settings.audit_interval):
        return
    now = mirror.now()
    summary = tables.remote.summary(mirror.name, mirror.policy.owner, mirror.policy.prefix, started, now)
    unlisted = mirror.journal.count() - mirror.journal.count_written(started, now)
    in_step = summary.known == summary.right and summary.known - summary.fresh == unlisted
    if target.landmark is None or summary.ours or not in_step:
        log.debug("audit.none", mirror=mirror.name, odd=summary.ours, mended=in_step, whole=target.landmark is not None)
        return
    others = target.landmark.rows - tables.remote.hidden - summary.known - summary.deleted
    mirror.meta.set("audit", asdict(Baseline(started, started, others, target.landmark.newest)))
