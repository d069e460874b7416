"""A mounted ConfigMap, by all three targets, in a pass and under the daemon."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import Room, open_room, until

KINDS = {"ai-search": 'instance = "docs"', "kv": 'namespace_title = "docs"', "vectorize": 'index = "docs"'}


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    with open_room(tmp_path) as room:
        yield room


def swap(room: Room, version: str, **files: str) -> None:
    """What a kubelet does: a new directory, a new link to it under another name, and a rename."""
    for name, text in files.items():
        room.write(f"..{version}/{name}.md", text)
        if not (room.docs / f"{name}.md").is_symlink():
            (room.docs / f"{name}.md").symlink_to(f"..data/{name}.md")
    (room.docs / "..data_tmp").symlink_to(f"..{version}")
    (room.docs / "..data_tmp").rename(room.docs / "..data")


@pytest.mark.parametrize("kind", KINDS)
def test_a_swap_uploads_what_changed_alone(room: Room, kind: str) -> None:
    room.configure('links = "inside"')
    text = room.config.read_text().replace('type = "ai-search"\ninstance = "docs"', f'type = "{kind}"\n{KINDS[kind]}')
    room.config.write_text(text)
    swap(room, "2026_1", p="# one", q="# two")
    (room.docs / "leak.md").symlink_to(".env")
    room.write(".env", "SECRET=1")
    first = room.syncd("reconcile", "--json").json()["mirrors"]["docs"]
    assert sorted(each["key"] for each in first["actions"]) == ["p.md", "q.md"]
    swap(room, "2026_2", p="# one", q="# three")
    again = room.syncd("reconcile", "--json").json()["mirrors"]["docs"]
    assert [(each["action"], each["key"]) for each in again["actions"]] == [("put", "q.md")]


@pytest.mark.parametrize("watch", ["inotify", "poll"])
def test_the_daemon_hears_of_a_swap_and_of_an_edit_behind_a_link(room: Room, watch: str) -> None:
    room.configure(f'links = "inside"\nwatch = "{watch}"\npoll_interval = 0.2\ninclude = ["*.md"]')
    swap(room, "2026_1", p="one")
    room.write("real/a.md", "a")
    (room.docs / "x.md").symlink_to("real/a.md")

    def has(**texts: str) -> None:
        wanted = {f"{name}.md": text.encode() for name, text in texts.items()}
        until(lambda: wanted.items() <= room.remote.files().items(), room.remote.files)

    with room.daemon() as daemon:
        daemon.saw("pass.done")
        has(p="one", x="a")
        swap(room, "2026_2", p="two")
        has(p="two", x="a")
        room.write("real/a.md", "b")
        has(p="two", x="b")
        room.write("..2026_2/p.md", "three")
        has(p="three", x="b")
    assert set(room.remote.files()) == {"p.md", "x.md", "real/a.md"}
