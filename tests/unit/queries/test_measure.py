"""A search that fails is the error of its question, and an error that concerns all questions stops the measurement."""

from collections.abc import Sequence
from typing import Any

import pytest

from syncd.core.errors import EXIT_DIFFERENT, EXIT_HALT, EXIT_PROBLEMS, EXIT_UNREACHABLE, Halt, Later, Park, Unreachable
from syncd.queries.measure import Measurement, ask_questions
from syncd.queries.retrieval import Measured, Question
from syncd.targets.base import Hit
from tests.harness import Core, ScriptedTarget

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

    monkeypatch.setattr("syncd.queries.measure._index_trouble", unknown)
    (answer,) = (await measured(filled, Question("x", "pears/pears.md"))).answers
    assert (answer.why, answer.error) == ("the reason is unknown: no answer", None)
