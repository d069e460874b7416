"""The guards: checks that refuse deletes caused by an unmounted disk, a missing mount or a mistake of a person."""

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import structlog

from syncd.core.errors import RootHalt
from syncd.core.keys import from_os, keys_below, normal, shown, to_os
from syncd.core.model import Problem
from syncd.core.plain_text import counted
from syncd.core.plan import BRAKE_FLOOR, BrakeInput, brake
from syncd.local.mounts import MountSurvey, survey
from syncd.local.read import Identity
from syncd.local.walk import Tree
from syncd.state.db import Meta
from syncd.state.journal import Journal
from syncd.state.pass_tables import PassTables
from syncd.sync.mirror import Mirror, Result

log = structlog.get_logger()

_GONE = "the earlier file system is not mounted any more"
_OTHER = "something else is mounted here than before"
_EMPTY = "the mounted file system is empty now"
_COVERED = "a new mount over this directory hides known files"


def guard(mirror: Mirror, *, force: bool) -> None:
    """Check the root before a pass. Raises RootHalt if the root is missing, emptied, or on another mount.

    If another folder on the same device replaced the root, the pass continues and reads every file. force: accept the
    root as it is.
    """
    identity = mirror.tree.identity()
    # Raises RootHalt if the root cannot be read, even before the first pass.
    mirror.tree.is_empty()
    seen = look_at_mounts(mirror.tree, accepted_mounts(mirror.meta))
    last = mirror.root_seen or mirror.meta.get("root")
    if not force:
        _halt_if_gone(mirror, identity, seen)
    if last is None or tuple(last) != identity:  # type: ignore[arg-type]
        if last is not None:
            log.warning("root.changed", mirror=mirror.name, path=mirror.tree.label)
            mirror.meta.set("root_replaced", value=True)
            mirror.files.invalidate()
        mirror.meta.set("root", list(identity))
    mirror.root_seen, mirror.mount_seen = identity, seen.mount
    protect_mounts(mirror, seen, force=force)


def _halt_if_gone(mirror: Mirror, identity: Identity, seen: MountSurvey) -> None:
    path = mirror.tree.label
    # A file system may have another device number after it is mounted again.
    if mirror.root_seen and identity[0] != mirror.root_seen[0] and seen.mount != mirror.mount_seen:
        raise RootHalt(
            f"path {path} is on another device than when syncd started (a mount came or went); nothing was"
            f" deleted. Mount it again, or accept this folder: {_by_force(mirror.name)}"
        )
    if is_root_mount_gone(mirror, seen):
        raise RootHalt(
            f"path {path} was on a mount that is gone; nothing was deleted. Mount it again, or accept this folder:"
            f" {_by_force(mirror.name)}"
        )
    if mirror.journal.count() and (state := _empty_state(mirror)):
        raise RootHalt(
            f"path {path} {state}, but {mirror.journal.count()} of its files are known; nothing was"
            f" deleted. Bring the files back, or empty the target too: {_by_force(mirror.name)}"
        )


def halt_if_emptied(mirror: Mirror, tables: PassTables) -> None:
    """Raise RootHalt if the plan deletes entries because the folder is empty, even entries without a record."""
    deletes = tables.plan.counts["delete"]
    if deletes and (state := _empty_state(mirror)):
        raise RootHalt(
            f"path {mirror.tree.label} {state}, but the target holds {counted(deletes, 'entry')} of this mirror;"
            f" nothing was deleted. Bring the files back, or empty the target too: {_by_force(mirror.name)}"
        )


def _empty_state(mirror: Mirror) -> str | None:
    """Return how the folder is empty, for a message. None: it has files that the rules include."""
    if mirror.tree.is_empty():
        return "is empty"
    return None if mirror.tree.includes_any() else "holds no file that the rules take"


def is_fresh(mirror: Mirror) -> bool:
    """Return whether no full pass has ended with this state, so that the state file may have been lost."""
    return mirror.journal.count() == 0 or mirror.meta.get("last_reconcile") is None


def is_other_folder(mirror: Mirror, tables: PassTables, known: int) -> bool:
    """Return whether another folder took the place of the root and has none of the known files."""
    return bool(mirror.meta.get("root_replaced")) and 0 < known <= tables.plan.counts["delete"]


