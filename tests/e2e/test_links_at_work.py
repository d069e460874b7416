"""A mounted ConfigMap with all three targets, in a pass and under the daemon."""

import pytest

from tests.e2e.harness import Workspace, until

KINDS = {"ai-search": 'instance = "docs"', "kv": 'namespace_title = "docs"', "vectorize": 'index = "docs"'}


def swap(workspace: Workspace, version: str, **files: str) -> None:
    """Replace the files as a kubelet does: a new directory, a new link to it under another name, and a rename."""
    for name, text in files.items():
        workspace.write(f"..{version}/{name}.md", text)
        if not (workspace.docs / f"{name}.md").is_symlink():
            (workspace.docs / f"{name}.md").symlink_to(f"..data/{name}.md")
    (workspace.docs / "..data_tmp").symlink_to(f"..{version}")
    (workspace.docs / "..data_tmp").rename(workspace.docs / "..data")


@pytest.mark.parametrize("kind", KINDS)
def test_a_swap_uploads_only_changed_files(workspace: Workspace, kind: str) -> None:
    workspace.configure('links = "inside"')
    text = workspace.config.read_text().replace(
        'type = "ai-search"\ninstance = "docs"', f'type = "{kind}"\n{KINDS[kind]}'
    )
    workspace.config.write_text(text)
    swap(workspace, "2026_1", p="# one", q="# two")
    (workspace.docs / "leak.md").symlink_to(".env")
    workspace.write(".env", "SECRET=1")
    first = workspace.syncd("reconcile", "--json").json()["mirrors"]["docs"]
    assert sorted(action["key"] for action in first["actions"]) == ["p.md", "q.md"]
    swap(workspace, "2026_2", p="# one", q="# three")
    again = workspace.syncd("reconcile", "--json").json()["mirrors"]["docs"]
    assert [(action["action"], action["key"]) for action in again["actions"]] == [("put", "q.md")]


@pytest.mark.parametrize("watch", ["inotify", "poll"])
def test_the_daemon_notices_a_swap_and_an_edit_behind_a_link(workspace: Workspace, watch: str) -> None:
    workspace.configure(f'links = "inside"\nwatch = "{watch}"\npoll_interval = 0.2\ninclude = ["*.md"]')
    swap(workspace, "2026_1", p="one")
    workspace.write("real/a.md", "a")
    (workspace.docs / "x.md").symlink_to("real/a.md")

    def has(**texts: str) -> None:
        wanted = {f"{name}.md": text.encode() for name, text in texts.items()}
        until(lambda: wanted.items() <= workspace.remote.files().items(), workspace.remote.files)

    with workspace.daemon() as daemon:
        daemon.saw("pass.done")
        has(p="one", x="a")
        swap(workspace, "2026_2", p="two")
        has(p="two", x="a")
        workspace.write("real/a.md", "b")
        has(p="two", x="b")
        workspace.write("..2026_2/p.md", "three")
        has(p="three", x="b")
    assert set(workspace.remote.files()) == {"p.md", "x.md", "real/a.md"}
