"""Missing mounts below the root: nothing below them is deleted, and a look reports them."""

import os
from collections.abc import Collection
from pathlib import Path

import pytest

from syncd.core.errors import RootHalt
from syncd.core.model import Problem, Record
from syncd.core.rules import Rules
from syncd.local.mounts import MountSurvey
from syncd.state.db import Meta
from syncd.sync import guard
from syncd.sync.guard import accepted_mounts, compare_mounts, look_at_mounts, protect_look
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


@pytest.mark.parametrize("there", [True, False])
async def test_protect_look_asks_for_the_mounts_that_a_pass_accepted(
    core: Core, monkeypatch: pytest.MonkeyPatch, *, there: bool
) -> None:
    await in_step(core, **{"disk/a": "1", "own": "3"})
    mounted(core.mirror.meta, core.root, "disk")

    def survey(root: Path, paths: Collection[str]) -> MountSurvey:
        return MountSurvey(
            str(root), "/", "ext4 / 1", dict.fromkeys(paths if there else (), "tmpfs / 4711"), frozenset()
        )

    monkeypatch.setattr(guard, "survey", survey)
    protect_look(core.mirror.tree, core.mirror.db, "docs")
    assert list(core.mirror.tree.protected.closed) == ([] if there else ["disk/"])


async def test_protect_look_names_the_mirror_and_ignores_the_mounts_of_another_root(core: Core) -> None:
    await in_step(core, **{"disk/a": "1", "own": "3"})
    mounted(core.mirror.meta, core.root, "disk")
    tree, db = core.mirror.tree, core.mirror.db
    protect_look(tree, db, "other")
    assert tree.protected.closed == {}
    protect_look(tree, db, "docs")
    text = (
        f"{GONE_NOW}; nothing below it is deleted. Mount it again, or accept it as it is: syncd reconcile --force docs"
    )
    assert tree.protected.closed == {"disk/": Problem("disk/", "unreadable", text)}
    tree.protected.closed = {}
    core.mirror.meta.set("mounts", core.mirror.meta.values("mounts") | {"path": "/elsewhere"})
    protect_look(tree, db, "docs")
    assert tree.protected.closed == {}


