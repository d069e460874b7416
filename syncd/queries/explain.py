"""explain: the rule that includes or excludes a file, its key, remote id, status, last error and next try."""

import sqlite3
import time
from collections.abc import Collection, Generator, Iterator

from syncd.config.schema import Config, MirrorConfig
from syncd.core.errors import FileChanged, Park
from syncd.core.keys import normal, shown, shown_path
from syncd.core.model import ON_THE_WAY, Content, Delete, Excluded, Item, Local, Problem, Record
from syncd.core.names import Shard, converter_of, same_source, shard_index, shown_checksum
from syncd.core.plain_text import counted, shown_size, utc_time
from syncd.local.walk import Tree
from syncd.queries.lookup import Found, state_of
from syncd.state.deletions import last_delete
from syncd.state.history import History, PastAction
from syncd.state.journal import STUCK_S, Journal
from syncd.state.queue import Queue
from syncd.sync.deletes import replacements_of
from syncd.targets.ai_search.items import digests

Facts = Iterator[tuple[str, str]]
FactsAndContent = Generator[tuple[str, str], None, Content | None]
"""Facts, then the present content of the file if it can be sent."""

_ACTIONS_SHOWN = 10
_PROBLEMS_SHOWN = 20
"""The largest number of problems that are named for a directory."""


def explain(config: Config, found: Found, tree: Tree) -> Facts:
    """Yield (name, value) pairs on a file or directory of a mirror, whose folder is `tree`. Sends no request."""
    section = config.mirrors[found.mirror]
    with state_of(config, found.mirror, tree) as db:
        yield "mirror", f"{found.mirror}: {shown_path(section.path)} → {section.target.spec}"
        if found.kind == "directory":
            yield from _directory_facts(config, found, tree, db)
        else:
            yield from _file_facts(config, found, tree, db)


def _file_facts(config: Config, found: Found, tree: Tree, db: sqlite3.Connection | None) -> Facts:
    name, section = found.mirror, config.mirrors[found.mirror]
    key = section.key_prefix + normal(found.path)
    local = tree.look(key)
    yield "key", shown(key)
    shard = Shard.parse(section.shard)
    held = local.key if local else key
    if not shard.holds(held):
        yield "shard", f"{shard_index(held, shard.count)}/{shard.count} has this file; this process is shard {shard}"
        return
    content = yield from _local_facts(local, tree)
    if db is None:
        yield "status", "nothing is known yet; run: syncd reconcile"
        if local is None:
            yield from _delete_facts(config, name, key)
        return
    journal = Journal(db, name)
    nameless = isinstance(local, Problem) and local.kind == "invalid_key"
    record = None if nameless else journal.get(key)
    past = [] if nameless else History(db, name).of(key, _ACTIONS_SHOWN)
    yield from _record_facts(record, local)
    if record:
        yield "evidence", _evidence(record, content, past)
    yield from _replacement_facts(db, name, record, local)
    yield from _next_step(journal, section, record, local, content.checksum if content else None)
    yield from _problem_facts(journal, Queue(db, name, 0, 0), shown(key))
    if record and (due := journal.reindexing.next_try(record.key)):
        yield "next try", f"{utc_time(due)} (in {max(0.0, due - time.time()):.0f} s), of the indexing"
    if record is None and not isinstance(local, Item):
        yield from _delete_facts(config, name, key)
    yield from _history_facts(record, past)


def _local_facts(local: Local, tree: Tree) -> FactsAndContent:
    match local:
        case Excluded(rule=rule):
            yield "rule", f"left out by {rule}"
            yield "effect", "not mirrored; a remote entry of that key stays (--delete-excluded removes it)"
        case Problem(kind=kind, message=message):
            yield "rule", f"not sent: {kind}"
            yield "reason", message
        case Item():
            return (yield from _item_facts(local, tree))
        case None:
            yield "rule", "there is no such file"
    return None


def _item_facts(item: Item, tree: Tree) -> FactsAndContent:
    content = None
    try:
        content = tree.read(item.path)[0]
        rule = tree.included_by(item.path)
    except FileChanged:
        rule = None
    except Park as error:
        yield "rule", f"not sent: {error.kind}"
        yield "reason", str(error)
        return None
    except OSError as error:
        yield "rule", f"taken, but a .syncdignore cannot be read now: {error.strerror}"
        return content
    yield "rule", f"taken by {rule}" if rule else "taken: nothing excludes it"
    if (name := tree.limits.forms.name(item.key)) != item.key:
        how = "converted to Markdown" if tree.limits.forms.of(item.key) == "convert" else "as plain text"
        yield "sent as", f"{shown(name)}, {how}" if tree.limits.forms.renames else how
    yield "size", shown_size(item.size)
    yield "checksum", shown_checksum(content.checksum) if content else "the file is changing right now"
    return content


def _record_facts(record: Record | None, local: Local) -> Facts:
    if record is None:
        yield "status", "never uploaded" if isinstance(local, Item) else "not in the journal"
        return
    yield "status", f"uploaded or adopted {utc_time(record.written_at)}"
    yield "remote id", record.ref
    yield "sent", f"{shown_checksum(record.checksum)}, {shown_size(record.size)}"
    yield from _index_facts(record)


def _index_facts(record: Record) -> Facts:
    """Yield the status in the index."""
    if not record.status:
        return
    waited = time.time() - record.since
    detail = ""
    if record.status == "completed" and record.searchable_s is not None:
        detail = f", searchable after {record.searchable_s:.1f} s"
    elif record.status in ON_THE_WAY:
        detail = f" for {max(0.0, waited):.0f} s"
        detail += ": stuck, the service makes no progress" if waited > STUCK_S else ""
    elif record.status == "skipped":
        detail = ": the service leaves it out of the index"
        detail += "".join(f": {reason}" for reason in (record.error, record.why) if reason)
    elif record.error:
        detail = f": {record.error}" + (f": {record.why}" if record.why else "")
    yield "index", record.status + detail


