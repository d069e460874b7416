"""The figures of a search, and the comparison of two measurements."""

import math
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.queries.retrieval import Measured, Named, Question, compare, figures, first_hits, judged
from syncd.targets.base import Hit

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
    found = first_hits(hits("a", "a", "b", "a", "c"))
    assert [(hit.key, hit.rank) for hit in found] == [("a", 1), ("b", 3), ("c", 5)]


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
    before: Mapping[Named, Measured], now: Mapping[Named, Measured]
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
def test_a_measurement_equals_itself(run: Mapping[Named, Measured]) -> None:
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
