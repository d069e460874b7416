"""Polls, stores and reports the index status of entries, and requests to index failed entries again."""

import asyncio
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import structlog

from syncd.core.errors import Halt, NotFound, Park, PausedHalt, Retry, Unreachable
from syncd.core.keys import shown
from syncd.core.model import NOT_INDEXED, ON_THE_WAY, ActionEvent, Entry, Problem, Record
from syncd.core.plan import same_entry
from syncd.core.problems import full_message, not_indexed
from syncd.state.db import transaction
from syncd.state.journal import STUCK_S
from syncd.state.pass_tables import next_pass_id
from syncd.sync.mirror import Mirror
from syncd.targets.base import Indexed

log = structlog.get_logger()

POLLED = 20_000
"""Maximum records in one poll (about 10 MB). Later polls include the other records in turn."""
NEWEST = 1_000
"""Number of newest records that every poll includes, so that an edit does not wait behind a first upload."""
BLOCK = 500
"""Maximum answers stored in one transaction. Between two transactions, the event loop runs."""
FIRST_POLL_S = 1.0
LONGEST_POLL_S = 60.0
SHARE = 0.1
"""Maximum share of the time that polls take. They use the same rate limit as all other requests."""
LONGEST_REST_S = 300.0
LOOKED, PAUSED = "looked_for_pause", "paused"
"""Names of stored values: the time of the last check whether the instance is paused, and the result of the check."""
LINES = 20
"""Maximum newly searchable entries of one poll that get their own log line."""
NAMED = 20
"""Maximum stuck entries of one poll that get their own log line."""
DOUBT_S = 60.0
"""Seconds without an end of any indexing after which syncd checks by one request whether the instance is paused."""
DOUBT_EVERY_S = 300.0
"""Minimum seconds between two of these checks."""
REASONS = 10
"""Errors whose reason is fetched after one poll, one request each. The other errors wait for the next poll."""
TRIES = 20
"""Entries that are indexed again after one poll without a request by a person. The others wait for the next poll."""


def pause_s(polls: int) -> float:
    """Return the seconds to the next poll after this number of polls: from one second to a minute, growing by half."""
    return float(min(FIRST_POLL_S * 1.5 ** min(polls, 32), LONGEST_POLL_S))


def rest_s(took: float) -> float:
    """Return the seconds without a poll after a poll that took `took` seconds."""
    return min(took * (1 / SHARE - 1), LONGEST_REST_S)


async def follow_up(mirror: Mirror, pause: float) -> float | None:
    """Poll, fetch reasons and request indexing again. Return the seconds to the next call, None if none is needed.

    Raises Halt if the instance is full or paused.
    pause: the maximum of the result while entries are not indexed yet or errors have no reason.
    """
    if not isinstance(mirror.target, Indexed):
        return None
    await poll(mirror)
    await fetch_reasons(mirror)
    halt_if_full(mirror)
    await halt_if_standing(mirror)
    await reindex_due(mirror)
    due_s = next_reindex_s(mirror)
    if mirror.journal.index.unfinished() or mirror.journal.index.unexplained(1):
        return pause if due_s is None else min(pause, due_s)
    return due_s


class IndexFollowup:
    """Polls the index for entries that are not searchable yet: soon after a pass, then less and less often.

    due_at: the time of the next poll, math.inf if every entry is searchable.
    """

    def __init__(self, mirror: Mirror, clock: Callable[[], float]) -> None:
        self._mirror = mirror
        self._clock = clock
        self._polls = 0
        self._poll_at = math.inf
        self._rest_until = 0.0

    @property
    def due_at(self) -> float:
        """The time of the next poll."""
        return max(self._poll_at, self._rest_until)

    def start_over(self, *, keep_pauses: bool) -> None:
        """Poll soon after a pass. keep_pauses: the pass wrote nothing, so a planned poll keeps its time."""
        if not keep_pauses or math.isinf(self._poll_at):
            self._polls = 0
            self._poll_at = self._clock() + pause_s(0)

    def expect(self) -> None:
        """Plan a poll within a minute, if none is planned."""
        if math.isinf(self._poll_at):
            self._poll_at = self._clock() + LONGEST_POLL_S

    def postpone(self) -> None:
        """Postpone the next poll, because the budget of requests is used up."""
        self._rest_until = self._clock() + LONGEST_POLL_S

    def make_due(self) -> None:
        """Poll at once."""
        self._poll_at = self._rest_until = self._clock()

    async def run(self) -> None:
        """Poll if it is time, and plan the next poll. Polls take at most a tenth of the time."""
        began = self._clock()
        if began < self.due_at:
            return
        pause = await follow_up(self._mirror, pause_s(self._polls))
        now = self._clock()
        self._rest_until = now + rest_s(now - began)
        self._poll_at = math.inf if pause is None else now + pause
        self._polls += 1


