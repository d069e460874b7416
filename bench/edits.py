"""One edit: from the close of the file to the arrival of its content at the stand-in.

The benchmark polls nothing while it makes edits. The stand-in stores the time of each upload, and the benchmark reads
the listing once, at the end. Both times come from the clock of this machine. The peer is a short script with
inotifywait and curl. It uploads at once: it neither waits for the file to settle nor compares it with the remote.
"""

import os
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from bench import peers
from bench.bare import TOKEN
from bench.process import Daemon, piped
from bench.table import Figure, Sample, spread
from bench.workspace import SETTLE_S, Sizes, Standin, Workspace, workspace, write_through

REACH_MS = (80.0, 200.0)
"""Goals of p50 and p99."""
REST_S = 2.0
"""Pause after a pass and after the last edit, until everything is indexed and the daemon is idle."""
ASKED = 20
SCRIPT = """
inotifywait -m -r -e close_write -e moved_to --format %w%f "$1" | while IFS= read -r file; do
  curl -sS -f -o /dev/null -H "Authorization: Bearer $3" -F "file=@$file;filename=${file#"$1"/};type=text/markdown" "$2"
done
"""


def alone(sizes: Sizes) -> list[Figure]:
    """Measure single edits of different files with an idle daemon."""
    with Standin() as standin, workspace(standin, sizes.files) as here:
        files = sorted(here.tree.rglob("*.md"))[: sizes.edits]
        with here.run() as daemon:
            daemon.wait_for("pass.done", scope="all")
            time.sleep(REST_S)
            closed = _edit(here, files, sizes.gap_s)
        ours = _took(standin, here, closed)
        theirs: list[float] = []
        if peers.inotifywait():
            with _script(here):
                closed = _edit(here, files, sizes.gap_s)
            theirs = _took(standin, here, closed)
        floor = SETTLE_S + _request_s(here)
    sample = Sample("inotifywait + curl", theirs, peers.GET_INOTIFYWAIT)
    return spread(f"edit to remote, {len(ours)} at rest", ours, REACH_MS, floor_s=floor, peers=[sample])


def between(sizes: Sizes) -> list[Figure]:
    """Measure new files during a long first pass, which serves them between batches."""
    with Standin() as standin, workspace(standin, sizes.queue) as here:
        with here.run() as daemon:
            daemon.wait_for("put.done")
            new = [here.tree / f"news-{number:03d}.md" for number in range(sizes.edits_between)]
            closed = _edit(here, new, sizes.gap_s, lambda: _over(daemon))
            daemon.wait_for("pass.done", scope="all")
            time.sleep(REST_S)
        took = _took(standin, here, closed)
        floor = SETTLE_S + _request_s(here)
    title = f"edit to remote, {len(took)} during a first pass of {sizes.queue:,}"
    return spread(title, took, REACH_MS, floor_s=floor)


def _edit(
    here: Workspace, files: Sequence[Path], gap_s: float, over: Callable[[], bool] = lambda: False
) -> dict[str, float]:
    """Write files in order. Return key -> time of the close. over: true ends the loop without the last file."""
    closed = {}
    for number, file in enumerate(files):
        at = write_through(file, f"# Edit {number}\n\nNews of {time.time()}.\n")
        if over():
            break
        closed[file.relative_to(here.tree).as_posix()] = at
        # Uneven pauses, so that the edits do not follow the rhythm of the daemon.
        time.sleep(gap_s * (1 + number * 37 % 100 / 200))
    time.sleep(REST_S)
    return closed


def _took(standin: Standin, here: Workspace, closed: dict[str, float]) -> list[float]:
    arrived = standin.arrivals(here.instance, closed)
    return [arrived[key] - at for key, at in closed.items()]


def _over(daemon: Daemon) -> bool:
    return bool(daemon.logged("pass.done", scope="all"))


@contextmanager
def _script(here: Workspace) -> Iterator[None]:
    """Run the script within the block, and end all its processes."""
    command = ["sh", "-c", SCRIPT, "sh", str(here.tree), here.target(), TOKEN]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=peers.bare(), start_new_session=True)
    try:
        with piped(process.stderr) as said:
            if not any("Watches established" in line for line in said):
                raise RuntimeError("inotifywait does not watch")
            yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def _request_s(here: Workspace) -> float:
    """Return the median time of single uploads over one connection, the minimum of every client."""
    took = []
    with httpx.Client(trust_env=False, timeout=30, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        for number in range(ASKED):
            began = time.perf_counter()
            files = {"file": (f"bare/{number}.md", b"# News\n", "text/markdown")}
            client.post(here.target(), files=files).raise_for_status()
            took.append(time.perf_counter() - began)
    return statistics.median(took)
