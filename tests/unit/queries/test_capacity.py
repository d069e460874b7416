"""The lines about the ceilings of the plans."""

import pytest

from syncd.queries.capacity import Growth, as_object, describe
from syncd.targets.base import Usage

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
    assert describe(usage, growth) == (line, remedy)


def test_the_json_has_numbers_or_null() -> None:
    assert as_object(Usage("writes", None, 1000, None, per="put"), Growth(3, 9)) == {
        "what": "writes",
        "used": None,
        "to_come": 9,
        "free_plan": 1000,
        "paid_plan": None,
    }