def brake_input(mirror: Mirror, result: Result, lost: int) -> BrakeInput:
    """Return the input of the brake. lost: deletes that remove the last copy of a content."""
    recent = mirror.journal.tombstones.recent_deletes(mirror.age())
    return BrakeInput(lost, recent, result.known, mirror.settings.max_delete, result.fresh)


def plan_id(name: str, tables: PassTables) -> str:
    """Return the id of a mirror's plan: the name, and a digest of all deletes with their entries and reasons.

    The digest does not contain the uploads, because they are made even if the deletes are refused.
    """
    digest = hashlib.sha256()
    for delete in tables.plan.all("delete"):
        digest.update(f"{delete.key}\0{delete.ref}\0{delete.reason}\n".encode("utf-8", "surrogatepass"))
    return f"{name}-{digest.hexdigest()[:12]}"


def refusal(mirror: Mirror, result: Result, figures: BrakeInput) -> str | None:
    """Return why the plan deletes too much, and the remedy. None: the plan may pass."""
    allowed, put = brake(figures), result.done["put"]
    if allowed is None:
        return None
    deletes = figures.deletes
    names = ", ".join(shown(action.key) for action in result.tables.plan.first_deletes(3))
    uploads = f"{put} upload{'' if put == 1 else 's'} {'was' if put == 1 else 'were'} made"
    done = "Nothing would be deleted; uploads would be made" if result.dry_run else f"Nothing was deleted; {uploads}"
    earlier = f", after {figures.recent} in the last hour" if figures.recent else ""
    floor = _floor_clause(figures) if allowed < BRAKE_FLOOR else ""
    return (
        f"the plan deletes {deletes} of {figures.known} entries ({names}{', …' if deletes > 3 else ''}){earlier};"
        f" max_delete = {figures.max_delete} allows {allowed}{floor}. {done}. See all of it:"
        f" syncd plan {mirror.name}; if it is meant: syncd approve {result.plan_id}"
    )


def _floor_clause(figures: BrakeInput) -> str:
    """Return the part of a refusal about the deletes that always pass, although max_delete allows fewer."""
    if figures.floor:
        return f", and up to {figures.floor} in an hour always pass"
    return ", and no full pass has ended with this state file" if figures.fresh else ""


def hold_back(mirror: Mirror, tables: PassTables, figures: BrakeInput) -> bool:
    """Remove the deletes from a plan and mark their keys, if more deletes seem to follow.

    The deletes of `rm -r` come in bursts, and a single burst may be small enough to pass the brake. So the brake judges
    all of them together, when no key was marked for `settle` seconds, or `settle_max` seconds after the first delete.
    Return whether deletes were removed. Only a full pass plans orphans among them again.
    """
    now = mirror.now()
    if (
        figures.deletes + figures.recent <= BRAKE_FLOOR
        or not mirror.queue.recently_marked(now)
        or any(mirror.settle_expired(delete.key) for delete in tables.plan.first_deletes(256))
    ):
        return False
    log.info("delete.held_back", mirror=mirror.name, deletes=tables.plan.counts["delete"])
    for batch in tables.plan.batches("delete"):
        mirror.queue.mark([(action.key, False) for _, action in batch], now)
    tables.plan.remove_deletes()
    return True


# -- mounts below the root


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


_MountChanges = tuple[dict[str, str], list[str], dict[str, str]]
"""The result of `compare_mounts`."""


def compare_mounts(
    before: Mapping[str, str],
    covered: list[str],
    now: Mapping[str, str],
    known: Callable[[str], bool],
    empty: Callable[[str], bool],
) -> _MountChanges:
    """Compare the mounts below a root with the accepted ones.

    known: returns whether the journal has entries below a path. empty: returns whether the rules include no file below
    a path. Return the closed paths with their reasons, the covered paths, and the mounts to remember. `Protected`
    describes closed and covered paths.
    """
    closed, inner = {}, {}
    arrived = {path: mounted for path, mounted in now.items() if path not in before}
    for path, mounted in before.items():
        if not known(path) or (path not in now and mounted in arrived.values()):
            # The path has no entries to protect, or the same file system is mounted under another name.
            continue
        inner[path] = mounted
        if path not in now or now[path] != mounted:
            closed[path] = _OTHER if path in now else _GONE
        elif empty(path):
            closed[path] = _EMPTY
    newly_covered = [path for path in arrived if known(path)]
    return closed, [*(path for path in covered if path in now), *newly_covered], {**now, **inner}


