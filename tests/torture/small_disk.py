"""A small disk that a storm fills."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.torture.stormy_processes import Workshop

DISK_BYTES = 12 * 1024 * 1024
"""Size of the small disk. The state file of a few hundred files and its log fit, and leave free space."""
SMALL_FILE_BYTES = 512 * 1024
"""Limit of a file where no disk can be mounted: SQLite's log may reach it, and the output of the program does not."""


@contextmanager
def small_disk(shop: Workshop) -> Iterator[str]:
    """Mount a small disk under the state directory, or limit the size of every file if mounts are not possible."""
    try:
        options = f"size={DISK_BYTES},mode=0700"
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", shop.state], check=True, capture_output=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        shop.limit = SMALL_FILE_BYTES
        yield "no disk can be mounted here, so files were kept from growing (RLIMIT_FSIZE)"
        return
    try:
        yield "a tmpfs under the state directory"
    finally:
        subprocess.run(["umount", "--lazy", shop.state], check=True, timeout=10)


def fill(ballast: Path, left: int) -> None:
    """Fill the disk except for `left` bytes."""
    with ballast.open("wb", buffering=0) as file:
        try:
            for _ in range(DISK_BYTES // 4096):
                file.write(bytes(4096))
        except OSError:
            file.truncate(max(0, file.tell() - left))
