"""How long so many requests take, what is left of a pass, and the lines about the ceilings of the plans."""

import pytest

from syncd.cli.survey import survey
from syncd.core.names import WHOLE
from syncd.queries.forecast import FolderSurvey, Growth, Pace, describe, describe_usage, left_s, span, usage_object
from syncd.state.pass_tables import PassTables
from syncd.sync.mirror import Result
from syncd.targets.base import Usage
from tests.harness import Core
from tests.memory_target import MemoryTarget


@pytest.mark.parametrize(
    ("left", "done", "elapsed_s", "floor_s", "wanted"),
    [
        (0, 5, 10.0, 3.0, 0.0),
        (-1, 5, 10.0, 3.0, 0.0),
        (100, 0, 10.0, 30.0, 30.0),
        (100, 0, 10.0, 0.0, None),
        (100, 50, 10.0, 5.0, 20.0),
        (100, 50, 10.0, 30.0, 30.0),
    ],
)
def test_what_is_left_takes_as_long_as_the_slower_of_rate_and_limit(
    left: int, done: int, elapsed_s: float, floor_s: float, wanted: float | None
) -> None:
    assert left_s(left, done, elapsed_s, floor_s) == wanted


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0, "1 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (89.0, "1 min"),
        (359.0, "6 min"),
        (3569.0, "59 min"),
        (3580.0, "1 h"),
        (12000.0, "3 h 20 min"),
        (86399.0, "1 d"),
        (187200.0, "2 d 4 h"),
    ],
)
def test_a_length_of_time_is_told_in_at_most_two_units(seconds: float, said: str) -> None:
    assert span(seconds) == said


def result(core: Core, put: int, delete: int = 0, adopt: int = 0) -> Result:
    made = Result(PassTables(core.mirror.db, 1), 1, dry_run=False)
    made.tables.plan.counts.update({"put": put, "delete": delete, "adopt": adopt})
    return made


def test_the_pace_begins_when_the_remote_is_changed_and_anew_with_each_pass(core: Core) -> None:
    now = 0.0
    pace = Pace(lambda puts, deletes: puts + deletes, lambda requests: requests / 10.0, lambda: now)
    seen = result(core, put=90, delete=10, adopt=1000)
    now = 0.0
    assert pace.look(seen) is None
    seen.done["adopt"] = 1000
    now = 100.0
    assert pace.look(seen) is None
    seen.done["put"] = 20
    now = 110.0
    assert pace.look(seen) == 40.0
    seen.done["put"], seen.done["failed"] = 85, 5
    now = 111.0
    assert pace.look(seen) == pytest.approx(10 * 11 / 90)
    seen.done["delete"] = 10
    now = 112.0
    assert pace.look(seen) == 0.0
    other = result(core, put=10)
    now = 200.0
    assert pace.look(other) is None
    other.done["put"] = 5
    now = 200.1
    assert pace.look(other) == 0.5, "no faster than the limit"


def counted(files: int, unsent: int, *, known: int = 0, found: int = 0, complete: bool = True) -> str:
    seen = FolderSurvey(files, 0, unsent, unsent * 10, 0, known, found, complete)
    return describe(seen, MemoryTarget(), lambda requests: requests / 2, "at 2 requests/s")


def test_the_outlook_of_a_first_pass_names_an_idle_one_too() -> None:
    assert counted(1999, 1999) == (
        "first pass about 2,000 requests, 17 min at 2 requests/s; one with nothing to do: 2 requests, 1 s"
    )


def test_the_outlook_of_a_later_pass_counts_what_looks_changed_and_what_is_gone() -> None:
    assert (
        counted(1000, 0, known=1000, found=1000)
        == "nothing looks changed; a pass takes about 1 request, 1 s at 2 requests/s"
    )
    assert counted(1000, 3, known=1001, found=999) == (
        "3 to look at, 2 to delete: about 7 requests, 4 s at 2 requests/s; one with nothing to do: 1 request, 1 s"
    )
    assert "to delete" not in counted(1000, 3, known=1001, found=999, complete=False)


async def test_the_survey_reads_no_file_and_finds_what_is_new_changed_or_gone(
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
def test_a_line_says_what_is_left_on_each_plan(usage: Usage, growth: Growth, line: str, remedy: str | None) -> None:
    assert describe_usage(usage, growth) == (line, remedy)


def test_the_json_has_numbers_or_null() -> None:
    assert usage_object(Usage("writes", None, 1000, None, per="put"), Growth(3, 9)) == {
        "what": "writes",
        "used": None,
        "to_come": 9,
        "free_plan": 1000,
        "paid_plan": None,
    }