def next_reindex_s(mirror: Mirror) -> float | None:
    """Return the seconds (at least one) until an entry is indexed again, None if there is no such entry."""
    due = mirror.journal.reindexing.next_try()
    return None if due is None else max(FIRST_POLL_S, due - mirror.now())


# -- polling


async def poll(mirror: Mirror) -> int:
    """Fetch the status of entries that are not indexed yet, and store it. Return how many are still not indexed."""
    target = mirror.target
    if not isinstance(target, Indexed):
        return 0
    records = {record.ref: record for record in _records_to_poll(mirror)}
    if not records:
        return 0
    now, lag_s = mirror.now(), mirror.target.limits.lag_s
    fresh = frozenset(ref for ref, record in records.items() if abs(now - record.since) <= lag_s)
    statuses = list((await target.statuses(frozenset(records), fresh)).items())
    completed = 0
    for start in range(0, len(statuses), BLOCK):
        block = [(records[ref], entry) for ref, entry in statuses[start : start + BLOCK]]
        confirmed = [(record, await _confirmed(mirror, record, entry)) for record, entry in block]
        completed = _store_statuses(mirror, confirmed, completed)
        await asyncio.sleep(0)
    if completed > LINES:
        log.info("index.more", mirror=mirror.name, count=completed - LINES)
    _report_stuck(mirror)
    return mirror.journal.index.unfinished()


def _records_to_poll(mirror: Mirror) -> list[Record]:
    """Return the records that are not indexed yet. If they are too many: the newest, and some of the others in turn."""
    newest = mirror.journal.index.on_the_way(POLLED + 1)
    if len(newest) <= POLLED:
        return newest
    del newest[NEWEST:]
    last = mirror.meta.get("followed")
    others = mirror.journal.index.on_the_way(POLLED - NEWEST, after=last if isinstance(last, str) else "")
    # At the end the next poll begins with the first key again.
    mirror.meta.set("followed", others[-1].key if len(others) == POLLED - NEWEST else None)
    return newest + others


async def _confirmed(mirror: Mirror, record: Record, entry: Entry | None) -> Entry | None:
    """Ask for the entry itself if its error may be older than the request to index it again."""
    failed_again = entry and entry.status == "error" and record.requeued_at is not None
    if failed_again and abs(mirror.now() - record.since) <= mirror.target.limits.lag_s:
        return await mirror.target.confirm(record.key, record.ref)
    return entry


def _store_statuses(mirror: Mirror, statuses: Sequence[tuple[Record, Entry | None]], completed: int) -> int:
    """Store statuses in one transaction. Return `completed` plus the number of entries that became searchable."""
    problems: list[Problem | None] = []
    with transaction(mirror.db):
        for polled, entry in statuses:
            record = mirror.journal.get(polled.key)
            if record is None or record.ref != polled.ref:
                continue
            if entry is None:
                _forget_removed(mirror, record)
            elif _is_recorded(record, entry):
                completed += entry.status == "completed"
                problems.append(store_status(mirror, record, entry, loud=completed <= LINES))
        _store_problems(mirror, problems)
    return completed


def _is_recorded(record: Record, entry: Entry) -> bool:
    """Return whether the remote shows the recorded entry. A listing may still show an earlier entry of the key."""
    same_content = entry.ref == record.ref and entry.checksum == record.checksum
    # The remote may give an entry that it indexes again another version.
    return same_content or same_entry(record, entry)


def _forget_removed(mirror: Mirror, record: Record) -> None:
    """Forget the record of an entry that another writer removed, and mark its key, so that a pass looks at it."""
    mirror.journal.forget(record.key)
    mirror.queue.mark([(record.key, False)], mirror.now())
    log.info("index.gone", mirror=mirror.name, key=record.key)


def _report_stuck(mirror: Mirror) -> None:
    """Log each entry once whose indexing takes too long."""
    stuck = mirror.journal.index.stuck(mirror.now() - STUCK_S, unreported=True)
    for record in stuck[:NAMED]:
        waited = round(mirror.now() - record.since)
        log.warning("index.stuck", mirror=mirror.name, key=shown(record.key), status=record.status, waited_s=waited)
    if len(stuck) > NAMED:
        log.warning("index.more_stuck", mirror=mirror.name, count=len(stuck) - NAMED)
    mirror.journal.index.mark_reported(record.key for record in stuck)


# -- a full or paused instance


def halt_if_full(mirror: Mirror) -> None:
    """Raise Halt if an entry has the error of a full instance, and no person wants the entry indexed again."""
    if error := mirror.journal.index.full():
        raise Halt(full_message(error))


