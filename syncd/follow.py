"""From uploaded to searchable: look after entries that are on their way into the index."""

import structlog

from syncd.errors import NotFound
from syncd.mirror import Mirror
from syncd.model import Ending, Problem, Record
from syncd.plan import same_entry
from syncd.reconcile import next_pass
from syncd.turn import LINES, index_problem

log = structlog.get_logger()

AT_ONCE = 5_000
"""Records asked about in one look; a look takes one request for 50 of them."""
FIRST_LOOK_S = 1.0
LONGEST_LOOK_S = 60.0


def pause_s(looks: int) -> float:
    """Seconds to the next look after `looks` of them: from one second to a minute, growing by half."""
    return float(min(FIRST_LOOK_S * 1.5 ** min(looks, 32), LONGEST_LOOK_S))


async def look(mirror: Mirror) -> int:
    """Ask the target about everything on its way and record the answers. Return how many are still on their way."""
    records = {record.ref: record for record in mirror.journal.on_the_way(AT_ONCE)}
    if not records:
        return 0
    problems = []
    done = 0
    for ref, entry in (await mirror.target.statuses(frozenset(records))).items():
        record = mirror.journal.get(records[ref].key)
        if record is None or record.ref != ref:
            continue
        if entry is None:
            _gone(mirror, record)
        # A listing may still show what was there before our last write.
        elif same_entry(record, entry):
            mirror.journal.learn(record, entry)
            done += entry.status == "completed"
            problems += _ended(mirror, record, entry.status, entry.error, loud=done <= LINES)
    if done > LINES:
        log.info("index.more", mirror=mirror.name, count=done - LINES)
    if problems:
        mirror.journal.note(problems, next_pass(mirror.db))
    return mirror.journal.unfinished()


def _gone(mirror: Mirror, record: Record) -> None:
    """Somebody has removed it. What we remember of it is worth nothing, so a hint will ask the target itself."""
    mirror.journal.forget(record.key)
    mirror.queue.mark([(record.key, False)], mirror.now())
    log.info("index.gone", mirror=mirror.name, key=record.key)


def _ended(
    mirror: Mirror, record: Record, status: str | None, error: str | None, *, loud: bool = True
) -> list[Problem]:
    if status == "error":
        mirror.heard(Ending("index", record.key, "error", "failed"))
        log.warning("index.failed", mirror=mirror.name, key=record.key, error=error)
        return [index_problem(record.key, error)]
    if status == "completed":
        waited = round(max(0.0, mirror.now() - record.written_at), 1)
        gap_s = mirror.gaps.closed(record.key, mirror.now())
        mirror.heard(Ending("index", record.key, "searchable", "done", waited_s=waited, gap_s=gap_s))
        line = log.info if loud else log.debug
        line("index.done", mirror=mirror.name, key=record.key, waited_s=waited)
    return []


async def reindex_wanted(mirror: Mirror) -> int:
    """Ask for another indexing of what a person wants retried, without an upload. Return how many were asked for."""
    wanted = mirror.journal.wanted_reindex()
    for record in wanted:
        try:
            status = await mirror.target.reindex(record.key, record.ref)
        except NotFound:
            _gone(mirror, record)
            continue
        mirror.journal.reindexed(record.key, status)
        log.info("index.again", mirror=mirror.name, key=record.key)
        if status == "error":
            mirror.journal.note(_ended(mirror, record, status, None), next_pass(mirror.db))
    return len(wanted)
