"""What the remote's word on an entry's way into the index means: it is learned, told, and a problem if it failed."""

import structlog

from syncd.core.index_errors import index_problem, skipped_problem
from syncd.core.keys import shown
from syncd.core.model import NOT_INDEXED, ON_THE_WAY, ActionEvent, Entry, Problem, Record
from syncd.sync.mirror import Mirror

log = structlog.get_logger()


def learned(mirror: Mirror, record: Record, entry: Entry, *, loud: bool = True) -> Problem | None:
    """Take over what the remote now says of an entry in step; return the problem, if it could not be indexed.

    loud: whether an ordinary end has a line of its own in the log.
    """
    now = mirror.now()
    mirror.journal.index.learn(record, entry, now)
    line = log.info if loud else log.debug
    if entry.status == "completed" and record.status in ON_THE_WAY:
        waited = round(max(0.0, now - record.since), 1)
        mirror.on_action(ActionEvent("index", record.key, "searchable", "done", waited_s=waited))
        line("index.done", mirror=mirror.name, key=record.key, waited_s=waited)
    elif entry.status == "skipped" and record.status != "skipped":
        log.warning("index.skipped", mirror=mirror.name, key=shown(record.key))
    elif entry.status == "error" and record.status != "error":
        failed(mirror, record.key, entry.error)
    return problem_of(mirror, record.key) if (entry.status or record.status) in NOT_INDEXED else None


def failed(mirror: Mirror, key: str, error: str | None) -> None:
    """Tell that an indexing has failed."""
    mirror.on_action(ActionEvent("index", key, "error", "failed"))
    log.warning("index.failed", mirror=mirror.name, key=key, error=error)


def problem_of(mirror: Mirror, key: str) -> Problem | None:
    """The problem of a record that is not indexed for good, as it stands now."""
    record = mirror.journal.get(key)
    if record is not None and record.status == "skipped":
        return skipped_problem(key)
    if record is None or record.status != "error":
        return None
    return index_problem(key, record.error, record.why, mirror.journal.index.tries_spent(key))
