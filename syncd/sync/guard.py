"""The root guard and the brake: they refuse deletes that an unmounted disk or a mistake of a person would cause."""

import structlog

from syncd.core.errors import RootHalt
from syncd.core.evidence import BrakeInput
from syncd.core.keys import shown
from syncd.core.plan import BRAKE_FLOOR, brake
from syncd.local.mounts import Survey
from syncd.local.read import Identity
from syncd.state.pass_tables import PassTables
from syncd.sync import mount_guard
from syncd.sync.mirror import Mirror

log = structlog.get_logger()


def guard(mirror: Mirror, *, force: bool) -> None:
    """Check the root before a pass. Raises RootHalt if the root is missing, emptied, or on another mount.

    If another folder on the same device is in its place, the pass continues and reads every file.
    """
    identity = mirror.tree.identity()
    # Raises RootHalt if the root cannot be read, even before the first pass.
    mirror.tree.is_empty()
    seen = mount_guard.look(mirror)
    last = mirror.root_seen or mirror.meta.get("root")
    if not force:
        _halt_if_gone(mirror, identity, seen)
    if last is not None and tuple(last) != identity:  # type: ignore[arg-type]
        log.warning("root.changed", mirror=mirror.name, path=mirror.tree.label)
        mirror.meta.set("root_replaced", value=True)
        mirror.files.invalidate()
    if last is None or tuple(last) != identity:  # type: ignore[arg-type]
        mirror.meta.set("root", list(identity))
    mirror.root_seen, mirror.mount_seen = identity, seen.what
    mount_guard.protect(mirror, seen, force=force)


def _halt_if_gone(mirror: Mirror, identity: Identity, seen: Survey) -> None:
    path = mirror.tree.label
    # A file system may have another device number after it is mounted again.
    if mirror.root_seen and identity[0] != mirror.root_seen[0] and seen.what != mirror.mount_seen:
        raise RootHalt(
            f"path {path} is on another device than when syncd started (a mount came or went); nothing was"
            f" deleted. Mount it again, or accept this folder: {_by_force(mirror)}"
        )
    if mount_guard.root_mount_went(mirror, seen):
        raise RootHalt(
            f"path {path} was on a mount that is gone; nothing was deleted. Mount it again, or accept this folder:"
            f" {_by_force(mirror)}"
        )
    if mirror.journal.count() and (held := _emptiness(mirror)):
        raise RootHalt(
            f"path {path} {held}, but {mirror.journal.count()} of its files are known; nothing was"
            f" deleted. Bring the files back, or empty the target too: {_by_force(mirror)}"
        )


def halt_if_emptied(mirror: Mirror, tables: PassTables) -> None:
    """Raise RootHalt if a plan has deletes and the folder is empty. The journal may be empty, too."""
    deletes = tables.plan.counts["delete"]
    if deletes and (held := _emptiness(mirror)):
        raise RootHalt(
            f"path {mirror.tree.label} {held}, but the target holds {deletes} entries of this mirror; nothing was"
            f" deleted. Bring the files back, or empty the target too: {_by_force(mirror)}"
        )


def _emptiness(mirror: Mirror) -> str | None:
    if mirror.tree.is_empty():
        return "is empty"
    return None if mirror.tree.takes_any() else "holds no file that the rules take"


def known(mirror: Mirror, unrecorded: int) -> int:
    """Return the number of entries of the mirror. unrecorded: the number of those without a record."""
    return mirror.journal.count() + unrecorded


def weigh(mirror: Mirror, lost: int, known: int) -> BrakeInput:
    """Return the input of the brake. lost: deletes that lose a content. known: entries before the pass."""
    return BrakeInput(lost, mirror.journal.tombstones.recent_deletes(mirror.age()), known, mirror.settings.max_delete)


def is_fresh(mirror: Mirror) -> bool:
    """Return whether no full pass has ended with this state file yet. Then a mistake looks like a lost state file."""
    return mirror.journal.count() == 0 or mirror.meta.get("last_reconcile") is None


def is_replaced(mirror: Mirror, tables: PassTables, known: int) -> bool:
    """Return whether another folder without any known file is at the path of the root. It may be the wrong one."""
    return bool(mirror.meta.get("root_replaced")) and 0 < known <= tables.plan.counts["delete"]


def refusal(mirror: Mirror, tables: PassTables, load: BrakeInput, put: int | None, *, fresh: bool) -> str | None:
    """Return the reason and the remedy if a plan deletes too much, None if it may pass.

    put: the number of uploads made, None in a dry run. fresh: the result of `is_fresh` before the pass.
    """
    deletes, recent, known = load.deletes, load.recent, load.known
    allowed = brake(deletes, recent, known, load.max_delete, 0 if fresh else BRAKE_FLOOR)
    if allowed is None:
        return None
    names = ", ".join(shown(action.key) for action in tables.plan.first("delete", 3))
    uploads = f"{put} upload{'' if put == 1 else 's'} {'was' if put == 1 else 'were'} made"
    done = "Nothing would be deleted; uploads would be made" if put is None else f"Nothing was deleted; {uploads}"
    earlier = f", after {recent} in the last hour" if recent else ""
    return (
        f"the plan deletes {deletes} of {known} entries ({names}{', …' if deletes > 3 else ''}){earlier};"
        f" max_delete = {mirror.settings.max_delete} allows {allowed}. {done}. See all of it:"
        f" syncd reconcile --dry-run {mirror.name}; if it is meant: {_by_force(mirror)}"
    )


def hold_back(mirror: Mirror, tables: PassTables, load: BrakeInput) -> bool:
    """Remove the deletes from a plan and mark their keys again, if more deletes seem to follow.

    The events of `rm -r` arrive in bursts, and one burst alone may be within max_delete. The deletes are judged
    together: when no key was marked for `settle`, or `settle_max` after the first mark. Return whether deletes were
    removed. Only a full pass finds the orphans among them again.
    """
    now = mirror.now()
    some = next(tables.plan.batches("delete"), [])
    if (
        load.deletes + load.recent <= BRAKE_FLOOR
        or not mirror.queue.recently_marked(now)
        or any(mirror.settle_expired(action.key) for _, action in some)
    ):
        return False
    log.info("delete.held_back", mirror=mirror.name, deletes=tables.plan.counts["delete"])
    for turn in tables.plan.batches("delete"):
        mirror.queue.mark([(action.key, False) for _, action in turn], now)
    tables.plan.remove_deletes()
    return True


def _by_force(mirror: Mirror) -> str:
    return f"syncd reconcile --force {mirror.name} (with the daemon stopped)"
