"""The arithmetic of retrieval: hit@k, MRR, and the comparison of two measurements. No requests, no files."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from syncd.core.errors import SyncdError
from syncd.targets.base import Hit


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


@dataclass(frozen=True, slots=True)
class FirstHit:
    """The first hit of a file. rank: its place among all hits, from 1."""

    key: str
    score: float
    rank: int


def first_hits(hits: Sequence[Hit]) -> list[FirstHit]:
    """Return the first hit of each file, best first."""
    found: dict[str, FirstHit] = {}
    for rank, hit in enumerate(hits, 1):
        found.setdefault(hit.key, FirstHit(hit.key, hit.score, rank))
    return list(found.values())


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

    answered: the questions that the search answered, found: those whose file is among the hits. hit_rate: hit@k, the
    share of the questions that found their file. mrr: the mean of 1/rank, where a miss counts 0. Both are None if no
    question was answered. texts: the questions with an answer text, texts_found: those whose text was found.
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
    known = [each for each in given if not each.failed]
    ranks = [each.rank for each in known if each.rank is not None]
    texts = [each.answered for each in known if each.answered is not None]
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

Named = tuple[str, str]
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
    new: list[Named] = field(default_factory=list)
    removed: list[Named] = field(default_factory=list)
    unknown: list[Named] = field(default_factory=list)
    same: int = 0


def compare(before: Mapping[Named, Measured], now: Mapping[Named, Measured]) -> Comparison:
    """Return what got better and worse between two measurements with the same number of counted hits."""
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
        (each.rank is not None, bool(with_texts and each.answered), -(each.rank or 0)) for each in (before, now)
    ]
    return (qualities[1] > qualities[0]) - (qualities[1] < qualities[0])
