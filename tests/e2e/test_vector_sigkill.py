"""A SIGKILL at any moment of a pass over a Vectorize index: the next passes end exact, and embed nothing twice."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.cloudflare.workers_ai import TEXTS_LIMIT
from syncd.targets.vectorize.embedding import REQUESTS
from tests.e2e.harness import open_room, until
from tests.e2e.harness_vectorize import VectorIndex

FILES = 60
SECTIONS = 20
EDITED = range(0, FILES, 3)
CHANGED = len(EDITED) * sum(n % 3 > 0 for n in range(SECTIONS))
"""Texts that the edits change: few enough to be in flight all at once."""
IN_FLIGHT = TEXTS_LIMIT * REQUESTS
"""Texts that may have been embedded, with nobody left to remember it."""
SEEDS = range(3)


def text(file: int, edition: str = "") -> str:
    """About two thirds of its sections say something else in another edition."""
    parts = (f"## Part {n}\n\nFile {file} on matter {n} {edition if n % 3 else ''}.\n\n" for n in range(SECTIONS))
    return f"# File {file}\n\n" + "".join(parts)


@pytest.fixture(params=[0.0, 1.0])
def index(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[VectorIndex]:
    """A folder of 1,200 pieces over an index that is that many seconds late."""
    with open_room(tmp_path, mutation_lag=request.param, latency=0.01) as room:
        made = VectorIndex(room)
        for number in range(FILES):
            room.write(f"part{number % 7}/{number}.md", text(number))
        try:
            yield made
        finally:
            made.close()


def killed(index: VectorIndex, chance: random.Random, most: int) -> None:
    """Start a pass, and kill it after some of the requests that it makes, `most` being about all of them."""
    index.room.remote.forget_requests()
    enough, more_s = chance.randrange(1, most + 1), chance.random() * 0.02
    process = index.room.start("reconcile")
    until(lambda: index.room.server.requests.total >= enough or not process.process.is_alive(), every_s=0.001)
    process.process.join(more_s)
    process.kill()


def ends_exact(index: VectorIndex, most: int) -> None:
    """The next passes bring the index in step; they and the killed one embed so many texts at most."""
    embedded = index.embedded()
    index.room.remote.forget_requests()
    for _ in range(2):
        seen = index.room.syncd("reconcile", "--wait")
        assert (seen.code, "Traceback" in seen.err) == (0, False), seen.err
    index.in_step()
    assert embedded + index.embedded() <= most
    index.room.remote.forget_requests()
    again = index.room.syncd("reconcile", "--json").json()["mirrors"]["docs"]
    assert (again["actions"], index.room.remote.counted()["changing"]) == ([], 0)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_first_pass_killed_at_any_point_is_completed(index: VectorIndex, seed: int) -> None:
    killed(index, random.Random(f"first {seed}"), 20)
    ends_exact(index, len(index.expected()) + IN_FLIGHT)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_pass_over_edits_killed_at_any_point_leaves_no_old_vector(index: VectorIndex, seed: int) -> None:
    assert index.room.syncd("reconcile", "--wait").code == 0
    before = set(index.ids())
    for number in EDITED:
        index.room.write(f"part{number % 7}/{number}.md", text(number, "anew"))
    (index.room.docs / "part1/1.md").unlink()
    killed(index, random.Random(f"edits {seed}"), 14)
    ends_exact(index, 2 * CHANGED)
    assert len(before & set(index.ids())) == len(before) - (len(EDITED) + 1) * SECTIONS
