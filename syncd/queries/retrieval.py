"""Asks the search of a target, measures whether it finds the expected files (hit@k, MRR), and compares two results."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from syncd.core.errors import EXIT_DIFFERENT, ConfigError, FileChanged, Halt, Park, SyncdError, Unreachable
from syncd.core.model import ON_THE_WAY, Excluded, Item, Local, Problem, Record
from syncd.core.names import same_source
from syncd.sync.mirror import Mirror
from syncd.targets.base import Hit, Indexed, Searchable, for_each, searchable


@dataclass(frozen=True, slots=True)
class Question:
    """A query, and the file or folder that should be among its hits.

    key: the key of the file, or the start of the keys of the folder, which ends with "/".
    answer: a text that should stand in a hit of the expected file, "" for none.
    """

    query: str
    key: str
    answer: str = ""

    def expects(self, key: str) -> bool:
        """Return whether the hit with this key is an expected one."""
        return key.startswith(self.key) if self.key.endswith("/") else key == self.key


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """The answer to a question.

    rank: the place of the first expected hit, from 1; None if there is none. answer_rank: the place of the first
    expected hit that contains the text of the answer. why: the reason if no hit is expected. error: the search failed,
    so that nothing is known.
    """

    question: Question
    hits: Sequence[Hit] = ()
    rank: int | None = None
    answer_rank: int | None = None
    why: str = ""
    error: SyncdError | None = None

    @property
    def score(self) -> float | None:
        """The score of the first expected hit."""
        return None if self.rank is None else self.hits[self.rank - 1].score

    @property
    def answered(self) -> bool | None:
        """Whether the text of the answer was found; None if the question has none, or if the search failed."""
        return None if self.error or not self.question.answer else self.answer_rank is not None


def judged(question: Question, hits: Sequence[Hit]) -> SearchAnswer:
    """Return the answer to a question: its hits, best first, and the ranks of the expected ones."""
    expected = [(rank, hit) for rank, hit in enumerate(hits, 1) if question.expects(hit.key)]
    rank = next((rank for rank, _ in expected), None)
    answer = _words(question.answer)
    answer_rank = next((rank for rank, hit in expected if answer and answer in _words(hit.text)), None)
    return SearchAnswer(question, hits, rank, answer_rank)


def _words(text: str) -> str:
    """Return a text for a comparison that ignores case and white space."""
    return " ".join(text.casefold().split())


# -- figures


@dataclass(frozen=True, slots=True)
class Measured:
    """The result of one question.

    rank: None if the file was not found. answered: whether the text of the answer was found, None without such a text.
    failed: the search failed or was not made, so that nothing is known.
    """

    rank: int | None
    answered: bool | None = None
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of a measurement. Searches that failed count in `failed` only.

    answered: the questions that the search answered. found: the answered questions whose file is among the hits.
    hit_rate: hit@k, the share of the questions that found their file. mrr: the mean of 1/rank, where a miss counts 0.
    Both are None if no question was answered. texts: the questions with an answer text. texts_found: the questions
    whose answer text was found.
    """

    answered: int
    found: int
    failed: int
    hit_rate: float | None
    mrr: float | None
    texts: int
    texts_found: int


def figures(measured: Iterable[Measured]) -> Figures:
    """Return the figures of a measurement."""
    given = list(measured)
    known = [result for result in given if not result.failed]
    ranks = [result.rank for result in known if result.rank is not None]
    texts = [result.answered for result in known if result.answered is not None]
    return Figures(
        answered=len(known),
        found=len(ranks),
        failed=len(given) - len(known),
        hit_rate=len(ranks) / len(known) if known else None,
        mrr=sum(1 / rank for rank in ranks) / len(known) if known else None,
        texts=len(texts),
        texts_found=sum(texts),
    )


# -- comparison

QuestionId = tuple[str, str]
"""A query, and the path of the file or folder that it expects."""


@dataclass(frozen=True, slots=True)
class ChangedResult:
    """A question whose result has changed."""

    query: str
    expect: str
    before: Measured
    now: Measured


@dataclass(slots=True)
class Comparison:
    """The differences between two measurements.

    new, removed: questions of one measurement only. same: the number of questions with the same result. unknown: the
    questions without a result in one of the measurements. before, now: the figures of both measurements.
    """

    before: Figures
    now: Figures
    better: list[ChangedResult] = field(default_factory=list)
    worse: list[ChangedResult] = field(default_factory=list)
    new: list[QuestionId] = field(default_factory=list)
    removed: list[QuestionId] = field(default_factory=list)
    unknown: list[QuestionId] = field(default_factory=list)
    same: int = 0


def compare(before: Mapping[QuestionId, Measured], now: Mapping[QuestionId, Measured]) -> Comparison:
    """Return the differences between two measurements with the same number of counted hits."""
    result = Comparison(figures(before.values()), figures(now.values()))
    for name, present in now.items():
        earlier = before.get(name)
        if earlier is None:
            result.new.append(name)
        elif earlier.failed or present.failed:
            result.unknown.append(name)
        elif sign := _sign(earlier, present):
            (result.better if sign > 0 else result.worse).append(ChangedResult(*name, earlier, present))
        else:
            result.same += 1
    result.removed = [name for name in before if name not in now]
    return result


def _sign(before: Measured, now: Measured) -> int:
    """Return 1 if a result is better than before, -1 if it is worse. A found file counts most, then the answer text."""
    with_texts = before.answered is not None and now.answered is not None
    qualities = [
        (result.rank is not None, bool(with_texts and result.answered), -(result.rank or 0)) for result in (before, now)
    ]
    return (qualities[1] > qualities[0]) - (qualities[1] < qualities[0])


# -- measuring

AT_A_TIME = 4
"""Searches in flight. The service takes about a second for one, and other requests go on meanwhile."""


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

    def named(self, prefix: str = "") -> dict[QuestionId, Measured]:
        """Return the result of each question by its query and expected path. prefix: the beginning of every key."""
        return {(question.query, question.key.removeprefix(prefix)): result for question, result in self.measured}

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
    problem = mirror.journal.problems.get(key)
    return f"{problem.kind}: {problem.message}" if problem else "it was never uploaded; run: syncd reconcile"


async def _changed(mirror: Mirror, item: Item, record: Record) -> bool:
    try:
        content, _ = await asyncio.to_thread(mirror.tree.read, item.path)
    except (FileChanged, Park):
        return True
    return not same_source(content.checksum, record.checksum)
