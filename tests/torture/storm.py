"""One storm: constant edits, signals to syncd, and faults of the target. Then clean passes and a comparison."""

import json
import signal
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from syncd.emulator.options import EmulatorOptions
from tests.e2e.harness import TOKEN
from tests.torture.faulty_standin import REFUSED, FaultyStandin, served, weather
from tests.torture.small_disk import fill, small_disk
from tests.torture.storm_values import Script, Size, Tally
from tests.torture.stormy_folder import CONTESTED, Kind, StormyFolder
from tests.torture.stormy_processes import ENDED_EARLY, Clock, Process, Workshop, until
from tests.torture.stormy_remote import Difference, Far, FarAISearch, FarKV, Stranger, compare
from tests.torture.stormy_vectors import FarVectorize

HOUR_S = 3600.0
CLEAN_PASSES = 3
MOST_AFTER_REFUSAL = 16
"""Maximum requests after the first 401: 8 that are in flight, one of each other process, and a few retries."""
MOST_IDLE, ROWS_OF_A_PAGE = 10, 50
"""Requests of a no-op pass in addition to its listing. AI Search has the smallest pages."""
MOST_OF_A_PROCESS, MOST_OF_A_FILE = 20, 3
"""Requests of a whole storm for each process (listings and repetitions) and each file written.

A usual storm needs a third of them. A process that repeats a request without a pause exceeds the number in seconds.
"""
CATCHES_UP_S = 60.0
FAR: Mapping[Kind, Callable[[str], Far]] = {"ai-search": FarAISearch, "kv": FarKV, "vectorize": FarVectorize}
READY = '"watch.ready"'
"""The event in the log of `run` after its watches are set."""


