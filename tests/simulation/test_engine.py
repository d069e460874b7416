"""Whole runs of the engine: after all faults the target equals the folder, and foreign entries are unchanged."""

import os
from pathlib import Path

import pytest

from tests.simulation.harness import FAULTS, play

pytestmark = pytest.mark.usefixtures("no_threads")

SEEDS = range(int(os.environ.get("SYNCD_ENGINE_SEEDS", "3")))
KINDS = ["ai-search", "kv", "vectorize"]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", KINDS)
def test_after_a_storm_the_target_equals_the_folder(tmp_path: Path, kind: str, seed: int) -> None:
    engine = play(kind, seed, tmp_path, steps=150)
    assert engine.faults.keys() <= set(FAULTS)
    assert sum(engine.faults.values()) + engine.crashes > 10, "that was no storm"


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_trace(tmp_path: Path, kind: str) -> None:
    traces = []
    for again in ("one", "two"):
        (tmp_path / again).mkdir()
        traces.append(play(kind, 7, tmp_path / again, steps=60).trace)
    assert len(traces[0]) > 80
    assert traces[0] == traces[1]
