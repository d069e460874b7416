"""Asks the target about single keys: whether an entry is still there, and which content it has."""

from syncd.core.errors import FileChanged
from syncd.core.model import Item
from syncd.sync.hashing import FileReader
from syncd.sync.mirror import Mirror
from syncd.sync.observe import Observed, ScopeTooLarge, too_many
from syncd.sync.ownership import is_replaced_by_other, mark_other_writers


class Questions:
    """The questions of one pass. delete_excluded: entries of an earlier key prefix count as entries of this mirror."""

    def __init__(self, mirror: Mirror, reader: FileReader, *, delete_excluded: bool) -> None:
        self._mirror = mirror
        self._reader = reader
        self._delete_excluded = delete_excluded
        self._asked = 0

    def prefer_record(self, observed: Observed) -> Observed:
        """Return the recorded entry instead of the listed one, if the listing may predate our own write."""
        return self._as_recorded(observed) if self._is_outdated(observed) else observed

    async def confirm_first(self, observed: Observed) -> Observed:
        """Ask for an entry before it is replaced or deleted. Raises ScopeTooLarge if a listing would cost less."""
        self._asked += 1
        if too_many(self._mirror, self._asked):
            raise ScopeTooLarge
        confirmed = await self.confirm(observed)
        return self._as_recorded(observed) if self._is_outdated(confirmed) else confirmed

    async def confirm(self, observed: Observed) -> Observed:
        """Ask for the entry of a key. Raises FileChanged if its file is changing right now."""
        entry = await self._mirror.target.confirm(observed.key, observed.record.ref if observed.record else None)
        if entry and self._may_lag(self._mirror.journal.tombstones.deleted_at(entry.ref)):
            entry = None
        local = observed.local
        if entry and isinstance(local, Item) and local.checksum is None:
            found, changing = await self._reader.checksums([local])
            if changing:
                raise FileChanged(observed.key)
            local = found[observed.key]
        confirmed = observed._replace(entry=entry, local=local, seen="key", others=())
        # The other entries of the key were listed, or the journal remembers them as ours.
        (judged,) = mark_other_writers(self._mirror, [confirmed], delete_excluded=self._delete_excluded)
        return judged._replace(others=observed.others)

    async def verify(self, observed: Observed) -> Observed:
        """Learn the checksum of an entry. Raises FileChanged if its file is changing right now."""
        entry = observed.entry
        if entry is None or not isinstance(observed.local, Item):
            raise AssertionError(f"nothing to verify: {observed}")
        content = await self._reader.content(observed.local)
        checksum = await self._mirror.target.checksum(entry, content)
        if checksum:
            return observed._replace(entry=entry._replace(checksum=checksum), seen="key")
        # The listing showed an entry that is gone. Another one may have taken its place.
        confirmed = await self.confirm(observed)
        same = confirmed.entry is not None and confirmed.entry.ref == entry.ref
        return confirmed._replace(entry=None) if same else confirmed

    def _is_outdated(self, observed: Observed) -> bool:
        """Return whether our write is so young that the shown entry may predate it, and no other writer is seen."""
        record = observed.record
        return (
            record is not None and self._may_lag(record.written_at) and not is_replaced_by_other(self._mirror, observed)
        )

    def _as_recorded(self, observed: Observed) -> Observed:
        entry = observed.record.entry(self._mirror.policy.owner) if observed.record else None
        return observed._replace(entry=entry, seen="key")

    def _may_lag(self, changed_at: float | None) -> bool:
        """Return whether answers of the target may predate our own change of that time."""
        limits = self._mirror.target.limits
        return limits.reads_lag and changed_at is not None and abs(self._mirror.now() - changed_at) <= limits.lag_s
