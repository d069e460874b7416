"""After a SIGKILL at any moment of a Vectorize pass, the index becomes exact and no text is embedded twice."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.cloudflare.workers_ai import TEXTS_LIMIT
from syncd.targets.vectorize.writing import REQUESTS
from tests.e2e.harness import open_workspace, until
from tests.e2e.harness_vectorize import VectorIndex

FILES = 60
SECTIONS = 20
EDITED = range(0, FILES, 3)
CHANGED = len(EDITED) * sum(n % 3 > 0 for n in range(SECTIONS))
"""Number of texts that the edits change. All fit into the requests in flight."""
IN_FLIGHT = TEXTS_LIMIT * REQUESTS
"""Number of texts whose embedding may be lost with the killed process."""
SEEDS = range(2)


def text(file: int, edition: str = "") -> str:
    """Return a file. About two thirds of its sections differ between editions."""
    parts = (f"## Part {n}\n\nFile {file} on matter {n} {edition if n % 3 else ''}.\n\n" for n in range(SECTIONS))
    return f"# File {file}\n\n" + "".join(parts)


@pytest.fixture(params=[0.0, 1.0])
def index(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[VectorIndex]:
    """Yield a folder of 1,200 chunks and an index with this lag in seconds."""
    with open_workspace(tmp_path, mutation_lag=request.param, latency=0.01) as workspace:
        made = VectorIndex(workspace)
        for number in range(FILES):
            workspace.write(f"part{number % 7}/{number}.md", text(number))
        try:
            yield made
        finally:
            made.close()


def killed(index: VectorIndex, chance: random.Random, most: int) -> None:
    """Start a pass, and kill it after a random number of requests. most: about all of its requests."""
    index.workspace.remote.forget_requests()
    enough, more_s = chance.randrange(1, most + 1), chance.random() * 0.02
    process = index.workspace.start("reconcile")
    until(lambda: index.workspace.server.requests.total >= enough or not process.process.is_alive(), every_s=0.001)
    process.process.join(more_s)
    process.kill()


def ends_exact(index: VectorIndex, most: int) -> None:
    """Check that the next passes bring the index in step. most: texts that all passes together may embed."""
    embedded = index.embedded()
    index.workspace.remote.forget_requests()
    for _ in range(2):
        seen = index.workspace.syncd("reconcile", "--wait")
        assert (seen.code, "Traceback" in seen.err) == (0, False), seen.err
    index.in_step()
    assert embedded + index.embedded() <= most
    index.workspace.remote.forget_requests()
    again = index.workspace.syncd("reconcile", "--json").json()["mirrors"]["docs"]
    assert (again["actions"], index.workspace.remote.counted()["changing"]) == ([], 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_a_first_pass_killed_at_any_point_is_completed(index: VectorIndex, seed: int) -> None:
    killed(index, random.Random(f"first {seed}"), 20)
    ends_exact(index, len(index.expected()) + IN_FLIGHT)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_a_pass_over_edits_killed_at_any_point_leaves_no_old_vector(index: VectorIndex, seed: int) -> None:
    assert index.workspace.syncd("reconcile", "--wait").code == 0
    before = set(index.ids())
    for number in EDITED:
        index.workspace.write(f"part{number % 7}/{number}.md", text(number, "anew"))
    (index.workspace.docs / "part1/1.md").unlink()
    killed(index, random.Random(f"edits {seed}"), 14)
    ends_exact(index, 2 * CHANGED)
    assert len(before & set(index.ids())) == len(before) - (len(EDITED) + 1) * SECTIONS
