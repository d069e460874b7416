"""The short form of `make soak`, and the check of its results."""

import pytest

from tests.torture.soak import Size, Soaked, soak, wrong
from tests.torture.soak_parts import Sample

QUIET = Sample(rss=80_000, pss=60_000, descriptors=20, threads=30, children=0, log=0)
SHORT = Size(mirrors=4, files=3, hostile=40, edits=8, cycles=2, cycle_s=2.0, ends=2)


def soaked(**last: int) -> Soaked:
    """Return nine cycles, the last three with other values."""
    changed = Sample(**{name: last.get(name, getattr(QUIET, name)) for name in Sample.__slots__})
    lines = [100.0] * 6 + [float(last.get("log", 100))] * 3
    return Soaked(54.0, [QUIET] * 6 + [changed] * 3, lines=lines, stops_s=[1.0], counts={"mirrors": 10})


def test_constant_resources_are_no_failure() -> None:
    assert wrong(soaked()) == []


@pytest.mark.parametrize("what", [{"pss": 63_000}, {"rss": 83_000}, {"descriptors": 25}, {"threads": 33}, {"log": 140}])
def test_a_growing_resource_is_named(what: dict[str, int]) -> None:
    assert len(wrong(soaked(**what))) == 1


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_daemon_under_faults_ends_on_sigterm_and_is_in_step_afterwards() -> None:
    seen = soak(SHORT, 1)
    assert seen.bugs == []
    assert max(seen.stops_s) < 5
    assert seen.counts["hostile connections"] > 0
