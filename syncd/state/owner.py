"""The owner mark of a mirror: set by hand, or its name and a hash of this machine and the mirrored folder.

The owner derived first is remembered with its folder, so that a machine id that changes, as in a container that is
made anew, orphans nothing while the state file is there.
"""

import hashlib
import os
import socket
from collections.abc import Sequence
from pathlib import Path

from syncd.os_names import from_os, to_os
from syncd.state.db import Meta, installation

MACHINE_ID_FILES: Sequence[Path] = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))
UNDECIDED = "no machine id and no state directory yet"
"""What a command that changes nothing takes for the machine before the first pass: no entry can be its own."""
_HEX = frozenset("0123456789abcdef")
_DIGITS = 8
_NAME_LENGTH = 64 - _DIGITS - 1
"""Characters of the mirror's name in a derived owner, which has at most 64."""
_OWNERS = "owners"


def machine(state_dir: Path) -> str | None:
    """Return what tells this machine from others; None if nothing does until the state directory is made.

    The host name counts too: machines made from one image may share their machine id.
    """
    known = _machine_id() or installation(state_dir)
    return f"{known} {socket.gethostname()}" if known else None


def _machine_id() -> str | None:
    for place in MACHINE_ID_FILES:
        try:
            text = place.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue
        # systemd writes "uninitialized" before the first boot; an image may hold nothing or zeros.
        if len(text) == 32 and set(text) <= _HEX and set(text) != {"0"}:
            return text
    return None


def derived(name: str, folder: Path, machine: str) -> str:
    """Return the default owner of a mirror. The name is hashed too, since a long one does not fit in whole."""
    told = "\0".join(("syncd owner", machine, from_os(str(folder)), name)).encode("utf-8", "surrogateescape")
    return f"{name[:_NAME_LENGTH]}-{hashlib.sha256(told).hexdigest()[:_DIGITS]}"


def owner_of(name: str, folder: Path, meta: Meta | None, machine: str | None) -> str | None:
    """Return the owner of a mirror that has none set: the one remembered for its folder, else a derived one.

    None: there is neither a state nor a machine id yet; the first pass decides.
    """
    if machine and meta:
        return known_or_derived(name, folder, meta, machine)
    return (meta and _remembered(folder, meta)) or (derived(name, folder, machine) if machine else None)


def known_or_derived(name: str, folder: Path, meta: Meta, machine: str) -> str:
    """Return the owner remembered for a folder, else a derived one."""
    return _remembered(folder, meta) or derived(name, folder, machine)


def remember(owner: str, folder: Path, meta: Meta) -> None:
    """Keep the derived owner of a folder."""
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
