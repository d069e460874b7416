"""An age that no change of the wall clock moves: the seconds that this machine was up since the state file was made.

Times that guard against deleting too much are kept in it. A reboot, or another machine, adds nothing to it, so an age
is never greater than the time that has passed.
"""

import sqlite3
import time
from pathlib import Path
from typing import Any

from syncd.state.db import Meta

_NAME = "age"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Age:
    """The age of a state file. boot: names the start of the machine. uptime: seconds since then."""

    def __init__(self, db: sqlite3.Connection, boot: str, uptime: float) -> None:
        self._meta = Meta(db, "")
        self._boot = boot
        said = self._meta.get(_NAME)
        kept: dict[str, Any] = said if isinstance(said, dict) else {"boot": boot, "uptime": uptime, "age": 0.0}
        same = kept["boot"] == boot and uptime >= kept["uptime"]
        self._offset = kept["age"] - (kept["uptime"] if same else uptime)
        self.keep(uptime)

    def at(self, uptime: float) -> float:
        """The age at this uptime."""
        return float(self._offset + uptime)

    def keep(self, uptime: float) -> None:
        """Write it down, so that the next process, or the next start of the machine, goes on from here."""
        self._meta.set(_NAME, {"boot": self._boot, "uptime": uptime, "age": self.at(uptime)})


def boot_id() -> str:
    """What names this start of the machine; "" where nothing does."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def uptime_s() -> float:
    """Seconds since the machine started, those of its sleep included where the system counts them."""
    return time.clock_gettime(_CLOCK)
