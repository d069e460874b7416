"""Remember the mounts at and below the root. A mount that is missing protects the entries below it."""

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import structlog

from syncd.core.keys import from_os, normal, shown, to_os
from syncd.core.model import Problem
from syncd.local.mounts import MountSurvey, survey
from syncd.local.walk import Tree
from syncd.state.db import Meta
from syncd.state.journal import Journal, under
from syncd.sync.mirror import Mirror

log = structlog.get_logger()

_GONE = "the earlier file system is not mounted any more"
_OTHER = "something else is mounted here than before"
_EMPTY = "the mounted file system is empty now"
_COVERED = "a new mount over this directory hides known files"


@dataclass(frozen=True, slots=True)
class AcceptedMounts:
    """The mounts that a pass accepted last. path: the root. point: the mount point that holds the root.

    inner: path below the root -> the file system mounted there. covered: paths of mounts that hide known files.
    """

    path: str
    point: str
    is_mount: bool
    inner: dict[str, str] = field(default_factory=dict)
    covered: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class MountChanges:
    """The result of a comparison. closed: path -> why an absence below it proves nothing.

    covered: paths whose missing files a mount hides. inner: the mounts to remember.
    """

    closed: dict[str, str]
    covered: list[str]
    inner: dict[str, str]


def compare(
    before: Mapping[str, str],
    covered: list[str],
    now: Mapping[str, str],
    known: Callable[[str], bool],
    empty: Callable[[str], bool],
) -> MountChanges:
    """Compare the mounts below a root with the accepted ones.

    known: whether the journal has entries below a path. empty: whether the rules include no file below a path.
    """
    closed, inner = {}, {}
    arrived = {path: mounted for path, mounted in now.items() if path not in before}
    for path, mounted in before.items():
        if not known(path) or (path not in now and mounted in arrived.values()):
            # There is nothing to lose, or the same file system is mounted under another name.
            continue
        inner[path] = mounted
        if path not in now or now[path] != mounted:
            closed[path] = _OTHER if path in now else _GONE
        elif empty(path):
            closed[path] = _EMPTY
    newly_covered = [path for path in arrived if known(path)]
    return MountChanges(closed, [*(path for path in covered if path in now), *newly_covered], {**now, **inner})


def accepted(meta: Meta) -> AcceptedMounts | None:
    """Return the mounts that a pass accepted last, None if no pass has looked at them."""
    kept = meta.get("mounts")
    return AcceptedMounts(**kept) if isinstance(kept, dict) else None


def root_mount_went(mirror: Mirror, seen: MountSurvey) -> bool:
    """Return whether the root was, or lay on, a mount that is gone. A reboot may change device numbers."""
    before = accepted(mirror.meta)
    if before is None or before.path != from_os(str(mirror.tree.root)):
        return False
    if before.is_mount and not seen.is_mount:
        return True
    return before.point != from_os(seen.point) and not survey(Path(to_os(before.point))).is_mount


def look(mirror: Mirror) -> MountSurvey:
    """Return the present mounts. This mounts again a file system that autofs has unmounted."""
    return _look(mirror.tree, accepted(mirror.meta))


def _look(tree: Tree, before: AcceptedMounts | None) -> MountSurvey:
    root, paths = tree.root, before.inner if before else {}
    seen = survey(root, {*paths, *tree.crossed})
    if seen.lazy and (missing := set(paths) - set(seen.inner)):
        for path in missing:
            with contextlib.suppress(OSError):
                os.close(os.open(root / to_os(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        seen = survey(root, {*paths, *tree.crossed})
    return seen


def protect(mirror: Mirror, seen: MountSurvey, *, force: bool = False) -> None:
    """Remember the mounts of a look, and close the paths below the root whose mount is missing.

    force: accept all mounts as they are.
    """
    before = accepted(mirror.meta)
    tree = mirror.tree
    if before is None or force or before.path != from_os(str(tree.root)):
        changes = MountChanges({}, [], dict(seen.inner))
    else:
        changes = _changes(tree, mirror.journal, before, seen)
    _close(tree, mirror.name, changes)
    now = AcceptedMounts(from_os(str(tree.root)), from_os(seen.point), seen.is_mount, changes.inner, changes.covered)
    if now != before:
        level = log.info if before or seen.inner else log.debug
        level("mounts.changed", mirror=mirror.name, below=len(seen.inner), protected=[*tree.protected.closed])
        mirror.meta.set("mounts", asdict(now))


def protect_look(tree: Tree, name: str, meta: Meta, journal: Journal) -> None:
    """Close in `tree` the paths that a pass of mirror `name` would close. Remember nothing."""
    before = accepted(meta)
    if before and before.path == from_os(str(tree.root)):
        _close(tree, name, _changes(tree, journal, before, _look(tree, before)))


def _changes(tree: Tree, journal: Journal, before: AcceptedMounts, seen: MountSurvey) -> MountChanges:
    def known(path: str) -> bool:
        first, upto = under(tree.prefix + _folder(path))
        return journal.key_after(first, upto, 1) is not None

    return compare(before.inner, before.covered, seen.inner, known, lambda path: not tree.includes_any(path + "/"))


def _close(tree: Tree, name: str, changes: MountChanges) -> None:
    def problems(reasons: Mapping[str, str]) -> dict[str, Problem]:
        return {_folder(path): _problem(name, tree.prefix + _folder(path), why) for path, why in reasons.items()}

    tree.protected.closed = problems(changes.closed)
    tree.protected.covered = problems(dict.fromkeys(changes.covered, _COVERED))


def uncover(mirror: Mirror) -> None:
    """After a complete full pass, forget each mount that hides files if none of its files was missing."""
    before = accepted(mirror.meta)
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
