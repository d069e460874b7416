"""The requests of four processes with one folder and one target, one of them killed midway."""

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
from bench.workspace import Kind, Sizes, Standin, Workspace, workspace

SHARDS = 4
EXTRA = 1.05
"""All shards may make 5 % more requests than one process, with the listing of the restarted one. KV has no such limit:
it needs a few dozen requests, and one request of each process weighs as much as a thousand files.
"""
KINDS: tuple[Kind, ...] = ("ai-search", "kv")


@dataclass(frozen=True, slots=True)
class _Seen:
    """The result. twice: keys that two shards have put. again: changing requests of one more pass of each shard."""

    requests: int
    twice: int
    again: int
    elapsed_s: float


def killed(sizes: Sizes) -> list[Figure]:
    """Measure a first pass in four shards. One is killed after half of the requests, and restarts without state."""
    figures: list[Figure] = []
    for kind in KINDS:
        with Standin() as standin, workspace(standin, sizes.sharded, sizes.folders, kind) as here:
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


def _four(here: Workspace, standin: Standin, states: Path, kill_at: int) -> _Seen:
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
    """One process: its state directory, and its shard in the environment."""

    def __init__(self, here: Workspace, states: Path, index: int, stack: ExitStack) -> None:
        self._state = states / str(index)
        self._command = here.command("-v", "reconcile")
        part = {"SYNCD_STATE_DIR": str(self._state), "SYNCD_DEFAULTS__SHARD": f"{index}/{SHARDS}"}
        self._env = {**os.environ, **part}
        self._log = stack.enter_context((states / f"{index}.log").open("w"))
        self._process: subprocess.Popen[bytes] | None = None
        stack.callback(self._end)

    def start(self) -> None:
        """Start the pass of the shard."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=self._log, env=self._env)

    def kill(self) -> None:
        """Kill the process, and delete its state."""
        if self._process:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._state, ignore_errors=True)

    @property
    def runs(self) -> bool:
        """Return whether the process is running."""
        return self._process is not None and self._process.poll() is None

    def wait(self) -> None:
        """Wait for the end. Raise RuntimeError if the process fails."""
        if self._process is None or self._process.wait(LONGEST_S):
            raise RuntimeError(Path(self._log.name).read_text()[-2000:])

    def wrote(self) -> set[str]:
        """Return the keys in the log of the shard that it has put."""
        lines = (json.loads(line) for line in Path(self._log.name).read_text().splitlines() if line.endswith("}"))
        return {line["key"] for line in lines if line["event"] == "put.done"}

    def _end(self) -> None:
        if self._process and self.runs:
            end(self._process)
