"""Whole passes: their number of requests, and their time with injected latency."""

import json
import math
import secrets
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench import peers
from bench.process import Run, measured
from bench.rclone import ONE_REQUEST, Bucket, bucket
from bench.table import Figure, Rounds
from bench.workspace import ACCOUNT, LARGER, LATENCY_S, Sizes, Standin, Workspace, workspace

TRANSFERS = 8
EXTRA = 1.05
"""A first pass may make 5 % more requests than it has files, and take 5 % longer than the latency limit."""
CPU_MS = 0.8
BULK_PAIRS = 1_000
BULK_S_PER_FILE = 2 / 10_000


def counted(sizes: Sizes) -> list[Figure]:
    """Count the requests of a first and a second pass in the stand-in, and the files read in syncd's log."""
    n = sizes.files
    with Standin() as standin, workspace(standin, n) as here:
        standin.reset()
        here.reconcile()
        first = standin.requests()["total"]
        standin.reset()
        run = here.reconcile(log=True)
        second = standin.requests()
    return [
        Figure(f"requests, first pass of {n:,} files", first, reach=n * EXTRA, exact=True, floor=n),
        Figure("changing requests, second pass", second["changing"], reach=0, exact=True),
        Figure("files read, second pass", run.last("pass.done")["files_read"], reach=0, exact=True),
    ]


@dataclass(frozen=True, slots=True)
class _Program:
    """A program that uploads a folder: run(workspace, number of files, number of the round). None: not installed."""

    run: Callable[[Workspace, int, int], Run] | None
    get: str = ""
    rounds: int = 1
    full: list[Run] = field(default_factory=list)
    single: list[Run] = field(default_factory=list)

    def wall(self) -> Rounds:
        """Return the wall time of the whole folder."""
        return Rounds([run.elapsed_s for run in self.full])

    def cpu_ms(self, files: int) -> Rounds:
        """Return the processor time of one file: the whole folder minus a single file, divided by the files."""
        return Rounds([(run.cpu_s - min(one.cpu_s for one in self.single)) / files * 1e3 for run in self.full])


def timed(sizes: Sizes) -> list[Figure]:
    """Measure a first pass with latency, and compare it with the latency limit of eight requests in flight."""
    n = sizes.files
    ours, others = _by_turns(sizes, LATENCY_S)
    floor = math.ceil(n / TRANSFERS) * LATENCY_S
    title = f"AI Search: first pass of {n:,} files at {LATENCY_S * 1e3:.0f} ms, {TRANSFERS} in flight"
    walls = [program.wall().peer(name, program.get) for name, program in others.items()]
    return [
        ours.wall().figure(title, "s", EXTRA * floor, floor=floor, peers=walls),
        Rounds([run.elapsed_s for run in ours.single]).figure("… of which start-up (no-op pass of 1 file)", "s"),
        _cpu("… processor time for one file", n, ours, others),
        Figure("… peak memory", max(run.peak_mb for run in ours.full), "MB"),
    ]


def processor(sizes: Sizes) -> list[Figure]:
    """Measure processor time without latency, so that no core sleeps between requests."""
    return [_cpu("AI Search: processor time for one file, no latency", sizes.files, *_by_turns(sizes, 0.0))]


def _cpu(title: str, files: int, ours: _Program, others: dict[str, _Program]) -> Figure:
    beside = [program.cpu_ms(files).peer(name, program.get) for name, program in others.items()]
    return ours.cpu_ms(files).figure(title, "ms", CPU_MS, peers=beside)


def _by_turns(sizes: Sizes, latency: float) -> tuple[_Program, dict[str, _Program]]:
    """Run first passes of syncd and the peers in turns. Slow peers run once.

    Start-up is a pass over one file. syncd has nothing to do in it; the peers upload the file.
    """
    with ExitStack() as stack:
        standin = stack.enter_context(Standin(latency=latency))
        full, single = (stack.enter_context(workspace(standin, files)) for files in (sizes.files, 1))
        store = stack.enter_context(bucket(latency))
        ours = _Program(lambda here, _files, _round: here.reconcile(), rounds=sizes.rounds)
        others = _others(standin, store, sizes.rounds)
        single.reconcile()
        for at in range(sizes.rounds):
            for program in (ours, *others.values()):
                if program.run and at < program.rounds:
                    program.single.append(program.run(single, 1, at))
                    program.full.append(program.run(full, sizes.files, at))
            full.fresh()
    return ours, others


