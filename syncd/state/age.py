"""The age of the state file, which does not depend on the wall clock, and the uptime of the machine."""

import sqlite3
import time
from pathlib import Path
from typing import Any

from syncd.state.db import Meta

_NAME = "age"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Age:
    """The age of the state file: the seconds that this machine was up since the file was made.

    A change of the wall clock does not change it. A reboot, or another machine, adds nothing, so the age is never
    greater than the time that passed. Times that guard against deleting too much are ages. boot: the id of the start of
    the machine. uptime: seconds since then.
    """

    def __init__(self, db: sqlite3.Connection, boot: str, uptime: float) -> None:
        self._meta = Meta(db, "")
        self._boot = boot
        stored = self._meta.get(_NAME)
        kept: dict[str, Any] = stored if isinstance(stored, dict) else {"boot": boot, "uptime": uptime, "age": 0.0}
        same = kept["boot"] == boot and uptime >= kept["uptime"]
        self._offset = kept["age"] - (kept["uptime"] if same else uptime)
        self.keep(uptime)

    def at(self, uptime: float) -> float:
        """Return the age at this uptime."""
        return float(self._offset + uptime)

    def keep(self, uptime: float) -> None:
        """Store the age, so that the next process, or the next start of the machine, continues from it."""
        self._meta.set(_NAME, {"boot": self._boot, "uptime": uptime, "age": self.at(uptime)})


def boot_id() -> str:
    """Return the id of this start of the machine, "" if there is none."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def uptime_s() -> float:
    """Return the seconds since the machine started, including sleep if the system counts it."""
    return time.clock_gettime(_CLOCK)
