"""Mounts: the kernel's table of mounts, or device numbers on a system without this table (macOS).

A missing mount, or a mount over a directory, hides files. `Protected` names the directories with such files, so that
they do not count as deleted.
"""

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
"""File systems whose statvfs number is derived from their own identifier, not from their device."""
AUTOFS: Final = "autofs"
"""The type of a mount point whose file system is mounted at the first access and unmounted when it is idle."""


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
"""File systems without events for writes of other machines, by their names in mountinfo."""


class Mount(NamedTuple):
    """One line of the table.

    number: the id of the mount. parent: the id of the mount that holds the mount point. point: the mount point.
    root: the directory of the file system that appears at `point`. kind: the type of the file system.
    device: its "major:minor". source: the mounted device or address.
    """

    number: str
    parent: str
    device: str
    root: str
    point: str
    kind: str
    source: str

    def holds(self, path: str) -> bool:
        """Return whether `path` is the mount point or lies below it."""
        return path == self.point or path.startswith(_below(self.point))

    def identity(self) -> str:
        """Return a text that stays the same when the file system is mounted again, and usually after a reboot."""
        if self.kind in _NUMBERED and (number := _file_system_number(self.point)):
            return f"{self.kind} {self.root} {number:x}"
        named = "/" in self.source or ":" in self.source
        return f"{self.kind} {self.root} {self.source if named else self.device}"


class MountSurvey(NamedTuple):
    """The mounts of a root.

    root: the real path of the root. point: the mount point that contains the root. mount: the identity of the mount at
    `point`. inner: mount point below the root -> identity of its mount. lazy: mount points of autofs below the root.
    """

    root: str
    point: str
    mount: str
    inner: Mapping[str, str]
    lazy: frozenset[str]

    @property
    def is_mount(self) -> bool:
        """Whether the root itself is a mount point."""
        return self.point == self.root


def mounts_below(root: Path) -> dict[str, str]:
    """Return {mount point: identity} below a root. It omits mounts of autofs, which mounts and unmounts them itself."""
    mounts = survey(root)
    lazy = tuple(_below(path) for path in mounts.lazy)
    return {path: identity for path, identity in mounts.inner.items() if not _below(path).startswith(lazy)}


def survey(root: Path, crossed: Iterable[str] = ()) -> MountSurvey:
    """Return the mounts of a root.

    crossed: paths below the root that may be mount points. Only a system without a table needs them.
    """
    real, mounts = os.path.realpath(root), _read_mounts()
    if mounts is None:
        return _by_devices(real, crossed)
    holder = mounts.holder(real)
    below = {from_os(mount.point.removeprefix(_below(real))): mount for mount in mounts.below(real)}
    return MountSurvey(
        real,
        holder.point if holder else "/",
        holder.identity() if holder else "",
        {path: mount.identity() for path, mount in below.items() if mount.kind != AUTOFS},
        frozenset(path for path, mount in below.items() if mount.kind == AUTOFS),
    )


def network_filesystem(path: Path, mountinfo: Path = _TABLE) -> str | None:
    """Return the type of a network file system at or below `path`. None: there is none."""
    mounts = _read_mounts(mountinfo)
    if mounts is None:
        return None
    real = os.path.realpath(path)
    holder = mounts.holder(real)
    kinds = [holder.kind if holder else "", *(mount.kind for mount in mounts.below(real))]
    return next((kind for kind in kinds if kind in NETWORK_FILESYSTEMS), None)


class Mounts:
    """The mounts of one mountinfo table. table: its bytes."""

    def __init__(self, table: bytes) -> None:
        self._by_number = {mount.number: mount for line in table.splitlines() if (mount := _parsed_line(line))}
        self._on: dict[str, list[Mount]] = {}
        for mount in self._by_number.values():
            known = mount.parent in self._by_number and mount.parent != mount.number
            self._on.setdefault(mount.parent if known else "", []).append(mount)

    def holder(self, path: str) -> Mount | None:
        """Return the mount that a path lies on. A bind mount of a directory on itself does not count as a mount."""
        mount = self._reached(path)
        while mount and (above := self._by_number.get(mount.parent)) and _is_no_change(mount, above):
            mount = above
        return mount

    def below(self, path: str) -> list[Mount]:
        """Return the visible mounts below a directory: the topmost mount of each mount point that can be reached."""
        points = {mount.point for mount in self._by_number.values() if mount.point.startswith(_below(path))}
        visible = [self.holder(point) for point in sorted(points - {path})]
        return [mount for mount in visible if mount and mount.point in points]

    def _reached(self, path: str) -> Mount | None:
        """Follow a path from mount to mount as the kernel does. A mount hides earlier mounts below its mount point."""
        reached: Mount | None = None
        while inner := [mount for mount in self._on.get(reached.number if reached else "", ()) if mount.holds(path)]:
            # The shortest mount point comes first on the path. Of two mounts at one point the later one is on top.
            reached = min(reversed(inner), key=lambda mount: len(mount.point))
        return reached