async def test_protect_look_covers_the_known_files_below_a_new_mount(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    await in_step(core, **{"over/a": "1", "own": "3"})
    mount(core, monkeypatch, {"over": "1"})
    protect_look(core.mirror.tree, core.mirror.db, "docs")
    assert list(core.mirror.tree.protected.covered) == ["over/"]


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


GONE_NOW = "the earlier file system is not mounted any more"
OTHER = "something else is mounted here than before"
EMPTY = "the mounted file system is empty now"
COVERED = "a new mount over this directory hides known files"


@pytest.mark.parametrize(
    ("before", "covered", "now", "closed", "hiding", "kept"),
    [
        ({}, [], {}, {}, [], {}),
        ({"disk": "1"}, [], {"disk": "1"}, {}, [], {"disk": "1"}),
        ({"disk": "1"}, [], {}, {"disk": GONE_NOW}, [], {"disk": "1"}),
        ({"disk": "1"}, [], {"disk": "2"}, {"disk": OTHER}, [], {"disk": "1"}),
        ({"empty": "1"}, [], {"empty": "1"}, {"empty": EMPTY}, [], {"empty": "1"}),
        ({"unknown": "1"}, [], {}, {}, [], {}),
        ({"unknown": "1", "disk": "1"}, [], {}, {"disk": GONE_NOW}, [], {"disk": "1"}),
        ({"unknown": "1"}, [], {"unknown": "2"}, {}, [], {"unknown": "2"}),
        ({"disk": "1"}, [], {"moved": "1"}, {}, [], {"moved": "1"}),
        ({"disk": "1"}, [], {"moved": "2"}, {"disk": GONE_NOW}, [], {"disk": "1", "moved": "2"}),
        ({"disk": "1", "other": "2"}, [], {"other": "2"}, {"disk": GONE_NOW}, [], {"disk": "1", "other": "2"}),
        ({}, [], {"disk": "1", "unknown": "2"}, {}, ["disk"], {"disk": "1", "unknown": "2"}),
        ({"disk": "1"}, ["disk"], {"disk": "1"}, {}, ["disk"], {"disk": "1"}),
        ({"disk": "1"}, ["disk"], {}, {"disk": GONE_NOW}, [], {"disk": "1"}),
    ],
)
def test_a_mount_that_went_changed_or_came_protects_known_files(
    before: dict[str, str],
    covered: list[str],
    now: dict[str, str],
    closed: dict[str, str],
    hiding: list[str],
    kept: dict[str, str],
) -> None:
    known, empty = {"disk", "empty", "other"}.__contains__, {"empty"}.__contains__
    assert compare_mounts(before, covered, now, known, empty) == (closed, hiding, kept)


def mount(core: Core, monkeypatch: pytest.MonkeyPatch, inner: dict[str, str], point: str = "/") -> None:
    seen = MountSurvey(str(core.root), point, "ext4 / 1", inner, frozenset())
    monkeypatch.setattr(guard, "survey", lambda *_: seen)


@pytest.mark.parametrize(
    ("before", "now", "files", "why"),
    [
        ({"disk": "1"}, {}, True, GONE_NOW),
        ({"disk": "1"}, {"disk": "2"}, True, OTHER),
        ({"disk": "1"}, {"disk": "1"}, False, EMPTY),
        ({"disk": "1"}, {"disk": "1"}, True, None),
        ({}, {"disk": "1"}, False, COVERED),
        ({}, {"disk": "1"}, True, None),
        ({}, {}, True, None),
    ],
)
async def test_the_problem_of_a_mount_names_its_change_and_the_remedy(
    core: Core,
    monkeypatch: pytest.MonkeyPatch,
    before: dict[str, str],
    now: dict[str, str],
    files: bool,
    why: str | None,
) -> None:
    mount(core, monkeypatch, before)
    await in_step(core, **{"disk/a": "1", "own": "2"})
    mount(core, monkeypatch, now)
    if not files:
        core.remove("disk/a")
    await core.full()
    text = f"{why}; nothing below it is deleted. Mount it again, or accept it as it is: syncd reconcile --force docs"
    assert list(core.mirror.journal.problems.all()) == ([Problem("disk/", "unreadable", text)] if why else [])
    assert core.target.texts() == {"disk/a": "1", "own": "2"}
    assert core.mirror.meta.get("mounts") == {
        "path": str(core.root),
        "point": "/",
        "is_mount": False,
        "inner": {**now, **before},
        "covered": ["disk"] if why == COVERED else [],
    }


@pytest.mark.parametrize(
    ("before", "now", "there", "halts"),
    [
        ("root", "/", False, True),
        ("root", "root", True, False),
        ("/", "/", False, False),
        ("/", "root", False, True),
        ("/", "root", True, False),
    ],
)
async def test_a_root_whose_mount_is_gone_halts_the_mirror(
    core: Core, monkeypatch: pytest.MonkeyPatch, before: str, now: str, *, there: bool, halts: bool
) -> None:
    """there: whether a file system is mounted at the former mount point."""
    await in_step(core, a="1")
    meta, root = core.mirror.meta, str(core.root)
    meta.set("mounts", meta.values("mounts") | {"point": before.replace("root", root), "is_mount": before == "root"})
    core.restart()
    elsewhere = MountSurvey("/", "/" if there else "/elsewhere", "ext4 / 1", {}, frozenset())
    seen = MountSurvey(root, now.replace("root", root), "ext4 / 1", {}, frozenset())
    monkeypatch.setattr(guard, "survey", lambda path, *_: seen if path == core.root else elsewhere)
    if not halts:
        await core.full()
        return
    with pytest.raises(RootHalt) as caught:
        await core.full()
    assert str(caught.value) == (
        f"path {root} was on a mount that is gone; nothing was deleted. Mount it again, or accept this folder:"
        " syncd reconcile --force docs"
    )


async def test_a_mount_of_the_root_that_goes_during_a_pass_is_missed_by_the_next_process(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    await in_step(core, a="1")
    root, point = str(core.root), str(core.root)
    begin = core.mirror.tree.begin

    def lose_the_mount() -> None:
        nonlocal point
        begin()
        point = "/"

    monkeypatch.setattr(guard, "survey", lambda *_: MountSurvey(root, point, "ext4 / 1", {}, frozenset()))
    await core.full()
    monkeypatch.setattr(core.mirror.tree, "begin", lose_the_mount)
    await core.full()
    core.restart()
    with pytest.raises(RootHalt, match="was on a mount that is gone"):
        await core.full()


async def test_a_folder_without_a_file_that_the_rules_include_halts_the_mirror(core: Core) -> None:
    await in_step(core, **{"a.md": "1", "b.md": "2"})
    core.remove("a.md", "b.md")
    for name, state in (("a.tmp", "holds no file that the rules take"), (None, "is empty")):
        if name:
            core.write(name, "x")
            core.use(rules=Rules(exclude=("*.tmp",)))
        else:
            core.remove("a.tmp")
        with pytest.raises(RootHalt) as caught:
            await core.full()
        assert str(caught.value) == (
            f"path {core.root} {state}, but 2 of its files are known; nothing was deleted. Bring the files back,"
            " or empty the target too: syncd reconcile --force docs"
        )
        core.mirror.journal.clear()
        core.forget_listing()
        with pytest.raises(RootHalt) as caught:
            await core.full()
        assert str(caught.value) == (
            f"path {core.root} {state}, but the target holds 2 entries of this mirror; nothing was deleted. Bring the"
            " files back, or empty the target too: syncd reconcile --force docs"
        )
        for key in ("a.md", "b.md"):
            core.mirror.journal.put(Record(key, core.target.store[key].ref, core.target.store[key].checksum, 1, 1.0))
