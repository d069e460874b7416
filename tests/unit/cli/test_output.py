"""Tables and the progress line."""

import asyncio

import pytest

from syncd.cli import output
from syncd.cli.output import (
    PROBLEMS_SHOWN,
    ProgressDisplay,
    ProgressLine,
    ProgressPrinter,
    print_problems,
    print_table,
    table_lines,
)
from syncd.cloudflare.gate import Gate
from syncd.core.model import Problem


def test_columns_are_as_wide_as_their_widest_cell_on_a_terminal() -> None:
    rows = [["日本", "1"], ["\x1b[1mab\x1b[0m", "10"], ["e\u0301", "100"]]
    assert list(table_lines(("", "size"), rows, right=("size",))) == [
        "\x1b[2m\x1b[0m      \x1b[2msize\x1b[0m",
        "日本     1",
        "\x1b[1mab\x1b[0m      10",
        "e\u0301      100",
    ]


def test_a_table_without_headers_begins_with_its_first_row() -> None:
    assert list(table_lines(("", ""), [["a", "b"], ["ccc", ""]], right=())) == ["a    b", "ccc"]
    assert list(table_lines(("", ""), [], right=())) == []


def test_a_table_in_a_pipe_is_plain_text_in_whole_lines(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("key", "size"), [("long " * 60 + "\x1b[2J", 7), (None, "x")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "key  size"
    assert lines[1] == "long " * 60 + "\\x1b[2J" + " " * 5 + "7"
    assert lines[2] == "        x"


@pytest.mark.parametrize(("length", "column"), [(59, 61), (60, 62), (61, 5)])
def test_one_long_cell_does_not_move_the_cells_of_other_lines(length: int, column: int) -> None:
    rows = [["k" * length, "first"], ["abc", "second"]]
    assert list(table_lines(("", ""), rows, right=())) == [f"{'k' * length}  first", f"{'abc':{column}}second"]


@pytest.mark.parametrize(("count", "more"), [(0, 0), (PROBLEMS_SHOWN, 0), (PROBLEMS_SHOWN + 1, 1)])
def test_a_long_list_of_problems_ends_in_the_command_for_the_rest(
    count: int, more: int, capsys: pytest.CaptureFixture[str]
) -> None:
    print_problems([Problem("1.md", "failed", "no answer")] * count, "syncd status")
    lines = capsys.readouterr().out.splitlines()
    assert lines[:PROBLEMS_SHOWN] == ["  failed  1.md  no answer"] * min(count, PROBLEMS_SHOWN)
    assert lines[PROBLEMS_SHOWN:] == ["  … and 1 more: syncd status"] * more


@pytest.mark.parametrize(
    ("done", "total", "bar"), [(0, 0, "a 0:00"), (1, 2, f"a [{'#' * 15:30}] 1/2"), (2, 1, f"a [{'#' * 30}] 2/1")]
)
def test_the_bar_shows_the_part_that_is_done(
    done: int, total: int, bar: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ProgressLine()
    line.show("a", done, total)
    line.show("too soon after the first", done, total)
    line.clear()
    shown = capsys.readouterr().err
    assert bar in shown
    assert "too soon" not in shown
    assert shown.endswith("\r\x1b[K")


async def test_the_progress_shows_that_requests_wait_for_the_rate_limits(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "_WAIT_LOOK_S", 0.0)
    gate = Gate(0, 1)
    gate.hold(250.0)

    async def request() -> None:
        async with gate.slot():
            pass

    waiting = asyncio.create_task(request())
    try:
        async with ProgressDisplay("docs", ProgressPrinter(0.0), gate).refreshed():
            while "waiting" not in (printed := capsys.readouterr().err):  # noqa: ASYNC110 - the display has no event for a line
                await asyncio.sleep(0)
    finally:
        waiting.cancel()
    assert printed.splitlines()[-1] == "docs: listing the target, waiting 4 min for the rate limits"
