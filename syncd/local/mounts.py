"""What is mounted where: the kernel's table of mounts, and device numbers where there is no such table (macOS)."""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

from syncd.core.keys import from_os, to_os
from syncd.core.model import Problem

_TABLE: Final = Path("/proc/self/mountinfo")
_OCTAL: Final = re.compile(rb"\\([0-7]{3})")
_NUMBERED: Final = frozenset({"btrfs", "ext2", "ext3", "ext4", "tmpfs", "zfs"})
"""File systems whose statvfs number comes from their own identifier, not from their device."""
AUTOFS: Final = "autofs"
"""Stands in for a file system that is mounted when somebody looks, and unmounted when nobody does."""


NETWORK_FILESYSTEMS: Final = frozenset(
    {
        "9p", "acfs", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "drvfs", "fakeowner", "fuse.beegfs",
        "fuse.blobfuse2", "fuse.ceph", "fuse.ceph-fuse", "fuse.cephfs", "fuse.curlftpfs", "fuse.davfs",
        "fuse.davfs2", "fuse.gcsfuse", "fuse.glusterfs", "fuse.goofys", "fuse.grpcfuse", "fuse.gvfsd-fuse",
        "fuse.juicefs", "fuse.lizardfs", "fuse.mfs", "fuse.moosefs", "fuse.mountpoint-s3", "fuse.rclone", "fuse.s3fs",
        "fuse.seaweedfs", "fuse.smbnetfs", "fuse.sshfs", "fuse.vmhgfs-fuse", "glusterfs", "gpfs", "lustre", "mfs",
        "ncp", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "prl_fs", "pvfs2", "smb2", "smb3", "smbfs", "vboxsf",
        "virtiofs", "vmhgfs",
    }
)  # fmt: skip
"""File systems whose other writers the local kernel does not hear of, as mountinfo names them."""


class Mount(NamedTuple):
    """One line of the table. root: the directory of the file system that is seen at `point`."""

    number: str
    parent: str
    device: str
    root: str
    point: str
    kind: str
    source: str

    def holds(self, path: str) -> bool:
        """True if path is the mount point or below it."""
        return path == self.point or path.startswith(_below(self.point))

    def identity(self) -> str:
        """Return what is mounted, in words that hold over a new mount of the same, and mostly over a reboot."""
        if self.kind in _NUMBERED and (number := _file_system_number(self.point)):
            return f"{self.kind} {self.root} {number:x}"
        named = "/" in self.source or ":" in self.source
        return f"{self.kind} {self.root} {self.source if named else self.device}"


class Survey(NamedTuple):
    """The mounts that matter to a root. point: the mount point that holds it; what: what is mounted there.

    inner: what is mounted at each path below the root; lazy: paths below it that autofs serves.
    """

    root: str
    point: str
    what: str
    inner: Mapping[str, str]
    lazy: frozenset[str]

    @property
    def is_mount(self) -> bool:
        """True if the root itself is a mount point."""
        return self.point == self.root


def mounts_below(root: Path) -> dict[str, str]:
    """Return what is mounted below a root, but for what autofs serves: that comes and goes as it is looked at."""
    seen = survey(root)
    lazy = tuple(_below(path) for path in seen.lazy)
    return {path: what for path, what in seen.inner.items() if not _below(path).startswith(lazy)}


def survey(root: Path, crossed: Iterable[str] = ()) -> Survey:
    """Return the mounts at, above and below a root. crossed: paths below it that may be mount points.

    `crossed` is heeded only where there is no table.
    """
    real = os.path.realpath(root)
    try:
        table = _TABLE.read_bytes()
    except OSError:
        return _by_devices(real, crossed)
    mounts = _parsed(table)
    held, below = mounts.holder(real), mounts.below(real)
    return Survey(
        real,
        held.point if held else "/",
        held.identity() if held else "",
        {from_os(each.point.removeprefix(_below(real))): each.identity() for each in below if each.kind != AUTOFS},
        frozenset(from_os(each.point.removeprefix(_below(real))) for each in below if each.kind == AUTOFS),
    )


def network_filesystem(path: Path, mountinfo: Path = _TABLE) -> str | None:
    """The type of the file system that holds path, or of one mounted below it, without events from other machines.

    None if there is no such.
    """
    try:
        mounts = Mounts(mountinfo.read_bytes())
    except OSError:
        return None
    real = os.path.realpath(path)
    held = mounts.holder(real)
    kinds = [held.kind if held else "", *(each.kind for each in mounts.below(real))]
    return next((kind for kind in kinds if kind in NETWORK_FILESYSTEMS), None)


