"""Repeated accidental deletes in the folder: the target never loses more entries than the guard allows."""

import asyncio
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from syncd.core.errors import Brake
from syncd.core.plan import Policy
from syncd.core.problems import Limits
from syncd.core.rules import Rules
from syncd.service.build import build_mirror
from syncd.state.db import open_state
from syncd.state.directory import FILE_NAME
from syncd.sync.mirror import Mirror, PassOptions, Scope, Settings
from syncd.sync.reconcile import reconcile
from tests.harness import IN_MEMORY, START
from tests.memory_target import MemoryTarget

KEYS = [f"{number:02}.md" for number in range(60)]
KEEP = "keep.md"  # an emptied root is a case of its own
FLOOR, SHARE = 10, 0.25
HOUR_S = 3600.0
some = st.sets(st.sampled_from(KEYS), min_size=1, max_size=40)


class Guarded(RuleBasedStateMachine):
    """A folder of sixty files with accidental deletes, and a mirror that may delete a quarter an hour."""

    @initialize()
    def begin(self) -> None:
        self.base = Path(tempfile.mkdtemp(dir=IN_MEMORY))
        self.root = self.base / "root"
        self.root.mkdir()
        self.clock = [START]
        self.gone: list[float] = []
        self.target = MemoryTarget("me", limits=Limits(lag_s=0.0))
        self.runner = asyncio.Runner()
        self.mirror = self.start()
        for key in (*KEYS, KEEP):
            (self.root / key).write_text(key)
        self.look(everything=True)

    def start(self) -> Mirror:
        rules = Settings(Policy("me"), Rules(), "25%", settle=0.0)
        mirror = build_mirror(open_state(self.base / "state"), "docs", self.root, self.target, rules)
        mirror.now = lambda: self.clock[0]
        mirror.age = lambda: self.clock[0]
        return mirror

    def teardown(self) -> None:
        if hasattr(self, "base"):
            self.mirror.db.close()
            self.runner.close()
            shutil.rmtree(self.base)

    @rule(keys=some, noticed=st.booleans())
    def slip(self, keys: set[str], noticed: bool) -> None:
        for key in keys:
            (self.root / key).unlink(missing_ok=True)
        if noticed:
            self.mirror.queue.mark([(key, False) for key in keys], self.clock[0])

    @rule(keys=some)
    def bring_back(self, keys: set[str]) -> None:
        for key in keys:
            (self.root / key).write_text(key)

    @rule(seconds=st.sampled_from([1.0, 600.0, 4000.0]))
    def time_goes_by(self, seconds: float) -> None:
        self.clock[0] += seconds

    @rule(lost=st.booleans())
    def restart(self, lost: bool) -> None:
        self.mirror.db.close()
        if lost:
            # The record of recent deletes is lost, too. The present entries then count as all entries.
            self.gone.clear()
            for file in (self.base / "state").glob(f"{FILE_NAME}*"):
                file.unlink()
        self.mirror = self.start()

    @rule(everything=st.booleans())
    def look(self, everything: bool) -> None:
        self.clock[0] += 1
        now, before = self.clock[0], set(self.target.store)
        scope = Scope() if everything else Scope(self.mirror.queue.settled(now))
        refused = True
        with suppress(Brake):
            self.runner.run(reconcile(self.mirror, scope)).tables.drop()
            refused = False
        went = before - set(self.target.store)
        assert not (refused and went), "a refused plan deletes nothing"
        assert went.isdisjoint(path.name for path in self.root.iterdir()), "nothing goes whose file is there"
        self.gone = [at for at in self.gone if at >= now - HOUR_S]
        if went:
            known = len(before) + len(self.gone)
            self.gone += [now] * len(went)
            assert len(self.gone) <= max(FLOOR, SHARE * known), "no more than the guard allows in one hour"

    @rule()
    def mean_it(self) -> None:
        self.clock[0] += 1
        self.runner.run(reconcile(self.mirror, Scope(), PassOptions(force=True))).tables.drop()
        assert set(self.target.store) == {path.name for path in self.root.iterdir()}


@pytest.mark.timeout(300)  # a failure takes its time to be made small
@pytest.mark.parametrize("examples", [30, pytest.param(200, marks=pytest.mark.slow)])
def test_accidental_deletes_never_exceed_the_guard(examples: int) -> None:
    with structlog.testing.capture_logs():
        run_state_machine_as_test(
            Guarded,
            settings=settings(
                max_examples=examples,
                stateful_step_count=25,
                derandomize=True,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
