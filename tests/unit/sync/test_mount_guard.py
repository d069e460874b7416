"""Missing mounts below the root: nothing below them is deleted, and a look reports them."""

from pathlib import Path

from syncd.core.model import Problem
from syncd.state.db import Meta
from syncd.sync.guard import protect_look
from tests.harness import Core, in_step

GONE = "is not mounted any more"


def mounted(meta: Meta, root: Path, *paths: str) -> None:
    """Store that a file system was mounted at each path."""
    seen = meta.get("mounts") or {"point": "/", "is_mount": False}
    assert isinstance(seen, dict)
    meta.set("mounts", seen | {"path": str(root), "inner": dict.fromkeys(paths, "tmpfs / 4711"), "covered": []})


async def test_a_missing_mount_keeps_its_entries(core: Core) -> None:
    await in_step(core, **{"disk/a": "1", "disk/deep/b": "2", "own": "3"})
    mounted(core.mirror.meta, core.root, "disk")
    core.remove("disk/a", "disk/deep/b")
    core.write("disk/new", "of the disk below")
    for _ in range(2):
        await core.full()
        assert core.target.texts() == {"disk/a": "1", "disk/deep/b": "2", "own": "3"}
        assert GONE in core.problem("disk/").message
    await core.hint("disk/a", "disk/new")
    assert core.target.texts() == {"disk/a": "1", "disk/deep/b": "2", "own": "3"}
    await core.full(force=True)
    assert core.target.texts() == {"disk/new": "of the disk below", "own": "3"}


async def test_files_hidden_by_a_mount_keep_their_entries(core: Core) -> None:
    await in_step(core, **{"over/a": "1", "own": "3"})
    why = Problem("over/", "unreadable", "a mount came over it")
    core.mirror.tree.protected.covered = {"over/": why}
    core.remove("over/a")
    assert core.mirror.tree.look("over/a") == why
    core.mirror.tree.protected.covered = {}
    assert core.mirror.tree.look("over/a") is None


async def test_protect_look_closes_paths_and_stores_nothing(core: Core) -> None:
    await in_step(core, **{"disk/a": "1", "own": "3"})
    mounted(core.mirror.meta, core.root, "disk")
    before = core.mirror.meta.get("mounts")
    tree = core.mirror.tree
    protect_look(tree, core.mirror.db, "docs")
    found = tree.look("disk/a")
    assert isinstance(found, Problem)
    assert GONE in found.message
    assert core.mirror.meta.get("mounts") == before
