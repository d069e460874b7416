"""The remote side of a full pass: what the target lists, or what the journal says, if an audit finds that the same."""

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from syncd.core.errors import TargetMissing
from syncd.state.pass_tables import PassTables
from syncd.sync import audit, observe
from syncd.sync.mirror import Mirror

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Remote:
    """The remote of one pass. tick: called now and then; make: a target that is missing may be made, if it is to be."""

    mirror: Mirror
    tables: PassTables
    tick: Callable[[], None]
    make: bool

    async def see(self, *, whole: bool) -> bool:
        """Fill the listing table. Return True if the journal filled it and nothing was listed. whole: list always."""
        mirror = self.mirror
        why = "it was asked for" if whole else await self._doubt()
        if why is None:
            self.tables.listing.add_records(mirror.name, mirror.policy.owner)
            return True
        log.debug("audit.listing", mirror=mirror.name, why=why)
        audit.invalidate(mirror)
        await self._list_or_make()
        return False

    async def _doubt(self) -> str | None:
        try:
            return await audit.doubt(self.mirror)
        except TargetMissing:
            return "the target is missing"

    async def _list_or_make(self) -> None:
        mirror = self.mirror
        try:
            await observe.listing(mirror, self.tables, self.tick)
        except TargetMissing:
            if not mirror.settings.create:
                raise
            # A dry run plans against what a target just made would hold: nothing.
            if self.make:
                await mirror.target.create()
                await observe.listing(mirror, self.tables, self.tick)