def accepted_mounts(meta: Meta) -> AcceptedMounts | None:
    """Return the mounts that a pass accepted last, None if no pass has looked at them."""
    kept = meta.values("mounts")
    return AcceptedMounts(**kept) if kept else None


def is_root_mount_gone(mirror: Mirror, seen: MountSurvey) -> bool:
    """Return whether the root was, or lay on, a mount that is gone. A reboot may change device numbers."""
    before = accepted_mounts(mirror.meta)
    if before is None or before.path != from_os(str(mirror.tree.root)):
        return False
    if before.is_mount and not seen.is_mount:
        return True
    return before.point != from_os(seen.point) and not survey(Path(to_os(before.point))).is_mount


def look_at_mounts(tree: Tree, before: AcceptedMounts | None) -> MountSurvey:
    """Return the present mounts. Open each missing one below an autofs, so that autofs mounts it again."""
    root, paths = tree.root, before.inner if before else {}
    seen = survey(root, {*paths, *tree.crossed})
    if seen.lazy and (missing := set(paths) - set(seen.inner)):
        for path in missing:
            with contextlib.suppress(OSError):
                os.close(os.open(root / to_os(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        seen = survey(root, {*paths, *tree.crossed})
    return seen


def protect_mounts(mirror: Mirror, seen: MountSurvey | None = None, *, force: bool) -> None:
    """Store the present mounts, and close the paths below the root whose mount is missing.

    seen: the present mounts at the start of a pass. None: during a pass, the function looks at the mounts, and
    keeps the mount of the root from the start of the pass. force: accept all mounts as they are.
    """
    before = accepted_mounts(mirror.meta)
    found = seen or look_at_mounts(mirror.tree, before)
    tree = mirror.tree
    changes: _MountChanges = {}, [], dict(found.inner)
    if before and not force and before.path == from_os(str(tree.root)):
        changes = _mount_changes(tree, mirror.journal, before, found)
    closed, covered, inner = changes
    _protect_paths(tree, mirror.name, closed, covered)
    now = AcceptedMounts(from_os(str(tree.root)), from_os(found.point), found.is_mount, inner, covered)
    if before and not seen:
        # If the mount of the root disappears during a pass, the next process must still detect it.
        now = replace(now, point=before.point, is_mount=before.is_mount)
    if now != before:
        level = log.info if before or found.inner else log.debug
        level("mounts.changed", mirror=mirror.name, below=len(found.inner), protected=[*tree.protected.closed])
        mirror.meta.set("mounts", asdict(now))


def protect_look(tree: Tree, db: sqlite3.Connection, name: str) -> None:
    """Protect the directories of `tree` that a pass of mirror `name` would protect. Do not store the mounts."""
    before, journal = accepted_mounts(Meta(db, name)), Journal(db, name)
    if before and before.path == from_os(str(tree.root)):
        closed, covered, _ = _mount_changes(tree, journal, before, look_at_mounts(tree, before))
        _protect_paths(tree, name, closed, covered)


def _mount_changes(tree: Tree, journal: Journal, before: AcceptedMounts, seen: MountSurvey) -> _MountChanges:
    def known(path: str) -> bool:
        return bool(journal.after(*keys_below(tree.prefix + _folder(path)), limit=1))

    def empty(path: str) -> bool:
        return not tree.includes_any(path + "/")

    return compare_mounts(before.inner, before.covered, seen.inner, known, empty)


def _protect_paths(tree: Tree, name: str, closed: Mapping[str, str], covered: list[str]) -> None:
    def problem(path: str, why: str) -> Problem:
        text = f"{why}; nothing below it is deleted. Mount it again, or accept it as it is: {_by_force(name)}"
        return Problem(shown(tree.prefix + _folder(path)), "unreadable", text)

    tree.protected.closed = {_folder(path): problem(path, why) for path, why in closed.items()}
    tree.protected.covered = {_folder(path): problem(path, _COVERED) for path in covered}


def uncover_mounts(mirror: Mirror) -> None:
    """After a complete full pass, forget each covered path without a missing file in this pass."""
    before = accepted_mounts(mirror.meta)
    if before and before.covered:
        left = [path for path in before.covered if _folder(path) in mirror.tree.protected.withheld]
        mirror.meta.set("mounts", asdict(before) | {"covered": left})


def _folder(path: str) -> str:
    return normal(path) + "/"


def _by_force(name: str) -> str:
    return f"syncd reconcile --force {name}"
