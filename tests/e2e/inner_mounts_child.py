"""Mounts inside a mirrored folder that go, come, change and hide files; for a mount namespace of its own.

argv[1]: a folder to work in. Prints "cannot mount: …" and ends with 3 where mounting is not allowed.
"""

import subprocess
import sys
from pathlib import Path

from tests.e2e.harness import Room, open_room, until
from tests.e2e.mounts_child import mount, unmount


def bind(source: Path, place: Path) -> None:
    subprocess.run(["mount", "--bind", str(source), str(place)], check=True)


def filled(room: Room, folder: str, files: int = 4) -> None:
    for number in range(files):
        room.write(f"{folder}/{number}.md", f"{folder} {number}")


def keys(room: Room) -> set[str]:
    return {item["key"].rpartition("/")[0] for item in room.remote.items()}


def said(room: Room, place: str, why: str) -> None:
    """A pass names the mount, deletes nothing below it, and still does its other work."""
    before = keys(room)
    other = room.docs / "own/9.md"
    other.unlink() if other.exists() else other.write_text("comes and goes")
    ended = room.syncd("reconcile")
    assert (ended.code, f"{place}/" in ended.out + ended.err) == (1, True), ended.out + ended.err
    assert why in ended.out + ended.err, ended.out + ended.err
    assert "--force docs" in ended.out + ended.err
    assert keys(room) == before
    assert why in room.syncd("explain", f"{place}/0.md").out
    assert ("own/9.md" in room.remote.files()) == other.exists(), "what is elsewhere goes on"


def one_shot(room: Room) -> None:
    filled(room, "own")
    disk = room.path / "disk"
    for place in ("tmp", "bound", "deep/er"):
        (room.docs / place).mkdir(parents=True)
    disk.mkdir()
    mount(room.docs / "tmp")
    bind(disk, room.docs / "bound")
    mount(room.docs / "deep/er")
    for place in ("tmp", "bound", "deep/er"):
        filled(room, place)
    assert room.syncd("reconcile").code == 0
    assert keys(room) == {"own", "tmp", "bound", "deep/er"}
    unmount(room.docs / "tmp")
    said(room, "tmp", "is not mounted any more")
    room.write("tmp/.keep", "of the disk below")
    said(room, "tmp", "is not mounted any more")
    mount(room.docs / "tmp")
    said(room, "tmp", "something else is mounted here")
    filled(room, "tmp", 1)
    said(room, "tmp", "something else is mounted here")
    unmount(room.docs / "bound")
    said(room, "bound", "is not mounted any more")
    bind(disk, room.docs / "bound")
    (disk / "away").mkdir()
    for file in disk.glob("*.md"):
        file.rename(room.path / file.name)
    said(room, "bound", "is empty now")
    for number in range(4):
        (room.path / f"{number}.md").rename(disk / f"{number}.md")
    unmount(room.docs / "deep/er")
    (room.docs / "deep/er").rmdir()
    (room.docs / "deep").rmdir()
    said(room, "deep/er", "is not mounted any more")
    assert room.syncd("reconcile", "--force").code == 0
    assert keys(room) == {"own", "tmp", "bound"}
    assert room.syncd("reconcile").code == 0
    for place in ("tmp", "bound"):
        unmount(room.docs / place)


def running(room: Room) -> None:
    filled(room, "own")
    (room.docs / "late").mkdir()
    with room.daemon() as daemon:
        room.in_step()
        mount(room.docs / "late")
        filled(room, "late")
        room.in_step()
        (room.docs / "late/new").mkdir()
        room.write("late/new/one.md", "below the new mount")
        room.in_step()
        before = keys(room)
        unmount(room.docs / "late")
        until(lambda: "is not mounted any more" in room.syncd("status").out, lambda: room.syncd("status").out)
        room.write("own/0.md", "edited meanwhile")
        until(lambda: room.remote.files().get("own/0.md") == b"edited meanwhile")
        room.write("late/0.md", "of the disk below")
        (room.docs / "late/0.md").unlink()
        until(lambda: not daemon.events("mirror.halted"))
        assert keys(room) == before
        daemon.stop()
    assert room.syncd("reconcile").code == 1
    assert keys(room) == before


def hidden(room: Room) -> None:
    filled(room, "over")
    assert room.syncd("reconcile").code == 0
    before = keys(room)
    mount(room.docs / "over")
    room.write("over/5.md", "in the mount")
    ended = room.syncd("reconcile")
    assert (ended.code, "hides files that are known" in ended.out + ended.err) == (1, True)
    assert keys(room) == before
    assert {"over/0.md", "over/5.md"} <= room.remote.files().keys()
    unmount(room.docs / "over")


def rooted(room: Room) -> None:
    """The root was a mount, and is a folder with a file or two in a later process."""
    mount(room.docs)
    filled(room, "few", 6)
    assert room.syncd("reconcile").code == 0
    unmount(room.docs)
    for left in (".DS_Store", ".keep"):
        room.write(left)
        ended = room.syncd("reconcile")
        assert (ended.code, "was on a mount that is gone" in ended.err) == (3, True), ended.err
        assert len(room.remote.items()) == 6
    mount(room.docs)
    assert room.syncd("reconcile").code == 3, "a new and empty one"
    assert len(room.remote.items()) == 6
    unmount(room.docs)
    assert room.syncd("reconcile", "--force").code == 0
    assert not any(key.startswith("few/") for key in room.remote.files())


def main(place: Path) -> None:
    for scene in (one_shot, running, hidden, rooted):
        (place / scene.__name__).mkdir()
        with open_room(place / scene.__name__) as room:
            scene(room)
    print("done", flush=True)  # noqa: T201 - the answer


if __name__ == "__main__":
    main(Path(sys.argv[1]))
