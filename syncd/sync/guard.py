"""The guards: an unmounted disk must not look like a wish to delete everything, nor a slip like a plan."""

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
    """Look at the root before believing anything in it. Raises RootHalt if it is missing, emptied, or another mount.

    A root that another folder took the place of on the same device is no reason to halt, but its files are read anew.
    """
    identity = mirror.tree.identity()
    # A root that cannot be read halts, also where nothing is known of it yet.
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
    # A file system that is mounted again may have another number.
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
    """Raise RootHalt if a plan deletes all there is since the folder holds nothing; the journal may know of none."""
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
    """How many entries the mirror has. unrecorded: entries of ours that the journal does not know."""
    return mirror.journal.count() + unrecorded


def weigh(mirror: Mirror, lost: int, known: int) -> BrakeInput:
    """Return what the brake weighs. lost: deletes by which a content goes; known: entries before the pass."""
    return BrakeInput(lost, mirror.journal.tombstones.recent_deletes(mirror.age()), known, mirror.settings.max_delete)


def is_fresh(mirror: Mirror) -> bool:
    """Whether the state has seen no whole pass yet, so that it cannot tell a slip from a lost state file."""
    return mirror.journal.count() == 0 or mirror.meta.get("last_reconcile") is None


def is_replaced(mirror: Mirror, tables: PassTables, known: int) -> bool:
    """Whether another folder took the root's place, with none of the known files: it may be the wrong folder."""
    return bool(mirror.meta.get("root_replaced")) and 0 < known <= tables.plan.counts["delete"]


def refusal(mirror: Mirror, tables: PassTables, load: BrakeInput, put: int | None, *, fresh: bool) -> str | None:
    """Return why a plan deletes too much, and what to do then; None if it may pass.

    put: how many uploads were made, None in a dry run. fresh: the state was so before the pass.
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
    """Take the deletes out of a plan and look at their keys again later, if more of them seem to be on their way.

    What `rm -r` removes arrives in bursts, and each of them alone may be few enough. They are judged together: once
    nothing was marked for `settle`, or `settle_max` after the first of them. Return whether any were taken out: orphans
    among them are found by a full pass only.
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
