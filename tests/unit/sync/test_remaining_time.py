"""The remaining time of a pass."""

import pytest

from syncd.state.pass_tables import PassTables
from syncd.sync.mirror import Result
from syncd.sync.mirror_status import Pace, left_s
from tests.harness import Core


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
def test_the_rest_takes_as_long_as_the_slower_of_rate_and_limit(
    left: int, done: int, elapsed_s: float, floor_s: float, wanted: float | None
) -> None:
    assert left_s(left, done, elapsed_s, floor_s) == wanted


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
