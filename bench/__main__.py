"""`python -m bench [--quick] [NAME...]`: measures, prints one table, exits 1 only if an exact count is over."""

import argparse
import sys

from bench import audit, edits, passes, rclone, scale, shards, startup, vectors
from bench.table import Figure, show
from bench.world import QUICK, Sizes

PARTS = {
    "counted": passes.counted,
    "bulk": passes.bulk,
    "vectors": vectors.counted,
    "timed": passes.timed,
    "edits": edits.alone,
    "between": edits.between,
    "startup": startup.commands,
    "many": scale.many,
    "audit": audit.idle,
    "shards": shards.killed,
    "rclone": rclone.idle,
}


def main() -> int:
    """Measure the chosen parts, one after the other: two at a time would measure each other."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller sizes, for a look whether all still works")
    parser.add_argument("part", nargs="*", help=f"default: all of {', '.join(PARTS)}")
    chosen = parser.parse_args()
    if unknown := set(chosen.part) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there is: {', '.join(PARTS)}")
    sizes = QUICK if chosen.quick else Sizes()
    figures: list[Figure] = []
    for name in chosen.part or PARTS:
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        figures += PARTS[name](sizes)
    show(figures)
    return 1 if any(figure.failed for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
