"""When the daemon was last alive, and when a mirror last reached its remote. Both outlive the process."""

import sqlite3
from typing import NamedTuple

from syncd.state.db import Meta

_DAEMON = "daemon"
_CONTACT = "contact"


class Presence(NamedTuple):
    """The last sign of life of a daemon. at: seconds since the epoch. ended: whether it ended by itself."""

    at: float
    ended: bool


def keep_presence(db: sqlite3.Connection, now: float, *, ended: bool = False) -> None:
    """Note that the daemon of this process is alive, or that it ends."""
    Meta(db, "").set(_DAEMON, {"at": round(now, 1), "ended": ended})


def last_presence(db: sqlite3.Connection) -> Presence | None:
    """Return the last sign of life of a daemon, None if there was never one."""
    stored = Meta(db, "").get(_DAEMON)
    if not isinstance(stored, dict):
        return None
    return Presence(float(stored["at"]), bool(stored["ended"]))


def keep_contact(meta: Meta, at: float | None) -> None:
    """Store when the remote last answered a request of a mirror. None changes nothing."""
    if at is not None and last_contact(meta) != round(at):
        meta.set(_CONTACT, round(at))


def last_contact(meta: Meta) -> float | None:
    """Return when the remote last answered a request of a mirror (seconds since the epoch), None for never."""
    stored = meta.get(_CONTACT)
    return stored if isinstance(stored, (int, float)) else None
