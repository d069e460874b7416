"""From uploaded to searchable: look after entries that are on their way into the index."""

import asyncio
from collections.abc import Sequence

import structlog

from syncd.core.errors import NotFound, Park, Retry, Unreachable
from syncd.core.keys import shown
from syncd.core.model import Entry, Problem, Record
from syncd.core.plan import same_entry
from syncd.state.db import transaction
from syncd.state.journal_index import STUCK_S
from syncd.sync.indexing import failed, learned, problem_of
from syncd.sync.mirror import Mirror
from syncd.sync.reconcile import next_pass
from syncd.sync.turn import LINES
from syncd.targets.base import Indexed

log = structlog.get_logger()

AT_ONCE = 20_000
"""Records asked about in one look: some ten megabytes. What is over that takes its turn, look by look."""
BLOCK = 500
"""Answers recorded in one transaction, between two turns of the event loop."""
LATEST = 1_000
"""So many of them are always the latest written: an edit does not wait for its turn behind a first upload."""
FIRST_LOOK_S = 1.0
LONGEST_LOOK_S = 60.0
SHARE = 0.1
"""Looks take no more than this share of the time, which is that of the requests the rate limit lets through."""
LONGEST_REST_S = 300.0
NAMED = 20
"""So many stuck entries of one look have a line of their own in the log."""
REASONS = 10
"""So many errors of one look have their reason asked for, one request each; the others wait for the next look."""
TRIES = 20
"""So many entries of one look are indexed again by themselves; the others wait for the next look."""


def pause_s(looks: int) -> float:
    """Seconds to the next look after `looks` of them: from one second to a minute, growing by half."""
    return float(min(FIRST_LOOK_S * 1.5 ** min(looks, 32), LONGEST_LOOK_S))


def rest_s(took: float) -> float:
    """Seconds without a look after one that took so many."""
    return min(took * (1 / SHARE - 1), LONGEST_REST_S)


async def go_on(mirror: Mirror, pause: float) -> float | None:
    """Look, ask why, index again. Return the seconds to the next time: at most `pause` if there is something to see."""
    if not isinstance(mirror.target, Indexed):
        return None
    await look(mirror)
    await ask_why(mirror)
    await index_again(mirror)
    due_s = next_s(mirror)
    if mirror.journal.index.unfinished() or mirror.journal.index.unexplained(1):
        return pause if due_s is None else min(pause, due_s)
    return due_s


async def look(mirror: Mirror) -> int:
    """Ask the target about what is on its way and record the answers. Return how many are still on their way."""
    target = mirror.target
    if not isinstance(target, Indexed):
        return 0
    records = {record.ref: record for record in _chosen(mirror)}
    if not records:
        return 0
    now, lag_s = mirror.now(), mirror.target.limits.lag_s
    fresh = frozenset(ref for ref, record in records.items() if abs(now - record.since) <= lag_s)
    said = list((await target.statuses(frozenset(records), fresh)).items())
    done = 0
    for start in range(0, len(said), BLOCK):
        part = [(records[ref], entry) for ref, entry in said[start : start + BLOCK]]
        done = _taken(mirror, [(record, await _sure(mirror, record, entry)) for record, entry in part], done)
        await asyncio.sleep(0)
    if done > LINES:
        log.info("index.more", mirror=mirror.name, count=done - LINES)
    _name_stuck(mirror)
    return mirror.journal.index.unfinished()


async def _sure(mirror: Mirror, record: Record, entry: Entry | None) -> Entry | None:
    """What was said of a record; a listing may still show the error for which it was queued anew just now."""
    again = entry is not None and entry.status == "error" and record.requeued_at is not None
    if again and abs(mirror.now() - record.since) <= mirror.target.limits.lag_s:
        return await mirror.target.confirm(record.key, record.ref)
    return entry


def _taken(mirror: Mirror, said: Sequence[tuple[Record, Entry | None]], done: int) -> int:
    """Record answers. done: how many have become searchable before; return how many it is with these."""
    problems = []
    with transaction(mirror.db):
        for asked, entry in said:
            record = mirror.journal.get(asked.key)
            if record is None or record.ref != asked.ref:
                continue
            if entry is None:
                _gone(mirror, record)
            elif _is(record, entry):
                done += entry.status == "completed"
                problem = learned(mirror, record, entry, loud=done <= LINES)
                problems += [problem] if problem else []
        _note(mirror, problems)
    return done