def _replacement_facts(db: sqlite3.Connection, name: str, record: Record | None, local: Local) -> Facts:
    if local is None and record:
        delete = Delete(record.key, "stale", "", record.ref, record.checksum)
        for replacement in replacements_of(Journal(db, name), [delete]).values():
            yield "waits", f"until {shown(replacement.key)}, which has the same content, is searchable"


def _next_step(
    journal: Journal, section: MirrorConfig, record: Record | None, local: Local, checksum: str | None
) -> Facts:
    """Yield the next step for a file that differs from the uploaded content."""
    if isinstance(local, Problem) and record:
        yield "next", "nothing while the problem lasts; the content sent earlier stays in the target"
    elif local is None and record and section.prune == "never":
        yield "next", 'nothing: the entry stays in the target (prune = "never")'
    elif local is None and record:
        yield "next", "the file is gone, so the next pass removes its entry"
    elif isinstance(local, Item) and checksum and not (record and same_source(record.checksum, checksum)):
        parked = journal.problems.parked(local.key, local.key).get(local.key)
        if parked and parked[0] == checksum:
            yield "next", "nothing until the file changes, or you run: syncd retry"
        elif record:
            yield "next", "the file has changed since it was sent, so the next pass sends it"
        elif parked or not journal.problems.get(shown(local.key)):
            yield "next", "the next pass sends it"


def _problem_facts(journal: Journal, queue: Queue, key: str) -> Facts:
    if problem := journal.problems.get(key):
        yield "problem", f"{problem.kind}: {problem.message}"
    if row := queue.get(key):
        wait = max(0.0, row.due - time.time())
        yield "next try", f"{utc_time(row.due)} (in {wait:.0f} s), after {counted(row.attempts, 'failure')}"


def _evidence(record: Record, content: Content | None, past: list[PastAction]) -> str:
    same = content and content.checksum == record.checksum and converter_of(content.checksum) is None
    downloaded = any(action.reason == "unverified" and action.at == record.written_at for action in past)
    return content_evidence(record, digests(content.data) if content and same else (), downloaded=downloaded)


def content_evidence(record: Record, digests: Collection[str], *, downloaded: bool) -> str:
    """Return the best evidence that the remote has the recorded content.

    digests: digests of the recorded bytes in the forms that remotes use as checksum; empty without the bytes.
    downloaded: whether the entry was adopted after a download of its content.
    """
    if record.marked:
        return "the mark of the entry has this sha-256"
    if record.version is not None and record.version.lower() in {*digests, record.checksum}:
        return "the remote's own checksum is a known digest of these bytes"
    if downloaded:
        return "it was downloaded and hashed when it was adopted"
    reported = [f"checksum {record.version}"] if record.version is not None else []
    reported += [f"{record.remote_size} bytes"] if record.remote_size is not None else []
    if reported:
        return f"the id is the same, and the remote reports the same values: {', '.join(reported)}"
    return "only the journal: the remote reports nothing about the content"


def _delete_facts(config: Config, name: str, key: str) -> Facts:
    line = last_delete(config.state_dir, name, key)
    if line:
        yield "deleted", f"{line['time']} from {line.get('target')}, because {line['why']}"
        if agreed := ", ".join(line.get("consent") or []):
            yield "agreed", agreed


def _history_facts(record: Record | None, past: list[PastAction]) -> Facts:
    """Yield the last actions on the key, oldest first. The record stands for a first upload without a row."""
    lines = [(action.at, f"{action.action} {action.outcome}, {action.reason}", action.detail) for action in past]
    if record and not any(action.at == record.written_at for action in past):
        lines.append((record.written_at, "put or adopt done", "first seen in step"))
    for at, action, detail in sorted(lines):
        yield "history", f"{utc_time(at)}  {action}" + (f": {detail}" if detail else "")


# -- a directory


def _directory_facts(config: Config, found: Found, tree: Tree, db: sqlite3.Connection | None) -> Facts:
    folder = f"{found.path}/" if found.path else ""
    yield "directory", shown(folder) or "the whole folder"
    problems = {}
    try:
        rule = tree.excluded_by(folder) if folder else None
    except OSError as error:
        rule = f"nothing for now: an ignore file cannot be read: {error.strerror}"
    if rule:
        yield "rule", f"left out by {rule}"
    else:
        files = list(tree.walk(folder))
        problems = {local.key: local for local in files if isinstance(local, Problem)}
        yield "files", f"{len(files) - len(problems)} to mirror, {len(problems)} with a problem"
    if db is None:
        yield "status", "nothing is known yet; run: syncd reconcile"
    else:
        key, journal = config.mirrors[found.mirror].key_prefix + normal(folder), Journal(db, found.mirror)
        counts = journal.count_below(key)
        statuses = [f"{count} {status}" for status, count in counts.items() if status]
        index = f"; index: {', '.join(statuses)}" if statuses else ""
        yield "entries", f"{sum(counts.values())} in the target{index}"
        problems |= {problem.key: problem for problem in journal.problems.all() if problem.key.startswith(shown(key))}
    for problem in list(problems.values())[:_PROBLEMS_SHOWN]:
        yield "problem", f"{problem.key}: {problem.kind}: {problem.message}"
    yield "all", f"syncd ls -m {found.mirror}" + (f" --folder {shown(found.path)}" if found.path else "")