def _others(standin: Standin, store: Bucket | None, rounds: int) -> dict[str, _Program]:
    def bare(here: Workspace, _files: int, _round: int) -> Run:
        return measured([sys.executable, "-m", "bench.bare", here.target(), str(here.tree)])

    def sdk(here: Workspace, _files: int, _round: int) -> Run:
        where = (standin.base_url, ACCOUNT, here.instance, str(here.tree))
        return measured([sys.executable, "-m", "bench.sdk", *where], peers.bare())

    def rclone(*flags: str) -> Callable[[Workspace, int, int], Run] | None:
        if store is None:
            return None
        return lambda here, files, at: store.sync(here.tree, files, flags, prefix=f"{len(flags)}-{files}-{at}")

    return {
        "rclone": _Program(rclone(*ONE_REQUEST), peers.GET_RCLONE, rounds),
        "rclone, 2 requests": _Program(rclone()),
        "bare httpx": _Program(bare, rounds=rounds),
        "SDK, 8 threads": _Program(sdk if peers.sdk() else None, peers.GET_SDK),
    }


def bulk(sizes: Sizes) -> list[Figure]:
    """Measure first passes into Workers KV with a thousand files in a request, and the memory of syncd."""
    n = sizes.bulk_files
    with ExitStack() as stack:
        standin = stack.enter_context(Standin(latency=LATENCY_S))
        here = stack.enter_context(workspace(standin, n, folders=100, kind="kv", size=LARGER))
        store = stack.enter_context(bucket(LATENCY_S))
        ours, wranglers, changing = [], [], 0
        for _ in range(sizes.rounds):
            here.fresh()
            standin.reset()
            ours.append(here.reconcile())
            changing = standin.requests()["changing"]
            if command := peers.wrangler():
                wranglers.append(_wrangler(command, standin, here))
        rclone = [store.sync(here.tree, n, ONE_REQUEST)] if store else []
        standin.reset()
        run = here.reconcile(log=True)
        second = standin.requests()
    floor = math.ceil(n / BULK_PAIRS) * LATENCY_S
    beside = [
        Rounds([run.elapsed_s for run in wranglers]).peer("wrangler bulk put", peers.GET_WRANGLER),
        Rounds([run.elapsed_s for run in rclone]).peer("rclone, one by one", peers.GET_RCLONE),
    ]
    title = f"KV: first pass of {n:,} files of {LARGER / 1e3:.0f} kB at {LATENCY_S * 1e3:.0f} ms"
    walls = Rounds([run.elapsed_s for run in ours])
    return [
        walls.figure(title, "s", BULK_S_PER_FILE * n, floor=floor, peers=beside),
        Figure("… peak memory", max(run.peak_mb for run in ours), "MB"),
        Figure("… changing requests", changing, reach=n * 1.5e-3, exact=True, floor=math.ceil(n / BULK_PAIRS)),
        Figure("KV: requests, second pass", second["total"], reach=n / 1000 + 2, exact=True),
        Figure("… changing requests", second["changing"], reach=0, exact=True),
        Figure("… files read", run.last("pass.done")["files_read"], reach=0, exact=True),
    ]


def _wrangler(command: Sequence[str], standin: Standin, here: Workspace) -> Run:
    """Run one `kv bulk put` of a prepared JSON file with all files."""
    namespace = standin.make_namespace(f"wrangler-{secrets.token_hex(4)}")
    with tempfile.TemporaryDirectory(prefix="syncd-bench-wrangler-") as home:
        pairs = [
            {"key": file.relative_to(here.tree).as_posix(), "value": file.read_text()}
            for file in here.tree.rglob("*.md")
        ]
        bulk = Path(home, "bulk.json")
        bulk.write_text(json.dumps(pairs))
        said = {
            "XDG_CONFIG_HOME": home,
            "CLOUDFLARE_API_BASE_URL": standin.base_url,
            "CLOUDFLARE_API_TOKEN": "bench",
            "CLOUDFLARE_ACCOUNT_ID": ACCOUNT,
            "CI": "1",
            # Without its banner, wrangler does not look for a newer version either.
            "WRANGLER_HIDE_BANNER": "true",
            "WRANGLER_SEND_METRICS": "false",
        }
        put = [*command, "kv", "bulk", "put", str(bulk), "--namespace-id", namespace, "--remote"]
        # wrangler leaves a cache in its working directory.
        return measured(put, peers.bare() | said, cwd=Path(home))
