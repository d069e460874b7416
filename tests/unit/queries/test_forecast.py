"""The requests and the time of the next pass, and the lines about the ceilings of the plans."""

import pytest

from syncd.cli.survey import survey
from syncd.core.names import WHOLE
from syncd.queries.forecast import FolderSurvey, Growth, describe, describe_usage, usage_object
from syncd.targets.base import Usage
from tests.harness import Core
from tests.memory_target import MemoryTarget


def counted(files: int, unsent: int, *, known: int = 0, found: int = 0, complete: bool = True) -> str:
    seen = FolderSurvey(files, 0, unsent, unsent * 10, 0, known, found, complete)
    return describe(seen, MemoryTarget(), lambda requests: requests / 2, "at 2 requests/s")


def test_the_forecast_of_a_first_pass_has_that_of_an_idle_one() -> None:
    assert counted(1999, 1999) == (
        "first pass about 2,000 requests, 17 min at 2 requests/s; one with nothing to do: 2 requests, 1 s"
    )


def test_the_forecast_of_a_later_pass_counts_changed_and_missing_files() -> None:
    assert (
        counted(1000, 0, known=1000, found=1000)
        == "nothing looks changed; a pass takes about 1 request, 1 s at 2 requests/s"
    )
    assert counted(1000, 3, known=1001, found=999) == (
        "3 to look at, 2 to delete: about 7 requests, 4 s at 2 requests/s; one with nothing to do: 1 request, 1 s"
    )
    assert "to delete" not in counted(1000, 3, known=1001, found=999, complete=False)


async def test_the_survey_reads_no_file_and_finds_new_changed_and_missing_ones(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("same.md", "changed.md", "gone.md"):
        core.write(name, name, age_s=60)
    await core.full()
    await core.full()
    core.write("changed.md", "other")
    core.write("new.md", "12345")
    core.write("big.md", "x" * 1001)
    core.remove("gone.md")
    monkeypatch.setattr(core.mirror.tree, "read", None)
    seen = survey(core.mirror.tree, WHOLE, core.mirror.db, "docs")
    assert seen == FolderSurvey(files=3, problems=1, unsent=2, unsent_bytes=10, known=3, found=2, complete=True)
    assert survey(core.mirror.tree, WHOLE, None, "docs").unsent == 3


FILES = Usage("files", 1234, 100_000, 500_000, per="file")
FULL = "files: 1,234; free plan: 98,766 of 100,000 left; paid plan: 498,766 of 500,000 left"
UPGRADE = "nothing on a paid plan; on the free plan leave files out with exclude, or upgrade"
RAISE = "ask Cloudflare for a higher limit, or spread the files or stores over another one"


@pytest.mark.parametrize(
    ("usage", "growth", "line", "remedy"),
    [
        (FILES, Growth(), FULL, None),
        (
            FILES,
            Growth(98_766, 99_000),
            "files: 1,234, 98,766 to come; free plan: 0 of 100,000 left; paid plan: 400,000 of 500,000 left",
            None,
        ),
        (
            FILES,
            Growth(98_767),
            "files: 1,234, 98,767 to come; free plan: 0 of 100,000 left; paid plan: 399,999 of 500,000 left",
            UPGRADE,
        ),
        (
            FILES,
            Growth(-5),
            "files: 1,234; free plan: 98,766 of 100,000 left; paid plan: 498,766 of 500,000 left",
            None,
        ),
        (
            Usage("files", 100_001, 100_000, 500_000, per="file"),
            Growth(10),
            "files: 100,001, 10 to come; paid plan: 399,989 of 500,000 left",
            None,
        ),
        (
            Usage("files", 499_999, 100_000, 500_000, per="file"),
            Growth(2),
            "files: 499,999, 2 to come; paid plan: 0 of 500,000 left",
            RAISE,
        ),
        (
            Usage("files", None, 100_000, 500_000, per="file"),
            Growth(5),
            "files: an unknown number, 5 to come; free plan: 100,000; paid plan: 500,000",
            None,
        ),
        (Usage("spaces", 99, 100, 100, 1), Growth(7), "spaces: 99, 1 to come; any plan: 0 of 100 left", None),
        (Usage("spaces", 100, 100, 100, 1), Growth(7), "spaces: 100, 1 to come; any plan: 0 of 100 left", RAISE),
        (
            Usage("writes", None, 1000, None, per="put"),
            Growth(3, 1001),
            "writes: an unknown number, 1,001 to come; free plan: 1,000",
            UPGRADE,
        ),
    ],
)
def test_a_line_shows_the_room_on_each_plan(usage: Usage, growth: Growth, line: str, remedy: str | None) -> None:
    assert describe_usage(usage, growth) == (line, remedy)


def test_the_json_has_numbers_or_null() -> None:
    assert usage_object(Usage("writes", None, 1000, None, per="put"), Growth(3, 9)) == {
        "what": "writes",
        "used": None,
        "to_come": 9,
        "free_plan": 1000,
        "paid_plan": None,
    }
