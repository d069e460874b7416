"""What a root is made of: its identity, its file system, and the limits a watch on it may meet."""

import os
import sys
from pathlib import Path
from typing import Final

from syncd.local.mounts import Mounts

_PROC: Final = Path("/proc")
_SYSCTL_DIR: Final = _PROC / "sys/fs/inotify"
_FEWEST_WATCHES: Final = 524_288
"""What most distributions and editors advise, about 0.5 GB of kernel memory if all are used."""

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


def root_identity(path: Path) -> tuple[int, int] | None:
    """(st_dev, st_ino) of the folder at path, symbolic links followed; None when there is none or it cannot be read."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return (found.st_dev, found.st_ino)


def network_filesystem(path: Path, mountinfo: Path = _PROC / "self/mountinfo") -> str | None:
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


def watch_limit_advice(directories: int, sysctl_dir: Path = _SYSCTL_DIR) -> str:
    """One line for a root of so many directories that did not fit under fs.inotify.max_user_watches."""
    limit = _limit(sysctl_dir / "max_user_watches")
    wanted = max(_FEWEST_WATCHES, 1 << (limit + directories).bit_length())
    known = f" ({limit})" if limit else ""
    return (
        f"the inotify watch limit{known} is too low for {directories} directories: "
        f"sysctl fs.inotify.max_user_watches={wanted}, then restart"
    )


def instance_limit_advice(sysctl_dir: Path = _SYSCTL_DIR) -> str:
    """One line for a process that got no inotify descriptor."""
    limit = _limit(sysctl_dir / "max_user_instances")
    known = f" {limit}" if limit else ""
    return (
        f"no inotify instance is left (limit{known}, or the open-file limit is reached): "
        f"sysctl fs.inotify.max_user_instances={max(512, limit * 2)}, then restart"
    )


def _limit(path: Path) -> int:
    """0 if it cannot be read: the service unit hides what is no process from /proc."""
    if sys.platform != "linux":
        return 0
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0
