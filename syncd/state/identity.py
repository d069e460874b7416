"""Which machine, target, prefix and shard the state of a mirror belongs to, and how old the state file is."""

import hashlib
import os
import socket
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from syncd.core.keys import from_os, to_os
from syncd.core.sharding import WHOLE, Shard
from syncd.state.db import Meta, transaction
from syncd.state.directory import installation
from syncd.state.journal import Journal
from syncd.state.ownership import Claims, forget_listing

MACHINE_ID_FILES: Sequence[Path] = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))
UNDECIDED = "no machine id and no state directory yet"
"""The machine id that a read-only command uses before the first pass. No entry can have its owner mark."""
_HEX = frozenset("0123456789abcdef")
_DIGITS = 8
_NAME_LENGTH = 64 - _DIGITS - 1
"""Maximum characters of the mirror's name in a derived owner, which has at most 64."""
_OWNERS = "owners"


def machine(state_dir: Path) -> str | None:
    """Return an id of this machine, None if it has none before the state directory is made.

    It includes the host name, because machines made from one image can have the same machine id.
    """
    known = _machine_id() or installation(state_dir)
    return f"{known} {socket.gethostname()}" if known else None


def _machine_id() -> str | None:
    for place in MACHINE_ID_FILES:
        try:
            text = place.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue
        # systemd writes "uninitialized" before the first boot. In an image the file can be empty or zeros.
        if len(text) == 32 and set(text) <= _HEX and set(text) != {"0"}:
            return text
    return None


def derived(name: str, folder: Path, machine: str) -> str:
    """Return the default owner of a mirror. The hash includes the name, because a long name is cut."""
    identity = "\0".join(("syncd owner", machine, from_os(str(folder)), name)).encode("utf-8", "surrogateescape")
    return f"{name[:_NAME_LENGTH]}-{hashlib.sha256(identity).hexdigest()[:_DIGITS]}"


def owner_of(name: str, folder: Path, meta: Meta | None, machine: str | None) -> str | None:
    """Return the owner of a mirror without a configured one: the stored owner of its folder, else a derived one.

    None: there is neither a state nor a machine id. The first pass decides.
    """
    if machine and meta:
        return known_or_derived(name, folder, meta, machine)
    return (meta and _remembered(folder, meta)) or (derived(name, folder, machine) if machine else None)


def known_or_derived(name: str, folder: Path, meta: Meta, machine: str) -> str:
    """Return the stored owner of a folder, else a derived one."""
    return _remembered(folder, meta) or derived(name, folder, machine)


def remember(owner: str, folder: Path, meta: Meta) -> None:
    """Store the derived owner of a folder.

    The owner then survives a change of the machine id, such as that of a new container.
    """
    kept = {**_kept(meta), from_os(str(folder)): (owner, _inode(folder))}
    if kept != _kept(meta):
        meta.set(_OWNERS, kept)


def _remembered(folder: Path, meta: Meta) -> str | None:
    kept = _kept(meta)
    if from_os(str(folder)) in kept:
        return kept[from_os(str(folder))][0]
    inode = _inode(folder)
    moved = [owner for path, (owner, known) in kept.items() if known == inode and not os.path.lexists(to_os(path))]
    # The same directory under another name is the same folder.
    return moved[0] if inode is not None and len(moved) == 1 else None


def _kept(meta: Meta) -> dict[str, tuple[str, int | None]]:
    kept = meta.get(_OWNERS)
    return {path: (owner, inode) for path, (owner, inode) in kept.items()} if isinstance(kept, dict) else {}


def _inode(folder: Path) -> int | None:
    try:
        return folder.stat().st_ino
    except OSError:
        return None


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


def bind(db: sqlite3.Connection, mirror: str, location: str, prefix: str) -> None:
    """Clear the journal if it describes another target or key prefix.

    location: the account and the target. After a change of the prefix alone, the entries stay claimed: their files may
    still be in the folder.
    """
    journal, meta, binding = Journal(db, mirror), Meta(db, mirror), [location, prefix]
    before = meta.get("binding")
    if before not in (None, binding):
        import structlog

        structlog.get_logger().warning("journal.rebound", before=before, now=binding)
        same_target = isinstance(before, list) and before[0] == location
        if same_target:
            Claims(db, mirror).add_records(Age(db, boot_id(), uptime_s()).at(uptime_s()))
        journal.clear(but=("claim",) if same_target else ())
        forget_listing(meta)
    if before != binding:
        meta.set("binding", binding)


def reshard(db: sqlite3.Connection, mirror: str, shard: Shard) -> None:
    """Delete the records of keys that belong to other shards now. No request is made: a key without a row has no plan.

    Keys that this shard gained have no row yet. The next full pass adopts their entries by their owner marks.
    """
    meta = Meta(db, mirror)
    before = meta.get("shard") or str(WHOLE)
    if before == str(shard):
        return
    db.create_function("held", 1, shard.holds, deterministic=True)
    # A full pass drops problems, refusals and checksums. Hints stay, since a hint can name a directory of all shards.
    with transaction(db):
        forgotten, *_ = [
            db.execute(f"DELETE FROM {table} WHERE mirror = ? AND NOT held(key)", (mirror,)).rowcount  # noqa: S608
            for table in ("record", "tombstone", "reindex", "absence")
        ]
        meta.set("shard", str(shard))
        # The stored audit counts entries of this shard as entries of others.
        meta.set("audit", None)
        forget_listing(meta)
    import structlog

    structlog.get_logger().info("shard.changed", mirror=mirror, before=before, now=str(shard), forgotten=forgotten)
