"""The short form of `make torture`: a few small storms with fixed seeds. Use the long form before a release."""

import shutil
from pathlib import Path

import pytest

from tests.torture.faulty_standin import DONE, LISTING, NOT_DONE
from tests.torture.mutants import MUTANTS, ROOT, Mutant, apply
from tests.torture.storm import play
from tests.torture.storm_values import Script, Size, Tally

SMALL = Size(files=40, seconds=2.5, stirs=4, interval=2.0)

# Waiting is bounded within; the sum of all bounds is for a machine that does much else.
pytestmark = pytest.mark.timeout(400)


def of_zero(tally: Tally) -> None:
    """Check that the faults of a storm happened, and name the broken guarantees."""
    assert not any(tally.found.values()), (dict(tally.found), tally.notes)
    assert tally.counts["requests"] > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "script"),
    [
        (1, Script("ai-search", "ai-search", {"on_existing": "conflict", "checksum": "zero"}, losses=True)),
        (2, Script("kv", "kv", {"unsuccessful": 0.1, "empty_pages": True, "list_lag": 0.2}, strength=0.3, clocks=True)),
        (3, Script("vectorize", "vectorize", {"mutation_lag": 0.3}, strength=0.3, losses=True)),
    ],
)
def test_kills_and_faults_lose_nothing_copy_nothing_and_touch_nothing_foreign(seed: int, script: Script) -> None:
    tally = play(script, seed, SMALL)
    of_zero(tally)
    assert tally.faults.keys() & {*DONE, *NOT_DONE, *LISTING}


@pytest.mark.slow
def test_a_refused_token_is_not_used_again() -> None:
    of_zero(play(Script("refused", "ai-search", {}, refusal=True), 4, Size(files=20, seconds=1.0)))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_can_be_applied(tmp_path: Path, mutant: Mutant) -> None:
    """Check only that each mutant can be applied. `make mutants` checks that the tests catch it."""
    (tmp_path / mutant.file).parent.mkdir(parents=True)
    shutil.copy2(ROOT / mutant.file, tmp_path / mutant.file)
    apply(mutant, tmp_path)
    assert all((ROOT / each).exists() for each in mutant.tests)