def _chosen(mirror: Mirror) -> list[Record]:
    """What to ask about: everything, or the latest and, of the rest, those whose turn it is."""
    latest = mirror.journal.index.on_the_way(AT_ONCE + 1)
    if len(latest) <= AT_ONCE:
        return latest
    del latest[LATEST:]
    said = mirror.meta.get("followed")
    turn = mirror.journal.index.on_the_way(AT_ONCE - LATEST, after=said if isinstance(said, str) else "")
    # At the end the next turn begins with the first key again.
    mirror.meta.set("followed", turn[-1].key if len(turn) == AT_ONCE - LATEST else None)
    return latest + turn


def _is(record: Record, entry: Entry) -> bool:
    """Whether the remote speaks of what we wrote: a listing may still show what was there before."""
    marked = entry.ref == record.ref and entry.checksum == record.checksum
    # Indexed again, it may have another version.
    return marked or same_entry(record, entry)


def _gone(mirror: Mirror, record: Record) -> None:
    """Somebody has removed it. What we remember of it is worth nothing, so a hint will ask the target itself."""
    mirror.journal.forget(record.key)
    mirror.queue.mark([(record.key, False)], mirror.now())
    log.info("index.gone", mirror=mirror.name, key=record.key)


def _note(mirror: Mirror, problems: list[Problem]) -> None:
    if problems:
        mirror.journal.problems.add(problems, next_pass(mirror.db))


def _name_stuck(mirror: Mirror) -> None:
    """Say once of each entry that it takes too long."""
    stuck = mirror.journal.index.stuck(mirror.now() - STUCK_S, unnamed=True)
    for record in stuck[:NAMED]:
        waited = round(mirror.now() - record.since)
        log.warning("index.stuck", mirror=mirror.name, key=shown(record.key), status=record.status, waited_s=waited)
    if len(stuck) > NAMED:
        log.warning("index.more_stuck", mirror=mirror.name, count=len(stuck) - NAMED)
    mirror.journal.index.name(record.key for record in stuck)


# -- what could not be indexed


async def ask_why(mirror: Mirror) -> None:
    """Ask for the remote's own reason of a few errors, and tell it with their problems."""
    target, problems = mirror.target, []
    if not isinstance(target, Indexed):
        return
    for record in mirror.journal.index.unexplained(REASONS):
        try:
            why = await target.why(record.ref)
        except Unreachable:
            raise
        except (Park, Retry) as error:
            log.info("index.no_reason", mirror=mirror.name, key=record.key, why=str(error))
            why = None
        mirror.journal.index.explain(record, why or "")
        problem = problem_of(mirror, record.key)
        problems += [problem] if problem else []
    _note(mirror, problems)


async def index_again(mirror: Mirror) -> int:
    """Ask for another indexing, without an upload, of what a person wants retried and of errors that may pass.

    Return how many were asked for.
    """
    target, journal = mirror.target, mirror.journal
    if not isinstance(target, Indexed):
        return 0
    journal.index.plan_tries(mirror.now(), 0.75 + mirror.chance() / 2)
    wanted = journal.index.wanted_reindex()
    asked = {record.key for record in wanted}
    due = [record for record in journal.index.due_tries(mirror.now(), TRIES) if record.key not in asked]
    for record in due:
        # Before it is asked for: the budget holds also if the answer is lost, or we are killed.
        journal.index.tried(record.key)
    for record in wanted + due:
        await _again(mirror, target, record)
    return len(wanted) + len(due)


async def _again(mirror: Mirror, target: Indexed, record: Record) -> None:
    try:
        status = await target.reindex(record.key, record.ref)
    except NotFound:
        _gone(mirror, record)
        return
    except Unreachable:
        raise
    except (Park, Retry) as error:
        # It stays the problem that it is.
        log.warning("index.again_failed", mirror=mirror.name, key=record.key, why=str(error))
        mirror.journal.index.unwanted(record.key)
        return
    mirror.journal.index.reindexed(record.key, status, mirror.now())
    log.info("index.again", mirror=mirror.name, key=record.key)
    if status == "error":
        failed(mirror, record.key, record.error)
        problem = problem_of(mirror, record.key)
        _note(mirror, [problem] if problem else [])


def next_s(mirror: Mirror) -> float | None:
    """Seconds (at least one) until something is to be indexed again by itself; None if nothing is."""
    due = mirror.journal.index.next_try()
    return None if due is None else max(FIRST_LOOK_S, due - mirror.now())
