"""The bench's table: what counts as reached, and how it is shown."""

import pytest

from bench.table import NAME_WIDTH, Figure, Peer, Rounds, Sample, markdown, missing, percentile, spread, text

GONE = Peer("wrangler", get="install it")


@pytest.mark.parametrize(("value", "over"), [(0.99, False), (1.0, False), (1.01, True)])
def test_a_figure_is_over_only_above_what_it_is_to_reach(value: float, over: bool) -> None:
    assert Figure("a", value, "s", 1.0).over is over


def test_only_an_exact_figure_can_fail() -> None:
    assert not Figure("a", 2, reach=1).failed
    assert Figure("a", 2, reach=1, exact=True).failed
    assert not Figure("a", 1, reach=1, exact=True).failed
    assert not Figure("a", 1).over


def test_to_reach_nothing_is_something_to_reach() -> None:
    assert Figure("a", 1, reach=0, exact=True).failed
    assert not Figure("a", 0, reach=0, exact=True).over


def test_a_line_shows_both_ratios_and_the_verdict() -> None:
    line = text([Figure("pass", 13.0, "s", 13.1, floor=12.5, peers=(Peer("rclone", 12.9),))])[1]
    assert line.split() == ["pass", "13.0", "s", "12.5", "s", "1.04", "rclone:", "12.9", "s", "1.01", "13.1", "s", "ok"]


def test_what_is_missing_leaves_its_cells_empty() -> None:
    assert text([Figure("requests", 1_005)])[1].split() == ["requests", "1,005"]
    assert "/" not in text([Figure("walk", 1.0, "s", floor=0.0)])[1]


def test_further_peers_and_medians_have_lines_of_their_own() -> None:
    peers = (Peer("one", 2.0, median=3.0), Peer("two", 4.0))
    lines = text([Figure("pass", 1.0, "s", peers=peers, median=1.5)])
    assert [line.split() for line in lines[1:]] == [
        ["pass", "1.00", "s", "one:", "2.00", "s", "0.50"],
        ["median", "1.50", "s", "median", "3.00", "s"],
        ["two:", "4.00", "s", "0.25"],
    ]


def test_a_peer_that_is_not_here_is_named_once_with_its_remedy() -> None:
    figures = [Figure("a", 1.0, "s", peers=(GONE,)), Figure("b", 2.0, "s", peers=(GONE,))]
    figures.append(Figure("c", 1.0, "s", peers=(Peer("wrangler, twice"),)))
    assert missing(figures) == ["wrangler: install it"]
    lines = text(figures)
    assert lines[-1] == "not found: wrangler: install it"
    assert sum("wrangler: not found" in line for line in lines) == 2


def test_long_names_are_broken_and_the_table_stays_narrow() -> None:
    peers = (Peer("inotifywait + curl", 123.4), Peer("rclone, 2 requests", 1_234.5))
    name = "AI Search: first pass of 100,000 files at 50 ms, 8 in flight and one more word"
    lines = text([Figure(name, 1_234.5, "ms", 9_999.0, floor=1_111.0, peers=peers, median=1_999.0)])
    assert max(len(line) for line in lines) <= 120
    assert name.split() == [word for line in lines[1:] for word in line[:NAME_WIDTH].split() if word != "median"]


def test_markdown_has_one_row_for_a_figure() -> None:
    rows = markdown([Figure("x " * 40, 1.0, "s", 2.0, peers=(Peer("one", 2.0), GONE), median=1.5)])
    assert rows[2].count("|") == rows[0].count("|") == rows[1].count("|")
    assert "1.00 s<br>median 1.50 s" in rows[2]
    assert "one: 2.00 s<br>wrangler: not found" in rows[2]


def test_markdown_keeps_each_ratio_beside_its_peer() -> None:
    rows = markdown([Figure("a", 1.0, "s", peers=(GONE, Peer("one", 2.0, median=3.0), Peer("two", 4.0)))])
    cells = [cell.strip().split("<br>") for cell in rows[2].split("|")]
    assert cells[5] == ["wrangler: not found", "one: 2.00 s", "median 3.00 s", "two: 4.00 s"]
    assert cells[6] == ["", "0.50", "", "0.25"]
    assert rows[-1] == "- not found: wrangler: install it"


def test_the_best_round_counts_and_the_median_is_noted() -> None:
    figure = Rounds([3.0, 1.0, 2.5]).figure("pass", "s", 2.0)
    assert (figure.value, figure.median, figure.over) == (1.0, 2.5, False)
    assert Rounds([3.0]).figure("pass", "s").median is None


def test_rounds_that_were_not_run_are_a_peer_that_is_not_here() -> None:
    assert Rounds([]).peer("rclone", "install it") == Peer("rclone", None, "install it")
    assert Rounds([2.0, 4.0]).peer("rclone", "install it") == Peer("rclone", 2.0, "install it", 3.0)


@pytest.mark.parametrize(("percent", "value"), [(0, 1), (50, 50), (50.1, 51), (99, 99), (99.5, 100), (100, 100)])
def test_a_percentile_is_the_smallest_value_that_enough_do_not_exceed(percent: float, value: float) -> None:
    assert percentile([*range(100, 0, -1)], percent) == value


def test_a_spread_is_in_ms_and_holds_p50_and_p99_to_something() -> None:
    seconds = [number / 1e3 for number in range(1, 101)]
    peers = [Sample("script", [0.025]), Sample("other", [], "install it")]
    figures = spread("edit", seconds, (50.0, 98.0), floor_s=0.01, peers=peers)
    assert [figure.value for figure in figures] == pytest.approx([50, 90, 99, 100])
    assert [figure.reach for figure in figures] == [50.0, None, 98.0, None]
    assert {figure.floor for figure in figures} == {10.0}
    assert figures[0].peers == (Peer("script", 25.0), Peer("other", get="install it"))
