"""A daemon whose root is mounted, unmounted, mounted again and covered. The program needs its own mount namespace.

argv[1]: a folder to work in. Prints "cannot mount: …" and ends with 3 where mounting is not allowed.
"""

import subprocess
import sys
from pathlib import Path

from tests.e2e.harness import Workspace, open_workspace, until


def mount(place: Path) -> None:
    made = subprocess.run(["mount", "-t", "tmpfs", "none", str(place)], capture_output=True, text=True, check=False)
    if made.returncode:
        print("cannot mount:", made.stderr.strip(), flush=True)  # noqa: T201 - the answer
        sys.exit(3)


def unmount(place: Path) -> None:
    # A lazy unmount, because the daemon may have open files there.
    subprocess.run(["umount", "-l", str(place)], check=True)


def files(workspace: Workspace) -> None:
    for number in range(15):
        workspace.write(f"part/{number}.md", f"text {number}")


def main(place: Path) -> None:
    with open_workspace(place) as workspace:
        workspace.configure(mirror="reconcile_interval = 1")
        mount(workspace.docs)
        files(workspace)
        with workspace.daemon() as daemon:
            workspace.in_step()
            workspace.remote.forget_requests()
            unmount(workspace.docs)
            daemon.saw("mirror.halted")
            assert "a mount came or went" in workspace.status()["detail"], workspace.status()
            mount(workspace.docs)
            until(lambda: len(daemon.events("mirror.halted")) >= 2)
            assert len(workspace.remote.items()) == 15
            assert workspace.remote.counted()["changing"] == 0
            unmount(workspace.docs)
            # The disk below the mount has other files.
            workspace.write("below.md", "of the disk below the mount")
            until(lambda: "another device" in str(workspace.status().get("detail")))
            assert workspace.remote.counted()["changing"] == 0
            daemon.stop()
        # A person accepts the folder as it is now.
        assert workspace.syncd("reconcile").code == 3, "a later process knows that the root was a mount"
        assert workspace.syncd("reconcile", "--force").code == 0
        assert set(workspace.remote.files()) == {"below.md"}
    print("done", flush=True)  # noqa: T201 - the answer


if __name__ == "__main__":
    main(Path(sys.argv[1]))
