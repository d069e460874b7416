"""`make torture`: bounded storms of faults, kills and edits. See docs/reliability.md."""

import argparse
import secrets
import signal
import sys
import time

from tests.torture.storm import play
from tests.torture.storm_values import Script, Size, Tally

SCRIPTS = (
    Script("ai-search, overwrites", "ai-search", {"on_existing": "overwrite", "checksum": "opaque", "list_lag": 0.5}),
    Script("kv, keys fail", "kv", {"unsuccessful": 0.1, "list_lag": 1.0}, strength=0.3),
    Script("ai-search, conflicts", "ai-search", {"on_existing": "conflict", "checksum": "zero"}, losses=True),
    Script("ai-search, floods", "ai-search", {"checksum": "md5"}, flood=True),
    Script("kv, wrong clocks", "kv", {"empty_pages": True, "list_lag": 0.5}, strength=0.3, clocks=True),
    Script("ai-search, wrong clocks", "ai-search", {"checksum": "md5", "on_existing": "conflict"}, clocks=True),
    Script(
        "ai-search, no metadata",
        "ai-search",
        {"list_metadata": False, "checksum": "md5"},
        ambiguous=False,
        kills=False,
        unmarked=True,
    ),
    Script("kv, lost state", "kv", {"empty_pages": True, "unsuccessful": 0.05}, strength=0.3, losses=True),
    Script("ai-search, refused token", "ai-search", {}, refusal=True),
    Script("ai-search, full disk", "ai-search", {"list_lag": 0.3}, disk=True),
    Script("kv, floods", "kv", {"list_lag": 0.3}, flood=True),
    Script("kv, full disk", "kv", {"unsuccessful": 0.05}, disk=True),
    Script("vectorize, late", "vectorize", {"mutation_lag": 1.0}, strength=0.3),
    Script("vectorize, lost state", "vectorize", {"mutation_lag": 0.3}, strength=0.3, losses=True),
    Script("vectorize, wrong clocks", "vectorize", {"mutation_lag": 0.5}, strength=0.3, clocks=True),
    Script("vectorize, full disk", "vectorize", {"mutation_lag": 0.2}, disk=True),
    Script("vectorize, floods", "vectorize", {"mutation_lag": 0.2}, flood=True),
    Script("vectorize, refused token", "vectorize", {"mutation_lag": 0.2}, refusal=True),
)
MUST_BE_ZERO = ("lost", "left_over", "duplicated", "touched", "restless", "hammered", "leaked", "bugs")
LABELS = {
    "left_over": "left over",
    "touched": "foreign touched",
    "restless": "restless (changes in a further pass)",
    "hammered": "hammered (requests too many)",
    "unprovable": "without a mark, so not to be told",
    "files": "files written",
}
COUNTED = (
    "storms",
    "processes",
    "kills",
    "stops",
    "overflows",
    "state lost",
    "clocks",
    "full disks",
    "unprovable",
    "files",
    "requests",
)


def main() -> int:
    """Run storms until the number or the time is reached. Return 1 if one broke a guarantee."""
    # With this handler, storms end their processes and unmount their disk after SIGTERM, too.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    chosen = _arguments()
    seed = secrets.randbelow(100_000) if chosen.seed is None else chosen.seed
    total = Tally()
    end = time.monotonic() + chosen.minutes * 60
    for number in range(seed, seed + chosen.storms):
        if time.monotonic() > end:
            print(f"stopped after {chosen.minutes:g} minutes", flush=True)
            break
        script = SCRIPTS[number % len(SCRIPTS)]
        print(f"seed {number}: {script.name} … ", end="", flush=True)
        tally = play(script, number, Size(files=chosen.files, seconds=chosen.seconds))
        total.add(tally)
        print(_line(tally), flush=True)
        if any(tally.found.values()):
            for note in tally.notes:
                print(f"  {note}")
            print(f'  again: make torture ARGS="--seed {number} --storms 1{_others(chosen)}"', flush=True)
    show(total)
    return 1 if any(total.found.values()) or not total.counts["storms"] else 0


def show(total: Tally) -> None:
    """Print the table of results."""
    done = [(LABELS.get(name, name), total.counts[name]) for name in COUNTED]
    done += [(f"fault: {kind}", count) for kind, count in sorted(total.faults.items())]
    done.append(("elapsed, s", round(total.elapsed_s)))
    for rows in (done, [(LABELS.get(name, name), total.found[name]) for name in MUST_BE_ZERO]):
        print()
        for name, count in rows:
            print(f"{name:<38}{count:>10,}")
    for remark in dict.fromkeys(total.remarks):
        print(remark)


def _line(tally: Tally) -> str:
    found = ", ".join(f"{LABELS.get(name, name)} {tally.found[name]}" for name in MUST_BE_ZERO if tally.found[name])
    return f"{found or 'nothing broke'} ({tally.counts['requests']} requests, {tally.elapsed_s:.0f} s)"


def _others(chosen: argparse.Namespace) -> str:
    """Return the options that a repetition needs besides the seed."""
    default = Size()
    files = f" --files {chosen.files}" if chosen.files != default.files else ""
    return files + (f" --seconds {chosen.seconds:g}" if chosen.seconds != default.seconds else "")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make torture", description=__doc__)
    parser.add_argument("--seed", type=int, help="of the first storm; the next ones count up (default: by chance)")
    parser.add_argument("--storms", type=int, default=len(SCRIPTS), help="how many (default: one of each kind)")
    parser.add_argument("--minutes", type=float, default=5.0, help="after so many no further storm begins")
    parser.add_argument("--files", type=int, default=Size().files, help="in the folder when a storm begins")
    parser.add_argument("--seconds", type=float, default=Size().seconds, help="of bad weather in each storm")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
