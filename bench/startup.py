"""How long a person waits for a command that does nothing: a process from start to end."""

import statistics
import subprocess
import sys
import time

from bench.table import Figure
from bench.world import Sizes, Standin, room

HELP_S = 0.3


def commands(sizes: Sizes) -> list[Figure]:
    """Medians; the commands take turns, so that all meet the same noise."""
    with Standin() as standin, room(standin, 10) as here:
        here.reconcile()
        commands = {
            "syncd --help": here.command("--help"),
            "syncd status": here.command("status"),
            "python -c pass": [sys.executable, "-c", "pass"],
        }
        took: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(sizes.starts):
            for name, command in commands.items():
                took[name].append(_seconds(command))
    limits = {"syncd --help": HELP_S}
    return [Figure(name, statistics.median(took[name]), "s", limits.get(name)) for name in commands]


def _seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True, timeout=30)
    return time.perf_counter() - began
