"""A saved run: its figures and its environment."""

import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import peers
from bench.table import Figure, Peer, markdown, text
from bench.workspace import LATENCY_S
from syncd import __version__


@dataclass(frozen=True, slots=True)
class Report:
    """The figures of a run. about: name -> value of each fact that a repetition needs."""

    about: Mapping[str, str]
    figures: Sequence[Figure]

    def text(self) -> list[str]:
        """Return the lines for a terminal."""
        return [*text(self.figures), "", *(f"{name}: {value}" for name, value in self.about.items())]

    def markdown(self) -> list[str]:
        """Return the lines for a document."""
        return [*markdown(self.figures), "", *(f"- {name}: {value}" for name, value in self.about.items())]

    def save(self, file: Path) -> None:
        """Write the run as JSON."""
        figures = [asdict(figure) for figure in self.figures]
        file.write_text(json.dumps({"about": dict(self.about), "figures": figures}, indent=1) + "\n")


def load(file: Path) -> Report:
    """Return a saved run. Raise OSError, ValueError, KeyError or TypeError if the file is no saved run."""
    read = json.loads(file.read_text())
    figures = [Figure(**row | {"peers": tuple(Peer(**peer) for peer in row["peers"])}) for row in read["figures"]]
    return Report(read["about"], figures)


def about(*, quick: bool) -> Mapping[str, str]:
    """Return the machine, and the versions of all measured programs."""
    return {
        "measured": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()) + (", small sizes (--quick)" if quick else ""),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "syncd": __version__,
        "peers": ", ".join(f"{name} {version}" for name, version in peers.versions().items()),
        "injected latency": f"{LATENCY_S * 1e3:.0f} ms per request if the line says so; equal for all programs",
    }
