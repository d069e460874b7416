"""`python -m bench [--quick] [PART...]`: measures, and prints one table. Exits with 1 if an exact count is too high."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from bench import budget, edits, passes, rclone, scale, shards, startup, vectors
from bench.report import Report, about, load
from bench.table import Figure
from bench.workspace import QUICK, Sizes

PARTS: dict[str, Callable[[Sizes], list[Figure]]] = {
    "counted": passes.counted,
    "bulk": passes.bulk,
    "vectors": vectors.counted,
    "timed": passes.timed,
    "processor": passes.processor,
    "budget": budget.short,
    "windows": budget.long,
    "edits": edits.alone,
    "between": edits.between,
    "startup": startup.commands,
    "watching": startup.watching,
    "many": scale.many,
    "shards": shards.killed,
    "rclone": rclone.idle,
    "million": scale.million,
}
LONG = {"million"}
"""Runs only if it is named on the command line."""


def main() -> int:
    """Measure the selected parts, or show a saved run."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller sizes, for a short test")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the run to this file")
    parser.add_argument("--show", type=Path, metavar="FILE", help="measure nothing; print the run in this file")
    parser.add_argument(
        "part", nargs="*", help=f"parts: {', '.join(PARTS)}; default: all except {', '.join(sorted(LONG))}"
    )
    chosen = parser.parse_args()
    if unknown := set(chosen.part) - set(PARTS):
        parser.error(f"unknown part {', '.join(sorted(unknown))}; the parts are: {', '.join(PARTS)}")
    if chosen.show:
        return _show(load(chosen.show), chosen.markdown)
    # An installed syncd is compiled. With this variable every start would compile it again.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    figures: list[Figure] = []
    try:
        _measure(
            chosen.part or [name for name in PARTS if name not in LONG], QUICK if chosen.quick else Sizes(), figures
        )
    finally:
        # If a part fails, the figures of the earlier parts are kept.
        report = Report(about(quick=chosen.quick), figures)
        if chosen.json:
            report.save(chosen.json)
        failed = _show(report, chosen.markdown)
    return failed


def _measure(parts: Sequence[str], sizes: Sizes, figures: list[Figure]) -> None:
    """Measure one part after the other, because parallel parts would disturb each other.

    Each part has its own process, because the reported peak memory of a child includes that of its parent.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        for name in parts:
            print(f"measuring {name} …", file=sys.stderr, flush=True)
            figures += pool.submit(PARTS[name], sizes).result()


def _show(report: Report, markdown: bool) -> int:
    print("\n".join(report.markdown() if markdown else report.text()))
    return 1 if any(figure.failed for figure in report.figures) else 0


if __name__ == "__main__":
    sys.exit(main())
