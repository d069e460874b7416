"""`make soak`: one daemon with many mirrors and many faults. Its resources must not grow, and SIGTERM must end it."""

import argparse
import contextlib
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.torture.soak_parts import STOP_S, Crowd, Daemon, FlappingStandin, Folders, Sample

CYCLES = 10
"""Number of equal cycles: edits, SIGHUP, faults, kills, connections, quiet. The first third is the warm-up."""
ENDS = 6
"""Number of further processes that are started, and ended at a random moment."""
MEASURES = ("rss", "pss", "descriptors", "threads", "children")
MAY_GROW = {"rss": 2 * 1024, "pss": 2 * 1024, "descriptors": 4, "threads": 2, "children": 0}
"""Allowed growth of the least value at rest, from one third of the soak to the next: KiB of memory, or a number."""
MAY_GROW_SHARE = 0.01
"""Allowed growth of memory, as a share of the former value."""
MOST_LINES, MOST_LINES_OF_A_CYCLE = 20, 20
"""Lines of the log for each mirror: in a minute, and besides for each SIGHUP and outage, of which a cycle has one."""
MOST_LINES_MORE = 1.3
"""Allowed growth of the number of log lines, from the second to the last third."""


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a soak. hostile: connections at a time. edits: files a second. cycle_s: seconds of a cycle."""

    mirrors: int = 128
    files: int = 6
    hostile: int = 300
    edits: int = 8
    cycles: int = CYCLES
    cycle_s: float = 54.0
    ends: int = ENDS


@dataclass(slots=True)
class Soaked:
    """The result of a soak. rests: samples at the end of each cycle. lines: log lines a minute in each cycle."""

    cycle_s: float = 0.0
    rests: list[Sample] = field(default_factory=list)
    most: dict[str, int] = field(default_factory=dict)
    lines: list[float] = field(default_factory=list)
    stops_s: list[float] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    bugs: list[str] = field(default_factory=list)


def soak(size: Size, seed: int, say: Callable[[str], None] = lambda _: None) -> Soaked:
    """Run a soak in a temporary directory, and return its result."""
    chance = Random(seed)
    with tempfile.TemporaryDirectory(prefix="syncd-soak-") as place:
        standin = FlappingStandin(Path(place), seed)
        folders = Folders(Path(place), size.mirrors, size.files, chance)
        daemon = Daemon(Path(place), standin.base_url, folders)
        daemon.configure(interval=size.cycle_s)
        under_way = _Soak(size, chance, standin, folders, daemon, Crowd(daemon.page, chance), say)
        try:
            under_way.play()
        finally:
            under_way.end()
    return under_way.soaked


class _Soak:
    def __init__(  # noqa: PLR0917 - all that there is
        self,
        size: Size,
        chance: Random,
        standin: FlappingStandin,
        folders: Folders,
        daemon: Daemon,
        crowd: Crowd,
        say: Callable[[str], None],
    ) -> None:
        self.soaked = Soaked(size.cycle_s)
        self._size, self._chance, self._say = size, chance, say
        self._standin, self._folders, self._daemon, self._crowd = standin, folders, daemon, crowd

    def play(self) -> None:
        self._standin.start()
        self._daemon.start()
        self._daemon.ready(self._size.mirrors)
        for number in range(self._size.cycles):
            self._cycle()
            self._say(f"cycle {number + 1}: {self.soaked.rests[-1]}, {self.soaked.lines[-1]:.0f} lines/min")
        self._bad_company(self._size.cycle_s / 10)
        self._daemon.stop()
        self._crowd.go()
        for _ in range(self._size.ends):
            self._end_at_some_moment()
        self._standin.kill()
        self._standin.start()
        if why := self._daemon.in_step():
            self.soaked.bugs.append(why)

    def end(self) -> None:
        """End all processes and threads."""
        self._daemon.kill()
        self._standin.kill()
        self._crowd.go()
        self.soaked.bugs += self._daemon.bugs
        self.soaked.stops_s = self._daemon.stops_s
        self.soaked.counts = {
            "mirrors": self._size.mirrors,
            "files written": self._folders.written,
            "kills of the stand-in": self._standin.kills,
            "hostile connections": self._crowd.made,
        }

    def _cycle(self) -> None:
        began, before = time.monotonic(), self._daemon.sample().log
        tenth = self._size.cycle_s / 10
        self._work(2 * tenth)
        self._daemon.send(signal.SIGHUP)
        self._work(tenth)
        self._bad_company(2 * tenth)
        self._standin.kill()
        self._work(tenth)
        self._standin.start()
        self._work(tenth)
        self._crowd.go()
        self._pause(began + self._size.cycle_s)
        rest = self._daemon.sample()
        self.soaked.rests.append(rest)
        self.soaked.lines.append((rest.log - before) * 60 / (time.monotonic() - began))
        if not self._daemon.healthy():
            self.soaked.bugs.append("/healthz is not well though nothing is wrong any more")

    def _bad_company(self, seconds: float) -> None:
        """Run a remote with faults, half of the time without keep-alive, and hostile connections."""
        self._standin.kill()
        self._standin.start(0.3)
        self._crowd.come(self._size.hostile)
        self._work(seconds)

    def _work(self, seconds: float) -> None:
        """Edit files for some seconds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._folders.edit(self._size.edits // 2)
            self._crowd.dribble()
            self._look()
            time.sleep(0.5)

    def _pause(self, until: float) -> None:
        while (left := until - time.monotonic()) > 0:
            self._look()
            time.sleep(min(1.0, left))

    def _look(self) -> None:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            now = self._daemon.sample()
            for each in MEASURES:
                self.soaked.most[each] = max(self.soaked.most.get(each, 0), getattr(now, each))
        if not self._daemon.alive:
            raise RuntimeError("`run` ended by itself: " + self._daemon.log.read_text()[-2000:])

    def _end_at_some_moment(self) -> None:
        self._daemon.start()
        moment = time.monotonic() + self._chance.choice((0.1, 1.0, 3.0, 8.0)) * self._chance.uniform(0.5, 1.5)
        while time.monotonic() < moment:
            self._folders.edit(4)
            time.sleep(0.1)
        self._daemon.stop()


def growing(soaked: Soaked) -> list[str]:
    """Return the measures whose least value at rest is higher in the last third than in the second."""
    third = len(soaked.rests) // 3
    found = []
    for each in MEASURES if third else ():
        before = least(soaked.rests[-2 * third : -third], each)
        after = least(soaked.rests[-third:], each)
        share = before * MAY_GROW_SHARE if each in {"rss", "pss"} else 0
        if after > before + MAY_GROW[each] + share:
            found.append(f"{each} grew from {before} to {after}")
    return found


def least(rests: Sequence[Sample], measure: str) -> int:
    """Return the least value of a measure."""
    return min(int(getattr(each, measure)) for each in rests)


def wrong(soaked: Soaked) -> list[str]:
    """Return all failures of a soak."""
    found = [*soaked.bugs, *growing(soaked)]
    most_lines, third = max(soaked.lines, default=0.0), len(soaked.lines) // 3
    if most_lines > (MOST_LINES + MOST_LINES_OF_A_CYCLE * 60 / soaked.cycle_s) * soaked.counts["mirrors"]:
        found.append(f"{most_lines:.0f} lines of log in a minute")
    if third and sum(soaked.lines[-third:]) > MOST_LINES_MORE * sum(soaked.lines[-2 * third : -third]):
        found.append("the log says more and more")
    if max(soaked.stops_s) > STOP_S:
        found.append(f"SIGTERM took {max(soaked.stops_s):.1f} s")
    return found


def show(soaked: Soaked) -> None:
    """Print the table of results."""
    third = max(1, len(soaked.rests) // 3)
    print(f"\n{'at rest, the least of':<28}{'middle third':>14}{'last third':>14}{'most ever':>14}")
    for each in MEASURES:
        middle = least(soaked.rests[-2 * third : -third] or soaked.rests, each)
        last = least(soaked.rests[-third:], each)
        name = f"{each}, KiB" if each in {"rss", "pss"} else each
        print(f"{name:<28}{middle:>14,}{last:>14,}{soaked.most.get(each, 0):>14,}")
    lines = [soaked.lines[-2 * third], soaked.lines[-1], max(soaked.lines)]
    print(f"{'log, lines a minute':<28}" + "".join(f"{each:>14,.0f}" for each in lines))
    for name, count in soaked.counts.items():
        print(f"{name:<56}{count:>14,}")
    print(f"{'SIGTERMs; the slowest end, s':<42}{len(soaked.stops_s):>14}{max(soaked.stops_s):>14.2f}")


def main() -> int:
    """Run a soak for some minutes. Return 1 if anything grew or broke."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="of the soak, but for its start and its end")
    parser.add_argument("--mirrors", type=int, default=Size().mirrors, help="how many, KV and AI Search by turns")
    parser.add_argument("--seed", type=int, help="of the choices (default: by chance)")
    chosen = parser.parse_args()
    seed = secrets.randbelow(100_000) if chosen.seed is None else chosen.seed
    print(f"seed {seed}, {chosen.mirrors} mirrors, {chosen.minutes:g} minutes", flush=True)
    size = Size(mirrors=chosen.mirrors, cycle_s=chosen.minutes * 60 / CYCLES)
    soaked = soak(size, seed, lambda line: print(line, flush=True))
    show(soaked)
    found = wrong(soaked)
    for each in found:
        print(f"WRONG: {each}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
