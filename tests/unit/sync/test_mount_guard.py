"""Missing mounts below the root: nothing below them is deleted, and a look reports them."""

import os
from collections.abc import Collection
from pathlib import Path

import pytest

from syncd.core.model import Problem
from syncd.local.mounts import MountSurvey
from syncd.state.db import Meta
from syncd.sync import guard
from syncd.sync.guard import accepted_mounts, look_at_mounts, protect_look
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


@pytest.mark.parametrize(("lazy", "opened"), [({"disk", "other"}, ["disk"]), ((), [])])
def test_only_a_missing_mount_of_autofs_is_mounted_again_by_a_look(
    core: Core, monkeypatch: pytest.MonkeyPatch, lazy: Collection[str], opened: list[str]
) -> None:
    mounts = {"other": "tmpfs / 4712"}
    mounted(core.mirror.meta, core.root, "disk", "other")
    (core.root / "disk").mkdir()
    seen: list[str] = []
    really_open = os.open

    def mounting(path: Path, flags: int) -> int:
        seen.append(str(path.relative_to(core.root)))
        mounts["disk"] = "tmpfs / 4711"
        return really_open(path, flags)

    monkeypatch.setattr(
        guard, "survey", lambda root, _: MountSurvey(str(root), "/", "ext4 / 1", dict(mounts), frozenset(lazy))
    )
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", mounting)
        found = look_at_mounts(core.mirror.tree, accepted_mounts(core.mirror.meta))
    assert seen == opened
    assert found.inner.keys() == {*opened, "other"}
