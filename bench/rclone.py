"""rclone as a peer: it uploads the same files to an S3 stand-in with the same latency.

rclone supports neither AI Search nor Workers KV. The comparison covers equal work: one request uploads one file, and
one request lists a thousand entries.
"""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench import peers, walk
from bench.process import Run, end, measured, piped
from bench.s3 import BUCKET
from bench.table import Figure, Peer, Rounds
from bench.workspace import Sizes, Standin, Workspace, workspace
from syncd.targets.kv.target import LAG_S

NOTHING_TO_DO = ("--use-server-modtime", "--update")
"""The cheapest pass in rclone's documentation: size and time from one listing, and no request for each file."""
ONE_REQUEST = ("--s3-no-head",)
"""Without this option rclone reads each object after it was stored, with a second request."""
ALWAYS = ("--fast-list", "--s3-no-check-bucket", "--transfers", "8", "--checkers", "8", "--retries", "1")
WALL_SHARE, MEMORY_SHARE = 0.8, 0.2
"""Goals of syncd, as shares of rclone's values."""


class Bucket:
    """An S3 stand-in as a process, and rclone's configuration for it."""

    def __init__(self, rclone: str, url: str) -> None:
        self._rclone = rclone
        self._environment = peers.bare() | {
            "RCLONE_CONFIG": "/dev/null",
            "RCLONE_CONFIG_S3_TYPE": "s3",
            "RCLONE_CONFIG_S3_PROVIDER": "Other",
            "RCLONE_CONFIG_S3_ACCESS_KEY_ID": "bench",
            "RCLONE_CONFIG_S3_SECRET_ACCESS_KEY": "bench",
            "RCLONE_CONFIG_S3_ENDPOINT": url,
            "RCLONE_CONFIG_S3_FORCE_PATH_STYLE": "true",
        }

    def sync(self, tree: Path, copied: int, flags: Sequence[str] = (), *, prefix: str = "") -> Run:
        """Run one pass of rclone. Raise RuntimeError if it copied another number of files than expected."""
        command = [self._rclone, "sync", str(tree), f"S3:{BUCKET}/{prefix}", *ALWAYS, *flags, "-v", "--use-json-log"]
        run = measured(command, self._environment)
        if (found := sum(str(line.get("msg")).startswith("Copied") for line in run.log)) != copied:
            raise RuntimeError(f"rclone copied {found} files, not {copied}")
        return run


@contextmanager
def bucket(latency: float, holds: Path | None = None) -> Iterator[Bucket | None]:
    """Yield a bucket with the files of a folder, or without files. Yield None if rclone is not installed."""
    rclone = peers.rclone()
    if rclone is None:
        yield None
        return
    options = ["--latency", str(latency), *(["--holds", str(holds)] if holds else [])]
    server = subprocess.Popen([sys.executable, "-m", "bench.s3", *options], stdout=subprocess.PIPE, text=True)
    try:
        with piped(server.stdout) as out:
            url = out.readline().strip()
            if not url:
                # Without an endpoint, rclone would send its requests to Amazon.
                raise RuntimeError("the S3 stand-in does not start")
            yield Bucket(rclone, url)
    finally:
        end(server)


@dataclass(slots=True)
class _Passes:
    ours: list[Run] = field(default_factory=list)
    theirs: list[Run] = field(default_factory=list)
    walks: list[float] = field(default_factory=list)
    listings: list[float] = field(default_factory=list)


def idle(sizes: Sizes) -> list[Figure]:
    """Measure no-op passes over many small files in Workers KV, in turns with rclone. The best rounds count."""
    passes = _Passes()
    with ExitStack() as stack:
        standin = stack.enter_context(Standin())
        here = stack.enter_context(workspace(standin, sizes.idle_files, folders=100, kind="kv"))
        here.reconcile()
        filled = time.monotonic()
        store = stack.enter_context(bucket(0.0, here.tree))
        # Shortly after a write, the journal counts more than the listing. In use, an hour lies between two passes.
        time.sleep(max(0.0, LAG_S + 1 - (time.monotonic() - filled)))
        standin.reset()
        for _ in range(sizes.rounds):
            passes.ours.append(here.reconcile())
            if store:
                passes.theirs.append(store.sync(here.tree, 0, NOTHING_TO_DO))
            passes.walks.append(walk.seconds(here.tree))
        changing = standin.requests()["changing"]
        passes.listings += [_listing_s(standin, here) for _ in range(sizes.rounds)]
    return _figures(f"{sizes.idle_files:,} files", passes, changing)


def _figures(files: str, passes: _Passes, changing: int) -> list[Figure]:
    wall, cpu = Rounds([run.elapsed_s for run in passes.theirs]), Rounds([run.cpu_s for run in passes.theirs])
    memory = Rounds([run.peak_mb for run in passes.theirs])
    there = bool(passes.theirs)
    name = f"KV: no-op pass, {files} at 0 ms"
    # The walk and the listing do not wait for each other.
    floor = max(min(passes.walks), min(passes.listings))
    return [
        Rounds([run.elapsed_s for run in passes.ours]).figure(
            name, "s", wall.best * WALL_SHARE if there else None, floor=floor, peers=[_rclone(wall)]
        ),
        Rounds([run.cpu_s for run in passes.ours]).figure("… processor time", "s", peers=[_rclone(cpu)]),
        Figure(
            "… peak memory",
            max(run.peak_mb for run in passes.ours),
            "MB",
            memory.best * MEMORY_SHARE if there else None,
            peers=(_rclone(memory),),
        ),
        Figure("… its limit: walk with lstat, alone", min(passes.walks), "s"),
        Figure("… its limit: the listings, alone", min(passes.listings), "s"),
        Figure("… changing requests", changing, reach=0, exact=True),
    ]


def _rclone(rounds: Rounds) -> Peer:
    return rounds.peer("rclone", peers.GET_RCLONE)


def _listing_s(standin: Standin, here: Workspace) -> float:
    """Return the seconds to read all pages of the listing in order, without decoding."""
    began = time.perf_counter()
    standin.list_keys(here.instance)
    return time.perf_counter() - began
