"""Four processes over one folder and one target, one of them killed midway: requests, beside those of one process."""

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.process import LONGEST_S, POLL_S, end
from bench.table import Figure
from bench.world import Kind, Room, Sizes, Standin, room

SHARDS = 4
EXTRA = 1.05
"""Together they may make 5 % more requests than one process, the listing of the restarted one included. Not so for KV,
where all of them are a few dozen, and what each process asks once weighs as much as a thousand files.
"""
KINDS: tuple[Kind, ...] = ("ai-search", "kv")


@dataclass(frozen=True, slots=True)
class _Seen:
    """What came of it. twice: keys that two shards have put. again: changing requests of one more pass of each."""

    requests: int
    twice: int
    again: int
    elapsed_s: float


def killed(sizes: Sizes) -> list[Figure]:
    """A first pass in four shards; one is killed when half of the requests are made, and starts over without state."""
    figures: list[Figure] = []
    for kind in KINDS:
        with Standin() as standin, room(standin, sizes.sharded, sizes.folders, kind) as here:
            standin.reset()
            alone_s = here.reconcile().elapsed_s
            alone = standin.requests()["total"]
            here.fresh()
            standin.reset()
            with tempfile.TemporaryDirectory(prefix="syncd-shards-") as states:
                seen = _four(here, standin, Path(states), alone // 2)
        limit = alone * EXTRA if kind == "ai-search" else None
        what = f"{kind}, {sizes.sharded:,} files: requests of {SHARDS} shards, one killed"
        figures += [
            Figure(what, seen.requests, reach=limit, exact=True),
            Figure("… of one process, undisturbed", alone),
            Figure("… keys that two shards have written", seen.twice, reach=0, exact=True),
            Figure("… changing requests of one more pass of each", seen.again, reach=0, exact=True),
            Figure("… time of the shards", seen.elapsed_s, "s"),
            Figure("… time of one process", alone_s, "s"),
        ]
    return figures


def _four(here: Room, standin: Standin, states: Path, kill_at: int) -> _Seen:
    began = time.perf_counter()
    with ExitStack() as stack:
        shards = [_Shard(here, states, index, stack) for index in range(SHARDS)]
        for shard in shards:
            shard.start()
        while standin.requests()["total"] < kill_at and any(shard.runs for shard in shards):
            time.sleep(POLL_S)
        shards[1].kill()
        shards[1].start()
        for shard in shards:
            shard.wait()
        elapsed_s = time.perf_counter() - began
        requests = standin.requests()["total"]
        standin.reset()
        for shard in shards:
            shard.start()
            shard.wait()
        again = standin.requests()["changing"]
        writers = Counter(key for shard in shards for key in shard.wrote())
    return _Seen(requests, sum(number > 1 for number in writers.values()), again, elapsed_s)


class _Shard:
    """One process's worth of the room: a state directory of its own, its part in the environment."""

    def __init__(self, here: Room, states: Path, index: int, stack: ExitStack) -> None:
        self._state = states / str(index)
        self._command = here.command("-v", "reconcile")
        part = {"SYNCD_STATE_DIR": str(self._state), "SYNCD_DEFAULTS__SHARD": f"{index}/{SHARDS}"}
        self._env = {**os.environ, **part}
        self._log = stack.enter_context((states / f"{index}.log").open("w"))
        self._process: subprocess.Popen[bytes] | None = None
        stack.callback(self._end)

    def start(self) -> None:
        """Start its pass."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=self._log, env=self._env)

    def kill(self) -> None:
        """SIGKILL, and lose the state."""
        if self._process:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._state, ignore_errors=True)

    @property
    def runs(self) -> bool:
        """Whether it has not ended yet."""
        return self._process is not None and self._process.poll() is None

    def wait(self) -> None:
        """Wait for its end. RuntimeError if it does not end well."""
        if self._process is None or self._process.wait(LONGEST_S):
            raise RuntimeError(Path(self._log.name).read_text()[-2000:])

    def wrote(self) -> set[str]:
        """Keys that it has put, by its own log."""
        lines = (json.loads(line) for line in Path(self._log.name).read_text().splitlines() if line.endswith("}"))
        return {line["key"] for line in lines if line["event"] == "put.done"}

    def _end(self) -> None:
        if self._process and self.runs:
            end(self._process)
