"""Tests the search of a target: asks a question and looks for the expected file among the hits."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from syncd.core.errors import FileChanged, Park
from syncd.core.model import ON_THE_WAY, Excluded, Item, Local, Problem, Record
from syncd.sync.mirror import Mirror
from syncd.targets.base import Hit, Indexed, searchable


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


def rank_of(key: str, hits: Sequence[Hit]) -> int | None:
    """Return the place of the first hit of a file, from 1, None if it has none."""
    return next((place for place, hit in enumerate(hits, 1) if hit.key == key), None)


async def ask(mirror: Mirror, question: Question, top: int) -> SearchAnswer:
    """Ask for at most `top` hits. Raises ConfigError if the target has no search, and the errors of a request."""
    hits = list(await searchable(mirror.target).search(question.query, top))[:top]
    rank = rank_of(question.key, hits)
    return SearchAnswer(question, hits, rank, "" if rank else await _why(mirror, question.key))


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
