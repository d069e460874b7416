"""A disk that is small enough to be filled."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.torture.stormy_processes import Workshop

DISK_BYTES = 12 * 1024 * 1024
"""Of the small disk: the state file of a few hundred files and its log fit in, with room to be taken away."""
SMALL_FILE_BYTES = 512 * 1024
"""Where no disk can be mounted: what SQLite's log may grow to. What the program prints is less."""


@contextmanager
def small_disk(shop: Workshop) -> Iterator[str]:
    """A small disk under the state directory; where none can be mounted, a limit on the size of every file."""
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
    """Take all room that there is but for `left` bytes."""
    with ballast.open("wb", buffering=0) as file:
        try:
            for _ in range(DISK_BYTES // 4096):
                file.write(bytes(4096))
        except OSError:
            file.truncate(max(0, file.tell() - left))