@dataclass(slots=True)
class Protected:
    """Directories ("a/b/") whose missing files do not count as deleted, each with its problem.

    closed: the mount of the directory is missing, so that the walk does not enter it.
    covered: another mount hides the files of the directory.
    withheld: the covered directories in which a file was missing in this pass.
    """

    closed: Mapping[str, Problem] = field(default_factory=dict)
    covered: Mapping[str, Problem] = field(default_factory=dict)
    withheld: set[str] = field(default_factory=set)

    def closes(self, path: str) -> Problem | None:
        """Return the problem of a closed directory, or of a path in it. None: the path is in no closed directory."""
        place = _place(self.closed, path)
        return self.closed[place] if place else None

    def hides(self, path: str) -> Problem | None:
        """Return the problem of a missing file in a covered directory. None: the path is in no covered directory."""
        place = _place(self.covered, path)
        if place is None:
            return None
        self.withheld.add(place)
        return self.covered[place]

    def problems(self) -> list[Problem]:
        """Return the problems after a walk: of outermost closed directories, and of covered ones with missing files."""
        inner = {path for path in self.closed for other in self.closed if path != other and path.startswith(other)}
        outermost = [problem for folder, problem in self.closed.items() if folder not in inner]
        return [*outermost, *(self.covered[folder] for folder in sorted(self.withheld))]


def _place(places: Iterable[str], path: str) -> str | None:
    """Return the directory that contains a path, None if there is none."""
    return next((place for place in places if path.startswith(place)), None) if places else None


def _read_mounts(table: Path = _TABLE) -> Mounts | None:
    """Read a table of mounts. None: the system has none."""
    try:
        return _parsed(table.read_bytes())
    except OSError:
        return None


@lru_cache(maxsize=1)
def _parsed(table: bytes) -> Mounts:
    """Parse a table. The result is cached, because the table is read every second and rarely changes."""
    return Mounts(table)


def _parsed_line(line: bytes) -> Mount | None:
    """Parse a line of a table, None if it has too few fields. The format is that of proc_pid_mountinfo(5)."""
    left, _, right = line.partition(b" - ")
    fields, kinds = left.split(b" "), right.split(b" ")
    if len(fields) < 5 or not kinds[0]:
        return None
    texts = [
        os.fsdecode(_OCTAL.sub(lambda octal: bytes([int(octal[1], 8) & 255]), field_bytes))
        for field_bytes in fields[:5]
    ]
    return Mount._make([*texts, os.fsdecode(kinds[0]), os.fsdecode(kinds[1]) if len(kinds) > 1 else ""])


def _is_no_change(mount: Mount, above: Mount) -> bool:
    """Return whether a mount shows the same files as its mount point without the mount.

    systemd uses such mounts to protect paths of a service.
    """
    place = mount.point.removeprefix(above.point.rstrip("/"))
    return (
        above is not mount and mount.device == above.device and mount.root == ((above.root.rstrip("/") + place) or "/")
    )


def _by_devices(real: str, crossed: Iterable[str]) -> MountSurvey:
    """Return the mounts of a root by device numbers. A path on another device than its parent is a mount point."""
    point = real
    while point != "/" and not _is_boundary(point):
        point = str(Path(point).parent)
    inner = {path: "a mount" for path in crossed if _is_boundary(_below(real) + to_os(path))}
    return MountSurvey(real, point, _device(point), inner, frozenset())


def _is_boundary(path: str) -> bool:
    """Return whether a path is on another device than its parent directory."""
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
    """Return the beginning of the paths below a directory."""
    return path if path.endswith("/") else path + "/"
