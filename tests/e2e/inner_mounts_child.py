"""Scenes with mounts inside a mirrored folder. The program needs its own mount namespace.

argv[1]: a folder to work in. Prints "cannot mount: …" and ends with 3 where mounting is not allowed.
"""

import subprocess
import sys
from pathlib import Path

from tests.e2e.harness import Workspace, open_workspace, until
from tests.e2e.mounts_child import mount, unmount


def bind(source: Path, place: Path) -> None:
    subprocess.run(["mount", "--bind", str(source), str(place)], check=True)


def filled(workspace: Workspace, folder: str, files: int = 4) -> None:
    for number in range(files):
        workspace.write(f"{folder}/{number}.md", f"{folder} {number}")


def keys(workspace: Workspace) -> set[str]:
    return {item["key"].rpartition("/")[0] for item in workspace.remote.items()}


def said(workspace: Workspace, place: str, why: str) -> None:
    """Check that a pass names the mount, deletes nothing below it, and does its other work."""
    before = keys(workspace)
    other = workspace.docs / "own/9.md"
    other.unlink() if other.exists() else other.write_text("comes and goes")
    ended = workspace.syncd("reconcile")
    assert (ended.code, f"{place}/" in ended.out + ended.err) == (1, True), ended.out + ended.err
    assert why in ended.out + ended.err, ended.out + ended.err
    assert "--force docs" in ended.out + ended.err
    assert keys(workspace) == before
    assert why in workspace.syncd("explain", f"{place}/0.md").out
    assert ("own/9.md" in workspace.remote.files()) == other.exists(), "what is elsewhere goes on"


def one_shot(workspace: Workspace) -> None:
    filled(workspace, "own")
    disk = workspace.path / "disk"
    for place in ("tmp", "bound", "deep/er"):
        (workspace.docs / place).mkdir(parents=True)
    disk.mkdir()
    mount(workspace.docs / "tmp")
    bind(disk, workspace.docs / "bound")
    mount(workspace.docs / "deep/er")
    for place in ("tmp", "bound", "deep/er"):
        filled(workspace, place)
    assert workspace.syncd("reconcile").code == 0
    assert keys(workspace) == {"own", "tmp", "bound", "deep/er"}
    unmount(workspace.docs / "tmp")
    said(workspace, "tmp", "is not mounted any more")
    workspace.write("tmp/.keep", "of the disk below")
    said(workspace, "tmp", "is not mounted any more")
    mount(workspace.docs / "tmp")
    said(workspace, "tmp", "something else is mounted here")
    filled(workspace, "tmp", 1)
    said(workspace, "tmp", "something else is mounted here")
    unmount(workspace.docs / "bound")
    said(workspace, "bound", "is not mounted any more")
    bind(disk, workspace.docs / "bound")
    (disk / "away").mkdir()
    for file in disk.glob("*.md"):
        file.rename(workspace.path / file.name)
    said(workspace, "bound", "is empty now")
    for number in range(4):
        (workspace.path / f"{number}.md").rename(disk / f"{number}.md")
    unmount(workspace.docs / "deep/er")
    (workspace.docs / "deep/er").rmdir()
    (workspace.docs / "deep").rmdir()
    said(workspace, "deep/er", "is not mounted any more")
    assert workspace.syncd("reconcile", "--force").code == 0
    assert keys(workspace) == {"own", "tmp", "bound"}
    assert workspace.syncd("reconcile").code == 0
    for place in ("tmp", "bound"):
        unmount(workspace.docs / place)


def running(workspace: Workspace) -> None:
    filled(workspace, "own")
    (workspace.docs / "late").mkdir()
    with workspace.daemon() as daemon:
        workspace.in_step()
        mount(workspace.docs / "late")
        filled(workspace, "late")
        workspace.in_step()
        (workspace.docs / "late/new").mkdir()
        workspace.write("late/new/one.md", "below the new mount")
        workspace.in_step()
        before = keys(workspace)
        unmount(workspace.docs / "late")
        until(lambda: "is not mounted any more" in workspace.syncd("status").out, lambda: workspace.syncd("status").out)
        workspace.write("own/0.md", "edited meanwhile")
        until(lambda: workspace.remote.files().get("own/0.md") == b"edited meanwhile")
        workspace.write("late/0.md", "of the disk below")
        (workspace.docs / "late/0.md").unlink()
        until(lambda: not daemon.events("mirror.halted"))
        assert keys(workspace) == before
        daemon.stop()
    assert workspace.syncd("reconcile").code == 1
    assert keys(workspace) == before


def hidden(workspace: Workspace) -> None:
    filled(workspace, "over")
    assert workspace.syncd("reconcile").code == 0
    before = keys(workspace)
    mount(workspace.docs / "over")
    workspace.write("over/5.md", "in the mount")
    ended = workspace.syncd("reconcile")
    assert (ended.code, "hides known files" in ended.out + ended.err) == (1, True)
    assert keys(workspace) == before
    assert {"over/0.md", "over/5.md"} <= workspace.remote.files().keys()
    unmount(workspace.docs / "over")


def rooted(workspace: Workspace) -> None:
    """Check a root that was a mount, and is a plain folder with few files in a later process."""
    mount(workspace.docs)
    filled(workspace, "few", 6)
    assert workspace.syncd("reconcile").code == 0
    unmount(workspace.docs)
    for left in (".DS_Store", ".keep"):
        workspace.write(left)
        ended = workspace.syncd("reconcile")
        assert (ended.code, "was on a mount that is gone" in ended.err) == (3, True), ended.err
        assert len(workspace.remote.items()) == 6
    mount(workspace.docs)
    assert workspace.syncd("reconcile").code == 3, "a new and empty one"
    assert len(workspace.remote.items()) == 6
    unmount(workspace.docs)
    assert workspace.syncd("reconcile", "--force").code == 0
    assert not any(key.startswith("few/") for key in workspace.remote.files())


def main(place: Path) -> None:
    for scene in (one_shot, running, hidden, rooted):
        (place / scene.__name__).mkdir()
        with open_workspace(place / scene.__name__) as workspace:
            scene(workspace)
    print("done", flush=True)  # noqa: T201 - the answer


if __name__ == "__main__":
    main(Path(sys.argv[1]))
