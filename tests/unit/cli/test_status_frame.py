"""`status --watch` fits the terminal: the table loses columns, and a long list ends in the command for the rest."""

from typing import Any

import click
import pytest

from syncd.cli.output import cut, width
from syncd.cli.status import frame, sum_line


def mirror(problems: int = 0, detail: str = "") -> dict[str, Any]:
    return {
        "state": "degraded" if detail else "syncing",
        "path": "/srv/docs",
        "target": "ai-search:default/docs",
        "owner": "docs-1a2b3c4d",
        "items": {"synced": 123_456, "pending": 1_234, "failed": problems, "rejected": 0},
        "searchable": 120_000,
        "index": {"queued": 1000, "running": 100, "completed": 120_000, "error": 0, "skipped": 0, "outdated": 0},
        "remaining": 1_234,
        "eta_s": 3700.0,
        "detail": detail,
        "next_try": None,
        "last_reconcile": "2026-11-22T10:00:00Z",
        "oldest_pending_s": 3.0,
        "watch": "inotify",
        "problems": [
            {"key": f"a/long/path/to/a/file-{number}.md", "kind": "failed", "message": "no answer " * 20}
            for number in range(problems)
        ],
    }


def status(**mirrors: dict[str, Any]) -> dict[str, Any]:
    daemon = {"running": True, "pid": 4242}
    return {"mirrors": mirrors, "daemon": daemon, "last_seen": None, "ended": False, "command": None}


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (80, 23), (40, 10), (200, 60)])
@pytest.mark.parametrize("problems", [0, 1, 15, 16, 17, 400])
def test_a_frame_has_the_size_of_the_terminal(columns: int, rows: int, problems: int) -> None:
    shown = frame(status(handbook=mirror(problems, "no answer " * 30), wiki=mirror()), columns, rows)
    assert len(shown) <= rows
    assert max(map(width, shown)) <= columns
    text = click.unstyle("\n".join(shown))
    assert "handbook" in text
    assert "degraded" in text
    named = text.count("    failed")
    if named < problems:
        assert f"… and {problems - named} more: syncd status --all" in text


def test_the_least_important_columns_go_first() -> None:
    wide, narrow = (click.unstyle(frame(status(docs=mirror(3)), columns, 24)[2]) for columns in (140, 80))
    assert [name in wide for name in ("in step", "to go", "left", "indexing", "last pass", "watch")] == [True] * 6
    assert "watch" not in narrow
    assert "problems" in narrow


def test_more_mirrors_than_rows_end_in_the_command_that_shows_them() -> None:
    shown = frame(status(**{f"mirror{number}": mirror() for number in range(50)}), 80, 23)
    assert len(shown) == 23
    assert shown[-1] == "… and 31 more lines: syncd status"


def test_a_text_is_cut_at_the_columns_that_it_takes() -> None:
    assert cut("abc", 3) == "abc"
    assert cut("abcd", 3) == "ab…"
    assert cut("日本語", 4) == "日…"


def test_several_mirrors_are_summed_up_with_the_worst_first() -> None:
    idle = mirror() | {"state": "idle"}
    halted = mirror() | {"state": "halted"}
    assert click.unstyle(sum_line({"a": idle, "b": idle})) == "mirrors    2 idle"
    many = {f"m{number}": idle for number in range(9)} | {"x": mirror(1), "z": halted, "y": mirror(1, "no answer")}
    expected = "mirrors    1 halted (z), 1 degraded (y), 1 syncing (x), 9 idle, 2 with problems (x, y)"
    assert click.unstyle(sum_line(many)) == expected
    four = dict.fromkeys("abcd", halted)
    assert click.unstyle(sum_line(four)) == "mirrors    4 halted (a, b, c, …)"
