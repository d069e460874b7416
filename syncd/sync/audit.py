"""The cheap audit: with a few requests, whether the remote is still as the journal says, so that it need not be listed.

It rests on two things that a target like AI Search shows: how many entries there are, and those changed last. After a
whole listing the baseline remembers how many entries are not in our journal. From then on

    entries = our records + those others + what others added since,

and what was added or changed since stands before everything that was not. If the sum is right and the newest entries
are as recorded, nothing of ours is gone or changed. See docs/decisions/0018-cheap-audit.md, also for what it misses.
"""

from dataclasses import asdict, dataclass, replace
from typing import Literal

import structlog

from syncd.core.model import ON_THE_WAY, IndexStatus
from syncd.core.plan import has_other_prefix, same_entry
from syncd.state.db import transaction
from syncd.state.pass_tables import PassTables
from syncd.sync.index import learn_status
from syncd.sync.mirror import Mirror
from syncd.sync.observe import FEW_KEYS
from syncd.targets.base import Newest, Ordered

log = structlog.get_logger()

PAGES = 3
"""Pages of newest entries that are read at most. An instance of no more than these is listed: that costs the same."""
SETTLED_S = 3600.0
"""An entry written so long before the last audit was indexed by then: what stands below it was not touched since."""
UNSENT = ("foreign", "refused", "failed")
"""Problems of files that the target is asked about one by one where nothing is listed."""

Sight = Literal["settled", "ours", "other", "added", "strange"]


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a whole listing left behind, carried on by each audit after it.

    listed: when everything was listed last; at: when the remote was last found to be as the journal says. others:
    entries there that are not in the journal. newest: when the youngest entry was made, by the remote's clock; None if
    it does not say.
    """

    listed: float
    at: float
    others: int
    newest: float | None


@dataclass(slots=True)
class _Found:
    """What the newest entries say."""

    total: int | None = None
    added: int = 0
    others: bool = False
    settled: bool = False
    unfinished: bool = False
    newest: float | None = None


async def doubt(mirror: Mirror) -> str | None:
    """Say why everything has to be listed; None if what the journal says may stand for the listing.

    Then the journal has also learned what the remote says of the index. Raises what asking the target raises.
    """
    now = mirror.now()
    base = baseline(mirror)
    if base is None:
        return "there is nothing to compare with"
    if why := _not_now(mirror, base, now):
        return why
    target = mirror.target
    if not isinstance(target, Ordered):
        return "the target does not show what changed last"
    found = await _look(mirror, target, base)
    if isinstance(found, str):
        return found
    if found.total != mirror.journal.count() + base.others + found.added:
        return "the number of entries is another one"
    counts = await target.counts()
    if counts is None or sum(counts.values()) < found.total:
        return "the numbers by index status are not known"
    if not _learn_counts(mirror, counts, base.others + found.added, unfinished=found.unfinished):
        return "the numbers by index status are others"
    _keep(mirror, replace(base, at=now, others=base.others + found.added, newest=found.newest))
    return None


def _not_now(mirror: Mirror, base: Baseline, now: float) -> str | None:
    """Why nothing needs to be asked: everything is listed anyway."""
    # A clock that was set back makes the listing one of the future, of which nobody knows how old it is.
    if not (0 <= now - base.listed < mirror.settings.audit_interval and base.at <= now):
        return "it is time"
    if mirror.policy.takeover or mirror.policy.prune == "all":
        return "entries of others matter"
    limits = mirror.target.limits
    if mirror.journal.count() <= PAGES * (limits.page or 0):
        return "there are few entries"
    if mirror.journal.tombstones.count_within(now, limits.lag_s):
        return "deletes are too young to be shown"
    problems = mirror.journal.problems.counts()
    if sum(problems.get(kind, 0) for kind in UNSENT) > FEW_KEYS:
        return "too many files would be asked for one by one"
    return None


async def _look(mirror: Mirror, target: Ordered, base: Baseline) -> _Found | str:
    """Read newest entries until one was surely not touched since the last audit; learn what they say of the index."""
    found = _Found(newest=base.newest)
    seen: set[str] = set()
    pages = 0
    async for page in target.newest():
        if page.total is None or found.total not in (None, page.total):
            return "entries come or go just now"
        found.total = page.total
        rows = [row for row in page.rows if row.entry.ref not in seen]
        seen.update(row.entry.ref for row in rows)
        if why := _judge_all(mirror, rows, base, found):
            return why
        pages += 1
        if found.settled:
            return found
        if pages == PAGES:
            # So many were written by us: that they are as recorded is all that a few requests can tell.
            return "others have changed much" if found.others else found
    return found if found.total is not None and len(seen) >= found.total else "the newest entries end too early"


def _judge_all(mirror: Mirror, rows: list[Newest], base: Baseline, found: _Found) -> str | None:
    with transaction(mirror.db):
        for row in rows:
            sight = _judge(mirror, row, base)
            if sight == "strange":
                return f"of {row.entry.key!r} the journal knows something else"
            found.added += sight == "added"
            found.others |= sight in ("added", "other")
            found.settled |= sight == "settled"
            found.unfinished |= row.entry.status in ON_THE_WAY
            found.newest = None if row.made is None or found.newest is None else max(found.newest, row.made)
    return None


def _judge(mirror: Mirror, row: Newest, base: Baseline) -> Sight:
    entry, policy = row.entry, mirror.policy
    record = mirror.journal.get(entry.key)
    if record is None:
        # Ours by its mark, so it is one to adopt or to delete; or one that we deleted and that is there again.
        lost = (
            entry.key.startswith(policy.prefix)
            and entry.owner == policy.owner
            and not has_other_prefix(entry, policy)
            and policy.shard.holds(entry.key)
        )
        if (
            lost
            or row.made is None
            or base.newest is None
            or mirror.journal.tombstones.deleted_at(entry.ref) is not None
        ):
            return "strange"
        return "added" if row.made > base.newest else "other"
    agree = same_entry(record, entry) and entry.checksum in (None, record.checksum)
    if not (row.there and agree and entry.owner in (None, policy.owner)):
        return "strange"
    learn_status(mirror, record, entry, loud=False)
    same = entry.status == record.status == "completed"
    return "settled" if same and record.written_at <= base.at - SETTLED_S else "ours"


def _learn_counts(mirror: Mirror, counts: dict[IndexStatus, int], others: int, *, unfinished: bool) -> bool:
    """Take over what the numbers prove of each record's status; False if they contradict what is recorded."""
    total = sum(counts.values())
    if counts.get("completed", 0) == total and not unfinished:
        # Not of those that the numbers may not know in their present form.
        mirror.journal.index.mark_all_completed(mirror.now(), mirror.target.limits.lag_s)
    known = mirror.journal.index.index_counts()
    whole = others == 0 and sum(known.values()) == total == mirror.journal.count()
    # What is on its way is asked about anyway (follow).
    if not whole or mirror.journal.index.unfinished():
        return True
    return known == {status: count for status, count in counts.items() if count}


