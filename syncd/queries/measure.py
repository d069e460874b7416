"""Asks the search of a target, and measures whether it finds the expected files. Changes nothing."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from syncd.core.errors import (
    EXIT_DIFFERENT,
    ConfigError,
    FileChanged,
    Halt,
    Park,
    SyncdError,
    Unreachable,
)
from syncd.core.model import ON_THE_WAY, Excluded, Item, Local, Problem, Record
from syncd.core.names import same_source
from syncd.queries.retrieval import Figures, Measured, Question, SearchAnswer, figures, judged
from syncd.sync.mirror import Mirror
from syncd.targets.base import Indexed, Searchable, for_each, searchable

AT_A_TIME = 4
"""Searches in flight. A search takes the service about a second, and other work goes on besides."""


@dataclass(slots=True)
class Measurement:
    """The questions to one mirror, and the answers so far.

    top: the number of hits that count. min_hit: the share of the questions that must find their file; None: all, each
    with the text of its answer. found: the answers by the number of the question. error: the error that stopped it.
    """

    questions: Sequence[Question]
    top: int
    min_hit: float | None = None
    found: dict[int, SearchAnswer] = field(default_factory=dict)
    error: SyncdError | None = None

    @property
    def answers(self) -> list[SearchAnswer]:
        """The answers so far, in the order of the questions."""
        return [self.found[number] for number in sorted(self.found)]

    @property
    def measured(self) -> list[tuple[Question, Measured]]:
        """The result of each question. A question that was not asked counts as one whose search failed."""
        return [(question, _measured(self.found.get(number))) for number, question in enumerate(self.questions)]

    @property
    def figures(self) -> Figures:
        """The figures of the answers so far."""
        return figures(_measured(answer) for answer in self.answers)

    @property
    def exit_codes(self) -> set[int]:
        """The exit codes of the failures, and that of a result that does not suffice."""
        codes = {answer.error.exit_code for answer in self.answers if answer.error}
        codes |= {self.error.exit_code} if self.error else set()
        return codes if self._suffices() else codes | {EXIT_DIFFERENT}

    def _suffices(self) -> bool:
        result = self.figures
        if self.min_hit is None:
            return result.found == result.answered and result.texts_found == result.texts
        return result.hit_rate is None or result.hit_rate >= self.min_hit


def _measured(answer: SearchAnswer | None) -> Measured:
    if answer is None or answer.error:
        return Measured(None, failed=True)
    return Measured(answer.rank, answer.answered)


async def ask_questions(
    mirror: Mirror, measurement: Measurement, on_answer: Callable[[], object] = lambda: None
) -> None:
    """Ask the target of a mirror all questions, and add each answer to the measurement.

    A search that fails is the error of its question. An error that concerns all of them stops the measurement.
    Raises ConfigError if the target has no search.
    """
    target = searchable(mirror.target)

    async def ask(numbered: tuple[int, Question]) -> None:
        number, question = numbered
        measurement.found[number] = await _answer(mirror, target, question, measurement.top)
        on_answer()

    try:
        await for_each(list(enumerate(measurement.questions)), ask, AT_A_TIME)
    except (Halt, Unreachable) as error:
        measurement.error = error


async def _answer(mirror: Mirror, target: Searchable, question: Question, top: int) -> SearchAnswer:
    try:
        answer = judged(question, list(await target.search(question.query, top))[:top])
    except (ConfigError, Halt, Unreachable):
        raise
    except SyncdError as error:
        return SearchAnswer(question, error=error)
    if answer.rank is not None:
        return answer
    try:
        why = await (_why_folder if question.key.endswith("/") else _why)(mirror, question.key)
    except SyncdError as error:
        why = f"the reason is unknown: {error}"
    return replace(answer, why=why)


async def _why_folder(mirror: Mirror, key: str) -> str:
    counts = mirror.journal.count_below(key)
    if not counts:
        return "no file of this folder was uploaded; run: syncd reconcile"
    waiting = sum(count for status, count in counts.items() if status in ON_THE_WAY)
    if waiting:
        return f"{waiting} of its {sum(counts.values())} files are still on their way into the index"
    return "its files are in the index; the search ranks other text higher"


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
    return not same_source(content.checksum, record.checksum)
