"""The mounts at and below the root: what was mounted is remembered, and what is missing of it protects its entries."""

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import structlog

from syncd.core.keys import from_os, normal, shown, to_os
from syncd.core.model import Problem
from syncd.local.mounts import Survey, survey
from syncd.local.walk import Tree
from syncd.state.db import Meta
from syncd.state.journal import Journal, under
from syncd.sync.mirror import Mirror

log = structlog.get_logger()

_GONE = "what was mounted here is not mounted any more"
_OTHER = "something else is mounted here than before"
_EMPTY = "what is mounted here is empty now"
_COVERED = "a mount came over this directory and hides files that are known"


@dataclass(frozen=True, slots=True)
class Memory:
    """What was mounted when this was last accepted. path: of the root; point: the mount point that held it.

    inner: what was mounted at each path below the root. covered: those of them that came over files that were known.
    """

    path: str
    point: str
    is_mount: bool
    inner: dict[str, str] = field(default_factory=dict)
    covered: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Verdict:
    """closed: why each of some paths is not to be believed; covered: paths whose missing files are hidden."""

    closed: dict[str, str]
    covered: list[str]
    inner: dict[str, str]


def judge(
    before: Mapping[str, str],
    covered: list[str],
    now: Mapping[str, str],
    known: Callable[[str], bool],
    empty: Callable[[str], bool],
) -> Verdict:
    """Compare the mounts below a root with those remembered.

    known: whether entries of ours stand below a path; empty: whether the rules take no file below it.
    """
    closed, inner = {}, {}
    arrived = {path: what for path, what in now.items() if path not in before}
    for path, what in before.items():
        if not known(path) or (path not in now and what in arrived.values()):
            # Nothing can be lost, or the same file system is mounted under another name.
            continue
        inner[path] = what
        if path not in now or now[path] != what:
            closed[path] = _OTHER if path in now else _GONE
        elif empty(path):
            closed[path] = _EMPTY
    came_over = [path for path in arrived if known(path)]
    return Verdict(closed, [*(path for path in covered if path in now), *came_over], {**now, **inner})


def remembered(meta: Meta) -> Memory | None:
    """Return what was mounted when this was last accepted, None if it was never looked at."""
    kept = meta.get("mounts")
    return Memory(**kept) if isinstance(kept, dict) else None


def root_mount_went(mirror: Mirror, seen: Survey) -> bool:
    """True if the root was, or lay on, a mount that is none now. A reboot may change device numbers."""
    before = remembered(mirror.meta)
    if before is None or before.path != from_os(str(mirror.tree.root)):
        return False
    if before.is_mount and not seen.is_mount:
        return True
    return before.point != from_os(seen.point) and not survey(Path(to_os(before.point))).is_mount


def look(mirror: Mirror) -> Survey:
    """Return what is mounted now. A file system that autofs has unmounted is mounted again by the look."""
    return _look(mirror.tree, remembered(mirror.meta))


def _look(tree: Tree, before: Memory | None) -> Survey:
    root, paths = tree.root, before.inner if before else {}
    seen = survey(root, {*paths, *tree.crossed})
    if seen.lazy and (missing := set(paths) - set(seen.inner)):
        for path in missing:
            with contextlib.suppress(OSError):
                os.close(os.open(root / to_os(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        seen = survey(root, {*paths, *tree.crossed})
    return seen


def protect(mirror: Mirror, seen: Survey, *, force: bool = False) -> None:
    """Remember the mounts of a look, and close what is missing below the root. force: accept all as it is."""
    before = remembered(mirror.meta)
    tree = mirror.tree
    if before is None or force or before.path != from_os(str(tree.root)):
        verdict = Verdict({}, [], dict(seen.inner))
    else:
        verdict = _verdict(tree, mirror.journal, before, seen)
    _close(tree, mirror.name, verdict)
    now = Memory(from_os(str(tree.root)), from_os(seen.point), seen.is_mount, verdict.inner, verdict.covered)
    if now != before:
        level = log.info if before or seen.inner else log.debug
        level("mounts.changed", mirror=mirror.name, below=len(seen.inner), protected=[*tree.protected.closed])
        mirror.meta.set("mounts", asdict(now))


def protect_look(tree: Tree, name: str, meta: Meta, journal: Journal) -> None:
    """Close in a tree that is only looked at what a pass of mirror `name` would close, and remember nothing."""
    before = remembered(meta)
    if before and before.path == from_os(str(tree.root)):
        _close(tree, name, _verdict(tree, journal, before, _look(tree, before)))


def _verdict(tree: Tree, journal: Journal, before: Memory, seen: Survey) -> Verdict:
    def known(path: str) -> bool:
        first, upto = under(tree.prefix + _folder(path))
        return journal.key_after(first, upto, 1) is not None

    return judge(before.inner, before.covered, seen.inner, known, lambda path: not tree.takes_any(path + "/"))


def _close(tree: Tree, name: str, verdict: Verdict) -> None:
    def problems(reasons: Mapping[str, str]) -> dict[str, Problem]:
        return {_folder(path): _problem(name, tree.prefix + _folder(path), why) for path, why in reasons.items()}

    tree.protected.closed = problems(verdict.closed)
    tree.protected.covered = problems(dict.fromkeys(verdict.covered, _COVERED))


def uncover(mirror: Mirror) -> None:
    """After a complete look at everything: forget that a mount hides files if none was missed."""
    before = remembered(mirror.meta)
    if before and before.covered:
        left = [path for path in before.covered if _folder(path) in mirror.tree.protected.withheld]
        mirror.meta.set("mounts", asdict(before) | {"covered": left})


def _folder(path: str) -> str:
    return normal(path) + "/"


def _problem(name: str, key: str, why: str) -> Problem:
    return Problem(
        shown(key),
        "unreadable",
        f"{why}; nothing below it is deleted. Mount it again, or accept it as it is:"
        f" syncd reconcile --force {name} (with the daemon stopped)",
    )