# -- the baseline


def baseline(mirror: Mirror) -> Baseline | None:
    """What is remembered of the last whole listing, None if nothing."""
    kept = mirror.meta.get("audit")
    return Baseline(**kept) if isinstance(kept, dict) else None


def invalidate(mirror: Mirror) -> None:
    """Forget the baseline: the next full pass lists everything."""
    mirror.meta.set("audit", None)


def _keep(mirror: Mirror, base: Baseline) -> None:
    mirror.meta.set("audit", asdict(base))


def remember(mirror: Mirror, tables: PassTables, started: float) -> None:
    """After a complete pass that listed everything: keep what the next ones may compare with.

    Only if each record was written in this pass or is what the listing showed, and nothing of ours by its mark is
    without a record: what this pass could not mend, the next one must see again.
    """
    target = mirror.target
    if not (isinstance(target, Ordered) and mirror.settings.audit_interval):
        return
    now = mirror.now()
    found = tables.listing.summary(mirror.name, mirror.policy.owner, mirror.policy.prefix, started, now)
    unlisted = mirror.journal.count() - mirror.journal.count_written(started, now)
    mended = found.known == found.right and found.known - found.fresh == unlisted
    if target.landmark is None or found.ours or not mended:
        log.debug("audit.none", mirror=mirror.name, odd=found.ours, mended=mended, whole=target.landmark is not None)
        return
    others = target.landmark.rows - tables.listing.hidden - found.known - found.deleted
    _keep(mirror, Baseline(started, started, others, target.landmark.newest))
