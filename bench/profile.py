"""`python -m bench.profile [--quick] PATH`: profile a hot path with cProfile, and print the result.

scan     the walk and the checksum of every file, in this process
plan     a first pass into Workers KV: mostly plan and journal, because a thousand files share a request
nothing  a pass over Workers KV with nothing to do
upload   a first pass into AI Search, a request for each file
idle     the daemon with nothing to do, after its first pass

No path has latency. A profile contains the main thread only. Passes read and hash files in other threads; `scan`
profiles this work. The profiler makes short functions seem slower than they are.
"""

import argparse
import cProfile
import io
import pstats
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.process import Daemon, measured
from bench.scale import REST_S
from bench.workspace import LARGER, QUICK, Sizes, Standin, Workspace, workspace
from syncd.core.model import Item
from syncd.core.problems import Limits
from syncd.core.rules import Rules
from syncd.local.walk import Tree
from syncd.targets.kv.target import LAG_S

SHOWN = 25
"""Number of functions to print, sorted by their own time."""
PLACES = re.compile(rf"(?:{re.escape(str(Path(__file__).parents[1]))}|/\S*/site-packages|/\S*/python3\.\d+)/")
"""Prefixes of module paths that are not printed."""


def scan(sizes: Sizes, out: Path) -> None:
    """Profile the walk and the reads in this thread."""
    with Standin() as standin, workspace(standin, sizes.many, sizes.folders) as here:
        profile = cProfile.Profile()
        profile.enable()
        tree = Tree(here.tree, Rules(), Limits())
        for item in tree.walk():
            if isinstance(item, Item):
                tree.read(item.path)
        profile.disable()
        profile.dump_stats(out)


def plan(sizes: Sizes, out: Path) -> None:
    """Profile the first pass of `bulk`."""
    with Standin() as standin, workspace(standin, sizes.bulk_files, folders=100, kind="kv", size=LARGER) as here:
        measured(_profiled(here, out, "reconcile"))


def nothing(sizes: Sizes, out: Path) -> None:
    """Profile the pass of `rclone`."""
    with Standin() as standin, workspace(standin, sizes.idle_files, folders=100, kind="kv") as here:
        here.reconcile()
        # Shortly after a write, the journal counts more than the listing.
        time.sleep(LAG_S + 1)
        measured(_profiled(here, out, "reconcile"))


def upload(sizes: Sizes, out: Path) -> None:
    """Profile the first pass of `timed` without latency."""
    with Standin() as standin, workspace(standin, sizes.files) as here:
        measured(_profiled(here, out, "reconcile"))


def idle(sizes: Sizes, out: Path) -> None:
    """Profile the start, one pass, and some idle seconds."""
    with Standin() as standin, workspace(standin, sizes.idle_files, folders=100, kind="kv") as here:
        here.reconcile()
        with Daemon(_profiled(here, out, "run"), out.with_suffix(".log")) as daemon:
            daemon.wait_for("pass.done", scope="all")
            time.sleep(REST_S + sizes.idle_s)


PATHS: dict[str, Callable[[Sizes, Path], None]] = {
    "scan": scan,
    "plan": plan,
    "nothing": nothing,
    "upload": upload,
    "idle": idle,
}


def _profiled(here: Workspace, out: Path, command: str) -> list[str]:
    """Return the command line that runs the profiler."""
    python, *rest = here.command(command)
    return [python, "-m", "cProfile", "-o", str(out), *rest]


def told(out: Path) -> str:
    """Return the text of a profile with short file names."""
    text = io.StringIO()
    pstats.Stats(str(out), stream=text).sort_stats("tottime").print_stats(SHOWN)
    # The first line contains the time of day and a temporary path.
    return PLACES.sub("", text.getvalue().partition("\n")[2]).strip()


def main() -> None:
    """Profile one path."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.profile", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="smaller sizes")
    parser.add_argument("path", choices=PATHS)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="syncd-bench-profile-") as place:
        out = Path(place, "profile")
        PATHS[chosen.path](QUICK if chosen.quick else Sizes(), out)
        print(told(out))


if __name__ == "__main__":
    main()
