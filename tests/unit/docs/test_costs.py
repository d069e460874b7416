"""The figures of the page of costs that follow from the code are those of the code."""

import re

import pytest

from syncd.config.schema import Cloudflare
from syncd.core.requests import parse_quota, per_second, seconds_for
from syncd.targets.ai_search import advice
from syncd.targets.vectorize.target import INDEXES_FREE, INDEXES_PAID, VECTORS
from tests.unit.docs.messages import ROOT

PAGE = (ROOT / "docs/explanation/costs.md").read_text(encoding="utf-8")
SECONDS = {"minute": 60, "hour": 3600, "day": 86400}
FIRST_PASSES = re.findall(r"^\| ([\d,]+) \| (\d.+) \|$", PAGE, re.MULTILINE)


def row(first: str) -> str:
    """Return the row of a table with this first cell."""
    return next(line for line in PAGE.splitlines() if line.startswith(f"| {first} |"))


@pytest.mark.parametrize(("files", "duration"), FIRST_PASSES)
def test_the_time_of_a_first_pass_follows_from_the_budget(files: str, duration: str) -> None:
    settings = Cloudflare.model_fields
    quota = parse_quota(settings["quota"].default)
    assert quota is not None
    rate = per_second(settings["tpslimit"].default, settings["transfers"].default)
    told = sum(int(number) * SECONDS[unit] for number, unit in re.findall(r"(\d+) (day|hour|minute)s?", duration))
    assert seconds_for(int(files.replace(",", "")), quota, [], 0.0, rate) == pytest.approx(told, rel=0.03)


def test_the_page_has_times_of_first_passes() -> None:
    assert len(FIRST_PASSES) >= 5


@pytest.mark.parametrize(
    ("first", "numbers"),
    [
        ("files in an AI Search instance", (advice.FILES_FREE, advice.FILES_PAID, advice.FILES_PAID_HYBRID)),
        ("AI Search instances", (advice.INSTANCES_FREE, advice.INSTANCES_PAID)),
        ("AI Search namespaces", (advice.NAMESPACES,)),
        ("vectors in a Vectorize index", (VECTORS,)),
        ("Vectorize indexes", (INDEXES_FREE, INDEXES_PAID)),
    ],
)
def test_the_ceilings_of_the_plans_are_those_that_check_shows(first: str, numbers: tuple[int, ...]) -> None:
    assert [f"{number:,}" for number in numbers if f"{number:,}" not in row(first)] == []
