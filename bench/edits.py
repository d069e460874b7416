"""One edit: from the close of the file to the arrival of its content at the stand-in.

Nothing is polled while edits are made. The stand-in notes when each upload came in; its listing is read once, at the
end. Both clocks are this machine's.
"""

import time

from bench.passes import LATENCY_S
from bench.table import Figure, spread
from bench.world import Daemon, Sizes, Standin, room, write_through

P50_MS, P99_MS = 150.0, 400.0
REST_S = 2.0
"""After a pass, and after the last edit: everything is indexed, and the daemon looks at nothing any more."""


def alone(sizes: Sizes) -> list[Figure]:
    """Edits of different files while the daemon rests, each on its own."""
    closed = {}
    with Standin() as standin, room(standin, sizes.files) as here:
        files = sorted(here.tree.rglob("*.md"))[: sizes.edits]
        with here.run() as daemon:
            daemon.wait_for("pass.done", scope="all")
            time.sleep(REST_S)
            for number, file in enumerate(files):
                closed[file.relative_to(here.tree).as_posix()] = write_through(file, f"# Edit {number}\n\nNews.\n")
                time.sleep(_gap_s(sizes.gap_s, number))
            time.sleep(REST_S)
        arrived = standin.arrivals(here.instance)
    took = [arrived[key] - at for key, at in closed.items()]
    return spread(f"edit to stand-in ({len(took)} edits)", took, (P50_MS, P99_MS))


def between(sizes: Sizes) -> list[Figure]:
    """New files that appear while a long first pass is under way on a slow line: they are served between turns."""
    closed = {}
    with Standin(latency=LATENCY_S) as standin, room(standin, sizes.queue) as here:
        with here.run() as daemon:
            daemon.wait_for("put.done")
            for number in range(sizes.edits_between):
                name = f"news-{number:03d}.md"
                at = write_through(here.tree / name, f"# News {number}\n\nOf today.\n")
                if _over(daemon):
                    break
                closed[name] = at
                time.sleep(_gap_s(sizes.gap_s, number))
            daemon.wait_for("pass.done", scope="all")
            time.sleep(REST_S)
        arrived = standin.arrivals(here.instance)
    took = [arrived[key] - at for key, at in closed.items()]
    return spread(f"new file during a first pass of {sizes.queue:,} ({len(took)})", took, (None, None))


def _over(daemon: Daemon) -> bool:
    return daemon.has("pass.done", scope="all")


def _gap_s(base_s: float, number: int) -> float:
    """From one edit to the next; uneven, so that no rhythm of the daemon is hit or missed every time."""
    return base_s * (1 + number * 37 % 100 / 200)