def play(script: Script, seed: int, size: Size) -> Tally:
    """Run a storm in a temporary directory and return its result."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="syncd-torture-") as place:
        manners: dict[str, Any] = {"index_delay": 0.05, "mutation_lag": 0.0, "token": TOKEN, **script.manners}
        with served(EmulatorOptions(**manners), seed, _spared) as (server, standin):
            storm = Storm(script, Random(seed), size, Path(place), standin, server.base_url)
            try:
                storm.play()
            finally:
                storm.end()
    storm.tally.elapsed_s = time.monotonic() - began
    return storm.tally


def _spared(key: str) -> bool:
    return key.startswith("stranger/") or key in CONTESTED


class Storm:
    """A running storm."""

    def __init__(
        self, script: Script, chance: Random, size: Size, place: Path, standin: FaultyStandin, base_url: str
    ) -> None:
        self.tally = Tally()
        self._script = script
        self._chance = chance
        self._size = size
        self._standin = standin
        self._shop = Workshop(place, base_url, script.kind)
        self._shop.configure()
        self._folder = StormyFolder(self._shop.folder, chance, script.kind)
        self._stranger = Stranger(FAR[script.kind](base_url), chance)
        self._ends = 0.0
        self._foreign: set[str] = set()
        self._stack = ExitStack()

    def play(self) -> None:
        """Run all phases of the storm."""
        self._folder.plant(self._size.files)
        self._stranger.settle_in()
        # A listing from now on can show the stranger's entries.
        time.sleep(self._standin.lag_s)
        self._ends = time.monotonic() + self._size.seconds
        if self._script.refusal:
            self._refusal()
        elif self._script.disk:
            self._full_disk()
        elif self._script.flood:
            self._flood()
        else:
            self._bad_weather()
        self._peace()

    def end(self) -> None:
        """End all processes and threads."""
        for process in self._shop.started:
            if process.alive:
                process.kill()
        self._stranger.far.close()
        with self._stack:
            self.tally.found["leaked"] += self._shop.judge()
        self.tally.found["bugs"] += len(self._shop.bugs)
        self.tally.notes += self._shop.bugs
        self.tally.faults.update(self._standin.counted)
        self.tally.counts.update(requests=self._standin.requests, files=self._folder.written, storms=1)
        self.tally.counts["processes"] += len(self._shop.started)
        self.tally.counts["overflows"] += sum(each.said('"watch.overflow"') for each in self._shop.started)

    # -- the storms

    def _bad_weather(self) -> None:
        """Faults, kills, stops, wrong clocks and lost state, while files change."""
        self._standin.rates = weather(self._script.strength, ambiguous=self._script.ambiguous)
        while time.monotonic() < self._ends:
            process = self._begin()
            life = time.monotonic() + self._chance.choice((0.5, 1.0, 2.0, 4.0)) * self._chance.uniform(0.5, 1.5)
            while process.alive and time.monotonic() < min(life, self._ends):
                self._stir()
            self._finish(process)
        if not self._script.unmarked:
            self._left_alone()

    def _left_alone(self) -> None:
        """End the faults under a running daemon. It must be in step after its next full pass at the latest.

        An earlier moment would be too strict: only a listing shows an entry that a process wrote just before it was
        killed.
        """
        daemon = self._shop.start("run", interval=self._size.interval)
        self._told(until(lambda: daemon.said(READY) > 0, CATCHES_UP_S), "`run` does not get ready")
        for _ in range(self._size.stirs):
            self._stir()
        self._standin.calm()
        self._catches_up(daemon, "bad weather")
        self._shop.stopped(daemon)

    def _begin(self) -> Process:
        if self._script.losses and self._chance.random() < 0.4:
            self._shop.lose_state()
            self.tally.counts["state lost"] += 1
        clock = None
        if self._script.clocks:
            jumps = (-72, -3, -1, -0.02, 0, 0.02, 1, 3, 72)
            clock = Clock(
                self._chance.choice(jumps) * HOUR_S, self._chance.uniform(1, 5), self._chance.choice(jumps) * HOUR_S
            )
            self.tally.counts["clocks"] += 1
        return self._shop.start(self._chance.choice(("reconcile", "run", "run")), clock=clock)

    def _stir(self) -> None:
        self._folder.change(self._chance.choice((0, 1, 3, 10, 30)))
        if self._chance.random() < 0.3:
            self._stranger.step()
        time.sleep(self._chance.uniform(0.01, 0.4))

    def _finish(self, process: Process) -> None:
        if not process.alive:
            if process.command == "run":
                self._shop.bugs.append("`run` ended by itself")
            return
        if self._chance.random() < 0.2:
            process.send(signal.SIGSTOP)
            self.tally.counts["stops"] += 1
            self._folder.change(20)
            process.send(signal.SIGCONT)
        if self._script.kills and self._chance.random() < 0.75:
            process.kill()
            self.tally.counts["kills"] += 1
        elif process.command == "run":
            self._shop.stopped(process)
        else:
            self._shop.ended(process)

    def _flood(self) -> None:
        """Stop the daemon with SIGSTOP while the kernel's queue overflows. The daemon must catch up by itself."""
        while time.monotonic() < self._ends or not self.tally.counts["stops"]:
            self._one_flood(self._shop.start("run"))

    def _one_flood(self, daemon: Process) -> None:
        self._told(until(lambda: daemon.said(READY) > 0, CATCHES_UP_S), "`run` does not get ready")
        self._catches_up(daemon, "a start")
        daemon.send(signal.SIGSTOP)
        self.tally.counts["stops"] += 1
        self._folder.flood(self._size.saves)
        self._folder.change(40)
        daemon.send(signal.SIGCONT)
        self._catches_up(daemon, "a flood")
        self._folder.change(40)
        self._catches_up(daemon, "some changes")
        self._shop.stopped(daemon)

    def _catches_up(self, daemon: Process, after: str) -> None:
        """No full pass is due for an hour, so the daemon must notice each change by itself."""
        if not until(lambda: not daemon.alive or not self._difference(), CATCHES_UP_S, 0.5):
            lost = self._difference()
            self.tally.found["lost"] += len(lost.lost) + len(lost.left_over)
            self.tally.notes.append(f"`run` has not caught up with {after}: {lost}")

    def _refusal(self) -> None:
        """Answer 401 to every request from some moment on. The mirror must halt and send few requests.

        A token that has worked before is tried again for minutes, so the storm only checks that the mirror is not idle.
        """
        self._shop.ended(self._shop.start("reconcile"))
        for command in ("run", "reconcile", "reconcile"):
            self._standin.rates = {}
            self._standin.forget_refusal()
            self._folder.change(40)
            self._one_refusal(self._shop.start(command, may=(3, 130)))
            more = self._standin.after_refusal
            self._told(more <= MOST_AFTER_REFUSAL, f"`{command}` sent {more} requests after a 401")
            if command == "reconcile":
                self._shop.lose_state()

    def _one_refusal(self, process: Process) -> None:
        if process.command == "run":
            self._told(until(lambda: process.said(READY) > 0, CATCHES_UP_S), "`run` does not get ready")
        self._standin.rates = {REFUSED: 1.0}
        end = time.monotonic() + self._size.seconds / 2
        while process.alive and time.monotonic() < end:
            self._folder.change(1)
            time.sleep(0.1)
        said = until(
            lambda: process.said('"mirror.halted"') + process.said('"login.refused"') > 0 or not process.alive,
            CATCHES_UP_S,
        )
        if process.command == "run":
            self._told(said, "`run` was refused and has not said so")
            self._shop.stopped(process)
            return
        if process.said('"login.refused"') and process.alive:
            process.send(signal.SIGINT)
        self._told(self._shop.ended(process) in (3, 130), "`reconcile` was refused and has neither ended nor waited")

    def _told(self, fine: bool, otherwise: str) -> None:
        if not fine:
            self._shop.bugs.append(otherwise)

    def _full_disk(self) -> None:
        """Fill the disk under the state directory, for commands and under the daemon, and empty it again."""
        self.tally.remarks.append(f"disk full: {self._stack.enter_context(small_disk(self._shop))}")
        ballast = self._shop.state / "ballast"
        self._standin.rates = weather(self._script.strength / 2)
        while time.monotonic() < self._ends or not self.tally.counts["full disks"]:
            # A process that ends because of the full disk no longer handles signals.
            process = self._shop.start(self._chance.choice(("reconcile", "run")), may=(3, ENDED_EARLY))
            time.sleep(self._chance.uniform(0.2, 2.5))
            fill(ballast, self._chance.choice((0, 0, 4096, 40_000)))
            self.tally.counts["full disks"] += 1
            for _ in range(8):
                self._stir()
            if process.command == "run" and process.said(READY):
                self._told(process.alive, "`run` ended on a full disk")
            ballast.unlink()
            if process.alive and process.command == "run":
                self._shop.stopped(process)
            self._shop.ended(process)
        self._shop.limit = None

    # -- after the storm

    def _peace(self) -> None:
        """End the faults. Make clean passes, compare, and make one pass that has nothing to do."""
        lag = self._standin.lag_s
        self._standin.calm()
        time.sleep(lag)
        for _ in range(CLEAN_PASSES):
            if not self._plans():
                break
        difference = compare(self._folder.wanted(), self._stranger)
        before = self._standin.changing
        asked = self._standin.requests
        planned = self._plans()
        asked = self._standin.requests - asked
        sent = self._standin.changing - before
        if self._script.unmarked:
            difference = self._without_unprovable(difference)
        self.tally.found.update(
            lost=len(difference.lost),
            left_over=len(difference.left_over),
            duplicated=len(difference.duplicated),
            touched=len(difference.touched) + self._stranger.touched,
            restless=sent + len(planned),
            hammered=self._hammered(asked),
        )
        if difference or sent or planned:
            self.tally.notes.append(f"{difference}; the last pass sent {sent} changing requests: {planned[:3]}")

    def _hammered(self, asked: int) -> int:
        """Return the number of requests over the limit. asked: the requests of the no-op pass."""
        idle = MOST_IDLE + len(self._stranger.far.all()) // ROWS_OF_A_PAGE
        most = MOST_OF_A_PROCESS * len(self._shop.started) + MOST_OF_A_FILE * self._folder.written
        found = max(0, asked - idle) + max(0, self._standin.requests - most)
        if found:
            self.tally.notes.append(f"{asked} requests in a pass without work, {self._standin.requests} in all")
        return found

    def _plans(self) -> list[Any]:
        """Make a clean pass. Return the number of its actions."""
        process = self._shop.start("reconcile", "--json")
        if self._shop.ended(process) not in {0, 1}:
            return ["the pass failed"]
        mirror = json.loads(process.out.read_text())["mirrors"]["docs"]
        self._foreign = {problem["key"] for problem in mirror["problems"] if problem["kind"] == "foreign"}
        actions: list[Any] = mirror["actions"]
        return actions

    def _without_unprovable(self, difference: Difference) -> Difference:
        """Leave out the entries that nothing shows to be ours.

        A process that is stopped during an upload without a mark leaves such an entry. syncd does not touch it, and
        reports it as foreign while its file exists.
        """
        lost = [key for key in difference.lost if key not in self._foreign]
        self.tally.counts["unprovable"] += len(difference.lost) - len(lost) + len(difference.left_over)
        return replace(difference, lost=lost, left_over=[])

    def _difference(self) -> Difference:
        return compare(self._folder.wanted(), self._stranger)
