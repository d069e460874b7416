"""A daemon whose root is mounted, unmounted, mounted anew and covered; for a mount namespace of its own.

argv[1]: a folder to work in. Prints "cannot mount: …" and ends with 3 where mounting is not allowed.
"""

import subprocess
import sys
from pathlib import Path

from tests.e2e.harness import Room, open_room, until


def mount(place: Path) -> None:
    made = subprocess.run(["mount", "-t", "tmpfs", "none", str(place)], capture_output=True, text=True, check=False)
    if made.returncode:
        print("cannot mount:", made.stderr.strip(), flush=True)  # noqa: T201 - the answer
        sys.exit(3)


def unmount(place: Path) -> None:
    # Lazily: the daemon may be looking at it in this moment.
    subprocess.run(["umount", "-l", str(place)], check=True)


def files(room: Room) -> None:
    for number in range(15):
        room.write(f"part/{number}.md", f"text {number}")


def main(place: Path) -> None:
    with open_room(place) as room:
        room.configure(mirror="reconcile_interval = 1")
        mount(room.docs)
        files(room)
        with room.daemon() as daemon:
            room.in_step()
            room.remote.forget_requests()
            unmount(room.docs)
            daemon.saw("mirror.halted")
            assert "a mount came or went" in room.status()["detail"], room.status()
            mount(room.docs)
            until(lambda: len(daemon.events("mirror.halted")) >= 2)
            assert len(room.remote.items()) == 15
            assert room.remote.counted()["changing"] == 0
            unmount(room.docs)
            # On the disk below: other files, which are not those of the mount.
            room.write("below.md", "of the disk below the mount")
            until(lambda: "another device" in str(room.status().get("detail")))
            assert room.remote.counted()["changing"] == 0
            daemon.stop()
        # A person says that this is the folder from now on.
        assert room.syncd("reconcile").code == 3, "a later process knows that the root was a mount"
        assert room.syncd("reconcile", "--force").code == 0
        assert set(room.remote.files()) == {"below.md"}
    print("done", flush=True)  # noqa: T201 - the answer


if __name__ == "__main__":
    main(Path(sys.argv[1]))
