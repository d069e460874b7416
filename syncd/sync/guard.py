"""The root guard and the brake: they refuse deletes that an unmounted disk or a mistake of a person would cause."""

import structlog

from syncd.core.errors import RootHalt
from syncd.core.keys import shown
from syncd.core.plan import BRAKE_FLOOR, BrakeInput, brake
from syncd.local.mounts import MountSurvey
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
    mirror.root_seen, mirror.mount_seen = identity, seen.mount
    mount_guard.protect(mirror, seen, force=force)


def _halt_if_gone(mirror: Mirror, identity: Identity, seen: MountSurvey) -> None:
    path = mirror.tree.label
    # A file system may have another device number after it is mounted again.
    if mirror.root_seen and identity[0] != mirror.root_seen[0] and seen.mount != mirror.mount_seen:
        raise RootHalt(
            f"path {path} is on another device than when syncd started (a mount came or went); nothing was"
            f" deleted. Mount it again, or accept this folder: {_by_force(mirror)}"
        )
    if mount_guard.root_mount_went(mirror, seen):
        raise RootHalt(
            f"path {path} was on a mount that is gone; nothing was deleted. Mount it again, or accept this folder:"
            f" {_by_force(mirror)}"
        )
    if mirror.journal.count() and (state := _empty_state(mirror)):
        raise RootHalt(
            f"path {path} {state}, but {mirror.journal.count()} of its files are known; nothing was"
            f" deleted. Bring the files back, or empty the target too: {_by_force(mirror)}"
        )


def halt_if_emptied(mirror: Mirror, tables: PassTables) -> None:
    """Raise RootHalt if an empty folder is about to delete entries. The journal may know none of them."""
    deletes = tables.plan.counts["delete"]
    if deletes and (state := _empty_state(mirror)):
        raise RootHalt(
            f"path {mirror.tree.label} {state}, but the target holds {deletes} entries of this mirror; nothing was"
            f" deleted. Bring the files back, or empty the target too: {_by_force(mirror)}"
        )


def _empty_state(mirror: Mirror) -> str | None:
    if mirror.tree.is_empty():
        return "is empty"
    return None if mirror.tree.includes_any() else "holds no file that the rules take"


def known_entries(mirror: Mirror, unrecorded: int) -> int:
    """Return the number of entries of the mirror. unrecorded: its entries without a record."""
    return mirror.journal.count() + unrecorded


def is_fresh(mirror: Mirror) -> bool:
    """Return whether no full pass has ended with this state, so that the state file may have been lost."""
    return mirror.journal.count() == 0 or mirror.meta.get("last_reconcile") is None


def is_other_folder(mirror: Mirror, tables: PassTables, known: int) -> bool:
    """Return whether another folder took the place of the root and has none of the known files."""
    return bool(mirror.meta.get("root_replaced")) and 0 < known <= tables.plan.counts["delete"]


def brake_input(mirror: Mirror, lost: int, known: int, *, fresh: bool) -> BrakeInput:
    """Return the input of the brake. lost: deletes that remove the last copy of a content."""
    recent = mirror.journal.tombstones.recent_deletes(mirror.age())
    return BrakeInput(lost, recent, known, mirror.settings.max_delete, fresh)


def refusal(mirror: Mirror, tables: PassTables, weighed: BrakeInput, put: int | None) -> str | None:
    """Return why the plan deletes too much and what to do about it, None if it may pass.

    put: the number of uploads that were made; None in a dry run.
    """
    allowed = brake(weighed)
    if allowed is None:
        return None
    deletes = weighed.deletes
    names = ", ".join(shown(action.key) for action in tables.plan.first("delete", 3))
    uploads = f"{put} upload{'' if put == 1 else 's'} {'was' if put == 1 else 'were'} made"
    done = "Nothing would be deleted; uploads would be made" if put is None else f"Nothing was deleted; {uploads}"
    earlier = f", after {weighed.recent} in the last hour" if weighed.recent else ""
    return (
        f"the plan deletes {deletes} of {weighed.known} entries ({names}{', …' if deletes > 3 else ''}){earlier};"
        f" max_delete = {weighed.max_delete} allows {allowed}. {done}. See all of it:"
        f" syncd reconcile --dry-run {mirror.name}; if it is meant: {_by_force(mirror)}"
    )


def hold_back(mirror: Mirror, tables: PassTables, weighed: BrakeInput) -> bool:
    """Remove the deletes from a plan and mark their keys, if more deletes seem to follow.

    The deletes of `rm -r` come in bursts, and a single burst may be small enough to pass. So they are judged together:
    when no key was marked for `settle` seconds, or `settle_max` seconds after the first delete. Return whether deletes
    were removed. Only a full pass finds the orphans among them again.
    """
    now = mirror.now()
    first = next(tables.plan.batches("delete"), [])
    if (
        weighed.deletes + weighed.recent <= BRAKE_FLOOR
        or not mirror.queue.recently_marked(now)
        or any(mirror.settle_expired(action.key) for _, action in first)
    ):
        return False
    log.info("delete.held_back", mirror=mirror.name, deletes=tables.plan.counts["delete"])
    for batch in tables.plan.batches("delete"):
        mirror.queue.mark([(action.key, False) for _, action in batch], now)
    tables.plan.remove_deletes()
    return True


def _by_force(mirror: Mirror) -> str:
    return f"syncd reconcile --force {mirror.name} (with the daemon stopped)"
