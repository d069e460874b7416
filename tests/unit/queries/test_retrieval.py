"""The figures of a search, the comparison of two measurements, and the errors of searches."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.cli.retrieval import other_hits
from syncd.core.errors import EXIT_DIFFERENT, EXIT_HALT, EXIT_PROBLEMS, EXIT_UNREACHABLE, Halt, Later, Park, Unreachable
from syncd.queries.retrieval import (
    Measured,
    Measurement,
    Question,
    QuestionId,
    SearchAnswer,
    ask_questions,
    compare,
    figures,
    judged,
)
from syncd.targets.base import Hit
from tests.harness import Core, ScriptedTarget

TOP = 10
names = st.tuples(st.sampled_from("abcdef"), st.sampled_from("xyz"))
results = st.one_of(
    st.just(Measured(None, failed=True)),
    st.builds(Measured, st.none() | st.integers(1, TOP), st.none() | st.booleans()),
)
runs = st.dictionaries(names, results)


def hits(*keys: str, text: str = "") -> list[Hit]:
    return [Hit(key, 1 - number / 100, text) for number, key in enumerate(keys)]


@pytest.mark.parametrize(
    ("expect", "rank"),
    [("a.md", 1), ("sub/b.md", 3), ("sub/", 3), ("su/", None), ("sub", None), ("a", None), ("c.md", None)],
)
def test_the_rank_is_the_place_of_the_first_hit_of_a_file_or_folder(expect: str, rank: int | None) -> None:
    answer = judged(Question("q", expect), hits("a.md", "a.md", "sub/b.md", "sub/b.md"))
    assert (answer.rank, answer.score) == (rank, None if rank is None else 1 - (rank - 1) / 100)


@pytest.mark.parametrize(
    ("answer", "rank", "answered"),
    [("", None, None), ("30 SECONDS", 2, True), ("brew for\n 30", 2, True), ("31", None, False)],
)
def test_the_answer_text_must_stand_in_a_hit_of_the_expected_file(
    answer: str, rank: int | None, answered: bool | None
) -> None:
    found = [
        Hit("b.md", 1.0, "31 and brew"),
        Hit("a.md", 0.9, "Brew  for 30\tseconds"),
        Hit("a.md", 0.8, "brew for 30"),
    ]
    given_answer = judged(Question("q", "a.md", answer), found)
    assert (given_answer.rank, given_answer.answer_rank, given_answer.answered) == (2, rank, answered)


def test_each_file_is_named_with_its_first_hit() -> None:
    answer = SearchAnswer(Question("q", "z"), hits("a", "a", "b", "a", "c", "d"))
    assert re.findall(r"[0-9]\. [a-z] |…", other_hits(answer)) == ["1. a ", "3. b ", "5. c ", "…"]


def test_the_figures_of_an_example() -> None:
    found = figures([Measured(1, True), Measured(4, False), Measured(None), Measured(None, failed=True)])
    assert (found.answered, found.found, found.failed, found.texts, found.texts_found) == (3, 2, 1, 2, 1)
    assert found.hit_rate == 2 / 3
    assert found.mrr == (1 + 1 / 4) / 3


def test_no_answer_has_no_figures() -> None:
    for measured in ([], [Measured(None, failed=True)]):
        found = figures(measured)
        assert (found.hit_rate, found.mrr, found.answered) == (None, None, 0)


@given(st.lists(results))
def test_figures_lie_within_their_bounds_and_ignore_the_order(measured: list[Measured]) -> None:
    found = figures(measured)
    assert found.answered + found.failed == len(measured)
    assert found.texts_found <= found.texts <= found.answered
    if found.hit_rate is None or found.mrr is None:
        assert found.answered == 0
    else:
        # A found file adds at least 1/TOP and at most 1.
        assert found.hit_rate / TOP <= found.mrr + 1e-9
        assert found.mrr <= found.hit_rate + 1e-9
        assert 0 <= found.hit_rate <= 1
    turned = figures(measured[::-1])
    assert (turned.found, turned.hit_rate) == (found.found, found.hit_rate)
    assert math.isclose(turned.mrr or 0, found.mrr or 0)


@given(st.lists(results, min_size=1), st.integers(2, TOP))
def test_a_better_rank_never_makes_a_figure_worse(measured: list[Measured], rank: int) -> None:
    before = figures([*measured, Measured(rank)])
    after = figures([*measured, Measured(rank - 1)])
    missed = figures([*measured, Measured(None)])
    assert (missed.mrr or 0) < (before.mrr or 0) < (after.mrr or 0)
    assert (missed.hit_rate or 0) < (before.hit_rate or 0) == after.hit_rate


@given(runs, runs)
def test_each_question_is_in_one_group_and_turning_the_sides_turns_the_groups(
    before: Mapping[QuestionId, Measured], now: Mapping[QuestionId, Measured]
) -> None:
    there, back = compare(before, now), compare(now, before)
    assert (there.before, there.now) == (figures(before.values()), figures(now.values()))
    changed = [(each.query, each.expect) for each in (*there.better, *there.worse)]
    groups = [*changed, *there.new, *there.removed, *there.unknown]
    assert len(set(groups)) == len(groups)
    assert len(groups) + there.same == len({**before, **now})
    assert sorted(there.new) == sorted(back.removed)
    assert sorted(there.unknown) == sorted(back.unknown)
    assert {(each.query, each.expect) for each in there.better} == {(each.query, each.expect) for each in back.worse}
    assert there.same == back.same


@given(runs)
def test_a_measurement_equals_itself(run: Mapping[QuestionId, Measured]) -> None:
    found = compare(run, run)
    assert (found.better, found.worse, found.new, found.removed) == ([], [], [], [])
    assert len(found.unknown) == sum(each.failed for each in run.values())


@pytest.mark.parametrize(
    ("before", "now", "group"),
    [
        (Measured(None), Measured(9), "better"),
        (Measured(2), Measured(1), "better"),
        (Measured(1), Measured(None), "worse"),
        (Measured(1, True), Measured(1, False), "worse"),
        (Measured(2, False), Measured(3, True), "better"),
        (Measured(1, True), Measured(1, None), "same"),
        (Measured(None, False), Measured(3, None), "better"),
        (Measured(1), Measured(None, failed=True), "unknown"),
    ],
)
def test_a_found_file_counts_more_than_its_text_and_the_text_more_than_the_rank(
    before: Measured, now: Measured, group: str
) -> None:
    found = compare({("q", "a"): before}, {("q", "a"): now})
    counts = {"better": len(found.better), "worse": len(found.worse), "unknown": len(found.unknown), "same": found.same}
    assert {name for name, count in counts.items() if count} == {group}


QUERIES = ("apples", "pears", "plums")


@pytest.fixture
async def filled(core: Core) -> Core:
    for word in QUERIES:
        core.write(f"{word}/{word}.md", f"all about {word}")
    await core.full()
    return core


def fail(monkeypatch: pytest.MonkeyPatch, query: str, error: Exception) -> None:
    search = ScriptedTarget.search

    async def failing(self: ScriptedTarget, asked: str, *arguments: Any) -> Sequence[Hit]:
        if asked == query:
            raise error
        return await search(self, asked, *arguments)

    monkeypatch.setattr(ScriptedTarget, "search", failing)


async def measured(core: Core, *questions: Question, min_hit: float | None = None) -> Measurement:
    found = Measurement(questions or [Question(word, f"{word}/{word}.md") for word in QUERIES], 10, min_hit)
    await ask_questions(core.mirror, found)
    return found


async def test_each_question_is_answered_in_the_order_of_the_file(filled: Core) -> None:
    seen: list[int] = []
    search = Measurement([Question(word, f"{word}/") for word in QUERIES] * 5, 10)
    await ask_questions(filled.mirror, search, lambda: seen.append(len(search.found)))
    assert [answer.question.query for answer in search.answers] == list(QUERIES) * 5
    assert seen == list(range(1, 16))
    assert (search.figures.hit_rate, search.exit_codes) == (1.0, set())


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Park("refused", "the query is too long"), EXIT_PROBLEMS),
        (Later("error 500"), EXIT_UNREACHABLE),
    ],
)
async def test_a_failed_search_is_no_miss_and_the_others_are_asked(
    filled: Core, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    fail(monkeypatch, "pears", error)
    search = await measured(filled)
    figures = search.figures
    assert (figures.answered, figures.found, figures.failed, figures.hit_rate) == (2, 2, 1, 1.0)
    assert [answer.error for answer in search.answers] == [None, error, None]
    assert search.exit_codes == {code}
    assert search.measured[1][1] == Measured(None, failed=True)


@pytest.mark.parametrize(
    ("error", "code"), [(Unreachable("no answer"), EXIT_UNREACHABLE), (Halt("no token"), EXIT_HALT)]
)
async def test_an_error_of_all_questions_stops_the_measurement(
    filled: Core, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    fail(monkeypatch, "nothing", error)
    search = await measured(filled, *[Question("apples", "apples/")] * 5, *[Question("nothing", "pears/")] * 40)
    assert (search.error, search.exit_codes) == (error, {code})
    assert search.figures.found == 5
    assert [result.failed for _, result in search.measured] == [False] * 5 + [True] * 40


@pytest.mark.parametrize(
    ("min_hit", "codes"), [(None, {EXIT_DIFFERENT}), (0.67, {EXIT_DIFFERENT}), (2 / 3, set()), (0.0, set())]
)
async def test_a_share_of_found_files_can_suffice(filled: Core, min_hit: float | None, codes: set[int]) -> None:
    questions = [Question("apples", "apples/"), Question("pears", "pears/"), Question("plums", "pears/")]
    search = await measured(filled, *questions, min_hit=min_hit)
    assert search.exit_codes == codes


async def test_a_missing_answer_text_counts_only_without_a_share(filled: Core) -> None:
    question = Question("apples", "apples/apples.md", "all about pears")
    assert (await measured(filled, question)).exit_codes == {EXIT_DIFFERENT}
    assert (await measured(filled, question, min_hit=1.0)).exit_codes == set()


async def test_the_reason_of_a_missed_folder(filled: Core) -> None:
    nothing, there = (await measured(filled, Question("x", "none/"), Question("x", "pears/"))).answers
    assert nothing.why == "no file of this folder was uploaded; run: syncd reconcile"
    assert there.why == "its files are in the index; the search ranks other text higher"


async def test_an_unknown_reason_leaves_a_miss(filled: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(*_: object) -> str:
        raise Unreachable("no answer")

    monkeypatch.setattr("syncd.queries.retrieval._index_trouble", unknown)
    (answer,) = (await measured(filled, Question("x", "pears/pears.md"))).answers
    assert (answer.why, answer.error) == ("the reason is unknown: no answer", None)
