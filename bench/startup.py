"""The start-up time of commands, and of the daemon until it watches."""

import statistics
import subprocess
import sys
import time

from bench import peers
from bench.process import Daemon, end, measured, piped
from bench.table import Figure, Rounds
from bench.workspace import Sizes, Standin, Workspace, workspace

HELP_MS, STATUS_MS = 150.0, 250.0
WATCHING_S = 1.5
CPU_PERCENT = 0.5
REST_S = 3.0


def commands(sizes: Sizes) -> list[Figure]:
    """Measure medians. The commands take turns, so that noise affects all of them."""
    with Standin() as standin, workspace(standin, 10) as here:
        here.reconcile()
        commands = {
            "syncd --help": here.command("--help"),
            "syncd status": here.command("status"),
            "python": [sys.executable, "-c", "pass"],
        }
        took: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(sizes.starts):
            for name, command in commands.items():
                took[name].append(measured(command).elapsed_s * 1e3)
    python = statistics.median(took.pop("python"))
    reach = {"syncd --help": HELP_MS, "syncd status": STATUS_MS}
    return [Figure(name, statistics.median(took[name]), "ms", reach[name], floor=python) for name in took]


def watching(sizes: Sizes) -> list[Figure]:
    """Measure the time from the start of `run` until it watches many directories, and its idle load.

    Nothing has to be uploaded. Raises RuntimeError if the kernel permits too few watches.
    """
    n = sizes.watched
    ours, bare, theirs, rest = [], [], [], []
    with Standin() as standin, workspace(standin, n, folders=n, kind="kv") as here:
        here.reconcile()
        for _ in range(sizes.rounds):
            with here.run() as daemon:
                ours.append(daemon.wait_for("watch.ready"))
                if not daemon.logged("watch.ready", mode="inotify"):
                    raise RuntimeError(f"no inotify watches for {n:,} directories: fs.inotify.max_user_watches")
                daemon.wait_for("pass.done", scope="all")
                time.sleep(REST_S)
                rest.append(_cpu_percent(daemon, sizes.idle_s / sizes.rounds))
            bare.append(measured([sys.executable, "-m", "bench.watch", str(here.tree)]).elapsed_s)
            if peers.inotifywait():
                theirs.append(_inotifywait_s(here))
    peer = Rounds(theirs).peer("inotifywait", peers.GET_INOTIFYWAIT)
    return [
        Rounds(ours).figure(f"run: watching {n:,} directories", "s", WATCHING_S, floor=min(bare), peers=[peer]),
        Figure("… processor at rest afterwards", statistics.mean(rest), "%", CPU_PERCENT),
    ]


def _cpu_percent(daemon: Daemon, seconds: float) -> float:
    began, before = time.monotonic(), daemon.cpu_s()
    time.sleep(seconds)
    return (daemon.cpu_s() - before) / (time.monotonic() - began) * 100


def _inotifywait_s(here: Workspace) -> float:
    began = time.perf_counter()
    command = ["inotifywait", "-m", "-r", "-e", "close_write", str(here.tree)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=peers.bare())
    try:
        with piped(process.stderr) as said:
            if not any("Watches established" in line for line in said):
                raise RuntimeError("inotifywait does not watch")
            return time.perf_counter() - began
    finally:
        end(process)