class Mounts:
    """The mounts of one mountinfo table."""

    def __init__(self, table: bytes) -> None:
        self._by_number = {each.number: each for line in table.splitlines() if (each := _mount(line))}
        self._on: dict[str, list[Mount]] = {}
        for each in self._by_number.values():
            known = each.parent in self._by_number and each.parent != each.number
            self._on.setdefault(each.parent if known else "", []).append(each)

    def holder(self, path: str) -> Mount | None:
        """Return the mount that a path lies on. One that shows a directory at its own place is not seen as a mount."""
        found = self._reached(path)
        while found and (above := self._by_number.get(found.parent)) and _is_no_change(found, above):
            found = above
        return found

    def below(self, path: str) -> list[Mount]:
        """Return the mounts below a directory that can be reached; of several at one place, the one that is seen."""
        points = {each.point for each in self._by_number.values() if each.point.startswith(_below(path))}
        found = [self.holder(point) for point in sorted(points - {path})]
        return [each for each in found if each and each.point in points]

    def _reached(self, path: str) -> Mount | None:
        """Follow a path from mount to mount, as the kernel does: a mount hides those made below it before."""
        found: Mount | None = None
        while on_it := [each for each in self._on.get(found.number if found else "", ()) if each.holds(path)]:
            # The shortest comes first on the way; of two at one place the later one lies on top.
            found = min(reversed(on_it), key=lambda each: len(each.point))
        return found


@dataclass(slots=True)
class Protected:
    """The directories ("a/b/") whose missing files are not gone, each with the problem that it is.

    closed: what was mounted there is not, so they are not gone into. covered: a mount came over them. withheld: those
    of `covered` of which a file was missed in this pass.
    """

    closed: Mapping[str, Problem] = field(default_factory=dict)
    covered: Mapping[str, Problem] = field(default_factory=dict)
    withheld: set[str] = field(default_factory=set)

    def closes(self, path: str) -> Problem | None:
        """Return the problem of a path in, or a directory that is, a closed directory."""
        place = _place(self.closed, path)
        return self.closed[place] if place else None

    def hides(self, path: str) -> Problem | None:
        """Return the problem of a file that is missing in a covered directory."""
        place = _place(self.covered, path)
        if place is None:
            return None
        self.withheld.add(place)
        return self.covered[place]

    def problems(self) -> list[Problem]:
        """What is to be said after a walk: the outermost closed directories, and the covered ones that miss files."""
        outer = [each for each in self.closed if not any(each != o and each.startswith(o) for o in self.closed)]
        return [*(self.closed[each] for each in outer), *(self.covered[each] for each in sorted(self.withheld))]


def _place(places: Iterable[str], path: str) -> str | None:
    return next((place for place in places if path.startswith(place)), None) if places else None


@lru_cache(maxsize=1)
def _parsed(table: bytes) -> Mounts:
    """Cached: the table is read every second and changes seldom."""
    return Mounts(table)


def _mount(line: bytes) -> Mount | None:
    left, _, right = line.partition(b" - ")
    fields, kinds = left.split(b" "), right.split(b" ")
    if len(fields) < 5 or not kinds[0]:
        return None
    texts = [os.fsdecode(_OCTAL.sub(lambda octal: bytes([int(octal[1], 8) & 255]), each)) for each in fields[:5]]
    return Mount._make([*texts, os.fsdecode(kinds[0]), os.fsdecode(kinds[1]) if len(kinds) > 1 else ""])


def _is_no_change(mount: Mount, above: Mount) -> bool:
    """True if a mount shows what is there without it, as systemd makes them to protect paths of a service."""
    place = mount.point.removeprefix(above.point.rstrip("/"))
    return (
        above is not mount and mount.device == above.device and mount.root == ((above.root.rstrip("/") + place) or "/")
    )


def _by_devices(real: str, crossed: Iterable[str]) -> Survey:
    point = real
    while point != "/" and not _is_boundary(point):
        point = str(Path(point).parent)
    inner = {path: "a mount" for path in crossed if _is_boundary(_below(real) + to_os(path))}
    return Survey(real, point, _device(point), inner, frozenset())


def _is_boundary(path: str) -> bool:
    return _device(path) not in ("", _device(str(Path(path).parent)))


def _device(path: str) -> str:
    try:
        return str(os.lstat(path).st_dev)
    except OSError:
        return ""


def _file_system_number(point: str) -> int:
    try:
        return os.statvfs(point).f_fsid
    except OSError:
        return 0


def _below(path: str) -> str:
    return path if path.endswith("/") else path + "/"