async def halt_if_standing(mirror: Mirror) -> None:
    """Raise PausedHalt if entries wait for the index because the instance is paused. Looks every DOUBT_EVERY_S."""
    now, looked_at = mirror.now(), mirror.meta.get(LOOKED)
    if isinstance(looked_at, (int, float)) and abs(now - looked_at) < DOUBT_EVERY_S:
        return
    if isinstance(mirror.target, Indexed) and mirror.journal.index.stuck_count(now - DOUBT_S):
        mirror.meta.set(LOOKED, now)
        with noting_pause(mirror):
            await mirror.target.check()


async def halt_if_paused(mirror: Mirror) -> None:
    """Raise PausedHalt if the instance was found paused and still is. The check costs one request, a listing many."""
    if mirror.meta.get(PAUSED):
        await mirror.target.check()
        mirror.meta.set(PAUSED, None)
        log.info("index.resumed", mirror=mirror.name)


@contextmanager
def noting_pause(mirror: Mirror) -> Iterator[None]:
    """Store that the instance is paused if the block raises PausedHalt."""
    try:
        yield
    except PausedHalt:
        mirror.meta.set(PAUSED, value=True)
        raise


# -- one status


def store_status(mirror: Mirror, record: Record, entry: Entry, *, loud: bool = True) -> Problem | None:
    """Store and report the status that the remote shows for a recorded entry. Return the problem if indexing failed.

    loud: log a success at level info, not debug.
    """
    now = mirror.now()
    mirror.journal.index.store_reported(record, entry, now)
    line = log.info if loud else log.debug
    if entry.status == "completed" and record.status in ON_THE_WAY:
        waited = round(max(0.0, now - record.since), 1)
        mirror.on_action(ActionEvent("index", record.key, "searchable", "done", waited_s=waited))
        line("index.done", mirror=mirror.name, key=record.key, waited_s=waited)
    elif entry.status == "skipped" and record.status != "skipped":
        log.warning("index.skipped", mirror=mirror.name, key=shown(record.key))
    elif entry.status == "error" and record.status != "error":
        report_failure(mirror, record.key, entry.error)
    return recorded_problem(mirror, record.key) if (entry.status or record.status) in NOT_INDEXED else None


def report_failure(mirror: Mirror, key: str, error: str | None) -> None:
    """Log that the indexing of an entry failed, and pass the event on."""
    mirror.on_action(ActionEvent("index", key, "error", "failed"))
    log.warning("index.failed", mirror=mirror.name, key=key, error=error)


def recorded_problem(mirror: Mirror, key: str) -> Problem | None:
    """Return the problem of a record whose status is "error" or "skipped", None for any other record."""
    record = mirror.journal.get(key)
    if record is None or record.status not in NOT_INDEXED:
        return None
    return not_indexed(key, record.status, record.error, record.why, mirror.journal.reindexing.tries_spent(key))


def _store_problems(mirror: Mirror, found: Sequence[Problem | None]) -> None:
    if problems := [problem for problem in found if problem]:
        mirror.note(problems, next_pass_id(mirror.db))


# -- failed entries


async def fetch_reasons(mirror: Mirror) -> None:
    """Fetch the remote's own reason for up to REASONS errors or skips, and store it with their problems."""
    target, problems = mirror.target, list[Problem | None]()
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
        problems.append(recorded_problem(mirror, record.key))
    _store_problems(mirror, problems)


async def reindex_due(mirror: Mirror) -> None:
    """Request another indexing, without an upload, of entries that a person chose and of temporary failures."""
    target, journal = mirror.target, mirror.journal
    if not isinstance(target, Indexed):
        return
    journal.reindexing.plan_tries(mirror.now(), 0.75 + mirror.chance() / 2)
    wanted = journal.reindexing.requested()
    wanted_keys = {record.key for record in wanted}
    due = [record for record in journal.reindexing.due_tries(mirror.now(), TRIES) if record.key not in wanted_keys]
    for record in due:
        # The try is counted before the request, so that the limit holds if the answer is lost or the process is killed.
        journal.reindexing.count_try(record.key)
    with noting_pause(mirror):
        for record in wanted + due:
            await _reindex(mirror, target, record)


async def _reindex(mirror: Mirror, target: Indexed, record: Record) -> None:
    try:
        status = await target.reindex(record.key, record.ref)
    except NotFound:
        _forget_removed(mirror, record)
        return
    except Unreachable:
        raise
    except (Park, Retry) as error:
        # The problem of the entry stays.
        log.warning("index.again_failed", mirror=mirror.name, key=record.key, why=str(error))
        mirror.journal.reindexing.drop_request(record.key)
        return
    mirror.journal.reindexing.finish(record.key, status, mirror.now())
    log.info("index.again", mirror=mirror.name, key=record.key)
    if status == "error":
        report_failure(mirror, record.key, record.error)
        _store_problems(mirror, [recorded_problem(mirror, record.key)])
